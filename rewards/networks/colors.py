"""Colours of detected objects, named as GenEval names them: by CLIP, zero-shot, between ten colours.

    namer = ColorNamer("geneval", "ViT-L-14", device)
    namer.paint(images, found, metadata)     the detections that a clause asks a colour of now have `colors`

The procedure is that of Ghosh et al. 2023 (arXiv 2310.11513, section 3): everything outside an object's mask is
painted grey, the picture cropped to its box, and the crop compared with three sentences per colour. Knows nothing
about how objects are found, nor about which colour they should have.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..language.vocabulary import COLORS
from .detection import Detection
from .open_clip_models import OpenClip

SENTENCES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")
SCALE = 100.0  # of a cosine, before the softmax
GREY = 0x99  # of all three channels, outside the mask


class ColorNamer:
    """A zero-shot classifier of colours.

    Args:
        reward: the critic that uses it, for messages.
        model: an architecture of open_clip with OpenAI's weights, "hf-hub:OWNER/NAME", or a folder.
        device: where the model runs.

    Raises:
        UnknownNameError, UsageError: there is no such model, or open_clip is not installed.
    """

    def __init__(self, reward: str, model: str, device: str = "cpu") -> None:
        self._clip = OpenClip(reward, model, device=device, option="colors")
        self.kin = self._clip.kin
        self._described: dict[str, torch.Tensor] = {}

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return self._clip.version

    def load(self) -> None:
        """Load the weights now.

        Raises:
            UsageError: they cannot be fetched, or they are damaged.
        """
        self._clip.load()

    def paint(
        self,
        images: Sequence[Image.Image],
        found: Sequence[MutableMapping[str, list[Detection]]],
        metadata: Sequence[Mapping[str, Any]],
    ) -> None:
        """Give `colors` to the detections that a clause may ask a colour of: the best `count` of its class.

        Args:
            images: the pictures.
            found: by picture and class, in falling order of score; changed in place.
            metadata: of each picture, in GenEval's form.
        """
        asked = [
            (image, objects[name], rank)
            for image, objects, wanted in zip(images, found, metadata, strict=True)
            for name, count in _colored(wanted).items()
            for rank in range(min(count, len(objects.get(name, ()))))
        ]
        crops = [crop(image, group[rank]) for image, group, rank in asked]
        colors = self.probabilities(crops, [group[rank].label for _, group, rank in asked])
        for (_, group, rank), shares in zip(asked, colors, strict=True):
            group[rank] = replace(group[rank], colors=shares)

    @torch.inference_mode()
    def probabilities(self, crops: Sequence[Image.Image], names: Sequence[str]) -> list[dict[str, float]]:
        """The probability of each colour, for each crop of an object of a class. Errors as `load`."""
        if not crops:
            return []
        seen = self._clip.embed_images(crops)  # [crops, D]
        described = torch.stack([self._describe(name) for name in names])  # [crops, colours, D]
        shares = (SCALE * torch.einsum("nd,ncd->nc", seen, described)).softmax(-1)
        return [dict(zip(COLORS, row, strict=True)) for row in shares.tolist()]

    def _describe(self, name: str) -> torch.Tensor:
        """[colours, D] of length 1: for each colour, the mean of its sentences about a class."""
        if name not in self._described:
            texts = [sentence.format(color=color, name=name) for color in COLORS for sentence in SENTENCES]
            embedded = self._clip.embed_texts(texts).unflatten(0, (len(COLORS), len(SENTENCES)))
            self._described[name] = torch.nn.functional.normalize(embedded.mean(1), dim=-1)
        return self._described[name]


def crop(image: Image.Image, detection: Detection) -> Image.Image:
    """An object alone, RGB: the picture inside its box, grey outside its mask where it has one.

    Corners are rounded, as the official evaluator's are. Unlike there, what lies outside of the picture is cut off,
    and a box without area gets the pixel at its corner: there is always something to look at.
    """
    pixels = np.asarray(image.convert("RGB"))  # [height, width, 3]
    (x0, x1), (y0, y1) = (
        _within(detection.box[axis], detection.box[axis + 2], length) for axis, length in enumerate(image.size)
    )
    inside = pixels[y0:y1, x0:x1]
    if detection.mask is not None:
        inside = np.where(detection.mask[y0:y1, x0:x1, None], inside, np.uint8(GREY))
    return Image.fromarray(inside)


def _within(low: float, high: float, length: int) -> tuple[int, int]:
    """Rounded, and at least one pixel of the `length` there are."""
    start = min(max(round(low), 0), length - 1)
    return start, min(max(round(high), start + 1), length)


def _colored(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Class name -> of how many of its objects a colour may be asked."""
    counts: dict[str, int] = {}
    for clause in metadata.get("include", ()):
        if "color" in clause:
            counts[clause["class"]] = max(clause["count"], counts.get(clause["class"], 0))
    return counts
