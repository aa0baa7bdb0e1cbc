"""The command line in this process, or as a process of its own that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from milr_cli.main import run


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    code: int
    stdout: str
    stderr: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Of --json."""
        return [json.loads(line) for line in self.stdout.splitlines()]


Milr = Callable[..., Outcome]
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def milr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], third_party_plugin: None
) -> Milr:
    """Runs a command line in an empty folder, `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def draw(milr: Milr, tiny_model: Path) -> Milr:
    """`milr generate` on the tiny model with a critic that needs no weights; a few steps unless told otherwise."""

    def call(*arguments: str) -> Outcome:
        given = [str(argument) for argument in arguments]
        defaults = {"--model": str(tiny_model), "--reward": "brightness", "--steps": "2", "--samples": "2"}
        added = [text for name, value in defaults.items() if name not in given for text in (name, value)]
        return milr("generate", *added, *given)

    return call


@pytest.fixture
def spawn(plugin_folder: Path) -> Spawn:
    """Starts `milr` as a process of its own, with as many threads as this one."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from milr_cli.main import main; main()", *arguments],
            env=os.environ | {"PYTHONPATH": str(plugin_folder), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
