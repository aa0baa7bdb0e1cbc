"""WISE: 1,000 prompts that say what they mean only to those who know the world, and a judge that knows the answer.

Niu et al., "WISE: A World Knowledge-Informed Semantic Evaluation for Text-to-Image Generation", arXiv 2503.07265. There
are two: `wise`, of March 2025, with three grades of GPT-4o (WiScore), now called legacy by its authors; and
`wise-verified`, of April 2026, where nearly half of the prompts are others and an open judge says 0 or 1. Their numbers
do not compare. "overall" has the weights of the authors' scripts, which are the shares of the prompts.

The official scripts read N.png, N from 1 to 1000, one picture a prompt: a second one lies in the folder `image_1`, and
so on. Prompts and rubric have no licence; they are fetched, and the judge's words are our own (`judging.presets`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from milr.errors import PromptError
from milr.evaluation.contract import Benchmark, Figure, Role, Roles, Source, SourceFile
from milr.prompts import Prompt

from .official import at, folder_of, json_array, official_file, tags_of, text_of, whole, with_tags

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

REPOSITORY, COMMIT = "PKU-YuanGroup/WISE", "eb51174483a5de2e34e8614cf9dfb3319ee7fcd0"
LICENCE = "none stated"

# What the files call a category -> tag, in the order of the prompts.
TAGS = {
    "Cultural knowledge": "culture",
    "time": "time",
    "Space": "space",
    "Biology": "biology",
    "Physical Knowledge": "physics",
    "Chemistry": "chemistry",
}
# By file, without the ending: the tags of its prompts.
FILES = {
    "cultural_common_sense": {"culture"},
    "spatio-temporal_reasoning": {"time", "space"},
    "natural_science": {"biology", "physics", "chemistry"},
}
SHARES = {"culture": 0.4, "time": 0.167, "space": 0.133, "biology": 0.1, "physics": 0.1, "chemistry": 0.1}
SHARES_VERIFIED = {"culture": 0.4, "time": 0.12, "space": 0.12, "biology": 0.12, "physics": 0.12, "chemistry": 0.12}


class Wise(Benchmark):
    """The legacy WISE: WiScore, by GPT-4o of May 2024."""

    name = "wise"
    description = "1,000 prompts that take knowledge of the world; three grades of a judge (WiScore, legacy)"
    licence = LICENCE
    source = Source(
        REPOSITORY,
        COMMIT,
        LICENCE,
        (
            SourceFile(
                "cultural_common_sense.json",
                "WISE_legacy/data/cultural_common_sense.json",
                "7a59216c768698280cea37caa574b52f3faf054d73b398b9bb6b3161baf8e3aa",
                125062,
            ),
            SourceFile(
                "spatio-temporal_reasoning.json",
                "WISE_legacy/data/spatio-temporal_reasoning.json",
                "e27d797885ad86e64d857d0cc93d33e04be572a8dcae95692a2c7e7876233f9a",
                100831,
            ),
            SourceFile(
                "natural_science.json",
                "WISE_legacy/data/natural_science.json",
                "b262fae58e413c7a4bd3c3d5a089f8c6529feac227e4b6606be261a949035544",
                117085,
            ),
        ),
    )
    categories = tuple(TAGS.values())
    figures = (Figure("overall", whole(tuple(SHARES), lambda _: SHARES)),)
    paper_targets: Mapping[str, float] = dict.fromkeys(TAGS.values(), 0.5)
    ending = ".json"  # of the files

    def load(self, path: Path | None = None, categories: Sequence[str] = ()) -> list[Prompt]:
        """The prompts; only files with prompts of these categories are read."""
        tags = tags_of(self, categories)
        prompts: list[Prompt] = []
        lines: dict[str, str] = {}
        for name, of_file in FILES.items():
            if of_file.isdisjoint(tags):
                continue
            file = official_file(self, path, f"{name}{self.ending}")
            for where, row in json_array(file):
                with at(where):
                    prompt = _prompt(row, of_file)
                    if prompt.id in lines:
                        raise PromptError(f"the same 'prompt_id' as in {lines[prompt.id]}.")
                lines[prompt.id] = where
                prompts.append(prompt)
        return with_tags(prompts, tags, file)

    def image_path(self, prompt: Prompt, image_index: int, images: int) -> PurePosixPath:
        return folder_of(image_index) / f"{int(prompt.id)}.png"

    def roles(self, facts: ModelFacts | None) -> Roles:
        return Roles(Role(f"judge:{self.name}"), Role("vqascore"), Role("unified-reward"))


class WiseVerified(Wise):
    """WISE_Verified: right or wrong, by an open judge."""

    name = "wise-verified"
    description = "1,000 prompts that take knowledge of the world; right or wrong, by an open judge"
    source = Source(
        REPOSITORY,
        COMMIT,
        LICENCE,
        (
            SourceFile(
                "cultural_common_sense_verified.json",
                "data_verified/cultural_common_sense_verified.json",
                "23482925266e2784b2ba24b75239fdc6691bf85ae253d2c4aa38b71b45fefa89",
                119062,
            ),
            SourceFile(
                "spatio-temporal_reasoning_verified.json",
                "data_verified/spatio-temporal_reasoning_verified.json",
                "42c0b9d829365e392c2d4af283850dc76b1f922ab0c79198366de4f306eaf2b6",
                109695,
            ),
            SourceFile(
                "natural_science_verified.json",
                "data_verified/natural_science_verified.json",
                "6f346c336f16f611e5c73e0fcacdccb336c200d534cf111526b22d50ea912555",
                177868,
            ),
        ),
    )
    figures = (Figure("overall", whole(tuple(SHARES_VERIFIED), lambda _: SHARES_VERIFIED)),)
    paper_targets: Mapping[str, float] = {}
    ending = "_verified.json"


def _prompt(row: Mapping[str, Any], tags: set[str]) -> Prompt:
    number, category = row.get("prompt_id"), text_of(row, "Category")
    if type(number) is not int or number < 1:
        raise PromptError(f"expected a whole number from 1 under 'prompt_id', not {number!r}.")
    if TAGS.get(category) not in tags:
        expected = [name for name, tag in TAGS.items() if tag in tags]
        raise PromptError(f"unknown category {category!r}; expected one of {', '.join(expected)}.")
    metadata = {
        "tag": TAGS[category],
        "subcategory": text_of(row, "Subcategory"),
        "explanation": text_of(row, "Explanation"),
    }
    return Prompt(text_of(row, "Prompt"), f"{number:04}", metadata)
