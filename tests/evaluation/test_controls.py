"""Controls: what each takes away from a run, and what it must keep."""

from __future__ import annotations

import inspect

import pytest

from milr.evaluation.controls import CONTROLS, control_settings, controls_of, most_pictures
from milr.methods.controls import random_direction
from milr.methods.controls import resample as resample_of
from milr.methods.milr import Milr
from milr.presets import PAPER

OURS = {"method": "milr", "steps": 3, "samples": 4, "budget": None, "keep": "best", "method.milr.image_ratio": 0.5}


def test_a_method_is_not_its_own_control() -> None:
    assert controls_of("milr") == list(CONTROLS)
    assert "best-of-n" not in controls_of("best-of-n")


def test_what_the_run_says_of_its_method_holds_for_the_methods_of_its_controls() -> None:
    assert control_settings("resample", OURS)["method.resample.image_ratio"] == 0.5
    assert control_settings("random-direction", OURS)["method.random-direction.image_ratio"] == 0.5
    assert not any("ratio" in name for name in control_settings("best-of-n", OURS))


def test_the_controls_of_the_published_recipe_step_when_and_as_far_as_it_does() -> None:
    chosen = control_settings("random-direction", PAPER)
    for option in ("lr", "prefix", "text_ratio", "image_ratio", "baseline", "scale", "offset", "action", "clip"):
        assert chosen[f"method.random-direction.{option}"] == PAPER[f"method.milr.{option}"]
    chosen = control_settings("resample", PAPER)
    assert chosen["method.resample.prefix"] == PAPER["method.milr.prefix"]
    assert "method.resample.lr" not in chosen


def test_controls_take_every_option_of_milr_that_matters_without_a_gradient() -> None:
    milr, resample, random = (set(inspect.signature(it).parameters) for it in (Milr, resample_of, random_direction))
    assert milr - random == {"gradient"}
    assert milr - resample == {"gradient", "lr", "baseline", "scale", "offset", "action", "kl", "clip"}
    chosen = control_settings("resample", {**OURS, "method.milr.perturb": "gaussian"})
    assert chosen["method.resample.perturb"] == "gaussian"


def test_rows_without_a_search_draw_one_picture() -> None:
    for name in ("base", "reason-only"):
        chosen = control_settings(name, OURS)
        assert (chosen["steps"], chosen["samples"], chosen["method"]) == (0, 1, "best-of-n")
    assert control_settings("base", OURS)["method.best-of-n.reasoning"] is False


def test_reason_only_reasons_whatever_the_run_does() -> None:
    ours = {"method": "best-of-n", "samples": 4, "batch": None, "method.best-of-n.reasoning": False}
    assert control_settings("reason-only", ours)["method.best-of-n.reasoning"] is True


@pytest.mark.parametrize(
    ("budget", "most"),
    [(None, 84), (100, 84), (84, 84), (83, 80), (40.5, 40), (7, 4), (1, 4)],
)
def test_a_search_begins_no_step_that_would_exceed_its_budget_but_the_first(budget: float | None, most: int) -> None:
    assert most_pictures({"samples": 4, "steps": 20, "budget": budget}) == most
