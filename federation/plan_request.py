"""From what an admin says to the plan of a federation: defaults, calibration, refusals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from federation.adapter_request import AdapterRequest, decode_base64, resolve_adapter
from federation.adapter_spec import (
    AdapterKind,
    AdapterSpec,
    blob_hash,
    parameters_from_bytes,
    parameters_hash,
    parameters_to_bytes,
)
from federation.plan import FORMAT, FederationPlan, Optimiser, OptimiserName, Timing
from generation.training_terms import GeneratorTerms
from privacy.canonical import canonical_bytes
from privacy.guarantee import calibrate_noise_multiplier
from privacy.ledger_records import ThreatModel
from privacy.limits import LARGEST_EPSILON
from privacy.plan import SMALLEST_SHARE_SIGMA, Mode, PrivacyPlan, smallest_row_cap
from retrieval.training_terms import MapTerms

LARGEST_COHORT = 10_000
MOST_ROUNDS = 10_000
MOST_ROWS = 10**9
MOST_PASSAGES = 10_000
LONGEST_PASSAGE = 20_000

DEFAULT_DELTA = 1e-5
UNITS_PER_DELTA = 10
"""The default delta is at most one over so many times the protected units."""

COLLUDING_SHARE = 10
"""One node in so many is taken to collude where nothing is said."""

LARGEST_MAP_RATE = 5.0
"""Of the server's step on a query map of clip norm 1."""

GRID_STEPS = 100
"""The default grid is C / (100 sqrt d): rounding costs one per cent of sensitivity."""


class PlanRequestError(ValueError):
    """What was asked for is no plan; the message says what was wrong and what is accepted."""


class TimingRequest(BaseModel):
    """`federation.plan.Timing`, in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    enlist_seconds: float = 60.0
    phase_seconds: float = 60.0
    training_seconds: float = 600.0
    interval_seconds: float = 0.0


class PlanRequest(BaseModel):
    """A federation as an admin describes it; what is left out gets the default named here.

    Attributes:
        population, federation: names.
        adapter: what is trained.
        mode: who is protected.
        epsilon, noise_multiplier: exactly one; epsilon is epsilon_coordinator over all rounds,
            for which the least noise is found.
        delta: 1e-5, or less where that is above one over ten times the protected units.
        rounds: of the plan.
        cohort: nodes invited to each round.
        drop_out: share of the cohort that may be lost; `min_survivors` follows from it where it
            is left out, at least what the threat model asks for.
        colluders: a tenth of the cohort, where left out.
        max_participations: of one node; all rounds, where left out.
        sampling_rate, planned_rows, row_cap: of modes `document` and `local`; 0.1, no default,
            and the smallest cap that the sampling bound allows.
        clip_norm, grid: grid is C / (100 sqrt d), where left out.
        threat_model: against which coordinator.
        timing, optimiser: see `default_optimiser`.
        map_terms, generator_terms: of the adapter's kind.
        public_passages: texts that serve every node as negatives or distractors.
        initial: parameters that the first round starts from (float32, little-endian, base64);
            zeros, where left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    population: str = Field(max_length=63)
    federation: str = Field(max_length=63)
    adapter: AdapterRequest
    mode: Mode
    epsilon: float | None = Field(default=None, gt=0, le=LARGEST_EPSILON)
    noise_multiplier: float | None = Field(default=None, gt=0)
    delta: float | None = Field(default=None, gt=0, lt=1)
    rounds: int = Field(default=20, ge=1, le=MOST_ROUNDS)
    cohort: int = Field(ge=2, le=LARGEST_COHORT)
    min_survivors: int | None = Field(default=None, ge=2)
    drop_out: float | None = Field(default=None, ge=0, lt=1)
    colluders: int | None = Field(default=None, ge=0)
    max_participations: int | None = Field(default=None, ge=1)
    sampling_rate: float | None = Field(default=None, gt=0, le=1)
    planned_rows: int | None = Field(default=None, ge=1, le=MOST_ROWS)
    row_cap: int | None = Field(default=None, ge=1, le=MOST_ROWS)
    clip_norm: float = Field(default=1.0, gt=0)
    grid: float | None = Field(default=None, gt=0)
    threat_model: ThreatModel = ThreatModel.HONEST_BUT_CURIOUS
    timing: TimingRequest = TimingRequest()
    optimiser: Optimiser | None = None
    map_terms: MapTerms | None = None
    generator_terms: GeneratorTerms | None = None
    public_passages: tuple[str, ...] = Field(default=(), max_length=MOST_PASSAGES, repr=False)
    initial: str | None = Field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ResolvedPlan:
    """A plan with the public files that it names by hash.

    Attributes:
        plan: to be signed.
        blobs: the basis and the public passages, by SHA-256.
        initial: the vector of version 0, as `parameters_to_bytes` writes it.
    """

    plan: FederationPlan
    blobs: Mapping[str, bytes] = field(repr=False)
    initial: bytes = field(repr=False)


