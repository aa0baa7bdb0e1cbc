"""Runs side by side: paired by prompt against one of them, and every reason to doubt the pairing said aloud.

A difference is better or worse only where its interval excludes zero. Rows of other judges are shown and never
compared; rows over other prompts are compared over the common ones.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from milr.errors import UnknownNameError, UsageError
from milr.evaluation.doubts import doubts
from milr.evaluation.figures import figures_by
from milr.evaluation.results import REFERENCE
from milr.evaluation.rows import Row, read_rows
from milr.evaluation.statistics import DIGITS, Difference, Estimate, over_seeds, paired_differences, resample
from milr.evaluation.tables import (
    INCOMPLETE_NOTE,
    ORACLE_NOTE,
    UNCORRECTED,
    format_difference,
    format_interval,
    format_number,
    incomplete,
    markdown,
    marks,
    narrow_intervals,
)
from milr.run_files import Record

OTHER_JUDGE = "other judge"
OTHER_PROMPTS = "no common prompts"


@dataclass(frozen=True)
class TagComparison:
    """One tag of one row: what the judge says of it, and its difference from the reference's if there is one."""

    estimate: Estimate
    prompts: int
    difference: Difference | None


@dataclass(frozen=True)
class ComparedRow:
    """One row beside the reference.

    Attributes:
        oracle: the judge, or its kin, steered the search.
        estimate: of the headline, over all seeds.
        difference: from the reference; None for the reference itself, and where `refused` says why there is none.
    """

    row: Row
    oracle: bool
    estimate: Estimate
    difference: Difference | None
    refused: str
    tags: Mapping[str, TagComparison]

    def to_record(self) -> Record:
        """As JSON has it."""
        return {
            "row": self.row.label,
            "folders": [str(entry.folder) for entry in self.row.entries],
            "seeds": self.row.seeds,
            "images_decoded": self.row.images_decoded and round(self.row.images_decoded, DIGITS),
            "oracle": self.oracle,
            **self.estimate.to_record(),
            "difference": self.difference and self.difference.to_record(),
            "refused": self.refused or None,
            "tags": {
                tag: {
                    **found.estimate.to_record(),
                    "prompts": found.prompts,
                    "difference": found.difference and found.difference.to_record(),
                }
                for tag, found in self.tags.items()
            },
        }


@dataclass(frozen=True)
class Comparison:
    """Rows by one judge against one of them.

    Attributes:
        judge: {"name", "version"}.
        figure: the headline.
        reference: the label of the row that the others are compared with.
        warnings: one line each.
    """

    benchmark: str
    judge: Mapping[str, str]
    figure: str
    reference: str
    rows: tuple[ComparedRow, ...]
    warnings: tuple[str, ...]

    def to_record(self) -> Record:
        """As JSON has it."""
        return {
            "benchmark": self.benchmark,
            "judge": dict(self.judge),
            "figure": self.figure,
            "against": self.reference,
            "comparisons": sum(row.difference is not None for row in self.rows),
            "rows": [row.to_record() for row in self.rows],
            "warnings": list(self.warnings),
        }


def compare(
    folders: Sequence[Path], judge: str | None = None, against: str | None = None, with_controls: bool = True
) -> Comparison:
    """The comparison of the runs in some folders.

    Args:
        judge: by name; the reference's own when not given.
        against: label, name or folder of the row that the others are compared with. When not given: the first row of
            best-of-n, which draws as many pictures and learns nothing, else the first row.

    Raises:
        UsageError: a folder holds no finished run, or the benchmarks differ.
        UnknownNameError: there is no such row, or no such judge of the reference.
        ResumeError: the files of a folder are damaged, or not milr's.
    """
    rows, unfinished = _read(folders, with_controls)
    reference = _reference(rows, against)
    return _comparison(rows, unfinished, reference, _judge(rows, reference, judge))


def compare_by_all(folders: Sequence[Path], against: str | None = None, with_controls: bool = True) -> list[Comparison]:
    """The same by each judge of the reference, its own first; arguments and errors as `compare`."""
    rows, unfinished = _read(folders, with_controls)
    reference = _reference(rows, against)
    return [_comparison(rows, unfinished, reference, judge) for judge in reference.facts.judges]


def format_comparison(comparison: Comparison) -> str:
    """The table of rows."""
    header = ["row", "seeds", "images decoded", f"{comparison.judge['name']}: {comparison.figure}"]
    lines = [
        [
            compared.row.label,
            ", ".join("?" if seed is None else str(seed) for seed in compared.row.seeds),
            format_number(compared.row.images_decoded, 1),
            format_interval(compared.estimate) + marks(compared.oracle, _is_incomplete(compared, comparison)),
            _difference_cell(compared),
        ]
        for compared in comparison.rows
    ]
    table = markdown([*header, f"minus {comparison.reference}"], lines)
    return "\n".join([*table, "", *_notes(comparison)])


