"""GenEval: 553 prompts of six kinds, and a detector that says whether what they name is there.

Ghosh et al., "GenEval: An Object-Focused Framework for Evaluating Text-to-Image Alignment", arXiv 2310.11513. Figures
are those of the official `summary_scores.py`: the mean over the six tags, the share of correct pictures, and the share
of prompts with a correct picture.

Layout, as the official `evaluate_images.py` reads it: 00000/samples/0000.png, and beside them 00000/metadata.jsonl with
the prompt's line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from milr.errors import PromptError
from milr.evaluation.contract import Benchmark, Figure, Role, Roles, Source, SourceFile, equal_prompts
from milr.prompts import Prompt
from milr_rewards.language.requirements import requirements_of

from .official import at, json_lines, official_file, tags_of, text_lines, text_of, whole, with_tags

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

PROMPTS, CLASSES = "evaluation_metadata.jsonl", "object_names.txt"
TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
EMBEDDED_WORLD = "mini"  # the model whose pictures the embedded detectors know
DETECTOR = "facebook/mask2former-swin-small-coco-instance"  # named, since pictures of unknown origin are no scenes

_KEYS = {"tag", "include", "exclude", "prompt"}
_CLAUSE_KEYS = {"include": {"class", "count", "color", "position"}, "exclude": {"class", "count"}}


class GenEval(Benchmark):
    """GenEval's prompts, layout and figures.

    Pictures of `mini` are judged by detectors of its own world; others by the detector of transformers, which is called
    `geneval-hf` because its weights are not the official ones.
    """

    name = "geneval"
    description = "553 prompts: objects, their numbers, colours and places, checked by a detector"
    licence = "MIT"
    source: Source | None = Source(
        "djghosh13/geneval",
        "af4902f24d3ca90ebbb446dd9891a59e0f82725f",
        "MIT",
        (
            SourceFile(
                PROMPTS,
                "prompts/evaluation_metadata.jsonl",
                "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
                85209,
            ),
            SourceFile(
                CLASSES,
                "evaluation/object_names.txt",
                "608f6a0e5c8ca1c7a92b818430141fe268c85b7930b50f4160f1d65893b5bacd",
                642,
            ),
        ),
    )
    categories: tuple[str, ...] = TAGS
    images_per_prompt = 4
    figures: tuple[Figure, ...] = (
        Figure("overall", whole(TAGS)),
        Figure("correct images", equal_prompts),
        Figure("correct prompts", equal_prompts, over_images="any"),
    )

    def load(self, path: Path | None = None, categories: Sequence[str] = ()) -> list[Prompt]:
        """The prompts; classes are checked where `object_names.txt` lies beside them."""
        tags = tags_of(self, categories)
        file = official_file(self, path, PROMPTS, alone=True)
        names = file.with_name(CLASSES)
        classes = {name for _, name in text_lines(names)} if names.is_file() else None
        prompts = []
        for index, (where, row) in enumerate(json_lines(file)):
            with at(where):
                prompts.append(self._prompt(row, index, classes))
        return with_tags(prompts, tags, file)

    def image_path(self, prompt: Prompt, image_index: int, images: int) -> PurePosixPath:
        return PurePosixPath(prompt.id, "samples", f"{image_index:04}.png")

    def find_images(self, folder: Path, prompt: Prompt) -> list[Path]:
        """All numbered pictures: official scripts write four digits or five."""
        found = (folder / prompt.id / "samples").glob("*.png")
        return sorted(path for path in found if path.stem.isdigit() and path.is_file())

    def other_files(self, images: Sequence[tuple[Prompt, int]]) -> Mapping[PurePosixPath, bytes]:
        """Each prompt's line of the official file, as `metadata.jsonl`."""
        return {
            PurePosixPath(prompt.id, "metadata.jsonl"): json.dumps({**prompt.metadata, "prompt": prompt.text}).encode()
            for prompt, _ in images
        }

    def roles(self, facts: ModelFacts | None) -> Roles:
        if facts is not None and facts.name == EMBEDDED_WORLD:
            return Roles(Role("scenes-judge"), Role("geneval"), Role("scenes-third"))
        judge = Role("geneval", {"mode": "binary", "detector": DETECTOR}, "geneval-hf")
        return Roles(judge, Role("mixed"), Role("vqascore"))

    def _prompt(self, row: Mapping[str, Any], index: int, classes: set[str] | None) -> Prompt:
        tag = text_of(row, "tag")
        if tag not in self.categories:
            raise PromptError(f"unknown tag {tag!r}; expected one of {', '.join(self.categories)}.")
        _refuse_others(row, _KEYS, "a prompt")
        metadata = {key: value for key, value in row.items() if key != "prompt"}
        prompt = Prompt(text_of(row, "prompt"), f"{index:05}", metadata)
        if "include" not in row:
            raise PromptError("expected a list of clauses under 'include'.")
        requirements_of(prompt, classes)
        for kind, keys in _CLAUSE_KEYS.items():
            for clause in row.get(kind, ()):
                _refuse_others(clause, keys, f"a clause of {kind!r}")
        return prompt


def _refuse_others(record: Mapping[str, Any], keys: set[str], what: str) -> None:
    """A misspelt key would leave something unchecked."""
    others = sorted(record.keys() - keys)
    if others:
        raise PromptError(f"{what} has no {others[0]!r}; it has {', '.join(sorted(keys))}.")
