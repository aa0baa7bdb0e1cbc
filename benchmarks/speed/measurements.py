"""Everything that one run measures of one model, each in a function of its own, one after the other."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from milr.models.janus import Janus

from . import exactness, plain
from .engines import time_drawing, time_first_image
from .generate import time_generate
from .quantized import time_quantized
from .reference import Reference
from .results import Record, Results
from .shapes import Shape, build
from .steps import time_overlap, time_search, time_steps
from .subjects import REASONING_TOKENS, fixed_sampling, image_rows, never_stopping
from .timing import clear_memory, copy_bandwidth, device_facts, device_name, slug, timed
from .wishes import Wishes

_REWARD = -0.5  # of the reference step; Adam divides its size out


def run(shape: Shape, device: str, dtype: str, wishes: Wishes, out: Path) -> Path:
    """Measures what was asked for; the file that holds it.

    Raises:
        UsageError: no such device or dtype.
    """
    model, building = _built(shape, device, dtype)
    results = Results(out / f"{shape.name}-{slug(device_name(model.device))}.json")
    results.record = {
        "shape": shape.name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "begun": _now(),
        "command": wishes.command,
        "effort": asdict(wishes.effort),
        "host": platform.platform(),
        "device": device_facts(model.device),
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "build_seconds": building,
        "measurements": {},
    }
    results.save()
    Run(model, shape.prompt, wishes, results).everything()
    results.record["finished"] = _now()
    results.save()
    return results.path


@dataclass(frozen=True)
class Run:
    """One model under measurement."""

    model: Janus
    prompt: str
    wishes: Wishes
    results: Results

    def everything(self) -> None:
        """Every measurement that is not skipped."""
        if self._wanted("first_image"):  # before anything else: a later one is not cold
            self.results.measure("first_image", None, lambda: time_first_image(self.model, self.prompt))
        copy = self.results.measure("copy", None, lambda: {"bytes_per_second": copy_bandwidth(self.model.device)})
        bandwidth = copy["bytes_per_second"] if copy else None
        if self._wanted("reference"):
            self.reference()
        if self._wanted("engine"):
            self.engine(bandwidth)
        if self._wanted("step"):
            self.steps()
        if self._wanted("generate"):
            self.results.measure("generate", None, lambda: time_generate(self.model, self._part, repeats=1))
        if self._wanted("plain_cached"):
            self.results.measure("plain_cached", None, lambda: time_plain(self.model, self._part))
        if self._wanted("exactness"):
            self.exactness()
        if self._wanted("quantized"):
            self.quantized(bandwidth)
        if self._wanted("search") and self.model.facts.default_reward and self.model.device.type == "cpu":
            decodes = self.wishes.effort.single_decodes
            self.results.measure("search", None, lambda: time_search(self.model, self.prompt, decodes))
        if self._wanted("overlap") and self.model.facts.default_reward and self.model.device.type == "cuda":
            self.results.measure("overlap", None, lambda: time_overlap(self.model))

    def reference(self) -> None:
        """A picture of the published procedure, and a step after it."""
        view = never_stopping(self.model)
        search = Reference(view, self.prompt, REASONING_TOKENS, self.wishes.reference_tokens or self._part)

        def picture() -> Record:
            Reference(view, self.prompt, max_text=2, measured_tokens=3).picture()  # loads every kernel
            return search.picture()

        if self.results.measure("reference", None, picture):
            self.results.measure("reference_step", None, lambda: search.step(_REWARD))

    def engine(self, bandwidth: float | None) -> None:
        """Image tokens at each batch."""
        effort = self.wishes.effort
        for batch in self.wishes.batches:
            work = partial(time_drawing, self.model, batch, bandwidth, effort.repeats, effort.patience)
            self.results.measure("engine", str(batch), work)

    def steps(self) -> None:
        """A MILR step at each number of samples."""
        for samples in self.wishes.samples:
            work = partial(time_steps, self.model, self.prompt, samples, self.wishes.effort.step_repeats)
            self.results.measure("step", str(samples), work)

    def exactness(self) -> None:
        """Equal tokens in the exact dtype and in the fast one."""
        effort, count = self.wishes.effort, self.model.facts.image_tokens
        for dtype in (torch.float32, torch.bfloat16):
            tokens = min(effort.exact_tokens or count, count)
            work = partial(exactness.compare, self.model, dtype, tokens, effort.plain_pictures)
            self.results.measure("exactness", str(dtype).removeprefix("torch."), work)
            clear_memory(self.model.device)

    def quantized(self, bandwidth: float | None) -> None:
        """Speed and shift of each lower precision."""
        effort, batches = self.wishes.effort, self.wishes.quantized_batches
        for kind in self.wishes.kinds:
            work = partial(time_quantized, self.model, kind, batches, bandwidth, effort.repeats, effort.patience)
            self.results.measure("quantized", kind, work)
            clear_memory(self.model.device)

    def _wanted(self, name: str) -> bool:
        return name not in self.wishes.skip

    @property
    def _part(self) -> int | None:
        """How many tokens of a picture an eager loop draws; all of them where they are cheap."""
        return self.wishes.effort.part if self.model.device.type == "cuda" else None


def time_plain(model: Janus, measured_tokens: int | None) -> Record:
    """A picture's tokens by the plain loop.

    Args:
        measured_tokens: the first tokens, which are the fastest, may stand for all of them.
    """
    subject, sampling, count = image_rows(model, 1), fixed_sampling(model), model.facts.image_tokens
    measured = min(measured_tokens or count, count)
    draw = partial(plain.image_tokens, model, subject.prompts[0], subject.noise, sampling)
    draw(2)
    _, seconds = timed(model.device, lambda: draw(measured))
    return {
        "image_tokens": count,
        "measured_tokens": measured,
        "extrapolated": measured < count,
        "image_seconds": seconds / measured * count,
        "ms_per_token": 1000 * seconds / measured,
    }


def _built(shape: Shape, device: str, dtype: str) -> tuple[Janus, float]:
    def work() -> Janus:
        model = build(shape, device, dtype)
        float(next(model.network.parameters()).sum())  # the device has made it
        return model

    return timed(torch.device("cpu"), work)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