def read_request(value: object) -> PlanRequest:
    """The request that decoded JSON or TOML describes.

    Raises:
        PlanRequestError: a line for each field that is wrong.
    """
    try:
        return PlanRequest.model_validate(value)
    except ValidationError as error:
        lines = []
        for detail in error.errors(include_input=False, include_url=False):
            where = ".".join(str(part) for part in detail["loc"]) or "plan"
            lines.append(f"{where}: {detail['msg'].removeprefix('Value error, ')}")
        raise PlanRequestError("\n".join(lines)) from error


def resolve(request: PlanRequest, coordinator: str) -> ResolvedPlan:
    """The plan of a coordinator (its public key, hexadecimal).

    Raises:
        PlanRequestError: the request makes no sense, or no proof covers it.
    """
    try:
        spec, basis = resolve_adapter(request.adapter)
        passages = passages_to_bytes(request.public_passages)
        initial = _initial(request, spec)
        privacy = _privacy(request, spec.dimension)
        plan = FederationPlan(
            format=FORMAT,
            population=request.population,
            federation=request.federation,
            coordinator=coordinator,
            adapter=spec,
            privacy=privacy,
            threat_model=request.threat_model,
            timing=Timing(**request.timing.model_dump()),
            optimiser=request.optimiser or default_optimiser(request.adapter.kind, privacy),
            map_terms=_map_terms(request),
            generator_terms=_generator_terms(request),
            public_hash=blob_hash(passages),
            initial_hash=parameters_hash(initial),
        )
    except ValueError as error:
        raise PlanRequestError(str(error)) from error
    return ResolvedPlan(plan, {spec.basis_hash: basis, plan.public_hash: passages}, initial)


def passages_to_bytes(passages: tuple[str, ...]) -> bytes:
    """The file of public passages: JSON lines, each {"text": ...}, canonical.

    Raises:
        ValueError: a passage is empty, too long or not encodable.
    """
    for place, text in enumerate(passages):
        if not 0 < len(text) <= LONGEST_PASSAGE:
            raise ValueError(
                f"public_passages.{place}: a passage has 1 to {LONGEST_PASSAGE} characters"
            )
    return b"".join(canonical_bytes({"text": text}) + b"\n" for text in passages)


def _privacy(request: PlanRequest, dimension: int) -> PrivacyPlan:
    if (request.epsilon is None) == (request.noise_multiplier is None):
        raise ValueError(
            "give either epsilon, for which the noise is found, or noise_multiplier, not both"
        )
    colluders = request.colluders
    if colluders is None:
        colluders = request.cohort // COLLUDING_SHARE
    min_survivors = _min_survivors(request, colluders)
    rate, rows, cap = _sampling(request)
    grid = request.grid or request.clip_norm / (GRID_STEPS * math.sqrt(dimension))
    first = request.noise_multiplier or _first_multiplier(
        request.clip_norm / grid,
        dimension,
        1 if request.mode is Mode.LOCAL else max(1, min_survivors - colluders),
    )
    plan = PrivacyPlan(
        mode=request.mode,
        dimension=dimension,
        clip_norm=request.clip_norm,
        grid=grid,
        noise_multiplier=first,
        cohort=request.cohort,
        min_survivors=min_survivors,
        colluders=colluders,
        rounds=request.rounds,
        max_participations=request.max_participations or request.rounds,
        delta=request.delta or _default_delta(rows or request.cohort),
        sampling_rate=rate,
        row_cap=cap,
        planned_rows=rows,
    )
    if request.epsilon is None:
        return plan
    return replace(plan, noise_multiplier=calibrate_noise_multiplier(plan, request.epsilon))


