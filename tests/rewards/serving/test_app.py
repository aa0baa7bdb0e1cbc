"""The server of a critic: what it answers, what it refuses, and what it scores together."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from milr.prompts import Prompt
from milr_rewards.serving.wire import score_request
from tests.rewards.live_server import BLUE, GREEN, PATIENCE, RED, Redness, serving, wished


@pytest.fixture
def critic() -> Redness:
    return Redness()


@pytest.fixture
def client(critic: Redness) -> Iterator[httpx.Client]:
    with serving(critic, most_bytes=10**6) as address, client_of(address) as client:
        yield client


def client_of(address: str) -> httpx.Client:
    return httpx.Client(base_url=f"http:{address}", timeout=PATIENCE, trust_env=False)


def request(images: Sequence[Image.Image], *texts: str) -> bytes:
    return score_request(list(zip(images, wished(*texts), strict=True)))


def values(answer: httpx.Response) -> list[Any]:
    return [score["value"] for score in answer.json()["scores"]]


# What it answers


def test_it_says_which_critic_is_served(client: httpx.Client) -> None:
    described = client.get("/").json()
    assert described["milr"]
    del described["milr"]
    assert described == {
        "protocol": 1,
        "name": "redness",
        "version": "7",
        "range": [0.0, 1.0],
        "target": 0.9,
        "needs": ["wish"],
        "kin": ["redness"],
        "licence": "none",
        "size_mb": 1.5,
        "model": "",
    }


def test_it_says_that_it_is_well(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}


def test_pictures_are_scored_each_by_its_own_prompt(client: httpx.Client) -> None:
    answer = client.post("/score", content=request([RED, GREEN], "one", "two"))
    assert answer.status_code == 200
    assert answer.json()["scores"] == [
        {"value": 200 / 255, "parts": {"green": 0.0}, "reason": "one", "error": None, "cost": {"looks": 1.0}},
        {"value": 0.0, "parts": {"green": 200 / 255}, "reason": "two", "error": None, "cost": {"looks": 1.0}},
    ]


def test_no_pictures_have_no_scores(client: httpx.Client) -> None:
    assert client.post("/score", content=request([])).json() == {"scores": []}


def test_a_picture_that_cannot_be_scored_fails_alone(client: httpx.Client) -> None:
    answer = client.post("/score", content=request([RED, BLUE, RED], "one", "two", "three"))
    assert values(answer) == [200 / 255, None, 200 / 255]
    assert answer.json()["scores"][1]["error"] == "ValueError: cannot bear blue"


def test_prompts_are_checked_by_the_critic(client: httpx.Client) -> None:
    assert client.post("/check", json={"prompts": [{"text": "a", "metadata": {"wish": 1}}]}).json() == {"status": "ok"}
    refused = client.post("/check", json={"prompts": [{"text": "a"}]})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("reward 'redness' needs wish for each prompt")


def test_a_check_that_fails_by_mistake_is_a_sentence() -> None:
    class Careless(Redness):
        def check(self, prompt: Prompt) -> None:
            raise RuntimeError("two\nlines")

    with serving(Careless()) as address, client_of(address) as client:
        answer = client.post("/check", json={"prompts": [{"text": "a"}]})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("reward 'redness' cannot check 'a': RuntimeError")


def test_a_critic_that_cannot_be_described_is_a_failure_in_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    critic = Redness()
    critic.target = object()  # type: ignore[assignment]
    with serving(critic) as address, client_of(address) as client:
        answer = client.get("/")
    assert (answer.status_code, answer.json()) == (500, {"detail": "the server failed: TypeError."})
    assert "TypeError" in caplog.text


# What it scores together


def test_requests_that_wait_are_scored_together_and_each_gets_its_own_rows() -> None:
    critic = Redness()
    critic.open.clear()
    pictures = {f"prompt {index}": Image.new("RGB", (4, 4), (index, 0, 0)) for index in range(12)}
    with serving(critic, wait=0.5) as address, client_of(address) as client, ThreadPoolExecutor(16) as pool:
        first = pool.submit(client.post, "/score", content=request([RED], "first"))
        assert critic.asked.wait(PATIENCE)  # it is busy: all others have to wait
        answers = {
            text: pool.submit(client.post, "/score", content=request([image, RED], text, "red"))
            for text, image in pictures.items()
        }
        critic.open.set()
        assert values(first.result()) == [200 / 255]
        for index, (text, answer) in enumerate(answers.items()):
            assert values(answer.result()) == [index / 255, 200 / 255]
            assert answer.result().json()["scores"][0]["reason"] == text
    assert len(critic.calls) < 1 + len(pictures)
    assert len(critic.threads) == 1


def test_no_more_than_a_batch_is_scored_at_once() -> None:
    critic = Redness()
    texts = [f"prompt {index}" for index in range(7)]
    with serving(critic, batch=3) as address, client_of(address) as client:
        answer = client.post("/score", content=request([RED] * 7, *texts))
    assert [score["reason"] for score in answer.json()["scores"]] == texts
    assert [len(call) for call in critic.calls] == [3, 3, 1]


def test_pictures_of_a_client_that_went_away_are_not_scored() -> None:
    critic = Redness()
    critic.open.clear()
    with serving(critic, batch=1) as address, client_of(address) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/score", content=request([RED], "first"))
        assert critic.asked.wait(PATIENCE)
        with pytest.raises(httpx.ReadTimeout):
            client.post("/score", content=request([RED], "never read"), timeout=0.3)
        last = pool.submit(client.post, "/score", content=request([RED], "last"))
        client.get("/health")
        critic.open.set()
        assert values(first.result()) == values(last.result()) == [200 / 255]
    assert critic.calls == [["first"], ["last"]]


def test_a_client_that_hangs_up_within_a_request_harms_nobody(client: httpx.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
        connection.sendall(b'POST /score HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{"prompts": [')
    assert client.get("/health").status_code == 200


# What it refuses


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer guess"}, {"Authorization": "Basic secret"}])
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/health"), ("POST", "/check"), ("POST", "/score")])
def test_without_the_token_nothing_is_answered(method: str, path: str, given: dict[str, str]) -> None:
    with serving(Redness(), token="secret") as address, client_of(address) as client:
        refused = client.request(method, path, headers=given)
        assert (refused.status_code, refused.json()) == (401, {"detail": "this critic wants a token."})
        assert client.request(method, path, headers={"Authorization": "Bearer secret"}).status_code != 401


@pytest.mark.parametrize("path", ["/score", "/check"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no json", 400),
        (b'{"prompts": 3}', 400),
        (b'{"prompts": [{"text": ""}], "images": [""]}', 422),
        (b'{"prompts": [{"text": "\\ud800"}], "images": [""]}', 422),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(
    client: httpx.Client, path: str, body: bytes, status: int
) -> None:
    refused = client.post(path, content=body)
    assert refused.status_code == status
    assert "\n" not in refused.json()["detail"]
    assert "Traceback" not in refused.text


def test_a_damaged_picture_is_refused_in_a_sentence(client: httpx.Client) -> None:
    refused = client.post("/score", json={"prompts": [{"text": "a"}], "images": ["AAAA"]})
    assert (refused.status_code, refused.json()) == (400, {"detail": "picture 1 is not a PNG, or a damaged one."})


@pytest.mark.parametrize("with_length", [True, False], ids=["whose length is said", "whose length is not said"])
def test_a_request_that_is_too_long_is_refused(client: httpx.Client, with_length: bool) -> None:
    body = b" " * (3 * 10**6)
    pieces = iter([body[: 10**5]] * 30)
    refused = client.post("/score", content=body if with_length else pieces)
    assert refused.status_code == 413
    assert refused.json()["detail"] == "a request may have 1000000 bytes; send fewer pictures at once."


def test_a_request_without_an_end_is_refused_while_it_comes(client: httpx.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), PATIENCE) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"186a0\r\n" + bytes(10**6 // 10) + b"\r\n" + b"f4240\r\n" + bytes(10**6))
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_small_file_of_very_many_pixels_is_refused(client: httpx.Client) -> None:
    content = BytesIO()
    Image.new("1", (20_000, 20_000)).save(content, "PNG")
    bomb = base64.b64encode(content.getvalue()).decode()
    refused = client.post("/score", content=json.dumps({"prompts": [{"text": "a"}], "images": [bomb]}))
    assert refused.status_code == 413
    assert "too many pixels" in refused.json()["detail"]
