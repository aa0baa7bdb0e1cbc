"""Carrying out `milr evaluate`: the run and its controls, row by row: draw, judge, say what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from milr.decoding import Engine
from milr.errors import UsageError
from milr.evaluation.conclusion import conclude, pictures_of, samples_of, write_other_files
from milr.evaluation.contract import Benchmark
from milr.evaluation.controls import CONTROLS, CONTROLS_FOLDER, UNSEARCHED, control_settings, controls_of
from milr.evaluation.judgements import read_judgements
from milr.evaluation.judging import Picture, judge_pictures
from milr.evaluation.protocols import departures, is_oracle, paper_targets
from milr.evaluation.results import Results, RunFacts, beside_controls, write_results
from milr.models.base import UnifiedModel
from milr.prompts import Prompt
from milr.rewards import parse_reward
from milr.run_identity import Identity, read_identity
from milr.runs import RunFolder, open_run
from milr.search import searches_at_once

from .drawing import (
    Loaded,
    Search,
    check_plugins,
    follow,
    identify,
    load,
    load_from,
    open_crew_of,
    quoted,
    search_for,
    tracking,
    warn_of_unknown_words,
)
from .dry_run import show_cost, show_counts
from .judges import (
    Judges,
    check_judges,
    is_kin,
    load_judges,
    names_of_judges,
    origin_of_critic,
    tell_failures,
    with_critic,
)
from .progress import judging_progress, progress_style
from .results import show_evaluation
from .settings import Settings

if TYPE_CHECKING:
    from milr.cluster import Crew


@dataclass(frozen=True)
class Evaluation:
    """What all rows share.

    Attributes:
        files: what `data.verify` says of the files that the prompts are from.
        protocol: as results have it.
        crew: who searches; None for this process.
    """

    benchmark: Benchmark
    prompts: Sequence[Prompt]
    files: Mapping[str, Any]
    protocol: Mapping[str, Any]
    loaded: Loaded
    judges: Judges
    crew: Crew | None


@dataclass(frozen=True)
class Row:
    """One row of the table: a run folder, and all that it is made with.

    Attributes:
        pictures: all that are asked for, below `images`.
    """

    settings: Settings
    folder: Path
    search: Search
    identity: Identity
    facts: RunFacts
    pictures: Sequence[Picture]

    @property
    def images(self) -> Path:
        """The folder of its pictures."""
        return self.folder / "images"


def carry_out(
    settings: Settings, benchmark: Benchmark, prompts: Sequence[Prompt], files: Mapping[str, Any], out: Path
) -> int:
    """Evaluate; returns the exit code.

    Args:
        files: what `data.verify` says of the files that the prompts are from.

    Raises:
        UsageError: something asked for cannot be; nothing was written.
        RunError: the work cannot go on; what was done is kept.
    """
    check_plugins(settings)
    if settings["dry_run"] and settings["calibration"] == 0:
        return show_counts(_settings_of_rows(settings), names_of_judges(settings, benchmark), len(prompts))
    prepare = partial(with_critic, benchmark=benchmark)
    with open_crew_of(settings, prepare) as crew:
        model = load_from(settings, crew)
        asked, settings = settings, prepare(settings, model.facts)
        with origin_of_critic(asked, settings, benchmark):
            loaded = load(settings, model)
        judges = load_judges(settings, benchmark.roles(model.facts), model, settings["device"], loaded.reward)
        _check_protocol(settings, loaded, judges)
        check_judges(judges, prompts)
        protocol = _protocol(settings, benchmark, judges, loaded)
        evaluation = Evaluation(benchmark, prompts, files, protocol, loaded, judges, crew)
        with origin_of_critic(asked, settings, benchmark):
            rows = _rows(evaluation, settings, out)
        warn_of_unknown_words(model, prompts)
        if settings["dry_run"]:
            workers = crew.size if crew else 1
            return show_cost(rows, judges.all, prompts, _calibration(settings, model), workers)
        go_on = f"milr evaluate {benchmark.name} --resume --out {quoted(out)}"
        try:
            return _evaluate(rows, evaluation, go_on)
        except KeyboardInterrupt:
            click.echo(f"milr: interrupted; what was drawn and judged is saved. Go on with: {go_on}", err=True)
            return 130


def _check_protocol(settings: Settings, loaded: Loaded, judges: Judges) -> None:
    if settings["protocol"] == "official" and is_kin(loaded.reward.kin, judges.judge):
        raise UsageError(
            f"--protocol official wants a critic that is no kin of the judge, and {' + '.join(loaded.critics)} looks "
            f"with what {judges.judge.name} looks with; choose another --reward, or leave --protocol out."
        )


def _protocol(settings: Settings, benchmark: Benchmark, judges: Judges, loaded: Loaded) -> dict[str, Any]:
    """The protocol as results have it."""
    name = settings["protocol"]
    if name is None:
        return {"name": "custom"}
    judge = benchmark.roles(loaded.model.facts).judge
    measure = f"judge.{parse_reward(settings['judge'] or judge.critic).plugin}."
    kinds = ("method.", "reward.", measure)  # options of the held-out judge change no number of the protocol's
    options = {option: value for option, value in settings.deciding_options().items() if option.startswith(kinds)}
    changed = departures(name, settings.values, options, benchmark, judge)
    if judges.judge.name != judge.name:
        changed["judge"] = judges.judge.name
    if is_oracle(name) and not is_kin(loaded.reward.kin, judges.judge):
        changed["reward"] = " + ".join(loaded.critics)
    return {"name": name, "changed": changed} if changed else {"name": name}


def _calibration(settings: Settings, model: UnifiedModel) -> int:
    """How many prompts a dry run tries: on a GPU what is decoded together, for one alone takes as long as many."""
    if settings["calibration"] is not None:
        return int(settings["calibration"])
    return searches_at_once(Engine.of(model), settings["samples"]) if model.device.type == "cuda" else 4


def _settings_of_rows(settings: Settings) -> dict[str, Settings]:
    """The run itself, then its controls, by the name of the row."""
    names = controls_of(settings["method"]) if settings["controls"] else []
    controls = {name: settings.given(**control_settings(name, settings.values)) for name in names}
    return {settings["method"]: settings, **controls}


def _rows(evaluation: Evaluation, settings: Settings, out: Path) -> list[Row]:
    """All rows; their searches have refused what cannot be."""
    folders = {name: out / CONTROLS_FOLDER / name for name in CONTROLS} | {settings["method"]: out}
    return [_row(evaluation, each, folders[name], name) for name, each in _settings_of_rows(settings).items()]


def _row(evaluation: Evaluation, settings: Settings, folder: Path, name: str) -> Row:
    loaded, judges, prompts, crew = evaluation.loaded, evaluation.judges, evaluation.prompts, evaluation.crew
    oracle = is_kin(loaded.reward.kin, judges.judge)
    targets = paper_targets(evaluation.benchmark, prompts) if oracle and is_oracle(settings["protocol"]) else None
    search = search_for(settings, loaded, prompts, crew, targets)  # loads critics, and so makes their versions exact
    identity = identify(settings, loaded, prompts, crew, data=evaluation.files)
    model, held_out = loaded.model, judges.held_out
    searched = name not in UNSEARCHED
    facts = RunFacts(
        benchmark=evaluation.benchmark.name,
        made_by="evaluate",
        row=name,
        protocol=evaluation.protocol,
        model={"name": model.facts.name, "fingerprint": identity.model_fingerprint, "licence": model.facts.licence},
        method=settings["method"],
        settings=identity.config,
        seed=settings["seed"],
        data=evaluation.files,
        critic={
            "name": " + ".join(identity.config["reward"]),
            "version": loaded.reward.version,
            "target": loaded.reward.target,
            "kin": sorted(loaded.reward.kin),
        },
        judge={"name": judges.judge.name, "version": judges.judge.reward.version},
        held_out={"name": held_out.name, "version": held_out.reward.version} if held_out else None,
        oracle=searched and oracle,
        held_out_oracle=searched and held_out is not None and is_kin(loaded.reward.kin, held_out),
    )
    pictures = pictures_of(evaluation.benchmark, prompts, settings["images"], folder / "images")
    return Row(settings, folder, search, identity, facts, pictures)


def _evaluate(rows: Sequence[Row], evaluation: Evaluation, go_on: str) -> int:
    main, *controls = rows
    benchmark, judges = evaluation.benchmark, evaluation.judges
    found: list[Results] = []
    with ExitStack() as held:  # against others, until all is done
        for row in rows:
            if row is not main and not main.settings["quiet"]:
                click.echo(f"milr: control {row.facts.row}", err=True)
            run = held.enter_context(_open(row))
            with tracking(run, row.settings) as trackers:
                follow(run, row.search, row.settings, trackers, lambda key, line: None, go_on)
                write_other_files(benchmark, row.pictures, row.images)
                found.append(_judged(row, judges, benchmark))
                trackers.summary({name: result.headline.value for name, result in found[-1].judges.items()})
            if row is not main:
                write_results(row.folder, found[-1])
        beside = [
            (row.folder.relative_to(main.folder).as_posix(), result, read_judgements(row.folder))
            for row, result in zip(controls, found[1:], strict=True)
        ]
        results = beside_controls(found[0], read_judgements(main.folder), beside)
        write_results(main.folder, results)
    return show_evaluation(results, main.settings["json"], f"; try these again with: {go_on}")


def _open(row: Row) -> AbstractContextManager[RunFolder]:
    settings = row.settings
    return open_run(
        row.folder,
        row.identity,
        resume=settings["resume"] and read_identity(row.folder) is not None,
        keep_steps=settings["keep_steps"],
        frames=False,
        places={picture.key: PurePosixPath(picture.path.relative_to(row.images)) for picture in row.pictures},
    )


def _judged(row: Row, judges: Judges, benchmark: Benchmark) -> Results:
    """Judge what is drawn; what failed stays missing."""
    samples = samples_of(row.folder)
    drawn = [picture for picture in row.pictures if picture.key in samples]
    with judging_progress(progress_style(row.settings["quiet"])) as report:
        judgements = judge_pictures(row.folder, drawn, judges.all, report)
    tell_failures(judgements)
    return conclude(row.facts, benchmark, row.pictures, row.folder, samples)
