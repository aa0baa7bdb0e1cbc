"""Judging: what judges say of pictures on disk, brought to `judgements.jsonl` as it is said, `BATCH` at a time.

A picture that a judge has scored is not scored again by the same version of it, so that an evaluation goes on where it
stopped and nothing is paid twice. One that failed is tried again. Pictures are read from their files: what is judged is
what lies there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from milr.errors import RunError
from milr.evaluation.judgements import Judgement, append_judgements, read_judgements, remove_torn_line
from milr.events import Key
from milr.prompts import Prompt
from milr.rewards import Reward, Score, image_hash, score_safely

BATCH = 8  # pictures that are read and judged together, and so judged again after a kill

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Judge:
    """A critic in the role of a judge; `name` is what results call it."""

    name: str
    reward: Reward


@dataclass(frozen=True)
class Picture:
    """One picture of a benchmark, and where it lies."""

    prompt: Prompt
    image_index: int
    path: Path

    @property
    def key(self) -> Key:
        return self.prompt.id, self.image_index


def judge_pictures(
    folder: Path, pictures: Sequence[Picture], judges: Sequence[Judge], report: Report = lambda *_: None
) -> list[Judgement]:
    """The judgements of all pictures by all judges, those made earlier among them, in the order of judges and pictures.

    Args:
        folder: of `judgements.jsonl`.
        report: called with a judge's name, how many judgements it has made and how many it has to make.

    Raises:
        RunError: the disk refuses, or a judge scores none of the first pictures, as when its server is not there. What
            was judged is kept.
    """
    remove_torn_line(folder)
    known = read_judgements(folder)
    for judge in judges:
        waiting = [
            picture for picture in pictures if not _is_judged(known.get((judge.name, *picture.key)), judge, picture)
        ]
        for start in range(0, len(waiting), BATCH):
            judgements = list(_judged(judge, waiting[start : start + BATCH]))
            append_judgements(folder, judgements)
            known |= {(each.judge, each.id, each.image_index): each for each in judgements}
            report(judge.name, start + len(judgements), len(waiting))
            if start == 0 and len(waiting) > BATCH and all(each.value is None for each in judgements):
                raise RunError(
                    f"{judge.name} could judge none of the first {BATCH} pictures: {judgements[0].error}; what was "
                    "done is kept: try again when it can."
                )
    return [known[judge.name, *picture.key] for judge in judges for picture in pictures]


def _read(picture: Picture) -> Image.Image | str:
    """The picture, or why it cannot be read."""
    try:
        with Image.open(picture.path) as file:
            return file.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"the picture cannot be read: {error}"


def _hash(image: Image.Image | str) -> str:
    return "" if isinstance(image, str) else image_hash(image)


def _is_judged(known: Judgement | None, judge: Judge, picture: Picture) -> bool:
    """Whether this judge has scored this very picture; only one that it may have scored is read for it."""
    if known is None or known.value is None:
        return False
    if (known.version, known.prompt) != (judge.reward.version, picture.prompt.text):
        return False
    return known.image == _hash(_read(picture))


def _judged(judge: Judge, pictures: Sequence[Picture]) -> Iterator[Judgement]:
    images = [_read(picture) for picture in pictures]
    shown = [index for index, image in enumerate(images) if isinstance(image, Image.Image)]
    rows = [image for image in images if isinstance(image, Image.Image)]
    given = score_safely(judge.reward, rows, [pictures[index].prompt for index in shown])
    scores = dict(zip(shown, given, strict=True))
    version = judge.reward.version  # asked after scoring: it is exact once the weights are loaded
    for index, (picture, image) in enumerate(zip(pictures, images, strict=True)):
        score = scores[index] if index in scores else Score(None, error=str(image))
        yield Judgement(
            judge=judge.name,
            version=version,
            id=picture.prompt.id,
            image_index=picture.image_index,
            tag=str(picture.prompt.metadata.get("tag", "")),
            prompt=picture.prompt.text,
            image=_hash(image),
            value=score.value,
            parts=score.parts,
            reason=score.reason,
            error=score.error,
            cost=score.cost,
        )
