"""The rows of a comparison: runs and their controls as read from their folders, those of several seeds as one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from milr.errors import ResumeError, UsageError
from milr.evaluation.controls import CONTROLS_FOLDER
from milr.evaluation.figures import Judgements, WeightedFigure, of_judge, prompt_values
from milr.evaluation.judgements import JUDGEMENTS_FILE, Judgement, read_judgements
from milr.evaluation.results import RESULTS_FILE, Results, RunFacts, read_results
from milr.evaluation.statistics import PromptKey, Seed
from milr.run_files import to_json
from milr.run_identity import IDENTITY_FILE


@dataclass(frozen=True)
class Entry:
    """What the files of one run, or of one of its controls, say.

    Attributes:
        run: the folder of the run; of a control, that of the run that it belongs to.
    """

    folder: Path
    run: Path
    results: Results
    judgements: Judgements

    @property
    def facts(self) -> RunFacts:
        """How its pictures came about."""
        return self.results.facts

    def by(self, judge: Mapping[str, str]) -> list[Judgement]:
        """The judgements of its pictures by a judge of that name and version."""
        found = of_judge(self.judgements, judge)
        return [judgement for judgement in found if judgement.image_index < self.results.images_per_prompt]


@dataclass(frozen=True)
class Row:
    """One line of a comparison: runs that differ in nothing but the seed.

    Attributes:
        label: short, and its own.
    """

    label: str
    entries: tuple[Entry, ...]

    @property
    def results(self) -> Results:
        """Of its first run: what they all share."""
        return self.entries[0].results

    @property
    def facts(self) -> RunFacts:
        """Of its first run: what they all share."""
        return self.results.facts

    @property
    def seeds(self) -> list[Seed]:
        """In the order of its runs."""
        return [entry.facts.seed for entry in self.entries]

    @property
    def images_decoded(self) -> float | None:
        """Mean per picture, over its runs."""
        known = [it.results.images_decoded for it in self.entries if it.results.images_decoded is not None]
        return sum(known) / len(known) if known else None

    def by(self, judge: Mapping[str, str]) -> list[Judgement]:
        """The judgements of all its pictures by one judge."""
        return [judgement for entry in self.entries for judgement in entry.by(judge)]

    def values(self, judge: Mapping[str, str], figure: WeightedFigure) -> dict[Seed, dict[PromptKey, float]]:
        """One number for each seed and prompt."""
        return {entry.facts.seed: prompt_values(entry.by(judge), figure) for entry in self.entries}


def read_rows(folders: Sequence[Path], with_controls: bool = True) -> tuple[list[Row], list[str]]:
    """The rows of runs, each followed by its controls, and a line for each control that is not finished.

    Raises:
        UsageError: a folder is given twice, or holds no finished run.
        ResumeError: milr did not write its files, or they are damaged.
    """
    given = {folder.resolve() for folder in folders}
    if len(given) < len(folders):
        raise UsageError("a run is given twice; give each folder once.")
    entries, warnings = [], []
    for folder in folders:
        entry = _read_entry(folder, folder)
        if entry is None:
            raise UsageError(_why_not(folder))
        entries.append(entry)
        if not with_controls:
            continue
        for gone in [it for it in entry.results.controls if it.folder and not (folder / it.folder).is_dir()]:
            again = f"milr evaluate --resume --out {shlex.quote(str(folder))}"
            warnings.append(f"{gone.facts.row} of {folder} is not there any more; {again} makes it again.")
        for control in _control_folders(entry):
            if control.resolve() in given:
                continue  # it is a row already
            found = _read_entry(control, folder)
            if found is None:
                warnings.append(f"{control} is unfinished: it is left out.")
            else:
                entries.append(found)
    return label_rows(_pooled(entries)), warnings


def label_rows(groups: Sequence[tuple[Entry, ...]]) -> list[Row]:
    """Rows named by what they are, and where that is not enough by as few of their differences as tell them apart."""
    by_name: dict[str, list[int]] = {}
    for index, entries in enumerate(groups):
        by_name.setdefault(entries[0].facts.row, []).append(index)
    labels: dict[int, str] = {}
    for name, indices in by_name.items():
        suffixes = _distinct([groups[index][0] for index in indices])
        labels |= {index: f"{name} ({it})" if it else name for index, it in zip(indices, suffixes, strict=True)}
    return [Row(labels[index], entries) for index, entries in enumerate(groups)]


def unsaid_differences(rows: Sequence[Row]) -> list[str]:
    """A line for each name of several rows whose settings differ in more than their labels say."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.facts.row, []).append(row)
    lines = []
    for name, alike in by_name.items():
        traits = [_traits(row.entries[0]) for row in alike]
        said = _telling(traits)
        unsaid = [trait for trait in _names(traits) if _kinds(traits, [trait]) > 1 and trait not in said]
        named = {trait: " and ".join(dict.fromkeys(each.get(trait, "default") for each in traits)) for trait in unsaid}
        if named:
            lines.append(f"rows of {name} also differ in {', '.join(f'{it} ({named[it]})' for it in named)}.")
    return lines


