"""`milr generate`: what it prints, what it leaves, which value of an option holds."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from .conftest import Milr

EMBEDDED = ("--set", "reward.scenes-judge.detector=scenes-judge")  # though the tiny model draws no scenes
APPLE = "a photo of a red apple left of a dog"


def config_of(run: Path) -> dict[str, object]:
    config: dict[str, object] = json.loads((run / "run.json").read_text())["config"]
    return config


def test_one_prompt_gives_one_picture_and_says_so(draw: Milr, tmp_path: Path) -> None:
    outcome = draw("--prompt", APPLE, "--out", "run")
    assert outcome.code == 0
    assert outcome.stdout.strip().startswith(APPLE)
    assert "run/strip.png" in outcome.stdout
    assert len(list((tmp_path / "run" / "images").iterdir())) == 1
    assert (tmp_path / "run" / "strip.png").exists()


def test_json_prints_one_object_per_image_and_nothing_else_on_stdout(draw: Milr) -> None:
    outcome = draw("--prompt", APPLE, "--prompt", "a cat", "--images", "2", "--seed", "7", "--out", "run", "--json")
    assert len(outcome.records) == 4
    keys = {"id", "image_index", "prompt", "image", "reasoning", "initial_reward", "reward", "step", "images_decoded"}
    for record in outcome.records:
        assert set(record) == keys | {"seconds", "seed", "run"}
        assert (record["seed"], record["run"], record["images_decoded"]) == (7, "run", 6)
        assert record["reward"] >= record["initial_reward"]
        with Image.open(record["image"]) as image:
            assert image.size == (8, 8)
    assert sorted(record["prompt"] for record in outcome.records) == ["a cat", "a cat", APPLE, APPLE]


def test_without_out_the_folder_is_named_by_time_and_prompt(draw: Milr) -> None:
    (record,) = draw("--prompt", APPLE, "--json").records
    assert record["run"].startswith("runs/20")
    assert record["run"].endswith("-a-photo-of-a-red-apple-left-of-a-dog")


def test_the_same_seed_draws_the_same_picture_and_another_seed_another(draw: Milr) -> None:
    (first,) = draw("--prompt", APPLE, "--json", "--out", "1").records
    (second,) = draw("--prompt", APPLE, "--json", "--out", "2").records
    (third,) = draw("--prompt", APPLE, "--json", "--out", "3", "--seed", "1").records
    assert Path(first["image"]).read_bytes() == Path(second["image"]).read_bytes()
    assert Path(first["image"]).read_bytes() != Path(third["image"]).read_bytes()


def test_a_picture_does_not_depend_on_what_travels_with_it(draw: Milr) -> None:
    (alone,) = draw("--prompt", APPLE, "--json", "--out", "alone").records
    together = draw("--prompt", "a cat", "--prompt", APPLE, "--images", "2", "--batch", "3", "--json", "--out", "many")
    same = [r for r in together.records if r["prompt"] == APPLE and r["image"].endswith("-0.png")]
    assert Path(same[0]["image"]).read_bytes() == Path(alone["image"]).read_bytes()


def test_a_picture_does_not_depend_on_when_it_is_scored(draw: Milr) -> None:
    command = ["--prompt", APPLE, "--prompt", "a cat", "--json"]
    plain = draw(*command, "--out", "plain").records
    overlapping = draw(*command, "--overlap", "--out", "overlapping").records
    for one, other in zip(plain, overlapping, strict=True):
        assert Path(one["image"]).read_bytes() == Path(other["image"]).read_bytes()


def test_a_quantised_run_says_so_and_goes_on_only_as_such(draw: Milr, milr: Milr, tmp_path: Path) -> None:
    assert draw("--prompt", APPLE, "--quantize", "int8", "--out", "run").code == 0
    assert config_of(tmp_path / "run")["quantize"] == "int8"
    assert milr("generate", "--resume", "--out", "run").code == 0
    refused = milr("generate", "--resume", "--out", "run", "--quantize", "fp8")
    assert refused.code == 2
    assert 'quantize = "int8", not "fp8"' in refused.stderr


def test_prompts_come_from_a_file(draw: Milr, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text('a cat\n\n{"prompt": "a dog", "tag": "single_object"}\n')
    outcome = draw("--prompts", "prompts.txt", "--json")
    assert [record["prompt"] for record in outcome.records] == ["a cat", "a dog"]


def test_prompts_come_from_standard_input(draw: Milr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a cat\na dog\n")))
    assert [record["prompt"] for record in draw("--prompts", "-", "--json").records] == ["a cat", "a dog"]


def test_words_the_model_does_not_know_are_named_on_stderr_only(draw: Milr) -> None:
    outcome = draw("--prompt", "a photo of a zebra", "--json")
    assert outcome.code == 0
    assert "tiny does not know 'zebra'" in outcome.stderr
    assert len(outcome.records) == 1


def test_quiet_says_nothing_on_stderr(draw: Milr) -> None:
    assert draw("--prompt", APPLE, "-q").stderr == ""


def test_progress_is_told_in_lines_where_no_terminal_is(draw: Milr) -> None:
    assert f"{APPLE}: step 0/2, reward 0." in draw("--prompt", APPLE).stderr


def test_keep_steps_keeps_every_picture(draw: Milr, tmp_path: Path) -> None:
    draw("--prompt", APPLE, "--out", "run", "--keep-steps")
    assert len(list((tmp_path / "run" / "steps").rglob("*.png"))) == 6


def test_without_keep_steps_only_the_best_picture_stays(draw: Milr, tmp_path: Path) -> None:
    draw("--prompt", APPLE, "--out", "run")
    assert not list((tmp_path / "run" / "steps").rglob("*.png"))


@pytest.mark.parametrize("order", ["joint", "alternate", "text-then-image", "image-then-text", "text", "image"])
def test_every_order_runs(draw: Milr, tmp_path: Path, order: str) -> None:
    assert draw("--prompt", APPLE, "--order", order, "--out", "run").code == 0
    assert config_of(tmp_path / "run")["method.milr.order"] == order


@pytest.mark.parametrize("method", ["best-of-n", "resample", "random-direction"])
def test_every_control_runs(draw: Milr, method: str) -> None:
    assert draw("--prompt", APPLE, "--method", method).code == 0


def test_set_reaches_any_plugin_argument(draw: Milr, tmp_path: Path) -> None:
    outcome = draw(
        *("--prompt", APPLE, "--out", "run", "--json", "--perturb", "gaussian"),
        *("--set", "method.milr.lr=1e-3", "--set", "reward.brightness.scale=10"),
    )
    assert outcome.records[0]["reward"] > 1
    config = config_of(tmp_path / "run")
    assert config["method.milr.lr"] == 0.001
    assert config["method.milr.perturb"] == "gaussian"
    assert config["reward.brightness.scale"] == 10


def test_rewards_add_up_with_their_weights(draw: Milr) -> None:
    (one,) = draw("--prompt", APPLE, "--json", "--steps", "0").records
    rewards = ("--reward", "brightness=0.5", "--reward", "brightness=2")
    (sum_,) = draw("--prompt", APPLE, "--json", "--steps", "0", *rewards).records
    assert sum_["initial_reward"] == pytest.approx(2.5 * one["initial_reward"])


def test_a_critic_can_be_normalised_by_its_range(draw: Milr) -> None:
    (plain,) = draw("--prompt", APPLE, "--json", "--steps", "0").records
    (scaled,) = draw("--prompt", APPLE, "--json", "--steps", "0", "--normalise", "brightness=-1:3").records
    assert scaled["initial_reward"] == pytest.approx((plain["initial_reward"] + 1) / 4)


def test_a_gate_puts_pictures_behind_all_others(draw: Milr, tmp_path: Path) -> None:
    gate = (*EMBEDDED, "--gate", "scenes-judge=2")  # which no picture passes
    (record,) = draw("--prompt", APPLE, "--json", "--out", "run", *gate).records
    assert record["reward"] <= -1
    assert config_of(tmp_path / "run")["gate"] == ["scenes-judge=2"]


def test_a_running_z_score_does_not_depend_on_the_batch(draw: Milr) -> None:
    prompts = ("--prompt", APPLE, "--prompt", "a cat", "--normalise", "brightness=zscore", "--json")
    rewards = [
        [record["reward"] for record in draw(*prompts, "--batch", batch, "--out", f"run-{batch}").records]
        for batch in ("1", "2")
    ]
    assert rewards[0] == pytest.approx(rewards[1])


def test_critics_are_combined_as_told(draw: Milr, tmp_path: Path) -> None:
    both = (*EMBEDDED, "--reward", "brightness", "--reward", "scenes-judge", "--combine", "min")
    (record,) = draw("--prompt", APPLE, "--json", "--steps", "0", "--out", "run", *both).records
    assert record["reward"] == 0  # the tiny model draws no apple
    assert config_of(tmp_path / "run")["combine"] == "min"


def test_a_critic_may_have_a_device_of_its_own(draw: Milr, tmp_path: Path) -> None:
    arguments = (*EMBEDDED, "--prompt", APPLE, "--steps", "0", "--reward", "scenes-judge", "--out", "run")
    assert draw(*arguments, "--set", "reward.scenes-judge.device=cpu").code == 0
    assert "reward.scenes-judge.device" not in config_of(tmp_path / "run")  # it may change with a resume,
    identity = json.loads((tmp_path / "run" / "run.json").read_text())
    assert identity["facts"]["incidental"] == {"reward.scenes-judge.device": "cpu"}  # which knows it all the same
    assert draw(*arguments, "--resume", "--set", "reward.scenes-judge.device=auto").code == 0


def test_what_a_critic_cost_is_added_up(draw: Milr, tmp_path: Path) -> None:
    (tmp_path / "paid.py").write_text(
        "from milr.rewards import Score\n\n\n"
        "def paid(images, prompts):\n"
        "    return [Score(0.5, cost={'input_tokens': 1000, 'usd': 0.25}) for _ in images]\n"
    )
    run = ("--prompt", APPLE, "--reward", "python:paid.py:paid", "--steps", "1")
    (record,) = draw(*run, "--json").records
    assert record["cost"] == {"input_tokens": 4000, "usd": 1.0}
    assert "4 pictures decoded in" in (shown := draw(*run).stdout)
    assert ", 4,000 input tokens, 1 usd" in " ".join(shown.split())


def test_a_preset_sets_what_the_command_line_does_not(draw: Milr, tmp_path: Path) -> None:
    draw("--prompt", APPLE, "--preset", "paper", "--guidance", "2", "--out", "run")
    config = config_of(tmp_path / "run")
    assert (config["guidance"], config["keep"], config["method.milr.action"]) == (2.0, "last", "argmax")


def test_a_preset_lends_its_budget_to_another_method(draw: Milr, tmp_path: Path) -> None:
    assert draw("--prompt", APPLE, "--preset", "paper", "--method", "resample", "--out", "run").code == 0
    assert not [key for key in config_of(tmp_path / "run") if key.startswith("method.milr")]


def test_a_config_file_holds_any_option_and_the_command_line_wins(milr: Milr, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        f"prompt: {APPLE}\nmodel: {tiny_model}\nreward: [brightness=2]\nsteps: 3\nsamples: 2\nkeep-steps: true\n"
        "method.milr.lr: 1e-2\nout: from-file\n"
    )
    assert milr("generate", "--config", "run.yaml", "--steps", "1").code == 0
    config = config_of(tmp_path / "from-file")
    assert (config["steps"], config["samples"], config["method.milr.lr"]) == (1, 2, 0.01)
    assert list((tmp_path / "from-file" / "steps").rglob("*.png"))


def test_a_target_ends_the_search_early(draw: Milr) -> None:
    assert draw("--prompt", APPLE, "--json", "--target", "0.001").records[0]["images_decoded"] == 2


def test_a_budget_bounds_the_pictures_decoded(draw: Milr) -> None:
    assert draw("--prompt", APPLE, "--json", "--budget", "5").records[0]["images_decoded"] == 4


def test_zero_steps_draws_the_model_as_it_is(draw: Milr) -> None:
    (record,) = draw("--prompt", APPLE, "--json", "--steps", "0", "--samples", "1").records
    assert (record["step"], record["images_decoded"], record["reward"]) == (0, 1, record["initial_reward"])


def test_a_critic_that_raises_fails_that_image_with_its_reason(draw: Milr) -> None:
    outcome = draw("--prompt", APPLE, "--prompt", "a cat", "--reward", "broken", "--json")
    assert outcome.code == 1
    assert [record["reward"] for record in outcome.records] == [None, None]
    assert all("the critic is out" in record["error"] for record in outcome.records)
    assert "2 of 2 images failed" in outcome.stderr
