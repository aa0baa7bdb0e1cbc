"""Kills one evaluation many times with SIGKILL, goes on after each, and compares the end with an undisturbed run.

    python -m tests.kill_harness --kills 20 --seed 0

The victim is a real process that runs `milr evaluate` with all controls and tells at which points it writes; see
`kill_victims`. An undisturbed run says which points there are. A seeded generator chooses where to kill, every kind of
file at least once: some victims end by their own hand at a point, with half of a write's bytes on the disk; others are
killed from outside, at any moment shortly after a point; a torn line is followed by a kill in the midst of its repair.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.kill_victims import Attempt, Victims
from tests.plugin import write_plugin
from tests.run_contents import contents, damage, differences, drawn

APPENDED = ("samples.jsonl", "judgements.jsonl", "trace")
LONGEST_DELAY = 0.01  # seconds between a point and a kill from outside
LAST_POINT = "before replace: .results.json.part"  # met again by every victim that comes so far
OPTIONS = (
    *("--controls", "--limit", "3", "--samples-per-prompt", "2", "--steps", "2", "--samples", "2"),
    *("--reward", "brightness", "--normalise", "brightness=zscore"),  # a critic that remembers
)


@dataclass(frozen=True)
class Target:
    """Where a victim is to end."""

    point: str
    outside: bool = False


@dataclass
class Report:
    """What was killed where, and everything that is not as it should be.

    Attributes:
        points: of the undisturbed run, by kind of file.
        kills: each `Attempt.end`, in their order.
        wrong: empty when nothing was lost.
    """

    points: dict[str, int] = field(default_factory=dict)
    kills: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def kind_of(point: str) -> str:
    """The kind of file that a point, or the end of an attempt, is about."""
    path = PurePosixPath(point.rpartition(": ")[2])
    parts = path.parts[2:] if path.parts[:1] == ("controls",) else path.parts
    folder = parts[0] if parts else ""
    if folder in ("trace", "state") or (folder == "images" and ".png" in path.name):
        return folder
    name = path.name.removesuffix(".part")
    name = name.removeprefix(".") if name != path.name else name
    if "." not in name:
        return "folders"
    return "other files" if folder == "images" else name


def choose(points: Sequence[str], kills: int, generator: random.Random) -> list[Target]:
    """Targets in the order in which an evaluation comes by: each kind of file, then any moment, and repairs."""
    places: dict[str, list[int]] = {}
    for position, point in enumerate(points):
        if kind_of(point) not in APPENDED or point.startswith("inside write"):
            places.setdefault(kind_of(point), []).append(position)
    sure = {generator.choice(positions) for positions in places.values()}
    others = sorted(set(range(len(points))) - sure)
    torn = [position for position in sure if kind_of(points[position]) in APPENDED]
    anywhere = set(generator.sample(others, max(0, kills - len(sure) - len(torn))))
    targets = []
    for position in sorted(sure | anywhere):
        targets.append(Target(points[position], outside=position in anywhere))
        if position in torn:
            path = PurePosixPath(points[position].partition(": ")[2])
            moment = generator.choice(["before fsync", "before replace", "after replace"])
            targets.append(Target(f"{moment}: {path.with_name(f'.{path.name}.part')}"))
    return targets


def run_harness(folder: Path, kills: int, seed: int, fresh: bool = False) -> Report:
    """Kills one evaluation so many times; what is made for it lies in an empty folder.

    Raises:
        RuntimeError: the undisturbed run fails.
    """
    from tests.tiny import tiny_janus_folder

    model, plugin = folder / "tiny", write_plugin(folder / "plugin")
    model.mkdir()
    tiny_janus_folder(model)
    sys.path.insert(0, str(plugin))
    command = ["evaluate", "shades", "--model", str(model), *OPTIONS, "--out"]

    run = folder / "run"  # both runs have it as their folder
    victims = Victims(run, plugin, fresh)
    undisturbed = victims.attempt([*command, str(run)])
    if undisturbed.code:
        raise RuntimeError(f"the undisturbed run fails:\n{undisturbed.said}")
    wanted = contents(run)
    shutil.rmtree(run)

    report = Report()
    for point in undisturbed.points:
        report.points[kind_of(point)] = report.points.get(kind_of(point), 0) + 1
    generator = random.Random(seed)
    waiting = choose(undisturbed.points, kills, generator)
    finished: dict[str, tuple[int, int]] = {}
    while True:
        begun = (run / "run.json").exists()
        arguments = ["evaluate", "--resume", "--out", str(run)] if begun else [*command, str(run)]
        attempt, waiting = _next_attempt(victims, arguments, waiting, kills - len(report.kills), generator)
        report.wrong += damage(run)
        before, finished = finished, drawn(run)
        report.wrong += [f"{picture} was drawn again" for picture in before if finished.get(picture) != before[picture]]
        if attempt.code != -signal.SIGKILL:
            break
        report.kills.append(attempt.end)
    if attempt.code:
        report.wrong.append(f"exit code {attempt.code}: {attempt.said}")
    if len(report.kills) < kills:
        report.wrong.append(f"only {len(report.kills)} kills")
    if not damage(run):
        report.wrong += differences(wanted, contents(run))
    return report


def _next_attempt(
    victims: Victims, arguments: Sequence[str], waiting: list[Target], left: int, generator: random.Random
) -> tuple[Attempt, list[Target]]:
    """A victim of the first target, and the targets that are left then.

    Searches that travel together go on in another order than they would have had, so that a target may be passed
    unseen; then the first one of a later row is met, and what is missing is made up for at the very end.
    """
    if left <= 0:
        return victims.attempt(arguments), []
    if not waiting:
        return victims.attempt(arguments, [LAST_POINT]), []
    target, *later = waiting
    stops = [LAST_POINT] if left > len(waiting) else []
    stops += [other.point for other in later if _row(other.point) not in ("", _row(target.point))]
    if target.outside:
        at_latest = later[0].point if later else LAST_POINT
        attempt = victims.attempt(
            arguments, stops, target.point, generator.uniform(0, LONGEST_DELAY), at_latest=at_latest
        )
    else:
        attempt = victims.attempt(arguments, [target.point, *stops])
    end = attempt.points[-1] if attempt.points else ""
    if target.point in attempt.points:
        return attempt, later
    passed = next((number for number, other in enumerate(later) if other.point == end), len(later))
    return attempt, later[passed + 1 :]


def _row(point: str) -> str:
    """Which row of the table a point is met in; "" for the first, and for what every victim does at its start."""
    parts = PurePosixPath(point.partition(": ")[2]).parts
    if parts[-1:] in ((".results.json.part",), ("results.json",)) and len(parts) == 1:
        return "the end"
    return parts[1] if parts[:1] == ("controls",) and len(parts) > 1 else ""


def _lines(report: Report) -> Iterator[str]:
    hit = {kind_of(kill) for kill in report.kills}
    for number, kill in enumerate(report.kills, start=1):
        yield f"{number:3}  {kill}"
    for kind, count in sorted(report.points.items()):
        yield f"{kind}: {count} points{'' if kind in hit else ', never killed there'}"
    yield from report.wrong
    yield "not identical" if report.wrong else f"identical after {len(report.kills)} kills"


def main() -> int:
    """Entry point of `python -m tests.kill_harness`."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_harness", description="Kill an evaluation, compare.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="an interpreter of its own for each victim")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        report = run_harness(Path(folder), given.kills, given.seed, given.fresh)
    print(json.dumps(vars(report)) if given.json else "\n".join(_lines(report)))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
