"""The critic `blip-vqa`: T2I-CompBench's score of colour, shape and texture, by BLIP's answers.

Each of the first eight noun phrases is a question, "a green bench?", and the score is the product of how probable "yes"
is: BLIP's decoder begins its answer, and P(yes) = p("yes") / (p("yes") + p("no")) of the first token (arXiv
2307.06350; `vqa_prob` in `BLIPvqa_eval/models/blip_vqa.py`).

Accepted differences to the official code:
- Phrases come from `noun_phrases`, not from spaCy.
- The checkpoint is the official one (ViT-B, CapFilt-L), but the hub's copy was made for pictures of 384 pixels: for the
  official 480 its positions are interpolated back. transformers also leaves out that BLIP's questions begin with [ENC]
  in place of [CLS]; here they do, as they were trained.
- Probabilities are not rounded to four digits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from milr.errors import UsageError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

from ..networks.batching import batches
from ..networks.checkpoints import Weights
from .noun_phrases import phrases_of

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

DEFAULT = "Salesforce/blip-vqa-capfilt-large"
RESOLUTION = 480
BATCH = 16  # pictures, and questions, per forward pass
LONGEST = 35  # tokens of a question
RULE = 1

_MARKS = re.compile(r'[.!"()*#:;~]')  # BLIP was trained on questions without them


class BlipVqa(Reward):
    """Product of P(yes) over the noun phrases of the prompt: colours, shapes, textures (T2I-CompBench).

    Metadata can name the phrases: {"noun_phrases": ["a red book", "a yellow vase"]}.

    Args:
        facts: of the model whose pictures are scored; not used.
        device: where the model runs.
        model: a BLIP for questions, on the hub or in a folder.
        revision: branch, tag or commit on the hub.
        resolution: pixels to which pictures are resized, both sides.

    Raises:
        UsageError: the resolution is no positive number.
    """

    name = "blip-vqa"
    range = (0.0, 1.0)
    checkpoint = DEFAULT
    licence = "BSD-3-Clause"
    size_mb = 1540.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = DEFAULT,
        revision: str | None = None,
        resolution: int = RESOLUTION,
    ) -> None:
        if resolution < 1:
            raise UsageError(f"reward 'blip-vqa': expected a resolution in pixels, such as 480, not {resolution!r}.")
        self._weights = Weights(self.name, model, revision)
        self.kin = self._weights.kin
        self._device, self._resolution = device, resolution

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE}-{self._weights.version}-{self._resolution}"

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt without noun phrases, and weights that cannot be used."""
        phrases_of(prompt)
        _ = self._loaded

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        asked = [phrases_of(prompt) for prompt in prompts]
        scores = []
        for batch in batches(range(len(images)), BATCH):
            questions = [(row, phrase) for row, index in enumerate(batch) for phrase in asked[index]]
            sure = iter(self._ask([images[index] for index in batch], questions))
            scores += [score_phrases([(phrase, next(sure)) for phrase in asked[index]]) for index in batch]
        return scores

    @torch.inference_mode()
    def _ask(self, images: Sequence[Image.Image], questions: Sequence[tuple[int, str]]) -> list[float]:
        """P(yes) of each (place of a picture, phrase)."""
        model, processor = self._loaded
        size = {"height": self._resolution, "width": self._resolution}
        pixels = processor.image_processor([i.convert("RGB") for i in images], size=size, return_tensors="pt")
        seen = model.vision_model(pixels["pixel_values"].to(self._device), interpolate_pos_encoding=True)[0]
        written = processor.tokenizer(
            [question(phrase) for _, phrase in questions], truncation=True, max_length=LONGEST
        ).input_ids
        answers: dict[int, float] = {}
        # Questions of one length need no padding, which transformers' decoder does not mask.
        for length in sorted({len(tokens) for tokens in written}):
            for batch in batches([place for place, tokens in enumerate(written) if len(tokens) == length], BATCH):
                asked = torch.tensor([written[place] for place in batch], device=seen.device)
                rows = torch.tensor([questions[place][0] for place in batch], device=seen.device)
                answers |= zip(batch, self._answer(seen[rows], asked), strict=True)
        return [answers[place] for place in range(len(questions))]

    def _answer(self, seen: torch.Tensor, questions: torch.Tensor) -> list[float]:
        """P(yes) of one question about each picture: [questions, tokens] about [questions, patches, D]."""
        model, processor = self._loaded
        start = model.config.text_config.bos_token_id  # [DEC], with [ENC] behind it in the vocabulary
        questions[:, 0] = start + 1
        asked = model.text_encoder(input_ids=questions, encoder_hidden_states=seen)[0]  # [questions, tokens, D]
        begun = torch.full((len(questions), 1), start, device=seen.device)
        logits = model.text_decoder(input_ids=begun, encoder_hidden_states=asked).logits[:, -1]
        yes, no = processor.tokenizer.convert_tokens_to_ids(["yes", "no"])
        return (logits[:, yes] - logits[:, no]).sigmoid().tolist()

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import BlipForQuestionAnswering, BlipProcessor

        processor = self._weights.processor(BlipProcessor)
        return self._weights.model(BlipForQuestionAnswering, self._device), processor


def question(phrase: str) -> str:
    """As BLIP was trained: lower case, few marks."""
    return _MARKS.sub("", f"{phrase}?".lower()).rstrip()


def score_phrases(answers: Sequence[tuple[str, float]]) -> Score:
    """The product of the probabilities of (phrase, probability), and the weakest of them."""
    parts: dict[str, float] = {}
    for phrase, probability in answers:  # a phrase that is asked about twice counts twice, and has one part
        parts[phrase] = min(probability, parts.get(phrase, 1.0))
    weakest = min(parts, key=lambda phrase: parts[phrase])
    value = math.prod(probability for _, probability in answers)
    return Score(value, parts, f"weakest: {weakest!r} ({parts[weakest]:.2f})")
