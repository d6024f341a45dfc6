"""Which subjects of a node are in a round: a secret Poisson sample, cut at the plan's cap."""

import math

import numpy as np
from numpy.typing import NDArray

from privacy.keystream import Keystream
from privacy.plan import PrivacyPlan


def sample_rows(available: int, plan: PrivacyPlan) -> NDArray[np.int64]:
    """Choose the subjects whose rows enter this round.

    Each of the first `plan.planned_rows` subjects is taken with probability q, independently;
    surplus rows above the cap are dropped in a secret random order. The bounds of `plan.py` hold
    if the caller's order of subjects does not depend on their content, and if the sample is
    never shown to anybody.

    Args:
        available: number of the node's subjects; any number, zero included.

    Returns:
        Their positions, ascending, int64.

    Raises:
        ValueError: the plan is of mode `client`, which samples nothing.
    """
    return sample_rows_with(available, plan, Keystream.fresh())


def sample_rows_with(available: int, plan: PrivacyPlan, coins: Keystream) -> NDArray[np.int64]:
    """`sample_rows` with given coins, for simulations that repeat: whoever knows them knows it."""
    if plan.planned_rows is None or plan.row_cap is None:
        raise ValueError("mode client does not sample subjects")
    words = coins.words(min(available, plan.planned_rows))
    if plan.sampling_rate == 1.0:
        chosen = np.arange(len(words))
    else:
        # Rounded down: a smaller rate only amplifies more.
        chosen = np.flatnonzero(words < np.uint64(math.floor(plan.sampling_rate * 2.0**64)))
    # Given that a word is below the threshold it is uniform there, hence a fair order.
    kept = chosen[np.argsort(words[chosen], kind="stable")][: plan.row_cap]
    return np.sort(kept).astype(np.int64)
