"""GenEval's rule as pure functions: what is in the picture, what should be, and whether the one fits the other.

`grade` agrees with the official evaluator (Ghosh et al. 2023) on every input. `grade_dense` passes exactly the same
pictures, and says how plainly they pass or how far they fall short, so that a search has something to climb.
`grade_share` counts what holds, each thing for as much as it is sure.

All take `objects`, which maps a class name to its detections (anything with `.score` and `.box` = x0, y0, x1, y1, y
growing downwards). Detections below the threshold may still be there: `grade` drops them, `grade_dense` uses them to
tell nearly found from absent. Equal scores keep the order they come in. A box may be a tuple or an array.

Metadata is GenEval's: a `tag`, clauses to `include` (`class`, `count`, perhaps `color`, perhaps `position`: [relation,
index of an earlier clause]) and to `exclude` (`class`, `count`). The official thresholds are the defaults; they fit the
official detector, and a detector with other scores wants others.

None knows where detections come from, how colours are told, or what a prompt is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from .language.vocabulary import counted, plural, with_article

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


class ShareGrade(NamedTuple):
    """How much of what was asked for is there: `value` in [0, 1], the mean of `shares`.

    `shares` has, for each clause, its confidence if it holds, else 0. A picture is right when none of them is 0.
    """

    value: float
    shares: dict[str, float]


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
    seen = _seen(objects, least, limit)
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


def grade_share(
    objects: Objects[F],
    metadata: Mapping[str, Any],
    colors_of: Callable[[F, str], Mapping[str, float]],
    *,
    threshold: float = THRESHOLD,
    counting_threshold: float = COUNTING_THRESHOLD,
    limit: int = LIMIT,
) -> ShareGrade:
    """The mean over the clauses of their confidence where they hold and of 0 where they do not.

    The confidence of a count is the mean score of the counted objects; of a colour, its mean probability; of a
    position, the mean over the pairs of the lesser score; of an exclusion, one minus the score of the first object too
    many. It sees less than `grade_dense`: what is nearly there counts like what is absent, and a picture that fails
    may be worth more than one that passes.

    Args:
        colors_of: as for `grade_dense`. The other arguments are those of `grade`.
    """
    least = counting_threshold if metadata.get("tag") == "counting" else threshold
    seen = _seen(objects, least, limit)
    shares: dict[str, float] = {}
    groups: list[Sequence[F] | None] = []
    for clause in metadata.get("include", ()):
        name, count = clause["class"], clause["count"]
        group = seen.get(name, [])[:count]
        holds = len(group) >= count
        shares[_key(shares, name, "count")] = _confidence(holds, (d.score for d in group))
        if "color" in clause:
            shown = [colors_of(detection, name) for detection in group] if holds else []
            holds = holds and all(likeliest(colors) == clause["color"] for colors in shown)
            shares[_key(shares, name, "color")] = _confidence(holds, (c.get(clause["color"], 0.0) for c in shown))
        if "position" in clause:
            relation, target = clause["position"]
            targets = groups[target]
            pairs = [(a, b) for a in group for b in targets or ()]
            holds = holds and targets is not None and all(relation in relations(a.box, b.box) for a, b in pairs)
            shares[_key(shares, name, "position")] = _confidence(holds, (min(a.score, b.score) for a, b in pairs))
        groups.append(group if holds else None)
    for clause in metadata.get("exclude", ()):
        name, count = clause["class"], clause["count"]
        surplus = [detection.score for detection in best(objects.get(name, ()), limit)[max(count - 1, 0) :]]
        holds = len(seen.get(name, [])) < count
        shares[_key(shares, name, "exclude")] = _confidence(holds, [1 - max(surplus, default=0.0)])
    return ShareGrade(sum(shares.values()) / len(shares) if shares else 1.0, shares)


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
    """The offset from B's centre to A's, shrunk by the sizes of both, over its length before it shrank.

    Computed in the precision of the boxes, as the official evaluator does it.
    """
    corners = np.array([a[:4], b[:4]]).reshape(2, 2, 2)  # [box, corner, axis]
    centers, sizes = corners.mean(1), np.abs(corners[:, 1] - corners[:, 0])  # [box, axis]
    offset = centers[0] - centers[1]
    shrunk = np.sign(offset) * np.maximum(np.abs(offset) - SHRINK * (sizes[0] + sizes[1]), 0)
    if (np.abs(shrunk) < SAME_PLACE).all():
        return 0.0, 0.0
    x, y = shrunk / np.linalg.norm(offset)
    return float(x), float(y)


def _seen(objects: Objects[F], threshold: float, limit: int) -> dict[str, list[F]]:
    """What counts as being there: at most `limit` of each class, in falling order of score, above the threshold."""
    return {name: [d for d in best(found, limit) if d.score > threshold] for name, found in objects.items()}


def _key(parts: Mapping[str, float], name: str, aspect: str) -> str:
    key, number = f"{name}: {aspect}", 1
    while key in parts:
        number += 1
        key = f"{name}: {aspect} ({number})"
    return key


def _confidence(holds: bool, values: Iterable[float]) -> float:
    """The mean; 1 where nothing had to be seen, 0 where the clause does not hold."""
    known = list(values)
    return (sum(known) / len(known) if known else 1.0) if holds else 0.0


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
