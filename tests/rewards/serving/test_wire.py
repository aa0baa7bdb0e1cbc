"""What travels between a served critic and its clients arrives as it was, and nothing else is taken for it."""

from __future__ import annotations

import base64
import json
import math
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from milr.errors import PromptError, UsageError
from milr.prompts import Prompt
from milr.rewards import Score
from milr_rewards.serving.wire import (
    PIXELS,
    MalformedError,
    TooLargeError,
    check_request,
    checked_token,
    description_record,
    is_loopback,
    read_check_request,
    read_description,
    read_score_answer,
    read_score_request,
    score_answer,
    score_request,
)
from tests.rewards.live_server import RED, Redness

PROMPT = Prompt("ein Café, 猫", "some-id", {"include": [{"class": "cat", "count": 2}], "tag": None})


def png(width: int, height: int, mode: str = "1") -> str:
    content = BytesIO()
    Image.new(mode, (width, height)).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def body(**changes: Any) -> bytes:
    """A request for one picture, with changes."""
    return json.dumps({"prompts": [{"text": "a"}], "images": [png(2, 2)]} | changes).encode()


def test_prompts_arrive_with_id_and_metadata() -> None:
    assert read_check_request(check_request([PROMPT, Prompt("two")])) == [PROMPT, Prompt("two")]


@given(st.integers(1, 9), st.integers(1, 9), st.binary(min_size=243, max_size=243))
def test_pictures_arrive_to_the_last_bit(width: int, height: int, pixels: bytes) -> None:
    picture = Image.frombytes("RGB", (width, height), pixels[: 3 * width * height])
    ((arrived, prompt),) = read_score_request(score_request([(picture, PROMPT)]))
    assert (arrived.mode, arrived.size, arrived.tobytes()) == ("RGB", picture.size, picture.tobytes())
    assert prompt == PROMPT


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "F"])
def test_pictures_of_any_mode_travel_as_rgb(mode: str) -> None:
    picture = RED.convert(mode)
    ((arrived, _),) = read_score_request(score_request([(picture, PROMPT)]))
    assert arrived.tobytes() == picture.convert("RGB").tobytes()


@pytest.mark.parametrize(
    "score",
    [
        Score(0.1, {"a": -1e-300, "nothing": math.inf}, "as asked", cost={"tokens": 3.0}),
        Score(None, {"a": 1.0}, "", "cannot bear blue"),
    ],
)
def test_scores_arrive_as_they_were(score: Score) -> None:
    answer = json.loads(json.dumps(score_answer([score]), allow_nan=False))
    assert read_score_answer(answer, 1) == [score]


def test_a_part_that_is_no_number_stays_none() -> None:
    answer = json.loads(json.dumps(score_answer([Score(1.0, {"a": math.nan})]), allow_nan=False))
    assert math.isnan(read_score_answer(answer, 1)[0].parts["a"])


def test_a_description_arrives_with_infinite_bounds() -> None:
    critic = Redness()
    critic.range = (-math.inf, math.inf)
    critic.target = None
    record = json.loads(json.dumps(description_record(critic, "1.0"), allow_nan=False))
    described = read_description(record)
    assert (described.name, described.version, described.needs) == ("redness", "7", {"wish"})
    assert (described.range, described.target) == ((-math.inf, math.inf), None)
    assert (described.licence, described.size_mb) == ("none", 1.5)


def test_a_description_says_what_the_critic_looks_with_unless_the_server_is_older() -> None:
    critic = Redness()
    critic.kin = frozenset({"owner/name", "other/name"})
    record = json.loads(json.dumps(description_record(critic, "1.0")))
    assert read_description(record).kin == critic.kin
    del record["kin"]
    assert read_description(record).kin == frozenset()


def test_a_description_of_another_protocol_is_refused() -> None:
    with pytest.raises(MalformedError, match="its protocol is 2, and this milr speaks 1"):
        read_description(description_record(Redness(), "1.0") | {"protocol": 2})


@pytest.mark.parametrize(
    ("request_body", "problem"),
    [
        (b"", "the request is not JSON."),
        (b"\xff\xfe", "the request is not JSON."),
        (b"[" * 10**5, "the request is not JSON."),
        (b"[]", "the request is not an object."),
        (body(prompts="a"), "prompts is not a list."),
        (body(prompts=["a"]), "a prompt is not an object."),
        (body(prompts=[{"text": 3}]), "text is not a text."),
        (body(prompts=[{"text": "a", "metadata": []}]), "metadata is not an object."),
        (body(images=[]), "images has 0 entries where 1 belong."),
        (body(images=[None]), "picture 1 is not a text."),
        (body(images=["***"]), "picture 1 is not base64."),
        (body(images=["é"]), "picture 1 is not base64."),
        (body(images=["AAAA"]), "picture 1 is not a PNG, or a damaged one."),
        (body(images=[png(64, 64, "RGB")[:80]]), "picture 1 is not a PNG, or a damaged one."),
    ],
)
def test_anything_else_is_refused_in_a_sentence(request_body: bytes, problem: str) -> None:
    with pytest.raises(MalformedError) as refused:
        read_score_request(request_body)
    assert str(refused.value) == problem


def test_a_picture_in_another_format_is_refused() -> None:
    content = BytesIO()
    RED.save(content, "GIF")
    with pytest.raises(MalformedError, match="not a PNG"):
        read_score_request(body(images=[base64.b64encode(content.getvalue()).decode()]))


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(PromptError, match="empty"):
        read_score_request(body(prompts=[{"text": " "}]))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("height", [4097, 40_000, 80_000])
def test_a_small_file_of_very_many_pixels_is_refused(height: int) -> None:
    bomb = png(4096, height)
    assert len(bomb) < 10**6
    with pytest.raises(TooLargeError, match=f"picture 1 has too many pixels; {PIXELS} fit"):
        read_score_request(body(images=[bomb]))


def test_many_pictures_of_many_pixels_are_refused_together() -> None:
    full = png(4096, 4096)
    with pytest.raises(TooLargeError, match="picture 9 has too many pixels"):
        read_score_request(body(images=[full] * 9, prompts=[{"text": "a"}] * 9))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ([], "the answer is not an object."),
        ({"scores": []}, "scores has 0 entries where 1 belong."),
        ({"scores": [3]}, "a score is not an object."),
        ({"scores": [{"value": True}]}, "value is not a number."),
        ({"scores": [{"value": "much"}]}, "value is not a number."),
        ({"scores": [{"value": 1, "parts": {"a": None}}]}, "parts is not a number."),
    ],
)
def test_an_answer_of_another_form_is_refused(answer: Any, problem: str) -> None:
    with pytest.raises(MalformedError) as refused:
        read_score_answer(answer, 1)
    assert str(refused.value) == problem


def test_a_score_without_value_is_a_failure_also_without_a_reason() -> None:
    assert read_score_answer({"scores": [{}]}, 1)[0].error == "the critic gave no reason"


@pytest.mark.parametrize("token", ["two words", "ключ", "line\nbreak"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(UsageError, match="the token in SECRET has") as refused:
        checked_token(token, "SECRET")
    assert token not in str(refused.value)


@pytest.mark.parametrize("token", [None, ""])
def test_an_empty_token_is_none(token: str | None) -> None:
    assert checked_token(token, "SECRET") is None


def test_this_machine_is_known_by_its_addresses() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.2", "example.org", ""))
