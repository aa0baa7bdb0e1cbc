"""The critics `http` and `https`: a critic that runs elsewhere, behind `milr serve-reward`.

    --reward http://127.0.0.1:8000        --reward https://critics.example.org/geneval=0.5

Several requests are under way at once. One that fails is made again, later and later; when it fails for good, the
pictures that it brought are recorded failures, and the run goes on. A request that is too large is halved.

A run's identity holds what is served, not where: another port or host is the same critic. The token comes from an
environment variable, and stands in no setting, message or output. Redirects are not followed, since they would carry
the token elsewhere.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL import Image

from milr.bounded import TooLongError, read_bounded
from milr.errors import PromptError, UsageError
from milr.prompts import Prompt
from milr.rewards import Reward, Score, one_line
from milr.secrets import checked_variable

from .networks.batching import batches
from .serving.wire import (
    TOKEN_VARIABLE,
    Description,
    MalformedError,
    Pair,
    check_request,
    checked_token,
    is_loopback,
    read_description,
    read_score_answer,
    score_request,
)

if TYPE_CHECKING:
    import httpx

    from milr.models.base import ModelFacts

LONGEST_ANSWER = 64 * 2**20  # bytes
GREETING_SECONDS = 10.0  # for the first answer, which costs a server nothing
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0  # seconds before a request is made again; doubled each time
TOO_LARGE, CANNOT_BE_SCORED = 413, 422

_log = logging.getLogger(__name__)


class RefusedError(Exception):
    """No answer of use; one sentence, and the status where there was an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class UnavailableError(RefusedError):
    """The same, and it may be otherwise in a moment."""


