"""Judging: a picture is scored once by a version of a judge, failures are tried again, a dead judge ends the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from milr.errors import RunError
from milr.evaluation.judgements import JUDGEMENTS_FILE, read_judgements
from milr.evaluation.judging import BATCH, Judge, Picture, judge_pictures
from milr.prompts import Prompt
from milr.rewards import Reward, Score
from milr.run_files import read_lines


class Width(Reward):
    """The width of a picture; raises while it is out, and counts what it is shown."""

    name, version = "width", "1"

    def __init__(self) -> None:
        self.shown = 0
        self.out = False

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        if self.out:
            raise ConnectionError("nobody answers")
        self.shown += len(images)
        return [Score(float(image.width)) for image in images]


def drawn(folder: Path, count: int) -> list[Picture]:
    pictures = [Picture(Prompt(f"picture {n}", f"{n:03}"), 0, folder / f"{n}.png") for n in range(count)]
    for number, picture in enumerate(pictures, start=1):
        Image.new("RGB", (number, 1)).save(picture.path)
    return pictures


def test_a_picture_is_shown_again_only_when_it_or_its_judge_has_changed(tmp_path: Path) -> None:
    pictures, width = drawn(tmp_path, 3), Width()
    judge_pictures(tmp_path, pictures, [Judge("width", width)])
    assert [it.value for it in judge_pictures(tmp_path, pictures, [Judge("width", width)])] == [1, 2, 3]
    assert width.shown == 3
    Image.new("RGB", (9, 1)).save(pictures[1].path)
    assert [it.value for it in judge_pictures(tmp_path, pictures, [Judge("width", width)])] == [1, 9, 3]
    assert width.shown == 4
    width.version = "2"
    judge_pictures(tmp_path, pictures, [Judge("width", width)])
    assert width.shown == 7


def test_failures_are_recorded_and_tried_again(tmp_path: Path) -> None:
    pictures, width = drawn(tmp_path, 2), Width()
    pictures[0].path.write_bytes(b"no picture")
    first, second = judge_pictures(tmp_path, pictures, [Judge("width", width)])
    assert (first.value, second.value) == (None, 2)
    assert "the picture cannot be read" in str(first.error)
    Image.new("RGB", (5, 1)).save(pictures[0].path)
    assert [it.value for it in judge_pictures(tmp_path, pictures, [Judge("width", width)])] == [5, 2]
    assert width.shown == 2


def test_a_judge_that_is_out_ends_the_work_after_the_first_pictures(tmp_path: Path) -> None:
    pictures, width = drawn(tmp_path, BATCH + 1), Width()
    width.out = True
    with pytest.raises(RunError, match=f"width could judge none of the first {BATCH} pictures: .*nobody answers"):
        judge_pictures(tmp_path, pictures, [Judge("width", width)])
    assert len(read_lines(tmp_path / JUDGEMENTS_FILE)) == BATCH
    width.out = False
    judge_pictures(tmp_path, pictures, [Judge("width", width)])
    assert {it.value for it in read_judgements(tmp_path).values()} == set(range(1, BATCH + 2))
