"""`--dry-run`: what an evaluation would take, from counting and from a short calibration that writes nothing.

The calibration draws the first two steps of a few searches as the run itself would, times the second one (the first
warms up), and lets every judge look at a few of the pictures. A judge that is paid is paid for these, and counts
nothing for replies that it has kept; `--calibration 0` asks nobody anything, and loads nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click
from PIL import Image

from milr.evaluation.controls import most_pictures
from milr.evaluation.judging import Judge
from milr.events import Step, Stepped
from milr.prompts import Prompt
from milr.rewards import Score, score_safely, total_cost
from milr.run_files import to_json

from .settings import Settings

if TYPE_CHECKING:
    from .evaluating import Row

_JUDGED = 4  # pictures that each judge looks at


@dataclass(frozen=True)
class Cost:
    """What pictures take: seconds for each, and what their critic counts, such as tokens."""

    seconds: float = 0.0
    counted: Mapping[str, float] = field(default_factory=dict)

    def times(self, pictures: float) -> dict[str, float]:
        """For so many."""
        return {"seconds": self.seconds * pictures} | {name: each * pictures for name, each in self.counted.items()}


def show_counts(rows: Mapping[str, Settings], judges: Sequence[str], prompts: int) -> int:
    """Print what would run; returns the exit code.

    Args:
        rows: the settings of each, the run's own first.
        judges: by name.
    """
    main = next(iter(rows.values()))
    _show(_counts(rows, judges, prompts), main["json"])
    return 0


def show_cost(rows: Sequence[Row], judges: Sequence[Judge], prompts: Sequence[Prompt], tries: int, workers: int) -> int:
    """Print what would run and what it would take; returns the exit code: 1 where a judge could say nothing.

    Args:
        tries: prompts of the calibration.
        workers: that draw at the same time.
    """
    settings = {row.facts.row: row.settings for row in rows}
    estimate = _counts(settings, [judge.name for judge in judges], len(prompts))
    tried = prompts[:: max(1, len(prompts) // tries)][:tries]
    drawing, pictures = _try_search(rows[0], tried)
    drawing = replace(drawing, seconds=drawing.seconds / workers)
    estimate["drawing_at_most"] = drawing.times(sum(estimate["pictures_decoded_at_most"].values()))
    costs = {judge.name: _try_judge(judge, pictures[:_JUDGED], tried[:_JUDGED]) for judge in judges}
    estimate["judging"] = {name: cost.times(estimate["images"]) for name, cost in costs.items() if cost}
    _show(estimate, rows[0].settings["json"])
    return 0 if all(costs.values()) else 1


def _counts(rows: Mapping[str, Settings], judges: Sequence[str], prompts: int) -> dict[str, Any]:
    images = next(iter(rows.values()))["images"]
    wanted = prompts * images
    return {
        "prompts": prompts,
        "images_per_prompt": images,
        "images": wanted * len(rows),
        "pictures_decoded_at_most": {row: wanted * most_pictures(it.values) for row, it in rows.items()},
        "judgements": {judge: wanted * len(rows) for judge in judges},
    }


def _show(estimate: Mapping[str, Any], as_json: bool) -> None:
    click.echo(to_json(estimate) if as_json else _described(estimate))


def _try_search(row: Row, prompts: Sequence[Prompt]) -> tuple[Cost, list[Image.Image]]:
    """The first steps for a few prompts: what a picture took, and the first picture of each."""
    pictures: dict[str, Image.Image] = {}
    steps: list[Step] = []
    wanted = {prompt.id for prompt in prompts}
    images = range(row.settings["images"])
    others = {(prompt.id, index) for prompt in row.identity.prompts for index in images}
    others -= {(identity, 0) for identity in wanted}
    last = min(1, row.settings["steps"])
    for event in row.search(skip=frozenset(others), steps=last):
        if isinstance(event, Stepped):
            pictures.setdefault(event.prompt.id, event.step.rollouts[0].image)
            steps.append(event.step)
    timed = [step for step in steps if step.index == last] or steps  # all searches may end before
    scores = [score for step in timed for score in step.scores]
    seconds = sum(step.seconds for step in timed) / len(scores)
    return Cost(seconds, _counted(scores)), [pictures[prompt.id] for prompt in prompts]


def _try_judge(judge: Judge, pictures: Sequence[Image.Image], prompts: Sequence[Prompt]) -> Cost | None:
    """What a picture takes; None of a judge that could say nothing, which is told."""
    began = time.perf_counter()
    scores = score_safely(judge.reward, pictures, prompts)
    seconds = (time.perf_counter() - began) / len(scores)
    failed = [score.error for score in scores if score.value is None]
    if failed:
        click.echo(f"milr: {judge.name} cannot judge: {failed[0]}", err=True)
    return None if len(failed) == len(scores) else Cost(seconds, _counted(scores))


def _counted(scores: Sequence[Score]) -> dict[str, float]:
    """What one of them took, on average."""
    return {name: amount / len(scores) for name, amount in total_cost(score.cost for score in scores).items()}


def _described(estimate: Mapping[str, Any]) -> str:
    each = "1 picture" if estimate["images_per_prompt"] == 1 else f"{estimate['images_per_prompt']} pictures"
    lines = [f"prompts    {estimate['prompts']:,}, {each} each"]
    for row, most in estimate["pictures_decoded_at_most"].items():
        lines.append(f"{row:18} at most {most:,.0f} pictures decoded")
    if "drawing_at_most" in estimate:
        lines.append(f"drawing    at most {_amounts(estimate['drawing_at_most'])}")
    for judge, number in estimate["judgements"].items():
        cost = estimate.get("judging", {}).get(judge)
        lines.append(f"judging    {number:,} pictures by {judge}{f', {_amounts(cost)}' if cost else ''}")
    if "drawing_at_most" not in estimate:
        lines.append("no calibration, so no time: --calibration 4 tries four prompts")
    return "\n".join(lines)


def _amounts(cost: Mapping[str, float]) -> str:
    others = (f"{_amount(amount)} {name.replace('_', ' ')}" for name, amount in cost.items() if name != "seconds")
    return ", ".join([_time(cost["seconds"]), *others])


def _amount(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 1000 else f"{amount:.4g}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
