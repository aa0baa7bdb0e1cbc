"""An OpenAI-compatible chat endpoint: one question, one readable answer, and everything that goes wrong in between.

    endpoint = Endpoint("http://127.0.0.1:8000/v1", key="", key_variable="OPENAI_API_KEY")
    with endpoint.connected() as connection:
        answer = connection.ask({"model": ..., "messages": [...]}, accept=read)

Time, attempts, starts per minute and the size of a reply are bounded. What may pass (timeouts, lost connections, 408,
409, 429, 5xx, replies that cannot be read) is tried again, later each time or when the server says; what will not pass
is one sentence that says what to do. `ask` never raises for what a server does.

The key goes to the one address and nowhere else: redirects are refused, and it is struck out of whatever a server sends
back, and out of what httpx logs meanwhile.

Knows nothing about pictures or grades, and nothing about other processes that ask the same server.
"""

from __future__ import annotations

import json
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from milr.bounded import TooLongError, read_bounded
from milr.rewards import one_line

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

FIRST_PAUSE = 1.0  # seconds before the second attempt; doubled for each further one
LONGEST_PAUSE = 60.0  # seconds; a server may ask for less, and gets no more
LONGEST_REPLY = 16 * 2**20  # bytes
PASSING = frozenset({408, 409, 429})  # and 5xx: what may be gone at the next attempt
SHORTEST_SECRET = 8  # characters; a local server's "EMPTY" is no secret, and no reason to mangle a reply

_jitter = random.Random()  # its own: nobody else's random numbers change
_LOGGERS = ("httpx", "httpcore.http11", "httpcore.connection", "httpcore.proxy")

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Spent:
    """What a question took, over all attempts; tokens as the server counts them."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Answer:
    """A reply that could be read, or why there is none.

    Attributes:
        text: the reply; None when no attempt led to one.
        error: one line; empty when there is a reply.
        spent: what it took.
    """

    text: str | None = None
    error: str = ""
    spent: Spent = field(default_factory=Spent)


class _AttemptError(Exception):
    """An attempt without an answer; `passing` ones are worth another attempt, `after` seconds if the server said so."""

    def __init__(self, message: str, *, passing: bool, after: float | None = None) -> None:
        super().__init__(message)
        self.passing = passing
        self.after = after


class Endpoint:
    """Where to ask, and how hard to try.

    Args:
        url: the base, such as https://api.openai.com/v1.
        key: sent as a bearer token; empty for none.
        key_variable: the environment variable that a user would put the key into, for messages.
        timeout: seconds for one attempt.
        retries: further attempts after the first.
        requests_per_minute: how many attempts may start; 0 for any number.
        sleep: waits some seconds; by default, until the connection is closed at the latest.
        clock: the time in seconds, of any origin.
    """

    def __init__(
        self,
        url: str,
        key: str,
        key_variable: str,
        *,
        timeout: float = 120.0,
        retries: int = 4,
        requests_per_minute: float = 0.0,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url.rstrip("/")
        self.key_variable = key_variable
        self.timeout = timeout
        self.retries = retries
        self.sleep = sleep
        self.clock = clock
        self._key = key
        self._interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next_start = clock()
        self._lock = threading.Lock()

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection that any number of threads may use; leaving it ends what still goes on in them."""
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=None)
        with httpx.Client(timeout=self.timeout, headers=headers, limits=limits) as client, self._clean_logs():
            connection = Connection(self, client)
            try:
                yield connection
            finally:
                connection.closed.set()

    def redact(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self._key, "[key]") if len(self._key) >= SHORTEST_SECRET else text

    @property
    def advice(self) -> str:
        """What to do about a key that is missing or wrong."""
        return f"put the right key into the environment variable {self.key_variable}"

    def reserve_start(self) -> float:
        """Reserves the next start; returns the seconds until then."""
        with self._lock:
            now = self.clock()
            start = max(now, self._next_start)
            self._next_start = start + self._interval
            return start - now

    @contextmanager
    def _clean_logs(self) -> Iterator[None]:
        """Servers that send the key back do so in headers too, and those are logged where somebody debugs httpx."""

        def clean(record: logging.LogRecord) -> bool:
            message = record.getMessage()
            if self.redact(message) != message:
                record.msg, record.args = self.redact(message), ()
            return True

        for name in _LOGGERS:
            logging.getLogger(name).addFilter(clean)
        try:
            yield
        finally:
            for name in _LOGGERS:
                logging.getLogger(name).removeFilter(clean)


