"""The critic `soft-tifa`: how sure a vision-language model is of the right answer to each question about the prompt.

Soft-TIFA is the measure of GenEval 2 (Kamath et al., arXiv 2512.16853; `evaluation.py` of its repository). Every
question is asked alone, with "Answer in one word." behind it. Its score is the probability, over the whole vocabulary,
that the reply begins with the right answer in one of its spellings: "yes" and "Yes", with and without a space before
it; numbers also in digits. The prompt's score is the geometric mean of its questions (Soft-TIFA GM, for whole prompts)
or the arithmetic one (Soft-TIFA AM, for single facts).

Here each token counts once; the official script counts it once for every spelling that begins with it, and counts a
bare space for the digits. For the Qwen models neither makes a difference that could be seen. The script expects "Yes"
of every question that does not begin with "How many"; here the answer is the one that the data gives, which for
GenEval 2 is the same.

Questions come from GenEval 2's metadata (`vqa_list`, `skills`). Other prompts get one question per clause, from their
GenEval metadata or their sentence, and what `sentences` cannot check goes unasked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from PIL import Image

from milr.errors import PromptError, UnknownNameError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .language.questions import MOST, questions_of
from .language.requirements import requirements_of
from .language.vocabulary import NUMBERS
from .networks.checkpoints import Weights
from .networks.vision_language import VisionLanguageModel

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

DEFAULT = "Qwen/Qwen3-VL-8B-Instruct"
RULE_VERSION = 1  # raise it when the same weights may score otherwise

Aggregate = Literal["gm", "am"]

_log = logging.getLogger(__name__)


class Atom(NamedTuple):
    """One fact that a picture must show."""

    question: str
    answer: str
    skill: str = ""

    @property
    def label(self) -> str:
        """How a part of the score is called: "count: How many cats are in the image?"."""
        return f"{self.skill}: {self.question}" if self.skill else self.question


class SoftTifa(Reward):
    """GenEval 2's measure: the mean probability of the right answers to questions about the prompt.

    Parts are both means, `gm` and `am`, and the probability of every right answer under its skill and question.

    Args:
        facts: unused.
        device: where the model runs.
        model: "OWNER/NAME" on the Hugging Face hub, or a folder: any vision-language model that can be talked to.
        revision: branch, tag or commit on the hub.
        aggregate: "gm", the geometric mean of the questions, or "am", the arithmetic one.

    Raises:
        UnknownNameError: another aggregate.
    """

    name = "soft-tifa"
    range = (0.0, 1.0)
    checkpoint = DEFAULT
    licence = "Apache-2.0, or as the chosen checkpoint says"
    size_mb = 17500.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = DEFAULT,
        revision: str | None = None,
        aggregate: Aggregate = "gm",
    ) -> None:
        if aggregate not in get_args(Aggregate):
            raise UnknownNameError(f"aggregate of reward {self.name!r}:", aggregate, get_args(Aggregate))
        self._aggregate = aggregate
        self._warned: set[tuple[str, ...]] = set()
        self._model = VisionLanguageModel(Weights(self.name, model, revision), device)
        self.kin = self._model.kin

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE_VERSION}-{self._aggregate}-{self._model.version}"

    def check(self, prompt: Prompt) -> None:
        """Refuse what cannot be asked about, and weights that cannot be used; warn of words that go unasked."""
        super().check(prompt)
        atoms_of(prompt)
        unasked = () if "vqa_list" in prompt.metadata else requirements_of(prompt, None, None).unchecked
        if unasked and unasked not in self._warned:
            self._warned.add(unasked)
            _log.warning("%s does not ask about %s in %r", self.name, ", ".join(map(repr, unasked)), prompt.text)
        self._model.load()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        rows = [atoms_of(prompt) for prompt in prompts]
        asked = [(image, atom) for image, atoms in zip(images, rows, strict=True) for atom in atoms]
        answers = list(dict.fromkeys(atom.answer for _, atom in asked))
        chances = self._model.answer_log_probabilities(
            [image for image, _ in asked],
            [f"{atom.question} Answer in one word." for _, atom in asked],
            [spellings(answer) for answer in answers],
        )  # [questions, answers]
        right = iter([chances[row, answers.index(atom.answer)].item() for row, (_, atom) in enumerate(asked)])
        return [score_atoms(atoms, [next(right) for _ in atoms], self._aggregate) for atoms in rows]


def atoms_of(prompt: Prompt) -> list[Atom]:
    """What is asked about pictures of a prompt.

    Raises:
        PromptError: its metadata is malformed, or it has none and its sentence cannot be parsed.
    """
    if "vqa_list" in prompt.metadata:
        return _official(prompt, prompt.metadata["vqa_list"], prompt.metadata.get("skills"))
    wanted = requirements_of(prompt, None, None).metadata
    for clause in wanted["include"]:
        if clause["count"] > MOST:
            raise PromptError(
                f"reward 'soft-tifa' has no word for {clause['count']} in {prompt.text!r}: it counts to {MOST}."
            )
    return [Atom(asked.text.capitalize(), "yes" if asked.wanted else "no") for asked in questions_of(wanted)]


def _official(prompt: Prompt, questions: Any, skills: Any) -> list[Atom]:
    def is_text(value: Any) -> bool:
        return isinstance(value, str) and bool(value.strip())

    pairs = questions if isinstance(questions, list) else []
    well_formed = all(isinstance(pair, list | tuple) and len(pair) == 2 and all(map(is_text, pair)) for pair in pairs)
    if not pairs or not well_formed:
        raise PromptError(
            f"reward 'soft-tifa' cannot read the 'vqa_list' of {prompt.text!r}: expected a list of questions with "
            'their answers, such as [["How many cats are in the image?", "two"]].'
        )
    names = skills if isinstance(skills, list) and len(skills) == len(pairs) else [""] * len(pairs)
    return [Atom(text, answer.strip().lower(), str(skill)) for (text, answer), skill in zip(pairs, names, strict=True)]


def spellings(answer: str) -> list[str]:
    """An answer as a model may begin its reply: with and without a capital or a space, and a number in digits too."""
    forms = [answer, answer.capitalize()]
    if answer in NUMBERS:
        forms.append(str(NUMBERS.index(answer)))
    return [space + form for space in ("", " ") for form in forms]


def score_atoms(atoms: Sequence[Atom], chances: Sequence[float], aggregate: str) -> Score:
    """The score of one picture, from the log-probability of each right answer; the reason names the least likely."""
    logs = torch.tensor(chances, dtype=torch.float64)
    right = logs.exp().tolist()
    means = {"gm": logs.mean().exp().item(), "am": logs.exp().mean().item()}
    least, weakest = min(zip(right, atoms, strict=True))
    reason = f"{weakest.question} {weakest.answer}: {least:.0%}"
    return Score(means[aggregate], means | dict(zip((atom.label for atom in atoms), right, strict=True)), reason)