class Http(Reward):
    """A critic that runs elsewhere: milr serve-reward NAME there, --reward http://HOST:PORT here.

    Args:
        address: "//HOST:PORT", with a path where the server has one.
        facts: of the model whose pictures are scored; the server has its own, and others are warned of.
        device: unused.
        timeout: seconds to wait for an answer.
        retries: how often a request that met no server, or an overloaded one, is made again.
        batch: pictures of one request.
        concurrency: requests under way at once.
        token_variable: the environment variable that holds the token, where the server wants one.

    Raises:
        UsageError: no such address, nobody answers there, or not a milr critic; the server wants another token.
    """

    name = "http"
    licence = "as the critic that is served"
    incidental = frozenset({"address", "timeout", "retries", "batch", "concurrency", "token_variable", "device"})
    scheme = "http"

    def __init__(
        self,
        *,
        address: str = "",
        facts: ModelFacts | None = None,
        device: str = "cpu",
        timeout: float = 120.0,
        retries: int = 5,
        batch: int = 16,
        concurrency: int = 4,
        token_variable: str = TOKEN_VARIABLE,
    ) -> None:
        for option, value, least in (("retries", retries, 0), ("batch", batch, 1), ("concurrency", concurrency, 1)):
            if value < least:
                raise UsageError(f"reward.{self.scheme}.{option} is at least {least}, not {value}.")
        if timeout <= 0:
            raise UsageError(f"reward.{self.scheme}.timeout is more than 0 seconds, not {timeout:g}.")
        self._url = _checked_url(self.scheme, address)
        self._timeout, self._retries, self._batch, self._concurrency = timeout, retries, batch, concurrency
        self._token_variable = checked_variable(token_variable, f"reward.{self.scheme}.token_variable")
        self._token = checked_token(os.environ.get(token_variable), token_variable)
        if self._token and self.scheme == "http" and not is_loopback(self._url.host):
            _log.warning("the token in %s travels to %s in clear; use https there", token_variable, self._url)
        served = self._greeting()
        if facts and served.model and facts.name != served.model:
            _log.warning(
                "%s looks at pictures of %r, and these are of %r; serve it with --model %s",
                *(self._url, served.model, facts.name, facts.name),
            )
        self.name = f"{self.scheme}:{served.name}"
        self.version = f"http-{served.name}@{served.version}"
        self.range, self.target, self.needs = served.range, served.target, served.needs
        self.licence, self.size_mb = served.licence, served.size_mb
        self.kin = served.kin or frozenset({f"{self.scheme}:{address}"})
        self._accepted: set[bytes] = set()  # what `check` asked; an evaluation asks again for each row of its table

    def check(self, prompt: Prompt) -> None:
        """Ask the server; errors as of the critic that is served.

        Raises:
            UsageError: the server cannot be asked.
        """
        question = check_request([prompt])
        if question in self._accepted:
            return
        try:
            self._ask_again("POST", "check", question)
        except RefusedError as error:
            kind = PromptError if error.status == CANNOT_BE_SCORED else UsageError
            raise kind(str(error)) from error
        self._accepted.add(question)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        requests = list(batches(list(zip(images, prompts, strict=True)), self._batch))
        if len(requests) == 1:
            return self._score(requests[0])
        with ThreadPoolExecutor(self._concurrency, "milr-http") as pool:
            return [score for scores in pool.map(self._score, requests) for score in scores]

    def _score(self, pairs: Sequence[Pair]) -> list[Score]:
        """The scores of one request; where it is refused, failures that say why."""
        try:
            return read_score_answer(self._ask_again("POST", "score", score_request(pairs)), len(pairs))
        except RefusedError as error:
            if error.status == TOO_LARGE and len(pairs) > 1:
                half = len(pairs) // 2
                return self._score(pairs[:half]) + self._score(pairs[half:])
            reason = str(error)
        except MalformedError as error:
            reason = f"{self._url} does not answer as a critic: {error}"
        return [Score(None, error=reason)] * len(pairs)

    def _greeting(self) -> Description:
        try:
            return read_description(self._ask("GET", "", timeout=GREETING_SECONDS))
        except RefusedError as error:
            nobody = isinstance(error, UnavailableError) and error.status is None
            hint = " Start the critic with: milr serve-reward NAME" if nobody else ""
            raise UsageError(f"{error}{hint}") from error
        except MalformedError as error:
            raise UsageError(f"{self._url} is not a critic of milr serve-reward: {error}") from error

    def _ask_again(self, method: str, path: str, body: bytes) -> Any:
        """`_ask`, until the server has been unavailable once too often."""
        import tenacity

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(UnavailableError),
            stop=tenacity.stop_after_attempt(1 + self._retries),
            wait=tenacity.wait_exponential(FIRST_PAUSE, LONGEST_PAUSE),
            reraise=True,
        )
        return attempts(self._ask, method, path, body)

    def _ask(self, method: str, path: str, body: bytes | None = None, timeout: float | None = None) -> Any:
        """The JSON of an answer.

        Raises:
            UnavailableError: no connection, a broken one, or an overloaded or broken server.
            RefusedError: any other answer, or none in time: what takes so long is not asked for twice.
        """
        import httpx

        seconds = timeout or self._timeout
        try:
            answer = self._bounded(method, f"{self._url}/{path}", body, seconds)
        except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
            raise RefusedError(f"{self._url} gives no answer within {seconds:g} s.") from error
        except TooLongError as error:
            raise RefusedError(f"{self._url} answers with more than {LONGEST_ANSWER / 1e6:g} MB.") from error
        except httpx.TransportError as error:
            raise UnavailableError(f"nothing answers at {self._url}: {_said(str(error))}.") from error
        except httpx.HTTPError as error:  # an answer that cannot be decoded
            raise RefusedError(f"{self._url} gives no answer of use: {_said(str(error))}.") from error
        if answer.status_code == 200:
            return _json(answer)
        message = self._refusal(answer)
        if answer.status_code == 429 or answer.status_code >= 500:
            raise UnavailableError(message, answer.status_code)
        raise RefusedError(message, answer.status_code)

    def _bounded(self, method: str, url: str, body: bytes | None, seconds: float) -> httpx.Response:
        """A whole answer, of bounded length and in bounded time."""
        import httpx

        deadline = time.monotonic() + seconds
        with self._client.stream(method, url, content=body, timeout=seconds) as answer:
            received = read_bounded(answer, LONGEST_ANSWER, deadline)
        headers = {name: value for name, value in answer.headers.items() if name == "location"}
        return httpx.Response(answer.status_code, content=received, headers=headers)

    def _refusal(self, answer: httpx.Response) -> str:
        """Why a request was refused."""
        if answer.status_code == 401:
            said = "another token than that" if self._token else "a token, and there is none"
            return f"{self._url} wants {said} in the environment variable {self._token_variable}."
        if answer.is_redirect:
            return f"{self._url} answers with a redirect, which is not followed; give the address that it leads to."
        try:
            detail = _json(answer)["detail"]
        except (MalformedError, KeyError, TypeError):
            detail = ""
        said = _said(str(detail).replace(self._token or "\0", "..."))
        return said if answer.status_code == CANNOT_BE_SCORED else f"{self._url} answers {answer.status_code}: {said}."

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        without_proxy = {f"all://{self._url.netloc.decode()}": None} if is_loopback(self._url.host) else None
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else None
        return httpx.Client(headers=headers, mounts=without_proxy)


class Https(Http):
    """The same over TLS: --reward https://HOST, certificates checked."""

    name = "https"
    scheme = "https"


def _checked_url(scheme: str, address: str) -> httpx.URL:
    """The address of a server, without a slash at its end."""
    import httpx

    try:
        url = httpx.URL(f"{scheme}:{address.rstrip('/')}")
        url.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        url = httpx.URL()
    if not url.host or url.query or url.fragment:
        raise UsageError(f"reward {scheme!r} needs an address; write --reward {scheme}://HOST:PORT.")
    if url.userinfo:
        raise UsageError(
            f"reward {scheme!r}: an address is written into results and holds no password; put a token into "
            f"the environment variable {TOKEN_VARIABLE}."
        )
    return url


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except (ValueError, RecursionError):
        raise MalformedError("the answer is not JSON.") from None


def _said(text: str) -> str:
    return one_line(text, 300).rstrip(".") or "no reason given"
