"""A critic that remembers: each (version, prompt, picture) is scored once.

For searches that draw the same picture again, and for critics that cost money. Failures are not remembered, and of very
many pictures only the latest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from milr.prompts import Prompt
from milr.rewards.contract import Memory, Reward, Score, image_hash, score_safely

REMEMBERED = 20_000  # pictures; some 25 MB


class CachedReward(Reward):
    """Scores each (prompt, picture) pair once, for as long as it lives."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self.name, self.range, self.target, self.needs = reward.name, reward.range, reward.target, reward.needs
        self.checkpoint, self.licence, self.size_mb = reward.checkpoint, reward.licence, reward.size_mb
        self.kin = reward.kin
        self._known: dict[tuple[str, str, str], Score] = {}

    @property
    def version(self) -> str:  # type: ignore[override]
        """The critic's, which may only be known once its weights are loaded."""
        return self.reward.version

    def check(self, prompt: Prompt) -> None:
        self.reward.check(prompt)

    def settle(self, scores: Sequence[Score], memory: Memory) -> list[Score]:
        return self.reward.settle(scores, memory)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        pairs = zip(images, prompts, strict=True)
        version = self.version  # of fetched weights, it is read from the disk
        keys = [(version, _identity(prompt), image_hash(image)) for image, prompt in pairs]
        first: dict[tuple[str, str, str], int] = {}
        for index, key in enumerate(keys):
            if key not in self._known:
                first.setdefault(key, index)
        new = list(first.values())
        fresh = score_safely(self.reward, [images[i] for i in new], [prompts[i] for i in new])
        scores = dict(zip(first, fresh, strict=True))
        # What is remembered costs nothing any more.
        free = {key: replace(score, cost={}) for key, score in scores.items()}
        self._known |= {key: score for key, score in free.items() if score.value is not None}
        given = [
            scores[key] if index == first.get(key) else free.get(key) or self._known[key]
            for index, key in enumerate(keys)
        ]
        for key in list(self._known)[:-REMEMBERED]:
            del self._known[key]
        return given


def _identity(prompt: Prompt) -> str:
    return json.dumps([prompt.id, prompt.text, prompt.metadata], sort_keys=True, default=str)
