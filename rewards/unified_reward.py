"""The critic `unified-reward`: what UnifiedReward-2.0 writes of a picture, axis by axis.

UnifiedReward (Wang et al., arXiv 2503.05236) is a vision-language model that was trained to write scores from 1 to 5:
alignment (does the picture match the caption), coherence (is it free of glitches and distortions) and style (is it
pleasing, whatever the caption). The instruction is the authors' (`point_score_ACS_image_generation.py` of version 2.0);
the reply is the likeliest one. Checkpoints of other sizes are asked alike, e.g. `CodeGoat24/UnifiedReward-2.0-qwen-3b`
or `-qwen3vl-4b`.

Scores are read strictly: a reply that lacks an axis, names it twice or leaves the scale is a failure, not a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from milr.errors import UnknownNameError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .networks.checkpoints import Weights
from .networks.vision_language import VisionLanguageModel

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

DEFAULT = "CodeGoat24/UnifiedReward-2.0-qwen-7b"
AXES = ("alignment", "coherence", "style")
LEAST, GREATEST = 1.0, 5.0
MOST_TOKENS = 128  # three lines; a score may have fifteen digits, each a token
RULE_VERSION = 1  # raise it when the same weights may score otherwise

INSTRUCTION = """\
You are presented with a generated image and its associated text caption. \
Your task is to analyze the image across multiple dimensions in relation to the caption. Specifically:
Provide overall assessments for the image along the following axes (each rated from 1 to 5):
- Alignment Score: How well the image matches the caption in terms of content.
- Coherence Score: How logically consistent the image is (absence of visual glitches, object distortions, etc.).
- Style Score: How aesthetically appealing the image looks, regardless of caption accuracy.

Output your evaluation using the format below:

Alignment Score (1-5): X
Coherence Score (1-5): Y
Style Score (1-5): Z

Your task is provided as follows:
Text Caption: [{prompt}]"""


class UnifiedReward(Reward):
    """What UnifiedReward-2.0 gives a picture for alignment, coherence or style, from 0 to 1.

    A score x becomes (x - 1) / 4; several axes are averaged. Parts are the scores as written, from 1 to 5.

    Args:
        facts: unused.
        device: where the model runs.
        model: "OWNER/NAME" on the Hugging Face hub, or a folder: a checkpoint of UnifiedReward.
        revision: branch, tag or commit on the hub.
        axes: one of "alignment", "coherence" and "style", or several with commas between them.

    Raises:
        UnknownNameError: another axis.
    """

    name = "unified-reward"
    range = (0.0, 1.0)
    checkpoint = DEFAULT
    licence = "MIT"
    size_mb = 16600.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = DEFAULT,
        revision: str | None = None,
        axes: str = "alignment",
    ) -> None:
        self._axes = [axis.strip() for axis in axes.split(",")]
        for axis in self._axes:
            if axis not in AXES:
                raise UnknownNameError(f"axis of reward {self.name!r}:", axis, AXES)
        self._model = VisionLanguageModel(Weights(self.name, model, revision), device)
        self.kin = self._model.kin

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE_VERSION}-{'+'.join(self._axes)}-{self._model.version}"

    def check(self, prompt: Prompt) -> None:
        """Load the weights, so that missing ones are an error before anything starts."""
        super().check(prompt)
        self._model.load()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        asked = [INSTRUCTION.replace("{prompt}", prompt.text) for prompt in prompts]
        return [score_reply(reply, self._axes) for reply in self._model.write(images, asked, MOST_TOKENS)]


def score_reply(reply: str, axes: Sequence[str]) -> Score:
    """The score that a reply gives; a failure that quotes its beginning where it gives none."""
    parts = parse_reply(reply)
    if parts is None:
        return Score(None, error=f"expected a score from 1 to 5 for each axis, and the model wrote {reply[:80]!r}")
    value = sum((parts[axis] - LEAST) / (GREATEST - LEAST) for axis in axes) / len(axes)
    return Score(value, parts, ", ".join(f"{axis} {part:.1f} of 5" for axis, part in parts.items()))


def parse_reply(reply: str) -> dict[str, float] | None:
    """Score of every axis, from 1 to 5; None unless each is there once, in a line of its own."""
    parts = {}
    for axis in AXES:
        written = re.findall(rf"^{axis.capitalize()} Score \(1-5\): *(\d+(?:\.\d+)?) *$", reply, re.MULTILINE)
        if len(written) != 1 or not LEAST <= float(written[0]) <= GREATEST:
            return None
        parts[axis] = float(written[0])
    return parts
