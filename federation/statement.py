"""The privacy statement of a federation, in plain words, with every assumption.

It follows the reporting advice of "How to DP-fy ML" (arXiv 2303.00654, section 5.3) and of NIST
SP 800-226. No number stands in it without its mode, unit, adjacency, delta and trust assumption.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from federation.adapter_spec import AdapterKind
from federation.plan import FederationPlan
from privacy.guarantee import DeltaTerms, Epsilon, epsilons
from privacy.ledger_records import ThreatModel
from privacy.plan import CUT_PROBABILITY, Mode, PrivacyPlan


@dataclass(frozen=True, slots=True)
class Guarantee:
    """One epsilon with all that it means; a number that has no bound is None.

    Attributes:
        name: `epsilon_coordinator`, `epsilon_release` or `epsilon_alone`.
        epsilon: over all permitted participations.
        two_nodes: the same if a subject sits on two nodes; always None in mode `client`.
        delta: of the statement.
        delta_secagg, delta_cut, delta_sampler: parts of delta: failure of secure aggregation, a
            cap on rows that binds, distance of the noise from the ideal (which counts
            1 + e^epsilon times).
        rho: zCDP; None where sampling is claimed.
        order: Renyi order that gave `epsilon`.
        mode, unit, adjacency: who is protected and what neighbours are.
        trust: what is assumed, in words.
    """

    name: str
    epsilon: float | None
    two_nodes: float | None
    delta: float
    delta_secagg: float
    delta_cut: float
    delta_sampler: float
    rho: float | None
    order: int
    mode: Mode
    unit: str
    adjacency: str
    trust: str

    @staticmethod
    def of(epsilon: Epsilon) -> Guarantee:
        """The record of a guarantee."""
        terms: DeltaTerms = epsilon.terms
        return Guarantee(
            name=f"epsilon_{epsilon.view}",
            epsilon=finite(epsilon.value),
            two_nodes=finite(epsilon.two_nodes),
            delta=epsilon.delta,
            delta_secagg=terms.secagg,
            delta_cut=terms.cut,
            delta_sampler=terms.sampler,
            rho=epsilon.rho,
            order=epsilon.order,
            mode=epsilon.mode,
            unit=epsilon.unit,
            adjacency=epsilon.adjacency,
            trust=epsilon.trust,
        )

    def __str__(self) -> str:
        rho = "" if self.rho is None else f", rho {self.rho:.4g} (zCDP)"
        return (
            f"{self.name} {_number(self.epsilon)} at delta {self.delta:.3g}{rho}; mode "
            f"{self.mode}, unit {self.unit}, adjacency {self.adjacency}; assumes that {self.trust}."
        )


def guarantees(plan: PrivacyPlan) -> tuple[Guarantee, Guarantee, Guarantee]:
    """Towards the coordinator, towards readers of what is released, and alone."""
    three = epsilons(plan)
    return tuple(map(Guarantee.of, (three.coordinator, three.release, three.alone)))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with its sentences."""

    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PrivacyStatement:
    """The statement of one federation.

    Attributes:
        federation, population, plan_hash: whose.
        guarantees: the numbers.
        sections: the words, the numbers among them.
    """

    federation: str
    population: str
    plan_hash: str
    guarantees: tuple[Guarantee, ...]
    sections: tuple[Section, ...]

    def to_text(self) -> str:
        """Plain text, a sentence a line."""
        lines = [f"Privacy statement of the federation {self.federation}", ""]
        for section in self.sections:
            lines += [section.title, *(f"- {sentence}" for sentence in section.sentences), ""]
        return "\n".join(lines)


def statement(plan: FederationPlan) -> PrivacyStatement:
    """All that `plan` promises, and on what conditions."""
    three = guarantees(plan.privacy)
    sections = (
        ("What is trained and what is released", _released(plan)),
        ("Who is protected", _protected(plan.privacy)),
        ("The guarantees, over all permitted participations", _numbers(three)),
        ("How it is done", _mechanism(plan)),
        ("What is assumed", _assumptions(plan)),
        ("How it is counted", _accounting(plan.privacy)),
        ("Choices and tuning", _tuning()),
        ("What this statement does not cover", _limits(plan.privacy)),
    )
    return PrivacyStatement(
        plan.federation,
        plan.population,
        plan.hash,
        three,
        tuple(Section(title, tuple(sentences)) for title, sentences in sections),
    )


