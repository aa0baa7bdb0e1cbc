"""Asking an endpoint: what is tried again, what is given up, what is waited for, and where the key does not go."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from milr_rewards.judging import endpoint as judge_endpoint
from milr_rewards.judging.endpoint import Answer, Endpoint, in_parallel
from tests.rewards.endpoint_server import EndpointServer, Reply, Request, fails, isolate, says, serving

KEY = "canary-5b1c90d7f3"
BODY = {"model": "a-judge", "messages": []}


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def ask(server: EndpointServer, naps: list[float] | None = None, *, key: str = KEY, retries: int = 3) -> Answer:
    """One question whose answer has to be "good", asked without ever sleeping."""
    sleep = (naps if naps is not None else []).append
    endpoint = Endpoint(server.url, key, "SOME_KEY", timeout=20, retries=retries, sleep=sleep)
    with endpoint.connected() as connection:
        return connection.ask(BODY, only_good)


def only_good(text: str) -> None:
    if text != "good":
        raise ValueError("it is not good")


def test_a_question_goes_to_chat_completions_with_the_key() -> None:
    with serving(says("good")) as server:
        answer = ask(server)
    assert (answer.text, answer.error) == ("good", "")
    assert (answer.spent.requests, answer.spent.input_tokens, answer.spent.output_tokens) == (1, 100, 10)
    assert [(request.path, request.body) for request in server.requests] == [("/v1/chat/completions", BODY)]
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_without_a_key_no_authorization_is_sent() -> None:
    with serving(says("good")) as server:
        assert ask(server, key="").text == "good"
    assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "trouble",
    [
        fails(408),
        fails(409),
        fails(429),
        fails(500),
        fails(503),
        fails(529),
        Reply(body=b"<html>a gateway's page</html>"),
        Reply(body=b'{"choices": [{"mess'),
        Reply(body=b"[" * 100_000),
        Reply(body=b'"a text"'),
        Reply(body=b'{"choices": []}'),
        Reply(body=b'{"error": {"message": "overloaded"}}'),
        Reply(body=b'{"choices": [{"message": {"content": ["good"]}}]}'),
        Reply(body=json.dumps({"choices": [{"message": {"content": "good"}}]}).encode(), announced=10_000),
        Reply(body=b"not gzip", headers={"Content-Encoding": "gzip"}),
        says("bad"),
        says(None),
        says(""),
    ],
    ids=lambda reply: f"{reply.status} {reply.body[:30]!r}",
)
def test_what_may_pass_is_tried_again(trouble: Reply) -> None:
    naps: list[float] = []
    with serving(trouble, says("good")) as server:
        answer = ask(server, naps)
    assert answer.text == "good"
    assert answer.spent.requests == len(server.requests) == 2
    assert len(naps) == 1


def test_a_request_that_is_never_answered_times_out_and_is_tried_again() -> None:
    over = threading.Event()
    with serving(says("good", before=over.wait), says("good")) as server:
        endpoint = Endpoint(server.url, "", "SOME_KEY", timeout=0.3, retries=50, sleep=lambda _: None)
        with endpoint.connected() as connection:
            assert connection.ask(BODY, only_good).text == "good"
        over.set()
    assert len(server.requests) >= 2


def test_a_reply_that_comes_too_slowly_times_out_as_a_whole() -> None:
    clock = itertools.count(0, 50).__next__  # each look at the clock finds it 50 s later
    with serving(says("good")) as server:
        endpoint = Endpoint(server.url, "", "SOME_KEY", timeout=40, retries=0, clock=clock)
        with endpoint.connected() as connection:
            answer = connection.ask(BODY, only_good)
    assert (answer.text, answer.error) == (None, "no answer within 40 s")


def test_a_reply_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_endpoint, "LONGEST_REPLY", 10_000)
    with serving(says("good" * 10_000)) as server:
        assert ask(server).error == "the reply is longer than 10000 bytes"
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with serving(says("good")) as server:
        url = server.url
    endpoint = Endpoint(url, KEY, "SOME_KEY", retries=1, sleep=lambda _: None)
    with endpoint.connected() as connection:
        answer = connection.ask(BODY, only_good)
    assert answer.error.startswith(f"no answer from {url}: ")
    assert answer.error.endswith("(2 attempts)")
    assert answer.spent.requests == 2


def test_attempts_are_bounded_and_their_tokens_add_up() -> None:
    with serving(says("bad, all of it " * 30)) as server:
        answer = ask(server, retries=2)
    assert answer.text is None
    assert answer.error.startswith("cannot read the reply 'bad, all of it bad")
    assert answer.error.endswith("…': it is not good (3 attempts)")
    assert len(answer.error) < 150
    assert len(server.requests) == answer.spent.requests == 3
    assert (answer.spent.input_tokens, answer.spent.output_tokens) == (300, 30)


@pytest.mark.parametrize(
    "usage", [None, "none", {"prompt_tokens": "many"}, {"prompt_tokens": -3}, {"prompt_tokens": True}]
)
def test_a_server_that_does_not_count_tokens_has_counted_none(usage: object) -> None:
    completion = {"choices": [{"message": {"content": "good"}}], "usage": usage}
    with serving(Reply(body=json.dumps(completion).encode())) as server:
        answer = ask(server)
    assert (answer.text, answer.spent.input_tokens, answer.spent.output_tokens) == ("good", 0, 0)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "look at model, max_tokens and temperature"),
        (401, "put the right key into the environment variable SOME_KEY"),
        (403, "this key may not use the model; put the right key into the environment variable SOME_KEY"),
        (404, "the url (most end in /v1) or the model is not known there"),
        (413, "the server does not take such requests"),
    ],
)
def test_what_will_not_pass_is_one_sentence_and_one_request(status: int, advice: str) -> None:
    with serving(fails(status, "because\nof this"), says("good")) as server:
        answer = ask(server)
    assert answer.error.startswith(f"{server.url} answers {status} (because of this): ")
    assert advice in answer.error
    assert len(server.requests) == 1


def test_an_error_without_words_is_named() -> None:
    with serving(Reply(502)) as server:
        assert ask(server, retries=0).error == f"{server.url} answers 502 (Bad Gateway)"


def test_a_reply_that_was_cut_off_is_not_asked_for_again() -> None:
    with serving(says("<think>so long", finish="length"), says("good")) as server:
        answer = ask(server)
    assert answer.error == "the reply was cut off before its end; raise max_tokens"
    assert len(server.requests) == 1


def test_a_refusal_is_quoted() -> None:
    completion = {"choices": [{"message": {"content": None, "refusal": "I cannot help with that."}}]}
    with serving(Reply(body=json.dumps(completion).encode())) as server:
        assert "'I cannot help with that.'" in ask(server, retries=0).error


def test_pauses_double_with_jitter_up_to_a_minute() -> None:
    naps: list[float] = []
    with serving(fails(500)) as server:
        ask(server, naps, retries=8)
    assert len(naps) == 8
    for nap, longest in zip(naps, [1, 2, 4, 8, 16, 32, 60, 60], strict=True):
        assert longest / 2 <= nap <= longest
    assert len({nap / longest for nap, longest in zip(naps, [1, 2, 4, 8, 16, 32, 60, 60], strict=True)}) > 1


def test_a_server_says_when_to_come_back() -> None:
    naps: list[float] = []
    with serving(fails(429, Retry_After="7"), fails(503, Retry_After="100000"), says("good")) as server:
        assert ask(server, naps).text == "good"
    assert naps == [7, 60]


def test_a_server_may_say_when_to_come_back_by_a_date() -> None:
    past, future = (format_datetime(datetime.now(UTC) + timedelta(days=days)) for days in (-1, 1))
    naps: list[float] = []
    with serving(fails(429, Retry_After=past), fails(429, Retry_After=future), says("good")) as server:
        ask(server, naps)
    assert naps == [0, 60]


@pytest.mark.parametrize("value", ["soon", "-5", "", "1e3"])
def test_nonsense_about_when_to_come_back_is_ignored(value: str) -> None:
    naps: list[float] = []
    with serving(fails(429, Retry_After=value), says("good")) as server:
        ask(server, naps)
    assert 0.5 <= naps[0] <= 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_key_does_not_follow_a_redirect(status: int) -> None:
    with serving(says("good")) as elsewhere:
        moved = Reply(status, headers={"Location": f"{elsewhere.url}/chat/completions"})
        with serving(moved) as server:
            answer = ask(server)
    assert f"redirects to '{elsewhere.url}/chat/completions', where no key is sent" in answer.error
    assert (len(server.requests), elsewhere.requests) == (1, [])


ECHOES: dict[str, Reply] = {
    "an error": fails(400, f"bad key {KEY}"),
    "a passing error": fails(500, f"{KEY} " * 20),
    "a bare page": Reply(200, f"<p>{'x' * 70}{KEY}</p>".encode()),
    "an escaped error": Reply(401, b'{"error": {"message": "\\u0063anary-5b1c90d7f3"}}'),
    "a reply that is bad": says(f"bad {KEY}"),
    "an escaped reply": Reply(200, b'{"choices": [{"message": {"content": "\\u0063anary-5b1c90d7f3"}}]}'),
    "a redirect": Reply(301, headers={"Location": f"http://127.0.0.1/?key={KEY}"}),
    "a header": Reply(401, b"no", {"X-Seen": f"Bearer {KEY}"}),
    "no choices": Reply(200, json.dumps({"choices": [], "key": KEY}).encode()),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_a_key_that_is_sent_back_is_seen_nowhere(echo: Reply, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(echo) as server:
        answer = ask(server)
    assert answer.text is None
    assert any(record.name == "httpcore.http11" for record in caplog.records)
    seen = answer.error + caplog.text + repr([record.__dict__ for record in caplog.records])
    assert KEY not in seen
    assert KEY[:12] not in seen  # nor a part of it, where something was shortened


@pytest.mark.parametrize("spelt", [KEY, "\\u0063anary-5b1c90d7f3"])
def test_a_key_is_struck_out_of_a_good_reply_too(spelt: str) -> None:
    accepted: list[str] = []
    with serving(Reply(body=b'{"choices": [{"message": {"content": "yes %s"}}]}' % spelt.encode())) as server:
        endpoint = Endpoint(server.url, KEY, "SOME_KEY")
        with endpoint.connected() as connection:
            assert connection.ask(BODY, accepted.append).text == "yes [key]"
    assert accepted == ["yes [key]"]
    assert KEY not in repr(endpoint) + repr(connection)


def test_a_reply_can_be_stored_whatever_it_says() -> None:
    reply = Reply(body=b'{"choices": [{"message": {"content": "\\ud83d alone"}}]}')
    with serving(reply) as server, Endpoint(server.url, "", "SOME_KEY").connected() as connection:
        assert connection.ask(BODY, str).text == "? alone"


def test_a_word_that_is_no_secret_does_not_mangle_replies() -> None:
    with serving(says("good")) as server:
        assert ask(server, key="good").text == "good"


def test_logs_are_left_as_they_were() -> None:
    before = {name: list(logging.getLogger(name).filters) for name in ("httpx", "httpcore.http11")}
    with Endpoint("http://127.0.0.1:1/v1", KEY, "SOME_KEY").connected():
        assert any(logging.getLogger(name).filters != filters for name, filters in before.items())
    assert {name: logging.getLogger(name).filters for name in before} == before


def test_starts_are_spaced_over_all_threads() -> None:
    naps: list[float] = []
    with serving(says("good")) as server:
        endpoint = Endpoint(server.url, "", "SOME_KEY", requests_per_minute=30, sleep=naps.append, clock=lambda: 100.0)
        for _ in range(2):
            with endpoint.connected() as connection:
                in_parallel(lambda _: connection.ask(BODY, only_good), range(3), 3)
    assert sorted(naps) == [2, 4, 6, 8, 10]


def test_further_attempts_are_spaced_like_first_ones() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    starts: list[float] = []

    def reply(_: Request) -> Reply:
        starts.append(now[0])
        return fails(500) if len(starts) < 3 else says("good")

    with serving(reply) as server:
        endpoint = Endpoint(server.url, "", "SOME_KEY", requests_per_minute=1, sleep=sleep, clock=lambda: now[0])
        with endpoint.connected() as connection:
            assert connection.ask(BODY, only_good).text == "good"
    assert starts == [0, 60, 120]


def test_requests_overlap_as_far_as_they_may() -> None:
    together = threading.Barrier(4)  # passes only when four requests are under way at once
    with serving(says("good", before=lambda: together.wait(30))) as server:
        endpoint = Endpoint(server.url, "", "SOME_KEY")
        with endpoint.connected() as connection:
            answers = in_parallel(lambda _: connection.ask(BODY, only_good), range(8), 4)
    assert [answer.text for answer in answers] == ["good"] * 8


def test_no_more_work_goes_on_at_once_than_allowed() -> None:
    together = threading.Barrier(3)
    workers: set[threading.Thread] = set()

    def work(_: int) -> None:
        workers.add(threading.current_thread())
        together.wait(30)

    in_parallel(work, range(30), 3)
    assert len(workers) == 3


def test_results_keep_the_order_of_the_items() -> None:
    last = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            last.set()
        assert last.wait(30)  # the first one ends after the second one began
        return 10 * item

    assert in_parallel(work, range(20), 2) == [10 * item for item in range(20)]
    assert in_parallel(work, [], 2) == []


def test_an_error_stops_the_work_that_has_not_begun() -> None:
    begun: list[int] = []
    worker: list[threading.Thread] = []
    raised = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        worker.append(threading.current_thread())
        if item == 0:
            raise ArithmeticError("item 0")
        raised.wait(30)

    with pytest.raises(ArithmeticError, match="item 0"):
        in_parallel(work, range(10), 1)
    raised.set()
    worker[0].join(30)
    assert begun in ([0], [0, 1])


def test_nothing_is_asked_once_a_connection_is_closed() -> None:
    with serving(says("good")) as server:
        with Endpoint(server.url, "", "SOME_KEY").connected() as connection:
            pass
        assert connection.ask(BODY, only_good).error == "interrupted"
    assert server.requests == []


def test_closing_a_connection_ends_a_pause() -> None:
    asked = threading.Event()
    answers: list[Answer] = []

    def reply(_: Request) -> Reply:
        asked.set()
        return fails(429, Retry_After="60")

    with serving(reply) as server:
        with Endpoint(server.url, "", "SOME_KEY").connected() as connection:
            thread = threading.Thread(target=lambda: answers.append(connection.ask(BODY, only_good)))
            thread.start()
            assert asked.wait(30)
        thread.join(30)
    assert not thread.is_alive()
    assert answers[0].text is None
    assert len(server.requests) == 1
