"""Sprites: one small picture with transparency per thing, and its ten repaintings.

Most things are glyphs of Noto Color Emoji (SIL Open Font License 1.1); those it lacks are drawn in `drawings`. The
font is needed where models are trained and nowhere else. Knows nothing about scenes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .concepts import CLASSES, COLORS
from .drawings import DRAWINGS, draw

SPRITE_SIZE = 64
DEFAULT_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
_STRIKE = 109  # the only size at which the font has bitmaps
_INK = 16  # alpha (of 255) above which a pixel belongs to the thing

# The nearest glyph of each thing; loose ones: a tie on a shirt, a racket with its ball.
GLYPHS: dict[str, str] = {
    "person": "\U0001f9cd", "bicycle": "\U0001f6b2", "car": "\U0001f697", "motorcycle": "\U0001f3cd",
    "airplane": "\u2708", "bus": "\U0001f68c", "train": "\U0001f682", "truck": "\U0001f69a", "boat": "\u26f5",
    "traffic light": "\U0001f6a6", "bird": "\U0001f426", "cat": "\U0001f408",
    "dog": "\U0001f415", "horse": "\U0001f40e", "sheep": "\U0001f411", "cow": "\U0001f404",
    "elephant": "\U0001f418", "bear": "\U0001f43b", "zebra": "\U0001f993", "giraffe": "\U0001f992",
    "backpack": "\U0001f392", "umbrella": "\u2602", "handbag": "\U0001f45c", "tie": "\U0001f454",
    "suitcase": "\U0001f9f3", "frisbee": "\U0001f94f",
    "sports ball": "\u26bd", "kite": "\U0001fa81", "skateboard": "\U0001f6f9", "tennis racket": "\U0001f3be",
    "bottle": "\U0001f37e", "wine glass": "\U0001f377", "cup": "\u2615", "knife": "\U0001f52a",
    "spoon": "\U0001f944", "bowl": "\U0001f963", "banana": "\U0001f34c", "apple": "\U0001f34e",
    "sandwich": "\U0001f96a", "orange": "\U0001f34a", "broccoli": "\U0001f966", "carrot": "\U0001f955",
    "hot dog": "\U0001f32d", "pizza": "\U0001f355", "donut": "\U0001f369", "cake": "\U0001f382",
    "chair": "\U0001fa91", "couch": "\U0001f6cb", "potted plant": "\U0001fab4", "bed": "\U0001f6cf",
    "toilet": "\U0001f6bd", "tv": "\U0001f4fa", "laptop": "\U0001f4bb", "computer mouse": "\U0001f5b1",
    "computer keyboard": "\u2328", "cell phone": "\U0001f4f1", "book": "\U0001f4d6", "clock": "\u23f0",
    "vase": "\U0001f3fa", "scissors": "\u2702", "teddy bear": "\U0001f9f8", "toothbrush": "\U0001faa5",
}  # fmt: skip


class FontMissingError(FileNotFoundError):
    """The emoji font is not where it was looked for."""


@dataclass(frozen=True)
class Sprites:
    """Pictures of things: the natural one first, then one per colour."""

    classes: tuple[str, ...]
    pixels: NDArray[np.uint8]  # [classes, 1 + colours, 64, 64, 4] RGBA


def load_sprites(font: Path | None = None) -> Sprites:
    """All 80 things, glyphs from `font` and drawings for the rest."""
    path = font or DEFAULT_FONT
    if not path.is_file():
        raise FontMissingError(
            f"no emoji font at {str(path)!r}. Install the Debian package 'fonts-noto-color-emoji' "
            "or name a NotoColorEmoji.ttf with --font."
        )
    glyphs = ImageFont.truetype(str(path), _STRIKE)
    return _repainted(CLASSES, [draw(name) if name in DRAWINGS else _glyph(glyphs, GLYPHS[name]) for name in CLASSES])


def drawn_sprites() -> Sprites:
    """Only the things that code draws: a small world that needs no font, for tests."""
    return _repainted(tuple(DRAWINGS), [draw(name) for name in DRAWINGS])


def recolour(sprite: NDArray[np.uint8], paint: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Paint a sprite in one colour and keep its shading.

    Brightness is first stretched over the sprite's own range, so that a dark thing can be painted yellow. The ramp
    starts at 0.64: from 0.45, orange on dark sprites looks brown and yellow olive. Highlights fade towards white, so
    that inner lines stay. Black and white need ramps of their own.
    """
    rgb, alpha = sprite[..., :3].astype(np.float32) / 255, sprite[..., 3:]
    brightness = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    low, high = np.percentile(brightness[alpha[..., 0] > _INK], [3, 97])
    stretched = np.clip((brightness - low) / max(high - low, 1e-3), 0, 1)[..., None]
    color = np.array(paint, dtype=np.float32)
    if not color.any():
        painted = 0.03 + 0.33 * stretched.repeat(3, axis=-1)
    elif color.all() and color.min() == 1:
        painted = 0.85 + 0.15 * stretched.repeat(3, axis=-1)
    else:
        highlight = 0.5 * np.clip(stretched - 0.6, 0, None) * (1 - color)
        painted = color * (0.64 + 0.40 * stretched) + highlight
    return np.concatenate([(painted.clip(0, 1) * 255).round().astype(np.uint8), alpha], axis=-1)


def _repainted(classes: tuple[str, ...], natural: list[Image.Image]) -> Sprites:
    rows = []
    for image in natural:
        sprite = np.asarray(_fitted(image), dtype=np.uint8)
        rows.append(np.stack([sprite, *(recolour(sprite, paint) for paint in COLORS.values())]))
    return Sprites(classes, np.stack(rows))


def _glyph(font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    canvas = Image.new("RGBA", (2 * _STRIKE, 2 * _STRIKE))
    ImageDraw.Draw(canvas).text((_STRIKE // 4, _STRIKE // 4), text, font=font, embedded_color=True)
    if canvas.getchannel("A").getextrema() == (0, 0):
        raise FontMissingError(f"the font has no picture for {text!r}: it is not Noto Color Emoji")
    return canvas


def _fitted(image: Image.Image) -> Image.Image:
    """Crop to the ink, centre on a square, scale so that the longer side fills the sprite."""
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha > _INK)).getbbox()
    ink = image.crop(box)
    side = max(ink.size)
    square = Image.new("RGBA", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square.resize((SPRITE_SIZE, SPRITE_SIZE), Image.Resampling.LANCZOS)