def _released(plan: FederationPlan) -> Iterator[str]:
    retriever = plan.adapter.kind is AdapterKind.RETRIEVER
    what = "the retriever's query map" if retriever else "the generator's adapter"
    yield (
        f"{plan.privacy.rounds} rounds train {plan.adapter.dimension} shared parameters of {what}, "
        f"for the model {plan.adapter.base_model}. The signed plan has the hash {plan.hash}."
    )
    yield (
        "Released to the coordinator and to every node is one noisy sum a round, as new "
        "parameters; all of them, not only the last, are covered."
    )
    yield (
        "In the open, too, are who took part in which round, which nodes dropped out, and when "
        "messages came. None of it may depend on private data: masked vectors leave at the time "
        "that the plan fixes. Documents, questions, losses, counts and norms are never sent."
    )


def _protected(plan: PrivacyPlan) -> Iterator[str]:
    if plan.mode is Mode.CLIENT:
        yield "Mode client: the unit is a node, with everything on it and all its participations."
        yield (
            "Adjacency is zero-out: two inputs are neighbours if the row of one node, its whole "
            "update, is zero in one of them; that node's noise stays."
        )
        yield "A node that is protected as a whole protects each document and person on it."
    else:
        noise = (
            "every node adds the whole noise itself"
            if plan.mode is Mode.LOCAL
            else "the nodes' noise shares add up"
        )
        yield (
            f"Mode {plan.mode}: the unit is a subject, and {noise}. A subject is one document, "
            "unless a node's owner has grouped documents, all those of one patient for instance."
        )
        yield (
            "Adjacency is zero-out: two inputs are neighbours if the row of one subject, with all "
            "its examples, is zero in one of them; everything else and all the noise stay."
        )
        yield (
            "People who asked questions are not a protected unit in this mode: what somebody asked "
            "counts as part of the subject that the answer is in."
        )


def _numbers(three: tuple[Guarantee, ...]) -> Iterator[str]:
    for one in three:
        yield str(one)
        if one.mode is not Mode.CLIENT:
            yield (
                f"If the same subject sits on two nodes, {one.name} is {_number(one.two_nodes)} "
                f"instead, at the same delta {one.delta:.3g}, mode {one.mode}, unit {one.unit}, "
                f"adjacency {one.adjacency} and trust. For three or more nodes nothing is claimed."
            )
        yield (
            f"Delta {one.delta:.3g} of {one.name} includes {one.delta_secagg:.2g} for a failure of "
            f"secure aggregation, {one.delta_cut:.2g} for a cap on rows that binds and "
            f"{one.delta_sampler:.2g} times 1 + e^epsilon for the distance of the noise from the "
            f"ideal; the rest is the conversion from Renyi divergence at order {one.order}."
        )


def _mechanism(plan: FederationPlan) -> Iterator[str]:
    privacy = plan.privacy
    yield (
        f"Each row is clipped to an L2 norm of {privacy.clip_norm:.4g} and rounded at random to a "
        f"grid of {privacy.grid:.4g}; a rounded row has a norm of at most "
        f"{privacy.sensitivity:.6g} grid units, which each node enforces in integers."
    )
    share = (
        "Each node adds discrete Gaussian noise"
        if privacy.mode is Mode.LOCAL
        else "Each node adds its share of the noise, discrete Gaussian"
    )
    yield (
        f"{share} with a standard deviation of {privacy.share_sigma:.6g} grid units in every "
        f"coordinate; what the plan counts on is {privacy.noise_multiplier:.4g} times the largest "
        "norm of a row. The noise is drawn from a cryptographic generator."
    )
    if privacy.mode is not Mode.CLIENT:
        yield (
            f"A node samples each of its subjects with probability {privacy.sampling_rate:.4g} in "
            f"a round, in secret, and enters at most {privacy.row_cap} rows; surplus rows are "
            "dropped in random order."
        )
    yield (
        "Masked vectors are summed by secure aggregation; the coordinator opens the sum of at "
        f"least {privacy.min_survivors} of at most {privacy.cohort} invited nodes and nothing else."
    )
    yield (
        f"The sum is divided by the public number {privacy.divisor:.6g}, never by a count of what "
        "took part. What is computed from it afterwards costs nothing more."
    )


