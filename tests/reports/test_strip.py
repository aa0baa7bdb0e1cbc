"""The strip: its size follows its content, and whatever a prompt is, it can be drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from milr.reports.strip import COLUMNS, TILE, draw_strip
from milr.runs import Frame


def frames(folder: Path, count: int, side: int = 96) -> list[Frame]:
    made = []
    for index in range(count):
        path = folder / f"{index}.png"
        Image.new("RGB", (side, side), (10 * index, 200, 90)).save(path)
        made.append(Frame(path, index, -1.0 + index, "expected 2 cats, found 1"))
    return made


def test_the_first_picture_is_on_the_left_and_the_best_at_the_end(tmp_path: Path) -> None:
    sheet = draw_strip("two cats", "note", frames(tmp_path, 3))
    row = sheet.height // 2
    seen = [sheet.getpixel((x, row)) for x in range(sheet.width)]
    assert seen.index((0, 200, 90)) < seen.index((10, 200, 90)) < seen.index((20, 200, 90))


def test_small_pictures_are_enlarged_and_large_ones_reduced_to_one_size(tmp_path: Path) -> None:
    small = draw_strip("two cats", "note", frames(tmp_path, 4, side=8))
    large = draw_strip("two cats", "note", frames(tmp_path, 4, side=500))
    assert small.size == large.size


def test_many_pictures_go_on_in_a_new_row(tmp_path: Path) -> None:
    one_row = draw_strip("two cats", "note", frames(tmp_path, COLUMNS))
    two_rows = draw_strip("two cats", "note", frames(tmp_path, COLUMNS + 1))
    assert two_rows.width == one_row.width
    assert two_rows.height > one_row.height + TILE


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a cat",
        "a very long prompt " * 60,
        "x" * 900,
        "ein grünes Täßchen",
        "\N{CJK UNIFIED IDEOGRAPH-72AC}",
        "a\nb",
    ],
    ids=["empty", "short", "long", "one long word", "accents", "another script", "two lines"],
)
def test_every_prompt_can_be_its_title(tmp_path: Path, prompt: str) -> None:
    sheet = draw_strip(prompt, "note", frames(tmp_path, 2))
    assert sheet.height < 3 * TILE


def test_a_picture_without_a_score_is_shown_as_such(tmp_path: Path) -> None:
    (frame,) = frames(tmp_path, 1)
    draw_strip("a cat", "note", [Frame(frame.path, 0, None, "")])
