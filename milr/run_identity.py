"""Who a run is: everything that decides its pictures, and the comparison that guards a resume."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from milr.errors import ResumeError, UsageError
from milr.prompts import Prompt, safe_id
from milr.run_files import Record, to_json, write_file

IDENTITY_FILE = "run.json"


@dataclass(frozen=True)
class Identity:
    """Everything that decides the pictures of a run.

    Attributes:
        config: settings by option name ("steps", "method.milr.lr"), JSON values.
        prompts: in the order of the run.
        model_fingerprint: of the weights.
        reward_version: of the critic, all parts of it.
        facts: what a reader may want to know and a resume may change: versions, device.
    """

    config: Mapping[str, Any]
    prompts: Sequence[Prompt]
    model_fingerprint: str
    reward_version: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `run.json`."""
        prompts = [{"id": prompt.id, "prompt": prompt.text, **prompt.metadata} for prompt in self.prompts]
        content = {
            "config": dict(self.config),
            "model_fingerprint": self.model_fingerprint,
            "reward_version": self.reward_version,
            "facts": dict(self.facts),
            "prompts": prompts,
        }
        write_file(folder / IDENTITY_FILE, (to_json(content, indent=2) + "\n").encode())


def read_identity(folder: Path) -> Identity | None:
    """The identity of the run in a folder; None when it holds no run.

    Raises:
        ResumeError: there is a `run.json` that milr did not write.
    """
    path = folder / IDENTITY_FILE
    try:
        record = json.loads(path.read_bytes())
        prompts = [_prompt(dict(prompt)) for prompt in record["prompts"]]
        if not prompts or len({prompt.id for prompt in prompts}) < len(prompts):
            raise ValueError("no prompts, or two of one id")
        return Identity(
            config=dict(record["config"]),
            prompts=prompts,
            model_fingerprint=record["model_fingerprint"],
            reward_version=record["reward_version"],
            facts=record["facts"],
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError):
        raise ResumeError(f"{path} is not the record of a milr run; choose another --out.") from None


def check_same(saved: Identity, now: Identity, folder: Path) -> None:
    """Refuse to continue a run under another identity.

    Raises:
        ResumeError: something differs; the message names the first such key and both values.
    """
    check_same_config(saved.config, now.config, folder)
    if list(saved.prompts) != list(now.prompts):
        raise ResumeError(f"{folder} holds a run over other prompts; leave the prompts out, or choose another --out.")
    for what, before, after in (
        ("model weights", saved.model_fingerprint[:12], now.model_fingerprint[:12]),
        ("critic", saved.reward_version, now.reward_version),
    ):
        if before != after:
            raise ResumeError(f"{folder} was made with another {what} ({before}, now {after}); choose another --out.")


def check_same_config(saved: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """The part of `check_same` that needs no model: the settings alone; keys that `now` lacks are not compared."""
    if difference := config_difference({key: saved.get(key) for key in now}, now):
        raise ResumeError(f"{folder} was made with {difference}; leave that option out, or choose another --out.")


def config_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first setting in which two runs differ, as "seed = 0, not 1"; empty where there is none."""
    ours, theirs = (json.loads(to_json(config)) for config in (one, other))
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            return f"{key} = {_shown(ours.get(key))}, not {_shown(theirs.get(key))}"
    return ""


def _shown(value: Any) -> str:
    return "the default" if value is None else to_json(value)


def _prompt(record: Record) -> Prompt:
    identity = record.pop("id")
    if not identity or safe_id(identity) != identity:  # it names files: whoever wrote it must not choose the folder
        raise ValueError(f"not an id: {identity!r}")
    return Prompt(record.pop("prompt"), id=identity, metadata=record)
