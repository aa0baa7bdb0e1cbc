"""What a finished run says: `results.json`, from its pictures and their judgements.

All that depends on the clock or on what a provider charges stands under the one key "spent": without it, two runs of
the same pictures have the same record. A picture without a score is left out and counted, never a zero.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from milr.errors import ResumeError
from milr.evaluation.contract import Figure, equal_tags
from milr.evaluation.figures import (
    Judgements,
    JudgeResult,
    WeightedFigure,
    figures_by,
    judge_result,
    of_judge,
    prompt_values,
)
from milr.evaluation.judgements import Judgement
from milr.evaluation.statistics import DIGITS, Difference, PromptKey, paired_differences, resample
from milr.run_files import Record, to_json, write_file

RESULTS_FILE = "results.json"
REFERENCE = "best-of-n"  # the control that every other row is measured against

_FORMAT = 2


@dataclass(frozen=True)
class PictureFacts:
    """One picture that a run was asked for.

    Attributes:
        id, text, tag: of its prompt.
        size: (width, height); None when the picture is not there.
        reward: that its own critic gave it in the end; None without critic, or when it failed.
        images_decoded: for it; None when nobody knows.
    """

    id: str
    text: str
    tag: str
    image_index: int
    size: tuple[int, int] | None
    reward: float | None = None
    images_decoded: float | None = None

    @property
    def key(self) -> PromptKey:
        """Its prompt."""
        return PromptKey(self.id, self.text, self.tag)


@dataclass(frozen=True)
class RunFacts:
    """How the pictures came about and who judges them, in JSON values.

    Attributes:
        benchmark: as registered.
        made_by: "evaluate", or "score" for pictures made elsewhere.
        row: what tables call the run: the name of its method or control.
        protocol: {"name", "changed"}; the settings that are not the protocol's, by option name, where there are any.
        model: {"name", "fingerprint", "licence"}; None when nobody knows.
        method: None when nobody knows.
        settings: the configuration, by option name.
        data: {"sha256", "official"} by official file; empty for prompts that ship with the package.
        critic: {"name", "version", "target", "kin"} of what steered; None without.
        judge: {"name", "version"}.
        held_out: likewise; None without.
        oracle: a search was steered by the judge or its kin. False where nothing was searched: `base`, `reason-only`.
        held_out_oracle: likewise, of the held-out judge.
    """

    benchmark: str
    made_by: Literal["evaluate", "score"]
    row: str
    protocol: Mapping[str, Any]
    model: Mapping[str, Any] | None
    method: str | None
    settings: Mapping[str, Any]
    seed: int | None
    data: Mapping[str, Mapping[str, Any]]
    critic: Mapping[str, Any] | None
    judge: Mapping[str, str]
    held_out: Mapping[str, str] | None = None
    oracle: bool = False
    held_out_oracle: bool = False

    @property
    def judges(self) -> list[Mapping[str, str]]:
        """The judge, then the held-out one if there is one."""
        return [self.judge, *([self.held_out] if self.held_out else [])]

    def is_oracle(self, judge: str) -> bool:
        """Whether the judge of that name, or its kin, steered the search."""
        return self.oracle if judge == self.judge["name"] else self.held_out_oracle


@dataclass(frozen=True)
class Results:
    """All that `results.json` says.

    Attributes:
        prompts, images: that were asked for.
        missing: pictures that are not there.
        resolution: (width, height) of the pictures, each once.
        images_decoded: mean over the pictures of which it is known; None when it is known of none.
        judges: by name.
        critic_figures: the critic's own final rewards; None without.
        differences: from best-of-n beside it, of the headline, by judge.
        spent: {"seconds", "cost", "judges"}: what differs between two runs of the same pictures; with what failed
            attempts of judges have cost.
        folder: below the main run's; of a control only.
    """

    facts: RunFacts
    images_per_prompt: int
    prompts: int
    images: int
    missing: int
    resolution: tuple[tuple[int, int], ...]
    images_decoded: float | None
    figures: tuple[WeightedFigure, ...]
    judges: Mapping[str, JudgeResult]
    critic_figures: JudgeResult | None
    spent: Mapping[str, Any]
    differences: Mapping[str, Difference] = field(default_factory=dict)
    controls: tuple[Results, ...] = ()
    folder: str | None = None

    @property
    def rows(self) -> tuple[Results, ...]:
        """The run itself, then its controls."""
        return (self, *self.controls)

    def to_record(self) -> Record:
        """As `results.json` has it: the facts and the rest, side by side."""
        record: Record = {"format": _FORMAT, **asdict(self.facts)}
        record |= {
            name: getattr(self, name)
            for name in ("images_per_prompt", "prompts", "images", "missing", "images_decoded")
        }
        record["resolution"] = [list(size) for size in self.resolution]
        record["figures"] = [figure.to_record() for figure in self.figures]
        record["judges"] = {name: result.to_record() for name, result in self.judges.items()}
        record["critic_figures"] = self.critic_figures and self.critic_figures.to_record()
        record["differences"] = {name: found.to_record() for name, found in self.differences.items()}
        record["spent"] = _rounded(self.spent)
        if self.folder is not None:
            return record | {"folder": self.folder}
        return record | {"controls": [control.to_record() for control in self.controls]}

    @classmethod
    def from_record(cls, record: Record) -> Results:
        """The inverse of `to_record`.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is no such record.
        """
        if record["format"] != _FORMAT:
            raise ValueError(f"format {record['format']!r}")
        if not record["figures"]:
            raise ValueError("no figures")
        return cls(
            facts=_facts_of(record),
            images_per_prompt=int(record["images_per_prompt"]),
            prompts=int(record["prompts"]),
            images=int(record["images"]),
            missing=int(record["missing"]),
            resolution=tuple((int(width), int(height)) for width, height in record["resolution"]),
            images_decoded=None if record["images_decoded"] is None else float(record["images_decoded"]),
            figures=tuple(map(WeightedFigure.from_record, record["figures"])),
            judges={name: JudgeResult.from_record(result) for name, result in record["judges"].items()},
            critic_figures=JudgeResult.from_record(record["critic_figures"]) if record["critic_figures"] else None,
            spent=dict(record["spent"]),
            differences={name: Difference.from_record(found) for name, found in record["differences"].items()},
            controls=tuple(map(cls.from_record, record.get("controls", []))),
            folder=record.get("folder"),
        )


def summarise(
    facts: RunFacts,
    pictures: Sequence[PictureFacts],
    judgements: Judgements,
    figures: Sequence[Figure],
    categories: Sequence[str],
    spent: Mapping[str, Any] | None = None,
) -> Results:
    """The results of a run without controls.

    Args:
        pictures: all that were asked for, whether they are there or not.
        judgements: those of other judges, versions or pictures are left out, and of pictures that are gone.
        figures, categories: of the benchmark.
        spent: as `Results` has it.
    """
    there = {(picture.id, picture.image_index) for picture in pictures if picture.size is not None}
    counts = _prompts_by_tag(pictures, categories)
    weighted = _weighted(figures, counts)
    judged = {
        judge["name"]: [it for it in of_judge(judgements, judge) if (it.id, it.image_index) in there]
        for judge in facts.judges
    }
    decoded = [picture.images_decoded for picture in pictures if picture.images_decoded is not None]
    return Results(
        facts=facts,
        images_per_prompt=max(Counter(picture.key for picture in pictures).values(), default=0),
        prompts=sum(counts.values()),
        images=len(pictures),
        missing=sum(picture.size is None for picture in pictures),
        resolution=tuple(sorted({picture.size for picture in pictures if picture.size is not None})),
        images_decoded=round(sum(decoded) / len(decoded), DIGITS) if decoded else None,
        figures=weighted,
        judges={name: judge_result(found, weighted, counts) for name, found in judged.items()},
        critic_figures=judge_result(_by_critic(pictures), weighted, counts) if facts.critic else None,
        spent=spent or {},
    )


def beside_controls(
    results: Results, judgements: Judgements, controls: Sequence[tuple[str, Results, Judgements]]
) -> Results:
    """The same results with its controls, and how much more than best-of-n each row has, paired by prompt.

    Args:
        controls: (folder below the run's, results, judgements), in the order of the table.
    """
    reference = next((control for control in controls if control[1].facts.row == REFERENCE), None)

    def measured(row: Results, found: Judgements) -> Results:
        if reference is None or row is reference[1]:
            return row
        differences = {
            judge["name"]: _headline_difference(judge, row, found, reference[2])
            for judge in row.facts.judges
            if judge in reference[1].facts.judges
        }
        return replace(row, differences={name: it for name, it in differences.items() if it is not None})

    rows = tuple(replace(measured(control, found), folder=folder) for folder, control, found in controls)
    return replace(measured(results, judgements), controls=rows)


def write_results(folder: Path, results: Results) -> None:
    """Write `results.json`; RunError when the disk refuses."""
    write_file(folder / RESULTS_FILE, (to_json(results.to_record(), indent=2) + "\n").encode())


def read_results(folder: Path) -> Results | None:
    """What a folder's `results.json` says; None when it has none.

    Raises:
        ResumeError: milr did not write it, or another version of it did.
    """
    path = folder / RESULTS_FILE
    try:
        return Results.from_record(json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ResumeError(
            f"{path} is not what this version of milr writes; 'milr evaluate --resume' or 'milr score' with its folder "
            "as --out writes it again."
        ) from None


def _prompts_by_tag(pictures: Sequence[PictureFacts], categories: Sequence[str]) -> dict[str, int]:
    """How many prompts each tag has, in the benchmark's order."""
    counts = Counter(key.tag for key in {picture.key for picture in pictures})
    return {tag: counts[tag] for tag in dict.fromkeys([*categories, *sorted(counts)]) if counts[tag]}


def _weighted(figures: Sequence[Figure], counts: Mapping[str, int]) -> tuple[WeightedFigure, ...]:
    """The figures that have tags here; the mean of the tags where none has."""
    weighted = [WeightedFigure(it.name, it.part, it.over_images, dict(it.weights(counts))) for it in figures]
    there = tuple(figure for figure in weighted if figure.weights.keys() & counts.keys())
    return there or (WeightedFigure("mean of tags", None, "mean", dict(equal_tags(counts))),)


def _headline_difference(
    judge: Mapping[str, str], row: Results, ours: Judgements, theirs: Judgements
) -> Difference | None:
    our_side, their_side = of_judge(ours, judge), of_judge(theirs, judge)
    headline = figures_by([*our_side, *their_side], row.figures)[0]
    our_values, their_values = ({row.facts.seed: prompt_values(it, headline)} for it in (our_side, their_side))
    return resample(paired_differences(our_values, their_values)).difference(headline.weights)


def _by_critic(pictures: Sequence[PictureFacts]) -> list[Judgement]:
    there = [picture for picture in pictures if picture.size is not None]
    return [Judgement("", "", it.id, it.image_index, it.tag, it.text, "", it.reward) for it in there]


def _facts_of(record: Record) -> RunFacts:
    facts = RunFacts(**{it.name: record[it.name] for it in fields(RunFacts)})
    for judge in facts.judges:
        record["judges"][judge["name"]]
        if not isinstance(judge["name"], str) or not isinstance(judge["version"], str):
            raise TypeError("a judge without name or version")
    changed = facts.protocol.get("changed", {})
    for mapping in (facts.model or {}, facts.critic or {}, facts.settings, changed, *facts.data.values()):
        if not isinstance(mapping, dict):
            raise TypeError(f"{mapping!r} is no mapping")
    kin = facts.critic["kin"] if facts.critic else []
    for name in (facts.benchmark, facts.row, facts.protocol["name"], *kin):
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is no name")
    if type(facts.seed) not in (int, type(None)):
        raise TypeError(f"{facts.seed!r} is no seed")
    return facts


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    return value
