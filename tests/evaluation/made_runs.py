"""Run folders as an evaluation leaves them, of given scores, and what a comparison of them says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from milr.evaluation.comparison import Comparison
from milr.evaluation.contract import Figure
from milr.evaluation.judgements import Judgement, append_judgements, read_judgements
from milr.evaluation.results import PictureFacts, Results, RunFacts, beside_controls, summarise, write_results

Scores = Mapping[tuple[str, str], Sequence[float | None]]  # (prompt id, tag) -> one score a picture

FACTS = RunFacts(
    benchmark="geneval",
    made_by="evaluate",
    row="milr",
    protocol={"name": "official"},
    model={"name": "mini", "fingerprint": "f" * 64, "licence": "Apache-2.0"},
    method="milr",
    settings={"steps": 20, "samples": 4, "seed": 0},
    seed=0,
    data={"prompts.jsonl": {"sha256": "0" * 64, "official": True}},
    critic={"name": "clip", "version": "clip@1", "target": None, "kin": ["ViT-L-14"]},
    judge={"name": "geneval-hf", "version": "1"},
)


def scores_of(correct: int, of: int = 100, tag: str = "colors") -> dict[tuple[str, str], list[float | None]]:
    """As many prompts with one picture each, the first of them correct."""
    return {(f"{tag}-{number:03}", tag): [float(number < correct)] for number in range(of)}


def make_run(
    folder: Path,
    scores: Scores,
    facts: RunFacts = FACTS,
    *,
    held_out: Scores | None = None,
    parts: Mapping[str, float] | None = None,
    figures: Sequence[Figure] = (Figure("overall"),),
    images_decoded: float | None = 84.0,
    missing: Sequence[tuple[str, int]] = (),
    size: tuple[int, int] = (64, 64),
) -> Results:
    """A finished run without controls; a score of None is a picture on which the judge failed."""
    judges = [(facts.judge, scores), *([(facts.held_out, held_out)] if facts.held_out and held_out else [])]
    append_judgements(
        folder,
        [
            _judgement(judge, identity, index, tag, score, parts or {})
            for judge, found in judges
            for (identity, tag), values in found.items()
            for index, score in enumerate(values)
            if (identity, index) not in missing
        ],
    )
    pictures = [
        PictureFacts(
            identity, f"a {identity}", tag, index, None if (identity, index) in missing else size, 0.5, images_decoded
        )
        for (identity, tag), values in scores.items()
        for index in range(len(values))
    ]
    results = summarise(facts, pictures, read_judgements(folder), figures, [], {"seconds": 1.0})
    write_results(folder, results)
    return results


def make_controls(folder: Path, results: Results, controls: Mapping[str, Scores], **facts: Any) -> Results:
    """The same run with controls of these scores in its folder."""
    found = []
    for name, scores in controls.items():
        below = f"controls/{name}"
        searched = None if name in ("base", "reason-only") else name
        row = replace(results.facts, row=name, method=searched, oracle=False, **facts)
        made = make_run(folder / below, scores, row, images_decoded=84.0 if searched else 1.0)
        found.append((below, made, read_judgements(folder / below)))
    whole = beside_controls(results, read_judgements(folder), found)
    write_results(folder, whole)
    return whole


def _judgement(
    judge: Mapping[str, str], identity: str, index: int, tag: str, score: float | None, parts: Mapping[str, float]
) -> Judgement:
    return Judgement(
        judge=judge["name"],
        version=judge["version"],
        id=identity,
        image_index=index,
        tag=tag,
        prompt=f"a {identity}",
        image=f"{identity}-{index}",
        value=score,
        parts=parts,
        error=None if score is not None else "no answer",
        cost={"tokens": 10.0},
    )


def with_settings(facts: RunFacts = FACTS, **settings: Any) -> RunFacts:
    seed = settings.get("seed", facts.seed)
    return replace(facts, seed=seed, settings={**facts.settings, **settings})


def labels(comparison: Comparison) -> list[str]:
    return [compared.row.label for compared in comparison.rows]


def verdicts(comparison: Comparison) -> Mapping[str, str | None]:
    return {it.row.label: it.difference.verdict if it.difference else None for it in comparison.rows}


def warning(comparison: Comparison, start: str) -> str:
    (line,) = [line for line in comparison.warnings if line.startswith(start)]
    return line
