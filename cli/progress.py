"""What a run says on stderr: a bar on a terminal, a line for each improvement elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import click
from tqdm import tqdm

from milr.events import Event, Failed, Finished, Started, Stepped

Style = Literal["bar", "lines", "none"]


def progress_style(quiet: bool) -> Style:
    """A bar where a person is looking."""
    if quiet:
        return "none"
    return "bar" if sys.stderr.isatty() else "lines"


class ProgressDisplay:
    """Listens to the events of a run. A context manager.

    Args:
        searches: how many there are to do.
        steps: of each, step 0 not counted.
    """

    def __init__(self, style: Style, searches: int, steps: int) -> None:
        self._style, self._searches, self._steps = style, searches, steps
        self._ended = 0
        self._begun: dict[tuple[str, int], int] = {}  # steps that are on the bar
        self._bar = tqdm(
            total=searches * (steps + 1),
            disable=style != "bar",
            unit="step",
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
        )

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Room for other output: the bar is taken off the terminal and drawn again below."""
        with tqdm.external_write_mode():
            yield

    def show(self, event: Event) -> None:
        """Tell the person what happened."""
        title = textwrap.shorten(event.prompt.text, 40, placeholder="...")
        key = (event.prompt.id, event.image_index)
        if isinstance(event, Started):
            self._bar.update(event.steps_done - self._begun.get(key, 0))  # a search may be taken over by another worker
            self._begun[key] = event.steps_done
            self._bar.set_description_str(title)
            if event.steps_done:
                self._say(f"{title}: goes on after step {event.steps_done - 1}")
        elif isinstance(event, Stepped):
            self._bar.update(1)
            self._begun[key] = event.step.index + 1
            best = event.progress.best.reward
            reward = "no score yet" if best is None else f"reward {best:.3f}"
            self._bar.set_postfix_str(reward)
            if event.improved:
                self._say(f"{title}: step {event.step.index}/{self._steps}, {reward}")
        elif isinstance(event, Finished | Failed):
            self._ended += 1
            steps_done = event.progress.steps_done if event.progress else 0
            self._bar.update(self._steps + 1 - steps_done)  # those that an early end saved
            if self._searches > 1:
                self._say(f"{self._ended} of {self._searches} images done")

    def _say(self, line: str) -> None:
        if self._style == "lines":
            click.echo(line, err=True)


@contextmanager
def judging_progress(style: Style) -> Iterator[Callable[[str, int, int], None]]:
    """What tells the person how far a judge is: called with its name, pictures done and pictures to do."""
    bars: dict[str, tqdm[Any]] = {}

    def report(judge: str, done: int, total: int) -> None:
        if style == "lines" and done == total:
            click.echo(f"{judge}: {done} pictures judged", err=True)
        if judge not in bars:
            bars[judge] = tqdm(total=total, desc=judge, unit="picture", disable=style != "bar", dynamic_ncols=True)
        bars[judge].update(done - bars[judge].n)

    try:
        yield report
    finally:
        for bar in bars.values():
            bar.close()
