"""Kills one evaluation many times with SIGKILL, goes on after each, and compares the end with an undisturbed run.

    python -m tests.kill_harness --kills 20 --seed 0

The victim is a real process that runs `milr evaluate` with all controls. Before it starts, the calls with which Python
writes are watched: each open, write, fsync, replace, mkdir and unlink below the run folder is a *point*, told to the
harness as a line such as "inside write: images/fruit-0/.0.png.part". An undisturbed run says which points there are. From
them a seeded generator chooses where to kill, every kind of file at least once: some victims end by their own hand at a
point, with half of the bytes of a write on the disk; others are killed from outside at any moment shortly after a point;
a torn line is followed by a kill in the midst of its repair.

A victim is forked from this process, which has everything imported and has decoded nothing: that saves the start of an
interpreter, and little else differs. With --fresh each one is an interpreter of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from PIL import Image
from safetensors import safe_open

from milr.run_files import is_part
from tests.plugin import write_plugin

APPENDED = ("samples.jsonl", "judgements.jsonl", "trace")
LONGEST_DELAY = 0.02  # seconds between a point and a kill from outside
LAST_POINT = "before replace: .results.json.part"  # met again by every victim that comes so far
OPTIONS = (
    *("--controls", "--limit", "3", "--samples-per-prompt", "2", "--steps", "2", "--samples", "2"),
    *("--reward", "brightness", "--normalise", "brightness=zscore"),  # a critic that remembers
)


class Watch:
    """Tells the points of this process as it comes by, and ends it with SIGKILL at any of `stops`.

    Args:
        report: a descriptor that takes the points, a line each.
        late: (point, stop): a stop that counts only behind that point.
    """

    def __init__(self, run: Path, stops: Sequence[str], report: int, late: tuple[str, str] | None = None) -> None:
        self._run, self._stops, self._report, self._late = run, set(stops), report, late
        self._open_files: dict[int, Path] = {}

    def install(self) -> None:
        """Replaces the calls with which Python's own library writes, for as long as this process lives."""
        io.open = partial(self._open, io.open)
        os.open = partial(self._open_descriptor, os.open)
        os.fsync = partial(self._fsync, os.fsync)
        for name in ("replace", "mkdir", "unlink", "rmdir"):
            setattr(os, name, partial(self._call, name, getattr(os, name)))

    def come_by(self, moment: str, path: Path, at_the_end: Callable[[], object] = lambda: None) -> None:
        """A point; `at_the_end` is done only if it is the last one."""
        if not path.is_relative_to(self._run):
            return
        point = f"{moment}: {path.relative_to(self._run).as_posix()}"
        os.write(self._report, f"{point}\n".encode())
        if point in self._stops:
            at_the_end()
            os.kill(os.getpid(), signal.SIGKILL)
        if self._late and point == self._late[0]:
            self._stops.add(self._late[1])

    def remember(self, descriptor: int, path: Path) -> None:
        """Whose descriptor it is."""
        self._open_files[descriptor] = path

    def _open(self, plainly: Callable[..., Any], file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        path = Path(os.fsdecode(file)) if isinstance(file, str | bytes | os.PathLike) else None
        if path is None or not set(mode) & set("wax+") or not path.is_relative_to(self._run):
            return plainly(file, mode, *more, **named)
        self.come_by("before open", path)
        raw = _WatchedFile(self, path, mode.replace("b", ""))
        self.remember(raw.fileno(), path)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered)

    def _open_descriptor(self, plainly: Callable[..., int], path: Any, *more: Any, **named: Any) -> int:
        descriptor = plainly(path, *more, **named)
        self.remember(descriptor, Path(os.fsdecode(path)))
        return descriptor

    def _fsync(self, plainly: Callable[[int], None], descriptor: int) -> None:
        path = self._open_files[descriptor]
        self.come_by("before fsync", path)
        plainly(descriptor)
        self.come_by("after fsync", path)

    def _call(self, name: str, plainly: Callable[..., None], path: Any, *more: Any, **named: Any) -> None:
        place = Path(os.fsdecode(path))
        self.come_by(f"before {name}", place)
        plainly(path, *more, **named)
        self.come_by(f"after {name}", place)


