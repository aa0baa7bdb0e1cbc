"""How a crew of workers scales: pictures per second of 1 and 2 workers beside a single process, in one run.

    python -m milr_benchmarks.scaling --workers 1,2 --cpus-per-worker 1

Every process uses the same number of CPU threads. Starting and loading are told apart: they are paid once a run.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

import milr
from milr.cluster import Load, open_crew
from milr.errors import MilrError
from milr.events import Event, Stepped
from milr.models.base import UnifiedModel
from milr.prompts import Prompt, read_prompts
from milr.rewards import Reward, load_reward
from milr.search import refine

_PROMPTS = Path(__file__).parent / "scenes" / "prompts.jsonl"

Search = Callable[[Sequence[Prompt]], Iterable[Event]]


@dataclass(frozen=True)
class Figure:
    """One row.

    Attributes:
        workers: 0 for the single process.
        rates: pictures per second of each repeat.
        starting: seconds until the first pictures were there: the cluster, the workers, their models.
    """

    workers: int
    rates: list[float]
    starting: float

    @property
    def rate(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.rates)


def load(model: str, reward: str, device: str) -> tuple[UnifiedModel, Reward]:
    """What each process holds."""
    network = milr.load_model(model, device=device)
    return network, load_reward(reward or network.facts.default_reward or "", network, device)


def measure(search: Search, workers: int, prompts: Sequence[Prompt], repeats: int, began: float) -> Figure:
    """Rates of a way to search, after a round that loads and warms."""
    _pictures(search(prompts[: 2 * max(1, workers)]))
    starting = time.perf_counter() - began
    rates = []
    for _ in range(repeats):
        begin = time.perf_counter()
        drawn = _pictures(search(prompts))
        rates.append(drawn / (time.perf_counter() - begin))
    return Figure(workers, rates, starting)


def _pictures(events: Iterable[Event]) -> int:
    return sum(len(event.step.rollouts) for event in events if isinstance(event, Stepped))


def figures(
    make: Load,
    prompts: Sequence[Prompt],
    sizes: Sequence[int],
    threads: int,
    device: str,
    repeats: int,
    options: dict[str, Any],
) -> Iterator[Figure]:
    """The single process first, then crews."""
    torch.set_num_threads(threads)
    yield _single(make, prompts, device, repeats, options)
    for size in sizes:
        began = time.perf_counter()
        with open_crew(make, workers=size, cpus_per_worker=threads, device=device) as crew:
            crew.assemble()
            yield measure(partial(crew.refine, **options), size, prompts, repeats, began)


def _single(
    make: Load,
    prompts: Sequence[Prompt],
    device: str,
    repeats: int,
    options: dict[str, Any],
) -> Figure:
    """In a frame of its own, so that its model has left the device before the crews load theirs."""
    began = time.perf_counter()
    model, reward = make(device)

    def search(some: Sequence[Prompt]) -> Iterator[Event]:
        return refine(model, some, reward, **options)

    return measure(search, 0, prompts, repeats, began)


def format_table(rows: Sequence[Figure]) -> str:
    """Markdown."""
    lines = ["| process | pictures/s | of all repeats | against the single process | start |", "|---|---|---|---|---|"]
    for row in rows:
        name = f"{row.workers} worker{'s' * (row.workers > 1)}" if row.workers else "single process"
        lines.append(
            f"| {name} | {row.rate:.2f} | {min(row.rates):.2f} to {max(row.rates):.2f} | "
            f"{row.rate / rows[0].rate:.2f} | {row.starting:.1f} s |"
        )
    return "\n".join(lines)


@click.command(help="Time crews of workers on a Ray cluster of this machine against a single process.")
@click.option("--model", default="mini", show_default=True)
@click.option("--reward", default="", help="The model's own critic when not given.")
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option("--workers", default="1,2", show_default=True, help="Sizes of crews.")
@click.option("--cpus-per-worker", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--searches", default=24, show_default=True, type=click.IntRange(min=1), help="Of each repeat.")
@click.option("--steps", default=1, show_default=True, type=click.IntRange(min=0))
@click.option("--samples", default=4, show_default=True, type=click.IntRange(min=1))
@click.option("--batch", type=click.IntRange(min=1), help="Searches that travel together; 4 on a CPU.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True)
def main(
    model: str,
    reward: str,
    device: str,
    workers: str,
    cpus_per_worker: int,
    searches: int,
    steps: int,
    samples: int,
    batch: int | None,
    repeats: int,
    as_json: bool,
) -> None:
    """Measure and print."""
    try:
        sizes = [int(size) for size in workers.split(",")]
    except ValueError:
        raise click.UsageError(f"--workers {workers!r} is no list of whole numbers, such as 1,2.") from None
    options: dict[str, Any] = {"steps": steps, "samples": samples, "target": math.nan}  # the same work for all
    options["batch"] = batch or (4 if device == "cpu" else None)
    prompts = read_prompts(_PROMPTS)[:searches]
    rows = []
    try:
        for row in figures(partial(load, model, reward), prompts, sizes, cpus_per_worker, device, repeats, options):
            rows.append(row)
            click.echo(f"{row.workers} workers: {row.rate:.2f} pictures/s", err=True)
    except MilrError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        machine = {"cpus": os.cpu_count(), "platform": platform.platform(), "torch": torch.__version__}
        facts = {"model": model, "device": device, "cpus_per_worker": cpus_per_worker, "searches": len(prompts)}
        click.echo(json.dumps(machine | facts | {"rows": [asdict(row) | {"rate": row.rate} for row in rows]}, indent=1))
    else:
        click.echo(format_table(rows))


if __name__ == "__main__":
    main()
