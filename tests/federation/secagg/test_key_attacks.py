"""What a dishonest server or client may try with keys, the roster and the graph.

The server of these tests is honest until the step in question and then forges what it sends.
"""

from dataclasses import replace

import pytest

from federation.secagg.client.machine import Client
from federation.secagg.messages import (
    Advertisement,
    Delivery,
    Directory,
    KeyEntry,
    SealedShares,
    SurvivorList,
    decode,
    encode,
)
from federation.secagg.primitives import agree, new_secret, private_key, public_key
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.threat_model import HonestButCurious
from federation.secagg.transcript import Transcript, seal_shares, sign_keys
from tests.federation.secagg.forging import forged_directory, signed_keys
from tests.federation.secagg.parties import Round, Store, active, because, config, curious, identity

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
