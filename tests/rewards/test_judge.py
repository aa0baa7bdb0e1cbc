"""The critic `judge` against a real server on loopback: scores, costs, the cache, an interruption."""

from __future__ import annotations

import base64
import io
import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from milr.prompts import Prompt
from milr_rewards.judge import Judge
from tests.rewards.asking_judges import BLUE, DOGS, FLOWER, NO, RED, YES, judge
from tests.rewards.endpoint_server import Reply, Request, fails, isolate, says, serving


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


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
