"""Trackers: Weights & Biases, Trackio and TensorBoard, as listeners of a search's events.

    with open_trackers(["tensorboard"], run, "janus-geneval", config) as trackers:
        for event in search:
            trackers.show(event)
        trackers.summary({"overall": 0.8})

The step axis counts the steps of all searches of the run. A run that is resumed goes on where its trace ends, in the
same run of the tracker. A tracker that fails is named once on the log and left out from then on; it never ends a run.

Accepted: steps of a failed search are done again on resume, and are then counted once; what a killed process had not
yet handed over is missing in the tracker, and in it alone.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from milr.errors import UnknownNameError, UsageError
from milr.events import Event, Failed, Finished, Key, Progress, Stepped
from milr.rewards import one_line
from milr.run_files import read_lines, to_json
from milr.tracker_libraries import TRACKERS, Figures, Tracker

MOST_SERIES = 8  # searches with a chart of their own; of more, nobody finds one
MOST_PICTURES = 64  # the first that end are enough to see how it goes; a benchmark has thousands

_log = logging.getLogger(__name__)


def check_trackers(names: Sequence[str]) -> None:
    """Refuse what cannot be opened, before any work.

    Raises:
        UnknownNameError: there is no such tracker.
        UsageError: its package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise UnknownNameError("tracker", name, TRACKERS)
        if find_spec(name) is None:
            raise UsageError(f"--track {name} needs the package {name!r}; install it with: pip install 'milr[{name}]'.")


def open_trackers(names: Sequence[str], run: Path, name: str, config: Mapping[str, Any], searches: int = 0) -> Trackers:
    """Trackers of a run whose folder is open; a context manager.

    Args:
        names: of trackers; none makes listeners to nothing.
        run: the run folder; what its trace holds is counted as done.
        name: of the run, for people.
        config: its settings, free of keys.
        searches: how many there are to do, where that is known; few of them get charts of their own.

    Raises:
        UnknownNameError, UsageError: as `check_trackers`.
        ResumeError: the run folder is damaged.
    """
    check_trackers(names)
    if not names:
        return Trackers({}, _Tally(), 0)
    tally = _Tally.of_run(run)
    plain = json.loads(to_json(config))
    opened: dict[str, Tracker] = {}
    for each in dict.fromkeys(names):
        try:
            opened[each] = TRACKERS[each](run, name, plain, tally.steps)
        except Exception as error:
            _leave_out(each, error)
    return Trackers(opened, tally, searches)


class Trackers:
    """Listens to the events of a run. Use `open_trackers`."""

    def __init__(self, trackers: dict[str, Tracker], tally: _Tally, searches: int) -> None:
        self._trackers, self._tally = trackers, tally
        self._has_series = 0 < searches <= MOST_SERIES

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def places(self) -> list[str]:
        """Where to look at the run, one line for each tracker that is open."""
        return [tracker.place for tracker in self._trackers.values()]

    def show(self, event: Event) -> None:
        """Tell the trackers what happened."""
        if not self._trackers:
            return
        if isinstance(event, Stepped):
            self._tally.count_step(_key(event), event.progress.best.reward, event.progress.images_decoded)
            figures = _of_step(event) | (_of_search(event) if self._has_series else {})
        elif isinstance(event, Finished | Failed):
            self._tally.count_end(failed=isinstance(event, Failed))
            figures = {}  # of all searches only
        else:
            return
        step = self._tally.steps
        figures = _finite(figures | self._tally.figures())
        self._tell(lambda tracker: tracker.log(figures, step))
        if isinstance(event, Finished | Failed) and event.progress and self._tally.ended <= MOST_PICTURES:
            image, caption = event.progress.best.image, _caption(event, event.progress)
            self._tell(lambda tracker: tracker.picture(image, caption, step))

    def summary(self, figures: Mapping[str, Any]) -> None:
        """What the run came to: the numbers of a mapping, nested ones as "outer/inner"."""
        numbers = _finite(_flat(figures))
        self._tell(lambda tracker: tracker.summary(numbers, self._tally.steps))

    def close(self) -> None:
        """Hand over what is left; harmless when done twice."""
        self._tell(lambda tracker: tracker.close())
        self._trackers.clear()

    def _tell(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                tell(tracker)
            except Exception as error:  # whatever a library raises, no run ends for it
                _leave_out(name, error)
                del self._trackers[name]


class _Tally:
    """Sums over all searches of a run."""

    def __init__(self) -> None:
        self.steps = self.ended = self.failed = 0
        self._best: dict[Key, float] = {}
        self._decoded: dict[Key, float] = {}
        self._sum_of_best = self._sum_of_decoded = 0.0  # kept: adding up thousands at each step would take its time

    @classmethod
    def of_run(cls, run: Path) -> _Tally:
        """What earlier processes did."""
        tally = cls()
        for path in sorted((run / "trace").glob("*.jsonl")):
            for line in read_lines(path):
                tally.count_step((path.stem, line["image_index"]), line["best_reward"], line["images_decoded"])
        for _ in read_lines(run / "samples.jsonl"):
            tally.count_end(failed=False)  # an open run folder has dropped those of failed searches
        return tally

    def count_step(self, key: Key, best: float | None, decoded: float) -> None:
        self.steps += 1
        self._sum_of_decoded += decoded - self._decoded.get(key, 0.0)
        self._decoded[key] = decoded
        if best is not None and math.isfinite(best):
            self._sum_of_best += best - self._best.get(key, 0.0)
            self._best[key] = best

    def count_end(self, failed: bool) -> None:
        self.ended += 1
        self.failed += failed

    def figures(self) -> dict[str, float]:
        best = {"run/best_reward": self._sum_of_best / len(self._best)} if self._best else {}
        return best | {
            "run/pictures_decoded": self._sum_of_decoded,
            "run/searches_ended": self.ended,
            "run/searches_failed": self.failed,
        }


def _of_step(event: Stepped) -> dict[str, float]:
    """One step of whichever search it was."""
    step = event.step
    rewards = [score.value for score in step.scores if score.value is not None]
    figures = step.facts | {"seconds": step.seconds} | ({"reward": fmean(rewards)} if rewards else {})
    return {f"step/{name}": value for name, value in figures.items()}


def _of_search(event: Stepped) -> dict[str, float]:
    """A chart of its own."""
    name = "{}-{}".format(*_key(event))
    best = event.progress.best.reward
    figures = {"pictures_decoded": event.progress.images_decoded} | ({} if best is None else {"best_reward": best})
    return {f"{name}/{figure}": value for figure, value in figures.items()}


def _key(event: Event) -> Key:
    return (event.prompt.id, event.image_index)


def _caption(event: Event, progress: Progress) -> str:
    reward = "no score" if progress.best.reward is None else f"reward {progress.best.reward:.3f}"
    return f"{event.prompt.text} ({reward}, step {progress.best.step})"


def _finite(figures: Figures) -> dict[str, float]:
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            numbers |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{prefix}{name}"] = value
    return numbers


def _leave_out(name: str, error: Exception) -> None:
    reason = one_line(str(error), 200) or type(error).__name__
    _log.warning("tracker %r is left out from here on: %s", name, reason)
