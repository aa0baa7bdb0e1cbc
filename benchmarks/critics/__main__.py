"""Which critic to trust: each one against the truth of fresh scenes, and as the one who chooses.

    python -m milr_benchmarks.critics pairs                               # the critics that ship with milr
    python -m milr_benchmarks.critics choices
    python -m milr_benchmarks.critics pairs --reward python:mine:warm     # one of your own beside them

`pairs`: one prompt and two pictures, of which one shows what is asked and the other does not (`pairs.py`), as a search
sees them, through the image tokens of `mini`, or with `--rendered` as they were painted.

    auc       a right picture scores higher than a wrong one, each of any prompt (ties count half)
    paired    the same of the two pictures of one prompt: what a search for one prompt needs; then by what is wrong
    accepted  share of pictures at or above the value from which the critic itself says "right"
    error     expected calibration error over ten bins, after a logistic curve fitted on the pairs of another seed has
              turned values into probabilities: 0 for a critic whose values always mean the same

`choices`: sixteen pictures of `mini` for each prompt of `scenes`, of which each critic takes the best; the third
detector, which has no part in any critic, says whether that is right (`choices.py`).

Intervals are 95 % bootstrap intervals. Any critic that can score a prompt with GenEval's metadata will do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

import milr
from milr.errors import MilrError
from milr.models.base import UnifiedModel
from milr.models.janus import Janus
from milr.prompts import Prompt
from milr.rewards import CachedReward, Combine, Composite, Part, Reward, Scale, load_reward, score_safely

from ..scenes import benchmark, tokeniser
from ..scenes.sprites import FontMissingError, load_sprites
from ..scenes.world import Painter
from .choices import choices, draw_pictures, score_pictures
from .figures import Values, figures, logistic_curve, markdown
from .pairs import Pairs, draw_pairs

FITTING_SEED, REPORTING_SEED = 71, 72  # of no training, and of no other table
JUDGE = "scenes-third"


@dataclass(frozen=True)
class Critic:
    """A row of the table.

    Attributes:
        weights: of the critics that it is made of, as `--reward` takes them.
        accepts: the value from which the critic itself calls a picture right; None where it never does.
        combine, scales, gates: how several make one.
    """

    weights: Mapping[str, float]
    accepts: float | None = None
    combine: Combine = "sum"
    scales: Mapping[str, Scale] = field(default_factory=dict)
    gates: Mapping[str, float] = field(default_factory=dict)


_OPTIONS = {"geneval, binary": {"mode": "binary"}, "scenes-judge, dense": {"mode": "dense"}}
_JUST_ABOVE_0 = 1e-12  # where dense values begin to be right

EMBEDDED: dict[str, Critic] = {
    "geneval": Critic({"geneval": 1}, _JUST_ABOVE_0),
    "geneval, binary": Critic({"geneval, binary": 1}, 1.0),
    "scenes-judge, dense": Critic({"scenes-judge, dense": 1}, _JUST_ABOVE_0),
    "self": Critic({"self": 1}, _JUST_ABOVE_0),
    "clip": Critic({"clip": 1}),
    "0.5 geneval + 0.5 self": Critic({"geneval": 0.5, "self": 0.5}, _JUST_ABOVE_0),
    "min of geneval, self": Critic({"geneval": 1, "self": 1}, _JUST_ABOVE_0, "min"),
    "0.7 geneval + 0.3 clip": Critic({"geneval": 0.7, "clip": 0.3}),
    "0.5 self + 0.5 clip": Critic({"self": 0.5, "clip": 0.5}),
    "product of geneval, self, clip": Critic(
        {"geneval": 1, "self": 1, "clip": 1},
        combine="product",
        scales={"geneval": (-1.0, 1.0), "self": (-1.0, 1.0), "clip": (-1.0, 1.0)},
    ),
    "clip, gate geneval=0": Critic({"clip": 1, "geneval": 0}, gates={"geneval": 0.0}),
}


def load_critics(rows: Mapping[str, Critic], model: UnifiedModel, device: str) -> dict[str, Reward]:
    """The critics of a table, ready; one that is in several rows is loaded once and scores each picture once.

    Raises:
        UsageError: one of them cannot be loaded.
    """
    single = {}
    for name in dict.fromkeys(name for row in rows.values() for name in row.weights):
        plugin = name.partition(",")[0] if name in _OPTIONS else name
        options = {plugin: _OPTIONS[name]} if name in _OPTIONS else {}
        single[name] = CachedReward(load_reward(plugin, model, device, options))
        single[name].check(Prompt("a photo of a red apple left of a dog"))
    return {
        title: Composite(
            [
                Part(name, single[name], weight, row.scales.get(name), row.gates.get(name))
                for name, weight in row.weights.items()
            ],
            row.combine,
        )
        for title, row in rows.items()
    }


def values_of(reward: Reward, pairs: Pairs) -> tuple[Values, Values]:
    """What a critic says of right and of wrong pictures; NaN where it fails."""
    scores = score_safely(reward, pairs.right + pairs.wrong, pairs.prompts * 2)
    values = np.array([np.nan if score.value is None else score.value for score in scores])
    return values[: len(pairs.prompts)], values[len(pairs.prompts) :]


_REWARD = click.option("--reward", "named", multiple=True, metavar="NAME", help="One more, as milr generate names it.")
_ONLY = click.option("--only", multiple=True, type=click.Choice([*EMBEDDED]), metavar="ROW", help="Only these rows.")
_DEVICE = click.option("--device", default="cpu", show_default=True)
_OUT = click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for the figures.")


@click.group()
def main() -> None:
    """Measure critics; each command prints a table."""


@main.command("pairs")
@_REWARD
@_ONLY
@click.option(
    "--count",
    type=click.IntRange(6),
    default=1024,
    show_default=True,
    help="Pairs; as many to fit on.",
)
@click.option("--rendered", is_flag=True, help="Pictures as they were painted, not as image tokens give them back.")
@click.option("--font", type=click.Path(dir_okay=False, path_type=Path), help="A NotoColorEmoji.ttf.")
@_DEVICE
@_OUT
def compare_pairs(
    named: tuple[str, ...],
    only: tuple[str, ...],
    count: int,
    rendered: bool,
    font: Path | None,
    device: str,
    out: Path | None,
) -> None:
    """Right and wrong pictures of fresh scenes, whose truth is known."""
    rows = _rows(named, only)
    with _explained():
        painter = Painter(load_sprites(font), device)
        model = milr.load_model("mini", device=device, dtype="float32")
        critics = load_critics(rows, model, device)
    assert isinstance(model, Janus)
    vq = model.network.model.vqmodel
    show = None if rendered else lambda images: tokeniser.reconstruct(vq, images)
    fitting, reporting = (draw_pairs(painter, count, seed, show) for seed in (FITTING_SEED, REPORTING_SEED))
    results = {}
    for name, critic in critics.items():
        curve = logistic_curve(*values_of(critic, fitting))
        results[name] = figures(*values_of(critic, reporting), reporting.kinds, rows[name].accepts, curve)
    _report(results, out)


@main.command("choices")
@_REWARD
@_ONLY
@click.option(
    "--pictures",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Of each prompt.",
)
@click.option("--seeds", default="73,74,75", show_default=True, help="Each draws all pictures anew.")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Only every so many-th prompt.")
@_DEVICE
@_OUT
def compare_choices(
    named: tuple[str, ...],
    only: tuple[str, ...],
    pictures: int,
    seeds: str,
    every: int,
    device: str,
    out: Path | None,
) -> None:
    """Pictures of `mini` for the prompts of `scenes`: which would each critic choose, and is it right?"""
    rows = _rows(named, only)
    with _explained():
        model = milr.load_model("mini", device=device)
        critics = load_critics(rows, model, device)
        judge = load_reward("geneval", model, device, {"geneval": {"detector": JUDGE, "mode": "binary"}})
    prompts = [Prompt(row["prompt"], metadata=row) for row in benchmark.load()[::every]]
    values: dict[str, list[Values]] = {name: [] for name in critics}
    verdicts: list[Values] = []
    for seed in map(int, seeds.split(",")):
        drawn = draw_pictures(model, prompts, pictures, seed)
        verdicts.append(score_pictures(judge, prompts, drawn))
        for name, critic in critics.items():
            values[name].append(score_pictures(critic, prompts, drawn))
    _report(choices({name: np.stack(parts) for name, parts in values.items()}, np.stack(verdicts) == 1), out)


def _rows(named: tuple[str, ...], only: tuple[str, ...]) -> dict[str, Critic]:
    rows = EMBEDDED | {name: Critic({name: 1}) for name in named}
    return {name: row for name, row in rows.items() if not only or name in (*only, *named)}


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (MilrError, FontMissingError) as error:
        raise click.ClickException(str(error)) from error


def _report(results: Mapping[str, Mapping[str, Any]], out: Path | None) -> None:
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=2) + "\n")
    click.echo(markdown(results))


if __name__ == "__main__":
    main()
