"""``iqa doctor``: which known mistake gives a reported number."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from iqa_metrics.cli.console import EXIT_FAILED, JsonOption, err, out, print_json, refusals

if TYPE_CHECKING:
    from iqa_metrics.doctor import Diagnosis, Finding


def doctor(
    reference: Annotated[Path, typer.Argument(help="The reference image.")],
    distorted: Annotated[Path, typer.Argument(help="The distorted image.")],
    claims: Annotated[
        str,
        typer.Option(help="The value that another program reports, with all of its digits."),
    ],
    metric: Annotated[
        str, typer.Option("--metric", "-m", help="The metric that it is said to be of.")
    ] = "default",
    tolerance: Annotated[
        float,
        typer.Option(help="Relative tolerance, in addition to half a unit of the last digit."),
    ] = 1e-4,
    as_json: JsonOption = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Find the mistake that gives the number which another program reports for a pair of images.

    Known mistakes are made on purpose, alone and then two at a time: a wrong range, order of
    channels, normalisation, size, border or peak, another variant of the metric.

    Exit status: 0 if the number is right or a mistake explains it, 1 if nothing explains it, 2 for
    wrong usage.
    """
    from iqa_metrics.compute.devices import pick_device
    from iqa_metrics.doctor import diagnose

    with refusals():
        found = diagnose(
            str(reference),
            str(distorted),
            claims,
            metric,
            tolerance=tolerance,
            device=str(pick_device(device)),
        )
    if as_json:
        print_json(_as_dict(found))
    else:
        _print(found)
    if not found.agrees and not found.findings:
        raise typer.Exit(EXIT_FAILED)


def _print(found: "Diagnosis") -> None:
    def line(text: str) -> None:
        out.print(text, markup=False, highlight=False, soft_wrap=True)

    line(
        f"{found.metric}: {found.value:.7g} is right for this pair, {found.claim.text} is claimed."
    )
    if found.agrees:
        line("They agree within the digits that are claimed.")
        return
    if found.findings:
        line("What gives the claimed value, most plausible first:")
    else:
        line("No known mistake gives the claimed value. The nearest, which are no explanation:")
    for number, one in enumerate(found.findings or found.nearest, start=1):
        line(f"{number:2d}. {one.name}: {one.value:.7g}")
        line(f"    {one.explanation}.")
        line(f"    To fix it: {one.remedy}.")
    line(f"{found.tried} hypotheses were tried, {found.combined} of them two mistakes at once.")
    for caution in found.cautions:
        line(f"Caution: {caution}")
    if not found.findings:
        line(
            "The images themselves may be others, or decoded otherwise; or the mistake is one that "
            "is not known here."
        )
    for name, reason in (found.skipped or {}).items():
        err.print(f"[yellow]skipped[/yellow] {escape(f'{name}: {reason}')}", soft_wrap=True)


def _as_dict(found: "Diagnosis") -> dict[str, Any]:
    from iqa_metrics.scoring.scores import json_number

    def shown(one: "Finding") -> dict[str, Any]:
        return {
            "name": one.name,
            "mistakes": [mistake.name for mistake in one.mistakes],
            "value": one.value,
            "difference": one.difference,
            "tier": one.tier,
            "explanation": one.explanation,
            "remedy": one.remedy,
        }

    return {
        "metric": found.metric,
        "claimed": found.claim.text,
        "tolerance": found.claim.tolerance,
        "value": json_number(found.value),
        "agrees": found.agrees,
        "findings": [shown(one) for one in found.findings],
        "nearest": [shown(one) for one in found.nearest],
        "tried": found.tried,
        "combined": found.combined,
        "without_effect": list(found.without_effect),
        "skipped": dict(found.skipped or {}),
        "expected_by_chance": found.expected_by_chance,
        "cautions": list(found.cautions),
    }
