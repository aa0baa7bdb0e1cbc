"""Files that survive a kill at any moment: whole files are replaced, lines are appended, both reach the disk.

A file under its own name is always complete. The last line of a JSON-lines file may be torn; readers skip it, and
`keep_lines` removes it before more is appended.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from milr.errors import ResumeError, RunError

Record = dict[str, Any]

_PART = ".part"  # a file that is being written


def write_file(path: Path, content: bytes) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one, never a part.

    Raises:
        RunError: the disk refuses; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}{_PART}")
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def is_part(path: Path) -> bool:
    """Whether a file is one that a killed process did not finish."""
    return path.name.startswith(".") and path.name.endswith(_PART)


def remove_parts(folder: Path) -> None:
    """Remove what a killed process was writing when it died."""
    for path in filter(is_part, folder.rglob("*")):
        path.unlink()


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one record to a JSON-lines file and bring it to the disk; errors as `append_lines`."""
    append_lines(path, [record])


def append_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Append records to a JSON-lines file and bring them to the disk.

    Raises:
        RunError: the disk refuses; at worst the last line is torn.
    """
    lines = "".join(to_json(record) + "\n" for record in records)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        with path.open("ab") as file:
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            _sync_folder(path.parent)


def read_lines(path: Path) -> list[Record]:
    """The records of a JSON-lines file, without a torn last one; none when there is no file.

    Raises:
        ResumeError: a line before the last is not a JSON object, which no kill can cause.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    records = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is empty or torn
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append(record)
        elif number < len(lines) - 1:
            raise ResumeError(f"line {number} of {path} is damaged; delete it to have that work done again.")
    return records


def keep_lines(path: Path, wanted: Callable[[Record], bool]) -> list[Record]:
    """Rewrite a JSON-lines file with the wanted records only, a torn line removed; returns them."""
    records = [record for record in read_lines(path) if wanted(record)]
    content = "".join(to_json(record) + "\n" for record in records).encode()
    if path.exists() and path.read_bytes() != content:
        write_file(path, content)
    return records


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON: numbers that JSON does not have (NaN, infinities) become null."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _sync_folder(folder: Path) -> None:
    """A rename or a new name is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; what is on disk is kept, and --resume goes on from there."
        ) from error
