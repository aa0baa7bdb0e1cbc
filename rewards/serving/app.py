"""The server behind `milr serve-reward`: one critic, many clients.

What concurrent requests bring is scored together: a critic is asked by one thread, for as many pictures at once as
wait, up to a limit. Each request gets its own rows back; a picture that cannot be scored fails alone. Pictures of a
client that went away are not scored. `served` says what travels.

Needs the extra `serve`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from milr import __version__
from milr.errors import MilrError
from milr.prompts import Prompt
from milr.rewards import Reward, Score, check_prompt, score_safely

from .wire import (
    MalformedError,
    Pair,
    Record,
    TooLargeError,
    description_record,
    read_check_request,
    read_score_request,
    score_answer,
)

CONNECTIONS = 64  # at once; more are told to come back
PATIENCE = 3  # seconds that running requests have to end when the server stops
GONE = 499  # what nobody reads: the client closed the connection

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    """A picture to be scored."""

    pair: Pair
    score: asyncio.Future[Score]


class Scorer:
    """Scores pictures as they come, together, in one thread: critics are not made for several.

    Args:
        batch: pictures of one call of the critic, at most.
        wait: seconds that a first picture waits for others.
    """

    def __init__(self, reward: Reward, batch: int, wait: float) -> None:
        self._reward, self._batch, self._wait = reward, batch, wait
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "milr-score")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Scores while it is open; what still waits afterwards is cancelled."""
        work = asyncio.create_task(self._work())
        try:
            yield
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            self._thread.shutdown(wait=False, cancel_futures=True)

    def add(self, pairs: Sequence[Pair]) -> list[asyncio.Future[Score]]:
        """Scores to come, one for each picture; a cancelled one is not computed."""
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(pair, loop.create_future()) for pair in pairs]
        for each in waiting:
            self._queue.put_nowait(each)
        return [each.score for each in waiting]

    async def check(self, prompts: Sequence[Prompt]) -> None:
        """`check_prompt` of each, in the critic's thread; errors as there."""
        loop = asyncio.get_running_loop()
        for prompt in prompts:
            await loop.run_in_executor(self._thread, check_prompt, self._reward, prompt)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            together = await self._next()
            images, prompts = [each.pair[0] for each in together], [each.pair[1] for each in together]
            scores = await loop.run_in_executor(self._thread, score_safely, self._reward, images, prompts)
            for each, score in zip(together, scores, strict=True):
                if not each.score.done():
                    each.score.set_result(score)

    async def _next(self) -> list[_Waiting]:
        """What is scored together next."""
        together = [await self._queue.get()]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait):
                while len(together) < self._batch:
                    together.append(await self._queue.get())
        return [each for each in together if not each.score.done()]


def create_app(
    reward: Reward, *, token: str | None, most_bytes: int, batch: int, wait: float, model: str = ""
) -> FastAPI:
    """The server of a critic.

    Args:
        model: whose pictures it looks at; clients with others are warned.
        token: what requests must carry as "Authorization: Bearer TOKEN"; None for anybody.
        most_bytes: of a request's body; no more of a longer one is kept in memory.
        batch, wait: as in `Scorer`.
    """
    scorer = Scorer(reward, batch, wait)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with scorer.running():
            yield

    async def guard(request: Request) -> None:
        given = request.headers.get("Authorization", "")
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "this critic wants a token.", {"WWW-Authenticate": "Bearer"})

    app = FastAPI(lifespan=lifespan, dependencies=[Depends(guard)], docs_url=None, redoc_url=None, openapi_url=None)
    _explain_errors(app)

    @app.get("/")
    async def describe() -> JSONResponse:
        return JSONResponse(description_record(reward, __version__, model))

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.post("/check")
    async def check(request: Request) -> JSONResponse:
        await scorer.check(read_check_request(await _body(request, most_bytes)))
        return JSONResponse({"status": "ok"})

    @app.post("/score")
    async def score(request: Request) -> Response:
        pairs = await asyncio.to_thread(read_score_request, await _body(request, most_bytes))
        scores = await _unless_gone(request, scorer.add(pairs))
        return Response(status_code=GONE) if scores is None else JSONResponse(score_answer(scores))

    return app


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections from now on; port 0 takes a free one.

    Raises:
        OSError: the address cannot be had.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family, backlog=CONNECTIONS)


def server_of(app: FastAPI) -> uvicorn.Server:
    """Whose `run([socket])` answers until the process is interrupted."""
    settings = uvicorn.Config(
        app,
        access_log=False,
        log_level=logging.CRITICAL,  # what goes wrong is said here, in a line
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=PATIENCE,
        server_header=False,
    )
    return uvicorn.Server(settings)


def _explain_errors(app: FastAPI) -> None:
    """What handlers raise becomes a status and a sentence."""
    statuses = {MalformedError: 400, ClientDisconnect: GONE, TooLargeError: 413, MilrError: 422}

    async def explain(_: Request, error: Exception) -> Response:
        status = next(status for kind, status in statuses.items() if isinstance(error, kind))
        return _sentence(status, error)

    async def admit(_: Request, error: Exception) -> Response:
        _log.error("a request failed: %r", error)
        return _sentence(500, f"the server failed: {type(error).__name__}.")

    for kind in statuses:
        app.add_exception_handler(kind, explain)
    app.add_exception_handler(Exception, admit)


def _sentence(status: int, message: object) -> Response:
    detail: Record = {"detail": " ".join(str(message).split())}
    return JSONResponse(detail, status)


async def _body(request: Request, most: int) -> bytes:
    """The body of a request; the server reads on and throws away what comes after a refusal.

    Raises:
        TooLargeError: it is longer than `most`, whatever its headers say.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise TooLargeError(f"a request may have {most} bytes; send fewer pictures at once.")
    return bytes(body)


async def _unless_gone(request: Request, coming: Sequence[asyncio.Future[Score]]) -> list[Score] | None:
    """The scores; None when the client closes the connection before they are there."""
    if not coming:
        return []
    watch = asyncio.create_task(_cancel_when_gone(request, coming))
    try:
        await asyncio.wait(coming)
    finally:
        watch.cancel()
        for score in coming:
            score.cancel()
    return None if any(score.cancelled() for score in coming) else [score.result() for score in coming]


async def _cancel_when_gone(request: Request, coming: Sequence[asyncio.Future[Score]]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    for score in coming:
        score.cancel()
