"""How two things stand to each other in a picture: T2I-CompBench's words, position scores and depth scores.

The formulas are those of `determine_position` in the benchmark's `UniDet_eval/2D_spatial_eval.py` and
`3D_spatial_eval.py` (arXiv 2307.06350). Pure functions of boxes; where boxes and
depth come from is somebody else's business.

Accepted differences to the official code, which is wrong there or depends on its detector:
- "on top of" is in its word list and always scores 0; here it means "on the top of". "above", "below" and other words
  of the same sense are read too.
- It indexes the depth map of a box by column and row the wrong way round.
- It asks for the distance of "near" in pixels of a picture that was resized to 480; here it is that share of the
  longer side, for a picture of any size.
- Two things of one name ("a chicken hidden by a chicken") are two detections, not one compared with itself.
- Things are searched for under their own names: it takes "girl", "boy", "man" and "woman" for "person", since its
  detector knows no better, and only the first noun of "coat rack".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from milr.errors import PromptError
from milr.prompts import Prompt
from milr.rewards import Score

from ..networks.detection import Box, Detection, overlap
from .noun_phrases import chunks

Relation = Literal["left", "right", "top", "bottom", "near", "front", "behind"]

NEAR = 150 / 480  # of the longer side: distance of centres that counts as near
APART = 0.1  # overlap up to which two things stand wholly beside each other
BEFORE = 0.5  # overlap from which one thing stands wholly before another
CONFIDENT = 0.5  # scores below are 0 in the plane

PLANE: tuple[Relation, ...] = ("left", "right", "top", "bottom", "near")
DEPTH: tuple[Relation, ...] = ("front", "behind")

# The benchmark's own words come first; the last ones of each list are ours.
_WORDS: dict[Relation, str] = {
    "near": r"on (?:the )?side of|next to|near|close to|beside",
    "left": r"(?:on|to) the left(?: side)? of|left of",
    "right": r"(?:on|to) the right(?: side)? of|right of",
    "bottom": r"on the bottom of|below|under|underneath|beneath",
    "top": r"on the top of|on top of|above",
    "front": r"in front of",
    "behind": r"behind|hidden(?: by| behind)?",
}

_NAMES = {"left": "left of", "right": "right of", "top": "above", "bottom": "below", "front": "in front of"}


@dataclass(frozen=True)
class Placement:
    """One thing in its relation to another."""

    first: str
    relation: Relation
    second: str


def placement_of(prompt: Prompt, relations: Sequence[Relation]) -> Placement:
    """What a prompt says: its metadata, {"objects": ["cat", "mat"], "relation": "top"}, or its text.

    Raises:
        PromptError: the metadata is malformed, or the text has no relation between two things.
    """
    if "relation" in prompt.metadata or "objects" in prompt.metadata:
        return _given(prompt, relations)
    match = _find(prompt.text, relations)
    if match:
        relation, start, end = match
        before, after = chunks(prompt.text[:start]), chunks(prompt.text[end:])
        if before and after:  # the subject, "a cone was hung in mid-air near", and what stands next
            return Placement(before[0].name, relation, after[0].name)
    raise PromptError(
        f"cannot tell which two things {prompt.text!r} relates; expected a sentence such as {_example(relations)!r}, "
        f'or metadata: {{"prompt": "...", "objects": ["cat", "dog"], "relation": "{relations[0]}"}}.'
    )


def _find(text: str, relations: Sequence[Relation]) -> tuple[Relation, int, int] | None:
    """The first relation that a text speaks of, and where its words begin and end."""
    found = []
    for relation in relations:
        if match := re.search(rf"\b(?:{_WORDS[relation]})\b", text, re.IGNORECASE):
            found.append((relation, *match.span()))
    return min(found, key=lambda one: (one[1], -one[2]), default=None)


def position_score(relation: Relation, first: Box, second: Box, near: float) -> float:
    """How well two boxes stand in a relation of the plane, in [0, 1].

    Near holds when the centres are nearer than `near` pixels in *one* of both directions, as the benchmark has it; else
    it is `near` over the longer distance. Sides are those of `side_score`.
    """
    if relation != "near":
        return side_score(relation, first, second)
    across, down = _offset(first, second)
    return 1.0 if min(abs(across), abs(down)) < near else near / max(abs(across), abs(down))


def side_score(relation: Relation, first: Box, second: Box) -> float:
    """How well the first of two boxes is at the left, right, top or bottom of the second, in [0, 1].

    Zero unless its centre lies more that way than any other; then 1 up to an overlap of `APART`, beyond it `APART` over
    the overlap.
    """
    across, down = _offset(first, second)  # from the first to the second
    along, aside = {
        "left": (across, down),
        "right": (-across, down),
        "top": (down, across),
        "bottom": (-down, across),
    }[relation]
    if along <= abs(aside):
        return 0.0
    common = overlap(first, second)
    return 1.0 if common < APART else APART / common


def depth_score(relation: Relation, first: Box, second: Box, nearness: torch.Tensor) -> float:
    """How well two boxes stand before or behind each other, in [0, 1].

    Zero when the mean nearness within the boxes says the opposite; else their overlap over `BEFORE`, at most 1.

    Args:
        nearness: [height, width] of the picture, greater where it is nearer.
    """
    difference = _mean(nearness, first) - _mean(nearness, second)
    if (difference if relation == "front" else -difference) <= 0:
        return 0.0
    return min(1.0, overlap(first, second) / BEFORE)


def pick(
    found: Mapping[str, Sequence[Detection]], first: str, second: str
) -> tuple[Detection | None, Detection | None]:
    """The surest detection of each name; the two surest ones where the names are the same."""
    firsts, seconds = found.get(first, ()), found.get(second, ())
    if first == second:
        seconds = seconds[1:]
    return (firsts[0] if firsts else None), (seconds[0] if seconds else None)


def score_placement(
    found: Mapping[str, Sequence[Detection]],
    placement: Placement,
    judge: Callable[[Box, Box], float],
    cut: float = 0.0,
) -> Score:
    """The benchmark's score: a quarter of the confidence in each thing, and half of the relation's score.

    Args:
        found: detections by name, the surest first.
        judge: the score of the relation between two boxes, in [0, 1].
        cut: scores below this are 0.
    """
    first, second = pick(found, placement.first, placement.second)
    relation = judge(first.box, second.box) if first and second else 0.0
    confidence = [detection.score if detection else 0.0 for detection in (first, second)]
    value = 0.25 * sum(confidence) + 0.5 * relation
    parts = {"first": confidence[0], "second": confidence[1], placement.relation: relation}
    missing = [name for name, score in zip((placement.first, placement.second), confidence, strict=True) if not score]
    asked = f"{placement.first} {_NAMES.get(placement.relation, placement.relation)} {placement.second}"
    reason = f"no {' and no '.join(missing)} found" if missing else f"{asked}: {relation:.2f}"
    return Score(value if value >= cut else 0.0, parts, reason)


def _offset(first: Box, second: Box) -> tuple[float, float]:
    return (
        (second[0] + second[2] - first[0] - first[2]) / 2,
        (second[1] + second[3] - first[1] - first[3]) / 2,
    )


def _mean(values: torch.Tensor, box: Box) -> float:
    """The mean within a box, which covers one pixel at least."""
    height, width = values.shape
    left, top = (max(0, min(int(low), size - 1)) for low, size in ((box[0], width), (box[1], height)))
    return values[top : max(int(box[3]), top + 1), left : max(int(box[2]), left + 1)].mean().item()


def _given(prompt: Prompt, relations: Sequence[Relation]) -> Placement:
    objects, relation = prompt.metadata.get("objects"), prompt.metadata.get("relation")
    if isinstance(objects, list | tuple) and len(objects) == 2 and all(isinstance(o, str) and o for o in objects):
        for known in relations:
            if relation == known:
                return Placement(objects[0], known, objects[1])
    raise PromptError(
        f'"objects" of {prompt.text!r} must name two things and "relation" be one of {", ".join(relations)}, not '
        f"{objects!r} and {relation!r}."
    )


def _example(relations: Sequence[Relation]) -> str:
    return "a cat behind a sofa" if relations[0] in DEPTH else "a cat on the left of a sofa"
