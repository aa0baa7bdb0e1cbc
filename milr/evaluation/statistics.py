"""Means of tags, their weighted sums, and 95 % bootstrap intervals over prompts.

The unit is the prompt: one number each, over its pictures and, where several runs are one row, over their seeds. An
interval comes from prompts drawn again within each tag, so the pictures and the seeds of a prompt stay together. The
draws depend on the tag and its numbers alone: the same data gives the same interval, in whatever order it comes.

Of one prompt nothing can be drawn again: a figure in which a tag of a single prompt counts has no interval, and no
difference is ever called by it. Nor is one over fewer than `FEW` prompts of a tag, whose interval is too narrow; one
that rests on fewer than `DISCORDANT` prompts, which a sign test would not call even if all agreed; or one that lacks a
tag of its figure.

All results are rounded to six digits; what is smaller is the arithmetic's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
FEW = 10  # prompts: 18 % too narrow, as 1.96 sqrt(9/10) is against 2.26 of Student's t
DISCORDANT = 6  # prompts that differ: were all six better by chance, a sign test says p = 2 / 2^6 = .03; of five, .06
BETTER, WORSE, SAME, TOO_FEW, PARTIAL = "better", "worse", "not distinguishable", "too few prompts", "not of all tags"

_QUANTILES = (0.025, 0.975)
_CHUNK = 1_000  # resamples that are in memory together
_SEED = 0
DIGITS = 6


class PromptKey(NamedTuple):
    """A prompt as two runs must share it to be paired: an id alone may mean another text elsewhere."""

    id: str
    text: str
    tag: str


PerPrompt = Mapping[PromptKey, float]
Seed = int | None  # None: nobody knows
PerSeed = Mapping[Seed, PerPrompt]


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; no number without data, no interval where nothing can be drawn again."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Estimate:
        """The inverse of `to_record`; TypeError or KeyError for anything else."""
        return cls(*(_number(record[name]) for name in ("value", "low", "high")))

    def to_record(self) -> dict[str, float | None]:
        """As JSON has it."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Difference:
    """How much more one row has than another, paired by prompt.

    Attributes:
        estimate: of the difference.
        prompts: that both rows have, in the tags that count.
        fewest: of them, in one tag.
        differing: of them, those whose number is not zero.
        whole: every tag that counts has some.
    """

    estimate: Estimate
    prompts: int
    fewest: int
    differing: int
    whole: bool = True

    @property
    def verdict(self) -> str:
        """What may be said of it: better or worse only where the interval excludes zero and can be trusted."""
        if not self.whole:
            return PARTIAL
        if self.fewest < FEW:
            return TOO_FEW
        if self.differing < DISCORDANT:
            return SAME
        if self.estimate.low is not None and self.estimate.low > 0:
            return BETTER
        if self.estimate.high is not None and self.estimate.high < 0:
            return WORSE
        return SAME

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Difference:
        """The inverse of `to_record`; TypeError or KeyError for anything else."""
        prompts, fewest, differing = (int(record[name]) for name in ("prompts", "fewest", "differing"))
        return cls(Estimate.from_record(record), prompts, fewest, differing, bool(record["whole"]))

    def to_record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            **self.estimate.to_record(),
            "prompts": self.prompts,
            "fewest": self.fewest,
            "differing": self.differing,
            "whole": self.whole,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class TagMeans:
    """The means of tags, and what they would be if other prompts had been drawn.

    Attributes:
        prompts: by tag.
        differing: by tag, prompts whose number is not zero.
        means: by tag.
        draws: by tag, [RESAMPLES]; a tag of one prompt has none.
    """

    prompts: Mapping[str, int]
    differing: Mapping[str, int]
    means: Mapping[str, float]
    draws: Mapping[str, NDArray[np.float64]]

    def tag(self, tag: str) -> Estimate:
        """The mean of one tag."""
        return self.figure({tag: 1.0})

    def figure(self, weights: Mapping[str, float]) -> Estimate:
        """A weighted sum of tags; no number when a tag that counts has no prompt: it would be another figure."""
        counting = {tag: weight for tag, weight in weights.items() if weight}
        if not counting or not counting.keys() <= self.means.keys():
            return Estimate()
        value = _rounded(sum(weight * self.means[tag] for tag, weight in counting.items()))
        if not counting.keys() <= self.draws.keys():
            return Estimate(value)
        drawn = np.sum([weight * self.draws[tag] for tag, weight in counting.items()], axis=0)
        low, high = np.quantile(drawn, _QUANTILES)
        return Estimate(value, _rounded(low), _rounded(high))

    def difference(self, weights: Mapping[str, float]) -> Difference | None:
        """A weighted sum of paired differences; None when no tag that counts has a prompt.

        Tags without a common prompt drop out, and the weights of the others are scaled to the same sum: a number to
        look at, which is not called.
        """
        counting = {tag: weight for tag, weight in weights.items() if weight}
        kept = {tag: weight for tag, weight in counting.items() if tag in self.means}
        if not kept:
            return None
        scale = sum(counting.values()) / sum(kept.values())
        estimate = self.figure({tag: weight * scale for tag, weight in kept.items()})
        counts = [self.prompts[tag] for tag in kept]
        differing = sum(self.differing[tag] for tag in kept)
        return Difference(estimate, sum(counts), min(counts), differing, whole=kept == counting)


