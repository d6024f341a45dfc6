"""From a plan to its guarantees: the loss of one participation, and the three epsilons."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from privacy.accounting import ORDERS, DiscreteGaussianSum, PoissonSampled, rdp
from privacy.plan import PrivacyPlan


class View(StrEnum):
    """Against whom a guarantee holds."""

    COORDINATOR = "coordinator"
    RELEASE = "release"
    ALONE = "alone"


def round_rdp(plan: PrivacyPlan, view: View = View.COORDINATOR) -> NDArray[np.float64]:
    """Divergence at `ORDERS` that one participation costs its unit, as seen by `view`."""
    shares = {
        View.COORDINATOR: plan.min_survivors - plan.colluders,
        View.RELEASE: plan.min_survivors,
        View.ALONE: 1,
    }[view]
    noisy = DiscreteGaussianSum(plan.sensitivity_squared, plan.dimension, plan.share_sigma, shares)
    return rdp(PoissonSampled(noisy, plan.sampling_rate), ORDERS)