class Connection:
    """An endpoint with an open client; made by `Endpoint.connected`.

    Attributes:
        closed: set when nobody waits for answers any more: no attempt starts from then on.
    """

    def __init__(self, endpoint: Endpoint, client: httpx.Client) -> None:
        from tenacity import sleep_using_event

        self.closed = threading.Event()
        self._endpoint = endpoint
        self._client = client
        self._sleep = endpoint.sleep or sleep_using_event(self.closed)

    def ask(self, body: Mapping[str, Any], accept: Callable[[str], object]) -> Answer:
        """The first reply that `accept` does not refuse with a ValueError."""
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        spent = Spent()
        retrying = Retrying(
            stop=stop_after_attempt(1 + self._endpoint.retries),
            retry=retry_if_exception(lambda error: isinstance(error, _AttemptError) and error.passing),
            wait=_pause,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return Answer(retrying(self._attempt, body, accept, spent), spent=spent)
        except _AttemptError as failure:
            attempts = f" ({spent.requests} attempts)" if spent.requests > 1 else ""
            return Answer(error=f"{failure}{attempts}", spent=spent)

    def _attempt(self, body: Mapping[str, Any], accept: Callable[[str], object], spent: Spent) -> str:
        seconds = self._endpoint.reserve_start()
        if seconds > 0:
            self._sleep(seconds)
        if self.closed.is_set():
            raise _AttemptError("interrupted", passing=False)
        spent.requests += 1
        raw = self._post(body)
        try:
            reply = json.loads(raw)
        except (ValueError, RecursionError):
            raise _AttemptError(f"the reply is not JSON: {self._quote(raw)!r}", passing=True) from None
        spent.input_tokens += _count(reply, "prompt_tokens")
        spent.output_tokens += _count(reply, "completion_tokens")
        text, is_cut = _content(reply)
        if text is None:
            raise _AttemptError(f"there is no answer in the reply {self._quote(raw)!r}", passing=True)
        text = self._endpoint.redact(text)
        try:
            accept(text)
        except ValueError as problem:
            if is_cut:
                raise _AttemptError("the reply was cut off before its end; raise max_tokens", passing=False) from None
            raise _AttemptError(f"cannot read the reply {self._quote(text)!r}: {problem}", passing=True) from None
        return text

    def _post(self, body: Mapping[str, Any]) -> str:
        """The body of a successful response."""
        import httpx

        address = f"{self._endpoint.url}/chat/completions"
        deadline = self._endpoint.clock() + self._endpoint.timeout
        try:
            with self._client.stream("POST", address, json=body) as response:
                received = read_bounded(response, LONGEST_REPLY, deadline, self._endpoint.clock)
        except TooLongError:
            raise _AttemptError(f"the reply is longer than {LONGEST_REPLY} bytes", passing=False) from None
        except httpx.TimeoutException:
            raise _AttemptError(f"no answer within {self._endpoint.timeout:g} s", passing=True) from None
        except httpx.RequestError as error:
            problem = self._quote(str(error)) or type(error).__name__
            raise _AttemptError(f"no answer from {self._endpoint.url}: {problem}", passing=True) from None
        text = received.decode("utf-8", "replace")
        if not response.is_success:
            raise self._refusal(response, text)
        return text

    def _refusal(self, response: httpx.Response, text: str) -> _AttemptError:
        """What a status other than success means, and what to do about it."""
        status, url = response.status_code, self._endpoint.url
        reason = self._quote(_error_message(text)) or self._quote(response.reason_phrase)
        said = f"{url} answers {status} ({reason})"
        if status in PASSING or status >= 500:
            return _AttemptError(said, passing=True, after=_retry_after(response.headers.get("Retry-After", "")))
        if response.is_redirect:
            place = self._quote(response.headers.get("Location", ""))
            return _AttemptError(
                f"{url} redirects to {place!r}, where no key is sent; give the final url", passing=False
            )
        advice = {
            401: self._endpoint.advice,
            403: f"this key may not use the model; {self._endpoint.advice}, or choose another model",
            404: "the url (most end in /v1) or the model is not known there",
        }.get(status, "the server does not take such requests; look at model, max_tokens and temperature")
        return _AttemptError(f"{said}: {advice}", passing=False)

    def _quote(self, text: str) -> str:
        return one_line(self._endpoint.redact(text), 80)


def in_parallel(work: Callable[[T], R], items: Sequence[T], width: int) -> list[R]:
    """`work` of each item, `width` at a time, in the order of the items.

    What interrupts the caller, and whatever `work` raises, stops it at once: nothing further is started. The threads
    are daemons, since those of an executor would keep the process alive until the last answer is in.
    """
    todo: queue.SimpleQueue[tuple[int, T]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, R | BaseException]] = queue.SimpleQueue()
    for numbered in enumerate(items):
        todo.put(numbered)
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            try:
                index, item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((index, work(item)))
            except BaseException as error:
                done.put((index, error))

    for _ in range(min(width, len(items))):
        threading.Thread(target=run, name="judge", daemon=True).start()
    results: dict[int, R] = {}
    try:
        while len(results) < len(items):
            index, result = done.get()
            if isinstance(result, BaseException):
                raise result
            results[index] = result
    finally:
        stopped.set()
    return [results[index] for index in range(len(items))]


def _pause(state: RetryCallState) -> float:
    """Seconds before the next attempt: what the server says, else twice as long each time, with jitter."""
    failure = state.outcome.exception() if state.outcome else None
    if isinstance(failure, _AttemptError) and failure.after is not None:
        return min(failure.after, LONGEST_PAUSE)
    return min(FIRST_PAUSE * 2 ** (state.attempt_number - 1), LONGEST_PAUSE) * _jitter.uniform(0.5, 1.0)


def _retry_after(value: str) -> float | None:
    """Seconds, of a number of seconds or a date (RFC 9110, section 10.2.3)."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _content(reply: Any) -> tuple[str | None, bool]:
    """What the model says, or says instead of an answer, and whether it ran out of tokens; None without a choice."""
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        text = message.get("content") or message.get("refusal") or ""
        is_cut = choice.get("finish_reason") == "length"
    except (AttributeError, IndexError, KeyError, TypeError):
        return None, False
    # A lone surrogate, which JSON can spell, can neither be shown nor stored.
    return (text.encode("utf-8", "replace").decode() if isinstance(text, str) else None), is_cut


def _count(reply: Any, name: str) -> int:
    """A number of the usage that the server reports; 0 where it reports none."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and count > 0 else 0


def _error_message(text: str) -> str:
    """The message of an error in OpenAI's form, else all of it."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return text