def over_pictures(
    scores: Iterable[tuple[PromptKey, float | None]], how: Literal["mean", "any"] = "mean"
) -> dict[PromptKey, float]:
    """One number for each prompt: the mean over its pictures, or the greatest ("any").

    A picture without a score is left out; a prompt without any is not there.
    """
    by_prompt: dict[PromptKey, list[float]] = {}
    for key, score in scores:
        if score is not None:
            by_prompt.setdefault(key, []).append(score)
    return {key: max(values) if how == "any" else _mean(values) for key, values in by_prompt.items()}


def over_seeds(runs: Iterable[PerPrompt]) -> dict[PromptKey, float]:
    """One number for each prompt: the mean over the runs that have it."""
    return over_pictures(item for run in runs for item in run.items())


def common_seeds(ours: Collection[Seed], theirs: Collection[Seed]) -> list[Seed]:
    """The seeds that both have, in our order."""
    return [seed for seed in ours if seed in theirs]


def paired_differences(ours: PerSeed, theirs: PerSeed) -> dict[PromptKey, float]:
    """Ours minus theirs for each prompt that both have, over the seeds that both have.

    Rows that share no seed are paired by prompt alone, each as its mean over its own seeds.
    """
    seeds = common_seeds(ours, theirs)
    if not seeds:
        return _minus(over_seeds(ours.values()), over_seeds(theirs.values()))
    return over_seeds(_minus(ours[seed], theirs[seed]) for seed in seeds)


def resample(values: PerPrompt) -> TagMeans:
    """The mean of each tag, and `RESAMPLES` means of as many prompts drawn from it with replacement."""
    by_tag: dict[str, list[float]] = {}
    for key, value in values.items():
        by_tag.setdefault(key.tag, []).append(value)
    return TagMeans(
        {tag: len(members) for tag, members in by_tag.items()},
        {tag: sum(_rounded(member) != 0 for member in members) for tag, members in by_tag.items()},
        {tag: _mean(members) for tag, members in by_tag.items()},
        {tag: _draws(tag, members) for tag, members in by_tag.items() if len(members) > 1},
    )


def _draws(tag: str, members: Sequence[float]) -> NDArray[np.float64]:
    ordered = np.sort(np.asarray(members, dtype=np.float64))
    generator = np.random.default_rng(
        [_SEED, *tag.encode("utf-8", "replace")]
    )  # tags are drawn independently of each other
    shape = (_CHUNK, len(ordered))
    chunks = [ordered[generator.integers(len(ordered), size=shape)].mean(axis=1) for _ in range(RESAMPLES // _CHUNK)]
    return np.concatenate(chunks)


def _minus(ours: PerPrompt, theirs: PerPrompt) -> dict[PromptKey, float]:
    return {key: value - theirs[key] for key, value in ours.items() if key in theirs}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(np.sort(values)))  # sorted: the last bit is the same in whatever order they come


def _rounded(value: float) -> float:
    return round(float(value), DIGITS) + 0.0  # no negative zero


def _number(value: Any) -> float | None:
    if value is not None and type(value) not in (int, float):
        raise TypeError(f"{value!r} is no number")
    return value
