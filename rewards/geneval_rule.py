"""GenEval's rule as pure functions: what is in the picture, what should be, and whether the one fits the other.

`grade` agrees with the official evaluator (Ghosh et al. 2023) on every input. `grade_dense` passes exactly the same
pictures, and says how plainly they pass or how far they fall short, so that a search has something to climb.

Both take `objects`, which maps a class name to its detections (anything with `.score` and `.box` = x0, y0, x1, y1, y
growing downwards). Detections below the threshold may still be there: `grade` drops them, `grade_dense` uses them to
tell nearly found from absent. Equal scores keep the order they come in.

Metadata is GenEval's: a `tag`, clauses to `include` (`class`, `count`, perhaps `color`, perhaps `position`: [relation,
index of an earlier clause]) and to `exclude` (`class`, `count`). The official thresholds are the defaults; they fit the
official detector, and a detector with other scores wants others.

Neither knows where detections come from, how colours are told, or what a prompt is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from .vocabulary import counted, plural, with_article

THRESHOLD = 0.3
COUNTING_THRESHOLD = 0.9  # when the tag is "counting"
LIMIT = 16  # detections of one class
SHRINK = 0.1  # share of both sizes by which an offset shrinks before it counts
SAME_PLACE = 1e-3  # pixels; a shrunk offset below this is no relation at all
CUT = 0.5  # of the direction's component, from which a relation holds

_TINY = 1e-9  # the least margin of a clause that holds
Box = Sequence[float]


class Found(Protocol):
    """What the rule needs to know of a detection."""

    @property
    def score(self) -> float: ...

    @property
    def box(self) -> Box: ...


F = TypeVar("F", bound=Found)
Objects = Mapping[str, Sequence[F]]


class Grade(NamedTuple):
    """The verdict on one picture.

    `parts` has 1.0 or 0.0 for each clause that was looked at, e.g. {"apple: count": 1.0, "apple: color": 0.0}.
    `reason` says what is wrong, in one line; empty when nothing is.
    """

    correct: bool
    reason: str
    parts: dict[str, float]


class DenseGrade(NamedTuple):
    """How plainly a picture is right: `value` in [-1, 1], greater than 0 exactly when `grade` calls it correct.

    `margins` has the same scale for each clause, looked at or not.
    """

    value: float
    margins: dict[str, float]


def grade(
    objects: Objects[F],
    metadata: Mapping[str, Any],
    color_of: Callable[[F, str], str],
    *,
    threshold: float = THRESHOLD,
    counting_threshold: float = COUNTING_THRESHOLD,
    limit: int = LIMIT,
) -> Grade:
    """The official verdict.

    Args:
        objects: detections by class name.
        metadata: what should be in the picture.
        color_of: names the colour of a detection of a class; asked only where a clause depends on it.
        threshold: detections must score more than this,
        counting_threshold: or more than this when the tag is "counting".
        limit: only that many detections of a class are seen.
    """
    least = counting_threshold if metadata.get("tag") == "counting" else threshold
    seen = {name: [d for d in best(found, limit) if d.score > least] for name, found in objects.items()}
    parts: dict[str, float] = {}
    reasons: list[str] = []
    groups: list[Sequence[F] | None] = []

    def record(name: str, aspect: str, fault: str) -> bool:
        parts[_key(parts, name, aspect)] = 0.0 if fault else 1.0
        if fault:
            reasons.append(fault)
        return not fault

    for clause in metadata.get("include", ()):
        name, count = clause["class"], clause["count"]
        group = seen.get(name, [])[:count]
        holds = record(name, "count", _count_fault(name, count, len(group)))
        if holds and "color" in clause:
            colors = [color_of(detection, name) for detection in group]
            holds = record(name, "color", _color_fault(name, count, clause["color"], colors))
        if holds and "position" in clause:
            relation, target = clause["position"]
            target_name = metadata["include"][target]["class"]
            fault = _position_fault(name, relation, target_name, group, groups[target])
            holds = record(name, "position", fault)
        groups.append(group if holds else None)
    for clause in metadata.get("exclude", ()):
        name, count = clause["class"], clause["count"]
        exact = any(c["class"] == name and c["count"] == count - 1 for c in metadata.get("include", ()))
        record(name, "exclude", _exclude_fault(name, count, len(seen.get(name, [])), exact))
    return Grade(not reasons, "; ".join(reasons), parts)


def grade_dense(
    objects: Objects[F],
    metadata: Mapping[str, Any],
    colors_of: Callable[[F, str], Mapping[str, float]],
    *,
    threshold: float = THRESHOLD,
    counting_threshold: float = COUNTING_THRESHOLD,
    limit: int = LIMIT,
) -> DenseGrade:
    """The margin of the weakest clause when all hold, else minus the mean shortfall of the clauses.

    A clause's margin is made in the same way from the margins of what it speaks about: of each wanted object (how far
    its score lies above the threshold), of each object's colour (its probability minus that of the best other), of
    each pair's relation. So two clocks of three score more than one. An object below the threshold still shows its
    colour and place, but counts for them only in proportion to its score: the value moves continuously as an object
    appears, and a stray weak detection is worth little.

    Args:
        colors_of: the probability of each colour, for a detection of a class; the likeliest (the first of equals) is
            its colour. The other arguments are those of `grade`, with thresholds between 0 and 1.
    """
    least = counting_threshold if metadata.get("tag") == "counting" else threshold
    ranked = {name: best(found, limit) for name, found in objects.items()}
    margins: dict[str, float] = {}
    groups: list[list[F | None]] = []
    for clause in metadata.get("include", ()):
        name, count = clause["class"], clause["count"]
        group = _filled(ranked.get(name, []), count)
        groups.append(group)
        scores = [detection.score if detection else 0.0 for detection in group]
        margins[_key(margins, name, "count")] = combine([_above(score, least) for score in scores])
        if "color" in clause:
            shown = [_color_margin(colors_of(d, name), clause["color"]) if d else -1.0 for d in group]
            margins[_key(margins, name, "color")] = combine(
                [_as_present(margin, least, score) for margin, score in zip(shown, scores, strict=True)]
            )
        if "position" in clause:
            relation, target = clause["position"]
            pairs = [(a, b) for a in group for b in groups[target]]
            margins[_key(margins, name, "position")] = combine([_pair_margin(a, b, relation, least) for a, b in pairs])
    for clause in metadata.get("exclude", ()):
        scores = [detection.score for detection in ranked.get(clause["class"], [])]
        margins[_key(margins, clause["class"], "exclude")] = _exclude_margin(scores, clause["count"], least)
    return DenseGrade(combine(list(margins.values())), margins)


def combine(margins: Sequence[float]) -> float:
    """The least margin when all are positive, else the mean of those that are not, over all: continuous at zero."""
    if all(margin > 0 for margin in margins):
        return min(margins, default=1.0)
    return sum(min(0.0, margin) for margin in margins) / len(margins)


def best(found: Sequence[F], limit: int = LIMIT) -> list[F]:
    """At most `limit` detections in falling order of score."""
    return sorted(found, key=lambda detection: -detection.score)[:limit]


def likeliest(colors: Mapping[str, float]) -> str:
    """The colour of the greatest probability, the first of equals; '' where there is none."""
    return max(colors, key=lambda color: colors[color], default="")


def relations(a: Box, b: Box) -> set[str]:
    """Where A lies from B: left of, right of, above, below; two of them, one, or none."""
    dx, dy = direction(a, b)
    holding = {"left of": dx < -CUT, "right of": dx > CUT, "above": dy < -CUT, "below": dy > CUT}
    return {relation for relation, holds in holding.items() if holds}


def direction(a: Box, b: Box) -> tuple[float, float]:
    """The offset from B's centre to A's, shrunk by the sizes of both, over its length before it shrank."""
    offset = [(a[i] + a[i + 2]) / 2 - (b[i] + b[i + 2]) / 2 for i in (0, 1)]
    sizes = [abs(a[i + 2] - a[i]) + abs(b[i + 2] - b[i]) for i in (0, 1)]
    shrunk = [math.copysign(max(abs(o) - SHRINK * s, 0.0), o) for o, s in zip(offset, sizes, strict=True)]
    if all(abs(component) < SAME_PLACE for component in shrunk):
        return 0.0, 0.0
    length = math.hypot(*offset)
    return shrunk[0] / length, shrunk[1] / length


def _key(parts: Mapping[str, float], name: str, aspect: str) -> str:
    key, number = f"{name}: {aspect}", 1
    while key in parts:
        number += 1
        key = f"{name}: {aspect} ({number})"
    return key


# What is wrong with a clause, in a critic's words; '' when it holds.


def _count_fault(name: str, count: int, found: int) -> str:
    return "" if found >= count else f"expected {counted(count, name)}, found {found}"


def _exclude_fault(name: str, count: int, found: int, exact: bool) -> str:
    if found < count:
        return ""
    if exact or count == 1:
        return f"expected {counted(count - 1, name)}, found {found}"
    return f"expected fewer than {counted(count, name)}, found {found}"


def _color_fault(name: str, count: int, wanted: str, colors: Sequence[str]) -> str:
    if colors.count(wanted) >= count:
        return ""
    if count == 1:
        return f"expected {with_article(f'{wanted} {name}')}, it is {colors[0]}"
    tally = ", ".join(f"{colors.count(color)} {color}" for color in dict.fromkeys(colors))
    return f"expected {count} {wanted} {plural(name)}, found {tally}"


def _position_fault(
    name: str, relation: str, target_name: str, group: Sequence[Found], targets: Sequence[Found] | None
) -> str:
    wish = f"expected {with_article(name)} {relation} {with_article(target_name)}"
    if targets is None:
        return f"{wish}, but there is no such {target_name} to compare with"
    for detection in group:
        for target in targets:
            shown = relations(detection.box, target.box)
            if relation not in shown:
                return f"{wish}, it is {' and '.join(sorted(shown)) or 'on no clear side of'} it"
    return ""


# Margins: in [-1, 1], greater than 0 exactly when the condition holds.


def _signed(margin: float, holds: bool) -> float:
    """The margin, kept on the side of zero that the rule says, whatever rounding or ties did to it."""
    return max(margin, _TINY) if holds else min(margin, 0.0)


def _above(score: float, threshold: float) -> float:
    scale = 1 - threshold if score > threshold else threshold
    return (score - threshold) / scale


def _exclude_margin(scores: Sequence[float], count: int, threshold: float) -> float:
    """How far the `count`-th score stays below the threshold; else the surplus, as a share of what is allowed."""
    if count < 1:
        return -1.0
    surplus = [_above(score, threshold) for score in scores[count - 1 :] if score > threshold]
    if surplus:
        return -min(1.0, sum(surplus) / max(1, count - 1))
    nearest = scores[count - 1] if len(scores) >= count else 0.0
    return _signed(-_above(nearest, threshold), holds=True)


def _color_margin(colors: Mapping[str, float], wanted: str) -> float:
    others = max((p for color, p in colors.items() if color != wanted), default=0.0)
    return _signed(colors.get(wanted, 0.0) - others, holds=likeliest(colors) == wanted)


def _pair_margin(a: Found | None, b: Found | None, relation: str, threshold: float) -> float:
    if a is None or b is None:
        return -1.0
    return _as_present(_relation_margin(a.box, b.box, relation), threshold, a.score, b.score)


def _relation_margin(a: Box, b: Box, relation: str) -> float:
    dx, dy = direction(a, b)
    along = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}[relation]
    return (along - CUT) / (1 - CUT if along > CUT else 1 + CUT)


def _as_present(margin: float, threshold: float, *scores: float) -> float:
    """The margin of something seen for sure; nearer to -1 the less surely it was seen."""
    presence = min(1.0, *(score / threshold for score in scores))
    return presence * margin - (1 - presence)


def _filled(ranked: Sequence[F], count: int) -> list[F | None]:
    """The best `count` detections, with None where there are not enough."""
    return [*ranked[:count], *[None] * (count - len(ranked))]
