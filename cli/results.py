"""What a run says on stdout: a few lines a picture, or the tables of an evaluation; with --json one object a line."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milr.run_files import to_json

if TYPE_CHECKING:
    from milr.evaluation.results import Results

JSON_KEYS = (
    "id",
    "image_index",
    "prompt",
    "reasoning",
    "initial_reward",
    "reward",
    "step",
    "images_decoded",
    "seconds",
)


def show_result(line: dict[str, Any], run: Path, strip: Path | None, seed: int, as_json: bool) -> None:
    """Print one line of `samples.jsonl`, its paths made to start where the run folder's path does."""
    image = str(run / line["image"]) if line["image"] else None
    if as_json:
        record = {key: line.get(key) for key in JSON_KEYS} | {"image": image, "seed": seed, "run": str(run)}
        record |= {key: line[key] for key in ("cost", "error") if line.get(key)}
        click.echo(to_json(record))
        return
    click.echo(f"\n{line['prompt']}")
    for name, value in _facts(line, image, strip):
        click.echo(textwrap.fill(value, 100, initial_indent=f"  {name:10}", subsequent_indent=" " * 12))


def show_evaluation(results: Results, as_json: bool, advice: str = "") -> int:
    """Print the rows of an evaluation, and below them every tag; returns the exit code.

    Args:
        advice: what to do about pictures that are not in the numbers.
    """
    from milr.evaluation.tables import format_run, format_tags

    click.echo(to_json(results.to_record()) if as_json else f"{format_run(results)}\n\n{format_tags(results)}")
    missing = sum(row.missing for row in results.rows)
    failed = sum(judge.failed for row in results.rows for judge in row.judges.values())
    if not missing and not failed:
        return 0
    lost = [f"{count} {what}" for count, what in ((missing, "missing or unreadable"), (failed, "not judged")) if count]
    click.echo(f"milr: pictures that are not in the numbers: {', '.join(lost)}{advice or '.'}", err=True)
    return 1


def _facts(line: dict[str, Any], image: str | None, strip: Path | None) -> list[tuple[str, str]]:
    if "error" in line:
        return [("failed", line["error"])] + ([("image", image)] if image else [])
    facts = [("reward", f"{_number(line['initial_reward'])} -> {_number(line['reward'])} (step {line['step']})")]
    if line["reason"]:
        facts.append(("critic", line["reason"]))
    facts.append(("reasoning", line["reasoning"] or "none"))
    spent = "".join(f", {amount:,.10g} {name.replace('_', ' ')}" for name, amount in line.get("cost", {}).items())
    facts.append(("cost", f"{line['images_decoded']:g} pictures decoded in {line['seconds']:.1f} s{spent}"))
    facts.append(("image", str(image)))
    return facts + ([("strip", str(strip))] if strip else [])


def _number(value: float | None) -> str:
    return "no score" if value is None else f"{value:.3f}"
