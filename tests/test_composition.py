"""Several critics as one: closed forms of each combination, normalisation and gate, and refusals before any work."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from milr.errors import PromptError, UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import (
    CachedReward,
    Combine,
    Composite,
    Memory,
    Part,
    Reward,
    Score,
    load_reward,
    parse_scale,
    settle_safely,
)

PROMPT = Prompt("a red apple")


class Level(Reward):
    """One channel of a picture of one pixel, from -1 to 1."""

    version, range = "1", (-1.0, 1.0)

    def __init__(self, channel: int, least: float = -1.0) -> None:
        self.name, self.channel, self.range = "RGB"[channel], channel, (least, 1.0)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        levels = [image.getpixel((0, 0))[self.channel] / 100 - 1 for image in images]
        return [Score(level, {"level": level}, f"{self.name} {level:g}", cost={"looks": 1}) for level in levels]


def picture(red: float, green: float = 0.0) -> Image.Image:
    return Image.new("RGB", (1, 1), (round(100 + 100 * red), round(100 + 100 * green), 0))


def values(reward: Reward, *images: Image.Image) -> list[float | None]:
    return [score.value for score in reward.score(images, [PROMPT] * len(images))]


def test_a_sum_weighs_values_and_keeps_the_parts_of_the_parts() -> None:
    reward = Composite([Part("red", Level(0), 0.75), Part("green", Level(1), -0.5)])
    (score,) = reward.score([picture(0.4, 0.2)], [PROMPT])
    assert score.value == pytest.approx(0.75 * 0.4 - 0.5 * 0.2)
    assert score.parts == pytest.approx({"red": 0.4, "green": 0.2, "red/level": 0.4, "green/level": 0.2})
    assert score.reason == "red: R 0.4; green: G 0.2"
    assert score.cost == {"looks": 2}
    assert reward.range == (-1.25, 1.25)
    assert reward.version == "0.75*R@1+-0.5*G@1"


def test_a_fixed_range_becomes_0_to_1_and_ends_there() -> None:
    reward = Composite([Part("red", Level(0), 2.0, scale=(-0.5, 0.5))])
    assert values(reward, picture(-1), picture(-0.5), picture(0.25), picture(0.9)) == pytest.approx([0, 0, 1.5, 2])
    assert reward.range == (0, 2)


def test_the_least_of_critics_is_that_of_the_worst() -> None:
    reward = Composite([Part("red", Level(0)), Part("green", Level(1))], "min")
    assert values(reward, picture(0.4, 0.2), picture(-0.3, 0.9)) == pytest.approx([0.2, -0.3])


def test_a_product_takes_weights_as_exponents() -> None:
    unit = (-1.0, 1.0)
    reward = Composite([Part("red", Level(0), 2.0, unit), Part("green", Level(1), 0.5, unit)], "product")
    assert values(reward, picture(0.2, 0.28)) == pytest.approx([0.6**2 * 0.64**0.5])
    assert reward.range == (0, 1)


def test_a_picture_that_a_gate_turns_away_is_worth_less_than_any_other_and_less_the_further_it_falls_short() -> None:
    reward = Composite([Part("red", Level(0)), Part("green", Level(1), 0.0, gate=0.0)])
    passing, near, far = values(reward, picture(-1, 0), picture(1, -0.1), picture(1, -0.9))
    (turned_away,) = reward.score([picture(1, -0.1)], [PROMPT])
    assert turned_away.reason == "green -0.1 is under its gate 0; red: R 1; green: G -0.1"
    assert [passing, near, far] == pytest.approx([-1, -1.1, -1.9])
    assert reward.range == pytest.approx((-2, 1))
    assert reward.name == "1*red"  # the gate is not part of the value


def test_one_critic_keeps_its_success_and_several_have_none() -> None:
    certain = Level(0)
    certain.target = 0.5
    assert Composite([Part("red", certain, 2.0)]).target == 1.0
    assert Composite([Part("red", certain, 1.0, (-1.0, 1.0)), Part("green", Level(1), 0.0, gate=0.0)]).target == 0.75
    assert Composite([Part("red", certain), Part("green", Level(1))]).target is None
    assert Composite([Part("red", certain, 1.0, "zscore")]).target is None
    assert Composite([Part("red", certain, -1.0)]).target is None


@pytest.mark.parametrize("combine", ["sum", "min", "product"])
def test_a_critic_without_a_weight_is_only_watched(combine: Combine) -> None:
    watched = Part("green", Level(1, -math.inf), 0.0)
    reward = Composite([Part("red", Level(0, 0.0)), watched], combine)
    (score,) = reward.score([picture(0.5, -0.8)], [PROMPT])
    assert score.value == 0.5
    assert score.parts["green"] == pytest.approx(-0.8)
    assert reward.range == (0, 1)


def test_a_critic_that_counts_can_guard_too() -> None:
    reward = Composite([Part("red", Level(0), gate=0.5)])
    assert values(reward, picture(0.6), picture(0.4)) == pytest.approx([0.6, -1.1])


def test_a_part_that_fails_fails_the_whole_by_name_and_what_was_paid_stays_counted() -> None:
    class Failing(Level):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
            return [Score(None, error="out of order", cost={"looks": 5}) for _ in images]

    (score,) = Composite([Part("red", Level(0)), Part("green", Failing(1))]).score([picture(0)], [PROMPT])
    assert (score.value, score.error, score.cost) == (None, "green: out of order", {"looks": 6})


def test_a_running_z_score_measures_against_all_that_the_search_has_seen() -> None:
    reward = CachedReward(Composite([Part("red", Level(0), 2.0, "zscore"), Part("green", Level(1))]))
    memory: Memory = {}
    seen: list[float] = []
    for step in ([0.1, 0.5], [0.9, -0.3, 0.2]):
        scores = reward.score([picture(red, 0.25) for red in step], [PROMPT] * len(step))
        assert [score.value for score in scores] == pytest.approx([0.25] * len(step))  # alone it lies at its mean
        seen += step
        expected = 2 * (np.array(step) - np.mean(seen)) / np.std(seen) + 0.25
        assert [score.value for score in reward.settle(scores, memory)] == pytest.approx(expected.tolist())
    assert memory["0"][0] == 5


def test_equal_pictures_have_a_z_score_of_0_and_failures_do_not_count() -> None:
    reward = Composite([Part("red", Level(0), 1.0, "zscore")])
    memory: Memory = {}
    failed = Score(None, error="out of order")
    settled = reward.settle([*reward.score([picture(0.3)] * 2, [PROMPT] * 2), failed], memory)
    assert [score.value for score in settled] == [0.0, 0.0, None]
    assert memory["0"][0] == 2


def test_a_critic_that_is_only_watched_may_fail() -> None:
    class Failing(Level):
        def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
            raise RuntimeError("out of order")

    (score,) = Composite([Part("red", Level(0)), Part("green", Failing(1), 0.0)]).score([picture(0.5)], [PROMPT])
    assert (score.value, score.error) == (0.5, None)


def test_a_critic_with_a_memory_of_its_own_stands_alone() -> None:
    class Relative(Level):
        def settle(self, scores: Sequence[Score], memory: Memory) -> list[Score]:
            return list(scores)

    with pytest.raises(UsageError, match="'green' measures pictures against earlier ones of a search"):
        Composite([Part("red", Level(0)), Part("green", CachedReward(Relative(1)))])
    with pytest.raises(UsageError, match="use it alone"):
        Composite([Part("red", Level(0)), Part("green", Relative(1))])


@pytest.mark.parametrize("fault", ["raises", "too few"])
def test_a_settling_that_goes_wrong_fails_the_step_with_the_reason(fault: str) -> None:
    class Broken(Level):
        def settle(self, scores: Sequence[Score], memory: Memory) -> list[Score]:
            if fault == "raises":
                raise RuntimeError("cannot compare")
            return []

    reward = Broken(0)
    (score,) = settle_safely(reward, reward.score([picture(0.5)], [PROMPT]), {})
    assert score.value is None
    assert str(score.error).startswith("RuntimeError: cannot compare" if fault == "raises" else "ValueError: 0 scores")


def test_every_part_checks_the_prompt() -> None:
    picky = Level(1)
    picky.needs = frozenset({"include"})
    with pytest.raises(PromptError, match="needs include"):
        Composite([Part("red", Level(0)), Part("green", picky, 0.0, gate=0.0)]).check(PROMPT)


@pytest.mark.parametrize(
    ("parts", "combine", "message"),
    [
        ([Part("red", Level(0)), Part("red", Level(0))], "sum", "'red' is there twice"),
        ([Part("red", Level(0), 0.0, gate=0.0)], "sum", "no critic has a weight"),
        ([Part("red", Level(0), 0.5)], "min", "takes each once, and without a weight; 'red' has 0.5"),
        ([Part("red", Level(0))], "product", "red may be .* --normalise red=-1:1"),
        ([Part("red", Level(0, 0.0), -1.0)], "product", "never negative"),
        ([Part("red", Level(0), 1.0, "zscore")], "product", "never negative"),
        ([Part("red", Level(0), 1.0, "zscore", gate=0.0)], "sum", "'red' has none"),
        ([Part("red", Level(0, -math.inf), gate=0.0)], "sum", "--normalise red=0:1"),
    ],
)
def test_what_does_not_fit_together_is_refused(parts: list[Part], combine: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Composite(parts, combine)


@pytest.mark.parametrize(("text", "scale"), [("zscore", "zscore"), ("0:1", (0.0, 1.0)), ("-1:.5", (-1.0, 0.5))])
def test_a_scale_is_parsed(text: str, scale: object) -> None:
    assert parse_scale(text) == scale


@pytest.mark.parametrize("text", ["", "0", "1:0", "1:1", "a:b", "nan:1", "0:inf", "z-score"])
def test_a_scale_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"zscore|not a number"):
        parse_scale(text)


def test_critics_are_composed_by_name() -> None:
    reward = load_reward(
        ["scenes-judge", "geneval=0.5"], combine="sum", normalise={"geneval": "-1:1"}, gates={"geneval": 0.0}
    )
    assert isinstance(reward, Composite)
    assert [part.described(part.label) for part in reward.parts] == ["1*scenes-judge", "0.5*geneval[-1:1][>=0]"]
    only_gate = load_reward("scenes-judge", gates={"geneval": 0.0})
    assert isinstance(only_gate, Composite)
    assert [part.described(part.label) for part in only_gate.parts] == ["1*scenes-judge", "0*geneval[>=0]"]
    assert [part.label for part in only_gate.counted] == ["scenes-judge"]


def test_a_critic_that_is_not_there_cannot_be_normalised() -> None:
    with pytest.raises(UsageError, match="no critic 'clip' to normalise; the critics are geneval"):
        load_reward("geneval", normalise={"clip": "0:1"})


def test_an_unknown_combination_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'product'"):
        load_reward(["geneval", "scenes-judge"], combine="produkt")
