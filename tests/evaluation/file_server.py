"""A file server on loopback that does to each request what a test scripts for it, and official files of our own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from milr.evaluation.contract import Source, SourceFile

PROMPTS, NAMES = b'{"prompt": "a photo of a bench"}\n' * 9, b"person\nbicycle\ncar\n"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def official(name: str, path: str, content: bytes) -> SourceFile:
    return SourceFile(name, path, hashlib.sha256(content).hexdigest(), len(content))


ONE_FILE = Source("someone/tiny", COMMIT, "MIT", (official("prompts.jsonl", "all prompts/prompts.jsonl", PROMPTS),))
TWO_FILES = Source("someone/tiny", COMMIT, "none stated", (*ONE_FILE.files, official("names.txt", "names.txt", NAMES)))


@dataclass(frozen=True)
class Reply:
    """What goes back.

    Attributes:
        announced: the length that is promised; that of the body when not given, none when negative.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: int | None = None


class FileServer(ThreadingHTTPServer):
    """Serves the next reply of a path's list, the last one again and again; 404 elsewhere."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, replies: Mapping[str, list[Reply]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies = {path: list(each) for path, each in replies.items()}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        replies = self.server.replies.get(self.path, [Reply(status=404)])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        length = len(reply.body) if reply.announced is None else reply.announced
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if length >= 0:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(reply.body)
        self.close_connection = length != len(reply.body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def serving(replies: Mapping[str, Reply | list[Reply]]) -> Iterator[FileServer]:
    """A running server: by the path of an official file, its replies in the order of the requests."""
    base = f"/{ONE_FILE.repository}/{COMMIT}"
    server = FileServer(
        {f"{base}/{path}": each if isinstance(each, list) else [each] for path, each in replies.items()}
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of whoever runs the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
