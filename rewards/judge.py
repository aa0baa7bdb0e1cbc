"""The critic `judge`: a vision model behind an OpenAI-compatible endpoint, asked about each picture.

    --reward judge:wise-verified --set reward.judge.url=http://127.0.0.1:8000/v1     a model that vLLM serves here
    OPENAI_API_KEY=... --reward judge:gpt-4o-binary                                  a commercial one

What is asked and how replies are read is a preset's business (`judging.presets`), HTTP that of `judging.endpoint`.
Replies are kept on disk (`judging.cache`), so that no picture is paid for twice. Pictures are sent as they are, in PNG.

The key is taken from the environment and nowhere else. It is in no option, and so in no configuration that is written.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from PIL import Image

from milr.errors import PromptError, UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import Reward, Score, image_hash, one_line
from milr.secrets import LIKE_A_KEY, checked_variable

from .judging.cache import ReplyCache, default_path
from .judging.endpoint import SHORTEST_SECRET, Connection, Endpoint, Spent, in_parallel
from .judging.presets import PRESETS, SYSTEM, Verdict, explanation_of

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

OPENAI = "https://api.openai.com/v1"

_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|0\d{2})$")  # GPT-4o of May and of November are kin
LONGEST_REASON = 160  # characters


class Judge(Reward):
    """The verdict of a vision model behind an OpenAI-compatible endpoint.

    Args:
        address: a preset; what stands behind the colon of `--reward judge:wise`.
        preset: "wise-verified" and "wise" ask whether the world knowledge behind a WISE prompt is in the picture, and
            need its `explanation`; "gpt-4o-binary" asks whether the picture shows the prompt.
        url: the base of the endpoint; by default $MILR_JUDGE_URL, $OPENAI_BASE_URL or OpenAI's.
        model: as the endpoint names it; that of the preset when not given.
        timeout: seconds for one request; judges that reason take long.
        retries: further attempts for a picture after the first.
        concurrency: requests under way at a time.
        requests_per_minute: how many may start; 0 for any number.
        max_tokens: the length of a reply, reasoning included; that of the preset when not given, 0 for the server's.
        temperature: None for the server's; some models take no other.
        usd_per_million_input, usd_per_million_output: what tokens cost; no dollars are reported while both are 0.
        cache: the file of known replies; milr/judge.sqlite in the user's cache folder when not given, "none" for none.
        key_variable: the environment variable with the key; $MILR_JUDGE_KEY or $OPENAI_API_KEY when not given. Local
            servers need none.
        facts, device: unused.

    Raises:
        UnknownNameError: there is no such preset.
        UsageError: an option has an impossible value, or holds a key.
    """

    name = "judge"
    range = (0.0, 1.0)
    incidental = frozenset(
        {"url", "timeout", "retries", "concurrency", "requests_per_minute", "cache", "key_variable"}
        | {"usd_per_million_input", "usd_per_million_output", "device"}
    )
    checkpoint = PRESETS["wise-verified"].model
    licence = "Apache-2.0 (Qwen3.5), or the provider's terms"

    def __init__(
        self,
        *,
        address: str = "",
        preset: Literal["wise-verified", "wise", "gpt-4o-binary"] = "wise-verified",
        url: str = "",
        model: str = "",
        timeout: float = 120.0,
        retries: int = 4,
        concurrency: int = 8,
        requests_per_minute: float = 0.0,
        max_tokens: int | None = None,
        temperature: float | None = 0.0,
        usd_per_million_input: float = 0.0,
        usd_per_million_output: float = 0.0,
        cache: str = "",
        key_variable: str = "",
        facts: ModelFacts | None = None,
        device: str = "cpu",
    ) -> None:
        url = url or os.environ.get("MILR_JUDGE_URL") or os.environ.get("OPENAI_BASE_URL") or OPENAI
        variable, key = _key(key_variable)
        _refuse_keys({"address": address, "preset": preset, "model": model, "url": url, "cache": cache}, key)
        if (address or preset) not in PRESETS:
            raise UnknownNameError("preset of reward 'judge':", address or preset, PRESETS)
        for option, given, least in (
            ("timeout", timeout, 0.001),
            ("retries", retries, 0),
            ("concurrency", concurrency, 1),
            ("requests_per_minute", requests_per_minute, 0),
            ("max_tokens", max_tokens or 0, 0),
            ("temperature", temperature or 0, 0),
            ("usd_per_million_input", usd_per_million_input, 0),
            ("usd_per_million_output", usd_per_million_output, 0),
        ):
            if not given >= least:
                raise UsageError(f"reward.judge.{option} is at least {least}, not {given}.")
        self._preset = PRESETS[address or preset]
        self._model = model or self._preset.model
        self.kin = frozenset({_SNAPSHOT.sub("", self._model)})
        self._host = _host(url)
        self._concurrency = concurrency
        self._limits = {
            "max_completion_tokens": self._preset.max_tokens if max_tokens is None else max_tokens or None,
            "temperature": temperature,
        }
        self._usd = (usd_per_million_input, usd_per_million_output)
        self._cache = ReplyCache(None if cache == "none" else cache or default_path())
        self._lacks_key = self._host == urlsplit(OPENAI).hostname and not key
        self._endpoint = Endpoint(
            url, key, variable, timeout=timeout, retries=retries, requests_per_minute=requests_per_minute
        )
        self.target = self._preset.target
        self.needs = frozenset({"explanation"}) if self._preset.explained else frozenset()
        self.version = f"{self._preset.name}-{self._preset.version}-{self._model}"
        if temperature != 0:
            self.version += f"-t{'default' if temperature is None else format(temperature, 'g')}"

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that the preset cannot ask about; the server is not contacted.

        Raises:
            PromptError: the prompt lacks the explanation of what it means.
            UsageError: the endpoint is OpenAI's, and there is no key.
        """
        if self._preset.explained and not explanation_of(prompt):
            raise PromptError(
                f"reward 'judge' needs an explanation of each prompt for {self._preset.name!r}, and "
                f"{prompt.text[:60]!r} has none; give the prompts as JSON lines, "
                '{"prompt": "...", "explanation": "..."}, or choose judge:gpt-4o-binary, which needs none.'
            )
        if self._lacks_key:
            raise UsageError(
                f"reward 'judge' has no key for {self._host}: {self._endpoint.advice}, or give the address of another "
                "server: --set reward.judge.url=http://127.0.0.1:8000/v1."
            )

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        pairs = list(zip(images, prompts, strict=True))
        if not pairs:
            return []
        with self._endpoint.connected() as connection:
            return in_parallel(lambda pair: self._score(connection, *pair), pairs, self._concurrency)

    def _score(self, connection: Connection, image: Image.Image, prompt: Prompt) -> Score:
        try:
            picture = image.convert("RGB")
        except OSError as error:  # a file that was opened and cannot be read
            return Score(None, error=f"the picture cannot be read: {error}")
        question = self._preset.question(prompt)
        key = self._cache_key(picture, question)
        known = self._known(key)
        if known is not None:
            return self._as_score(known)
        answer = connection.ask(self._request(picture, question), self._preset.read)
        cost = self._cost(answer.spent)
        if answer.text is None:
            return Score(None, error=answer.error, cost=cost)
        self._cache.put(key, answer.text, answer.spent.input_tokens, answer.spent.output_tokens)
        return replace(self._as_score(self._preset.read(answer.text)), cost=cost)

    def _known(self, key: str) -> Verdict | None:
        reply = self._cache.get(key)
        try:
            return None if reply is None else self._preset.read(reply)
        except ValueError:  # somebody changed the file; what is asked again replaces it
            return None

    def _cache_key(self, picture: Image.Image, question: str) -> str:
        """Changes with whatever may change the reply; ports do not, since a server of one's own moves between them."""
        identity = [self._preset.version, self._model, self._host, SYSTEM, question, image_hash(picture), self._limits]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def _request(self, picture: Image.Image, question: str) -> dict[str, Any]:
        content = io.BytesIO()
        picture.save(content, "PNG")
        address = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
        user = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": address}}]
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]
        given = {name: value for name, value in self._limits.items() if value is not None}
        return {"model": self._model, "messages": messages, **given}

    def _as_score(self, verdict: Verdict) -> Score:
        grades = ", ".join(f"{name.replace('_', ' ')} {grade:g}" for name, grade in verdict.parts.items())
        words = ": ".join(part for part in (grades, verdict.reason) if part)
        # JSON within JSON can spell the key in a way that only now is plain.
        return Score(verdict.value, verdict.parts, one_line(self._endpoint.redact(words), LONGEST_REASON))

    def _cost(self, spent: Spent) -> dict[str, float]:
        """What is known of it: a server that counts no tokens costs none that could be reported."""
        cost: dict[str, float] = {"requests": spent.requests}
        if spent.input_tokens or spent.output_tokens:
            cost |= {"input_tokens": spent.input_tokens, "output_tokens": spent.output_tokens}
            if any(self._usd):
                cost["usd"] = (spent.input_tokens * self._usd[0] + spent.output_tokens * self._usd[1]) / 1e6
        return cost


