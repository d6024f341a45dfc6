"""Why a party refuses to go on: the code that may be sent, and a sentence that stays at home."""

from enum import IntEnum


class Reason(IntEnum):
    """What was wrong: the only word about a refusal that the other side ever hears."""

    MALFORMED = 1
    """The bytes are not one message of the expected kind."""
    WRONG_ROUND = 2
    """The message belongs to another session, round, plan, model or roster."""
    WRONG_SENDER = 3
    """The message names another sender than the connection it came by."""
    NOT_ON_ROSTER = 4
    """The party is not on the roster."""
    BAD_SIGNATURE = 5
    """A signature does not verify under the roster's key."""
    REPEATED_KEY = 6
    """A public key appears twice among the advertised ones."""
    WEAK_KEY = 7
    """A public key whose X25519 secret would be all zeros."""
    OWN_KEY_MISSING = 8
    """The directory does not repeat the client's own advertisement."""
    COHORT_TOO_SMALL = 9
    """Fewer parties remain than the smallest cohort, or than can open a secret."""
    UNSAFE_PARAMETERS = 10
    """The threat model does not hold for this cohort, degree and threshold."""
    UNCONFIRMED_PEERS = 11
    """Too few parties have fingerprints that the owner confirmed."""
    WRONG_PEERS = 12
    """Shares from, for or about other parties than the protocol says."""
    BAD_SHARE = 13
    """A sealed share does not open, or opened shares contradict the owner's commitment."""
    TOO_FEW_SURVIVORS = 14
    """The survivor list is shorter than the plan's minimum."""
    NOT_A_SURVIVOR = 15
    """The survivor list leaves out its reader, whose input was sent."""
    UNKNOWN_SURVIVOR = 16
    """The survivor list names a party that never shared its secrets."""
    TOO_FEW_SIGNATURES = 17
    """Fewer parties than the threshold signed the survivor list."""
    SECOND_REQUEST = 18
    """Another request for a stage that has been answered."""
    OUT_OF_ORDER = 19
    """A request for a stage that has not been reached or is over."""
    OLD_STATE = 20
    """The saved state is older than what was already sent, damaged or of another round."""
    SUM_OUT_OF_RANGE = 21
    """The sum is longer than the plan allows any honest sum to be."""
    CLOSED = 22
    """The party has left the round."""


class Refusal(Exception):  # noqa: N818 - the protocol worked; nothing is in error
    """A party stops here. `reason` may be told; `detail` is for the local log and holds no secret.

    Never an internal error: those raise whatever they raise.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.name}: {detail}")
        self.reason = reason
        self.detail = detail
