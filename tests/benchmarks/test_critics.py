"""The table of critics: closed forms of its figures, pairs whose truth is known, and a real run on a few pairs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from milr_benchmarks.critics import __main__ as command
from milr_benchmarks.critics.choices import ANY, FIRST, choices
from milr_benchmarks.critics.figures import auc, calibration_error, figures, logistic_curve, markdown, paired
from milr_benchmarks.critics.pairs import BROKEN, draw_pairs, is_right, surely_wrong
from milr_benchmarks.scenes.broken import break_things
from milr_benchmarks.scenes.corruptions import KINDS
from milr_benchmarks.scenes.language import metadata
from milr_benchmarks.scenes.layout import lay_out
from milr_benchmarks.scenes.sprites import drawn_sprites
from milr_benchmarks.scenes.world import Painter, sample_requests


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter(drawn_sprites(), "cpu")


def test_auc_counts_every_pair_of_pictures_and_halves_ties() -> None:
    right, wrong = np.array([3.0, 1.0]), np.array([0.0, 1.0, 2.0])
    expected = np.mean([[1.0, 1.0, 1.0], [1.0, 0.5, 0.0]])
    assert auc(right, wrong) == pytest.approx(expected)


def test_paired_looks_at_the_two_pictures_of_one_prompt() -> None:
    assert paired(np.array([3.0, 1.0, 0.0, 2.0]), np.array([0.0, 1.0, 2.0, 1.0])) == (1 + 0.5 + 0 + 1) / 4


def test_the_logistic_curve_finds_the_odds_that_values_were_made_with() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=40_000)
    truth = generator.random(40_000) < 1 / (1 + np.exp(-(2 * values - 1)))
    slope, intercept = logistic_curve(values[truth], values[~truth])
    assert slope == pytest.approx(2, abs=0.1)
    assert intercept == pytest.approx(-1, abs=0.1)


def test_values_that_mean_what_they_say_have_no_calibration_error() -> None:
    right, wrong = np.array([0.85] * 85), np.array([0.85] * 15)
    logit = math.log(0.85 / 0.15) / 0.85
    assert calibration_error(right, wrong, (logit, 0.0)) == pytest.approx(0, abs=1e-9)
    assert calibration_error(right, wrong, (0.0, 0.0)) == pytest.approx(0.35)


def test_a_row_has_intervals_kinds_and_what_the_critic_accepts() -> None:
    right, wrong = np.array([0.9, 0.8, np.nan, 0.7]), np.array([0.1, 0.85, 0.2, -0.2])
    row = figures(right, wrong, ["color", "class", "class", "color"], 0.75, (1.0, 0.0))
    assert (row["pairs"], row["failed"]) == (3, 1)
    assert row["auc"][0] == pytest.approx(7 / 9, abs=1e-4)
    assert row["auc"][1] <= row["auc"][0] <= row["auc"][2]
    assert (row["paired color"], row["paired class"]) == (1.0, 0.0)
    assert row["right accepted"] == pytest.approx(2 / 3, abs=1e-4)
    assert (row["color accepted"], row["class accepted"]) == (0.0, 1.0)
    assert "| mine | 0.778 [" in markdown({"mine": row})


def test_the_right_picture_is_right_and_the_wrong_one_is_wrong(painter: Painter) -> None:
    generator = torch.Generator().manual_seed(3)
    requests = sample_requests(200, len(painter.classes), generator)
    rows = metadata(requests, painter.classes)
    scenes = lay_out(requests, generator, rounds=4)
    assert all(is_right(painter, scenes, row, rows[row]) for row in range(200))
    broken = break_things(scenes, painter, generator, share=1.0)
    wrong = [surely_wrong(painter, broken, row, rows[row]) for row in range(200)]
    assert 40 < sum(wrong) < 200  # some stay right: a tinted thing of no asked colour, a doubled one of a pair


def test_pairs_are_of_every_kind_and_a_seed_draws_them_again(painter: Painter) -> None:
    first, again = draw_pairs(painter, 60, 5), draw_pairs(painter, 60, 5)
    assert set(first.kinds) == {*KINDS, BROKEN}
    assert first.kinds.count(BROKEN) == 20
    assert len(first.prompts) == len(first.right) == len(first.wrong) == 60
    assert [image.tobytes() for image in first.wrong] == [image.tobytes() for image in again.wrong]
    assert all(right.tobytes() != wrong.tobytes() for right, wrong in zip(first.right, first.wrong, strict=True))


def test_the_table_is_made_by_one_command(painter: Painter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load_sprites", lambda font: drawn_sprites())  # no font is needed for a small world
    out = tmp_path / "figures.json"
    arguments = ["pairs", "--count", "6", "--only", "geneval", "--only", "clip, gate geneval=0", "--out", str(out)]
    outcome = CliRunner().invoke(command.main, arguments)
    assert outcome.exit_code == 0, outcome.output
    assert set(json.loads(out.read_text())) == {"geneval", "clip, gate geneval=0"}
    assert outcome.stdout.startswith("| critic | auc |")


def test_a_critic_gets_the_picture_it_likes_best_and_the_judge_says_what_that_is_worth() -> None:
    correct = np.array([[[False, True, False], [True, False, False]], [[False, False, False], [False, True, True]]])
    knowing = correct + np.array([0.3, 0.2, 0.1])  # [seeds, prompts, pictures]
    table = choices({"knowing": knowing, "perverse": -knowing}, correct)
    assert [row["right"][0] for row in table.values()] == [0.25, 0.75, 0.0, 0.75]
    assert table["knowing"]["gain"][0] == 0.5
    assert table["perverse"]["gain"][0] == -0.25
    assert table["knowing"]["right"][1:] == [0.5, 1.0]  # of two prompts, right for one seed of two and for both


def test_critics_choose_among_the_same_pictures_by_one_command(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    arguments = ["choices", "--pictures", "2", "--seeds", "1", "--every", "200", "--only", "geneval", "--out", str(out)]
    outcome = CliRunner().invoke(command.main, arguments)
    assert outcome.exit_code == 0, outcome.output
    assert set(json.loads(out.read_text())) == {FIRST, "geneval", ANY}


def test_an_unknown_critic_is_one_clear_line(painter: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load_sprites", lambda font: drawn_sprites())
    outcome = CliRunner().invoke(command.main, ["pairs", "--only", "geneval", "--reward", "clpi"])
    assert outcome.exit_code == 1
    assert "Did you mean 'clip'" in outcome.stderr
