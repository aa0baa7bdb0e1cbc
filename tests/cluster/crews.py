"""What the workers of a test load, and how their events are compared. Run as a program: a driver of its own."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from milr import load_model
from milr.cluster import open_crew
from milr.cluster.worker import Load
from milr.errors import UnknownNameError, UsageError
from milr.events import Event, Finished, Stepped
from milr.models.base import UnifiedModel
from milr.prompts import Prompt
from milr.rewards import Reward, Score, load_reward

PROMPTS = [Prompt(text) for text in ("a red apple", "two cats", "a blue cup", "a dog left of a cat", "a photo")]
OPTIONS: dict[str, Any] = {"steps": 2, "samples": 2, "seed": 7, "batch": 1}


def load_bright(folder: str, device: str) -> tuple[UnifiedModel, Reward]:
    """With the critic of `tests/plugin.py`, which a worker must find."""
    model = load_model(folder, device=device)
    return model, load_reward("brightness", model)


def load_mortal(folder: str, graves: str, times: str, device: str) -> tuple[UnifiedModel, Reward]:
    """With the same critic, over which workers die."""
    model, bright = load_bright(folder, device)
    return model, Mortal(bright, Path(graves), int(times))


def load_waiting(folder: str, gate: str, device: str) -> tuple[UnifiedModel, Reward]:
    """With the same critic, which says nothing until there is a file."""
    model, bright = load_bright(folder, device)
    return model, Waiting(bright, Path(gate))


def load_nothing(device: str) -> tuple[UnifiedModel, Reward]:
    """Refuses."""
    raise UnknownNameError("model", "nothing", ["mini"])


def load_telling(variables: Sequence[str], device: str) -> tuple[UnifiedModel, Reward]:
    """Says what stands in a worker's environment."""
    raise UsageError(f"here are {[os.environ.get(name) for name in variables]}.")


class Mortal(Reward):
    """Kills its process with the third step of the second search, as often as it is told to, a grave for each."""

    name, version = "mortal", "1"

    def __init__(self, inner: Reward, graves: Path, times: int) -> None:
        self.inner, self.graves, self.times = inner, graves, times
        self.seen = 0

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        mine = [prompt.id == PROMPTS[1].id for prompt in prompts]
        self.seen += sum(mine)
        dead = len(list(self.graves.iterdir()))
        if any(mine) and dead < self.times and (self.seen >= 2 * 2 + 1 or dead):
            (self.graves / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.score(images, prompts)


class Waiting(Reward):
    """Scores as another critic does, once a file is there."""

    name, version = "waiting", "1"

    def __init__(self, inner: Reward, gate: Path) -> None:
        self.inner, self.gate = inner, gate

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        while not self.gate.exists():
            time.sleep(0.01)
        return self.inner.score(images, prompts)


def histories(events: Iterable[Event]) -> dict[tuple[str, int], list[Any]]:
    """All that happened to each search, but for how long it took; without the starts, which a death repeats."""
    told: dict[tuple[str, int], list[Any]] = {}
    for event in events:
        if isinstance(event, Stepped):
            numbers = {name: tensor.tolist() for name, tensor in event.progress.method_state.items()}
            log_probs = [[r.text_log_probs.tolist(), r.image_log_probs.tolist()] for r in event.step.rollouts]
            told.setdefault(_key(event), []).append([_drawn(event), event.step.facts, numbers, log_probs])
        elif isinstance(event, Finished):
            told.setdefault(_key(event), []).append(event.why)
    return told


def pictures(events: Iterable[Event]) -> list[list[Any]]:
    """What was drawn and how it was scored: what does not depend on how many searches travel together."""
    return sorted([_key(event), event.step.index, _drawn(event)] for event in events if isinstance(event, Stepped))


def _key(event: Event) -> tuple[str, int]:
    return event.prompt.id, event.image_index


def _drawn(event: Stepped) -> list[Any]:
    best = event.progress.best
    each = [(r.reasoning, r.image_tokens.tolist(), r.image.tobytes()) for r in event.step.rollouts]
    return [each, [score.value for score in event.step.scores], best.reward, best.reasoning, best.image.tobytes()]


def main(load: Load, out: Path, address: str | None, workers: int) -> None:
    """Searches on a cluster; says what it hears and who is at work, and leaves the events in a file."""
    events = []
    with open_crew(load, address, workers=workers) as crew:
        for event in crew.refine(PROMPTS[: 2 * workers], **OPTIONS):
            events.append(event)
            print(type(event).__name__, *crew.process_ids, flush=True)
    out.write_bytes(pickle.dumps(events))


if __name__ == "__main__":
    out, address, workers, name, *arguments = sys.argv[1:]
    loads: dict[str, Callable[..., Any]] = {"mortal": load_mortal, "waiting": load_waiting}
    main(partial(loads[name], *arguments), Path(out), address or None, int(workers))
