"""What a dishonest server, a dishonest client or a thief may try; each attempt must be refused.

The server of these tests is honest until the step in question and then forges what it sends.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from federation.secagg.client.machine import Client
from federation.secagg.client.stage import Stage
from federation.secagg.messages import (
    Advertisement,
    Delivery,
    Directory,
    KeyEntry,
    MaskedInput,
    ReleasedShares,
    SealedShares,
    ShareKind,
    SurvivorList,
    SurvivorSignature,
    SurvivorSignatures,
    decode,
    encode,
)
from federation.secagg.primitives import agree, new_secret, private_key, public_key
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.threat_model import HonestButCurious
from federation.secagg.transcript import Transcript, seal_shares, sign_keys
from tests.federation.secagg.parties import (
    Party,
    Round,
    Store,
    active,
    because,
    config,
    curious,
    identity,
)

SMALL_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]
"""Public keys with an all-zero shared secret, the list of cr.yp.to/ecdh.html ("validate")."""

Entries = dict[int, KeyEntry]


def forged_directory(played: Round, change: Callable[[Entries], object]) -> bytes:
    """What the server would send in round 1, after `change` has been at it."""
    outbox = played.until(1)
    entries = dict(decode(Directory, outbox[0], played.config.hash).entries)
    change(entries)
    return encode(Directory(entries), played.config.hash)


def signed_keys(
    played: Round, index: int, channel: bytes | None = None, mask: bytes | None = None
) -> KeyEntry:
    """Keys that the client at `index`, a colluder, signs itself."""
    channel = channel or public_key(new_secret())
    mask = mask or public_key(new_secret())
    return sign_keys(played.config, index, identity(index), channel, mask)


class TestKeys:
    """Round 0: the server relays all keys, so all of them could be its own."""

    def test_a_key_of_the_man_in_the_middle(self) -> None:
        played = Round(config(curious(4)))
        forged = forged_directory(
            played,
            lambda e: e.update({2: replace(e[2], channel_key=public_key(new_secret()))}),
        )
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            played.parties[0].client.share(forged)

    def test_the_two_keys_of_a_client_swapped(self) -> None:
        played = Round(config(curious(4)))
        forged = forged_directory(
            played,
            lambda e: e.update({2: KeyEntry(e[2].mask_key, e[2].channel_key, e[2].signature)}),
        )
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            played.parties[0].client.share(forged)

    def test_two_clients_swapped(self) -> None:
        played = Round(config(curious(4)))
        forged = forged_directory(played, lambda e: e.update({2: e[3], 3: e[2]}))
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            played.parties[0].client.share(forged)

    def test_own_keys_replaced(self) -> None:
        played = Round(config(curious(4)))
        forged = forged_directory(
            played, lambda e: e.update({0: replace(e[0], mask_key=public_key(new_secret()))})
        )
        with pytest.raises(Refusal, check=because(Reason.OWN_KEY_MISSING)):
            played.parties[0].client.share(forged)

    def test_own_keys_left_out(self) -> None:
        played = Round(config(curious(4)))
        forged = forged_directory(played, lambda e: e.pop(0))
        with pytest.raises(Refusal, check=because(Reason.OWN_KEY_MISSING)):
            played.parties[0].client.share(forged)

    @pytest.mark.parametrize("purpose", ["channel", "mask"])
    def test_a_colluder_repeats_a_key(self, purpose: str) -> None:
        played = Round(config(curious(4)))
        forged = forged_directory(
            played, lambda e: e.update({3: signed_keys(played, 3, **{purpose: e[1].mask_key})})
        )
        with pytest.raises(Refusal, check=because(Reason.REPEATED_KEY)):
            played.parties[0].client.share(forged)

    @pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: point.hex()[:8])
    def test_a_colluder_advertises_a_channel_key_of_small_order(self, point: bytes) -> None:
        played = Round(config(curious(4)))
        forged = forged_directory(
            played, lambda e: e.update({3: signed_keys(played, 3, channel=point)})
        )
        with pytest.raises(Refusal, check=because(Reason.WEAK_KEY)):
            played.parties[0].client.share(forged)

    def test_a_mask_key_of_small_order_is_found_before_the_input_leaves(self) -> None:
        played = Round(config(curious(3, 2)))
        channel = new_secret()
        weak = signed_keys(played, 2, public_key(channel), mask=bytes(32))
        forged = forged_directory(played, lambda e: e.update({2: weak}))
        entries = decode(Directory, forged, played.config.hash).entries
        played.parties[0].client.share(forged)
        secret = agree(private_key(channel), entries[0].channel_key)
        transcript = Transcript(played.config, entries).hash
        box = seal_shares(transcript, secret, 2, 0, bytes(66))
        with pytest.raises(Refusal, check=because(Reason.WEAK_KEY)):
            played.parties[0].mask(encode(Delivery({2: box}), played.config.hash))

    def test_the_server_keeps_bad_keys_from_everybody(self) -> None:
        played = Round(config(curious(4)))
        first = signed_keys(played, 0)
        played.server.receive(0, encode(Advertisement(0, first), played.config.hash))
        for keys, reason in (
            (signed_keys(played, 1, channel=bytes(32)), Reason.WEAK_KEY),
            (signed_keys(played, 1, mask=bytes(32)), Reason.WEAK_KEY),
            (signed_keys(played, 1, mask=first.channel_key), Reason.REPEATED_KEY),
            (signed_keys(played, 1, b"k" * 32, b"k" * 32), Reason.REPEATED_KEY),
            (signed_keys(played, 2), Reason.BAD_SIGNATURE),
        ):
            with pytest.raises(Refusal, check=because(reason)):
                played.server.receive(1, encode(Advertisement(1, keys), played.config.hash))
        assert 1 in played.server.awaiting


class TestRoster:
    """Who takes part is fixed before the round."""

    def test_a_client_that_is_not_invited(self) -> None:
        with pytest.raises(Refusal, check=because(Reason.NOT_ON_ROSTER)):
            Client.start(config(curious(4)), identity(4), Store())

    def test_a_place_behind_the_end_of_the_roster(self) -> None:
        played = Round(config(curious(4)))
        forged = forged_directory(played, lambda e: e.update({4: signed_keys(played, 4)}))
        with pytest.raises(Refusal, check=because(Reason.NOT_ON_ROSTER)):
            played.parties[0].client.share(forged)

    def test_a_stranger_in_somebodys_place(self) -> None:
        played = Round(config(curious(4)))
        stranger = sign_keys(
            played.config, 3, identity(9), public_key(new_secret()), public_key(new_secret())
        )
        forged = forged_directory(played, lambda e: e.update({3: stranger}))
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            played.parties[0].client.share(forged)

    def test_a_cohort_below_the_minimum(self) -> None:
        played = Round(config(curious(6, 5)))
        forged = forged_directory(played, lambda e: (e.pop(4), e.pop(5)))
        with pytest.raises(Refusal, check=because(Reason.COHORT_TOO_SMALL)):
            played.parties[0].client.share(forged)

    def test_colluders_that_stay_while_honest_clients_are_kept_away(self) -> None:
        """20 of 400 collude, 360 come: the degree and threshold of a plan must hold for these too.

        36 and 16 are safe for the 400 (table of `degree`) and are not the smallest for 360.
        """
        with pytest.raises(Refusal, check=because(Reason.UNSAFE_PARAMETERS)):
            HonestButCurious(400, 360, 20, 32, 14)
        thin = HonestButCurious(400, 360, 20, 32, 16)
        thin.check_cohort(360, 0)
        with pytest.raises(Refusal, check=because(Reason.COHORT_TOO_SMALL)):
            thin.check_cohort(359, 0)

    def test_an_active_server_enrols_sybils(self) -> None:
        """The owner of client 0 confirmed six of nine; three inventions of the server could open
        its secrets together with two colluders."""
        played = Round(config(active(9, 7, 2)), confirmed={1, 2, 3, 4, 5})
        outbox = played.until(1)
        with pytest.raises(Refusal, check=because(Reason.UNCONFIRMED_PEERS)):
            played.parties[0].client.share(outbox[0])

    def test_an_active_server_lets_confirmed_clients_drop_out(self) -> None:
        """Seven confirmed clients are asked for; three of them drop out and a Sybil stays."""
        played = Round(config(active(9, 7, 0)), confirmed={0, 1, 2, 3, 4, 5, 6, 7})
        played.step(0)
        played.step(1)
        outbox = dict(played.server.outbox)
        played.parties[0].mask(outbox[0])
        survivors = encode(SurvivorList((0, 1, 2, 3, 4, 5, 8)), played.config.hash)
        with pytest.raises(Refusal, check=because(Reason.UNCONFIRMED_PEERS)):
            played.parties[0].client.sign(survivors)


class TestGraph:
    """The server may not choose who shares with whom."""

    MODEL = HonestButCurious(12, 10, 0, degree=4, threshold=2)

    def test_shares_of_a_client_that_is_no_neighbour(self) -> None:
        played = Round(config(self.MODEL))
        outbox = played.until(2)
        sealed = dict(decode(Delivery, outbox[0], played.config.hash).sealed)
        stranger = next(i for i in range(1, 12) if i not in sealed)
        sealed[stranger] = sealed.pop(min(sealed))
        with pytest.raises(Refusal, check=because(Reason.WRONG_PEERS)):
            played.parties[0].mask(encode(Delivery(sealed), played.config.hash))

    def test_a_directory_of_its_own_for_one_client(self) -> None:
        """Leaving someone out of one client's directory moves that client's ring, and with it
        everything that is derived: what the others sealed does not open."""
        played = Round(config(curious(5)))
        outbox = played.until(1)
        entries = dict(decode(Directory, outbox[0], played.config.hash).entries)
        del entries[4]
        played.parties[0].client.share(encode(Directory(entries), played.config.hash))
        sealed = {}
        for other in (1, 2, 3):
            reply = played.parties[other].client.share(outbox[other])
            sealed[other] = decode(SealedShares, reply, played.config.hash).sealed[0]
        with pytest.raises(Refusal, check=because(Reason.BAD_SHARE)):
            played.parties[0].mask(encode(Delivery(sealed), played.config.hash))

    def test_the_graph_follows_from_the_keys_alone(self) -> None:
        """A client seals to the neighbours that `Transcript` gives for what was advertised."""
        played = Round(config(self.MODEL))
        outbox = played.until(1)
        entries = decode(Directory, outbox[3], played.config.hash).entries
        reply = played.parties[3].client.share(outbox[3])
        sealed = decode(SealedShares, reply, played.config.hash).sealed
        assert sealed.keys() == Transcript(played.config, entries).graph.neighbours(3)
        assert len(sealed) == 4

    def test_other_keys_give_another_graph(self) -> None:
        """Same roster, same configuration: only what was advertised differs between the rounds."""
        graphs = set()
        for _ in range(4):
            played = Round(config(self.MODEL))
            entries = decode(Directory, played.until(1)[0], played.config.hash).entries
            graph = Transcript(played.config, entries).graph
            graphs.add(tuple(graph.neighbours(i) for i in range(12)))
        assert len(graphs) > 1

    def test_an_active_server_and_an_incomplete_graph(self) -> None:
        with pytest.raises(Refusal, check=because(Reason.UNSAFE_PARAMETERS)):
            type(active(12))(12, 10, 0, degree=10, threshold=9)

    def test_a_client_writes_to_others_than_its_neighbours(self) -> None:
        played = Round(config(self.MODEL))
        outbox = played.until(1)
        message = decode(
            SealedShares, played.parties[0].client.share(outbox[0]), played.config.hash
        )
        sealed = dict(message.sealed)
        box = sealed.pop(min(sealed))
        stranger = next(i for i in range(1, 12) if i not in message.sealed)
        for forged in (sealed, {**sealed, stranger: box}, {**message.sealed, 0: box}):
            with pytest.raises(Refusal, check=because(Reason.WRONG_PEERS)):
                data = encode(replace(message, sealed=forged), played.config.hash)
                played.server.receive(0, data)


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


class TestReplay:
    """Messages are worth nothing outside the round that they were made for."""

    @pytest.mark.parametrize(
        "change",
        [
            {"session": b"S" * 32},
            {"round_number": 8},
            {"plan_hash": b"P" * 32},
            {"model_hash": b"M" * 32},
        ],
        ids=lambda change: next(iter(change)),
    )
    @pytest.mark.parametrize("stage", [1, 2, 3, 4])
    def test_a_servers_message_of_another_round(
        self, change: dict[str, object], stage: int
    ) -> None:
        model = curious(4)
        then, now = Round(config(model, **change)), Round(config(model))
        old = then.until(stage)
        now.until(stage)
        with pytest.raises(Refusal, check=because(Reason.WRONG_ROUND)):
            now.parties[0].answer(stage, old[0])

    @pytest.mark.parametrize(
        ("stage", "reason"),
        [
            (1, Reason.OWN_KEY_MISSING),
            (2, Reason.BAD_SHARE),
            (4, Reason.BAD_SIGNATURE),
        ],
    )
    def test_the_same_under_this_rounds_name(self, stage: int, reason: Reason) -> None:
        """The header is the server's to write; what it cannot rewrite is refused all the same."""
        model = curious(4)
        then, now = Round(config(model, session=b"S" * 32)), Round(config(model))
        old = then.until(stage)
        now.until(stage)
        renamed = old[0][:2] + now.config.hash + old[0][34:]
        with pytest.raises(Refusal, check=because(reason)):
            now.parties[0].answer(stage, renamed)

    def test_advertised_keys_of_an_earlier_round(self) -> None:
        model = curious(4)
        then, now = Round(config(model, round_number=6)), Round(config(model))
        old = decode(Directory, then.until(1)[0], then.config.hash).entries
        forged = forged_directory(now, lambda e: e.update({2: old[2]}))
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            now.parties[0].client.share(forged)

    def test_a_clients_message_of_another_round(self) -> None:
        then, now = Round(config(curious(4), round_number=6)), Round(config(curious(4)))
        with pytest.raises(Refusal, check=because(Reason.WRONG_ROUND)):
            now.server.receive(0, then.parties[0].client.message)

    def test_a_clients_message_under_another_name(self) -> None:
        played = Round(config(curious(4)))
        with pytest.raises(Refusal, check=because(Reason.WRONG_SENDER)):
            played.server.receive(1, played.parties[0].client.message)


