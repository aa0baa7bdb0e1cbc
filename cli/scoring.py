"""Carrying out `milr score`: find the pictures, judge them, say what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from milr import plugins
from milr.errors import UsageError
from milr.evaluation.conclusion import conclude, samples_of, size_of
from milr.evaluation.contract import Benchmark
from milr.evaluation.judging import Picture, judge_pictures
from milr.evaluation.results import RESULTS_FILE, Results, RunFacts, read_results, write_results
from milr.evaluation.selection import limited
from milr.evaluation.tables import format_run
from milr.models.base import ModelFacts
from milr.prompts import Prompt
from milr.rewards import load_reward
from milr.run_files import to_json
from milr.run_identity import Identity, read_identity
from milr.run_lock import LOCK_FILE, FolderLock

from .critics import facts_of_pictures_by
from .judges import Judges, check_judges, is_kin, load_judges
from .progress import judging_progress, progress_style
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
    _check_out(out)
    prompts, files = _prompts(run, settings, benchmark)
    pictures = find_pictures(benchmark, prompts, folder / "images" if run is not None else folder, settings["images"])
    model = _model(settings, run)
    judges = load_judges(settings, benchmark.roles(model), model, settings["device"], None)
    check_judges(judges.all, prompts)
    facts = _facts(settings, benchmark, folder, run, model, judges, files)
    there = [picture for picture in pictures if size_of(picture.path) is not None]
    out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(out)
    try:
        with judging_progress(progress_style(settings["quiet"])) as report:
            judge_pictures(out, there, judges.all, report)
        results = conclude(facts, benchmark, pictures, out, samples_of(folder) if run is not None else None)
        write_results(out, results)
    finally:
        lock.release()
    click.echo(to_json(results.to_record()) if settings["json"] else format_run(results))
    return _exit_code(results)


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


def _check_out(out: Path) -> None:
    """Judgements go on in a folder of judgements, and nowhere else."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder as --out.")
    known = {"judgements.jsonl", RESULTS_FILE, LOCK_FILE}
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
    run: Identity | None,
    model: ModelFacts | None,
    judges: Judges,
    files: Mapping[str, Any],
) -> RunFacts:
    held_out = judges.held_out
    made = read_results(folder) if run is not None else None
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
    if made is None or run is None:
        return facts
    steered = load_reward(run.config["reward"], model) if made.facts.critic else None
    return replace(
        made.facts,
        made_by="score",
        judge=facts.judge,
        held_out=facts.held_out,
        oracle=steered is not None and is_kin(steered, judges.judge),
        held_out_oracle=steered is not None and held_out is not None and is_kin(steered, held_out),
    )


def _exit_code(results: Results) -> int:
    unjudged = sum(result.failed for result in results.judges.values())
    if results.missing or unjudged:
        click.echo(
            f"milr: {results.missing} pictures are missing or unreadable, {unjudged} could not be judged.", err=True
        )
    return 1 if results.missing or unjudged else 0
