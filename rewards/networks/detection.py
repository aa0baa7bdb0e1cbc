"""What a detector says of one object in a picture; every detector of this package speaks so.

Knows nothing about how objects are found, nor about what should be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the given picture, y growing downwards


@dataclass(frozen=True)
class Detection:
    """One object.

    Attributes:
        label: its class.
        colors: probability of each colour name, where the detector sees colours.
        mask: [height, width] of the given picture, where the detector draws masks.
    """

    label: str
    score: float
    box: Box
    colors: Mapping[str, float] | None = None
    mask: NDArray[np.bool_] | None = None


def common_area(first: Box, second: Box) -> float:
    """Of what lies in both boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes; 0 where both are empty."""
    common = common_area(first, second)
    areas = [max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0) for box in (first, second)]
    union = sum(areas) - common
    return common / union if union > 0 else 0.0
