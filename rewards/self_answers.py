"""The critic `self`: what the model itself answers when it is asked about its own picture, clause by clause.

The prompt's metadata, or its sentence, becomes yes / no questions (`questions.questions_of`), one per clause: "is there
a red apple?", "are there three cats?", "is the dog left of the cup?". The model weighs "yes" against "no" by its
logits. No other network is needed, and nothing is parsed from a reply. A model can be wrong about itself: report with
a judge.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from milr.errors import PromptError, UsageError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .language.questions import MOST, Question, questions_of
from .language.requirements import requirements_of

if TYPE_CHECKING:
    from milr.models.base import ModelFacts, UnifiedModel

QUESTIONS_VERSION = 1  # raise it when the same answers may score otherwise

_log = logging.getLogger(__name__)


class SelfAnswers(Reward):
    """The model's own yes / no answers: in [-1, 1], greater than 0 when it would answer every question rightly.

    A score is 2 p - 1 of the weakest answer, p being the probability of the right one.

    Args:
        facts, device: unused; the model says both of itself.
        reader: the loaded model.

    Raises:
        UsageError: there is no loaded model, or it cannot read pictures.
    """

    name = "self"
    range = (-1.0, 1.0)
    licence = "that of the model"

    def __init__(
        self, *, facts: ModelFacts | None = None, device: str = "cpu", reader: UnifiedModel | None = None
    ) -> None:
        if reader is None:
            raise UsageError("reward 'self' asks the model about its own pictures, and no model is loaded; pass one.")
        if not reader.facts.reads:
            raise UsageError(
                f"reward 'self' needs a model that reads pictures; {reader.facts.name!r} only draws. "
                "Choose another critic, see 'milr list rewards'."
            )
        self._reader = reader
        self.kin = frozenset({reader.facts.name})
        # A run's identity holds the fingerprint of the weights; here their name is enough.
        self.version = f"{QUESTIONS_VERSION}-{reader.facts.name}"
        self._warned: set[tuple[str, ...]] = set()

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that cannot be asked about; warn of words that go unchecked."""
        wanted = requirements_of(prompt)
        for clause in wanted.metadata["include"]:
            if clause["count"] > MOST:
                raise PromptError(
                    f"reward 'self' has no word for {clause['count']} in {prompt.text!r}: it counts to {MOST}."
                )
        if wanted.unchecked and wanted.unchecked not in self._warned:
            self._warned.add(wanted.unchecked)
            _log.warning("%s cannot check %s in %r", self.name, ", ".join(map(repr, wanted.unchecked)), prompt.text)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        rows = [questions_of(requirements_of(prompt).metadata) for prompt in prompts]
        pairs = [(image, question) for image, row in zip(images, rows, strict=True) for question in row]
        chances = iter(self._reader.answer([image for image, _ in pairs], [question.text for _, question in pairs]))
        return [score_answers({question: next(chances) for question in row}) for row in rows]


def score_answers(chances: dict[Question, float]) -> Score:
    """The score of one picture, from the probability of "yes" to each question; the reason names the weakest."""
    right = {question: p if question.wanted else 1 - p for question, p in chances.items()}
    weakest = min(right, key=lambda question: right[question])
    least = right[weakest]
    said = "yes" if weakest.wanted == (least > 0.5) else "no"
    reason = "as asked" if least > 0.5 else f"{weakest.text} {said}, {1 - least:.0%} sure"
    return Score(2 * least - 1, {question.text: p for question, p in right.items()}, reason)
