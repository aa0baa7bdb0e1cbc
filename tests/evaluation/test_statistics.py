"""Means of tags, bootstrap intervals and paired differences, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from milr.evaluation.statistics import (
    RESAMPLES,
    Difference,
    Estimate,
    PromptKey,
    over_pictures,
    over_seeds,
    paired_differences,
    resample,
)


def per_prompt(values: Sequence[float], tag: str = "colors") -> dict[PromptKey, float]:
    return {PromptKey(f"{tag}-{number}", "a text", tag): value for number, value in enumerate(values)}


def test_the_draws_have_the_mean_and_the_standard_error_of_a_binomial() -> None:
    n, right = 200, 60
    draws = resample(per_prompt([1.0] * right + [0.0] * (n - right))).draws["colors"]
    p = right / n
    error = math.sqrt(p * (1 - p) / n)
    assert draws.shape == (RESAMPLES,)
    assert draws.mean() == pytest.approx(p, abs=4 * error / math.sqrt(RESAMPLES))
    assert draws.std() == pytest.approx(error, rel=0.03)


def test_the_interval_is_that_of_a_normal_where_prompts_are_many() -> None:
    n, p = 1000, 0.4
    estimate = resample(per_prompt([1.0] * 400 + [0.0] * 600)).tag("colors")
    half = 1.96 * math.sqrt(p * (1 - p) / n)
    assert estimate.value == p
    assert (estimate.low, estimate.high) == pytest.approx((p - half, p + half), abs=0.003)


def test_tags_are_drawn_independently_so_their_variances_add() -> None:
    values = [0.0, 1.0] * 50
    means = resample(per_prompt(values, "colors") | per_prompt(values, "counting"))
    error = math.sqrt(0.25 / 100)
    together = (means.draws["colors"] + means.draws["counting"]) / 2
    assert together.std() == pytest.approx(error / math.sqrt(2), rel=0.03)


def test_pictures_of_a_prompt_stay_together() -> None:
    """Four pictures that agree are worth one: the interval is that of the prompts."""
    scores = [(key, value) for key, value in per_prompt([0.0, 1.0] * 50).items() for _ in range(4)]
    assert resample(over_pictures(scores)).tag("colors") == resample(per_prompt([0.0, 1.0] * 50)).tag("colors")


def test_the_interval_does_not_depend_on_the_order_of_prompts() -> None:
    values = per_prompt(list(np.random.default_rng(1).random(30)))
    backwards = dict(reversed(values.items()))
    assert resample(values).tag("colors") == resample(backwards).tag("colors")


def test_a_figure_is_the_weighted_sum_of_tag_means() -> None:
    means = resample(per_prompt([1.0, 1.0], "colors") | per_prompt([0.0, 0.0, 0.0], "counting"))
    assert means.figure({"colors": 0.25, "counting": 0.75}) == Estimate(0.25, 0.25, 0.25)
    assert means.figure({"colors": 1.0, "counting": 0.0}) == Estimate(1.0, 1.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1 / 3])
def test_prompts_that_all_score_the_same_have_exactly_that_interval(value: float) -> None:
    expected = round(value, 6)
    assert resample(per_prompt([value] * 7)).tag("colors") == Estimate(expected, expected, expected)


def test_one_prompt_has_no_interval() -> None:
    means = resample(per_prompt([0.5], "colors") | per_prompt([0.0, 1.0], "counting"))
    assert means.tag("colors") == Estimate(0.5, None, None)
    assert means.figure({"colors": 0.5, "counting": 0.5}) == Estimate(0.5, None, None)


def test_a_figure_without_one_of_its_tags_has_no_value() -> None:
    assert resample(per_prompt([1.0, 1.0])).figure({"colors": 0.5, "counting": 0.5}) == Estimate()


def test_pictures_without_a_score_are_left_out_and_are_no_zeros() -> None:
    first, second = per_prompt([0.0, 0.0])
    scores = [(first, 1.0), (first, None), (second, None)]
    assert over_pictures(scores) == {first: 1.0}


def test_any_takes_the_greatest_picture_and_seeds_take_the_mean_of_it() -> None:
    (key,) = per_prompt([0.0])
    seeds = [over_pictures([(key, 0.0), (key, 1.0)], "any"), over_pictures([(key, 0.0), (key, 0.0)], "any")]
    assert seeds == [{key: 1.0}, {key: 0.0}]
    assert over_seeds(seeds) == {key: 0.5}


def test_a_row_differs_from_itself_by_exactly_nothing() -> None:
    values = per_prompt(list(np.random.default_rng(2).random(50)))
    found = resample(paired_differences({0: values}, {0: values})).difference({"colors": 1.0})
    assert found == Difference(Estimate(0.0, 0.0, 0.0), 50, 50, 0)
    assert found.verdict == "not distinguishable"


def test_pairing_finds_what_unpaired_intervals_hide() -> None:
    theirs = per_prompt([0.0, 0.8] * 20)
    ours = {key: value + 0.1 for key, value in theirs.items()}
    assert resample(ours).tag("colors").low < resample(theirs).tag("colors").high
    found = resample(paired_differences({0: ours}, {0: theirs})).difference({"colors": 1.0})
    assert found.estimate == Estimate(0.1, 0.1, 0.1)
    assert found.verdict == "better"


@pytest.mark.parametrize(
    ("estimate", "verdict"),
    [
        (Estimate(0.1, 0.01, 0.2), "better"),
        (Estimate(-0.1, -0.2, -0.01), "worse"),
        (Estimate(0.1, -0.01, 0.2), "not distinguishable"),
        (Estimate(0.1, 0.0, 0.2), "not distinguishable"),
        (Estimate(0.9, None, None), "not distinguishable"),
    ],
)
def test_a_difference_is_called_only_where_its_interval_excludes_zero(estimate: Estimate, verdict: str) -> None:
    assert Difference(estimate, 10, 10, 6).verdict == verdict
    assert Difference(estimate, 90, 9, 90).verdict == "too few prompts"
    assert Difference(estimate, 90, 90, 90, whole=False).verdict == "not of all tags"


@pytest.mark.parametrize("agreeing", [4, 5, 6])
def test_a_difference_is_called_only_where_an_exact_test_could_call_it(agreeing: int) -> None:
    differences = per_prompt([1.0] * agreeing + [0.0] * 60)
    found = resample(differences).difference({"colors": 1.0})
    assert found.differing == agreeing
    assert found.estimate.low > 0
    chance = 2 / 2**agreeing  # of a sign test
    assert found.verdict == ("better" if chance < 0.05 else "not distinguishable")


@pytest.mark.parametrize(("rate", "coverage"), [(0.5, 0.95), (0.9, 0.95), (0.97, 0.83), (0.99, 0.47)])
def test_how_often_the_interval_of_64_prompts_holds_the_rate(rate: float, coverage: float) -> None:
    held = 0.0
    for right in range(65):
        found = resample(per_prompt([1.0] * right + [0.0] * (64 - right))).tag("colors")
        chance = math.comb(64, right) * rate**right * (1 - rate) ** (64 - right)
        held += chance * (found.low <= rate <= found.high)
    assert held == pytest.approx(coverage, abs=0.02)


def test_rows_are_paired_over_the_seeds_that_both_have() -> None:
    ours = {1: per_prompt([1.0, 1.0]), 2: per_prompt([0.0, 0.0])}
    theirs = {2: per_prompt([0.0, 1.0]), 3: per_prompt([9.0, 9.0])}
    assert list(paired_differences(ours, theirs).values()) == [0.0, -1.0]


def test_rows_without_a_common_seed_are_paired_by_prompt() -> None:
    ours = {1: per_prompt([1.0, 1.0]), 2: per_prompt([0.0, 1.0])}
    theirs = {3: per_prompt([0.5, 0.0])}
    assert list(paired_differences(ours, theirs).values()) == [0.0, 1.0]


def test_only_common_prompts_are_paired_and_an_id_with_another_text_is_another_prompt() -> None:
    ours = {0: {PromptKey("1", "a dog", "t"): 1.0, PromptKey("2", "a cat", "t"): 1.0}}
    theirs = {0: {PromptKey("1", "a dog", "t"): 0.0, PromptKey("2", "a cow", "t"): 0.0}}
    assert paired_differences(ours, theirs) == {PromptKey("1", "a dog", "t"): 1.0}


def test_a_difference_over_some_tags_scales_their_weights_to_the_same_sum() -> None:
    found = resample(per_prompt([0.2, 0.2], "colors")).difference({"colors": 0.5, "counting": 0.5})
    assert found == Difference(Estimate(0.2, 0.2, 0.2), 2, 2, 2, whole=False)
    assert resample({}).difference({"colors": 1.0}) is None
