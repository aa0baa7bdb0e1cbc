"""The benchmark `scenes` as a plugin: 448 prompts that ship with milr, in GenEval's form and layout.

What they ask for and how they were made is told in `benchmark`, which this module does not import: it needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from milr.evaluation.contract import Figure, equal_prompts
from milr.prompts import Prompt

from ..geneval import GenEval
from ..official import whole

PROMPTS = Path(__file__).with_name("prompts.jsonl")
TAGS = (
    *("colored_count", "colored_position", "two_relations", "three_objects", "three_colored_objects", "five_objects"),
    "knowledge",
)


class Scenes(GenEval):
    """Prompts beyond GenEval's forms, such as `mini` never learned to draw; critics, layout and rule are GenEval's."""

    name = "scenes"
    description = "448 prompts beyond GenEval's forms; embedded, and judged offline for pictures of mini"
    licence = "Apache-2.0"
    source = None
    categories = TAGS
    images_per_prompt = 1
    figures = (
        Figure("overall", whole(TAGS)),
        Figure("correct images", equal_prompts),
        Figure("correct prompts", equal_prompts, over_images="any"),
    )

    def load(self, path: Path | None = None, categories: Sequence[str] = ()) -> list[Prompt]:
        return super().load(path or PROMPTS, categories)
