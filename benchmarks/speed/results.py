"""One JSON file a run: replaced as a whole after every measurement, so that a kill loses only what it interrupts.

A measurement that fails is a line that says why; the others go on.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from milr.errors import UsageError
from milr.run_files import write_file

Record = dict[str, Any]

log = logging.getLogger("milr.speed")


@dataclass
class Results:
    """A run's record and where it stands.

    Attributes:
        record: facts of the run, and `measurements`: a record by name, or by name and batch.
    """

    path: Path
    record: Record = field(default_factory=dict)

    def measure(self, name: str, key: str | None, work: Callable[[], Record]) -> Record | None:
        """Adds a measurement, or why there is none; both are on the disk afterwards.

        Args:
            key: a batch or the like, where a name has many measurements.
        """
        label = name if key is None else f"{name} {key}"
        began = time.perf_counter()
        try:
            measured: Record = work()
        except torch.OutOfMemoryError:
            measured = {"failed": "out of memory"}
        # What is measured is other people's code on other people's hardware: one measurement's failure, whatever it
        # is, is a result, and must not cost the others.
        except Exception as error:
            log.debug("%s", label, exc_info=True)
            measured = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        took = time.perf_counter() - began
        measured["measuring_seconds"] = took
        place = self.record.setdefault("measurements", {})
        if key is None:
            place[name] = measured
        else:
            place.setdefault(name, {})[key] = measured
        add_speed_ups(self.record["measurements"])
        self.save()
        log.info("%s: %s (%.1f s)", label, measured.get("failed") or "done", took)
        return None if "failed" in measured else measured

    def save(self) -> None:
        write_file(self.path, (json.dumps(self.record, indent=1) + "\n").encode())


def add_speed_ups(measurements: Record) -> None:
    """How many times as fast as the reference procedure of the same run, for a picture's tokens and for a step."""
    image = measurements.get("reference", {}).get("image_seconds")
    step = measurements.get("reference_step", {}).get("seconds")
    for figures in measurements.get("engine", {}).values():
        if image and "seconds_per_image" in figures:
            figures["times_reference"] = image / figures["seconds_per_image"]
    for figures in measurements.get("step", {}).values():
        if step and "seconds_per_sample" in figures:
            figures["times_reference"] = step / figures["seconds_per_sample"]


def read_results(folder: Path) -> list[Record]:
    """Every run of a folder, by name of its file.

    Raises:
        UsageError: a file that is no run, or none at all.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text("utf-8"))
            record["device"]["name"], record["measurements"], record["shape"]
        except (ValueError, TypeError, KeyError):
            raise UsageError(f"{str(path)!r} is not a result of 'milr_benchmarks.speed run'.") from None
        records.append(record)
    if not records:
        raise UsageError(f"there are no results (*.json) in {str(folder)!r}.")
    return records
