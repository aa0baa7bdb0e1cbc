"""Tables of results for a terminal: Markdown with aligned columns, and below each what its numbers rest on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from milr.evaluation.results import REFERENCE, Results, RunFacts
from milr.evaluation.statistics import FEW, Difference, Estimate
from milr.run_files import to_json

ORACLE = "*"  # behind a number of a judge that steered the search, or whose kin did
ORACLE_NOTE = f"{ORACLE} oracle: the search was steered by this judge or by its kin."
INCOMPLETE = "!"  # behind a number that not all pictures are in
INCOMPLETE_NOTE = f"{INCOMPLETE} not of all pictures: what is not there or could not be judged is left out."
NONE = "-"
UNCORRECTED = "intervals and verdicts are not corrected for the number of comparisons."
_JUDGES = ("judge", "held-out")  # in the order of `RunFacts.judges`


class Sample(Protocol):
    """Prompts and what is estimated of them."""

    @property
    def estimate(self) -> Estimate: ...

    @property
    def prompts(self) -> int: ...


def format_run(results: Results) -> str:
    """A run and its controls: what each is worth, and how much more than best-of-n, paired by prompt."""
    judges = dict(zip(_JUDGES, (judge["name"] for judge in results.facts.judges), strict=False))
    figure = results.figures[0].name
    has_critic = results.facts.critic is not None
    header = ["row", "images decoded", *(["critic"] if has_critic else []), *(f"{kind}: {figure}" for kind in judges)]
    lines = []
    for row in results.rows:
        cells = [row.facts.row, format_number(row.images_decoded, 1)]
        if has_critic:
            cells.append(format_number(row.critic_figures.headline.value if row.critic_figures else None))
        lines.append([*cells, *(_judged(row, name) for name in judges.values())])
    blocks = ["\n".join(markdown(header, lines))]
    measured = [row for row in results.rows if row.differences]
    if measured:
        differences = [
            [row.facts.row, *(format_difference(row.differences.get(name)) for name in judges.values())]
            for row in measured
        ]
        blocks.append("\n".join(markdown([f"minus {REFERENCE}", *judges], differences)))
    return "\n\n".join([*blocks, "\n".join(_notes(results))])


def format_tags(results: Results) -> str:
    """What each judge says of each tag, of a run and its controls, and of the figures beside the headline.

    The numbers alone: their intervals stand in `results.json`.
    """
    blocks = []
    for kind, judge in zip(_JUDGES, (judge["name"] for judge in results.facts.judges), strict=False):
        tags = results.judges[judge].tags
        lines = [[tag, str(tags[tag].prompts), *(_tag(row, judge, tag) for row in results.rows)] for tag in tags]
        others = list(results.judges[judge].figures)[1:]
        lines += [[name, "", *(_figure(row, judge, name) for row in results.rows)] for name in others]
        header = [kind, "prompts", *(row.facts.row for row in results.rows)]
        blocks.append("\n".join(markdown(header, lines)))
    return "\n\n".join(blocks)


def narrow_intervals(judge: str, rows: Iterable[Mapping[str, Sample]], weights: Mapping[str, float]) -> list[str]:
    """A line when a figure rests on tags of few prompts, and one when on tags whose prompts are all alike.

    Args:
        rows: what the judge says of each tag of each row.
        weights: of the figure's tags.
    """
    counting = [(tag, found) for row in rows for tag, found in row.items() if found.prompts and weights.get(tag)]
    few = {tag: found.prompts for tag, found in counting if found.prompts < FEW}
    alike = {tag: found.prompts for tag, found in counting if tag not in few and is_alike(found.estimate)}
    lines = []
    if few:
        lines.append(f"{judge}: tags of few prompts ({_counts(few)}): intervals over fewer than {FEW} are too narrow.")
    if alike:
        lines.append(
            f"{judge}: tags whose prompts are all alike ({_counts(alike)}): intervals leave out that, for N prompts "
            "alike, 3 in N of others may be otherwise."
        )
    return lines


def is_alike(estimate: Estimate) -> bool:
    """Whether nothing varied among the prompts of an estimate."""
    return estimate.value is not None and estimate.low == estimate.high is not None


def incomplete(row: Results, judge: str) -> bool:
    """Whether not all pictures of a row are in what a judge says of it."""
    found = row.judges.get(judge)
    return found is not None and bool(row.missing or found.failed or found.prompts_missing)


def _counts(prompts: Mapping[str, int]) -> str:
    return ", ".join(f"{tag} {count}" for tag, count in prompts.items())


def losses(row: Results, label: str) -> list[str]:
    """What is not in a row's numbers: pictures that are not there, and those that a judge could not score."""
    lost = []
    if row.missing:
        lost.append(f"{label}: pictures missing: {row.missing} of {row.images}.")
    for name, result in row.judges.items():
        if result.failed:
            lost.append(f"{label}: pictures on which {name} failed, left out: {result.failed} of {row.images}.")
        if result.prompts_missing:
            lost.append(
                f"{label}: prompts of which {name} scored no picture: {result.prompts_missing} of {row.prompts}."
            )
        there = [tag for tag, found in result.tags.items() if found.prompts]
        lacking = [tag for tag in row.figures[0].weights if tag in result.tags and tag not in there]
        if there and lacking and result.headline.value is None:
            lost.append(
                f"{label}: no {row.figures[0].name} by {name}: it scored nothing of {', '.join(lacking)}; "
                f"--categories {','.join(there)} gives the figures of the others."
            )
    return lost


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table with aligned columns."""
    lines = [[cell.replace("|", "/") for cell in row] for row in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines]


def format_number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}f}"


def format_interval(estimate: Estimate, sign: str = "") -> str:
    """A number and its interval, if it has one: where nothing varied there is none to speak of."""
    if estimate.value is None:
        return NONE
    value = f"{estimate.value:{sign}.3f}"
    if estimate.low is None or estimate.high is None or is_alike(estimate):
        return value
    return f"{value} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


def format_difference(found: Difference | None) -> str:
    """A difference, its interval and what it means."""
    return "" if found is None else f"{format_interval(found.estimate, '+')} {found.verdict}"


def format_protocol(facts: RunFacts) -> str:
    """Its name, and what is not as it says."""
    changed = facts.protocol.get("changed") or {}
    but = ", ".join(f"{name} {value if isinstance(value, str) else to_json(value)}" for name, value in changed.items())
    return f"{facts.protocol['name']}, but {but}" if but else str(facts.protocol["name"])


def _judged(row: Results, judge: str) -> str:
    """The headline of a row by one of its judges, with its marks."""
    result = row.judges.get(judge)
    if result is None:
        return NONE
    return format_interval(result.headline) + marks(row.facts.is_oracle(judge), incomplete(row, judge))


def marks(oracle: bool, lacking: bool) -> str:
    """What stands behind a number of an oracle, and behind one that not all pictures are in."""
    return (f" {ORACLE}" if oracle else "") + (f" {INCOMPLETE}" if lacking else "")


def _tag(row: Results, judge: str, tag: str) -> str:
    result = row.judges.get(judge)
    return format_number(result.tags[tag].estimate.value) if result and tag in result.tags else NONE


def _figure(row: Results, judge: str, name: str) -> str:
    result = row.judges.get(judge)
    return format_number(result.figures.get(name, Estimate()).value) if result else NONE


def _notes(results: Results) -> list[str]:
    facts = results.facts
    judges = list(zip(_JUDGES, facts.judges, strict=False))
    judged_rows = [row.facts for row in results.rows]
    notes = [ORACLE_NOTE] if any(it.oracle or it.held_out_oracle for it in judged_rows) else []
    notes.append(f"{facts.benchmark}, protocol {format_protocol(facts)}: {_asked(results)}; seed {_seed(results)}.")
    notes.append(f"model {_model(results)}, {_resolution(results)}.")
    notes += [f"{kind} {judge['name']}, version {judge['version']}." for kind, judge in judges]
    if results.critic_figures and facts.critic:
        notes.append(f"critic {facts.critic['name']}: its own final reward, {results.figures[0].name}.")
    notes.append(_data(results))
    judge = facts.judge["name"]
    notes += narrow_intervals(judge, [row.judges[judge].tags for row in results.rows], results.figures[0].weights)
    compared = sum(len(row.differences) for row in results.rows)
    notes += [UNCORRECTED] if compared > 1 else []
    lost = [note for row in results.rows for note in losses(row, row.facts.row)]
    return [*notes, *([INCOMPLETE_NOTE, *lost] if lost else [])]


def _asked(results: Results) -> str:
    pictures = "1 picture" if results.images_per_prompt == 1 else f"{results.images_per_prompt} pictures"
    prompts = "1 prompt" if results.prompts == 1 else f"{results.prompts} prompts"
    return f"{prompts}, {pictures} each"


def _seed(results: Results) -> str:
    return "unknown" if results.facts.seed is None else str(results.facts.seed)


def _model(results: Results) -> str:
    model = results.facts.model
    if model is None:
        return "unknown"
    return f"{model['name']} ({model['fingerprint'][:12]})" if model.get("fingerprint") else str(model["name"])


def _resolution(results: Results) -> str:
    return ", ".join(f"{width} x {height}" for width, height in results.resolution) or "no pictures"


def _data(results: Results) -> str:
    if not results.facts.data:
        return "the prompts ship with milr."
    other = [name for name, file in results.facts.data.items() if not file.get("official")]
    return f"not the official data: {', '.join(other)}." if other else "official data, checksums verified."
