"""From a run folder to its results: which pictures it was to have, which it has, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from milr.evaluation.contract import Benchmark
from milr.evaluation.judgements import read_judgements
from milr.evaluation.judging import Picture
from milr.evaluation.results import PictureFacts, Results, RunFacts, summarise
from milr.prompts import Prompt
from milr.rewards import Score, total_cost
from milr.run_files import Record, read_lines
from milr.runs import Key


def pictures_of(benchmark: Benchmark, prompts: Sequence[Prompt], images: int, folder: Path) -> list[Picture]:
    """All pictures that are asked for, where the benchmark's layout has them below a folder of images."""
    return [
        Picture(prompt, index, folder / benchmark.image_path(prompt, index, images))
        for prompt in prompts
        for index in range(images)
    ]


def samples_of(run: Path) -> dict[Key, Record]:
    """The latest line of `samples.jsonl` by key, failures left out."""
    lines = read_lines(run / "samples.jsonl")
    return {(line["id"], line["image_index"]): line for line in lines if "error" not in line}


def conclude(
    facts: RunFacts,
    benchmark: Benchmark,
    pictures: Sequence[Picture],
    judgements_in: Path,
    samples: Mapping[Key, Record] | None = None,
) -> Results:
    """What pictures and their judgements say.

    Args:
        pictures: all that were asked for, whether they are there or not.
        judgements_in: the folder of `judgements.jsonl`.
        samples: the lines of `samples.jsonl` by key; None for pictures that were made elsewhere.
    """
    samples = samples or {}
    asked = [_facts(picture, samples.get(picture.key)) for picture in pictures]
    costs = [Score(None, cost=line.get("cost") or {}) for line in samples.values()]
    spent = {"seconds": sum(line["seconds"] for line in samples.values()), "cost": total_cost(costs)}
    return summarise(
        facts, asked, read_judgements(judgements_in), benchmark.figures, benchmark.categories, spent if samples else {}
    )


def _facts(picture: Picture, sample: Record | None) -> PictureFacts:
    prompt = picture.prompt
    return PictureFacts(
        id=prompt.id,
        text=prompt.text,
        tag=str(prompt.metadata.get("tag", "")),
        image_index=picture.image_index,
        size=size_of(picture.path),
        reward=sample["reward"] if sample else None,
        images_decoded=sample["images_decoded"] if sample else None,
    )


def size_of(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture; None when it is not there, or is none."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError):
        return None
