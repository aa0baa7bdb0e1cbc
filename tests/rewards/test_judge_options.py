"""What the critic `judge` is told, by options and by the environment, and what it refuses; the key is seen nowhere."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from milr.errors import PromptError, UnknownNameError, UsageError
from milr.prompts import Prompt
from milr_rewards.judge import Judge
from milr_rewards.judging.presets import PRESETS
from tests.rewards.asking_judges import BLUE, DOGS, FLOWER, KEY, RED, YES, judge
from tests.rewards.endpoint_server import Reply, fails, isolate, says, serving

ESCAPED_KEY = KEY.replace("s", r"\u0073")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def test_an_address_is_a_preset_and_wins() -> None:
    made = Judge(address="wise", preset="gpt-4o-binary")
    assert made.version.startswith("wise-")
    assert made.needs == {"explanation"}


def test_an_unknown_preset_gets_a_suggestion() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown preset of reward 'judge': 'wise-verifed'\. Did you mean 'wise-v"
    ):
        Judge(address="wise-verifed")


def test_versions_tell_who_judges_and_how() -> None:
    versions = [
        Judge().version,
        Judge(preset="wise").version,
        Judge(model="gpt-5").version,
        Judge(temperature=0.7).version,
        Judge(temperature=None).version,
    ]
    assert len(set(versions)) == len(versions)
    assert versions[0] == f"wise-verified-{PRESETS['wise-verified'].version}-Qwen/Qwen3.5-35B-A3B"
    assert Judge(timeout=1.0, url="http://127.0.0.1:8000/v1").version == versions[0]


@pytest.mark.parametrize("preset", ["wise", "wise-verified"])
@pytest.mark.parametrize("metadata", [{}, {"explanation": ""}, {"Explanation": None}])
def test_a_prompt_without_explanation_is_refused(preset: str, metadata: dict[str, object]) -> None:
    critic = Judge(address=preset, url="http://127.0.0.1:1/v1")
    with pytest.raises(PromptError, match=r"needs an explanation of each prompt.*JSON lines.*judge:gpt-4o-binary"):
        critic.check(Prompt("a flower", metadata=metadata))


def test_a_prompt_with_what_is_needed_passes_without_a_server() -> None:
    Judge(url="http://127.0.0.1:1/v1").check(FLOWER)
    Judge(url="http://127.0.0.1:1/v1").check(Prompt("a flower", metadata={"explanation": "a carnation"}))
    Judge(url="http://127.0.0.1:1/v1", preset="gpt-4o-binary").check(DOGS)


def test_openai_without_a_key_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    critic = Judge(preset="gpt-4o-binary")
    with pytest.raises(UsageError, match=r"no key for api\.openai\.com: put .* variable OPENAI_API_KEY, or give"):
        critic.check(DOGS)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    Judge(preset="gpt-4o-binary").check(DOGS)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", 0),
        ("timeout", -1.0),
        ("timeout", float("nan")),
        ("retries", -1),
        ("concurrency", 0),
        ("requests_per_minute", -1),
        ("max_tokens", -1),
        ("temperature", -0.1),
        ("usd_per_million_input", -1),
        ("usd_per_million_output", -1),
    ],
)
def test_impossible_values_are_refused(option: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"reward\.judge\.{option} is at least"):
        Judge(**{option: value})


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://host/v1",
        "http://",
        "http:///v1",
        "http://host:port/v1",
        "http://host:99999",
        "x",
        "http://[",
        "http://a b/",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"reward\.judge\.url is no address of an endpoint; it looks like"):
        Judge(url=url)


@pytest.mark.parametrize(
    "url", ["http://me:secret@host/v1", "http://secret@host/v1", "http://host/v1?key=secret", "http://host#secret"]
)
def test_an_address_with_secrets_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="takes no user, password, query or fragment") as refused:
        Judge(url=url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("option", ["address", "preset", "model"])
@pytest.mark.parametrize("key", [KEY, "hf_abcdefghijkl", "gsk_0123456789"])
def test_what_looks_like_a_key_is_refused_and_not_repeated(option: str, key: str) -> None:
    with pytest.raises(UsageError, match=rf"reward\.judge\.{option} holds what looks like a key") as refused:
        Judge(**{option: key})
    assert key not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("option", ["address", "preset", "model", "url", "cache"])
def test_the_key_itself_is_refused_in_any_option(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "unlike-other-" + "keys"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UsageError, match=rf"reward\.judge\.{option} holds what looks like a key") as refused:
        Judge(**{option: f"http://host/{key}"})
    assert key not in "".join(traceback.format_exception(refused.value))


def test_hosts_and_folders_may_look_like_keys() -> None:
    Judge(url="https://sk-prod-llm-01.example/v1", cache="/data/hf_datasets/judge.sqlite")


@pytest.mark.parametrize("pasted", [KEY, "64cd78bc94b8b7d6", "abcdef0123456789", "a b", "AKIAIOSFODNN7EXAMPLE"])
def test_a_key_for_the_name_of_a_variable_is_refused_and_not_repeated(pasted: str) -> None:
    with pytest.raises(UsageError, match=r"reward\.judge\.key_variable") as refused:
        Judge(key_variable=pasted)
    assert pasted not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("key", ["a key with spaces", "two\nlines", "schlüssel", 'quo"ted'])
def test_a_key_that_no_header_takes_is_refused_and_not_repeated(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UsageError, match="variable OPENAI_API_KEY holds no usable key") as refused:
        Judge()
    assert key not in str(refused.value)


# The environment


def test_the_address_and_the_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(YES) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
        Judge(preset="gpt-4o-binary", cache="none").score([RED], [DOGS])
        monkeypatch.setenv("MILR_JUDGE_KEY", "another-key-1")
        Judge(preset="gpt-4o-binary", cache="none").score([RED], [DOGS])
        monkeypatch.setenv("TEAM_KEY", "another-key-2")
        Judge(preset="gpt-4o-binary", cache="none", key_variable="TEAM_KEY").score([RED], [DOGS])
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        monkeypatch.setenv("MILR_JUDGE_URL", server.url)
        Judge(preset="gpt-4o-binary", cache="none").score([RED], [DOGS])
    seen = [request.headers["Authorization"] for request in server.requests]
    assert seen == [f"Bearer {key}" for key in (KEY, "another-key-1", "another-key-2", "another-key-1")]


# The key


ECHOES: dict[str, Callable[[], Reply]] = {
    "an answer": lambda: says(f'{{"reason": "two dogs and {KEY}", "answer": "yes"}}'),
    "an escaped answer": lambda: says(f'{{"reason": "{ESCAPED_KEY}", "answer": "yes"}}'),
    "an unreadable answer": lambda: says(f"{'x' * 60} {KEY}"),
    "an error": lambda: fails(401, f"Incorrect API key provided: {KEY}"),
    "a page": lambda: Reply(502, f"<pre>Authorization: Bearer {KEY}</pre>".encode(), {"X-Echo": KEY}),
    "a redirect": lambda: Reply(307, headers={"Location": f"http://127.0.0.1:1/{KEY}"}),
    "half an answer": lambda: Reply(200, KEY.encode(), announced=1000),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_the_key_is_seen_nowhere(
    echo: Callable[[], Reply],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    logging.basicConfig(level=logging.DEBUG)
    caplog.set_level(logging.DEBUG)
    with serving(echo()) as server:
        critic = judge(server, retries=1)
        critic.check(DOGS)
        scores = critic.score([RED, BLUE], [DOGS, DOGS])
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    streams = capfd.readouterr()
    texts = [repr(scores), repr(critic), critic.version, caplog.text, streams.out, streams.err]
    assert KEY.encode() not in files
    for text in [*texts, *(repr(record.__dict__) for record in caplog.records)]:
        assert "canary" not in text
    assert "httpcore" in caplog.text


MILR = Path(sys.executable).with_name("milr")


def test_the_key_is_seen_nowhere_in_a_whole_run(tmp_path: Path) -> None:
    command = ["generate", "--prompt", "a photo of two dogs", "--reward", "judge:gpt-4o-binary", "--steps", "1"]
    with serving(ECHOES["an error"](), ECHOES["an answer"]()) as server:
        options = ["--samples", "2", "--set", f"reward.judge.url={server.url}", "--out", str(tmp_path / "run")]
        done = subprocess.run(
            [MILR, *command, *options],
            env=os.environ | {"OPENAI_API_KEY": KEY, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    assert len(server.requests) == 2
    trace = b"".join(path.read_bytes() for path in tmp_path.glob("run/trace/*"))
    assert b"Incorrect API key provided: [key]" in trace
    assert b"two dogs and [key]" in trace
    for written in [done.stdout, done.stderr, *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())]:
        assert b"canary" not in written
