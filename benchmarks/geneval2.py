"""GenEval 2: 800 prompts of three to ten atoms, and a vision-language model that is asked about each atom.

Kamath et al., "GenEval 2: Addressing Benchmark Drift in Text-to-Image Evaluation", arXiv 2512.16853. Its score is
Soft-TIFA: the geometric mean of a prompt's answers (GM, for whole prompts) or the arithmetic one (AM, for atoms), and
the mean of that over the prompts. The tags are the numbers of atoms, by which the paper breaks GM down.

The official script takes a JSON file that maps each prompt to its picture. It lies beside the pictures as
`image_paths.json`, with paths below its own folder: run the script from there. It knows one picture a prompt: a second
one lies, with such a file, in the folder `image_1`, and so on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from milr.errors import PromptError
from milr.evaluation.contract import Benchmark, Figure, Role, Roles, Source, SourceFile, equal_prompts
from milr.prompts import Prompt

from .official import at, folder_of, json_lines, official_file, tags_of, text_of, whole, with_tags

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

PROMPTS = "geneval2_data.jsonl"
LEAST, MOST = 3, 10  # atoms
TAGS = tuple(f"{count}-atoms" for count in range(LEAST, MOST + 1))


class GenEval2(Benchmark):
    """GenEval 2's prompts and questions, scored by Soft-TIFA."""

    name = "geneval2"
    description = "800 prompts of 3 to 10 atoms, each asked about (Soft-TIFA)"
    licence = "CC-BY-NC-4.0"
    source = Source(
        "facebookresearch/GenEval2",
        "a6e82d2289e8d418f27f0adee77908b07060eea3",
        "CC-BY-NC-4.0",
        (SourceFile(PROMPTS, PROMPTS, "09233adbc9f877fba205f1a20efa4a8640e7e62a91dfd55893562bed8a928e43", 423220),),
    )
    categories = TAGS
    figures = (
        Figure("overall", whole(TAGS, equal_prompts)),  # of the official judge: GM; other judges have no such parts
        Figure("soft-tifa gm", whole(TAGS, equal_prompts), part="gm"),
        Figure("soft-tifa am", whole(TAGS, equal_prompts), part="am"),
    )

    def load(self, path: Path | None = None, categories: Sequence[str] = ()) -> list[Prompt]:
        tags = tags_of(self, categories)
        file = official_file(self, path, PROMPTS, alone=True)
        prompts: list[Prompt] = []
        lines: dict[str, str] = {}
        for where, row in json_lines(file):
            with at(where):
                prompt = _prompt(row, len(prompts))
                if prompt.text in lines:  # pictures are found by their prompts
                    raise PromptError(f"the same prompt as in {lines[prompt.text]}.")
            lines[prompt.text] = where
            prompts.append(prompt)
        return with_tags(prompts, tags, file)

    def image_path(self, prompt: Prompt, image_index: int, images: int) -> PurePosixPath:
        return folder_of(image_index) / f"{prompt.id}.png"

    def other_files(self, images: Sequence[tuple[Prompt, int]]) -> Mapping[PurePosixPath, bytes]:
        """`image_paths.json` for the first pictures, the second ones, and so on."""
        maps: dict[PurePosixPath, dict[str, str]] = {}
        for prompt, index in images:
            maps.setdefault(folder_of(index), {})[prompt.text] = self.image_path(prompt, index, len(images)).name
        return {folder / "image_paths.json": json.dumps(paths, indent=1).encode() for folder, paths in maps.items()}

    def roles(self, facts: ModelFacts | None) -> Roles:
        """The held-out judge is no Qwen, as the judge is; the critic has other weights, but grew from an older one."""
        return Roles(Role("soft-tifa"), Role("unified-reward"), Role("blip-vqa"))


def _prompt(row: Mapping[str, Any], index: int) -> Prompt:
    text, count, questions, skills = text_of(row, "prompt"), *map(row.get, ("atom_count", "vqa_list", "skills"))
    if type(count) is not int or not LEAST <= count <= MOST:
        raise PromptError(f"expected a whole number from {LEAST} to {MOST} under 'atom_count', not {count!r}.")
    if not isinstance(questions, list) or not questions or not all(map(_is_question, questions)):
        raise PromptError("expected a list of questions with their answers under 'vqa_list'.")
    if not isinstance(skills, list) or len(skills) != len(questions) or not all(map(_is_text, skills)):
        raise PromptError("expected a list under 'skills', with a name for each question of 'vqa_list'.")
    metadata = {"tag": f"{count}-atoms", "atom_count": count, "vqa_list": questions, "skills": skills}
    return Prompt(text, f"{index:04}", metadata)


def _is_question(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(map(_is_text, entry))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