def _key(variable: str) -> tuple[str, str]:
    """The environment variable with the key, and the key; empty where there is none.

    Raises:
        UsageError: the variable that the user named is not set, or what it holds is no key. Neither is shown: people
            paste the key where its name belongs.
    """
    if variable:
        checked_variable(variable, "reward.judge.key_variable")
    names = [variable] if variable else ["MILR_JUDGE_KEY", "OPENAI_API_KEY"]
    name = next((name for name in names if os.environ.get(name)), names[-1])
    key = os.environ.get(name, "").strip()
    if variable and not key:
        raise UsageError("reward.judge.key_variable names an environment variable that is not set; export it first.")
    if not re.fullmatch(r"[!#-\[\]-~]*", key):  # what a header takes, less the quote and the backslash
        raise UsageError(f"the environment variable {name} holds no usable key: it has spaces or unusual characters.")
    return name, key


def _refuse_keys(options: dict[str, str], key: str) -> None:
    """Refuses options into which a key was pasted, and does not repeat it.

    Hosts and folders may look like keys, and only the key itself is refused in them.
    """
    for option, given in options.items():
        looks_like_one = option not in ("url", "cache") and LIKE_A_KEY.search(given)
        if looks_like_one or (len(key) >= SHORTEST_SECRET and key in given):
            raise UsageError(
                f"reward.judge.{option} holds what looks like a key; keys come from the environment alone "
                "(export OPENAI_API_KEY=...). Take it out, and replace a key that others may have seen."
            )


def _host(url: str) -> str:
    """The host of a usable base URL.

    Raises:
        UsageError: it is no such URL. It is not shown: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[^!-~]", url):
        raise UsageError(
            "reward.judge.url is no address of an endpoint; it looks like https://api.openai.com/v1 or "
            "http://127.0.0.1:8000/v1."
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            "reward.judge.url takes no user, password, query or fragment; keys come from the environment alone "
            "(export OPENAI_API_KEY=...)."
        )
    return str(parts.hostname)