def format_comparison_tags(comparison: Comparison) -> str:
    """The table of tags: each row's mean, and its difference from the reference's."""
    lines = [
        [
            tag,
            compared.row.label,
            str(compared.tags[tag].prompts),
            format_interval(compared.tags[tag].estimate),
            format_difference(compared.tags[tag].difference),
        ]
        for tag in dict.fromkeys(tag for compared in comparison.rows for tag in compared.tags)
        for compared in comparison.rows
        if tag in compared.tags
    ]
    header = ["tag", "row", "prompts", comparison.judge["name"], f"minus {comparison.reference}"]
    found = [tag.difference for compared in comparison.rows for tag in compared.tags.values() if tag.difference]
    return "\n".join([*markdown(header, lines), *(["", _count(len(found), comparison.reference)] if found else [])])


def _read(folders: Sequence[Path], with_controls: bool) -> tuple[list[Row], list[str]]:
    """As `read_rows`, of one benchmark."""
    rows, unfinished = read_rows(folders, with_controls)
    benchmarks = {row.facts.benchmark: str(row.entries[0].folder) for row in reversed(rows)}
    if len(benchmarks) > 1:
        listed = ", ".join(f"{name} ({folder})" for name, folder in benchmarks.items())
        raise UsageError(f"runs of different benchmarks cannot be compared: {listed}.")
    return rows, unfinished


def _comparison(rows: Sequence[Row], unfinished: Sequence[str], reference: Row, judge: Mapping[str, str]) -> Comparison:
    compared = tuple(_compared(row, reference, judge) for row in rows)
    headline = figures_by(reference.by(judge), reference.results.figures)[0]
    return Comparison(
        benchmark=reference.facts.benchmark,
        judge=judge,
        figure=headline.name,
        reference=reference.label,
        rows=compared,
        warnings=(
            *unfinished,
            *doubts(rows, reference, judge),
            *narrow_intervals(judge["name"], [row.tags for row in compared], headline.weights),
        ),
    )


def _reference(rows: Sequence[Row], against: str | None) -> Row:
    if against is None:
        return next((row for row in rows if row.facts.row == REFERENCE), rows[0])
    for row in rows:
        if row.label == against:
            return row
    named = [row for row in rows if row.facts.row == against]
    inside = [row for row in rows for entry in row.entries if entry.folder == Path(against)]
    found = inside or named
    if len(found) == 1:
        return found[0]
    raise UnknownNameError("row", against, [row.label for row in rows])


def _judge(rows: Sequence[Row], reference: Row, name: str | None) -> Mapping[str, str]:
    judges = {judge["name"]: judge for judge in reference.facts.judges}
    if name is not None and name not in judges:
        others = {judge["name"] for row in rows for judge in row.facts.judges}
        if name in others:
            run = shlex.quote(str(reference.entries[0].run))
            raise UsageError(
                f"{name} has not judged {reference.label}, with which all are compared; --against a row that it has "
                f"judged, or have it judge each run: milr evaluate --resume --held-out {name} --out {run}"
            )
        raise UnknownNameError("judge", name, judges, f"These have judged {reference.label}.")
    return judges[name] if name else reference.facts.judge


def _compared(row: Row, reference: Row, judge: Mapping[str, str]) -> ComparedRow:
    if judge not in row.facts.judges:
        return ComparedRow(row, False, Estimate(), None, OTHER_JUDGE, {})
    scored = row.by(judge)
    own = figures_by(scored, row.results.figures)[0]
    shared = figures_by([*scored, *reference.by(judge)], reference.results.figures)[0]
    means = resample(over_seeds(row.values(judge, own).values()))
    is_reference = row is reference
    pairs = {} if is_reference else paired_differences(row.values(judge, shared), reference.values(judge, shared))
    differences = resample(pairs)
    found = differences.difference(shared.weights)
    return ComparedRow(
        row=row,
        oracle=row.facts.is_oracle(judge["name"]),
        estimate=means.figure(own.weights),
        difference=found,
        refused=OTHER_PROMPTS if found is None and not is_reference else "",
        tags={
            tag: TagComparison(means.tag(tag), means.prompts.get(tag, 0), differences.difference({tag: 1.0}))
            for tag in row.results.judges[judge["name"]].tags
        },
    )


def _is_incomplete(compared: ComparedRow, comparison: Comparison) -> bool:
    return any(incomplete(entry.results, comparison.judge["name"]) for entry in compared.row.entries)


def _difference_cell(compared: ComparedRow) -> str:
    return compared.refused or format_difference(compared.difference)


def _notes(comparison: Comparison) -> list[str]:
    notes = [ORACLE_NOTE] if any(compared.oracle for compared in comparison.rows) else []
    lacking = any(_is_incomplete(compared, comparison) for compared in comparison.rows)
    notes += [INCOMPLETE_NOTE] if lacking else []
    judge = comparison.judge
    notes.append(f"{comparison.benchmark}, judge {judge['name']}, version {judge['version']}.")
    return [*notes, _count(sum(it.difference is not None for it in comparison.rows), comparison.reference)]


def _count(comparisons: int, reference: str) -> str:
    if comparisons == 0:
        return "nothing was compared."
    many = "1 comparison" if comparisons == 1 else f"{comparisons} comparisons"
    uncorrected = f"; {UNCORRECTED}" if comparisons > 1 else "."
    return f"{many} with {reference}, paired by prompt, 95 % bootstrap intervals{uncorrected}"
