"""From a run folder to its results: which pictures it was to have, which it has, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from milr.errors import ResumeError
from milr.evaluation.contract import Benchmark
from milr.evaluation.judgements import every_judgement, latest
from milr.evaluation.judging import Picture
from milr.evaluation.results import PictureFacts, Results, RunFacts, summarise
from milr.events import Key
from milr.prompts import Prompt
from milr.rewards import total_cost
from milr.run_files import Record, read_lines, write_file


def pictures_of(benchmark: Benchmark, prompts: Sequence[Prompt], images: int, folder: Path) -> list[Picture]:
    """All pictures that are asked for, where the benchmark's layout has them below a folder of images."""
    return [
        Picture(prompt, index, folder / benchmark.image_path(prompt, index, images))
        for prompt in prompts
        for index in range(images)
    ]


def write_other_files(benchmark: Benchmark, pictures: Sequence[Picture], folder: Path) -> None:
    """What official scorers want beside these pictures, below the folder of images; RunError when the disk refuses."""
    for path, content in benchmark.other_files([(each.prompt, each.image_index) for each in pictures]).items():
        write_file(folder / path, content)


def samples_of(run: Path) -> dict[Key, Record]:
    """The latest line of `samples.jsonl` by key, failures left out.

    Raises:
        ResumeError: a line is damaged, or says nothing of a picture.
    """
    path = run / "samples.jsonl"
    samples = {}
    for number, line in enumerate(read_lines(path), start=1):
        if "error" in line:
            continue
        if not _is_sample(line):
            raise ResumeError(f"line {number} of {path} is no record of a picture; delete it to have it drawn again.")
        samples[line["id"], line["image_index"]] = line
    return samples


def _is_sample(line: Record) -> bool:
    numbers = [line.get(name) for name in ("reward", "images_decoded", "seconds")]
    return (
        isinstance(line.get("id"), str)
        and isinstance(line.get("image_index"), int)
        and all(isinstance(number, int | float) for number in numbers)
        and isinstance(line.get("cost"), dict)
    )


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
        samples: the lines of `samples.jsonl` by key, without which a picture counts as missing; None for pictures that
            were made elsewhere.
    """
    there = [_facts(picture, samples) for picture in pictures]
    drawn = [samples[picture.key] for picture in pictures if picture.key in samples] if samples else []
    costs = total_cost(line["cost"] for line in drawn)
    spent = {"seconds": sum(line["seconds"] for line in drawn), "cost": costs} if drawn else {}
    every = list(every_judgement(judgements_in))  # failed attempts have cost something, too
    judges = {it["name"]: total_cost(each.cost for each in every if each.judge == it["name"]) for it in facts.judges}
    spent |= {"judges": judges}
    return summarise(facts, there, latest(every), benchmark.figures, benchmark.categories, spent)


def _facts(picture: Picture, samples: Mapping[Key, Record] | None) -> PictureFacts:
    prompt, sample = picture.prompt, (samples or {}).get(picture.key)
    is_lost = samples is not None and sample is None  # a failed search leaves a picture that no critic could score
    return PictureFacts(
        id=prompt.id,
        text=prompt.text,
        tag=str(prompt.metadata.get("tag", "")),
        image_index=picture.image_index,
        size=None if is_lost else size_of(picture.path),
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
