"""What was said before, or by somebody else, said again: messages, states, inputs and models."""

import numpy as np
import pytest

from federation.secagg.client.machine import Client
from federation.secagg.client.stage import Stage
from federation.secagg.messages import (
    Advertisement,
    Delivery,
    Directory,
    MaskedInput,
    decode,
    encode,
)
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.transcript import Transcript
from tests.federation.secagg.forging import forged_directory
from tests.federation.secagg.parties import Party, Round, Store, because, config, curious, identity


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
