"""Ctrl-C, kill -9 and --resume, on real processes: nothing finished is redone, nothing drawn is different."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from milr.run_files import read_lines

from .conftest import Milr, Spawn

PROMPTS = ("a photo of a red apple", "a blue cat left of a dog")
STEPS = 20
PATIENCE = 120  # seconds after which a process that does not get anywhere is given up


def arguments(model: Path) -> list[str]:
    prompts = [text for prompt in PROMPTS for text in ("--prompt", prompt)]
    options = {"--model": str(model), "--reward": "brightness", "--steps": str(STEPS), "--samples": "2", "--batch": "1"}
    options["--normalise"] = "brightness=zscore"  # which remembers what the search has seen
    return ["generate", *prompts, *(text for option in options.items() for text in option)]


def steps_on_disk(run: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (run / "trace").glob("*.jsonl"))


def interrupt(process: subprocess.Popen[str], run: Path, after_steps: int, how: signal.Signals) -> tuple[int, str]:
    """Sends the signal once so many steps are on disk; returns the exit code and stderr."""
    deadline = time.monotonic() + PATIENCE
    while steps_on_disk(run) < after_steps and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=PATIENCE)
    return process.returncode, stderr


def results(run: Path) -> dict[str, Any]:
    """All that a run leaves, but for how long it took."""
    lines = read_lines(run / "samples.jsonl")
    traces = {path.name: read_lines(path) for path in (run / "trace").iterdir()}
    for line in [*lines, *(line for trace in traces.values() for line in trace)]:
        del line["seconds"]
    pictures = {path.relative_to(run): path.read_bytes() for path in run.rglob("*.png")}
    return {"lines": lines, "traces": traces, "pictures": pictures}


@pytest.fixture
def undisturbed(milr: Milr, tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    assert milr(*arguments(tiny_model), "--out", "undisturbed").code == 0
    return results(tmp_path / "undisturbed")


@pytest.mark.parametrize("after_steps", [3, STEPS + 3], ids=["in the first search", "in the second search"])
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(
    spawn: Spawn, milr: Milr, tiny_model: Path, tmp_path: Path, undisturbed: dict[str, Any], after_steps: int
) -> None:
    killed = tmp_path / "killed"
    code, _ = interrupt(spawn(*arguments(tiny_model), "--out", str(killed)), killed, after_steps, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert len(read_lines(killed / "samples.jsonl")) == (1 if after_steps > STEPS else 0)

    outcome = milr("generate", "--resume", "--out", "killed", "--json")
    assert outcome.code == 0
    assert "goes on after step" in outcome.stderr
    assert [record["prompt"] for record in outcome.records] == list(PROMPTS)
    assert results(killed) == undisturbed


def test_ctrl_c_saves_the_state_and_shows_how_to_go_on(
    spawn: Spawn, milr: Milr, tiny_model: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    run = tmp_path / "stopped"
    code, stderr = interrupt(spawn(*arguments(tiny_model), "--out", str(run)), run, 5, signal.SIGINT)
    assert code == 130
    assert f"interrupted; 0 of 2 images in {run} are done" in stderr
    assert f"milr generate --resume --out {run}" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr

    assert milr("generate", "--resume", "--out", str(run)).code == 0
    assert results(run) == undisturbed


def test_a_finished_run_is_shown_again_and_not_done_again(milr: Milr, tiny_model: Path, tmp_path: Path) -> None:
    command = [*arguments(tiny_model), "--steps", "1", "--out", "run", "--json"]
    first = milr(*command)
    before = results(tmp_path / "run")
    again = milr(*command, "--resume")
    assert again.records == first.records
    assert results(tmp_path / "run") == before


def test_a_resume_with_another_setting_is_refused_and_names_it(milr: Milr, tiny_model: Path) -> None:
    command = [*arguments(tiny_model), "--steps", "1", "--out", "run"]
    milr(*command)
    for option, value, message in [
        ("--seed", "1", "seed = 0, not 1"),
        ("--set", "method.milr.lr=0.5", "method.milr.lr = the default, not 0.5"),
        ("--reward", "brightness=2", 'reward = ["brightness"], not ["brightness", "brightness=2"]'),
        ("--prompt", "a third prompt", "other prompts"),
    ]:
        outcome = milr(*command, "--resume", option, value)
        assert outcome.code == 2
        assert message in outcome.stderr


def test_nobody_waits_for_a_critic_that_is_far_away(spawn: Spawn, tiny_model: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    (tmp_path / "far.py").write_text(
        "import pathlib, time\n"
        "def away(images, prompts):\n"
        f"    pathlib.Path({str(asked)!r}).touch()\n"
        "    time.sleep(600)\n"
    )
    process = spawn(
        *("generate", "--prompt", PROMPTS[0], "--model", str(tiny_model), "--out", str(tmp_path / "run")),
        *("--reward", f"python:{tmp_path / 'far.py'}:away", "--overlap", "--samples", "2"),
    )
    deadline = time.monotonic() + PATIENCE
    while not asked.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