def _min_survivors(request: PlanRequest, colluders: int) -> int:
    if request.min_survivors is not None:
        if request.drop_out is not None:
            raise ValueError("give min_survivors or drop_out, from which it follows, not both")
        return request.min_survivors
    drop_out = 0.1 if request.drop_out is None else request.drop_out
    wanted = math.floor(request.cohort * (1 - drop_out))
    # Two honest inputs at the least; against an active coordinator as many as must sign.
    fewest = colluders + 2
    if request.threat_model is ThreatModel.ACTIVE:
        fewest = max(fewest, 2 * request.cohort // 3 + 1)
    return min(max(wanted, fewest), request.cohort)


def _sampling(request: PlanRequest) -> tuple[float, int | None, int | None]:
    if request.mode is Mode.CLIENT:
        for name in ("sampling_rate", "planned_rows", "row_cap"):
            if getattr(request, name) is not None:
                raise ValueError(f"{name} belongs to the modes document and local, not to client")
        return 1.0, None, None
    if request.planned_rows is None:
        raise ValueError(
            f"mode {request.mode} needs planned_rows, a public estimate of all subjects of the "
            "population, at least as many as any one node enters"
        )
    rate = request.sampling_rate or 0.1
    return (
        rate,
        request.planned_rows,
        request.row_cap or smallest_row_cap(request.planned_rows, rate),
    )


def _first_multiplier(clip_in_grid: float, dimension: int, shares: int) -> float:
    """Some multiplier that the gate on the noise share lets pass, to start a calibration from."""
    sensitivity = clip_in_grid + math.sqrt(dimension)
    return 2 * SMALLEST_SHARE_SIGMA * math.sqrt(shares) / sensitivity


def _default_delta(units: int) -> float:
    """A power of ten, so that it is read at a glance."""
    power = math.floor(math.log10(1 / (UNITS_PER_DELTA * units)))
    return float(min(DEFAULT_DELTA, 10.0**power))


def default_optimiser(kind: AdapterKind, privacy: PrivacyPlan) -> Optimiser:
    """The server's step where a request names none.

    The constants for query maps in mode `client` are measured in docs/research.md.
    In mode `client` nodes send updates: FedAvg, for a query map with momentum and a rate that
    falls with the noise, so that the noise of all rounds together stays the smaller part of a
    step. In the other modes they send gradients: FedAdam.
    """
    if privacy.mode is not Mode.CLIENT:
        return Optimiser(OptimiserName.FEDADAM, learning_rate=0.01, beta1=0.9)
    if kind is AdapterKind.GENERATOR:
        return Optimiser(OptimiserName.FEDAVG, learning_rate=1.0)
    rate = min(1.0, 1 / privacy.noise_to_signal) * LARGEST_MAP_RATE * privacy.clip_norm
    return Optimiser(OptimiserName.FEDAVG, learning_rate=rate, beta1=0.9)


def _map_terms(request: PlanRequest) -> MapTerms | None:
    if request.adapter.kind is not AdapterKind.RETRIEVER:
        return request.map_terms
    return request.map_terms or MapTerms()


def _generator_terms(request: PlanRequest) -> GeneratorTerms | None:
    if request.adapter.kind is not AdapterKind.GENERATOR:
        return request.generator_terms
    return request.generator_terms or GeneratorTerms()


def _initial(request: PlanRequest, spec: AdapterSpec) -> bytes:
    if request.initial is None:
        return parameters_to_bytes(np.zeros(spec.dimension, np.float32))
    data = decode_base64(request.initial, "initial")
    try:
        parameters_from_bytes(data, spec)
    except ValueError as error:
        raise ValueError(f"initial: {error}") from error
    return data
