"""Eighteen things that the emoji font lacks or shows poorly, drawn with a few shapes each.

Coordinates are on a 256 x 256 canvas. Every drawing has a dark outline: a grey thing on a grey ground cannot be seen.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFont

Pen = ImageDraw.ImageDraw
_SIZE = 256
_LINE = "#37474f"
_STEEL, _LIGHT, _DARK = "#b0bec5", "#eceff1", "#455a64"
_WOOD, _RED, _YELLOW = "#b9783f", "#e53935", "#fbc02d"


def draw(name: str) -> Image.Image:
    """The picture of one thing, on transparent ground."""
    canvas = Image.new("RGBA", (_SIZE, _SIZE))
    DRAWINGS[name](ImageDraw.Draw(canvas))
    return canvas


def _box(pen: Pen, box: tuple[int, int, int, int], fill: str, radius: int = 12, line: int = 7) -> None:
    pen.rounded_rectangle(box, radius, fill=fill, outline=_LINE, width=line)


def _disc(pen: Pen, x: int, y: int, radius: int, fill: str, line: int = 6) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=_LINE, width=line)


def _stroke(pen: Pen, points: list[tuple[int, int]], fill: str, width: int) -> None:
    """A line with round ends and an outline."""
    for color, thick in ((_LINE, width + 12), (fill, width)):
        pen.line(points, fill=color, width=thick, joint="curve")
        for x, y in points:
            pen.ellipse((x - thick // 2, y - thick // 2, x + thick // 2, y + thick // 2), fill=color)


def _fire_hydrant(pen: Pen) -> None:
    _box(pen, (58, 208, 198, 246), _RED)
    _box(pen, (34, 112, 222, 160), _RED, 18)
    _box(pen, (78, 72, 178, 214), _RED, 6)
    pen.pieslice((70, 14, 186, 130), 180, 360, fill=_RED, outline=_LINE, width=7)
    _box(pen, (62, 66, 194, 92), "#ef5350", 8)
    _box(pen, (112, 6, 144, 28), _RED, 6)
    _disc(pen, 128, 140, 30, _YELLOW)


def _parking_meter(pen: Pen) -> None:
    _box(pen, (112, 138, 144, 250), "#78909c", 4)
    _box(pen, (70, 6, 186, 160), "#5c7cfa", 56)
    pen.pieslice((92, 26, 164, 98), 180, 360, fill=_LIGHT, outline=_LINE, width=6)
    pen.line((128, 62, 150, 40), fill=_RED, width=8)
    _box(pen, (100, 84, 156, 104), _YELLOW, 4, 4)
    _box(pen, (122, 114, 134, 142), _DARK, 2, 2)


def _bench(pen: Pen) -> None:
    for x in (36, 204):
        _box(pen, (x, 60, x + 16, 222), _DARK, 3, 3)
    for y in (54, 92):
        _box(pen, (10, y, 246, y + 30), _WOOD, 6)
    _box(pen, (4, 142, 252, 172), "#c98a4b", 6)


def _baseball_bat(pen: Pen) -> None:
    _stroke(pen, [(36, 222), (84, 172)], "#8d5524", 16)
    _stroke(pen, [(88, 168), (132, 122)], "#d39b5f", 26)
    _stroke(pen, [(132, 122), (214, 38)], "#d39b5f", 46)
    _disc(pen, 30, 228, 16, "#8d5524")


def _baseball_glove(pen: Pen) -> None:
    leather = "#a1622f"
    for x, top in ((62, 58), (106, 26), (150, 26), (194, 54)):
        _stroke(pen, [(x, top), (x - (x - 128) // 4, 140)], leather, 34)
    pen.ellipse((40, 96, 216, 250), fill=leather, outline=_LINE, width=7)
    _stroke(pen, [(30, 118), (70, 186)], leather, 34)
    pen.ellipse((76, 112, 190, 218), fill="#8a4f22")
    _disc(pen, 134, 160, 38, "#fafafa")
    pen.arc((66, 128, 122, 192), 300, 60, fill=_RED, width=6)
    pen.arc((146, 128, 202, 192), 120, 240, fill=_RED, width=6)


def _surfboard(pen: Pen) -> None:
    pen.ellipse((82, 4, 174, 252), fill="#26c6da", outline=_LINE, width=7)
    pen.ellipse((104, 22, 152, 234), fill="#fff59d")
    pen.line((128, 10, 128, 246), fill="#ef6c00", width=10)


def _fork(pen: Pen) -> None:
    for x in (88, 115, 141, 168):
        _stroke(pen, [(x, 20), (x, 86)], _STEEL, 10)
    pen.pieslice((76, 48, 180, 152), 0, 180, fill=_STEEL, outline=_LINE, width=6)
    pen.rectangle((84, 80, 172, 102), fill=_STEEL)
    _stroke(pen, [(128, 150), (128, 236)], "#90a4ae", 22)


def _dining_table(pen: Pen) -> None:
    for x in (30, 198):
        _box(pen, (x, 110, x + 28, 236), "#8d5524", 4)
    pen.polygon([(44, 66), (212, 66), (250, 118), (6, 118)], fill="#c98a4b", outline=_LINE, width=7)
    _box(pen, (6, 114, 250, 142), _WOOD, 5)
    pen.ellipse((96, 76, 160, 104), fill="#fafafa", outline=_LINE, width=4)
    _disc(pen, 128, 56, 24, _RED)


def _tv_remote(pen: Pen) -> None:
    _box(pen, (80, 4, 176, 252), "#37404a", 30)
    _disc(pen, 128, 38, 16, _RED, 2)
    for row in range(4):
        for column in range(3):
            _disc(pen, 102 + 26 * column, 82 + 27 * row, 10, "#eceff1", 1)
    _disc(pen, 128, 206, 30, "#90a4ae", 3)


def _microwave(pen: Pen) -> None:
    _box(pen, (4, 54, 252, 204), "#cfd8dc", 14)
    _box(pen, (20, 72, 176, 186), "#263238", 8)
    pen.ellipse((50, 138, 146, 168), fill="#ffcc80")
    pen.rectangle((194, 74, 238, 98), fill="#00c853")
    for row in range(3):
        for column in range(2):
            _disc(pen, 204 + 24 * column, 120 + 26 * row, 10, "#607d8b", 2)


def _oven(pen: Pen) -> None:
    _box(pen, (26, 10, 230, 250), "#dfe4e8", 12)
    for x in (62, 106, 150, 194):
        _disc(pen, x, 46, 15, _DARK, 3)
    _box(pen, (42, 80, 214, 100), "#78909c", 6, 4)
    _box(pen, (46, 112, 210, 228), "#2b2320", 10)
    pen.polygon([(78, 216), (98, 158), (118, 196), (136, 144), (158, 196), (172, 168), (184, 216)], fill="#ff9800")


def _toaster(pen: Pen) -> None:
    for x in (66, 138):
        _box(pen, (x, 22, x + 58, 130), "#e0a45c", 16)
        pen.rectangle((x + 14, 38, x + 44, 110), fill="#f6d7a7")
    _box(pen, (22, 92, 234, 236), "#ef5350", 36)
    _box(pen, (44, 94, 212, 112), _DARK, 6, 3)
    _box(pen, (226, 128, 250, 156), _DARK, 4, 3)
    _disc(pen, 128, 178, 26, _LIGHT)


def _sink(pen: Pen) -> None:
    _stroke(pen, [(128, 126), (128, 34), (186, 34), (186, 66)], "#90a4ae", 18)
    pen.ellipse((176, 78, 196, 112), fill="#29b6f6")
    _box(pen, (4, 118, 252, 148), "#fafafa", 8)
    pen.pieslice((26, 42, 230, 246), 0, 180, fill="#e3f2fd", outline=_LINE, width=7)
    _box(pen, (104, 232, 152, 252), "#90a4ae", 3, 4)


def _refrigerator(pen: Pen) -> None:
    _box(pen, (58, 4, 198, 252), "#b3e5fc", 16)
    pen.line((58, 92, 198, 92), fill=_LINE, width=8)
    _box(pen, (170, 36, 184, 80), _DARK, 4, 2)
    _box(pen, (170, 108, 184, 176), _DARK, 4, 2)


def _hair_drier(pen: Pen) -> None:
    pen.polygon([(118, 116), (176, 116), (156, 248), (104, 240)], fill="#ad1457", outline=_LINE, width=7)
    pen.polygon([(4, 42), (110, 24), (110, 132), (4, 114)], fill="#f06292", outline=_LINE, width=7)
    _disc(pen, 172, 80, 76, "#ec407a", 7)
    _disc(pen, 184, 80, 36, "#37474f")
    pen.ellipse((2, 38, 26, 118), fill="#37474f")


def _stop_sign(pen: Pen) -> None:
    _box(pen, (116, 180, 140, 254), "#90a4ae", 4, 5)
    for inset, color in ((0, _LINE), (7, "#fafafa"), (18, _RED)):
        low, high, cut = 14 + inset, 202 - inset, 56 - inset // 2
        corners = [(low + cut, low), (high - cut, low), (high, low + cut), (high, high - cut)]
        corners += [(high - cut, high), (low + cut, high), (low, high - cut), (low, low + cut)]
        pen.polygon([(x + 20, y - 10) for x, y in corners], fill=color)
    pen.text((128, 98), "STOP", fill="#fafafa", anchor="mm", font=ImageFont.load_default(64), stroke_width=2)


def _snowboard(pen: Pen) -> None:
    _stroke(pen, [(52, 204), (204, 52)], "#7e57c2", 72)
    _stroke(pen, [(62, 194), (194, 62)], "#b39ddb", 20)
    for x, y in ((92, 164), (164, 92)):
        _stroke(pen, [(x - 26, y - 26), (x + 26, y + 26)], "#ffca28", 22)


def _skis(pen: Pen) -> None:
    for shift in (0, 84):
        _stroke(pen, [(22 + shift, 236), (118 + shift, 40), (150 + shift, 22)], "#1e88e5", 26)
        _stroke(pen, [(58 + shift, 162), (84 + shift, 110)], "#fdd835", 30)
    _stroke(pen, [(234, 250), (234, 96)], _STEEL, 8)
    _stroke(pen, [(214, 220), (250, 220)], _DARK, 4)


DRAWINGS: dict[str, Callable[[Pen], None]] = {
    "fire hydrant": _fire_hydrant,
    "parking meter": _parking_meter,
    "bench": _bench,
    "baseball bat": _baseball_bat,
    "baseball glove": _baseball_glove,
    "surfboard": _surfboard,
    "fork": _fork,
    "dining table": _dining_table,
    "tv remote": _tv_remote,
    "microwave": _microwave,
    "oven": _oven,
    "toaster": _toaster,
    "sink": _sink,
    "refrigerator": _refrigerator,
    "hair drier": _hair_drier,
    "stop sign": _stop_sign,
    "snowboard": _snowboard,
    "skis": _skis,
}