def _assumptions(plan: FederationPlan) -> Iterator[str]:
    privacy = plan.privacy
    yield (
        "The node of the protected unit runs this software unchanged, and its random numbers are "
        "unpredictable."
    )
    if privacy.mode is not Mode.LOCAL:
        yield (
            f"At least {privacy.min_survivors} nodes are in every opened sum, and at most "
            f"{privacy.colluders} of them tell the coordinator their noise; the others really add "
            "theirs. Nobody can check that from outside."
        )
    if plan.threat_model is ThreatModel.ACTIVE:
        yield (
            "Secure aggregation is run against an active coordinator, which may lie. That holds "
            "for nodes whose owners have compared the fingerprints of their peers out of band; "
            f"at least {privacy.min_survivors} confirmed nodes must be in a sum."
        )
    else:
        yield (
            "Secure aggregation is run against an honest-but-curious coordinator: it keeps all it "
            "sees and follows the protocol. Who is who rests on its word: one that enrols "
            "inventions of its own can leave a node alone, and then only epsilon_alone holds."
        )
    yield (
        "The problems on which X25519, Ed25519, AES and SHA-256 rest are hard; against somebody "
        "who can break them, only what each node's own noise gives is left."
    )
    if privacy.mode is not Mode.CLIENT:
        yield (
            f"No node enters more than {privacy.planned_rows} subjects, the planned number, so "
            f"that the cap of {privacy.row_cap} binds with a probability of at most "
            f"{CUT_PROBABILITY:.2g} in a round."
        )
        yield (
            "Each training example belongs to exactly one subject, and a row depends on its "
            "subject, on public inputs and on the plan's model only. A subject that is split into "
            "several, or that shaped others' rows, is not covered."
        )
        yield (
            f"A node's training is done {plan.timing.training_seconds:g} s after a round was "
            "announced, when masked vectors leave: rows that are not done then are zero rows, and "
            "which ones those are would depend on how long others took."
        )
        yield (
            "A subject sits on one node; what holds for two is given beside each number, and a "
            "near-copy on another node counts as the same subject."
        )


def _accounting(plan: PrivacyPlan) -> Iterator[str]:
    yield (
        f"Counted are {plan.max_participations} participations of a node in {plan.rounds} rounds. "
        "Each node enforces that number with an odometer of its own, which it debits before its "
        "masked vector leaves, without refund."
    )
    yield (
        "Renyi divergences at integer orders are added up and converted (arXiv 2004.00010, "
        "Proposition 12); those of sums of discrete Gaussians are bounded as in arXiv 2102.06387."
    )
    amplification = (
        "No amplification is claimed"
        if plan.mode is Mode.CLIENT or plan.sampling_rate == 1.0
        else "Amplification is claimed for the secret sampling of subjects on each node, and none"
    )
    yield f"{amplification} for the choice of nodes, which the coordinator sees."
    yield (
        f"A round counts as if only {plan.min_survivors} nodes had survived, however many did. "
        "The budget is charged before a sum is opened: a round that fails later stays charged, one "
        "that failed before was never opened and costs the budget nothing, unless a receipt of it "
        "turns up later, which counts as if it had been opened. A failed round is tried again "
        "under the same slot of the budget."
    )
    yield (
        "The budget belongs to the population: all its federations draw on one limit, kept at a "
        "Renyi order that was fixed before anything was released."
    )


def _tuning() -> Iterator[str]:
    yield (
        "Clip norm, learning rates and all other terms are public constants of the plan. Trying "
        "several plans on private data is paid for as several federations of one budget; what an "
        "admin learned from private data in any other way is not covered."
    )
    yield (
        "Whether a node adopts a version is decided on the node, with its own examples, and never "
        "reported; it changes nothing here."
    )


def _limits(plan: PrivacyPlan) -> Iterator[str]:
    yield (
        "Retrieval and answers: whoever may ask an assistant is shown passages of its documents. "
        "Differential privacy of the shared parameters says nothing about them; access control "
        "does."
    )
    yield "Prompts, questions and logs on a node, and personal adapters, which are no part of this."
    yield (
        "Facts that follow from many units together: what is learned about a population is the "
        "purpose, not a leak."
    )
    yield (
        "The correctness of the result: a dishonest node can spoil a sum, and secure aggregation "
        "cannot see it."
    )
    if plan.mode is not Mode.CLIENT:
        yield (
            "That a node takes part at all, and how large a node is as a whole: the unit is a "
            "subject, and a property of all of a node's subjects is not protected."
        )


def finite(value: float | None) -> float | None:
    """An epsilon as JSON can hold it: None where no bound could be shown."""
    return value if value is not None and math.isfinite(value) else None


def _number(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:.4g}"
