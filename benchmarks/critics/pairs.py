"""Pairs of fresh pictures for one prompt: one shows what is asked, the other does not, by construction.

What is wrong is the class, colour, count or place of a thing (`scenes.corruptions`), or a thing that is broken: cut,
fused, merged, smeared, tinted or doubled (`scenes.broken`). Nothing else tells the two apart: ground, layout and sizes
are drawn anew for both. Whether a picture is right is GenEval's rule on what was truly painted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from milr.prompts import Prompt
from milr_rewards.geneval_rule import grade, likeliest
from milr_rewards.networks.detection import Detection

from ..scenes import language
from ..scenes.broken import Broken, break_things, render_broken
from ..scenes.concepts import COLORS, MAX_OBJECTS
from ..scenes.corruptions import KINDS, corrupt
from ..scenes.evaluate import to_picture
from ..scenes.layout import lay_out
from ..scenes.world import Painter, Requests, Scenes, sample_requests

BROKEN = "broken"

Reconstruct = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pairs:
    """N prompts with a right and a wrong picture each, and what is wrong."""

    prompts: list[Prompt]
    right: list[Image.Image]
    wrong: list[Image.Image]
    kinds: list[str]

    def joined(self, other: Pairs) -> Pairs:
        """These pairs, then those."""
        return Pairs(
            self.prompts + other.prompts,
            self.right + other.right,
            self.wrong + other.wrong,
            self.kinds + other.kinds,
        )


def draw_pairs(painter: Painter, count: int, seed: int, reconstruct: Reconstruct | None = None) -> Pairs:
    """`count` fresh pairs, a third of them with broken things.

    Args:
        reconstruct: shows pictures [N, 3, 96, 96] as something else gives them back.
    """
    generator = torch.Generator(painter.atlas.device).manual_seed(seed)
    show = reconstruct or (lambda images: images)
    broken = count // 3
    return _with_one_thing_wrong(painter, count - broken, seed, generator, show).joined(
        _with_broken_things(painter, broken, seed + 1, generator, show)
    )


def _with_one_thing_wrong(
    painter: Painter, count: int, seed: int, generator: torch.Generator, show: Reconstruct
) -> Pairs:
    requests = sample_requests(2 * count, len(painter.classes), generator)
    changed, kind = corrupt(requests, len(painter.classes), generator)
    # A changed count may ask for more things than a picture of this world has room for.
    kept = (changed.count.sum(1) <= MAX_OBJECTS).nonzero()[:count, 0]
    requests, changed = requests[kept], changed[kept]
    right, wrong = (painter.render(lay_out(version, generator, rounds=4)) for version in (requests, changed))
    prompts = _prompts(painter, requests, seed)
    return Pairs(prompts, _pictures(show(right)), _pictures(show(wrong)), [KINDS[k] for k in kind[kept].tolist()])


def _with_broken_things(
    painter: Painter, count: int, seed: int, generator: torch.Generator, show: Reconstruct
) -> Pairs:
    """Those of twice as many pictures that are surely wrong, whatever becomes of things that are hard to call."""
    requests = sample_requests(4 * count, len(painter.classes), generator)
    right = painter.render(lay_out(requests, generator, rounds=4))
    broken = break_things(lay_out(requests, generator, rounds=4), painter, generator, share=0.7)
    prompts = _prompts(painter, requests, seed)
    surely = [row for row, prompt in enumerate(prompts) if surely_wrong(painter, broken, row, prompt.metadata)][:count]
    rows = torch.tensor(surely, device=right.device)
    wrong = render_broken(painter, broken[rows])
    return Pairs(
        [prompts[row] for row in surely], _pictures(show(right[rows])), _pictures(show(wrong)), [BROKEN] * len(surely)
    )


def surely_wrong(painter: Painter, broken: Broken, row: int, metadata: Mapping[str, Any]) -> bool:
    """Whether a picture fails the rule both with and without the things that are hard to call."""
    unsure = broken.unsure[row] >= 0
    with_all = torch.where(unsure, broken.unsure[row], broken.seen.label[row])
    without = torch.where(unsure, -1, broken.seen.label[row])
    return not any(is_right(painter, broken.seen, row, metadata, label) for label in (with_all, without))


def is_right(
    painter: Painter, scenes: Scenes, row: int, metadata: Mapping[str, Any], label: Tensor | None = None
) -> bool:
    """The rule's verdict on what was painted; `label` replaces the names of the row's things."""
    objects: dict[str, list[Detection]] = {}
    labels = scenes.label[row] if label is None else label
    for name, color, box in zip(
        labels.tolist(), scenes.color[row].tolist(), painter.boxes(scenes)[row].tolist(), strict=True
    ):
        if name >= 0:
            shown = {list(COLORS)[color - 1]: 1.0} if color else {}
            found = Detection(painter.classes[name], 1.0, (box[0], box[1], box[2], box[3]), shown)
            objects.setdefault(found.label, []).append(found)
    return grade(objects, metadata, lambda found, _: likeliest(found.colors or {})).correct


def _prompts(painter: Painter, requests: Requests, seed: int) -> list[Prompt]:
    texts = language.prompts(requests, painter.classes, random.Random(seed))
    rows = language.metadata(requests, painter.classes)
    return [Prompt(text, metadata=row) for text, row in zip(texts, rows, strict=True)]


def _pictures(images: Tensor) -> list[Image.Image]:
    return [to_picture(image) for image in images]
