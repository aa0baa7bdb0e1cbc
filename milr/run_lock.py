"""One process per run folder.

The lock belongs to an open file, so the system releases it when its process ends, however it ends: a lock left behind
by a killed process never blocks. Accepted: on network file systems without locks, a second process is not noticed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from milr.errors import ResumeError

LOCK_FILE = ".lock"


class FolderLock:
    """Holds a folder until `release`.

    Raises:
        ResumeError: another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / LOCK_FILE).open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            raise ResumeError(
                f"{folder} is in use by another process{f' ({holder})' if holder else ''}; "
                "wait for it, or choose another --out."
            ) from None
        self._file.truncate(0)
        self._file.write(f"pid {os.getpid()}")
        self._file.flush()

    def release(self) -> None:
        """Let others have the folder; harmless when done twice."""
        self._file.close()
