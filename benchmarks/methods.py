"""Methods side by side on GenEval's prompts: same images, same critic, reported by critic and by a held-out judge.

    python -m milr_benchmarks.methods run --data evaluation_metadata.jsonl --seeds 1,2,3 --out results --device cuda
    python -m milr_benchmarks.methods table results

`run` writes one JSON file per row and seed and skips those that exist. `table` prints, for each row and image budget,
GenEval's overall score (mean of the six tag means) over all seeds with 95 % bootstrap intervals over prompts, and the
difference from best-of-n paired by prompt. Every row starts from the same first picture where its sampling is the same.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import milr
from milr.events import Failed, Finished, Stepped
from milr.models.base import UnifiedModel
from milr.presets import PAPER
from milr.prompts import Prompt, read_prompts
from milr.rewards import Reward, load_reward
from milr.run_files import to_json, write_file
from milr.search import default_sampling, refine

BUDGETS = (1, 8, 16)
BOOTSTRAPS = 2_000
Correct = NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        critic: mode of the `geneval` critic; "binary" stops a search at its first success.
        target: reward at which a search stops; the critic's own when not given, NaN for none.
        sampling: fields of `Sampling` that differ from the model's own.
    """

    method: str
    samples: int = 4
    critic: str = "dense"
    target: float | None = None
    keep: str = "best"
    sampling: dict[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


_PAPER_SAMPLING = {key: PAPER[key] for key in ("guidance", "temperature", "reasoning_temperature")}
_PAPER_OPTIONS = {key.removeprefix("method.milr."): value for key, value in PAPER.items() if key.startswith("method.")}
_PAPER_AT_REST = {**_PAPER_OPTIONS, "lr": 0.0}
_PAPER = Row("milr", 1, "binary", keep="last", sampling=_PAPER_SAMPLING, options=_PAPER_OPTIONS)

ROWS: dict[str, Row] = {
    "best-of-n": Row("best-of-n", target=math.nan),
    "best-of-n-early-stop": Row("best-of-n", 1, "binary"),
    "resample": Row("resample", target=math.nan),
    "random-direction": Row("random-direction", target=math.nan),
    "milr": Row("milr", target=math.nan),
    "paper": _PAPER,
    "paper-lr-0": replace(_PAPER, options=_PAPER_AT_REST),
    # The published recipe, but sampled as the base is: its guidance of 5 suits another model than `mini`.
    "paper-own-sampling": replace(_PAPER, sampling={}),
    "paper-own-sampling-lr-0": replace(_PAPER, sampling={}, options=_PAPER_AT_REST),
}


def run_row(
    row: Row, model: UnifiedModel, prompts: Sequence[Prompt], seed: int, batch: int | None, device: str
) -> dict[str, Any]:
    """Searches every prompt; who was right at each budget, by critic and judge, and what it cost."""
    critic = load_reward("geneval", model, device, {"geneval": {"mode": row.critic}})
    judge = load_reward("scenes-judge", model, device)
    budgets = [budget for budget in BUDGETS if budget == 1 or budget % row.samples == 0]
    pictures: dict[int, dict[str, Image.Image]] = {budget: {} for budget in budgets}
    costs: dict[int, dict[str, float]] = {budget: {} for budget in budgets}
    began = time.perf_counter()
    for event in refine(
        model,
        prompts,
        critic,
        row.method,
        steps=max(budgets) // row.samples - 1,
        samples=row.samples,
        seed=seed,
        sampling=replace(default_sampling(model), **row.sampling),
        batch=batch,
        target=row.target,
        keep=row.keep,
        method_options=row.options,
    ):
        if isinstance(event, Stepped):
            decoded = event.progress.images_decoded
            if event.step.index == 0:
                pictures[1][event.prompt.id] = event.step.rollouts[0].image
                costs[1][event.prompt.id] = 1.0
            for budget in budgets:
                if budget > 1 and decoded <= budget:
                    pictures[budget][event.prompt.id] = event.progress.best.image
                    costs[budget][event.prompt.id] = decoded
        elif isinstance(event, Failed):
            raise click.ClickException(f"{event.prompt.text}: {event.error}")
        elif isinstance(event, Finished):
            click.echo(".", nl=False, err=True)
    seconds = time.perf_counter() - began
    return {
        "row": asdict(row),
        "seed": seed,
        "model": model.fingerprint()[:16],
        "critic_version": critic.version,
        "judge_version": judge.version,
        "seconds": round(seconds, 1),
        "prompts": [prompt.id for prompt in prompts],
        "tags": [prompt.metadata["tag"] for prompt in prompts],
        "images": {str(budget): float(np.mean(list(costs[budget].values()))) for budget in budgets},
        "critic": {str(budget): _correct(critic, pictures[budget], prompts) for budget in budgets},
        "judge": {str(budget): _correct(judge, pictures[budget], prompts) for budget in budgets},
    }


def _correct(reward: Reward, pictures: Mapping[str, Image.Image], prompts: Sequence[Prompt]) -> list[int]:
    scores = reward.score([pictures[prompt.id] for prompt in prompts], prompts)
    return [int(score.value is not None and score.value > 0) for score in scores]


def overall(correct: Correct, tags: NDArray[np.str_]) -> float:
    """GenEval's score: the mean of the tags' means, over seeds and prompts [seeds, prompts]."""
    return float(np.mean([correct[:, tags == tag].mean() for tag in np.unique(tags)]))


def bootstrap(values: NDArray[np.float64], tags: NDArray[np.str_], seed: int = 0) -> tuple[float, float]:
    """95 % interval of `overall` over prompts drawn again within each tag; the seeds of a prompt stay together."""
    generator = np.random.default_rng(seed)
    per_prompt = values.mean(axis=0)
    means = np.zeros(BOOTSTRAPS)
    names = np.unique(tags)
    for tag in names:
        members = per_prompt[tags == tag]
        means += generator.choice(members, (BOOTSTRAPS, len(members))).mean(axis=1) / len(names)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Cell:
    """One row of the table at one budget, all seeds together."""

    row: str
    budget: int
    images: float
    seeds: tuple[int, ...]
    critic: Correct  # [seeds, prompts]
    judge: Correct
    tags: NDArray[np.str_]


def read_cells(folder: Path) -> list[Cell]:
    """All results of a folder, in the order of `ROWS`, then of any others."""
    results: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        results.setdefault(path.stem.rpartition("-seed")[0], []).append(json.loads(path.read_text("utf-8")))
    order = {name: index for index, name in enumerate(ROWS)}
    cells = []
    for name in sorted(results, key=lambda name: order.get(name, len(order))):
        runs = results[name]
        for budget in runs[0]["critic"]:
            cells.append(
                Cell(
                    name,
                    int(budget),
                    float(np.mean([run["images"][budget] for run in runs])),
                    tuple(run["seed"] for run in runs),
                    np.array([run["critic"][budget] for run in runs], dtype=bool),
                    np.array([run["judge"][budget] for run in runs], dtype=bool),
                    np.array(runs[0]["tags"]),
                )
            )
    return cells


def format_table(cells: Sequence[Cell]) -> str:
    """A Markdown table; the base is the first picture of best-of-n."""
    reference = {cell.budget: cell for cell in cells if cell.row == "best-of-n"}
    lines = [
        "| method | images | decoded | seeds | critic | judge | judge minus best-of-n |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for cell in cells:
        if cell.budget == 1 and cell.row not in ("best-of-n", "paper"):
            continue  # the same first picture
        name = cell.row if cell.budget > 1 else {"best-of-n": "base", "paper": "base of paper"}[cell.row]
        columns = [
            name,
            str(cell.budget),
            f"{cell.images:.1f}",
            str(len(cell.seeds)),
            _interval(cell.critic, cell),
            _interval(cell.judge, cell),
        ]
        control = reference.get(cell.budget)
        columns.append(_difference(cell, control) if control is not None and control is not cell else "")
        lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines)


def _difference(cell: Cell, control: Cell) -> str:
    """Judge minus the control's judge, over the seeds that both have; nothing where they have none or other prompts."""
    seeds = [seed for seed in cell.seeds if seed in control.seeds]
    if not seeds or not np.array_equal(cell.tags, control.tags):
        return ""
    ours = cell.judge[[cell.seeds.index(seed) for seed in seeds]].astype(float)
    theirs = control.judge[[control.seeds.index(seed) for seed in seeds]]
    return _interval(ours - theirs, cell, signed=True)


def _interval(values: NDArray[Any], cell: Cell, signed: bool = False) -> str:
    low, high = bootstrap(values.astype(float), cell.tags)
    sign = "+" if signed else ""
    return f"{overall(values, cell.tags):{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def format_tags(cells: Sequence[Cell]) -> str:
    """A Markdown table of the shares per tag that critic and judge find right."""
    names = sorted(set(cells[0].tags))
    lines = ["| method | images | " + " | ".join(names) + " |", "| --- | --- |" + " --- |" * len(names)]
    for cell in cells:
        members = [cell.tags == tag for tag in names]
        shares = [f"{cell.critic[:, rows].mean():.3f} / {cell.judge[:, rows].mean():.3f}" for rows in members]
        lines.append(f"| {cell.row} | {cell.budget} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def _parse_options(settings: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for setting in settings:
        key, _, value = setting.partition("=")
        try:
            yield key, json.loads(value)
        except json.JSONDecodeError:
            yield key, value


@click.group(help="Compare methods at equal images, critic and noise.")
def main() -> None:
    pass


@main.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True), help="GenEval's prompts.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of results.")
@click.option("--model", default="mini", show_default=True)
@click.option("--row", "rows", multiple=True, help="A row of the table; all of them when not given.")
@click.option("--set", "settings", multiple=True, help="Method option KEY=VALUE for the rows given, e.g. lr=0.01.")
@click.option("--guidance", type=float, help="Of rows that do not set it themselves; the model's own when not given.")
@click.option("--temperature", type=float, help="Likewise.")
@click.option("--reasoning-temperature", type=float, help="Likewise.")
@click.option("--target", type=float, help="Reward at which a search stops.")
@click.option("--name", default="", help="Name of the results; the row's own when not given.")
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option("--limit", default=0, help="Only every n-th prompt, so that at most this many are left.")
@click.option("--batch", type=int, help="Prompts that travel together.  [default: what fits into memory]")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="auto", show_default=True, help="bfloat16 is three times as fast on some CPUs.")
def run(
    data: Path,
    out: Path,
    model: str,
    rows: tuple[str, ...],
    settings: tuple[str, ...],
    target: float | None,
    guidance: float | None,
    temperature: float | None,
    reasoning_temperature: float | None,
    name: str,
    seeds: str,
    limit: int,
    batch: int | None,
    device: str,
    dtype: str,
) -> None:
    """Run rows of the table, one JSON file per row and seed."""
    prompts = read_prompts(data)
    given = {"guidance": guidance, "temperature": temperature, "reasoning_temperature": reasoning_temperature}
    common = {key: value for key, value in given.items() if value is not None}
    if limit:
        prompts = prompts[:: -(-len(prompts) // limit)]
    network = milr.load_model(model, device=device, dtype=dtype)
    out.mkdir(parents=True, exist_ok=True)
    for label in rows or ROWS:
        row = ROWS[label]
        row = replace(
            row,
            options={**row.options, **dict(_parse_options(settings))},
            sampling=common | row.sampling,
            target=row.target if target is None else target,
        )
        for seed in map(int, seeds.split(",")):
            path = out / f"{name or label}-seed{seed}.json"
            if not path.exists():
                result = run_row(row, network, prompts, seed, batch, str(network.device))
                write_file(path, to_json(result).encode())
                click.echo(f" {path.name}: {result['seconds']} s", err=True)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--tags", is_flag=True, help="Also critic / judge per tag.")
def table(folder: Path, tags: bool) -> None:
    """Print the table of a folder of results."""
    cells = read_cells(folder)
    click.echo(format_table(cells))
    if tags:
        click.echo("\n" + format_tags(cells))


if __name__ == "__main__":
    main()
