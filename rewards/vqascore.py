"""The critic `vqascore`: the probability that a vision-language model says "Yes" when asked whether a picture shows it.

VQAScore (Lin et al., "Evaluating Text-to-Visual Generation with Image-to-Text Generation", ECCV 2024, equation 1) is
P("Yes" | picture, 'Does this figure show "{prompt}"?'): the probability of one token, without a space before it, over
the whole vocabulary. The question ends in "Please answer Yes or No." as the authors' `t2v_metrics` has it for Qwen-VL;
the paper's own, for CLIP-FlanT5, in "Please answer yes or no.".

It asks about the prompt as a whole. Critics that ask clause by clause are `soft-tifa` and `git-vqa`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from milr.errors import UsageError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .networks.checkpoints import Weights
from .networks.vision_language import VisionLanguageModel

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

DEFAULT = "Qwen/Qwen3-VL-4B-Instruct"
QUESTION = 'Does this figure show "{prompt}"? Please answer Yes or No.'
RULE_VERSION = 1  # raise it when the same weights may score otherwise


class VqaScore(Reward):
    """How likely a vision-language model is to say "Yes" when asked whether the picture shows the prompt.

    Parts are that probability, `yes`, and its share of P("Yes") + P("No"), `yes over no`.

    Args:
        facts: unused.
        device: where the model runs.
        model: "OWNER/NAME" on the Hugging Face hub, or a folder: any vision-language model that can be talked to.
        revision: branch, tag or commit on the hub.
        question: what is asked; {prompt} stands for the prompt.

    Raises:
        UsageError: the question has no place for the prompt.
    """

    name = "vqascore"
    range = (0.0, 1.0)
    checkpoint = DEFAULT
    licence = "Apache-2.0, or as the chosen checkpoint says"
    size_mb = 8900.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = DEFAULT,
        revision: str | None = None,
        question: str = QUESTION,
    ) -> None:
        if "{prompt}" not in question:
            raise UsageError(
                f"reward 'vqascore': the question {question!r} has no {{prompt}}, where the prompt would go; "
                f"the default is {QUESTION!r}."
            )
        self._question = question
        self._model = VisionLanguageModel(Weights(self.name, model, revision), device)
        self.kin = self._model.kin

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        asked = hashlib.sha256(self._question.encode()).hexdigest()[:6]
        return f"{RULE_VERSION}-{asked}-{self._model.version}"

    def check(self, prompt: Prompt) -> None:
        """Load the weights, so that missing ones are an error before anything starts."""
        super().check(prompt)
        self._model.load()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        questions = [self._question.replace("{prompt}", prompt.text) for prompt in prompts]
        chances = self._model.answer_log_probabilities(images, questions, [("Yes",), ("No",)])  # [images, 2]
        alone, shared = chances.exp()[:, 0].tolist(), chances.softmax(-1)[:, 0].tolist()
        return [
            Score(yes, {"yes": yes, "yes over no": share}, f"it says yes with probability {yes:.2f}")
            for yes, share in zip(alone, shared, strict=True)
        ]