class _WatchedFile(io.FileIO):
    """A file of which a write may be the last thing that its process does, and may be done by half."""

    def __init__(self, watch: Watch, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._watch, self._path = watch, path

    def write(self, content: Any) -> int:
        view = memoryview(content)
        self._watch.come_by("inside write", self._path, lambda: super(_WatchedFile, self).write(view[: len(view) // 2]))
        return super().write(view)


def be_victim(
    arguments: Sequence[str], run: str, stops: Sequence[str], late: tuple[str, str] | None, report: int
) -> NoReturn:
    """Runs a command line of milr in this process, which ends with it; the others are `Watch`'s."""
    import torch
    from milr_cli.main import main

    torch.set_num_threads(1)
    Watch(Path(run), stops, report, late).install()
    sys.argv = ["milr", *arguments]
    main()
    raise AssertionError("main() returned")


@dataclass(frozen=True)
class Attempt:
    """How a victim ended.

    Attributes:
        points: by which it came, the last one last.
        outside: it was killed from outside rather than by its own hand.
        code: its exit code; -9 when killed.
        said: on stdout and stderr.
    """

    points: list[str]
    outside: bool
    code: int
    said: str

    @property
    def end(self) -> str:
        """Where it was killed, for people."""
        point = self.points[-1] if self.points else "nothing"
        return f"from outside, after {point}" if self.outside else point


@dataclass(frozen=True)
class Victims:
    """How victims are started, and on which run folder they work."""

    run: Path
    plugin: Path
    fresh: bool = False

    def attempt(
        self,
        arguments: Sequence[str],
        stops: Sequence[str] = (),
        outside: str | None = None,
        delay: float = 0.0,
        at_latest: str | None = None,
    ) -> Attempt:
        """One victim, from its start to its end.

        Args:
            stops: points at which it ends by its own hand.
            outside: the point after which it is killed from here.
            delay: seconds from then on.
            at_latest: the point behind that one at which it does not wait for it.
        """
        late = (outside, at_latest) if outside and at_latest else None
        come, tell = os.pipe()
        with tempfile.TemporaryFile() as log:
            start = self._spawned if self.fresh else self._forked
            pid = start((arguments, str(self.run), stops, late, tell), log.fileno())
            os.close(tell)
            points = []
            with os.fdopen(come, encoding="utf-8") as lines:
                for line in lines:
                    points.append(line.rstrip("\n"))
                    if points[-1] == outside:
                        time.sleep(delay)
                        os.kill(pid, signal.SIGKILL)
                        outside = None
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            log.seek(0)
            from_outside = not points or points[-1] not in (*stops, at_latest)
            return Attempt(points, from_outside, code, log.read().decode())

    def _forked(self, victim: tuple[Any, ...], log: int) -> int:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            os.dup2(log, 1)
            os.dup2(log, 2)
            be_victim(*victim)
        except SystemExit as ending:
            code = int(ending.code or 0)
        finally:
            sys.stdout.flush()
            os._exit(code)

    def _spawned(self, victim: tuple[Any, ...], log: int) -> int:
        program = f"from tests.kill_harness import be_victim; be_victim(*{victim!r})"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(self.plugin), str(Path(__file__).parents[1])))}
        return subprocess.Popen(
            [sys.executable, "-c", program], env=environment, pass_fds=victim[-1:], stdout=log, stderr=log
        ).pid


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
        report.wrong += [f"{key} was drawn again" for key, file in finished.items() if done(run).get(key) != file]
        finished = done(run)
        if attempt.code != -signal.SIGKILL:
            break
        report.kills.append(attempt.end)
    if attempt.code:
        report.wrong.append(f"exit code {attempt.code}: {attempt.said}")
    if len(report.kills) < kills:
        report.wrong.append(f"only {len(report.kills)} kills")
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
    stops += [other.point for other in later if _row(other.point) != _row(target.point)]
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
    parts = PurePosixPath(point.partition(": ")[2]).parts
    if parts[-1:] in ((".results.json.part",), ("results.json",)) and len(parts) == 1:
        return "the end"
    return parts[1] if parts[:1] == ("controls",) and len(parts) > 1 else ""


def damage(run: Path) -> list[str]:
    """Files below a run that are not whole; a torn last line and what was being written are allowed."""
    wrong = []
    for path in filter(Path.is_file, run.rglob("*")):
        try:
            if is_part(path):
                continue
            if path.suffix == ".png":
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".json":
                json.loads(path.read_bytes())
            elif path.suffix == ".jsonl":
                for line in path.read_bytes().split(b"\n")[:-1]:
                    json.loads(line)
            elif path.suffix == ".safetensors":
                with safe_open(path, "np") as file:
                    for name in file.keys():  # noqa: SIM118 (no mapping)
                        file.get_tensor(name)
        except Exception as error:
            wrong.append(f"{path.relative_to(run)} is damaged: {error}")
    return wrong


def done(run: Path) -> dict[str, tuple[int, int]]:
    """The pictures that `samples.jsonl` of each row says are finished, and which file each is: drawn again, another."""
    found = {}
    for samples in run.rglob("samples.jsonl"):
        for line in samples.read_bytes().split(b"\n")[:-1]:
            picture = samples.parent / json.loads(line)["image"]
            if picture.exists():
                found[picture.relative_to(run).as_posix()] = (picture.stat().st_ino, picture.stat().st_mtime_ns)
    return found


def contents(run: Path) -> dict[str, Any]:
    """All that a run leaves, by path, folders too: without what the clock decides, and lines in no order."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_dir():
            found[name] = "folder"
        elif path.suffix == ".json":
            found[name] = _timeless(json.loads(path.read_bytes()))
        elif path.suffix == ".jsonl":
            lines = [_timeless(json.loads(line)) for line in path.read_bytes().splitlines()]
            found[name] = sorted(lines, key=lambda line: [str(line.get(key)) for key in _ORDER])
        elif path.name != ".lock":
            found[name] = path.read_bytes()
    return found


_ORDER = ("judge", "id", "image_index", "step")  # of lines: searches that travel together take turns as they can


def _timeless(record: Any) -> Any:
    if isinstance(record, dict):
        return {name: _timeless(value) for name, value in record.items() if name not in ("seconds", "spent")}
    return [_timeless(item) for item in record] if isinstance(record, list) else record


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """What two runs do not have in common. All numbers are exact but those of traces, which may differ in the last bit.

    That bit of a sum, such as a log-probability, hangs on how many searches were decoded together, and a search that has
    to do a step again is decoded with fewer.
    """
    for path in sorted(wanted.keys() | found.keys()):
        is_trace = "trace" in PurePosixPath(path).parts
        for where, before, after in _unequal(wanted.get(path), found.get(path), 1e-4 if is_trace else 0.0):
            yield f"{path}{where}: {str(before)[:200]} became {str(after)[:200]}"


def _unequal(before: Any, after: Any, tolerance: float) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        pairs = [(str(key), before[key], after[key]) for key in before]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [(str(number), *pair) for number, pair in enumerate(zip(before, after, strict=True))]
    elif isinstance(before, float) and isinstance(after, float):
        if not math.isclose(before, after, rel_tol=tolerance, abs_tol=tolerance):
            yield "", before, after
        return
    else:
        if before != after:
            yield "", before, after
        return
    for name, one, other in pairs:
        yield from ((f", {name}{where}", *found) for where, *found in _unequal(one, other, tolerance))


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
    with suppress(KeyboardInterrupt):
        sys.exit(main())