class TestModels:
    """Different models to different clients (Pasquini et al., arXiv 2111.07380)."""

    def test_keys_signed_for_another_model_are_refused(self) -> None:
        model = curious(4)
        honest = Round(config(model))
        misled = config(model, model_hash=b"M" * 32)
        victim = Party(misled, 0, ())
        entry = decode(Advertisement, victim.client.message, misled.hash).keys
        forged = forged_directory(honest, lambda e: e.update({0: entry}))
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            honest.parties[1].client.share(forged)
        renamed = forged[:2] + misled.hash + forged[34:]
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            victim.client.share(renamed)

    def test_masks_for_different_models_do_not_cancel(self) -> None:
        """Even with the same keys: the transcript is part of what every mask is derived from."""
        played = Round(config(curious(2)))
        entries = decode(Directory, played.until(1)[0], played.config.hash).entries
        hashes = {
            Transcript(config(curious(2), model_hash=model), entries).hash
            for model in (b"m" * 32, b"M" * 32)
        }
        assert len(hashes) == 2


class TestOldStates:
    """A stolen backup, or one put back by mistake, must not answer a second time."""

    def test_every_older_state_is_refused(self) -> None:
        played = Round(config(curious(4, 3)))
        played.play()
        party = played.parties[0]
        assert [s.stage for s in party.store.snapshots] == list(Stage)[:5]
        for old in party.store.snapshots[:-1]:
            with pytest.raises(Refusal, check=because(Reason.OLD_STATE)):
                Client.restore(
                    old.data, played.config, identity(0), Store(), newest=party.store.newest.stage
                )

    def test_a_client_that_left_cannot_be_brought_back(self) -> None:
        played = Round(config(curious(4, 3)))
        played.until(3)
        party = played.parties[0]
        before = party.store.newest
        party.client.leave()
        assert party.store.newest.stage is Stage.LEFT
        with pytest.raises(Refusal, check=because(Reason.OLD_STATE)):
            Client.restore(
                before.data, played.config, identity(0), Store(), newest=party.store.newest.stage
            )

    def test_a_restored_state_sends_the_same_bytes_whatever_it_is_given(self) -> None:
        """The node died after sending and trained again: the new vector must not leave."""
        played = Round(config(curious(4, 3)))
        outbox = played.until(2)
        party = played.parties[0]
        sent = party.mask(outbox[0])
        party.reload()
        party.vector = party.vector + np.uint32(1)
        assert party.mask(outbox[0]) == sent

    def test_a_restored_state_refuses_another_request(self) -> None:
        played = Round(config(curious(4, 2)))
        outbox = played.until(2)
        party = played.parties[0]
        party.mask(outbox[0])
        party.reload()
        sealed = dict(decode(Delivery, outbox[0], played.config.hash).sealed)
        sealed.pop(3)
        with pytest.raises(Refusal, check=because(Reason.SECOND_REQUEST)):
            party.mask(encode(Delivery(sealed), played.config.hash))

    def test_a_client_that_lost_its_state_is_out_of_the_round(self) -> None:
        """It may enter again with new keys, but nobody takes them for its own."""
        played = Round(config(curious(4, 2)))
        outbox = played.until(1)
        again = Party(played.config, 0, ())
        with pytest.raises(Refusal, check=because(Reason.OUT_OF_ORDER)):
            played.server.receive(0, again.client.message)
        with pytest.raises(Refusal, check=because(Reason.OWN_KEY_MISSING)):
            again.client.share(outbox[0])

    def test_another_clients_or_rounds_or_a_damaged_state(self) -> None:
        played = Round(config(curious(4)))
        snapshot = played.parties[0].store.newest
        damaged = snapshot.data[:50] + bytes((snapshot.data[50] ^ 1,)) + snapshot.data[51:]
        for data, where, who in (
            (snapshot.data, played.config, 1),
            (snapshot.data, config(curious(4), round_number=8), 0),
            (damaged, played.config, 0),
            (snapshot.data[:-1], played.config, 0),
            (b"", played.config, 0),
        ):
            with pytest.raises(Refusal, check=because(Reason.OLD_STATE)):
                Client.restore(data, where, identity(who), Store(), newest=0)


class TestTwoInputs:
    """The server must not be given two vectors under the same masks, nor add one twice."""

    def test_a_masked_input_is_added_once(self) -> None:
        played = Round(config(curious(3, 2)))
        outbox = played.until(2)
        message = played.parties[0].mask(outbox[0])
        played.server.receive(0, message)
        played.server.receive(0, message)
        twice = decode(MaskedInput, message, played.config.hash)
        with pytest.raises(Refusal, check=because(Reason.SECOND_REQUEST)):
            other = MaskedInput.of(0, twice.vector(5) + np.uint32(1))
            played.server.receive(0, encode(other, played.config.hash))
        for index in (1, 2):
            played.server.receive(index, played.parties[index].mask(outbox[index]))
        played.server.close()
        played.step(3)
        played.step(4)
        assert np.array_equal(played.server.open().total, played.sum_of([0, 1, 2]))
