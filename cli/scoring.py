"""Carrying out `milr score`: find the pictures, judge them, say what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from milr import plugins
from milr.errors import UsageError
from milr.evaluation.conclusion import conclude, pictures_of, samples_of, size_of
from milr.evaluation.contract import Benchmark
from milr.evaluation.controls import CONTROLS_FOLDER, UNSEARCHED
from milr.evaluation.judgements import JUDGEMENTS_FILE
from milr.evaluation.judging import Picture, judge_pictures
from milr.evaluation.results import RESULTS_FILE, Results, RunFacts, read_results, write_results
from milr.evaluation.selection import limited
from milr.models.base import ModelFacts
from milr.prompts import Prompt
from milr.run_identity import Identity, read_identity
from milr.run_lock import LOCK_FILE, FolderLock

from .critics import facts_of_pictures_by
from .judges import Judges, check_judges, is_kin, load_judges, tell_failures
from .progress import judging_progress, progress_style
from .results import show_evaluation
from .selecting import chosen_categories, select_prompts
from .settings import Settings


def carry_out(settings: Settings, benchmark: Benchmark, folder: Path, out: Path) -> int:
    """Score; returns the exit code.

    Raises:
        UsageError: something asked for cannot be; nothing was written.
        RunError: the work cannot go on; what was judged is kept.
    """
    run = read_identity(folder)
    if run is not None and run.config.get("benchmark") != benchmark.name:
        raise UsageError(f"{folder} is no run of 'milr evaluate {benchmark.name}'.")
    made = read_results(folder) if run is not None else None
    if run is not None and made is None:
        raise UsageError(f"{folder} is unfinished; first: milr evaluate --resume --out {folder}")
    _check_out(out)
    prompts, files = _prompts(run, settings, benchmark)
    pictures = _pictures(run, benchmark, prompts, folder, settings["images"])
    model = _model(settings, run)
    judges = load_judges(settings, benchmark.roles(model), model, settings["device"], None)
    check_judges(judges, prompts)
    facts = _facts(settings, benchmark, folder, made, model, judges, files)
    samples = samples_of(folder) if run is not None else None
    there = [it for it in pictures if size_of(it.path) is not None and (samples is None or it.key in samples)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror or error}; choose another --out.") from None
    lock = FolderLock(out)
    try:
        with judging_progress(progress_style(settings["quiet"])) as report:
            judgements = judge_pictures(out, there, judges.all, report)
        tell_failures(judgements)
        results = conclude(facts, benchmark, pictures, out, samples)
        write_results(out, results)
    finally:
        lock.release()
    if made is not None and made.controls:
        names = ", ".join(control.facts.row for control in made.controls)
        click.echo(
            f"milr: judged the run alone; its controls ({names}) are runs in {folder / CONTROLS_FOLDER}.", err=True
        )
    return show_evaluation(results, settings["json"])


def find_pictures(benchmark: Benchmark, prompts: Sequence[Prompt], folder: Path, images: int | None) -> list[Picture]:
    """The pictures of each prompt that are there, and the places of those that are not.

    Args:
        images: pictures a prompt; None for as many as the prompt that has most.

    Raises:
        UsageError: there are none at all.
    """
    found = {prompt.id: benchmark.find_images(folder, prompt)[:images] for prompt in prompts}
    most = images or max(map(len, found.values()))
    if not any(found.values()):
        example = folder / benchmark.image_path(prompts[0], 0, images or benchmark.images_per_prompt)
        raise UsageError(f"there are no pictures of {benchmark.name} in {folder}; expected such as {example}.")
    return [
        Picture(
            prompt,
            index,
            found[prompt.id][index]
            if index < len(found[prompt.id])
            else folder / benchmark.image_path(prompt, index, most),
        )
        for prompt in prompts
        for index in range(most)
    ]


def _pictures(
    run: Identity | None, benchmark: Benchmark, prompts: Sequence[Prompt], folder: Path, images: int | None
) -> list[Picture]:
    """Those of a run are where it has put them; those of others are looked for."""
    if run is None:
        return find_pictures(benchmark, prompts, folder, images)
    asked = pictures_of(benchmark, prompts, int(run.config["images"]), folder / "images")
    return [picture for picture in asked if images is None or picture.image_index < images]


def _check_out(out: Path) -> None:
    """Judgements go on in a folder of judgements, and nowhere else."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder as --out.")
    known = {JUDGEMENTS_FILE, RESULTS_FILE, LOCK_FILE}
    foreign = sorted(path.name for path in out.iterdir() if path.name not in known) if out.is_dir() else []
    if foreign:
        raise UsageError(f"{out} holds other files ({foreign[0]!r}); choose a new or empty folder as --out.")


def _prompts(
    run: Identity | None, settings: Settings, benchmark: Benchmark
) -> tuple[Sequence[Prompt], Mapping[str, Any]]:
    """The prompts that are asked for, and the files that they are from; a run has its own."""
    if run is None or settings["data"] is not None:
        return select_prompts(settings, benchmark)
    categories = chosen_categories(settings, benchmark) or benchmark.categories
    prompts = [prompt for prompt in run.prompts if prompt.metadata["tag"] in categories]
    return limited(prompts, settings["limit"]), run.facts.get("data", {})


def _model(settings: Settings, run: Identity | None) -> ModelFacts | None:
    """Who drew the pictures, as far as it is a model that is known by name."""
    if settings["model"]:
        return facts_of_pictures_by(settings["model"])
    name = run.config.get("model") if run is not None else None
    return facts_of_pictures_by(str(name)) if name in plugins.plugins("models") else None


def _facts(
    settings: Settings,
    benchmark: Benchmark,
    folder: Path,
    made: Results | None,
    model: ModelFacts | None,
    judges: Judges,
    files: Mapping[str, Any],
) -> RunFacts:
    held_out = judges.held_out
    facts = RunFacts(
        benchmark=benchmark.name,
        made_by="score",
        row=folder.resolve().name,
        protocol={"name": "custom"},
        model={"name": model.name, "fingerprint": None, "licence": model.licence} if model else None,
        method=None,
        settings={name: settings[name] for name in ("categories", "limit")},
        seed=None,
        data=files,
        critic=None,
        judge={"name": judges.judge.name, "version": judges.judge.reward.version},
        held_out={"name": held_out.name, "version": held_out.reward.version} if held_out else None,
    )
    if made is None:
        return facts
    searched = made.facts.row not in UNSEARCHED
    kin = made.facts.critic["kin"] if made.facts.critic else ()
    return replace(
        made.facts,
        made_by="score",
        protocol=_protocol(made.facts, judges.judge.name),
        judge=facts.judge,
        held_out=facts.held_out,
        oracle=searched and is_kin(kin, judges.judge),
        held_out_oracle=searched and held_out is not None and is_kin(kin, held_out),
    )


def _protocol(made: RunFacts, judge: str) -> Mapping[str, Any]:
    """That of the run; another judge departs from it."""
    if made.protocol["name"] == "custom" or judge == made.judge["name"]:
        return made.protocol
    return {**made.protocol, "changed": {**made.protocol.get("changed", {}), "judge": judge}}
