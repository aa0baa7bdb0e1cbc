"""Rewards compose, remember, and fail sample by sample; names and weights are checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from milr.errors import PromptError, UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import (
    CachedReward,
    Named,
    Reward,
    Score,
    cache,
    image_hash,
    load_reward,
    one_line,
    parse_reward,
    score_safely,
)

RED, BLUE = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
PROMPT = Prompt("a red apple")


class Channel(Reward):
    """Mean of one colour channel, 0 to 1; raises or answers NaN on blue when told to."""

    version, range = "1", (0.0, 1.0)

    def __init__(self, channel: int, on_blue: str = "") -> None:
        self.name, self.channel, self.on_blue, self.calls = f"channel-{channel}", channel, on_blue, 0

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        self.calls += 1
        if self.on_blue == "raise" and any(image.getpixel((0, 0)) == (0, 0, 255) for image in images):
            raise RuntimeError("cannot bear blue")
        nan = self.on_blue == "nan"
        values = [image.getpixel((0, 0)) for image in images]
        return [
            Score(math.nan if nan and value[2] else value[self.channel] / 255, reason=self.name) for value in values
        ]


@pytest.mark.parametrize("fault", ["raise", "nan"])
def test_one_bad_picture_costs_only_itself(fault: str) -> None:
    red, blue = score_safely(Channel(0, fault), [RED, BLUE], [PROMPT, PROMPT])
    assert red.value == 1.0
    assert blue.value is None
    assert blue.error


def test_a_critic_that_returns_too_few_scores_is_a_failure() -> None:
    class Short(Channel):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
            return []

    (score,) = score_safely(Short(0), [RED], [PROMPT])
    assert score.value is None
    assert "0 scores for 1 images" in str(score.error)


@pytest.mark.parametrize("value", [np.float32(0.5), torch.tensor(0.5)])
def test_numbers_of_other_libraries_become_plain_ones(value: Any) -> None:
    class Foreign(Channel):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
            return [Score(value, {"part": value})]

    (score,) = score_safely(Foreign(0), [RED], [PROMPT])
    assert score == Score(0.5, {"part": 0.5})
    assert type(score.value) is float


@pytest.mark.parametrize(("answer", "message"), [(0.5, "where a Score belongs"), (Score("high"), "could not convert")])
def test_an_answer_that_is_no_score_fails_its_picture_with_the_reason(answer: Any, message: str) -> None:
    class Sloppy(Channel):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
            return [answer]

    (score,) = score_safely(Sloppy(0), [RED], [PROMPT])
    assert score.value is None
    assert message in str(score.error)


def test_a_critic_that_exits_fails_its_picture_and_not_the_process() -> None:
    class Leaving(Channel):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
            raise SystemExit(3)

    assert score_safely(Leaving(0), [RED], [PROMPT])[0].value is None


def test_the_cache_scores_each_picture_of_a_prompt_once() -> None:
    critic = Channel(0)
    cached = CachedReward(critic)
    assert [s.value for s in cached.score([RED, BLUE, RED], [PROMPT] * 3)] == [1.0, 0.0, 1.0]
    assert [s.value for s in cached.score([BLUE, RED], [PROMPT] * 2)] == [0.0, 1.0]
    assert critic.calls == 1
    cached.score([RED], [Prompt("another")])
    assert critic.calls == 2


def test_the_cache_tells_metadata_and_palettes_apart() -> None:
    critic = Channel(0)
    cached = CachedReward(critic)
    for count in (1, 2):
        cached.score([RED], [Prompt("apples", "same", {"count": count})])
    assert critic.calls == 2
    paletted = [Image.new("P", (4, 4)), Image.new("P", (4, 4))]
    for image, level in zip(paletted, (10, 20), strict=True):
        image.putpalette([level] * 3)
    assert image_hash(paletted[0]) != image_hash(paletted[1])


def test_of_very_many_pictures_the_cache_keeps_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "REMEMBERED", 2)
    critic = Channel(0)
    cached = CachedReward(critic)
    cached.score([RED, BLUE, Image.new("RGB", (5, 5))], [PROMPT] * 3)
    cached.score([BLUE], [PROMPT])
    assert critic.calls == 1
    cached.score([RED], [PROMPT])
    assert critic.calls == 2


def test_a_failure_is_paid_for_once() -> None:
    class Failing(Channel):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
            return [Score(None, error="no", cost={"tokens": 7}) for _ in images]

    assert [s.cost for s in CachedReward(Failing(0)).score([RED] * 2, [PROMPT] * 2)] == [{"tokens": 7}, {}]


def test_reasons_are_one_printable_line() -> None:
    class Loud(Channel):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
            return [Score(1.0, reason="\x1b[31mred\n" + "x" * 5000)]

    (score,) = score_safely(Loud(0), [RED], [PROMPT])
    assert len(score.reason) == 1000
    assert score.reason.startswith("[31mred x")


def test_what_the_cache_remembers_costs_nothing_any_more() -> None:
    class Paid(Channel):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
            return [Score(1.0, cost={"tokens": 7}) for _ in images]

    cached = CachedReward(Paid(0))
    assert [s.cost for s in cached.score([RED, RED, BLUE], [PROMPT] * 3)] == [{"tokens": 7}, {}, {"tokens": 7}]
    assert [s.cost for s in cached.score([RED], [PROMPT])] == [{}]


def test_an_address_is_refused_by_a_critic_that_takes_none() -> None:
    with pytest.raises(UsageError, match=r"reward 'geneval' takes no address; write 'geneval', not 'geneval:strict'"):
        load_reward("geneval:strict")


def test_the_cache_does_not_remember_failures() -> None:
    cached = CachedReward(Channel(0, "raise"))
    assert cached.score([BLUE], [PROMPT])[0].value is None
    cached.reward.on_blue = ""  # type: ignore[attr-defined]
    assert cached.score([BLUE], [PROMPT])[0].value == 0.0


def test_missing_metadata_is_named() -> None:
    critic = Channel(0)
    critic.needs = frozenset({"include"})
    with pytest.raises(PromptError, match="needs include"):
        critic.check(PROMPT)
    with pytest.raises(PromptError, match="needs include"):
        CachedReward(critic).check(PROMPT)
    critic.check(Prompt("a", metadata={"include": []}))


@pytest.mark.parametrize(
    ("text", "label", "plugin", "address", "weight"),
    [
        ("clip", "clip", "clip", None, 1.0),
        ("clip=0.4", "clip", "clip", None, 0.4),
        ("judge:wise=-2", "judge:wise", "judge", "wise", -2.0),
        ("python:mine:warm", "python:mine:warm", "python", "mine:warm", 1.0),
        ("http://127.0.0.1:8000/a=0.5", "http://127.0.0.1:8000/a", "http", "//127.0.0.1:8000/a", 0.5),
    ],
)
def test_a_critic_is_named_with_an_address_and_a_weight(
    text: str, label: str, plugin: str, address: str | None, weight: float
) -> None:
    assert parse_reward(text) == Named(label, plugin, address, weight)


@pytest.mark.parametrize("text", ["clip=", "clip=much", "clip=nan", "clip=inf"])
def test_a_weight_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a number"):
        parse_reward(text)


def test_an_unknown_reward_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'clip'"):
        load_reward("clpi")


def test_an_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'mode'"):
        load_reward("geneval", options={"geneval": {"mod": "binary"}})


@pytest.mark.parametrize(
    ("text", "line"), [("a\n b\tc", "a b c"), ("\x1b[31mred\x00", "[31mred"), ("x" * 11, "x" * 9 + "…"), ("", "")]
)
def test_what_is_quoted_is_one_short_line(text: str, line: str) -> None:
    assert one_line(text, 10) == line
