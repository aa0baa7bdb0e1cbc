"""Several critics as one: weights, normalisation of each part, gates, and how the parts become one value.

    value = sum of w n        (or)  min of n        (or)  product of n ** w
    n     = v                       as the critic says it
          = (v - low) / (high - low), kept within 0 to 1      a fixed range
          = (v - mean) / deviation of what the search has seen so far: a running z-score

A gate is a critic that must say at least so much. A picture that it turns away is worth less than any that it lets
through, and the less the further it falls short, so that a search finds its way back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image

from milr.errors import UsageError
from milr.prompts import Prompt
from milr.rewards.cache import CachedReward
from milr.rewards.contract import Memory, Reward, Score, kin_of, score_safely, total_cost

Combine = Literal["sum", "min", "product"]
Scale = tuple[float, float] | Literal["zscore"] | None


@dataclass(frozen=True)
class Part:
    """One critic of a composition.

    Attributes:
        label: what it is called among the others.
        weight: factor in a sum, exponent in a product; 0 for a critic that only guards a gate, or is only watched.
        scale: what its values are measured in: its own units, a range (low, high), or a running z-score.
        gate: the least value that lets a picture pass; None for no gate.
    """

    label: str
    reward: Reward
    weight: float = 1.0
    scale: Scale = None
    gate: float | None = None

    @property
    def range(self) -> tuple[float, float]:
        """Of the normalised value."""
        if self.scale is None:
            return self.reward.range
        return (-math.inf, math.inf) if self.scale == "zscore" else (0.0, 1.0)

    def described(self, name: str) -> str:
        """The part under some name, with all that changes its value."""
        scale = self.scale if self.scale is None or self.scale == "zscore" else "{:g}:{:g}".format(*self.scale)
        gate = None if self.gate is None else f">={self.gate:g}"
        described = "".join(f"[{extra}]" for extra in (scale, gate) if extra)
        return f"{self.weight:g}*{name}{described}"


class Composite(Reward):
    """Several critics as one; a picture that one of them cannot score has no score.

    A score's parts are the critics' own values by label, and theirs as "label/part".

    Raises:
        UsageError: parts that cannot be combined so.
    """

    def __init__(self, parts: Sequence[Part], combine: Combine = "sum") -> None:
        self.parts, self.combine = list(parts), combine
        self.name = "+".join(f"{part.weight:g}*{part.label}" for part in self.counted)
        self.needs = frozenset[str]().union(*(part.reward.needs for part in self.parts))
        self.size_mb = sum(part.reward.size_mb for part in self.parts)
        # One that is only watched steers nothing.
        self.kin = kin_of(part.reward for part in self.parts if part.weight or part.gate is not None)
        self._check_parts()
        self.range = self._range()
        self.target = self._target()

    @property
    def version(self) -> str:  # type: ignore[override]
        """Of all parts; those of fetched weights are known once they are loaded.

        Labels have no part in it: a critic that is served on another port is the same critic.
        """
        parts = "+".join(f"{part.described(part.reward.name)}@{part.reward.version}" for part in self.parts)
        return parts if self.combine == "sum" else f"{self.combine}({parts})"

    @property
    def counted(self) -> list[Part]:
        """The parts that make the value."""
        return [part for part in self.parts if part.weight]

    def check(self, prompt: Prompt) -> None:
        for part in self.parts:
            part.reward.check(prompt)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        """Scores in which z-scores are 0: they have a meaning only among the pictures of a search."""
        columns = [score_safely(part.reward, images, prompts) for part in self.parts]
        return [self._joined(row) for row in zip(*columns, strict=True)]

    def settle(self, scores: Sequence[Score], memory: Memory) -> list[Score]:
        measured = [part for part in self.counted if part.scale == "zscore"]
        if not measured:
            return list(scores)
        for part in measured:
            values = [score.parts[part.label] for score in scores if score.value is not None]
            memory[self._key(part)] = _with(memory.get(self._key(part), _NOTHING), values)
        return [self._valued(score, memory) if score.value is not None else score for score in scores]

    def _joined(self, scores: Sequence[Score]) -> Score:
        values: dict[str, float] = {}
        details: dict[str, float] = {}
        cost = total_cost(score.cost for score in scores)
        for part, score in zip(self.parts, scores, strict=True):
            details |= {f"{part.label}/{name}": value for name, value in score.parts.items()}
            if score.value is not None:
                values[part.label] = score.value
        needed = [(p, s) for p, s in zip(self.parts, scores, strict=True) if p.weight or p.gate is not None]
        errors = [f"{part.label}: {score.error}" for part, score in needed if score.value is None]
        if errors:
            return Score(None, values | details, error="; ".join(errors), cost=cost)
        said = [(part.label, score.reason) for part, score in zip(self.parts, scores, strict=True) if score.reason]
        reason = "; ".join(f"{label}: {reason}" if len(self.parts) > 1 else reason for label, reason in said)
        return self._valued(Score(0.0, values | details, reason, cost=cost), {})

    def _valued(self, score: Score, memory: Memory) -> Score:
        """The same score with the value that its parts make."""
        shares = [
            (_normalised(score.parts[part.label], part.scale, memory.get(self._key(part), _NOTHING)), part.weight)
            for part in self.counted
        ]
        value = _combined(shares, self.combine)
        turned_away = {
            part.label: (score.parts[part.label], part.gate)
            for part in self.parts
            if part.gate is not None and score.parts[part.label] < part.gate
        }
        if not turned_away:
            return replace(score, value=value)
        short = sum(gate - said for said, gate in turned_away.values())
        told = "; ".join(f"{label} {said:.3g} is under its gate {g:g}" for label, (said, g) in turned_away.items())
        reason = f"{told}; {score.reason}" if score.reason else told
        return replace(score, value=self._least - short, reason=reason)

    def _key(self, part: Part) -> str:
        """Under which a part's values are remembered; not by its label, which may be an address that changes."""
        return str(self.parts.index(part))

    @property
    def _least(self) -> float:
        """The least value of a picture that passes all gates."""
        ends = [[(end, part.weight) for end in part.range] for part in self.counted]
        if self.combine == "sum":
            return sum(min(weight * end for end, weight in both) for both in ends)
        return _combined([both[0] for both in ends], self.combine)

    def _range(self) -> tuple[float, float]:
        shortfalls = [max(p.gate - p.reward.range[0], 0.0) for p in self.parts if p.gate is not None]
        if self.combine == "sum":
            greatest = sum(max(part.weight * end for end in part.range) for part in self.counted)
        else:
            greatest = _combined([(part.range[1], part.weight) for part in self.counted], self.combine)
        return self._least - sum(shortfalls), greatest

    def _target(self) -> float | None:
        """Where one critic makes the value, its own; several have no success in common."""
        part, *others = self.counted
        if others or part.scale == "zscore" or part.reward.target is None or part.weight < 0:
            return None
        return _combined([(_normalised(part.reward.target, part.scale, _NOTHING), part.weight)], self.combine)

    def _check_parts(self) -> None:
        labels = [part.label for part in self.parts]
        twice = {label for label in labels if labels.count(label) > 1}
        if twice:
            raise UsageError(f"reward {min(twice)!r} is there twice; give it one weight.")
        for part in self.parts:
            critic = part.reward.reward if isinstance(part.reward, CachedReward) else part.reward
            if type(critic).settle is not Reward.settle:
                raise UsageError(
                    f"reward {part.label!r} measures pictures against earlier ones of a search, and means nothing as a "
                    "part of others; use it alone."
                )
        if not self.counted:
            raise UsageError("no critic has a weight; name one that says which picture is better.")
        for part in self.counted:
            if self.combine == "min" and part.weight != 1:
                raise UsageError(
                    f"the least of several critics takes each once, and without a weight; {part.label!r} has "
                    f"{part.weight:g}. Combine by sum for weights."
                )
            if self.combine == "product" and not (part.range[0] >= 0 and part.weight >= 0):
                negative = [each.label for each in self.counted if not (each.range[0] >= 0 and each.weight >= 0)]
                ranges = " ".join(f"--normalise {label}=-1:1" for label in negative)
                raise UsageError(
                    f"a product needs critics and weights that are never negative, and {', '.join(negative)} may be "
                    f"(z-scores always are); give ranges, e.g. {ranges}."
                )
        if any(part.gate is not None for part in self.parts) and not math.isfinite(self._least):
            unbounded = next(part.label for part in self.counted if not math.isfinite(min(part.range)))
            raise UsageError(
                f"with a gate there must be a least value, and {unbounded!r} has none (no z-score has one); "
                f"give its range, e.g. --normalise {unbounded}=0:1."
            )


_NOTHING = (0.0, 0.0, 0.0)


def _with(moments: Sequence[float], values: Sequence[float]) -> list[float]:
    """(count, mean, sum of squared deviations) with more values (Welford 1962)."""
    count, mean, squares = moments
    for value in values:
        count += 1
        before = value - mean
        mean += before / count
        squares += before * (value - mean)
    return [count, mean, squares]


def _normalised(value: float, scale: Scale, moments: Sequence[float]) -> float:
    if scale is None:
        return value
    if scale == "zscore":
        count, mean, squares = moments
        deviation = math.sqrt(squares / count) if count else 0.0
        return (value - mean) / deviation if deviation > 1e-9 else 0.0
    low, high = scale
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _combined(shares: Sequence[tuple[float, float]], combine: Combine) -> float:
    """One value of (normalised value, weight) pairs."""
    if combine == "sum":
        return sum(weight * value for value, weight in shares)
    if combine == "min":
        return min(value for value, _ in shares)
    return math.prod(value**weight for value, weight in shares)
