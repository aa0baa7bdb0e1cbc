"""The critics `http` and `https`: a served critic scores as it would here, and what fails on the way is said."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from milr import __version__
from milr.errors import PromptError, UsageError
from milr.prompts import Prompt
from milr.rewards import Score, load_reward
from milr_rewards import http as module
from milr_rewards.geneval import GenEval, ScenesJudge
from milr_rewards.http import Http, Https
from milr_rewards.serving.wire import TOKEN_VARIABLE, description_record, score_answer
from tests.rewards.live_server import BLUE, GREEN, RED, Redness, answering, http, serving, wished
from tests.rewards.tiny import facts_of

GREETING = http("200 OK", json.dumps(description_record(Redness(), __version__)).encode())
SCORED = http("200 OK", json.dumps(score_answer([Score(0.5)])).encode())
OVERLOADED = http("503 Service Unavailable", b"come back")
DRAWN = Path(__file__).parents[2] / "docs" / "hundred.jpg"
TOKEN = "s3cr3t-t0ken"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


# A critic that is served


@pytest.mark.parametrize("batch", [1, 2, 16])
@pytest.mark.parametrize("kind", [GenEval, ScenesJudge])
def test_a_served_critic_scores_as_it_does_here(kind: type[GenEval], batch: int) -> None:
    critic = kind(mode="dense")
    drawn = Image.open(DRAWN).convert("RGB")
    pictures = [drawn.crop((96 * i, 0, 96 * i + 96, 96)) for i in range(4)] + [Image.new("RGBA", (40, 60), "red")]
    prompts = [Prompt(text) for text in ("two cats", "a red apple", "a dog left of a cup", "a bus", "a cat")]
    with serving(critic) as address:
        away = Http(address=address, batch=batch).score(pictures, prompts)
    here = critic.score(pictures, prompts)
    assert [score.reason for score in away] == [score.reason for score in here]
    assert [score.parts for score in away] == [pytest.approx(score.parts, abs=1e-5) for score in here]
    assert values(away) == pytest.approx(values(here), abs=1e-5)
    assert len(set(values(here))) > 1


def test_it_is_described_as_the_critic_that_is_served() -> None:
    with serving(Redness()) as address:
        critic = Http(address=address)
    assert critic.name == "http:redness"
    assert (critic.range, critic.target, critic.needs) == ((0.0, 1.0), 0.9, {"wish"})
    assert (critic.licence, critic.size_mb) == ("none", 1.5)
    assert critic.kin == {"redness"}


def test_a_critic_on_a_server_that_does_not_say_what_it_looks_with_is_called_by_its_address() -> None:
    described = description_record(Redness(), __version__)
    del described["kin"]
    with answering(http("200 OK", json.dumps(described).encode())) as (address, _):
        assert Http(address=address).kin == {f"http:{address}"}


def test_another_port_is_the_same_critic() -> None:
    with serving(Redness()) as one, serving(Redness()) as other:
        assert one != other
        assert Http(address=one).version == Http(address=other).version == "http-redness@7"


def test_it_is_loaded_by_its_address() -> None:
    with serving(Redness()) as address:
        reward = load_reward(f"http:{address}", options={"http": {"batch": 3}})
        assert values(reward.score([RED], wished("a"))) == [200 / 255]


def test_scores_of_many_requests_come_in_order() -> None:
    pictures = [Image.new("RGB", (4, 4), (index, 0, 0)) for index in range(23)]
    with serving(Redness()) as address:
        scores = Http(address=address, batch=2, concurrency=3).score(pictures, wished(*map(str, range(23))))
    assert values(scores) == [index / 255 for index in range(23)]
    assert [score.reason for score in scores] == [str(index) for index in range(23)]
    assert scores[0].cost == {"looks": 1.0}


def test_no_pictures_have_no_scores() -> None:
    with serving(Redness()) as address:
        assert Http(address=address).score([], []) == []


def test_a_picture_that_cannot_be_scored_fails_alone() -> None:
    with serving(Redness()) as address:
        scores = Http(address=address).score([RED, BLUE, GREEN], wished("a", "b", "c"))
    assert values(scores) == [200 / 255, None, 0]
    assert scores[1].error == "ValueError: cannot bear blue"


def test_prompts_are_checked_there() -> None:
    with serving(Redness()) as address:
        critic = Http(address=address)
        critic.check(wished("a")[0])
        with pytest.raises(PromptError, match=r"^reward 'redness' needs wish for each prompt, and 'plain' has none"):
            critic.check(Prompt("plain"))


def test_a_prompt_is_checked_there_once() -> None:
    described = http("200 OK", json.dumps(description_record(Redness(), __version__)).encode())
    with answering(described, http("200 OK", b"{}"), http("422 Unprocessable", b'{"error": "no"}')) as (address, asked):
        critic = Http(address=address, retries=0)
        for _ in range(3):
            critic.check(wished("a")[0])
        with pytest.raises(PromptError):
            critic.check(wished("b")[0])
    assert len(asked) == 3


def test_a_request_that_is_too_large_is_halved_until_it_fits() -> None:
    served = Redness()
    with serving(served, most_bytes=2_000) as address:
        scores = Http(address=address).score([RED] * 20, wished(*map(str, range(20))))
    assert values(scores) == [200 / 255] * 20
    assert sorted((text for call in served.calls for text in call), key=int) == [str(index) for index in range(20)]


def test_a_picture_that_is_too_large_fails_alone() -> None:
    with serving(Redness(), most_bytes=2_000) as address:
        large = Image.effect_noise((100, 100), 50).convert("RGB")
        small, failed = Http(address=address).score([RED, large], wished("small", "large"))
    assert small.value == 200 / 255
    assert failed.value is None
    assert "answers 413: a request may have 2000 bytes" in str(failed.error)


def test_a_proxy_does_not_lead_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    with serving(Redness()) as address:
        assert values(Http(address=address).score([RED], wished("a"))) == [200 / 255]


# Tokens


def test_the_token_of_the_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_TOKEN", TOKEN)
    with serving(Redness(), token=TOKEN) as address:
        critic = Http(address=address, token_variable="OUR_TOKEN")
        assert values(critic.score([RED], wished("a"))) == [200 / 255]


@pytest.mark.parametrize(("token", "problem"), [("", "a token, and there is none"), ("guess", "another token than")])
def test_a_missing_or_wrong_token_is_said_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, token: str, problem: str
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with serving(Redness(), token=TOKEN) as address, pytest.raises(UsageError, match=problem) as refused:
        Http(address=address)
    assert f"in the environment variable {TOKEN_VARIABLE}." in str(refused.value)
    assert "guess" not in str(refused.value)


def test_a_server_that_repeats_the_token_does_not_get_it_into_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    echo = http("400 Bad Request", json.dumps({"detail": f"no {TOKEN}!"}).encode())
    with answering(GREETING, echo) as (address, requests):
        (score,) = Http(address=address).score([RED], wished("a"))
    assert f"Bearer {TOKEN}".encode() in requests[1]
    assert score.error == f"http:{address} answers 400: no ...!."


def test_a_token_that_travels_in_clear_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with answering(GREETING) as (address, _):
        Http(address=address)
    assert not caplog.records  # not on this machine
    with answering(GREETING) as (address, _):
        Http(address=address.replace("127.0.0.1", "0.0.0.0"))
    (record,) = caplog.records
    assert "travels to http://0.0.0.0:" in record.message
    assert TOKEN not in record.message


def test_redirects_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with answering(GREETING) as (elsewhere, requests):
        moved = http("307 Temporary Redirect", b"", f"Location: http:{elsewhere}/")
        with answering(moved) as (address, _), pytest.raises(UsageError, match="a redirect, which is not followed"):
            Http(address=address)
        assert not requests


# Servers that fail


def test_nobody_there_is_an_error_that_says_what_to_start() -> None:
    with answering() as (address, _):
        pass
    with pytest.raises(UsageError) as refused:
        Http(address=address)
    assert str(refused.value).startswith(f"nothing answers at http:{address}: ")
    assert str(refused.value).endswith("Start the critic with: milr serve-reward NAME")


@pytest.mark.parametrize("answer", [http("200 OK", b"<html>"), http("200 OK", b"{}"), http("200 OK", b"[" * 10**5)])
def test_any_other_server_is_no_critic(answer: bytes) -> None:
    with answering(answer) as (address, _), pytest.raises(UsageError, match="is not a critic of milr serve-reward: "):
        Http(address=address)


def test_a_server_that_does_not_know_the_path_is_no_critic() -> None:
    with serving(Redness()) as address, pytest.raises(UsageError, match=r"/elsewhere answers 404: Not Found\.$"):
        Http(address=f"{address}/elsewhere/")


@pytest.mark.parametrize(
    "trouble",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", OVERLOADED, http("429 Too Many", b"")],
    ids=["closed without an answer", "closed within the answer", "overloaded", "too many"],
)
def test_a_request_that_met_trouble_is_made_again(trouble: bytes) -> None:
    with answering(GREETING, trouble, SCORED) as (address, requests):
        assert Http(address=address, retries=1).score([RED], wished("a")) == [Score(0.5)]
    assert requests[1] == requests[2]


def test_a_server_that_stays_in_trouble_is_a_failure_with_a_reason() -> None:
    with answering(GREETING, OVERLOADED, OVERLOADED) as (address, requests):
        scores = Http(address=address, retries=1).score([RED, RED], wished("a", "b"))
    assert scores == [Score(None, error=f"http:{address} answers 503: no reason given.")] * 2
    assert len(requests) == 3


def test_a_server_that_is_gone_is_a_failure_with_a_reason() -> None:
    with serving(Redness()) as address:
        critic = Http(address=address, retries=0)
        assert values(critic.score([RED], wished("a"))) == [200 / 255]
    (score,) = critic.score([RED], wished("a"))
    assert score.value is None
    assert str(score.error).startswith(f"nothing answers at http:{address}: ")
    with pytest.raises(UsageError, match="nothing answers at"):
        critic.check(wished("a")[0])


def test_a_server_that_says_nothing_is_not_asked_twice() -> None:
    with answering(GREETING, None, SCORED) as (address, requests):
        (score,) = Http(address=address, timeout=0.2, retries=3).score([RED], wished("a"))
    assert score.error == f"http:{address} gives no answer within 0.2 s."
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (http("200 OK", b"no json"), "the answer is not JSON."),
        (http("200 OK", b'{"scores": []}'), "scores has 0 entries where 1 belong."),
        (http("200 OK", b'{"scores": [{"value": "much"}]}'), "value is not a number."),
    ],
)
def test_an_answer_of_another_form_is_a_failure(answer: bytes, problem: str) -> None:
    with answering(GREETING, answer) as (address, _):
        (score,) = Http(address=address).score([RED], wished("a"))
    assert score.error == f"http:{address} does not answer as a critic: {problem}"


# Addresses and options


@pytest.mark.parametrize("address", ["", "//", "//:8000", "//host:port", "//host/?a=b", "host"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="reward 'http' needs an address; write --reward http://HOST:PORT"):
        Http(address=address)


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match="holds no password") as refused:
        Http(address="//me:pa55word@127.0.0.1:8000")
    assert "pa55word" not in str(refused.value)


@pytest.mark.parametrize("option", [{"timeout": 0}, {"retries": -1}, {"batch": 0}, {"concurrency": 0}])
def test_options_out_of_range_are_refused(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(UsageError, match=rf"^reward\.http\.{name} is "):
        Http(address="//127.0.0.1:1", **option)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that nobody else trusts, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    files = (str(folder / "certificate.pem"), str(folder / "key.pem"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", files[0], "-keyout", files[1]),
        ],
        check=True,
        capture_output=True,
    )
    return files


def test_a_certificate_is_checked(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Redness(), certificate=certificate) as address:
        with pytest.raises(UsageError, match="certificate verify failed"):
            Https(address=address)
        monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
        critic = Https(address=address)
        assert values(critic.score([RED], wished("a"))) == [200 / 255]
    assert (critic.name, critic.version) == ("https:redness", "http-redness@7")


def test_pictures_of_another_model_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    described = json.dumps(description_record(Redness(), __version__, "mini")).encode()
    for name, warned in (("mini", False), ("janus-pro-7b", True)):
        caplog.clear()
        with answering(http("200 OK", described)) as (address, _):
            Http(address=address, facts=facts_of(name))
        assert ("looks at pictures of 'mini', and these are of 'janus-pro-7b'" in caplog.text) == warned


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_ANSWER", 1000)
    with (
        answering(http("200 OK", b" " * 5000)) as (address, _),
        pytest.raises(UsageError, match=r"more than 0\.001 MB"),
    ):
        Http(address=address)


@pytest.mark.parametrize("name", ["sk-1234567890abcdef", "my token", ""])
def test_a_token_where_its_name_belongs_is_refused_and_not_shown(name: str) -> None:
    with pytest.raises(UsageError, match="the NAME of an environment variable") as refused:
        Http(address="//127.0.0.1:1", token_variable=name)
    assert not name or name not in str(refused.value)


@pytest.mark.parametrize("address", ["//a..b", "//", "", "//[::1", "//a b"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"needs an address|nothing answers"):
        Http(address=address)
