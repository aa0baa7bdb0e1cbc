"""From pictures of any size to what a vision tower takes: Janus's own preprocessing, with Pillow alone.

A picture is scaled so that its longer side fits, centred on a square of one colour, and normalised. transformers'
`JanusImageProcessor` does the same, but needs torchvision, which milr does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """What a checkpoint says of its pictures; colours in 0..255, mean and std of values in 0..1."""

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    background: tuple[int, ...] = (127, 127, 127)
    min_size: int = 14  # px: the shorter side of a long, thin picture

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Of a `preprocessor_config.json`, or the part of a `processor_config.json` about images."""
        return cls(
            tuple(config.get("image_mean") or cls.mean),
            tuple(config.get("image_std") or cls.std),
            tuple(config.get("background_color") or cls.background),
            config.get("min_size", cls.min_size),
        )


JANUS_PRO_PICTURES = Preprocessing()


def pixel_values(images: Sequence[Image.Image], resolution: int, preprocessing: Preprocessing) -> Tensor:
    """[N, 3, resolution, resolution] fp32."""
    squares = np.stack([np.asarray(_squared(image, resolution, preprocessing), dtype=np.float32) for image in images])
    pixels = torch.from_numpy(squares).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (preprocessing.mean, preprocessing.std))
    return ((pixels - mean) / std).contiguous()


def _squared(image: Image.Image, resolution: int, preprocessing: Preprocessing) -> Image.Image:
    rgb = image.convert("RGB")
    scale = resolution / max(rgb.size)
    width, height = (min(resolution, max(round(side * scale), preprocessing.min_size)) for side in rgb.size)
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BICUBIC)
    if (width, height) == (resolution, resolution):
        return rgb
    square = Image.new("RGB", (resolution, resolution), preprocessing.background)
    square.paste(rgb, ((resolution - width) // 2, (resolution - height) // 2))
    return square
