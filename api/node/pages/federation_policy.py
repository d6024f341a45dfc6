"""What the node agrees to, in words, and what follows from it for the plans that it knows."""

from __future__ import annotations

from functools import partial
from typing import Any

from nicegui import ui

from api.node.pages.federation_effect import POLICY, draw_effect, effect
from api.node.pages.federation_policy_form import PolicyForm
from api.node.pages.federation_words import listed
from api.node.pages.live import LivePage
from api.pages.frame import heading
from api.pages.parts import named
from api.pages.words import number

MODES = {
    "client": "client (a whole node is protected)",
    "document": "document (a subject is protected, and nodes share the noise)",
    "local": "local (a subject is protected, and each node adds all the noise itself)",
}
THREATS = {
    "honest_but_curious": "follows the protocol but is curious",
    "active": "cheats",
}


class Policy:
    """The part of the page about the consent policy."""

    def __init__(self, page: LivePage) -> None:
        self._page = page
        page.part("What this node agrees to", self._read, self._draw)

    async def _read(self) -> dict[str, Any]:
        api = self._page.api
        policy = await api.get(POLICY)
        odometer = await api.get("/v1/federation/odometer")
        return {
            "policy": policy,
            "is_fixed": odometer["epsilon_limit"] is not None,
            "effect": await effect(api, policy),
        }

    def _draw(self, found: dict[str, Any]) -> None:
        with ui.column().classes("panel gap-3"):
            with ui.element("ul").classes("list-disc pl-5 flex flex-col gap-1"):
                for sentence in in_words(found["policy"]):
                    with ui.element("li"):
                        ui.label(sentence).classes("plain")
            change = ui.button("Change", icon="tune").props("outline no-caps")
            named(change, "Change what this node agrees to")
            form = PolicyForm(self._page, found["policy"], is_fixed=found["is_fixed"])
            change.on_click(partial(self._page.act, change, form.open))
        heading("What follows for the plans that it knows", 3)
        draw_effect(found["effect"], with_costs=True)


def in_words(policy: dict[str, Any]) -> list[str]:
    """A sentence for each term of a policy."""
    alone, models = policy["largest_epsilon_alone"], policy["base_models"]
    feedback = "may enter" if policy["shares_feedback"] else "stays out of"
    return [
        f"Over its lifetime one subject may lose at most epsilon "
        f"{number(policy['lifetime_epsilon'])} at delta {number(policy['lifetime_delta'])} to all "
        f"coordinators together, counted at Renyi order {policy['lifetime_order']}.",
        f"A whole plan may cost at most epsilon {number(policy['largest_epsilon'])} towards the "
        f"coordinator, at a delta of at most {number(policy['largest_delta'])}.",
        "If all other nodes were dishonest, a plan may cost any epsilon."
        if alone is None
        else f"If all other nodes were dishonest, a plan may cost at most epsilon {number(alone)}.",
        f"At least {number(policy['smallest_cohort'])} nodes are invited to a round, and at least "
        f"{number(policy['smallest_min_survivors'])} are in every sum.",
        f"The mode of privacy may be {listed([MODES[mode] for mode in policy['modes']])}.",
        "Sums may be protected against a coordinator that "
        f"{listed([THREATS[name] for name in policy['threat_models']])}.",
        f"What may be adapted: {listed(policy['adapters'])}, with at most "
        f"{number(policy['largest_dimension'])} parameters, of "
        + ("whichever model this node runs." if models is None else f"{listed(models)}."),
        f"Feedback of users {feedback} rounds.",
    ]
