"""Optional dependencies: which packages an extra of milr brings, and which of them are missing here."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, metadata, requires, version

_EXTRA_MARKER = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


def extras() -> list[str]:
    """The extras that milr has."""
    return sorted(metadata("milr").get_all("Provides-Extra") or [])


def missing_packages(extra: str) -> list[str]:
    """The packages of an extra that are not installed."""
    wanted = []
    for requirement in requires("milr") or []:
        marker = _EXTRA_MARKER.search(requirement)
        if marker and marker[1] == extra:
            wanted.append(re.split(r"[^A-Za-z0-9._-]", requirement)[0])
    return [name for name in wanted if not _is_installed(name)]


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
