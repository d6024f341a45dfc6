"""The order of things: store before sending, the same bytes for the same request, no second one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.secagg.client.machine import Client, Snapshot
from federation.secagg.client.stage import Stage as ClientStage
from federation.secagg.messages import Abort, MaskedInput, SurvivorSignature, decode, encode
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.server.machine import Server
from federation.secagg.server.stage import Stage
from tests.federation.secagg.parties import Round, Store, because, config, curious, identity


class TestClient:
    @pytest.mark.parametrize("stage", [1, 2, 3, 4])
    def test_nothing_leaves_before_it_is_stored(self, stage: int) -> None:
        played = Round(config(curious(4, 3)))
        outbox = played.until(stage)
        party = played.parties[0]

        def disk_full(snapshot: Snapshot) -> None:
            raise OSError("no space left on device")

        party.client._persist = disk_full
        with pytest.raises(OSError, match="no space"):
            party.answer(stage, outbox[0])
        assert party.client.message == b""
        with pytest.raises(Refusal, check=because(Reason.CLOSED)):
            party.answer(stage, outbox[0])

    def test_a_client_that_cannot_store_its_keys_does_not_start(self) -> None:
        def disk_full(snapshot: Snapshot) -> None:
            raise OSError("no space left on device")

        with pytest.raises(OSError, match="no space"):
            Client.start(config(curious(3)), identity(0), disk_full)

    @pytest.mark.parametrize("stage", [1, 2, 3, 4])
    def test_what_is_stored_contains_what_is_sent(self, stage: int) -> None:
        played = Round(config(curious(4, 3)))
        outbox = played.until(stage)
        party = played.parties[0]
        sent = party.answer(stage, outbox[0])
        assert party.store.newest.stage == stage + 1
        assert sent in party.store.newest.data
        assert party.answer(stage, outbox[0]) == sent
        party.reload()
        assert party.client.message == sent
        assert party.answer(stage, outbox[0]) == sent
        assert len(party.store.snapshots) == stage + 1

    def test_a_state_stored_without_its_number_is_used(self) -> None:
        """The process died between the two writes: the message did not leave, and may now."""
        played = Round(config(curious(4, 3)))
        outbox = played.until(2)
        party = played.parties[0]
        party.mask(outbox[0])
        again = Client.restore(
            party.store.newest.data, played.config, identity(0), Store(), newest=ClientStage.SHARED
        )
        assert again.stage is ClientStage.MASKED

    @pytest.mark.parametrize("stage", [1, 2, 3])
    def test_an_earlier_request_again_is_refused_and_does_no_harm(self, stage: int) -> None:
        played = Round(config(curious(4, 3)))
        earlier = played.until(stage)[0]
        played.step(stage)
        later = dict(played.server.outbox)
        party = played.parties[0]
        reply = party.answer(stage + 1, later[0])
        with pytest.raises(Refusal, check=because(Reason.OUT_OF_ORDER)):
            party.answer(stage, earlier)
        assert party.answer(stage + 1, later[0]) == reply

    @pytest.mark.parametrize("early", [2, 3, 4])
    def test_a_stage_cannot_be_skipped(self, early: int) -> None:
        played = Round(config(curious(4, 3)))
        outbox = played.until(1)
        with pytest.raises(Refusal, check=because(Reason.OUT_OF_ORDER)):
            played.parties[0].answer(early, outbox[0])

    def test_a_refusal_closes_the_client_and_tells_the_server_a_code(self) -> None:
        played = Round(config(curious(4, 3)))
        outbox = played.until(1)
        party = played.parties[0]
        with pytest.raises(Refusal, check=because(Reason.MALFORMED)):
            party.client.share(b"nonsense")
        assert party.client.stage is party.store.newest.stage is ClientStage.LEFT
        abort = decode(Abort, party.client.message, played.config.hash)
        assert (abort.sender, abort.reason) == (0, Reason.MALFORMED)
        assert len(party.client.message) == 34 + 2 + 1 + 64
        with pytest.raises(Refusal, check=because(Reason.CLOSED)):
            party.client.share(outbox[0])
        party.reload()
        with pytest.raises(Refusal, check=because(Reason.CLOSED)):
            party.client.share(outbox[0])
        played.server.receive(0, party.client.message)
        assert played.server.departed == {0: Reason.MALFORMED}
        assert 0 not in played.server.awaiting

    @pytest.mark.parametrize("stage", [1, 2, 3, 4])
    def test_secrets_are_wiped_as_soon_as_they_are_used(self, stage: int) -> None:
        """Every secret of the old state is either carried into the new one or gone."""
        played = Round(config(curious(4, 3)))
        outbox = played.until(stage)
        party = played.parties[0]
        before = party.client._state.secrets()
        party.answer(stage, outbox[0])
        after = {id(secret) for secret in party.client._state.secrets()}
        used = [secret for secret in before if id(secret) not in after]
        for secret in used:
            with pytest.raises(ValueError, match="wiped"):
                secret.reveal()
        assert bool(used) == (stage != 3)

    def test_leaving_wipes_everything(self) -> None:
        played = Round(config(curious(4, 3)))
        played.until(3)
        secrets = played.parties[0].client._state.secrets()
        played.parties[0].client.leave()
        for secret in secrets:
            with pytest.raises(ValueError, match="wiped"):
                secret.reveal()

    def test_old_secrets_are_not_in_later_states(self) -> None:
        """The private keys of round 0 and the seed of round 1 are needed until round 2."""
        played = Round(config(curious(4, 3)))
        party = played.parties[0]
        channel, mask = (secret.reveal() for secret in party.client._state.secrets())
        assert channel in party.store.newest.data
        played.step(0)
        played.step(1)
        assert channel not in party.store.newest.data
        assert mask in party.store.newest.data
        played.step(2)
        assert mask not in party.store.newest.data

    def test_the_vector_must_fit(self) -> None:
        played = Round(config(curious(3), 5))
        outbox = played.until(2)
        client = played.parties[0].client
        for vector in (np.zeros(5), np.zeros(4, np.uint32), np.zeros((5, 1), np.uint32)):
            with pytest.raises(ValueError, match="uint32 of shape"):
                client.mask(outbox[0], vector)  # type: ignore[arg-type]
        vector = np.arange(5, dtype=np.uint32)
        client.mask(outbox[0], vector)
        assert vector.tolist() == [0, 1, 2, 3, 4]

    def test_states_and_participants_are_not_printed(self) -> None:
        played = Round(config(curious(3)))
        outbox = played.until(1)
        party = played.parties[0]
        mask = party.client._state.secrets()[1].reveal()
        party.client.share(outbox[0])
        for thing in (party.client._state, party.client._me, party.store.newest):
            assert str(mask) not in repr(thing)
            assert mask.hex() not in repr(thing)


class TestDamage:
    """Damaged requests, bit by bit: a client refuses, and says so by a code."""

    @settings(deadline=None, max_examples=40)
    @given(st.sampled_from([1, 2, 4]), st.data())
    def test_a_changed_request_is_refused(self, stage: int, data: st.DataObject) -> None:
        played = Round(config(curious(3, 3)))
        request = bytearray(played.until(stage)[0])
        if data.draw(st.booleans()):
            bit = data.draw(st.integers(0, 8 * len(request) - 1))
            request[bit // 8] ^= 1 << bit % 8
        else:
            del request[data.draw(st.integers(0, len(request) - 1)) :]
        with pytest.raises(Refusal):
            played.parties[0].answer(stage, bytes(request))
        assert played.parties[0].client.stage is ClientStage.LEFT

    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 8 * 46 - 1))
    def test_a_changed_survivor_list_is_refused_or_signed_for_nobody(self, bit: int) -> None:
        """Another list may be as good as the first, if it is the only one; its signature is not."""
        played = Round(config(curious(5, 3)))
        outbox = played.until(3, silent={4})
        request = bytearray(outbox[0])
        assert len(request) > bit // 8 - 4
        bit %= 8 * len(request)
        request[bit // 8] ^= 1 << bit % 8
        try:
            reply = played.parties[0].client.sign(bytes(request))
        except Refusal:
            return
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            played.server.receive(0, reply)


class TestServer:
    def test_stages_and_whom_it_awaits(self) -> None:
        played = Round(config(curious(4, 2)))
        server = played.server
        assert (server.stage, server.awaiting) == (Stage.ADVERTISING, {0, 1, 2, 3})
        played.step(0, {3})
        assert (server.stage, server.awaiting) == (Stage.SHARING, {0, 1, 2})
        with pytest.raises(ValueError, match="no survivor list"):
            _ = server.survivors
        played.step(1, {3})
        assert (server.stage, server.awaiting) == (Stage.MASKING, {0, 1, 2})
        played.step(2, {2, 3})
        assert (server.stage, server.awaiting) == (Stage.SIGNING, {0, 1})
        assert server.survivors == (0, 1)
        with pytest.raises(Refusal, check=because(Reason.COHORT_TOO_SMALL)):
            played.step(3)
            server.open()
        assert (server.stage, server.awaiting) == (Stage.FAILED, set())
        for call in (server.close, server.open, server.save):
            with pytest.raises(Refusal, check=because(Reason.CLOSED)):
                call()

    def test_nothing_is_opened_twice_or_too_early(self) -> None:
        played = Round(config(curious(3, 2)))
        with pytest.raises(Refusal, check=because(Reason.OUT_OF_ORDER)):
            played.server.open()
        played.play()
        assert played.server.stage is Stage.FINISHED
        with pytest.raises(Refusal, check=because(Reason.CLOSED)):
            played.server.open()

    def test_the_last_stage_is_not_closed(self) -> None:
        played = Round(config(curious(3, 2)))
        played.until(4)
        with pytest.raises(Refusal, check=because(Reason.OUT_OF_ORDER)):
            played.server.close()
        assert played.server.stage is Stage.UNMASKING

    @pytest.mark.parametrize("stage", [0, 1, 2, 3, 4])
    def test_a_message_again_changes_nothing(self, stage: int) -> None:
        played = Round(config(curious(3, 2)))
        outbox = played.until(stage)
        party = played.parties[0]
        message = party.answer(stage, outbox[0]) if stage else party.client.message
        played.server.receive(0, message)
        before = played.server.save()
        played.server.receive(0, message)
        assert played.server.save() == before
        played.server = Server.restore(before, played.config)
        played.server.receive(0, message)
        assert played.server.save() == before

    @pytest.mark.parametrize("stage", [0, 1, 2, 3])
    def test_a_restored_server_sends_the_same(self, stage: int) -> None:
        played = Round(config(curious(4, 2)))
        played.until(stage)
        played.step(stage)
        restored = Server.restore(played.server.save(), played.config)
        assert restored.outbox == played.server.outbox
        assert restored.stage is played.server.stage

    def test_a_late_message_is_out_of_order(self) -> None:
        played = Round(config(curious(4, 2)))
        played.step(0, {3})
        with pytest.raises(Refusal, check=because(Reason.OUT_OF_ORDER)):
            played.server.receive(3, played.parties[3].client.message)
        with pytest.raises(Refusal, check=because(Reason.OUT_OF_ORDER)):
            played.server.receive(0, played.parties[0].client.message)
        with pytest.raises(Refusal, check=because(Reason.NOT_ON_ROSTER)):
            played.server.receive(4, played.parties[0].client.message)

    def test_a_refused_message_may_be_followed_by_a_good_one(self) -> None:
        played = Round(config(curious(4, 2), 5))
        outbox = played.until(2)
        with pytest.raises(Refusal, check=because(Reason.MALFORMED)):
            short = MaskedInput.of(0, np.zeros(4, np.uint32))
            played.server.receive(0, encode(short, played.config.hash))
        played.server.receive(0, played.parties[0].mask(outbox[0]))
        assert played.server.awaiting == {1, 2, 3}

    def test_an_abort_counts_only_with_its_senders_signature(self) -> None:
        played = Round(config(curious(4, 2)))
        abort = decode(Abort, played.parties[0].client.leave(), played.config.hash)
        forged = encode(Abort(0, Reason.BAD_SHARE, abort.signature), played.config.hash)
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            played.server.receive(0, forged)
        played.server.receive(0, played.parties[0].client.message)
        assert played.server.departed == {0: Reason.CLOSED}
        with pytest.raises(Refusal, check=because(Reason.CLOSED)):
            played.server.receive(0, b"anything else")
        restored = Server.restore(played.server.save(), played.config)
        assert restored.departed == {0: Reason.CLOSED}

    def test_a_signature_of_another_list_is_refused(self) -> None:
        played = Round(config(curious(4, 2)))
        played.until(3)
        signature = identity(0).sign(b"another list")
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            data = encode(SurvivorSignature(0, signature), played.config.hash)
            played.server.receive(0, data)

    @given(st.data())
    @settings(deadline=None, max_examples=25)
    def test_a_damaged_state_is_refused(self, data: st.DataObject) -> None:
        played = Round(config(curious(3, 2)))
        played.until(2)
        saved = bytearray(played.server.save())
        bit = data.draw(st.integers(0, 8 * len(saved) - 1))
        saved[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refusal, check=because(Reason.OLD_STATE)):
            Server.restore(bytes(saved), played.config)
        with pytest.raises(Refusal, check=because(Reason.OLD_STATE)):
            Server.restore(played.server.save(), config(curious(3, 2), round_number=8))
