"""Processes that run a command of milr and are killed: by their own hand at a point of writing, or from outside.

A *point* is a call with which Python writes below the run folder: each open, write, fsync, replace, mkdir and unlink.
Victims tell each of them as a line such as "inside write: images/fruit-0/.0.png.part". They are forked from this
process, which has everything imported and has decoded nothing: that saves the start of an interpreter, and little else
differs. A fresh one is an interpreter of its own.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn


class Watch:
    """Tells the points of this process as it comes by, and ends it with SIGKILL at any of `stops`.

    Args:
        run: the folder below which writing counts.
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
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8")

    def _open_descriptor(self, plainly: Callable[..., int], path: Any, *more: Any, **named: Any) -> int:
        descriptor = plainly(path, *more, **named)
        self.remember(descriptor, Path(os.fsdecode(path)))
        return descriptor

    def _fsync(self, plainly: Callable[[int], None], descriptor: int) -> None:
        path = self._open_files.get(descriptor, Path())
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
            pid = self._start((arguments, str(self.run), stops, late, tell), tell, log.fileno())
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

    def _start(self, arguments: tuple[Any, ...], report: int, log: int) -> int:
        """A victim's process id; the arguments are those of `be_victim`, `report` the last of them."""
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            os.dup2(log, 1)
            os.dup2(log, 2)
            if self.fresh:
                os.set_inheritable(report, True)
                path = os.pathsep.join((str(self.plugin), str(Path(__file__).parents[1])))
                program = f"from tests.kill_victims import be_victim; be_victim(*{arguments!r})"
                os.execve(sys.executable, [sys.executable, "-c", program], os.environ | {"PYTHONPATH": path})
            be_victim(*arguments)
        except SystemExit as ending:
            code = int(ending.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