def _read_entry(folder: Path, run: Path) -> Entry | None:
    results = read_results(folder)
    if results is None:
        return None
    try:
        judgements = read_judgements(folder)
    except OSError as error:
        raise ResumeError(f"cannot read {folder / JUDGEMENTS_FILE}: {error.strerror or error}.") from None
    if not judgements and any(tag.images for it in results.judges.values() for tag in it.tags.values()):
        raise UsageError(f"{folder} has a {RESULTS_FILE} but no {JUDGEMENTS_FILE} beside it; copy both.")
    return Entry(folder, run, results, judgements)


def _why_not(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}; give the folder of a run."
    if (folder / IDENTITY_FILE).exists() or (folder / JUDGEMENTS_FILE).exists():
        return (
            f"{folder} is unfinished: it has no {RESULTS_FILE}; finish it with "
            f"'milr evaluate --resume --out {folder}', or join its shards with 'milr merge'."
        )
    return f"{folder} has no {RESULTS_FILE}; give a folder that 'milr evaluate' or 'milr score' has written."


def _control_folders(entry: Entry) -> list[Path]:
    """In the order of the run's own table; those that it does not speak of come last."""
    known = [control.folder for control in entry.results.controls]
    found = [path for path in (entry.folder / CONTROLS_FOLDER).glob("*") if path.is_dir()]
    names = {path: path.relative_to(entry.folder).as_posix() for path in found}
    return sorted(found, key=lambda path: (known.index(names[path]) if names[path] in known else len(known), path))


def _pooled(entries: Iterable[Entry]) -> list[tuple[Entry, ...]]:
    """Runs that differ in nothing but the seed, together; two of one seed, or of an unknown one, stay apart."""
    groups: list[list[Entry]] = []
    for entry in entries:
        for group in groups:
            seeds = {None, *(member.facts.seed for member in group)}
            if entry.facts.seed not in seeds and _identity(group[0]) == _identity(entry):
                group.append(entry)
                break
        else:
            groups.append([entry])
    return [tuple(sorted(group, key=lambda it: it.facts.seed or 0)) for group in groups]


def _identity(entry: Entry) -> str:
    """All that two runs of one row share."""
    facts, results = entry.facts, entry.results
    about = [facts.benchmark, facts.made_by, facts.row, facts.method, facts.protocol, facts.model, facts.critic]
    amounts = [results.prompts, results.images_per_prompt, results.resolution]
    return to_json([about, facts.judges, facts.data, amounts, sorted(_settings(facts).items())])


def _settings(facts: RunFacts) -> dict[str, Any]:
    return {name: value for name, value in facts.settings.items() if name != "seed"}


def _distinct(entries: Sequence[Entry]) -> list[str]:
    """What tells runs of one name apart, for each of them; their folders where nothing does."""
    traits = [_traits(entry) for entry in entries]
    telling = _telling(traits)
    if not telling and len(entries) > 1:
        return [str(entry.folder) for entry in entries]
    return [", ".join(f"{name} {trait.get(name, 'default')}" for name in telling) for trait in traits]


def _telling(traits: Sequence[Mapping[str, str]]) -> list[str]:
    """The first traits that together tell all apart; none where no traits do."""
    telling: list[str] = []
    for name in _names(traits):
        if _kinds(traits, [*telling, name]) > _kinds(traits, telling):
            telling.append(name)
    return telling if _kinds(traits, telling) == len(traits) else []


def _names(traits: Sequence[Mapping[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for each in traits for name in each))


def _kinds(traits: Sequence[Mapping[str, str]], names: Sequence[str]) -> int:
    return len({tuple(trait.get(name) for name in names) for trait in traits})


def _traits(entry: Entry) -> dict[str, str]:
    """What a person may know a run by, the most telling first."""
    facts = entry.facts
    named = {"model": facts.model, "critic": facts.critic, "protocol": facts.protocol}
    traits = {kind: str(it.get("name")) for kind, it in named.items() if it}
    return traits | {
        name: value if isinstance(value, str) else to_json(value)
        for name, value in sorted(_settings(facts).items())
        if value is not None and name != "reward"  # the critic's name says it
    }
