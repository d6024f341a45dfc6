"""What a dishonest server or client may try with shares and the list of survivors.

The server of these tests is honest until the step in question and then forges what it sends.
"""

from dataclasses import replace

import pytest

from federation.secagg.messages import (
    Delivery,
    ReleasedShares,
    SealedShares,
    ShareKind,
    SurvivorList,
    SurvivorSignature,
    SurvivorSignatures,
    decode,
    encode,
)
from federation.secagg.refusal import Reason, Refusal
from tests.federation.secagg.parties import Round, active, because, config, curious


class TestShares:
    """Round 2: what the neighbours sealed passes through the server."""

    def test_shares_sealed_to_somebody_else(self) -> None:
        played = Round(config(curious(4)))
        outbox = played.until(2)
        to_other = decode(Delivery, outbox[1], played.config.hash).sealed
        mine = dict(decode(Delivery, outbox[0], played.config.hash).sealed)
        mine[2] = to_other[2]
        with pytest.raises(Refusal, check=because(Reason.BAD_SHARE)):
            played.parties[0].mask(encode(Delivery(mine), played.config.hash))

    def test_shares_under_another_senders_name(self) -> None:
        played = Round(config(curious(4)))
        outbox = played.until(2)
        mine = dict(decode(Delivery, outbox[0], played.config.hash).sealed)
        mine[2], mine[3] = mine[3], mine[2]
        with pytest.raises(Refusal, check=because(Reason.BAD_SHARE)):
            played.parties[0].mask(encode(Delivery(mine), played.config.hash))

    def test_own_shares_returned(self) -> None:
        """The key of a channel differs by direction."""
        played = Round(config(curious(4)))
        outbox = played.until(1)
        sealed = {}
        for party in played.parties:
            reply = party.client.share(outbox[party.index])
            sealed[party.index] = decode(SealedShares, reply, played.config.hash).sealed
        mine = {i: sealed[i][0] for i in (1, 3)} | {2: sealed[0][2]}
        with pytest.raises(Refusal, check=because(Reason.BAD_SHARE)):
            played.parties[0].mask(encode(Delivery(mine), played.config.hash))

    def test_too_few_shares_to_be_unmasked_again(self) -> None:
        played = Round(config(active(6)))
        outbox = played.until(2)
        sealed = dict(decode(Delivery, outbox[0], played.config.hash).sealed)
        fewer = {i: sealed[i] for i in sorted(sealed)[:3]}
        with pytest.raises(Refusal, check=because(Reason.COHORT_TOO_SMALL)):
            played.parties[0].mask(encode(Delivery(fewer), played.config.hash))


