"""What lies in a run folder: whether it is whole, what was drawn again, and whether two runs are the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from safetensors import safe_open

from milr.run_files import is_part


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


def drawn(run: Path) -> dict[str, tuple[int, int]]:
    """The pictures that `samples.jsonl` of each row says are finished, and which file each is: drawn again, another."""
    found = {}
    for samples in run.rglob("samples.jsonl"):
        for line in samples.read_bytes().split(b"\n")[:-1]:
            picture = samples.parent / json.loads(line)["image"]
            if picture.exists():
                found[picture.relative_to(run).as_posix()] = (picture.stat().st_ino, picture.stat().st_mtime_ns)
    return found


def contents(run: Path) -> dict[str, Any]:
    """All that a run leaves, by path, folders too: without what the clock decides, and lines in no order.

    Raises:
        ValueError: a file is damaged.
    """
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
    """What two runs do not have in common; numbers of traces may differ in the last bits.

    Those of a sum, such as a log-probability, hang on how many searches were decoded together, and a search that has to
    do a step again is decoded with others.
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
