"""`alcove plan`: the calculator without data, and the other way round."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.coordinator.federations import PlanMode, show_preview
from cli.errors import CommandError
from cli.options import AsJson, given
from cli.output import show, show_json


def plan(
    epsilon: Annotated[float, typer.Option(help="epsilon_coordinator of all rounds together.")],
    mode: Annotated[PlanMode, typer.Option(help="Who is protected.")] = PlanMode.CLIENT,
    cohort: Annotated[
        int | None, typer.Option(help="Nodes of a round; in mode client without it: how many?")
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(help="Subjects of all nodes (document, local); without it: how many?"),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds.", min=1)] = 20,
    participations: Annotated[
        int | None, typer.Option(help="Most rounds of one node; all, if left out.", min=1)
    ] = None,
    parameters: Annotated[
        int, typer.Option(help="Trained numbers: 384 times the rank of a query map.", min=1)
    ] = 1536,
    delta: Annotated[float | None, typer.Option(help="Of the statement.")] = None,
    drop_out: Annotated[
        float | None, typer.Option(help="Share of a cohort that may be lost.")
    ] = None,
    colluders: Annotated[int | None, typer.Option(help="A tenth, if left out.", min=0)] = None,
    sampling_rate: Annotated[
        float | None, typer.Option(help="Of subjects (document, local).")
    ] = None,
    noise_to_signal: Annotated[
        float, typer.Option(help="Where a number is asked for: the ratio to reach.", min=0.001)
    ] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Calculate what a federation would cost, or how many nodes or subjects an epsilon needs."""
    from api.coordinator.admin.previews import preview_body
    from federation.plan_request import PlanRequestError, read_request, resolve
    from federation.planning import NOBODY, needed
    from federation.preview import preview

    client = mode is PlanMode.CLIENT
    if not client and cohort is None:
        raise CommandError(f"mode {mode.value} needs --cohort")
    is_open = cohort is None if client else rows is None
    fields = given(
        population="calculator", federation="calculator",
        adapter={"kind": "retriever", "base_model": "any", "dimension": parameters, "rank": 1},
        mode=mode.value, epsilon=epsilon, rounds=rounds, cohort=cohort or 3,
        max_participations=participations, delta=delta, drop_out=drop_out,
        colluders=colluders, sampling_rate=sampling_rate,
        planned_rows=rows if rows is not None or client else 10,
    )  # fmt: skip
    try:
        request = read_request(fields)
        if is_open:
            request = needed(request, noise_to_signal)
        found = preview_body(preview(resolve(request, NOBODY).plan)).model_dump(mode="json")
    except PlanRequestError as error:
        raise CommandError(str(error)) from error
    # There is no population whose budget could refuse it.
    found["refusal"] = None
    if as_json:
        show_json(found)
        return
    privacy = found["plan"]["privacy"]
    if is_open:
        name, number = ("nodes", request.cohort) if client else ("subjects", request.planned_rows)
        show(f"needed for noise-to-signal {noise_to_signal:g}: {number:,} {name}")
    show(
        f"noise multiplier: {privacy['noise_multiplier']:.4g} of {privacy['cohort']} nodes, of "
        f"which at least {privacy['min_survivors']} survive"
    )
    show_preview(found)
