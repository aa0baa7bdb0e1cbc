"""The figures of a benchmark by one judge: means of tags, their weighted sums, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from milr.evaluation.judgements import Judgement
from milr.evaluation.statistics import Estimate, PromptKey, over_pictures, resample
from milr.run_files import Record

Judgements = Mapping[tuple[str, str, int], Judgement]  # as `read_judgements` gives them


@dataclass(frozen=True)
class WeightedFigure:
    """A `Figure` with the weight of each tag, so that nobody needs the benchmark to compute it again."""

    name: str
    part: str | None
    over_images: Literal["mean", "any"]
    weights: Mapping[str, float]

    @classmethod
    def from_record(cls, record: Record) -> WeightedFigure:
        """The inverse of `to_record`; an error of Python's own for anything else."""
        weights = {str(tag): float(weight) for tag, weight in record["weights"].items()}
        return cls(str(record["name"]), record["part"], record["over_images"], weights)

    def to_record(self) -> Record:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class TagResult:
    """One tag.

    Attributes:
        estimate: of the mean over its prompts.
        prompts, images: that have a score.
        failed: pictures that the judge could not score.
    """

    estimate: Estimate
    prompts: int
    images: int
    failed: int

    @classmethod
    def from_record(cls, record: Record) -> TagResult:
        """The inverse of `to_record`; an error of Python's own for anything else."""
        counts = (int(record[name]) for name in ("prompts", "images", "failed"))
        return cls(Estimate.from_record(record), *counts)

    def to_record(self) -> Record:
        """As JSON has it."""
        counts = {"prompts": self.prompts, "images": self.images, "failed": self.failed}
        return {**self.estimate.to_record(), **counts}


@dataclass(frozen=True)
class JudgeResult:
    """What one judge, or the critic itself, says of a run.

    Attributes:
        figures: by name; the headline comes first.
        tags: by tag, in the benchmark's order, by the headline's part and way over pictures.
        failed: pictures that it could not score.
        prompts_missing: prompts of which it scored no picture.
    """

    figures: Mapping[str, Estimate]
    tags: Mapping[str, TagResult]
    failed: int
    prompts_missing: int

    @property
    def headline(self) -> Estimate:
        """The first figure."""
        return next(iter(self.figures.values()), Estimate())

    @classmethod
    def from_record(cls, record: Record) -> JudgeResult:
        """The inverse of `to_record`; an error of Python's own for anything else."""
        return cls(
            {name: Estimate.from_record(it) for name, it in record["figures"].items()},
            {tag: TagResult.from_record(it) for tag, it in record["tags"].items()},
            int(record["failed"]),
            int(record["prompts_missing"]),
        )

    def to_record(self) -> Record:
        """As JSON has it."""
        return {
            "figures": {name: it.to_record() for name, it in self.figures.items()},
            "tags": {tag: it.to_record() for tag, it in self.tags.items()},
            "failed": self.failed,
            "prompts_missing": self.prompts_missing,
        }


def of_judge(judgements: Judgements, judge: Mapping[str, Any]) -> list[Judgement]:
    """The judgements of a judge of that name and version."""
    return [it for it in judgements.values() if (it.judge, it.version) == (judge["name"], judge["version"])]


def figures_by(judgements: Sequence[Judgement], figures: Sequence[WeightedFigure]) -> list[WeightedFigure]:
    """The figures that these judgements can give, the headline first.

    Parts are those of the benchmark's own judge. By another one, whose scores have no such part, the headline is that
    of the value itself, and other figures over parts are not reported.
    """
    parts = {part for judgement in judgements for part in judgement.parts}
    kept = [figure for figure in figures if figure.part is None or figure.part in parts]
    return kept if kept[:1] == list(figures[:1]) else [replace(figures[0], part=None), *kept]


def judge_result(
    judgements: Sequence[Judgement], figures: Sequence[WeightedFigure], expected: Mapping[str, int]
) -> JudgeResult:
    """All that one judge says.

    Args:
        judgements: of one judge.
        figures: at least one.
        expected: prompts of each tag.
    """
    figures = figures_by(judgements, figures)
    values = {figure.name: prompt_values(judgements, figure) for figure in figures}
    means = {name: resample(found) for name, found in values.items()}
    headline = figures[0].name
    tags = {}
    for tag in expected:
        of_tag = [judgement.value for judgement in judgements if judgement.tag == tag]
        prompts = sum(key.tag == tag for key in values[headline])
        failed = of_tag.count(None)
        tags[tag] = TagResult(means[headline].tag(tag), prompts, len(of_tag) - failed, failed)
    return JudgeResult(
        figures={figure.name: means[figure.name].figure(figure.weights) for figure in figures},
        tags=tags,
        failed=sum(result.failed for result in tags.values()),
        prompts_missing=sum(expected.values()) - sum(result.prompts for result in tags.values()),
    )


def prompt_values(judgements: Iterable[Judgement], figure: WeightedFigure) -> dict[PromptKey, float]:
    """One number for each prompt that was scored, by one of `figures_by`."""
    scores = ((PromptKey(it.id, it.prompt, it.tag), _score(it, figure.part)) for it in judgements)
    return over_pictures(scores, figure.over_images)


def _score(judgement: Judgement, part: str | None) -> float | None:
    return judgement.value if part is None or judgement.value is None else judgement.parts.get(part)
