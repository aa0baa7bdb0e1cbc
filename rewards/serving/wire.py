"""What travels between `milr serve-reward` and the critic `http`: JSON, with pictures as PNG in base64.

    GET  /        {"protocol": 1, "milr": "0.1.0", "name": "geneval", "version": ..., "range": [-1.0, 1.0], ...}
    GET  /health  {"status": "ok"}
    POST /check   {"prompts": [PROMPT, ...]}                       {"status": "ok"}
    POST /score   {"prompts": [PROMPT, ...], "images": [PNG, ...]} {"scores": [SCORE, ...]}

A PROMPT is {"text", "id", "metadata"}; a SCORE has the fields of `milr.rewards.Score`. Numbers that JSON has no word
for are texts, "inf" and "nan". Pictures travel as RGB, without loss. What goes wrong is {"detail": "one sentence"} with
a status: 400 not of this form, 401 another token, 413 too much at once, 422 a prompt that cannot be scored.

What is read here was written by somebody else: each reader refuses what it does not expect. Pure functions; nothing
here knows of servers, files or networks.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from ipaddress import ip_address
from typing import Any

from PIL import Image

from milr.errors import UsageError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

PROTOCOL = 1
TOKEN_VARIABLE = "MILR_REWARD_TOKEN"
PIXELS = 2**24  # of one picture: 4096 x 4096
ALL_PIXELS = 2**27  # of one request: 384 MB of RGB

Record = dict[str, Any]
Pair = tuple[Image.Image, Prompt]


class MalformedError(ValueError):
    """Not of the form above; one sentence."""


class TooLargeError(ValueError):
    """More than is accepted at once; one sentence."""


@dataclass(frozen=True)
class Description:
    """What a client must know of a critic before it asks; the attributes of `milr.rewards.Reward`."""

    name: str
    version: str
    range: tuple[float, float]
    target: float | None
    needs: frozenset[str]
    licence: str
    size_mb: float
    model: str = ""  # whose pictures it looks at, where that is known
    kin: frozenset[str] = frozenset()  # older servers do not say


def description_record(reward: Reward, milr_version: str, model: str = "") -> Record:
    """What `GET /` answers; `model` is whose pictures the critic looks at."""
    return {
        "protocol": PROTOCOL,
        "milr": milr_version,
        "name": reward.name,
        "version": reward.version,
        "range": [_written(end) for end in reward.range],
        "target": None if reward.target is None else _written(reward.target),
        "needs": sorted(reward.needs),
        "licence": reward.licence,
        "size_mb": _written(reward.size_mb),
        "model": model,
        "kin": sorted(reward.kin),
    }


def read_description(record: Any) -> Description:
    """The reader of `description_record`.

    Raises:
        MalformedError: it is something else, or of another version of milr.
    """
    record = _mapping(record, "the description")
    if record.get("protocol") != PROTOCOL:
        raise MalformedError(f"its protocol is {record.get('protocol')!r}, and this milr speaks {PROTOCOL}.")
    low, high = (_number(end, "range") for end in _list(record.get("range"), "range", length=2))
    target = record.get("target")
    return Description(
        name=_text(record.get("name"), "name"),
        version=_text(record.get("version"), "version"),
        range=(low, high),
        target=None if target is None else _number(target, "target"),
        needs=frozenset(_text(key, "needs") for key in _list(record.get("needs"), "needs")),
        licence=_text(record.get("licence"), "licence"),
        size_mb=_number(record.get("size_mb"), "size_mb"),
        model=_text(record.get("model", ""), "model"),
        kin=frozenset(_text(name, "kin") for name in _list(record.get("kin", []), "kin")),
    )


def check_request(prompts: Sequence[Prompt]) -> bytes:
    """The body of `POST /check`."""
    return json.dumps({"prompts": [_prompt_record(prompt) for prompt in prompts]}).encode()


def score_request(pairs: Sequence[Pair]) -> bytes:
    """The body of `POST /score`."""
    images = [_png(image) for image, _ in pairs]
    return json.dumps({"prompts": [_prompt_record(prompt) for _, prompt in pairs], "images": images}).encode()


def read_check_request(body: bytes) -> list[Prompt]:
    """The reader of `check_request`.

    Raises:
        MalformedError: it is something else.
        PromptError: a prompt is empty.
    """
    return _prompts(_mapping(_parsed(body), "the request"))


def read_score_request(body: bytes) -> list[Pair]:
    """The reader of `score_request`; pictures are RGB.

    Raises:
        MalformedError: it is something else.
        TooLargeError: pictures of more pixels than one request may bring.
        PromptError: a prompt is empty.
    """
    record = _mapping(_parsed(body), "the request")
    prompts = _prompts(record)
    texts = _list(record.get("images"), "images", length=len(prompts))
    images: list[Image.Image] = []
    left = ALL_PIXELS
    for number, text in enumerate(texts, start=1):
        images.append(_picture(text, f"picture {number}", min(left, PIXELS)))
        left -= images[-1].width * images[-1].height
    return list(zip(images, prompts, strict=True))


def score_answer(scores: Sequence[Score]) -> Record:
    """What `POST /score` answers."""
    return {"scores": [_score_record(score) for score in scores]}


def read_score_answer(record: Any, count: int) -> list[Score]:
    """The reader of `score_answer`, for so many pictures.

    Raises:
        MalformedError: it is something else.
    """
    records = _list(_mapping(record, "the answer").get("scores"), "scores", length=count)
    return [_score(_mapping(each, "a score")) for each in records]


def checked_token(text: str | None, variable: str) -> str | None:
    """The token in an environment variable; None where it is not set or empty. No error ever shows it.

    Raises:
        UsageError: it cannot stand in a header.
    """
    if text and not all("!" <= character <= "~" for character in text):
        raise UsageError(f"the token in {variable} has spaces or letters outside ASCII, which no header can carry.")
    return text or None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, reached from it alone."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _prompt_record(prompt: Prompt) -> Record:
    return {"text": prompt.text, "id": prompt.id, "metadata": dict(prompt.metadata)}


def _prompts(record: Mapping[str, Any]) -> list[Prompt]:
    prompts = []
    for each in _list(record.get("prompts"), "prompts"):
        prompt = _mapping(each, "a prompt")
        text, identity = _text(prompt.get("text"), "text"), _text(prompt.get("id", ""), "id")
        prompts.append(Prompt(text, identity, _mapping(prompt.get("metadata", {}), "metadata")))
    return prompts


def _score_record(score: Score) -> Record:
    return {
        "value": None if score.value is None else _written(score.value),
        "parts": {name: _written(part) for name, part in score.parts.items()},
        "reason": score.reason,
        "error": score.error,
        "cost": {name: _written(amount) for name, amount in score.cost.items()},
    }


def _score(record: Record) -> Score:
    value = record.get("value")
    parts, cost = (_mapping(record.get(name, {}), name) for name in ("parts", "cost"))
    return Score(
        None if value is None else _number(value, "value"),
        {name: _number(part, "parts") for name, part in parts.items()},
        _text(record.get("reason", ""), "reason"),
        None if value is not None else _text(record.get("error") or "the critic gave no reason", "error"),
        {name: _number(amount, "cost") for name, amount in cost.items()},
    )


def _png(image: Image.Image) -> str:
    content = BytesIO()
    image.convert("RGB").save(content, "PNG", compress_level=1)
    return base64.b64encode(content.getvalue()).decode("ascii")


def _picture(text: Any, what: str, most_pixels: int) -> Image.Image:
    _text(text, what)
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        raise MalformedError(f"{what} is not base64.") from None
    try:
        image = Image.open(BytesIO(content), formats=["PNG"])  # reads the size, and no pixel yet
        if image.width * image.height <= most_pixels:
            return image.convert("RGB")
    except Image.DecompressionBombError:
        pass
    except Exception:  # Pillow refuses damaged files in many ways
        raise MalformedError(f"{what} is not a PNG, or a damaged one.") from None
    raise TooLargeError(f"{what} has too many pixels; {PIXELS} fit into a picture, and {ALL_PIXELS} into a request.")


def _written(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedError("the request is not JSON.") from None


def _mapping(value: Any, what: str) -> Record:
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is not an object.")
    return value


def _list(value: Any, what: str, length: int | None = None) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedError(f"{what} is not a list.")
    if length is not None and len(value) != length:
        raise MalformedError(f"{what} has {len(value)} entries where {length} belong.")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{what} is not a text.")
    return value


def _number(value: Any, what: str) -> float:
    try:
        if not isinstance(value, bool | None):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise MalformedError(f"{what} is not a number.")
