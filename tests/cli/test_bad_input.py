"""Bad input: exit code 2, one clear line with a suggestion where one is near, and nothing written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .conftest import Milr, Outcome

APPLE = "a photo of a red apple"


def refused(outcome: Outcome, folder: Path, *fragments: str) -> None:
    """The line says all of it, and the folder is as empty as it was."""
    assert outcome.code == 2, outcome
    assert outcome.stdout == ""
    (line,) = outcome.stderr.splitlines()
    for fragment in fragments:
        assert fragment in line
    assert not [path.name for path in folder.iterdir() if path.suffix not in (".txt", ".yaml")]


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--prompt", ""], ["the prompt is empty"]),
        (["--prompt", " \t"], ["the prompt is empty"]),
        (["--prompt", "a cat \udcff"], ["not valid UTF-8"]),
        ([], ["nothing to draw", "--prompt"]),
        (["--prompt", APPLE, "--prompt", APPLE], ["given twice", "--images 2"]),
        (["--prompt", APPLE, "--prompts", "x"], ["not both"]),
        (["--prompt", APPLE, "--model", "minni"], ["unknown model 'minni'", "Did you mean 'mini'?"]),
        (["--prompt", APPLE, "--model", "./nowhere/model"], ["./nowhere/model"]),
        (["--prompt", APPLE, "--reward", "brigthness"], ["unknown reward", "Did you mean 'brightness'?"]),
        (["--prompt", APPLE, "--reward", "brightness=much"], ["weight", "brightness=much"]),
        (["--prompt", APPLE, "--reward", "brightness=nan"], ["weight", "brightness=nan"]),
        (["--prompt", APPLE, "--reward", "brightness:high"], ["'brightness' takes no address"]),
        (["--prompt", APPLE, "--combine", "mean"], ["--combine", "'mean'", "'sum', 'min', 'product'"]),
        (["--prompt", APPLE, "--combine", "product", "--normalise", "brightness=zscore"], ["never negative"]),
        (["--prompt", APPLE, "--normalise", "brightness"], ["--normalise 'brightness' is not NAME=VALUE"]),
        (["--prompt", APPLE, "--normalise", "brightness=1:0"], ["zscore or by its range LOW:HIGH", "'1:0'"]),
        (["--prompt", APPLE, "--normalise", "geneval=0:1"], ["no critic 'geneval' to normalise", "brightness"]),
        (["--prompt", APPLE, "--gate", "brightness=0", "--gate", "brightness=1"], ["twice for 'brightness'"]),
        (["--prompt", APPLE, "--normalise", "brightness=:"], ["zscore or by its range LOW:HIGH", "':'"]),
        (["--prompt", APPLE, "--gate", "brightness=high"], ["'high' is not a number"]),
        (["--prompt", APPLE, "--gate", "brigthness=0"], ["unknown reward", "Did you mean 'brightness'?"]),
        (["--prompt", APPLE, "--set", "reward.brightness.device=tpu"], ["tpu"]),
        (["--prompt", APPLE, "--reward", "judge", "--set", "reward.judge.timeout=sk-1234567890"], ["key (not shown)"]),
        (["--prompt", APPLE, "--reward", "judge", "--set", "reward.judge.preset=sk-1234567890"], ["key (not shown)"]),
        (["--prompt", APPLE, "--method", "mirl"], ["unknown method 'mirl'", "Did you mean 'milr'?"]),
        (["--prompt", APPLE, "--preset", "papper"], ["unknown preset", "Did you mean 'paper'?"]),
        (["--prompt", APPLE, "--setps", "3"], ["No such option '--setps'", "--steps"]),
        (["--prompt", APPLE, "--set", "method.milr.rl=1"], ["'rl'", "Did you mean 'lr'?"]),
        (["--prompt", APPLE, "--set", "method.milr.lr"], ["has no value"]),
        (["--prompt", APPLE, "--set", "metod.milr.lr=1"], ["Did you mean 'method'?"]),
        (["--prompt", APPLE, "--set", "method.milr=1"], ["KIND.PLUGIN.OPTION"]),
        (["--prompt", APPLE, "--set", "method.milr.lr=fast"], ["method.milr.lr takes a number, not 'fast'"]),
        (["--prompt", APPLE, "--set", "method.milr.lr=-1"], ["lr is -1"]),
        (["--prompt", APPLE, "--set", "method.milr.lr=NaN"], ["takes a number, not nan"]),
        (["--prompt", APPLE, "--set", "method.milr.baseline=1"], ["takes true or false, not 1"]),
        (["--prompt", APPLE, "--set", "method.resample.lr=1"], ["'milr'", "--method resample"]),
        (["--prompt", APPLE, "--set", "reward.picky.scale=1"], ["--reward picky"]),
        (["--prompt", APPLE, "--set", "reward.brightness.scael=1"], ["Did you mean 'scale'?"]),
        (["--prompt", APPLE, "--order", "jont"], ["method.milr.order", "'jont'", "Did you mean 'joint'?"]),
        (["--prompt", APPLE, "--perturb", "gauss"], ["'gauss'", "Did you mean 'gaussian'?"]),
        (["--prompt", APPLE, "--quantize", "int4"], ["--quantize", "'int4'", "'int8'"]),
        (["--prompt", APPLE, "--steps", "-1"], ["--steps", "-1"]),
        (["--prompt", APPLE, "--steps", "many"], ["--steps", "'many' is not a valid whole number"]),
        (["--prompt", APPLE, "--steps", "2.5"], ["--steps", "'2.5' is not a valid whole number"]),
        (["--prompt", APPLE, "--samples", "0"], ["--samples", "0"]),
        (["--prompt", APPLE, "--images", "-2"], ["--images", "-2"]),
        (["--prompt", APPLE, "--guidance", "nan"], ["--guidance", "not a finite number"]),
        (["--prompt", APPLE, "--guidance", "inf"], ["--guidance", "not a finite number"]),
        (["--prompt", APPLE, "--temperature", "-0.5"], ["--temperature", "-0.5"]),
        (["--prompt", APPLE, "--target", "high"], ["--target", "'high' is not a valid number or none"]),
        (["--prompt", APPLE, "--device", "cuda:99"], ["no device 'cuda:99'", "available: cpu"]),
        (["--prompt", APPLE, "--device", "toaster"], ["no device 'toaster'", "available: cpu"]),
        (["--prompt", APPLE, "--dtype", "float8"], ["float8", "bfloat16"]),
        (["--prompt", APPLE, "--reward", "picky"], ["'picky' needs include"]),
        (["--prompt", APPLE + " and a dog" * 40], ["too long"]),
        (["--prompt", APPLE, "--resume"], ["--out"]),
        (["--resume", "--out", "nowhere"], ["no run to go on with in nowhere"]),
        (["--prompt", APPLE, "--steps", "9" * 30], ["--steps", "not in the range"]),
        (["--prompt", APPLE, "--device", "meta"], ["no device 'meta'", "available"]),
        (["--prompt", APPLE, "--method", ""], ["unknown method ''"]),
        (["--prompt", APPLE, "--out", "~nobody-here/x"], ["--out", "no usable path"]),
        (["--prompt", APPLE, "--out", "x" * 300], ["--out", "no usable path"]),
        (["--prompt", APPLE, "--model", "./" + "x" * 300], ["there is no folder"]),
        (["--prompt", APPLE, "--reward", "unready"], ["'unready'", "is broken", "not today"]),
        (["--prompt", APPLE, "--config", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
        (["--prompts", "nowhere.txt"], ["nowhere.txt"]),
        (["--prompts", "."], ["'.'"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_it_is_refused(draw: Milr, tmp_path: Path, arguments: list[str], fragments: list[str]) -> None:
    refused(draw(*arguments), tmp_path, *fragments)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "has no prompts"),
        (b"\n  \n", "has no prompts"),
        (b"\x89PNG\r\n\0\0", "not UTF-8 text"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b'a cat\n{"prompt": 3}\n', "line 2"),
        (b'{"prompt": "a cat"\n', "not valid JSON"),
    ],
)
def test_a_prompts_file_that_is_no_such_thing_is_refused(
    draw: Milr, tmp_path: Path, content: bytes, fragment: str
) -> None:
    (tmp_path / "prompts.txt").write_bytes(content)
    refused(draw("--prompts", "prompts.txt"), tmp_path, fragment)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("- a list", "holds no options"),
        ("steps: [", "not YAML"),
        ("stesp: 3", "Did you mean 'steps'?"),
        ("steps: 2.5", "steps: '2.5' is not a valid whole number"),
        ("steps: [1, 2]", "steps takes one value"),
        ("guidance: .nan", "guidance"),
        ("keep: worst", "keep"),
        ("method.milr.rl: 1", "Did you mean 'lr'?"),
    ],
)
def test_a_config_file_that_is_wrong_is_refused(milr: Milr, tmp_path: Path, content: str, fragment: str) -> None:
    (tmp_path / "run.yaml").write_text(content)
    outcome = milr("generate", "--prompt", APPLE, "--reward", "brightness", "--config", "run.yaml")
    refused(outcome, tmp_path, fragment)


def test_out_that_is_a_file_is_refused(draw: Milr, tmp_path: Path) -> None:
    (tmp_path / "taken.txt").write_text("precious")
    refused(draw("--prompt", APPLE, "--out", "taken.txt"), tmp_path, "taken.txt is a file")
    assert (tmp_path / "taken.txt").read_text() == "precious"


def test_out_below_a_file_is_refused(draw: Milr, tmp_path: Path) -> None:
    (tmp_path / "taken.txt").write_text("precious")
    refused(draw("--prompt", APPLE, "--out", "taken.txt/run"), tmp_path, "cannot write to taken.txt/run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_out_that_cannot_be_written_is_refused(draw: Milr, tmp_path: Path) -> None:
    locked = tmp_path / "locked.txt"
    locked.mkdir(mode=0o500)
    refused(draw("--prompt", APPLE, "--out", str(locked / "run")), tmp_path, "cannot write to")


def test_out_with_another_run_is_refused_and_left_as_it_is(draw: Milr, tmp_path: Path) -> None:
    draw("--prompt", APPLE, "--out", "run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    outcome = draw("--prompt", "a cat", "--out", "run")
    assert outcome.code == 2
    assert "holds another run; add --resume" in outcome.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("damage", "fragment"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: os.truncate(folder / "model.safetensors", 5000), "truncated or damaged"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "'bert' model"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config"),
    ],
    ids=["missing", "truncated", "another architecture", "no config", "damaged config"],
)
def test_weights_that_cannot_be_used_are_refused(
    milr: Milr,
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    damage: object,
    fragment: str,
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "model"
    shutil.copytree(tiny_model, folder)
    assert callable(damage)
    damage(folder)
    outcome = milr("generate", "--prompt", APPLE, "--reward", "brightness", "--model", str(folder))
    refused(outcome, tmp_path, fragment)


def test_a_command_that_does_not_exist_is_refused_with_the_nearest(milr: Milr, tmp_path: Path) -> None:
    refused(milr("genrate"), tmp_path, "Did you mean 'generate'?")


def test_a_kind_that_does_not_exist_is_refused(milr: Milr, tmp_path: Path) -> None:
    refused(milr("list", "critics"), tmp_path, "critics", "rewards")
