"""`milr serve-reward`: what it says, what it refuses, how it ends; and a search whose critic is elsewhere, and dies."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from milr.run_files import read_lines
from milr_rewards.geneval import GenEval, ScenesJudge
from milr_rewards.http import Http

from .conftest import Milr, Spawn

PATIENCE = 120  # seconds after which a process that does not get anywhere is given up

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def start(spawn: Spawn) -> Iterator[Start]:
    """Starts `milr serve-reward` on a free port; gives the process and the address that it says."""
    processes = []

    def run(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        process = spawn("serve-reward", "--port", "0", *arguments)
        processes.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        said = re.search(r"is served at (http://\S+); use it with: --reward \1$", line)
        assert said, line + process.stderr.read()
        return process, said[1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_critics_are_served_as_the_options_say(start: Start) -> None:
    _, url = start("geneval=0.5", "scenes-judge=2", "--set", "reward.geneval.mode=binary")
    critic = Http(address=url.removeprefix("http:"))
    assert critic.name == "http:0.5*geneval+2*scenes-judge"
    assert critic.version.endswith(
        f"@0.5*geneval@{GenEval(mode='binary').version}+2*scenes-judge@{ScenesJudge().version}"
    )
    assert critic.range == (0.0, 2.5)


def test_ctrl_c_ends_it_without_a_traceback(start: Start) -> None:
    process, url = start("brightness")
    with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 0)) as idle:
        idle.sendall(b"POST /score HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n{")
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert stderr.strip() == "milr: interrupted."


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["genevall"], "unknown reward 'genevall'. Did you mean 'geneval'?"),
        (["geneval=much"], "the weight of reward 'geneval=much' is not a number"),
        (["geneval", "--set", "reward.geneval.mood=x"], "unknown option of reward 'geneval': 'mood'"),
        (["geneval", "--set", "reward.clip.model=x"], "--set reward.clip.model: what is served is geneval."),
        (["geneval", "--set", "method.milr.lr=1"], "--set method.milr.lr: what is served is geneval."),
        (["geneval", "--model", "minni"], "unknown model 'minni'. Did you mean 'mini'?"),
        (["scenes-judge", "--model", "janus-pro-1b"], "reward 'scenes-judge' has no detector for pictures of 'janus"),
        (["geneval", "--device", "tpu"], "there is no device 'tpu' here"),
        (["geneval", "--port", "70000"], "70000"),
        (["unready"], "reward 'unready' (brightness 1.0) is broken: RuntimeError: not today"),
        (["self"], "reward 'self' asks the model"),
        ([], "NAME[=W]..."),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_line(milr: Milr, arguments: list[str], problem: str) -> None:
    outcome = milr("serve-reward", *arguments)
    assert outcome.code == 2
    assert problem in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not outcome.stdout


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
def test_other_machines_are_let_in_with_a_token_only(milr: Milr, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILR_REWARD_TOKEN", "")
    outcome = milr("serve-reward", "brightness", "--host", host)
    assert outcome.code == 2
    assert f"--host {host} lets other machines in, and they need a token" in outcome.stderr
    assert "MILR_REWARD_TOKEN" in outcome.stderr


def test_the_token_of_the_environment_is_asked_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_TOKEN", "secret")
    _, url = start("brightness", "--host", "0.0.0.0", "--token-variable", "OUR_TOKEN")
    here = httpx.URL(url).copy_with(host="127.0.0.1")
    assert httpx.get(here, trust_env=False).status_code == 401
    assert httpx.get(here, headers={"Authorization": "Bearer secret"}, trust_env=False).status_code == 200


def test_a_port_that_is_taken_is_said(milr: Milr) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = milr("serve-reward", "brightness", "--port", str(port))
    assert outcome.code == 2
    assert f"cannot listen on 127.0.0.1, port {port}: " in outcome.stderr


def test_a_missing_extra_is_said(milr: Milr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    outcome = milr("serve-reward", "brightness")
    assert outcome.code == 2
    assert "install it with: pip install 'milr[serve]'" in outcome.stderr


def test_a_search_with_a_served_critic_finds_what_it_finds_here(draw: Milr, start: Start) -> None:
    _, url = start("brightness")
    (here,) = draw("--prompt", "a red apple", "--json", "--out", "here").records
    (away,) = draw("--prompt", "a red apple", "--json", "--out", "away", "--reward", url).records
    for differing in ("seconds", "image", "run"):
        del here[differing], away[differing]
    assert away == here


def test_a_server_that_dies_midway_costs_its_pictures_and_not_the_run(draw: Milr, start: Start, tmp_path: Path) -> None:
    mortal = tmp_path / "mortal.py"
    mortal.write_text(
        "import os, signal\n"
        "def critic(image, prompt):\n"
        "    if 'blue' in prompt:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return 0.5\n"
    )
    process, url = start(f"python:{mortal}:critic")
    prompts = [text for word in ("red", "blue", "green") for text in ("--prompt", f"a {word} apple")]
    options = ["--reward", url, "--set", "reward.http.retries=0", "--batch", "1"]
    outcome = draw(*prompts, *options, "--out", "run")
    assert process.wait(PATIENCE) == -signal.SIGKILL
    assert outcome.code == 1
    assert "Traceback" not in outcome.stderr
    red, blue, green = read_lines(tmp_path / "run" / "samples.jsonl")
    assert red["reward"] == 0.5
    assert all(f"nothing answers at {url}: " in failed["error"] for failed in (blue, green))


def test_a_run_goes_on_with_its_critic_on_another_port(
    start: Start, milr: Milr, tiny_model: Path, tmp_path: Path
) -> None:
    process, url = start("brightness")
    out = ("--out", str(tmp_path / "run"))
    drawn = ("--prompt", "a red apple", "--model", str(tiny_model), "--steps", "1", "--samples", "2")
    assert milr("generate", *drawn, *out, "--reward", f"{url}=2", "--gate", f"{url}=-5").code == 0
    (tmp_path / "run" / "samples.jsonl").unlink()
    process.kill()
    process.communicate()
    _, moved = start("brightness")
    assert moved != url
    again = milr("generate", "--resume", *out, "--reward", f"{moved}=2", "--gate", f"{moved}=-5")
    assert again.code == 0, again.stderr
    other = milr("generate", "--resume", *out, "--reward", f"{moved}=3", "--gate", f"{moved}=-5")
    assert other.code == 2
    assert 'was made with reward = ["http=2"], not ["http=3"]' in other.stderr
