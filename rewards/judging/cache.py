"""Replies that were paid for, in one SQLite file that many threads and processes may share.

A reply is on disk once `put` returns, whatever then happens to the process. The cache is a convenience: a file that is
damaged, locked for long or not writable costs one warning, and from then on nothing is kept. Nothing else may fail
because of it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

PATIENCE = 30.0  # seconds for which another process may hold the file
LONGEST_PAUSE = 0.02  # seconds until it is tried again

_log = logging.getLogger(__name__)

T = TypeVar("T")


class ReplyCache:
    """Replies by key.

    Args:
        path: the file; made, with its folder, when it is first needed. None to keep nothing.
    """

    def __init__(self, path: str | Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()

    def get(self, key: str) -> str | None:
        """The reply of that key, if there is one."""
        row = self._in_file(lambda file: file.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone())
        return row[0] if row else None

    def put(self, key: str, reply: str, input_tokens: int, output_tokens: int) -> None:
        """Keep a reply and what it took."""
        row = (key, reply, input_tokens, output_tokens)
        self._in_file(lambda file: file.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", row))

    def _in_file(self, do: Callable[[sqlite3.Connection], T]) -> T | None:
        """One transaction; None where there is no file to be had.

        The file is opened anew each time, which takes a fraction of a millisecond and is safe in any thread and behind
        any fork.
        """
        import tenacity

        path = self._path
        if path is None:
            return None
        # While another one opens or closes the file, SQLite refuses at once instead of waiting.
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(sqlite3.OperationalError)
            & tenacity.retry_if_exception_message(match=".*locked"),
            stop=tenacity.stop_after_delay(PATIENCE),
            wait=tenacity.wait_random(0, LONGEST_PAUSE),
            reraise=True,
        )
        try:
            file = Path(path).expanduser()
            file.parent.mkdir(parents=True, exist_ok=True)
            return attempts(_transaction, file, do)
        except (sqlite3.Error, OSError, RuntimeError, ValueError) as error:
            self._give_up(error)
            return None

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            if self._path is not None:
                _log.warning("reward 'judge' keeps no replies: %s cannot be used (%s)", self._path, error)
            self._path = None


def _transaction(file: Path, do: Callable[[sqlite3.Connection], T]) -> T:
    with closing(sqlite3.connect(file, timeout=PATIENCE)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS replies "
            "(key TEXT PRIMARY KEY, reply TEXT NOT NULL, input_tokens INTEGER, output_tokens INTEGER)"
        )
        return do(connection)


def default_path() -> str:
    """judge.sqlite in the user's cache folder."""
    return str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "milr", "judge.sqlite"))
