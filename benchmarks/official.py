"""What benchmarks share: official files with the place of every line, categories by name, weights of whole benchmarks.

    for where, row in json_lines(folder / "geneval2_data.jsonl"):
        with at(where):
            ...  # a PromptError that is raised here says file and line

Files are those of their authors, or anybody's in the same form; what is wrong with one is told in a sentence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from milr.errors import PromptError, UnknownNameError
from milr.evaluation.contract import Benchmark, Weights, equal_tags
from milr.prompts import Prompt

_BETWEEN = re.compile(r"[\s,]*")  # entries of an array


@contextmanager
def at(where: str) -> Iterator[None]:
    """Puts file and line before whatever is wrong with a prompt.

    Raises:
        PromptError: instead of another one.
    """
    try:
        yield
    except PromptError as problem:
        raise PromptError(f"{where}: {problem}") from None


def official_file(benchmark: Benchmark, path: Path | None, name: str, *, alone: bool = False) -> Path:
    """Where a file of a benchmark lies.

    Args:
        path: what `Benchmark.load` was given.
        name: of the file in its folder.
        alone: whether `path` may be the file itself.

    Raises:
        PromptError: there is no path, nothing is there, or it is a file where a folder belongs.
    """
    if path is None:
        raise PromptError(
            f"the prompts of {benchmark.name!r} do not ship with milr; fetch them with 'milr data {benchmark.name}', "
            "or give their folder with --data."
        )
    if path.is_file():
        if alone:
            return path
        raise PromptError(f"{str(path)!r} is a file; give the folder that holds {name!r}.")
    if not (path / name).is_file():
        raise PromptError(f"there is no {name!r} in {str(path)!r}; 'milr data {benchmark.name}' fetches it.")
    return path / name


def text_lines(path: Path) -> list[tuple[str, str]]:
    """(file and line, text) of each line that is not blank, without the blanks around it.

    Raises:
        PromptError: the file cannot be read, is not UTF-8, or has no such line.
    """
    return [(f"{path}, line {number}", line) for number, line in _numbered(path)]


def json_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(file and line, object) of a file with one JSON object a line; errors as `text_lines`, and what is no object."""
    return [_row(path, number, _decoded(path, number, line)) for number, line in _numbered(path)]


def json_array(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(file and line, object) of a file that is one array of objects; the line is the one where an object begins.

    Errors as `json_lines`.
    """
    text = _text(path)
    entries = _decoded(path, 1, text)
    if not isinstance(entries, list) or not entries:
        raise PromptError(f"{path} is not a JSON array of objects.")
    rows, place = [], text.index("[") + 1
    for entry in entries:
        place = _BETWEEN.match(text, place).end()  # type: ignore[union-attr]  # it matches nothing, too
        rows.append(_row(path, text.count("\n", 0, place) + 1, entry))
        _, place = json.JSONDecoder().raw_decode(text, place)
    return rows


def text_of(row: Mapping[str, Any], key: str) -> str:
    """The text under a key.

    Raises:
        PromptError: there is none.
    """
    text = row.get(key)
    if not isinstance(text, str) or not text.strip():
        raise PromptError(f"expected some text under {key!r}, not {text!r}.")
    return text


def tags_of(benchmark: Benchmark, categories: Sequence[str]) -> tuple[str, ...]:
    """The tags of the categories that were chosen, in the benchmark's order; all of them where none was.

    Raises:
        UnknownNameError: the benchmark has no such category.
    """
    for name in categories:
        if name not in benchmark.categories:
            raise UnknownNameError(f"category of benchmark {benchmark.name!r}:", name, benchmark.categories)
    return tuple(tag for tag in benchmark.categories if not categories or tag in categories)


def with_tags(prompts: Sequence[Prompt], tags: Sequence[str], path: Path) -> list[Prompt]:
    """The prompts of these tags.

    Raises:
        PromptError: there are none.
    """
    chosen = [prompt for prompt in prompts if prompt.metadata["tag"] in tags]
    if not chosen:
        raise PromptError(f"{path} has no prompts of {', '.join(tags)}.")
    return chosen


def folder_of(image_index: int) -> PurePosixPath:
    """Below the folder of images: where official scorers take one picture a prompt, each further one has a folder.

    The first pictures lie where these scorers expect them; "image_1" and so on are such folders themselves.
    """
    return PurePosixPath(f"image_{image_index}" if image_index else "")


def whole(tags: Sequence[str], weights: Weights = equal_tags) -> Weights:
    """Weights of a figure that is reported only where none of these tags is missing."""

    def weigh(counts: Mapping[str, int]) -> Mapping[str, float]:
        return weights({tag: counts[tag] for tag in tags}) if counts.keys() >= set(tags) else {}

    return weigh


def _row(path: Path, number: int, content: Any) -> tuple[str, dict[str, Any]]:
    where = f"{path}, line {number}"
    if not isinstance(content, dict):
        raise PromptError(f"{where}: expected a JSON object.")
    return where, content


def _numbered(path: Path) -> list[tuple[int, str]]:
    lines = [(number, line.strip()) for number, line in enumerate(_text(path).split("\n"), start=1)]
    found = [(number, line) for number, line in lines if line]
    if not found:
        raise PromptError(f"{path} is empty.")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise PromptError(f"cannot read {str(path)!r}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise PromptError(f"{path} is not UTF-8 text.") from None


def _decoded(path: Path, first: int, text: str) -> Any:
    """JSON that begins in this line of a file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first + error.lineno - 1
        raise PromptError(f"{path}, line {line}: not valid JSON ({error.msg} at column {error.colno}).") from None
    except (ValueError, RecursionError):
        raise PromptError(f"{path}, line {first}: not valid JSON (a number or a nesting that is too large).") from None
