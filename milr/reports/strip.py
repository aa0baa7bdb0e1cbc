"""The strip: one search at a glance. The model's own picture, each better one after it, and their rewards."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from milr.events import Key
from milr.run_files import write_file
from milr.runs import Frame, RunFolder

TILE = 240  # pixels, the longer side of a picture; a 96 px picture is still crisp, a 384 px one still readable
COLUMNS = 6  # tiles in a row
LEAST_COLUMNS = 3  # the sheet is at least this wide, so that a title has room
MARGIN, GAP = 32, 24
CAPTION = 108  # below each tile: reward, step, and what the critic says
TITLE_SIZE, NOTE_SIZE, REWARD_SIZE, REASON_SIZE = 26, 17, 22, 15
TITLE_LINES, REASON_LINES = 3, 2

PAPER, INK, FAINT, ACCENT = "#ffffff", "#1c1e21", "#6b7178", "#1a7f4b"


def write_strip(run: RunFolder, key: Key) -> Path | None:
    """Draw the strip of a finished search, then let its pictures go unless the run keeps them.

    It is `strip.png` when the run has one picture, else `strips/<id>-<index>.png`. Done once: a strip that exists
    stays. None when the search left no pictures.
    """
    path = strip_path(run, key)
    if not path.exists():
        frames = run.frames(key)
        if not frames:
            return None
        line = run.finished[key]
        note = f"{line['images_decoded']:g} pictures decoded, {run.identity.config.get('method', 'milr')}, "
        note += f"critic {' + '.join(run.identity.config.get('reward', ['?']))}"
        buffer = io.BytesIO()
        draw_strip(line["prompt"], note, frames).save(buffer, "PNG")
        write_file(path, buffer.getvalue())
    run.forget_frames(key)
    return path


def strip_path(run: RunFolder, key: Key) -> Path:
    """Where the strip of a search is, or will be."""
    if len(run.identity.prompts) * int(run.identity.config.get("images", 1)) == 1:
        return run.path / "strip.png"
    return run.path / "strips" / run.image_path(key).name


def draw_strip(title: str, note: str, frames: Sequence[Frame]) -> Image.Image:
    """The sheet: title, note, and the frames in reading order, from the model's own to what the search returned."""
    columns = min(COLUMNS, max(LEAST_COLUMNS, len(frames)))
    rows = -(-len(frames) // COLUMNS)
    width = 2 * MARGIN + columns * TILE + (columns - 1) * GAP
    lines = _wrap(title, TITLE_SIZE, width - 2 * MARGIN, TITLE_LINES)
    line_height = round(TITLE_SIZE * 1.3)
    top = MARGIN + len(lines) * line_height + 2 * NOTE_SIZE + GAP
    height = top + rows * (TILE + CAPTION) + (rows - 1) * GAP + MARGIN

    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + index * line_height), line, INK, _font(TITLE_SIZE))
    draw.text((MARGIN, MARGIN + len(lines) * line_height + 8), _drawable(note), FAINT, _font(NOTE_SIZE))
    for index, frame in enumerate(frames):
        left = MARGIN + index % COLUMNS * (TILE + GAP)
        above = top + index // COLUMNS * (TILE + CAPTION + GAP)
        _draw_frame(sheet, draw, (left, above), frame, is_first=index == 0, is_last=index == len(frames) - 1)
    return sheet


def _draw_frame(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], frame: Frame, is_first: bool, is_last: bool
) -> None:
    left, top = corner
    with Image.open(frame.path) as picture:
        scale = TILE / max(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        sheet.paste(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), corner)
    is_found = is_last and not is_first
    if is_found:
        draw.rectangle((left - 4, top - 4, left + size[0] + 3, top + size[1] + 3), outline=ACCENT, width=3)
    reward = "no score" if frame.reward is None else f"{frame.reward:.3f}"
    label = f"step {frame.step}" + (", the model's own" if is_first else ", returned" if is_found else "")
    below = top + TILE + 10
    draw.text((left, below), reward, ACCENT if is_found else INK, _font(REWARD_SIZE))
    draw.text((left, below + 28), label, FAINT, _font(NOTE_SIZE))
    for index, line in enumerate(_wrap(frame.reason, REASON_SIZE, TILE, REASON_LINES)):
        draw.text((left, below + 54 + index * 19), line, FAINT, _font(REASON_SIZE))


def _wrap(text: str, size: int, width: int, most: int) -> list[str]:
    """At most so many lines of at most `width` pixels, broken between words; what is too much ends in dots."""
    font = _font(size)
    lines = [""]
    for word in _drawable(text).split():
        candidate = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(candidate) > width:
            lines.append(word)
        else:
            lines[-1] = candidate
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    length = next(n for n in range(len(line), -1, -1) if font.getlength(line[:n] + " ...") <= width)
    return line[:length] + " ..."


def _drawable(text: str) -> str:
    """What the font has: accents are dropped, and letters of other scripts become question marks."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "replace").decode()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # a size was asked for, so Pillow gives its scalable font
    return font
