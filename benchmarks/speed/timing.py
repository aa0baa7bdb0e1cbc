"""Clocks and facts of a device: seconds with the device's work in them, copy bandwidth, versions, peak memory."""

from __future__ import annotations

import gc
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch

Answer = TypeVar("Answer")

_CUDA_COPY_BYTES, _CPU_COPY_BYTES = 2 << 30, 256 << 20  # far beyond any cache
_COPIES = 7


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(device: torch.device, work: Callable[[], Answer]) -> tuple[Answer, float]:
    """What the work gives, and its seconds, the device's share included."""
    synchronize(device)
    began = time.perf_counter()
    answer = work()
    synchronize(device)
    return answer, time.perf_counter() - began


@dataclass(frozen=True)
class Timing:
    """Seconds of the first call, and of the calls after it, when everything is warm."""

    first: float
    repeats: list[float]

    @property
    def seconds(self) -> float:
        """The steady median."""
        return statistics.median(self.repeats)

    @property
    def warm_up(self) -> float:
        """What the first call cost beyond a steady one: allocation, kernels, capture."""
        return max(0.0, self.first - self.seconds)


def repeated(device: torch.device, work: Callable[[], Any], repeats: int, patience: float) -> Timing:
    """Times a first call and then up to `repeats` more, fewer once they took `patience` seconds together."""
    _, first = timed(device, work)
    seconds: list[float] = []
    while len(seconds) < repeats and (not seconds or sum(seconds) < patience):
        seconds.append(timed(device, work)[1])
    return Timing(first, seconds)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second of a large copy within the device, read and written bytes both counted; the median of several."""
    size = _CUDA_COPY_BYTES if device.type == "cuda" else _CPU_COPY_BYTES
    one = torch.zeros(size, dtype=torch.uint8, device=device)
    other = torch.zeros_like(one)
    timing = repeated(device, lambda: other.copy_(one), _COPIES, patience=60.0)
    return 2 * size / timing.seconds


def device_facts(device: torch.device) -> dict[str, Any]:
    """Name and versions of what everything was measured on."""
    return {
        "name": device_name(device),
        "type": device.type,
        "memory_gb": _memory_gb(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "load_average": os.getloadavg()[0],  # of a minute, before: others at work make a CPU's figures worthless
        "driver": _driver() if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "triton": _version("triton"),
    }


def device_name(device: torch.device) -> str:
    """As its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"{platform.machine()} {device.type}"


def slug(name: str) -> str:
    """A device's name as part of a file name: 'NVIDIA H200' is 'nvidia-h200'."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def clear_memory(device: torch.device) -> None:
    """Gives freed memory back, and counts the peak from here."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gb(device: torch.device) -> float | None:
    """The most that was allocated since `clear_memory`, weights included; None where nobody counts."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None


def _memory_gb(device: torch.device) -> float | None:
    return torch.cuda.get_device_properties(device).total_memory / 1e9 if device.type == "cuda" else None


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.splitlines()[0].strip() if answer.stdout.strip() else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
