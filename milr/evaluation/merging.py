"""Shards of one evaluation, joined into the run that one process would have made.

A merged folder is a run like any other: it can be compared, resumed (with another judge, say) and scored again. It is
made beside its place and appears there as a whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from milr import plugins
from milr.errors import ResumeError, RunError, UsageError
from milr.evaluation.conclusion import conclude, pictures_of, samples_of, write_other_files
from milr.evaluation.contract import Benchmark
from milr.evaluation.controls import CONTROLS_FOLDER
from milr.evaluation.judgements import JUDGEMENTS_FILE, read_judgements
from milr.evaluation.results import Results, beside_controls, read_results, write_results
from milr.evaluation.selection import parse_shard, unsharded
from milr.run_files import append_lines, read_lines
from milr.run_identity import Identity, config_difference, read_identity

_LINES = ("samples.jsonl", JUDGEMENTS_FILE)
_FOLDERS = ("images", "trace", "steps")


def merge(shards: Sequence[Path], out: Path) -> Results:
    """Join finished shards into a new folder.

    Raises:
        UsageError: `out` exists, or the folders are not all the parts of one evaluation, each once and finished.
        ResumeError: milr did not write their files, or they are damaged.
        RunError: the disk refuses; `out` is not there.
    """
    if out.exists():
        raise UsageError(f"{out} exists; choose another --out.")
    ordered = _ordered(shards)
    temporary = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        results = _merged(ordered, temporary)
        temporary.replace(out)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror or error}; the shards are as they were.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return results


def _ordered(shards: Sequence[Path]) -> list[Path]:
    """The folders in the order of their parts."""
    parts: dict[int, Path] = {}
    count = 0
    for folder in shards:
        identity = _identity(folder)
        shard = identity.config.get("shard")
        if not shard:
            raise UsageError(f"{folder} is no shard: it was made without --shard I/N.")
        part, of = parse_shard(shard)
        if count and of != count:
            raise UsageError(f"{folder} is part {part} of {of}, and {shards[0]} one of {count}; give parts of one run.")
        if part in parts:
            raise UsageError(f"{folder} and {parts[part]} are both part {part} of {of}; leave one out.")
        count, parts[part] = of, folder
    missing = [f"{part}/{count}" for part in range(1, count + 1) if part not in parts]
    if missing:
        raise UsageError(f"not all shards are given ({', '.join(missing)}); give all {count} folders.")
    return [parts[part] for part in sorted(parts)]


def _merged(shards: Sequence[Path], out: Path) -> Results:
    """The run in `out`, its controls below it."""
    results = _join(shards, out)
    beside = []
    for name in _controls(shards):
        folder = Path(CONTROLS_FOLDER, name)
        control = _join([shard / folder for shard in shards], out / folder)
        write_results(out / folder, control)
        beside.append((folder.as_posix(), control, read_judgements(out / folder)))
    results = beside_controls(results, read_judgements(out), beside)
    write_results(out, results)
    return results


def _controls(shards: Sequence[Path]) -> list[str]:
    """Those of all shards, in the order of the table."""
    rows = [[control.facts.row for control in _results(shard).controls] for shard in shards]
    for shard, names in zip(shards, rows, strict=True):
        if names != rows[0]:
            raise UsageError(
                f"{shard} has other controls than {shards[0]} ({', '.join(names) or 'none'} and "
                f"{', '.join(rows[0]) or 'none'}); finish both with the same ones."
            )
    return rows[0]


def _join(shards: Sequence[Path], out: Path) -> Results:
    """One row."""
    identities = [_identity(shard) for shard in shards]
    results = [_results(shard) for shard in shards]
    config = _without_shard(identities[0].config)
    for shard, identity, result in zip(shards, identities, results, strict=True):
        if difference := config_difference(_without_shard(identity.config), config):
            raise UsageError(f"{shard} was made with {difference} as in {shards[0]}; give parts of one run.")
        if _who(identity, result) != _who(identities[0], results[0]):
            raise UsageError(
                f"{shard} was made with other weights, critics, judges or data than {shards[0]}; make it anew."
            )
        if lost := _lost(shard, result):
            raise UsageError(f"{shard} lacks {lost} pictures; finish it: milr evaluate --resume --out {shard}")
    identity = replace(identities[0], config=config, prompts=unsharded([each.prompts for each in identities]))
    identity.write(_made(out))
    benchmark = _benchmark(config)
    for shard in shards:
        for name in _LINES:
            append_lines(out / name, read_lines(shard / name))
        for name in _FOLDERS:
            if (shard / name).is_dir():
                shutil.copytree(shard / name, out / name, dirs_exist_ok=True)
    pictures = pictures_of(benchmark, identity.prompts, config["images"], out / "images")
    write_other_files(benchmark, pictures, out / "images")
    facts = replace(results[0].facts, settings=config)
    return conclude(facts, benchmark, pictures, out, samples_of(out))


def _who(identity: Identity, results: Results) -> list[Any]:
    """What is no setting, and the same in all parts."""
    facts = results.facts
    return [identity.model_fingerprint, identity.reward_version, facts.judge, facts.held_out, facts.data]


def _lost(shard: Path, results: Results) -> int:
    """Pictures that are not there, without those of failed searches: these are missing in the whole, too."""
    failed = {(line["id"], line["image_index"]) for line in read_lines(shard / "samples.jsonl") if "error" in line}
    return results.missing - len(failed - samples_of(shard).keys())


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _without_shard(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "shard": None}


def _identity(folder: Path) -> Identity:
    identity = read_identity(folder)
    if identity is None or "benchmark" not in identity.config:
        raise UsageError(f"{folder} is no run of 'milr evaluate'; give the --out folders of its shards.")
    return identity


def _results(folder: Path) -> Results:
    results = read_results(folder)
    if results is None:
        raise ResumeError(f"{folder} is not finished; go on with: milr evaluate --resume --out {folder}")
    return results


def _benchmark(config: Mapping[str, Any]) -> Benchmark:
    return plugins.find("benchmarks", config["benchmark"]).load()()
