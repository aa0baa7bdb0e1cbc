"""The cluster: one that runs already, which is left as it was, or one on this machine, which ends with the run.

Ray is told through its own settings to keep quiet and to send nothing home; what it has to say of a dead worker would
otherwise land on stdout among the results.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from milr.errors import UsageError
from milr.rewards import one_line

_PATIENCE = 10.0  # seconds to reach the head of a cluster
_OBJECT_STORE = 2**29  # bytes; what travels is a few pictures at a time
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # read when ray is imported
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # what it does anyway, without advice about it
}


@contextmanager
def joined(address: str | None) -> Iterator[bool]:
    """A cluster to work on, until the end of the block; yields whether it was started here.

    A connection that this process has already is used and kept.

    Args:
        address: "host:port" of a cluster, or "auto" for the one of this machine. RAY_ADDRESS, or else a new cluster on
            this machine, when not given.

    Raises:
        UsageError: Ray is not installed, or there is no cluster there.
    """
    with _environment(_QUIET):
        ray = import_ray()
        if ray.is_initialized():
            yield False
            return
        place = address or os.environ.get("RAY_ADDRESS") or "local"
        if place != "local":
            _check_address(place)
        own = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
        try:
            ray.init(
                address=place, log_to_driver=False, logging_level=logging.ERROR, **(own if place == "local" else {})
            )
        except (OSError, ValueError, RuntimeError) as error:
            where = "start Ray here" if place == "local" else f"join the Ray cluster {place!r}"
            raise UsageError(f"cannot {where}: {_reason(error)}") from error
    try:
        yield place == "local"
    finally:
        ray.shutdown()


def import_ray() -> Any:
    """Ray, imported where it is needed.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise UsageError("--ray needs Ray, which is not installed: pip install 'milr[ray]'.") from None
    return ray


def _reason(error: BaseException) -> str:
    """What Ray says, in one line; of a chain of errors the one that can be acted on."""
    if error.__cause__ is not None and "InvalidAuthToken" in str(error.__cause__):
        return (
            "it asks for a token, and there is none or another one here; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN "
            "or RAY_AUTH_TOKEN_PATH."
        )
    return one_line(str(error), 200)


def _check_address(address: str) -> None:
    """Nobody listens there: told at once, where Ray would try for minutes and write about it."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise UsageError(
            f"{address!r} is an address for Ray clients; run milr on a node of the cluster, or with ray job submit, "
            "and give host:port (6379 is the usual port) or auto."
        )
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise UsageError(
            f"{address!r} is no address of a Ray cluster; give host:port (6379 is the usual port) or auto."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster answers at {address!r} ({error}); start one there with 'ray start --head', or give no "
            "address for a cluster on this machine."
        ) from None


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Variables that are set for a while, where nobody has set them."""
    ours = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
