"""The official files of a benchmark: fetched at one commit, verified, found again.

    DATA/<benchmark>/<commit>/...     DATA is $MILR_DATA, $XDG_DATA_HOME/milr or ~/.local/share/milr

A file appears under its name whole and with the right SHA-256, or not at all. Knows nothing about what is in it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from milr.bounded import TooLongError, read_bounded
from milr.errors import PromptError, RunError, UsageError
from milr.evaluation.contract import Source, SourceFile
from milr.run_files import write_file

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

GITHUB = "https://raw.githubusercontent.com"
ATTEMPTS = 5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a file is asked for again; doubled each time
CONNECT_SECONDS, SILENT_SECONDS, FILE_SECONDS = 10.0, 30.0, 300.0  # to connect, between two reads, of a whole file

Report = Callable[[Path, bool], object]


class _AttemptError(Exception):
    """No such file came; `passing` ones are worth another attempt, `after` seconds if the server said so."""

    def __init__(self, message: str, *, passing: bool, after: float | None = None) -> None:
        super().__init__(message)
        self.passing, self.after = passing, after


def data_folder(benchmark_name: str, source: Source) -> Path:
    """Where the official files of a benchmark are, or will be; other commits have other folders."""
    own = os.environ.get("MILR_DATA")
    root = Path(own) if own else Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share", "milr")
    return root.expanduser() / benchmark_name / source.commit[:12]


def is_fetched(source: Source, folder: Path) -> bool:
    """Whether all official files are in a folder, each the right one."""
    return all(_is_right(folder / file.name, file) for file in source.files)


def fetch(
    name: str,
    source: Source,
    folder: Path,
    mirror: str | None = None,
    report: Report = lambda path, was_there: None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Bring the official files into a folder; those that are there and right stay.

    Args:
        name: of the benchmark, for messages.
        mirror: stands for https://raw.githubusercontent.com.
        report: is told of each file, and whether it was there before.
        sleep: waits some seconds before another attempt.

    Returns:
        The files, in the order of the source.

    Raises:
        UsageError: the mirror is no address.
        RunError: a file cannot be had or is not the official one, or the disk refuses; those that came before stay.
    """
    base = _checked_base(mirror or GITHUB)
    paths = []
    for file in source.files:
        path = folder / file.name
        was_there = _is_right(path, file)
        if not was_there:
            url = f"{base}/{source.repository}/{source.commit}/{quote(file.path)}"
            _write(path, _fetched(name, url, file, sleep))
        report(path, was_there)
        paths.append(path)
    return paths


def find(name: str, source: Source, given: Path | None = None) -> Path:
    """What `Benchmark.load` takes: the given file or folder as it is, or the folder of the fetched files.

    Raises:
        PromptError: what was given does not exist.
        UsageError: nothing was given, and the official files are not here or not what they should be.
    """
    if given is not None:
        if not given.exists():
            raise PromptError(
                f"there is no {str(given)!r}; --data takes a folder of {name}'s files, such as {source.files[0].name}."
            )
        return given
    folder = data_folder(name, source)
    for file in source.files:
        path = folder / file.name
        if not path.is_file():
            raise UsageError(f"the official files of {name} are not here; run 'milr data {name}', or give --data PATH.")
        if not _is_right(path, file):
            raise UsageError(f"{path} is not the official file; run 'milr data {name}' to have it replaced.")
    return folder


def verify(source: Source, path: Path) -> dict[str, dict[str, Any]]:
    """By name, SHA-256 and whether it is the official one, of each official file that is there.

    Args:
        path: a folder with the files by name, or a file of any name, which is compared by content.

    Raises:
        PromptError: a file cannot be read.
    """
    if not path.is_dir():
        return {path.name: _verified(path, {file.sha256 for file in source.files})}
    there = [file for file in source.files if (path / file.name).is_file()]
    return {file.name: _verified(path / file.name, {file.sha256}) for file in there}


def _verified(path: Path, official: set[str]) -> dict[str, Any]:
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PromptError(f"cannot read {path}: {error.strerror or error}.") from None
    return {"sha256": sha256, "official": sha256 in official}


def _is_right(path: Path, file: SourceFile) -> bool:
    try:
        return path.stat().st_size == file.size and hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    except OSError:  # it is not there, or nobody may read it: then fetching says why not
        return False


def _write(path: Path, content: bytes) -> None:
    try:
        write_file(path, content)
    except RunError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.__cause__
        raise RunError(f"cannot write {path}: {reason}; name a folder that can be written in MILR_DATA.") from error


def _checked_base(address: str) -> str:
    import httpx

    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise UsageError(f"the mirror {address!r} is no address; it stands for {GITHUB}, write https://HOST/PATH.")
    if url.userinfo:
        raise UsageError("the mirror's address is shown in messages and holds no password; leave it out.")
    return address.rstrip("/")


def _fetched(name: str, url: str, file: SourceFile, sleep: Callable[[float], None]) -> bytes:
    """The content of an official file, verified."""
    import httpx
    import tenacity

    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, _AttemptError) and error.passing),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=_pause,
        sleep=sleep,
        reraise=True,
    )
    timeout = httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
    try:
        with httpx.Client(timeout=timeout, follow_redirects=True) as client:
            return attempts(_attempt, client, url, file)
    except _AttemptError as failure:
        raise RunError(
            f"cannot fetch {url}: {failure}. Give another --mirror, or run 'milr data {name}' where it works and "
            "give a copy of its folder as --data FOLDER."
        ) from None


def _attempt(client: httpx.Client, url: str, file: SourceFile) -> bytes:
    import httpx

    try:
        # Compressed, an answer would be longer or shorter than what it announces.
        with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer:
            if not answer.is_success:
                raise _refusal(answer.status_code, answer.headers)
            content = _bounded(answer, file.size)
    except httpx.TimeoutException as error:
        raise _AttemptError(f"no answer in time ({type(error).__name__})", passing=True) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        broken = isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise _AttemptError(reason, passing=broken) from None  # the others: redirects to nowhere or without end
    if len(content) < file.size:
        raise _AttemptError(f"{len(content)} bytes came of {file.size}", passing=True)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise _AttemptError("what came is not the official file, its SHA-256 is another", passing=False)
    return content


def _bounded(answer: httpx.Response, most: int) -> bytes:
    """The body, of bounded length and in bounded time."""
    import httpx

    deadline = time.monotonic() + FILE_SECONDS
    try:
        return read_bounded(answer, most, deadline)
    except TooLongError:
        raise _AttemptError(
            f"what came is not the official file, it has more than {most} bytes", passing=False
        ) from None
    except httpx.ReadTimeout:
        if time.monotonic() <= deadline:  # one read, not the whole: worth another attempt
            raise
        raise _AttemptError(f"it takes more than {FILE_SECONDS:g} s", passing=False) from None


def _refusal(status: int, headers: Mapping[str, str]) -> _AttemptError:
    passing = status in (408, 429) or status >= 500
    seconds = headers.get("Retry-After", "").strip()
    after = float(seconds) if seconds.isascii() and seconds.isdecimal() else None
    return _AttemptError(f"the server answers {status}", passing=passing, after=after)


def _pause(state: RetryCallState) -> float:
    """Seconds before the next attempt: what the server says, else twice as long each time."""
    failure = state.outcome.exception() if state.outcome else None
    if isinstance(failure, _AttemptError) and failure.after is not None:
        return min(failure.after, LONGEST_PAUSE)
    return min(FIRST_PAUSE * 2.0 ** (state.attempt_number - 1), LONGEST_PAUSE)
