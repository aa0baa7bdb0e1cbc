"""Twenty real SIGKILLs in one evaluation with all its controls, between writes and inside them; and who notices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.kill_harness import kind_of
from tests.run_contents import contents, damage, differences

KINDS = {".lock", "folders", "images", "judgements.jsonl", "other files", "results.json", "run.json", "samples.jsonl"}
KINDS |= {"state", "trace"}


def test_an_evaluation_that_is_killed_twenty_times_ends_as_if_nothing_had_happened() -> None:
    """As a process of its own, which forks its victims: this one has threads, and they would not come along."""
    command = [sys.executable, "-m", "tests.kill_harness", "--kills", "20", "--seed", "1", "--json"]
    harness = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert harness.stdout, harness.stderr
    report = json.loads(harness.stdout)
    assert report["wrong"] == []
    assert harness.returncode == 0
    assert len(report["kills"]) == 20
    assert report["points"].keys() == KINDS
    assert {kind_of(kill) for kill in report["kills"]} == KINDS
    assert sum(kill.startswith("inside write") for kill in report["kills"]) >= 3
    assert any(kill.startswith("from outside") for kill in report["kills"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A file of each kind; none is damaged."""
    Image.effect_noise((16, 16), 50).save(tmp_path / "0.png")
    save_file({"latents": torch.ones(3)}, tmp_path / "state.safetensors")
    (tmp_path / "results.json").write_text('{"value": 0.5, "spent": {"seconds": 2}}')
    (tmp_path / "samples.jsonl").write_text('{"id": "a", "seconds": 1}\n{"id": "b", "seconds": 1}\n')
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace" / "a.jsonl").write_text('{"step": 0, "loss": 0.5}\n')
    return tmp_path


@pytest.mark.parametrize("name", ["0.png", "state.safetensors", "results.json"])
def test_a_file_of_which_half_is_there_is_noticed(run: Path, name: str) -> None:
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2])
    assert [problem.split()[0] for problem in damage(run)] == [name]


def test_a_torn_last_line_is_no_damage_and_one_in_the_middle_is(run: Path) -> None:
    (run / "samples.jsonl").write_text('{"id": "a"}\n{"id": "b"')
    assert damage(run) == []
    (run / "samples.jsonl").write_text('{"id": "a"\n{"id": "b"}\n')
    assert [problem.split()[0] for problem in damage(run)] == ["samples.jsonl"]


def test_only_the_clock_and_the_last_bit_of_a_trace_may_differ(run: Path) -> None:
    before = contents(run)
    (run / "results.json").write_text('{"value": 0.5, "spent": {"seconds": 3}}')
    (run / "samples.jsonl").write_text('{"id": "b", "seconds": 2}\n{"id": "a", "seconds": 3}\n')
    (run / "trace" / "a.jsonl").write_text('{"step": 0, "loss": 0.50000006}\n')
    assert list(differences(before, contents(run))) == []

    (run / "results.json").write_text('{"value": 0.50000006, "spent": {}}')
    (run / "trace" / "a.jsonl").write_text('{"step": 0, "loss": 0.51}\n')
    (run / ".1.png.part").write_bytes(b"")
    assert list(differences(before, contents(run))) == [
        ".1.png.part: None became b''",
        "results.json, value: 0.5 became 0.50000006",
        "trace/a.jsonl, 0, loss: 0.5 became 0.51",
    ]
