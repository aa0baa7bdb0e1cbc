"""The judgements of a run: `judgements.jsonl`, one line for each picture and judge.

Lines are only ever appended. The last line of a (judge, prompt, image index) is the one that counts: a failure is tried
again, a picture or a judge that has changed is judged again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from milr.errors import ResumeError
from milr.run_files import append_lines, keep_lines, read_lines

JUDGEMENTS_FILE = "judgements.jsonl"


@dataclass(frozen=True)
class Judgement:
    """What a judge says of one picture.

    Attributes:
        judge: what results call it.
        version: of the judge.
        id, image_index: of the picture.
        tag, prompt: what it is of.
        image: `milr.rewards.image_hash` of the picture.
        value: None when the judge failed; then `error` says why.
    """

    judge: str
    version: str
    id: str
    image_index: int
    tag: str
    prompt: str
    image: str
    value: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    error: str | None = None
    cost: Mapping[str, float] = field(default_factory=dict)


def append_judgements(folder: Path, judgements: Sequence[Judgement]) -> None:
    """Bring judgements to the disk; errors as `run_files.append_lines`."""
    append_lines(folder / JUDGEMENTS_FILE, [asdict(judgement) for judgement in judgements])


def remove_torn_line(folder: Path) -> None:
    """Make room for more: what a killed process left of its last line is taken away."""
    keep_lines(folder / JUDGEMENTS_FILE, lambda line: True)


def read_judgements(folder: Path) -> dict[tuple[str, str, int], Judgement]:
    """The latest judgement for each (judge, prompt id, image index).

    Raises:
        ResumeError: a line is damaged, or no judgement.
    """
    return latest(every_judgement(folder))


def latest(judgements: Iterable[Judgement]) -> dict[tuple[str, str, int], Judgement]:
    """Those that count, by (judge, prompt id, image index)."""
    return {(each.judge, each.id, each.image_index): each for each in judgements}


def every_judgement(folder: Path) -> Iterator[Judgement]:
    """Those too that later ones have replaced; errors as `read_judgements`."""
    path = folder / JUDGEMENTS_FILE
    for number, line in enumerate(read_lines(path), start=1):
        try:
            judgement = Judgement(**line)
        except TypeError:
            judgement = None
        if judgement is None or not _is_sound(judgement):
            raise ResumeError(f"line {number} of {path} is no judgement; delete it to have that work done again.")
        yield judgement


def _is_sound(judgement: Judgement) -> bool:
    texts = (judgement.judge, judgement.version, judgement.id, judgement.tag, judgement.prompt, judgement.image)
    values = (judgement.parts, judgement.cost)
    if not all(isinstance(value, dict) for value in values):
        return False
    numbers = [judgement.value, *judgement.parts.values(), *judgement.cost.values()]
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(judgement.image_index, int)
        and all(number is None or isinstance(number, int | float) for number in numbers)
    )
