"""Rewards: what scores a picture, how scores compose, and how a failing critic is kept from hurting the run.

A reward is a plugin of group `milr.rewards`: a subclass of `Reward`. It sees pictures and prompts and nothing else of
milr. Higher is better, in any range. A picture that could not be scored is a recorded failure, never a silent zero.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from milr import plugins
from milr.errors import MilrError, PromptError, UsageError
from milr.prompts import Prompt

if TYPE_CHECKING:
    from milr.models.base import ModelFacts


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
        checkpoint: the weights that it uses unless told otherwise; empty for none.
        licence: of the weights.
        size_mb: of the weights.
    """

    name: str
    version: str
    range: tuple[float, float] = (-math.inf, math.inf)
    target: float | None = None
    needs: frozenset[str] = frozenset()
    checkpoint: str = ""
    licence: str = "unknown"
    size_mb: float = 0.0

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


class WeightedSum(Reward):
    """A weighted sum of rewards; a picture that one of them cannot score has no score."""

    def __init__(self, weighted: Sequence[tuple[Reward, float]]) -> None:
        self.weighted = list(weighted)
        self.name = "+".join(f"{weight:g}*{reward.name}" for reward, weight in weighted)
        self.version = "+".join(f"{weight:g}*{reward.name}@{reward.version}" for reward, weight in weighted)
        self.needs = frozenset[str]().union(*(reward.needs for reward, _ in weighted))
        self.size_mb = sum(reward.size_mb for reward, _ in weighted)
        bounds = [sorted((weight * reward.range[0], weight * reward.range[1])) for reward, weight in weighted]
        self.range = (sum(low for low, _ in bounds), sum(high for _, high in bounds))

    def check(self, prompt: Prompt) -> None:
        for reward, _ in self.weighted:
            reward.check(prompt)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        columns = [score_safely(reward, images, prompts) for reward, _ in self.weighted]
        return [self._combine(row) for row in zip(*columns, strict=True)]

    def _combine(self, scores: Sequence[Score]) -> Score:
        total, parts, reasons = 0.0, {}, []
        for (reward, weight), score in zip(self.weighted, scores, strict=True):
            if score.value is None:
                return Score(None, error=f"{reward.name}: {score.error}")
            total += weight * score.value
            parts[reward.name] = score.value
            if score.reason:
                reasons.append(score.reason)
        return Score(total, parts, "; ".join(reasons))


class CachedReward(Reward):
    """Scores each (prompt, picture) pair once; failures are not remembered."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self.name, self.version, self.range = reward.name, reward.version, reward.range
        self.target, self.needs, self.licence = reward.target, reward.needs, reward.licence
        self.size_mb = reward.size_mb
        self._known: dict[tuple[str, str, str], Score] = {}

    def check(self, prompt: Prompt) -> None:
        self.reward.check(prompt)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        pairs = zip(images, prompts, strict=True)
        keys = [(self.version, f"{prompt.id} {prompt.text}", image_hash(image)) for image, prompt in pairs]
        new = list({key: index for index, key in enumerate(keys) if key not in self._known}.values())
        if new:
            fresh = score_safely(self.reward, [images[i] for i in new], [prompts[i] for i in new])
            scores = {keys[i]: score for i, score in zip(new, fresh, strict=True)}
        else:
            scores = {}
        self._known.update({key: score for key, score in scores.items() if score.value is not None})
        return [scores.get(key) or self._known[key] for key in keys]


def image_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's size, mode and pixels."""
    return hashlib.sha256(f"{image.size}{image.mode}".encode() + image.tobytes()).hexdigest()


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
        return [Score(None, error=f"{type(error).__name__}: {error}")]


def _plain(score: Score) -> Score:
    """A score of Python's own finite numbers; critics compute with NumPy and torch.

    Raises:
        TypeError, ValueError: it is no score, or holds something that is no number.
    """
    if not isinstance(score, Score):
        raise TypeError(f"the critic returned {score!r} where a Score belongs")
    parts = {str(name): float(part) for name, part in score.parts.items()}
    cost = {str(name): float(amount) for name, amount in score.cost.items()}
    if score.value is None:
        return Score(None, parts, str(score.reason), score.error or "the critic gave no reason", cost)
    value = float(score.value)
    if not math.isfinite(value):
        return Score(None, parts, str(score.reason), f"the critic returned {value}", cost)
    return Score(value, parts, str(score.reason), None, cost)


def parse_weight(text: str) -> tuple[str, float]:
    """("clip", 0.5) of "clip=0.5"; the weight of a bare name is 1.

    Raises:
        UsageError: the weight is not a finite number.
    """
    name, equals, weight = text.partition("=")
    try:
        value = float(weight) if equals else 1.0
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"the weight of reward {text!r} is not a number; write NAME or NAME=0.5.")
    return name, value


def load_reward(
    name: str | Sequence[str],
    model: Any = None,
    device: str = "cpu",
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Reward:
    """A critic by name, or the weighted sum of several.

    Args:
        name: "geneval", "clip=0.4", or a list of such.
        model: the loaded model (or its `ModelFacts`) that will be scored; some critics fit themselves to it.
        device: where the critic runs.
        options: plugin options by reward name, e.g. {"geneval": {"mode": "binary"}}.

    Raises:
        UnknownNameError: no such reward, or no such option.
        UsageError: the reward cannot be loaded here; the message says what to install.
    """
    facts: ModelFacts | None = getattr(model, "facts", model)
    names = [name] if isinstance(name, str) else list(name)
    if not names:
        raise UsageError("no critic is named; give one, e.g. 'geneval'.")
    weighted = []
    for text in names:
        plugin_name, weight = parse_weight(text)
        plugin = plugins.find("rewards", plugin_name)
        factory = plugin.load()
        chosen = dict((options or {}).get(plugin_name, {}))
        plugins.check_options(plugin, factory, chosen)
        given = {"facts": facts, "device": device}
        if "reader" in inspect.signature(factory).parameters:
            given["reader"] = model if model is not facts else None
        weighted.append((_made(plugin, factory, given | chosen), weight))
    if len(weighted) == 1 and weighted[0][1] == 1.0:
        return weighted[0][0]
    return WeightedSum(weighted)


def _made(plugin: plugins.Plugin, factory: Any, arguments: Mapping[str, Any]) -> Reward:
    """The critic of a plugin; whatever its constructor raises by mistake is a sentence about the plugin."""
    try:
        reward = factory(**arguments)
    except MilrError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"reward {plugin.name!r} ({plugin.origin}) is broken: {type(error).__name__}: {error}"
        ) from error
    lacking = [name for name in ("name", "version", "score", "check") if not hasattr(reward, name)]
    if lacking:
        raise UsageError(f"reward {plugin.name!r} ({plugin.origin}) is broken: it has no {lacking[0]!r}.")
    return reward


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
