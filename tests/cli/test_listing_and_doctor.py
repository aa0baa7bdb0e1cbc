"""`milr list`, `milr doctor`, and the group itself."""

from __future__ import annotations

import pytest

import milr as library
from milr import models
from milr.errors import ModelError

from .conftest import Milr


def test_models_are_listed_with_their_licence(milr: Milr) -> None:
    outcome = milr("list", "models")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.stdout.splitlines()] == ["name", "janus-pro-1b", "janus-pro-7b", "mini"]
    assert "Apache-2.0" in outcome.stdout


def test_a_third_partys_critic_is_listed_with_its_origin(milr: Milr) -> None:
    lines = milr("list", "rewards").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("brightness")]
    assert "brightness 1.0" in line
    assert "Mean brightness of a picture." in line


def test_critics_are_listed_with_checkpoint_licence_size_and_extra(milr: Milr) -> None:
    header, *lines = milr("list", "rewards").stdout.splitlines()
    assert header.split() == ["name", "what", "it", "is", "extra", "size", "licence", "checkpoint", "origin"]
    (line,) = [line for line in lines if line.startswith("pickscore ")]
    for word in ("yuvalkirstain/PickScore_v1", "MIT", "MB", "critics"):
        assert word in line


def test_a_broken_plugin_warns_once_and_the_others_are_listed(milr: Milr) -> None:
    outcome = milr("list", "rewards")
    assert outcome.code == 0
    assert [line for line in outcome.stderr.splitlines() if "missing-module" in line] == [
        "milr: reward 'missing-module' (brightness 1.0) needs the package 'no_such_module'; install it."
    ]
    assert len(outcome.stderr.splitlines()) == 1
    names = [line.split()[0] for line in outcome.stdout.splitlines()]
    assert {"missing-module", "brightness", "geneval"} <= set(names)


def test_one_critic_is_described_with_its_options(milr: Milr) -> None:
    outcome = milr("list", "rewards", "brightness")
    assert outcome.code == 0
    assert outcome.stdout.startswith("brightness: Mean brightness of a picture.")
    assert "--set reward.brightness.scale=  (default: 1.0)" in outcome.stdout.splitlines()
    assert "facts" not in outcome.stdout


def test_a_misspelt_critic_gets_a_suggestion(milr: Milr) -> None:
    outcome = milr("list", "rewards", "brigthness")
    assert outcome.code == 2
    assert "Did you mean 'brightness'?" in outcome.stderr


def test_methods_are_listed(milr: Milr) -> None:
    names = {line.split()[0] for line in milr("list", "methods").stdout.splitlines()}
    assert names >= {"milr", "best-of-n", "resample", "random-direction"}


def test_the_doctor_names_versions_and_devices(milr: Milr) -> None:
    stdout = milr("doctor").stdout
    for word in ("python", "torch", "transformers", "cpu", "model mini", "extra critics"):
        assert word in stdout


def test_the_doctor_says_so_when_the_main_job_does_not_work(milr: Milr, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModelError("the weights are missing.")

    monkeypatch.setattr(models, "load_model", missing)
    outcome = milr("doctor")
    assert outcome.code == 1
    assert "the weights are missing." in outcome.stdout


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("generate", "--help"), ("list", "-h")])
def test_help_is_shown_on_stdout(milr: Milr, arguments: tuple[str, ...]) -> None:
    outcome = milr(*arguments)
    assert outcome.code == 0
    assert "Usage: milr" in outcome.stdout


def test_the_version_is_shown(milr: Milr) -> None:
    assert milr("--version").stdout == f"milr, version {library.__version__}\n"
