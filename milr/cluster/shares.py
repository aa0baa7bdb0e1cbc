"""What a worker holds of a cluster, and how many searches it is given at once. Knows nothing of Ray but its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from milr.errors import UsageError

# Threads gain less than processes do: `mini` draws 4.2 pictures a second with one thread, and 6.6 with two.
CPUS_PER_WORKER = 1


@dataclass(frozen=True)
class Share:
    """What one worker holds.

    Attributes:
        device: "cuda" or "cpu", where it decodes.
        cpus: reserved for it; as many threads does it use.
        room: how many such workers the cluster has room for when nobody else uses it.
    """

    device: str
    cpus: int
    room: int

    @property
    def gpus(self) -> int:
        """One where it decodes on a GPU."""
        return int(self.device == "cuda")

    def __str__(self) -> str:
        cpus = f"{self.cpus} CPU{'s' * (self.cpus != 1)}"
        return f"1 GPU and {cpus}" if self.gpus else cpus


def share_of(nodes: Iterable[Mapping[str, float]], device: str, cpus: int | None) -> Share:
    """What each worker holds: a GPU and its part of the node's CPUs, or `cpus` CPUs where there is no GPU.

    Args:
        nodes: the resources of each node: "CPU", "GPU".
        device: "auto" takes GPUs where there are any.
        cpus: of each worker, where somebody decided.

    Raises:
        UsageError: no such device, or less than one CPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {device} does not go with --ray: Ray chooses among the GPUs; give auto, cuda or cpu."
        )
    if cpus is not None and cpus < 1:
        raise UsageError(f"a worker of {cpus} CPUs cannot work; give at least 1.")
    sizes = [(int(node.get("GPU", 0)), int(node.get("CPU", 0))) for node in nodes]
    with_gpus = [(gpus, own) for gpus, own in sizes if gpus]
    if device == "cuda" or (device == "auto" and with_gpus):
        each = cpus or max(1, min((own // gpus for gpus, own in with_gpus), default=1))
        return Share("cuda", each, sum(min(gpus, own // each) for gpus, own in with_gpus))
    each = cpus or CPUS_PER_WORKER
    return Share("cpu", each, sum(own // each for _, own in sizes))


def searches_for_one(waiting: int, workers: int, idle: int, together: int, device: str) -> int:
    """How many searches a worker is given at once.

    Large parts first, which keep its slots full, then smaller ones, so that all workers end at nearly the same time. A
    GPU gets no fewer than it decodes together, since it takes as long for one search as for those; a CPU does not.

    Args:
        waiting: searches that nobody has.
        workers: of the crew.
        idle: of them, this one included.
        together: searches that the worker decodes at once.
    """
    least = together if device == "cuda" else 1
    return min(math.ceil(waiting / idle), max(least, math.ceil(waiting / (2 * workers))))
