"""The critic `judge` against a real server on loopback: scores, costs, the cache, refusals, a key that stays secret."""

from __future__ import annotations

import base64
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from milr.errors import PromptError, UnknownNameError, UsageError
from milr.prompts import Prompt
from milr_rewards.judge import Judge
from milr_rewards.judging.presets import PRESETS
from tests.rewards.endpoint_server import EndpointServer, Reply, Request, fails, isolate, says, serving

KEY = "sk-canary-5b1c90d7f3a2"
ESCAPED_KEY = KEY.replace("s", r"\u0073")
RED, BLUE = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
DOGS = Prompt("two dogs")
FLOWER = Prompt("the flower of Mother's Day", metadata={"Explanation": "a carnation"})
YES, NO = says('{"reason": "two dogs", "answer": "yes"}'), says('{"reason": "one dog", "answer": "no"}')


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def judge(server: EndpointServer, preset: str = "gpt-4o-binary", **options: object) -> Judge:
    """A judge that never sleeps."""
    made = Judge(url=server.url, address=preset, **options)
    made._endpoint.sleep = lambda _: None
    return made


def picture_in(request: Request) -> Image.Image:
    kind, _, data = request.body["messages"][1]["content"][1]["image_url"]["url"].partition(";base64,")
    assert kind == "data:image/png"
    return Image.open(io.BytesIO(base64.b64decode(data)))


# Scores


def test_a_picture_is_scored_by_what_the_judge_says() -> None:
    with serving(YES, NO) as server:
        critic = judge(server, concurrency=1)
        scores = critic.score([RED, BLUE], [DOGS, DOGS])
    assert [(score.value, score.reason, score.error) for score in scores] == [
        (1.0, "two dogs", None),
        (0.0, "one dog", None),
    ]
    assert (critic.range, critic.target, critic.needs) == ((0.0, 1.0), 1.0, frozenset())


def test_a_wiscore_comes_with_its_parts() -> None:
    reply = '{"reason": "a rose", "consistency": 1, "realism": 2, "aesthetic_quality": 0}'
    with serving(says(reply)) as server:
        critic = judge(server, "wise")
        score = critic.score([RED], [FLOWER])[0]
    assert score.value == pytest.approx((0.7 * 1 + 0.2 * 2) / 2)
    assert score.parts == {"consistency": 1, "realism": 2, "aesthetic_quality": 0}
    assert score.reason == "consistency 1, realism 2, aesthetic quality 0: a rose"
    assert critic.target is None


def test_wise_verified_is_right_or_wrong() -> None:
    with serving(says('<think>a carnation?</think>{"reason": "a carnation", "score": 1}')) as server:
        critic = judge(server, "wise-verified")
        score = critic.score([RED], [FLOWER])[0]
    assert (score.value, score.reason, critic.target) == (1.0, "a carnation", 1.0)


def test_the_judge_sees_the_picture_without_loss_and_the_question() -> None:
    with serving(says('{"score": 1}')) as server:
        judge(server, "wise-verified", max_tokens=77).score([RED], [FLOWER])
    request = server.requests[0]
    assert picture_in(request).tobytes() == RED.tobytes()
    question = request.body["messages"][1]["content"][0]["text"]
    assert "Prompt: the flower of Mother's Day\nExplanation: a carnation\n" in question
    assert (request.body["model"], request.body["temperature"]) == ("Qwen/Qwen3.5-35B-A3B", 0)
    assert request.body["max_completion_tokens"] == 77


def test_what_the_server_is_to_choose_is_left_out() -> None:
    with serving(YES) as server:
        judge(server, model="mine", max_tokens=0, temperature=None).score([RED], [DOGS])
    assert server.requests[0].body.keys() == {"model", "messages"}
    assert server.requests[0].body["model"] == "mine"


def test_pictures_of_any_mode_are_scored() -> None:
    with serving(YES) as server:
        scores = judge(server).score([Image.new(mode, (3, 5)) for mode in ("L", "RGBA", "P", "LA", "1")], [DOGS] * 5)
    assert [score.value for score in scores] == [1.0] * 5
    assert {picture_in(request).mode for request in server.requests} == {"RGB"}


def test_scores_keep_the_order_of_the_pictures_however_replies_arrive() -> None:
    others = threading.Barrier(5)

    def by_shade(request: Request) -> Reply:
        shade = picture_in(request).getpixel((0, 0))[0]
        return says('{"answer": "%s"}' % ("yes" if shade % 2 else "no"), before=lambda: others.wait(30))

    pictures = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in range(10)]
    with serving(by_shade) as server:
        scores = judge(server, concurrency=5).score(pictures, [DOGS] * 10)
    assert [score.value for score in scores] == [0.0, 1.0] * 5


def test_nothing_to_score_needs_no_server() -> None:
    assert Judge(url="http://127.0.0.1:1/v1", preset="gpt-4o-binary").score([], []) == []


def test_a_reply_that_cannot_be_read_is_asked_for_again() -> None:
    with serving(says("Yes, I see two dogs."), YES) as server:
        score = judge(server).score([RED], [DOGS])[0]
    assert (score.value, score.cost["requests"]) == (1.0, 2)


def test_a_reply_that_stays_unreadable_is_a_failure_and_no_zero() -> None:
    with serving(says("I see two dogs. " * 20)) as server:
        score = judge(server, retries=1).score([RED], [DOGS])[0]
    assert score.value is None
    assert score.error is not None
    assert score.error.startswith("cannot read the reply 'I see two dogs. I see two dogs.")
    assert score.error.endswith("…': it is not one JSON object (2 attempts)")
    assert score.cost == {"requests": 2, "input_tokens": 200, "output_tokens": 20}