class TestSurvivors:
    """Rounds 3 and 4: opening the sum of a few is done by telling tales of drop-outs."""

    def list_for(self, played: Round, *survivors: int) -> bytes:
        return encode(SurvivorList(survivors), played.config.hash)

    def test_fewer_than_the_minimum(self) -> None:
        played = Round(config(curious(6, 4)))
        played.until(3)
        with pytest.raises(Refusal, check=because(Reason.TOO_FEW_SURVIVORS)):
            played.parties[0].client.sign(self.list_for(played, 0, 1, 2))

    def test_a_list_without_its_reader(self) -> None:
        played = Round(config(curious(6, 4)))
        played.until(3)
        with pytest.raises(Refusal, check=because(Reason.NOT_A_SURVIVOR)):
            played.parties[0].client.sign(self.list_for(played, 1, 2, 3, 4, 5))

    @pytest.mark.parametrize("never", [5, 6])
    def test_a_survivor_that_never_shared_its_secrets(self, never: int) -> None:
        """Client 5 advertised and fell silent; there is no client 6."""
        played = Round(config(curious(6, 3)))
        played.step(0)
        played.step(1, {5})
        played.step(2, {5})
        with pytest.raises(Refusal, check=because(Reason.UNKNOWN_SURVIVOR)):
            played.parties[0].client.sign(self.list_for(played, 0, 1, 2, never))

    @pytest.mark.parametrize(
        "forged", [b"\x00\x04\x00\x00\x00\x01\x00\x01\x00\x02", b"\x00\x02\x00\x01\x00\x00"]
    )
    def test_a_survivor_twice_or_out_of_order(self, forged: bytes) -> None:
        played = Round(config(curious(6, 2)))
        played.until(3)
        header = self.list_for(played)[:34]
        with pytest.raises(Refusal, check=because(Reason.MALFORMED)):
            played.parties[0].client.sign(header + forged)

    def test_a_second_list_of_drop_outs_has_no_place(self) -> None:
        """Flower's request has a list of the active and one of the dead, and they may overlap."""
        played = Round(config(curious(4, 2)))
        outbox = played.until(3)
        dead = self.list_for(played, 2, 3)[34:]
        with pytest.raises(Refusal, check=because(Reason.MALFORMED)):
            played.parties[0].client.sign(outbox[0] + dead)

    def test_two_lists_to_one_client(self) -> None:
        played = Round(config(curious(6, 4)))
        outbox = played.until(3)
        played.parties[0].client.sign(outbox[0])
        with pytest.raises(Refusal, check=because(Reason.SECOND_REQUEST)):
            played.parties[0].client.sign(self.list_for(played, 0, 1, 2, 3))

    def test_different_lists_to_different_clients(self) -> None:
        """Half of the clients hear that client 0 dropped out. Neither half can be shown t = 5
        signatures under its own list, nor does a signature of one half serve the other."""
        played = Round(config(active(6, 5, 0)))
        played.until(3)
        halves = {
            **dict.fromkeys((0, 1, 2), (0, 1, 2, 3, 4, 5)),
            **dict.fromkeys((3, 4, 5), (1, 2, 3, 4, 5)),
        }
        signatures = {}
        for index, survivors in halves.items():
            reply = played.parties[index].client.sign(self.list_for(played, *survivors))
            signatures[index] = decode(SurvivorSignature, reply, played.config.hash).signature
        own_half = {i: s for i, s in signatures.items() if halves[i] == halves[4]}
        with pytest.raises(Refusal, check=because(Reason.TOO_FEW_SIGNATURES)):
            played.parties[4].client.release(
                encode(SurvivorSignatures(own_half), played.config.hash)
            )
        mixed = {i: s for i, s in signatures.items() if i != 0}
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            played.parties[5].client.release(encode(SurvivorSignatures(mixed), played.config.hash))
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            played.server.receive(3, played.parties[3].client.message)

    def test_two_lists_never_both_find_enough_signers(self) -> None:
        """The arithmetic behind the last test: honest clients sign once, the others twice."""
        for clients in range(3, 40):
            for colluders in range(0, (clients - 1) // 3 + 1):
                model = active(clients, clients, colluders)
                honest = clients - colluders
                assert 2 * model.threshold > honest + 2 * colluders

    def test_signatures_of_clients_that_did_not_survive(self) -> None:
        played = Round(config(curious(5, 3)))
        played.step(0)
        played.step(1)
        played.step(2, {4})
        played.step(3)
        signatures = decode(
            SurvivorSignatures, played.server.outbox[0], played.config.hash
        ).signatures
        forged = encode(SurvivorSignatures({**signatures, 4: b"x" * 64}), played.config.hash)
        with pytest.raises(Refusal, check=because(Reason.WRONG_PEERS)):
            played.parties[0].client.release(forged)

    def test_each_share_is_released_once_and_of_one_kind(self) -> None:
        """Client 4 shared its secrets and dropped out; of the others only the seed's share goes."""
        played = Round(config(curious(5, 3)))
        played.step(0)
        played.step(1)
        played.step(2, {4})
        played.step(3)
        outbox = dict(played.server.outbox)
        client = played.parties[0].client
        first = client.release(outbox[0])
        kinds = {
            owner: kind
            for owner, (kind, _) in decode(ReleasedShares, first, played.config.hash).shares.items()
        }
        assert kinds == {
            0: ShareKind.SELF_MASK,
            1: ShareKind.SELF_MASK,
            2: ShareKind.SELF_MASK,
            3: ShareKind.SELF_MASK,
            4: ShareKind.MASK_KEY,
        }
        assert client.release(outbox[0]) == first

    def test_a_share_asked_for_again_by_another_request(self) -> None:
        played = Round(config(curious(5, 3)))
        outbox = played.until(4)
        client = played.parties[0].client
        client.release(outbox[0])
        signatures = decode(SurvivorSignatures, outbox[0], played.config.hash).signatures
        fewer = dict(list(signatures.items())[:-1])
        with pytest.raises(Refusal, check=because(Reason.SECOND_REQUEST)):
            client.release(encode(SurvivorSignatures(fewer), played.config.hash))
        with pytest.raises(Refusal, check=because(Reason.CLOSED)):
            client.release(outbox[0])

    def test_a_client_releases_the_wrong_kind_or_other_peers(self) -> None:
        played = Round(config(curious(4, 2)))
        outbox = played.until(4)
        reply = decode(
            ReleasedShares, played.parties[0].client.release(outbox[0]), played.config.hash
        )
        kind, share = reply.shares[1]
        assert kind is ShareKind.SELF_MASK
        others = {i: s for i, s in reply.shares.items() if i != 1}
        for forged in (others, {**others, 1: (ShareKind.MASK_KEY, share)}):
            with pytest.raises(Refusal, check=because(Reason.WRONG_PEERS)):
                data = encode(replace(reply, shares=forged), played.config.hash)
                played.server.receive(0, data)

    @pytest.mark.parametrize("owner", [1, 4])
    def test_a_false_share_gives_no_false_sum(self, owner: int) -> None:
        """Client 1 survived and client 4 did not: a seed and a private key respectively."""
        played = Round(config(curious(5, 3)))
        played.step(0)
        played.step(1)
        played.step(2, {4})
        played.step(3)
        for index, request in dict(played.server.outbox).items():
            reply = decode(
                ReleasedShares, played.parties[index].client.release(request), played.config.hash
            )
            if index == 0:
                kind, share = reply.shares[owner]
                wrong = (int.from_bytes(share) ^ 1).to_bytes(33)
                reply = replace(reply, shares={**reply.shares, owner: (kind, wrong)})
            played.server.receive(index, encode(reply, played.config.hash))
        with pytest.raises(Refusal, check=because(Reason.BAD_SHARE)):
            played.server.open()
