"""A chat endpoint on loopback that does to each request what a test scripts for it: a real server, on a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60.0  # seconds until a test that waits in vain fails


@dataclass(frozen=True)
class Request:
    """What arrived."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What goes back.

    Attributes:
        status, body, headers: of the response.
        announced: the length that is promised; that of the body when not given.
        before: runs first: waits, meets, watches.
        after: runs between the first half of the body and the second.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: int | None = None
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None


Script = Sequence[Reply] | Callable[[Request], Reply]


def says(
    content: Any, *, finish: str = "stop", usage: tuple[int, int] | None = (100, 10), before: Callable[[], object] = int
) -> Reply:
    """A completion in OpenAI's form."""
    completion: dict[str, Any] = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}],
    }
    if usage:
        completion["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Reply(body=json.dumps(completion).encode(), before=before)


def fails(status: int, message: str = "no", **headers: str) -> Reply:
    """An error in OpenAI's form; an underscore in a header's name stands for a dash."""
    body = json.dumps({"error": {"message": message, "type": "some_error"}}).encode()
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class EndpointServer(ThreadingHTTPServer):
    """Serves a script: one reply for each request, the last one again and again; or a function of the request."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[Request] = []
        self.over = threading.Event()  # set when the test is; what hangs, hangs until then
        self._script = script
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def hang(self) -> None:
        self.over.wait(PATIENCE)

    def reply_to(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            arrived = len(self.requests)
        if callable(self._script):
            return self._script(request)
        return self._script[min(arrived, len(self._script)) - 1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: EndpointServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.server.reply_to(Request(self.path, dict(self.headers), body))
        reply.before()
        length = len(reply.body) if reply.announced is None else reply.announced
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(length), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        middle = len(reply.body) // 2
        self.wfile.write(reply.body[:middle])
        self.wfile.flush()
        reply.after()
        self.wfile.write(reply.body[middle:])
        self.close_connection = length != len(reply.body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def serving(*script: Reply | Callable[[Request], Reply]) -> Iterator[EndpointServer]:
    """A running server: replies in the order of the requests, or one function of the request."""
    first = script[0]
    server = EndpointServer([part for part in script if isinstance(part, Reply)] if isinstance(first, Reply) else first)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No key, address, proxy or cache of whoever runs the tests."""
    for name in ("MILR_JUDGE_KEY", "OPENAI_API_KEY", "MILR_JUDGE_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