def test_one_picture_that_fails_does_not_hurt_the_others(tmp_path: Path) -> None:
    def by_color(request: Request) -> Reply:
        return fails(400, "this picture is not allowed") if picture_in(request).getpixel((0, 0))[2] else YES

    RED.save(tmp_path / "torn.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "torn.png").read_bytes()[:50])
    with serving(by_color) as server, Image.open(tmp_path / "torn.png") as torn:
        scores = judge(server).score([RED, BLUE, torn, RED], [DOGS, DOGS, DOGS, FLOWER])
    assert [score.value for score in scores] == [1.0, None, None, 1.0]
    assert "this picture is not allowed" in str(scores[1].error)
    assert "the picture cannot be read" in str(scores[2].error)


# Costs


def test_a_score_says_what_it_cost() -> None:
    with serving(fails(500), says("?", usage=(1000, 20)), says('{"answer": "no"}', usage=(1000, 30))) as server:
        prices = {"usd_per_million_input": 2.5, "usd_per_million_output": 10.0}
        score = judge(server, **prices).score([RED], [DOGS])[0]
    assert score.cost == {
        "requests": 3,
        "input_tokens": 2000,
        "output_tokens": 50,
        "usd": pytest.approx((2000 * 2.5 + 50 * 10) / 1e6),
    }


def test_without_prices_no_dollars_are_reported() -> None:
    with serving(YES) as server:
        assert judge(server).score([RED], [DOGS])[0].cost == {"requests": 1, "input_tokens": 100, "output_tokens": 10}


def test_a_server_that_counts_no_tokens_gets_no_price() -> None:
    with serving(says('{"answer": "yes"}', usage=None)) as server:
        assert judge(server, usd_per_million_input=1.0).score([RED], [DOGS])[0].cost == {"requests": 1}


# The cache


def test_a_known_answer_makes_no_request_and_costs_nothing(tmp_path: Path) -> None:
    with serving(YES) as server:
        first = judge(server).score([RED], [DOGS])[0]
        again = judge(server).score([RED, RED.convert("RGBA")], [DOGS, Prompt("two dogs", id="another")])
    assert [(score.value, score.reason, score.cost) for score in again] == [(1.0, first.reason, {})] * 2
    assert len(server.requests) == 1
    assert (tmp_path / "milr" / "judge.sqlite").is_file()


def test_known_answers_need_no_server_and_no_port() -> None:
    with serving(YES) as server:
        judge(server).score([RED], [DOGS])
    other = Judge(url="http://127.0.0.1:1/v1", preset="gpt-4o-binary", retries=0)
    assert other.score([RED], [DOGS])[0].value == 1.0


@pytest.mark.parametrize(
    "other",
    [
        {"model": "another"},
        {"temperature": 0.5},
        {"max_tokens": 50},
        {"cache": "none"},
        {"cache": "another.sqlite"},
    ],
)
def test_another_question_is_asked_anew(
    other: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(YES) as server:
        judge(server).score([RED], [DOGS])
        judge(server, **other).score([RED], [DOGS])
    assert len(server.requests) == 2


def test_another_server_is_asked_anew() -> None:
    with serving(YES) as server:
        judge(server).score([RED], [DOGS])
        url = server.url.replace("127.0.0.1", "localhost")
        assert Judge(url=url, preset="gpt-4o-binary").score([RED], [DOGS])[0].value == 1.0
    assert len(server.requests) == 2


def test_other_pictures_prompts_and_presets_are_asked_anew() -> None:
    with serving(YES) as server:
        critic = judge(server)
        critic.score([RED, BLUE, RED], [DOGS, DOGS, FLOWER])
        judge(server, "wise", retries=0).score([RED], [FLOWER])
    assert len(server.requests) == 4


def test_failures_are_not_kept() -> None:
    with serving(says("?"), YES) as server:
        assert judge(server, retries=0).score([RED], [DOGS])[0].value is None
        assert judge(server, retries=0).score([RED], [DOGS])[0].value == 1.0


def test_an_answer_that_somebody_changed_is_asked_for_again(tmp_path: Path) -> None:
    import sqlite3

    with serving(YES) as server:
        judge(server).score([RED], [DOGS])
        with sqlite3.connect(tmp_path / "milr" / "judge.sqlite") as connection:
            connection.execute("UPDATE replies SET reply = '?'")
        connection.close()
        assert judge(server).score([RED], [DOGS])[0].value == 1.0
    assert len(server.requests) == 2


def test_an_unusable_cache_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "milr").write_text("a file where the folder belongs")
    with serving(YES) as server:
        assert [score.value for score in judge(server).score([RED, BLUE], [DOGS, DOGS])] == [1.0, 1.0]
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1


# What is refused


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


# Interruption


_INTERRUPTED = """
import sys
from PIL import Image
from milr.prompts import Prompt
from milr_rewards.judge import Judge
judge = Judge(url=sys.argv[1], preset="gpt-4o-binary", timeout=10_000.0, concurrency=2)
judge.score([Image.new("RGB", (4, 4), (n, 0, 0)) for n in range(50)], [Prompt("two dogs")] * 50)
"""


def test_an_interrupt_does_not_wait_for_the_judge() -> None:
    both = threading.Barrier(3)
    over = threading.Event()

    def hang() -> None:
        both.wait(60)
        over.wait(60)

    with serving(says("never", before=hang)) as server:
        process = subprocess.Popen([sys.executable, "-c", _INTERRUPTED, server.url], stderr=subprocess.PIPE)
        both.wait(60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        over.set()
    assert process.returncode == -signal.SIGINT
    assert errors.decode().rstrip().endswith("KeyboardInterrupt")
    assert len(server.requests) == 2
