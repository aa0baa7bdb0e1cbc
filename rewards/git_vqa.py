"""The critic `git-vqa`: what GIT, a small network for questions about pictures, answers clause by clause.

It is one of the three critics in MILR's MixedReward (`score_git.py` of the reference), and asks in the reference's
words, its plain plural included: "Is this a red apple?", or "Are there 3 red apples?" of several. A clause scores
P(yes) / (P(yes) + P(no)) of the token behind the question, a picture the mean of its clauses. T2I-R1, from whose GIT
reward it comes, asks "red apple?" instead.

Where things are, and that no more of them are there, goes unasked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from milr.errors import PromptError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .language.requirements import requirements_of
from .networks.batching import batches
from .networks.checkpoints import Weights

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

DEFAULT = "microsoft/git-large-vqav2"
BATCH = 32  # (picture, question) pairs per forward pass; keeps memory flat
RULE_VERSION = 1  # raise it when the same weights may score otherwise

_log = logging.getLogger(__name__)


class GitVqa(Reward):
    """How sure GIT is that each thing of the prompt is there, in its colour and number.

    Parts are the questions.

    Args:
        facts: unused.
        device: where the network runs.
        model: "OWNER/NAME" on the Hugging Face hub, or a folder: a GIT that was trained on questions.
        revision: branch, tag or commit on the hub.
    """

    name = "git-vqa"
    range = (0.0, 1.0)
    checkpoint = DEFAULT
    licence = "MIT"
    size_mb = 1600.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = DEFAULT,
        revision: str | None = None,
    ) -> None:
        self._device = device
        self._warned: set[tuple[str, ...]] = set()
        self._weights = Weights(self.name, model, revision)
        self.kin = self._weights.kin

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE_VERSION}-{self._weights.version}"

    def check(self, prompt: Prompt) -> None:
        """Refuse what cannot be asked about, and weights that cannot be used; warn of words that go unasked."""
        super().check(prompt)
        questions_about(prompt)
        unasked = requirements_of(prompt, None, None).unchecked
        if unasked and unasked not in self._warned:
            self._warned.add(unasked)
            _log.warning("%s does not ask about %s in %r", self.name, ", ".join(map(repr, unasked)), prompt.text)
        _ = self._loaded

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        rows = [questions_about(prompt) for prompt in prompts]
        pairs = [(image, question) for image, row in zip(images, rows, strict=True) for question in row]
        chances = iter([chance for batch in batches(pairs, BATCH) for chance in self._ask(batch)])
        return [score_answers({question: next(chances) for question in row}) for row in rows]

    def _ask(self, pairs: Sequence[tuple[Image.Image, str]]) -> list[float]:
        """The share of "yes" in the answer to each question."""
        model, processor = self._loaded
        tokenizer = processor.tokenizer
        pixels = processor(images=[image.convert("RGB") for image, _ in pairs], return_tensors="pt")["pixel_values"]
        # Padded behind: positions are absolute, and no token sees those after it.
        texts = [
            torch.tensor([tokenizer.cls_token_id, *tokenizer.encode(question, add_special_tokens=False)])
            for _, question in pairs
        ]
        tokens = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=tokenizer.pad_token_id)
        logits = model(
            input_ids=tokens.to(self._device),
            pixel_values=pixels.to(self._device),
            logits_to_keep=tokens.shape[1],  # those of the picture come before
        ).logits  # [pairs, longest, vocabulary]
        last = torch.tensor([len(text) - 1 for text in texts])
        answers = [tokenizer.encode(word, add_special_tokens=False)[0] for word in ("yes", "no")]
        return logits[torch.arange(len(pairs)), last][:, answers].float().softmax(-1)[:, 0].tolist()

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The network and its processor."""
        from transformers import AutoProcessor, GitForCausalLM

        return self._weights.model(GitForCausalLM, self._device), self._weights.processor(AutoProcessor)


def questions_about(prompt: Prompt) -> list[str]:
    """One question for each thing that the prompt asks for, each once.

    Raises:
        PromptError: its metadata is malformed or asks for nothing, or it has none and its sentence cannot be parsed.
    """
    include = requirements_of(prompt, None, None).metadata["include"]
    if not include:
        raise PromptError(f"reward 'git-vqa' has nothing to ask about {prompt.text!r}: it only excludes.")
    return list(dict.fromkeys(map(question_of, include)))


def question_of(clause: Mapping[str, Any]) -> str:
    """What is asked about one clause of GenEval's metadata."""
    thing = f"{clause['color']} {clause['class']}" if "color" in clause else clause["class"]
    return f"Is this a {thing}?" if clause["count"] == 1 else f"Are there {clause['count']} {thing}s?"


def score_answers(chances: Mapping[str, float]) -> Score:
    """The score of one picture, from the share of "yes" in each answer; the reason names the least."""
    weakest = min(chances, key=lambda question: chances[question])
    return Score(sum(chances.values()) / len(chances), chances, f"{weakest} {chances[weakest]:.0%} yes")
