"""`--dry-run`: what an evaluation would take, from counting and from a short calibration that writes nothing.

The calibration draws the first two steps of a few searches as the run itself would, times the second one (the first
warms up), and lets every judge look at a few of the pictures. A judge that is paid is paid for these, and counts
nothing for replies that it has kept; `--calibration 0` asks nobody anything.
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


def show_cost(
    rows: Sequence[Row], judges: Sequence[Judge], prompts: Sequence[Prompt], calibration: int, workers: int
) -> int:
    """Print what would run and what it would take; returns the exit code.

    Args:
        calibration: prompts that are tried; 0 for none.
        workers: that draw at the same time.
    """
    main = rows[0].settings
    wanted = len(prompts) * main["images"]
    most = {row.facts.row: wanted * most_pictures(row.settings.values) for row in rows}
    estimate: dict[str, Any] = {
        "prompts": len(prompts),
        "images_per_prompt": main["images"],
        "images": wanted * len(rows),
        "pictures_decoded_at_most": most,
        "judgements": {judge.name: wanted * len(rows) for judge in judges},
    }
    if calibration:
        tried = prompts[:: max(1, len(prompts) // calibration)][:calibration]
        drawing, pictures = _try_search(rows[0], tried)
        drawing = replace(drawing, seconds=drawing.seconds / workers)
        estimate["drawing_at_most"] = drawing.times(sum(most.values()))
        estimate["judging"] = {
            judge.name: _try_judge(judge, pictures[:_JUDGED], tried[:_JUDGED]).times(wanted * len(rows))
            for judge in judges
        }
    click.echo(to_json(estimate) if main["json"] else _described(estimate))
    return 0


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


def _try_judge(judge: Judge, pictures: Sequence[Image.Image], prompts: Sequence[Prompt]) -> Cost:
    began = time.perf_counter()
    scores = score_safely(judge.reward, pictures, prompts)
    seconds = (time.perf_counter() - began) / len(scores)
    failed = next((score.error for score in scores if score.value is None), None)
    if failed:
        click.echo(f"milr: {judge.name} cannot judge: {failed}", err=True)
    return Cost(seconds, _counted(scores))


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
        cost = f", {_amounts(estimate['judging'][judge])}" if "judging" in estimate else ""
        lines.append(f"judging    {number:,} pictures by {judge}{cost}")
    if "drawing_at_most" not in estimate:
        lines.append("no calibration, so no time: --calibration 4 tries four prompts")
    return "\n".join(lines)


def _amounts(cost: Mapping[str, float]) -> str:
    others = (f"{amount:,.4g} {name.replace('_', ' ')}" for name, amount in cost.items() if name != "seconds")
    return ", ".join([_time(cost["seconds"]), *others])


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
