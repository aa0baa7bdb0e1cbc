"""Real servers on this machine: the one behind `milr serve-reward`, and sockets that answer as they are told."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread, get_ident
from typing import Any

from PIL import Image

from milr.prompts import Prompt
from milr.rewards import Reward, Score
from milr_rewards.serving.app import create_app, listen, server_of

PATIENCE = 60  # seconds after which something that does not happen is given up
RED, GREEN, BLUE = (Image.new("RGB", (8, 8), color) for color in ((200, 0, 0), (0, 200, 0), (0, 0, 200)))


class Redness(Reward):
    """How red the first pixel is; cannot bear blue. Remembers how it was asked."""

    name, version, range, needs = "redness", "7", (0.0, 1.0), frozenset({"wish"})
    target: float | None = 0.9
    licence, size_mb = "none", 1.5

    def __init__(self) -> None:
        self.calls: list[list[str]] = []  # the prompts of each call
        self.threads: set[int] = set()
        self.asked, self.open = Event(), Event()
        self.open.set()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        self.calls.append([prompt.text for prompt in prompts])
        self.threads.add(get_ident())
        self.asked.set()
        assert self.open.wait(PATIENCE)
        pixels: list[Any] = [image.getpixel((0, 0)) for image in images]
        if any(blue for _, _, blue in pixels):
            raise ValueError("cannot bear blue")
        return [
            Score(red / 255, {"green": green / 255}, prompt.text, cost={"looks": 1})
            for (red, green, _), prompt in zip(pixels, prompts, strict=True)
        ]


def wished(*texts: str) -> list[Prompt]:
    """Prompts that `Redness` accepts."""
    return [Prompt(text, metadata={"wish": text}) for text in texts]


@contextmanager
def serving(
    reward: Reward,
    *,
    token: str | None = None,
    most_bytes: int = 10**7,
    batch: int = 64,
    wait: float = 0.0,
    certificate: Any = None,
) -> Iterator[str]:
    """The address of a critic that is served meanwhile, in this process."""
    server = server_of(create_app(reward, token=token, most_bytes=most_bytes, batch=batch, wait=wait))
    if certificate is not None:
        server.config.ssl_certfile, server.config.ssl_keyfile = certificate
    with listen("127.0.0.1", 0) as listening:
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"//127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


@contextmanager
def answering(*answers: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """The address of a socket that gives each connection the next answer, and the requests that it got.

    None says nothing, and keeps the connection open until the end.
    """
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_all() -> None:
            left, silent = list(answers), []
            while left and not over.is_set():
                with suppress(TimeoutError):
                    connection, _ = listening.accept()
                    requests.append(_read_request(connection))
                    if (answer := left.pop(0)) is None:
                        silent.append(connection)
                    else:
                        connection.sendall(answer)
                        connection.close()
            over.wait(PATIENCE)
            for connection in silent:
                connection.close()

        over = Event()
        listening.settimeout(0.05)
        thread = Thread(target=answer_all)
        thread.start()
        try:
            yield f"//127.0.0.1:{listening.getsockname()[1]}", requests
        finally:
            over.set()
            thread.join(PATIENCE)


def http(status: str, body: bytes, *headers: str) -> bytes:
    """The bytes of an answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def _read_request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(2**16)
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    missing = int(lengths[0]) - len(body) if lengths else 0
    while missing > 0:
        chunk = connection.recv(2**16)
        received += chunk
        missing -= len(chunk)
    return received
