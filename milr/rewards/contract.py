"""The contract of a critic, and how a failing one is kept from hurting the run.

A reward is a plugin of group `milr.rewards`: a subclass of `Reward`. It sees pictures and prompts and nothing else of
milr. Higher is better, in any range. A picture that could not be scored is a recorded failure, never a silent zero.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from PIL import Image

from milr.errors import MilrError, PromptError, UsageError
from milr.prompts import Prompt

LONGEST_REASON = 1000  # characters

Memory = dict[str, list[float]]  # what a search keeps between its steps for a critic


@dataclass(frozen=True)
class Score:
    """What a critic says of one picture.

    Attributes:
        value: higher is better; None when the critic failed.
        parts: named parts of the value, for explanation.
        reason: one line for a person: "expected 2 cats, found 1".
        error: why there is no value; None when there is one.
        cost: what the score took, where somebody counts: tokens, dollars.
    """

    value: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    error: str | None = None
    cost: Mapping[str, float] = field(default_factory=dict)


class Reward(ABC):
    """A critic. Subclasses take keyword-only options and load weights lazily.

    milr passes two of them: `facts` (of the model whose pictures are scored, or None) and `device`. A critic that asks
    the model itself about its pictures takes a third one, `reader`: the loaded model, or None.

    Attributes:
        name: as registered.
        version: changes whenever scores may change; enters the run's identity and the cache key.
        range: least and greatest value; infinite where unbounded.
        target: the value from which a picture counts as a success and the search may stop; None for none.
        needs: metadata keys without which a prompt cannot be scored.
        incidental: options that decide no score, but where and how fast it is found; a run goes on with others.
        checkpoint: the weights that it uses unless told otherwise; empty for none.
        licence: of the weights.
        size_mb: of the weights.
        kin: what it looks with, by the names of checkpoints; its own name unless it says otherwise. A critic and a
            judge with something in common are kin: a search that the one steers is an oracle's where the other reports.
    """

    name: str
    version: str
    range: tuple[float, float] = (-math.inf, math.inf)
    target: float | None = None
    needs: frozenset[str] = frozenset()
    incidental: frozenset[str] = frozenset({"device"})
    checkpoint: str = ""
    licence: str = "unknown"
    size_mb: float = 0.0

    @cached_property
    def kin(self) -> frozenset[str]:
        return frozenset({self.name})

    @abstractmethod
    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        """One score for each (image, prompt) pair."""

    def check(self, prompt: Prompt) -> None:
        """Refuse, before anything starts, a prompt that can never be scored.

        Raises:
            PromptError: the prompt lacks metadata that the critic needs.
        """
        missing = sorted(self.needs - prompt.metadata.keys())
        if missing:
            raise PromptError(
                f"reward {self.name!r} needs {', '.join(missing)} for each prompt, and {prompt.text!r} has none; "
                'give the prompts as JSON lines, e.g. {"prompt": "...", "' + missing[0] + '": ...}.'
            )

    def settle(self, scores: Sequence[Score], memory: Memory) -> list[Score]:
        """A step's scores as its search uses them; called once for every step of every search.

        Most scores mean the same whenever they are given, and stay as they are. A critic that measures pictures
        against earlier ones of the same search, such as a running z-score, keeps what it needs in `memory`, which is
        the search's own and survives a resume.
        """
        return list(scores)


def kin_of(critics: Iterable[Reward]) -> frozenset[str]:
    """What critics look with, all together."""
    return frozenset[str]().union(*(critic.kin for critic in critics))


def image_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's size, mode and pixels."""
    shown = image.convert("RGBA") if image.mode == "P" else image  # the same bytes mean other colours elsewhere
    return hashlib.sha256(f"{shown.size}{shown.mode}".encode() + shown.tobytes()).hexdigest()


def one_line(text: str, length: int) -> str:
    """A text for a log or a terminal: printable, without breaks, and not longer than that."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def score_safely(reward: Reward, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
    """Scores in which a picture that makes the critic raise, or return NaN, is a recorded failure.

    A batch that raises is scored again one by one, so that one bad picture costs only itself.
    """
    if not images:
        return []
    try:
        scores = reward.score(images, prompts)
        if len(scores) != len(images):
            raise ValueError(f"{len(scores)} scores for {len(images)} images")
        return [_plain(score) for score in scores]
    except (Exception, SystemExit) as error:  # a critic is somebody else's code: what it raises is its own failure
        if len(images) > 1:
            pairs = zip(images, prompts, strict=True)
            return [score_safely(reward, [image], [prompt])[0] for image, prompt in pairs]
        return [Score(None, error=one_line(f"{type(error).__name__}: {error}", LONGEST_REASON))]


def _plain(score: Score) -> Score:
    """A score of Python's own finite numbers; critics compute with NumPy and torch.

    Raises:
        TypeError, ValueError: it is no score, or holds something that is no number.
    """
    if not isinstance(score, Score):
        raise TypeError(f"the critic returned {score!r} where a Score belongs")
    parts = {str(name): float(part) for name, part in score.parts.items()}
    reason = one_line(str(score.reason), LONGEST_REASON)
    cost = {str(name): float(amount) for name, amount in score.cost.items()}
    if score.value is None:
        error = one_line(str(score.error or ""), LONGEST_REASON) or "the critic gave no reason"
        return Score(None, parts, reason, error, cost)
    value = float(score.value)
    if not math.isfinite(value):
        return Score(None, parts, reason, f"the critic returned {value}", cost)
    return Score(value, parts, reason, None, cost)


def total_cost(costs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """What scores took together."""
    total: dict[str, float] = {}
    for cost in costs:
        for name, amount in cost.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def settle_safely(reward: Reward, scores: Sequence[Score], memory: Memory) -> list[Score]:
    """`reward.settle`, of which a mistake is a recorded failure of the step's pictures."""
    try:
        settled = reward.settle(scores, memory)
        if len(settled) != len(scores):
            raise ValueError(f"{len(settled)} scores for {len(scores)} images")
        return [_plain(score) for score in settled]
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return [score if score.value is None else replace(score, value=None, error=reason) for score in scores]


def check_prompt(reward: Reward, prompt: Prompt) -> None:
    """`reward.check`, whose own mistakes are sentences about the critic.

    Raises:
        UsageError: the prompt cannot be scored, or the check itself fails.
    """
    try:
        reward.check(prompt)
    except MilrError:
        raise
    except Exception as error:
        raise UsageError(f"reward {reward.name!r} cannot check {prompt.text[:60]!r}: {error!r}") from error
