"""What a reader of a comparison must know before believing it, one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from milr.evaluation.controls import UNSEARCHED, most_pictures
from milr.evaluation.figures import figures_by
from milr.evaluation.rows import Entry, Row, unsaid_differences
from milr.evaluation.statistics import Seed, common_seeds, paired_differences
from milr.evaluation.tables import format_protocol, losses

BUDGET_TOLERANCE = 0.05  # of the reference's pictures

Judge = Mapping[str, str]


def doubts(rows: Sequence[Row], reference: Row, judge: Judge) -> list[str]:
    """Everything in which rows differ from the reference beside what they are about, and what they lack."""
    others = [row for row in rows if row is not reference]
    judged = [row for row in others if judge in row.facts.judges]
    return [
        *unsaid_differences(rows),
        *_budgets([row for row in others if row.facts.row not in UNSEARCHED], reference),
        *_other_judges([row for row in others if row not in judged], reference, judge),
        *_unlike("resolutions", others, reference, _resolution),
        *_unlike("pictures per prompt", others, reference, lambda row: str(row.results.images_per_prompt)),
        *_unlike("figures", others, reference, lambda row: row.results.figures[0].name),
        *_unlike("protocols", others, reference, lambda row: format_protocol(row.facts)),
        *_seeds(judged, reference),
        *_prompts(judged, reference, judge),
        *_oracles([row for row in rows if judge in row.facts.judges], judge),
        *_data(rows),
        *(line for row in rows for entry in row.entries for line in _incomplete(entry, row, judge)),
    ]


def _unlike(what: str, others: Sequence[Row], reference: Row, describe: Callable[[Row], str]) -> list[str]:
    expected = describe(reference)
    unlike = [f"{row.label} {describe(row)}" for row in others if describe(row) != expected]
    return [f"{what} differ: {reference.label} {expected}, but {', '.join(unlike)}."] if unlike else []


def _budgets(others: Sequence[Row], reference: Row) -> list[str]:
    unequal = [row for row in others if _is_other_budget(row, reference)]
    return _unlike("pictures decoded for one", unequal, reference, _budget)


def _is_other_budget(row: Row, reference: Row) -> bool:
    ours, theirs = row.images_decoded, reference.images_decoded
    if ours is not None and theirs is not None and abs(ours - theirs) > BUDGET_TOLERANCE * theirs:
        return True
    return None not in (_allowed(row), _allowed(reference)) and _allowed(row) != _allowed(reference)


def _allowed(row: Row) -> int | None:
    """Pictures that one search could decode."""
    settings = row.facts.settings
    if not isinstance(settings.get("steps"), int) or not isinstance(settings.get("samples"), int):
        return None
    return most_pictures({"budget": None, **settings})


def _budget(row: Row) -> str:
    decoded = "?" if row.images_decoded is None else f"{row.images_decoded:.1f}"
    allowed = _allowed(row)
    return decoded if allowed is None else f"{decoded} of {allowed} allowed"


def _other_judges(others: Sequence[Row], reference: Row, judge: Judge) -> list[str]:
    """One line for all that were judged by the same others."""
    by_judges: dict[str, list[str]] = {}
    for row in others:
        theirs = ", ".join(f"{it['name']} {it['version']}" for it in row.facts.judges)
        by_judges.setdefault(theirs, []).append(row.label)
    ours = f"{reference.label} by {judge['name']} {judge['version']}"
    return [
        f"judges differ: {', '.join(labels)} by {theirs}, but {ours}: not compared; judge all by one."
        for theirs, labels in by_judges.items()
    ]


def _resolution(row: Row) -> str:
    return ", ".join(f"{width} x {height}" for width, height in row.results.resolution) or "unknown"


def _seeds(others: Sequence[Row], reference: Row) -> list[str]:
    lines = []
    for row in others:
        common = common_seeds(row.seeds, reference.seeds)
        if set(row.seeds) != set(reference.seeds):
            over = f"the difference is over {_listed(common)}" if common else "they are paired by prompt alone"
            seeds = f"{row.label} {_listed(row.seeds)}, {reference.label} {_listed(reference.seeds)}"
            lines.append(f"seeds differ: {seeds}; {over}.")
    return lines


def _listed(seeds: Sequence[Seed]) -> str:
    return ", ".join("unknown" if seed is None else str(seed) for seed in seeds)


def _prompts(rows: Sequence[Row], reference: Row, judge: Judge) -> list[str]:
    """One line for all that lack the same numbers of prompts."""
    alike: dict[tuple[int, int, int], list[str]] = {}
    for row in rows:
        figure = figures_by([*row.by(judge), *reference.by(judge)], reference.results.figures)[0]
        ours, theirs = row.values(judge, figure), reference.values(judge, figure)
        our_prompts, their_prompts = ({key for found in side.values() for key in found} for side in (ours, theirs))
        if our_prompts != their_prompts:
            numbers = len(our_prompts), len(their_prompts), len(paired_differences(ours, theirs))
            alike.setdefault(numbers, []).append(row.label)
    return [
        f"judged prompts differ: {', '.join(labels)} {'have' if len(labels) > 1 else 'has'} {our}, {reference.label} "
        f"{their}; the difference is over the {common} that both have."
        for (our, their, common), labels in alike.items()
    ]


def _oracles(rows: Sequence[Row], judge: Judge) -> list[str]:
    """Rows that searched nothing are no rivals of an oracle."""
    rivals = [row for row in rows if row.facts.row not in UNSEARCHED]
    steered = [row.label for row in rivals if row.facts.is_oracle(judge["name"])]
    free = [row.label for row in rivals if not row.facts.is_oracle(judge["name"])]
    if not steered or not free:
        return []
    return [f"{judge['name']}, or its kin, steered {', '.join(steered)} (oracle), but not {', '.join(free)}."]


def _data(rows: Sequence[Row]) -> list[str]:
    by_files: dict[str, list[str]] = {}
    for row in rows:
        other = [name for name, file in row.facts.data.items() if not file.get("official")]
        if other:
            by_files.setdefault(", ".join(other), []).append(row.label)
    return [f"not the official data: {files} of {', '.join(labels)}." for files, labels in by_files.items()]


def _incomplete(entry: Entry, row: Row, judge: Judge) -> list[str]:
    label = row.label if len(row.entries) == 1 else f"{row.label} (seed {entry.facts.seed})"
    lines = losses(entry.results, label)
    if judge in entry.facts.judges:
        said = sum(tag.images for tag in entry.results.judges[judge["name"]].tags.values())
        found = sum(judgement.value is not None for judgement in entry.by(judge))
        if said != found:
            lines.append(f"{label}: {found} pictures are judged, its results speak of {said}; all that are count here.")
    return lines
