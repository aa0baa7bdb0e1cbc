"""What travels together through a network: so many at a time, each text once, pictures of one size.

Knows nothing about networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from PIL import Image

T = TypeVar("T")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """At most `size` items at a time, so that memory stays flat."""
    return (items[start : start + size] for start in range(0, len(items), size))


def once(texts: Sequence[str], embed: Callable[[Sequence[str]], torch.Tensor], size: int) -> torch.Tensor:
    """[texts, D] of texts that repeat: each is embedded once, `size` at a time."""
    different = list(dict.fromkeys(texts))
    embedded = torch.cat([embed(batch) for batch in batches(different, size)])
    place = {text: row for row, text in enumerate(different)}
    return embedded[[place[text] for text in texts]]


def alike(images: Sequence[Image.Image], size: int) -> Iterator[list[int]]:
    """Indices of pictures of the same size, at most `size` at a time: padded to a common size, they would score
    otherwise than alone."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.size, []).append(index)
    for group in groups.values():
        yield from (list(batch) for batch in batches(group, size))
