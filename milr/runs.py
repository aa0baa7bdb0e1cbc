"""The run folder: a listener of a search's events that survives a kill at any moment.

    RUN/  run.json                          identity of the run
          samples.jsonl                     one line per finished prompt and image
          trace/<id>.jsonl                  one line per step
          images/<id>-<index>.png           the best picture so far; benchmarks have layouts of their own
          steps/<id>-<index>/<step>-<k>.png the pictures that a strip shows; all of them with `keep_steps`
          state/<id>-<index>.safetensors    where an unfinished search stands; at most one step old

A search goes on from its state, a finished one is never redone, and the pictures are the same whether or not a run
was interrupted. Everything but the appended lines is replaced as a whole; see `run_files`.
"""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image

from milr.errors import ResumeError, UsageError
from milr.events import Event, Failed, Finished, Key, Progress, Step, Stepped
from milr.prompts import Prompt
from milr.run_files import Record, append_line, is_part, keep_lines, read_lines, remove_parts, write_file
from milr.run_identity import IDENTITY_FILE, Identity, check_same, read_identity
from milr.run_lock import LOCK_FILE, FolderLock
from milr.run_state import load_progress, save_progress


@dataclass(frozen=True)
class Frame:
    """A picture that was the best when it was made, or the model's own."""

    path: Path
    step: int
    reward: float | None
    reason: str


def check_folder(path: Path, resume: bool) -> None:
    """Refuse a folder that a run cannot have, without touching it.

    Raises:
        UsageError: it is a file, or holds something else.
        ResumeError: it holds a run and `resume` is not asked for.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; give a folder as --out.")
    if not path.exists():
        return
    if (path / IDENTITY_FILE).exists():
        if not resume:
            raise ResumeError(f"{path} holds another run; add --resume to continue it, or choose another --out.")
        return
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name != LOCK_FILE and not is_part(entry))
    if "samples.jsonl" in foreign:
        raise UsageError(
            f"{path} was a run and has no {IDENTITY_FILE} any more; move it away to have its work done again, or "
            "choose another --out."
        )
    if foreign:
        raise UsageError(f"{path} holds other files ({foreign[0]!r}); choose a new or empty folder as --out.")


class RunFolder:
    """An open run folder. Use `open_run`.

    Args:
        keep_steps: keep every picture of every step.
        frames: keep those that `frames` gives until they are forgotten.
        places: where the best pictures lie below images/, by key; for those that are not there, the usual place.

    Attributes:
        path: the folder.
        identity: of the run.
        keys: of every picture that it is to have, in order.
        finished: lines of `samples.jsonl` by key; those of failed searches are not among them.
        resumable: progress of searches that were interrupted.
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        keep_steps: bool = False,
        frames: bool = True,
        places: Mapping[Key, PurePosixPath] | None = None,
    ) -> None:
        self.path, self.identity, self.keep_steps = path, identity, keep_steps
        self._keep_frames, self._places = frames, places or {}
        images = range(int(identity.config.get("images", 1)))
        self.keys: list[Key] = [(prompt.id, index) for prompt in identity.prompts for index in images]
        self._wanted = frozenset(self.keys)
        remove_parts(path)
        lines = keep_lines(path / "samples.jsonl", self._is_done)  # the others are done again
        self.finished: dict[Key, Record] = {_key(line): line for line in lines}
        self.resumable = self._read_states()
        self._drop_unfinished_steps()

    def record(self, event: Event) -> Record | None:
        """Bring what happened to the disk; returns the new line of `samples.jsonl` when a search ended.

        Raises:
            RunError: the disk refuses; what is on it stays valid.
        """
        key = (event.prompt.id, event.image_index)
        if isinstance(event, Stepped):
            self._record_step(key, event.step, event.progress, event.improved)
        elif isinstance(event, Finished):
            return self._record_end(key, event.prompt, event.progress, {"why": event.why})
        elif isinstance(event, Failed):
            return self._record_end(key, event.prompt, event.progress, {"error": event.error})
        return None

    def image_path(self, key: Key) -> Path:
        """Where the best picture of a search is."""
        return self.path / "images" / self._places.get(key, f"{_name(key)}.png")

    def frames(self, key: Key) -> list[Frame]:
        """The model's own picture and each one that was better than all before, in order; none once forgotten."""
        frames = []
        for line in read_lines(self._trace_path(key[0])):
            if line["image_index"] != key[1]:
                continue
            shown = ([0] if line["step"] == 0 else []) + ([line["best"]] if line["improved"] else [])
            for sample in dict.fromkeys(shown):
                rollout = line["rollouts"][sample]
                path = self._step_path(key, line["step"], sample)
                frames.append(Frame(path, line["step"], rollout["reward"], rollout["error"] or rollout["reason"]))
        return [frame for frame in frames if frame.path.exists()]

    def forget_frames(self, key: Key) -> None:
        """Drop the pictures of a finished search's steps, unless the run keeps them."""
        if not self.keep_steps:
            shutil.rmtree(self._steps_folder(key), ignore_errors=True)
            _remove_empty(self._steps_folder(key).parent)

    # Writing

    def _record_step(self, key: Key, step: Step, progress: Progress, improved: bool) -> None:
        best = progress.best.sample if improved else None
        shown = {best, 0 if step.index == 0 else None} if self._keep_frames else set()
        for sample, rollout in enumerate(step.rollouts):
            if self.keep_steps or sample in shown:
                write_file(self._step_path(key, step.index, sample), _png(rollout.image))
        append_line(self._trace_path(key[0]), self._trace_line(key, step, progress, best))
        if improved or step.index == 0:
            write_file(self.image_path(key), _png(progress.best.image))
        save_progress(self._state_path(key), progress)

    def _trace_line(self, key: Key, step: Step, progress: Progress, best: int | None) -> Record:
        rollouts = [
            {
                "reward": score.value,
                "parts": score.parts,
                "reason": score.reason,
                "error": score.error,
                "cost": score.cost,
                "reasoning": rollout.reasoning,
                "text_log_prob": float(rollout.text_log_probs.sum()),
                "image_log_prob": float(rollout.image_log_probs.sum()),
                "file": self._relative(self._step_path(key, step.index, sample)) if self.keep_steps else None,
            }
            for sample, (rollout, score) in enumerate(zip(step.rollouts, step.scores, strict=True))
        ]
        return {
            "image_index": key[1],
            "step": step.index,
            "improved": best is not None,
            "best": best,
            "best_reward": progress.best.reward,
            "images_decoded": progress.images_decoded,
            "seconds": step.seconds,
            "facts": step.facts,
            "rollouts": rollouts,
        }

    def _record_end(self, key: Key, prompt: Prompt, progress: Progress | None, outcome: Record) -> Record:
        line: Record = {"id": key[0], "image_index": key[1], "prompt": prompt.text, "image": None, "reward": None}
        if progress is not None:
            best = progress.best
            write_file(self.image_path(key), _png(best.image))
            line |= {
                "image": self._relative(self.image_path(key)),
                "reasoning": best.reasoning,
                "initial_reward": progress.initial_reward,
                "reward": best.reward,
                "reason": best.reason,
                "step": best.step,
                "images_decoded": progress.images_decoded,
                "seconds": progress.seconds,
                "cost": progress.cost,
            }
        line |= outcome
        append_line(self.path / "samples.jsonl", line)
        if self._is_done(line):
            self.finished[key] = line
        self._state_path(key).unlink(missing_ok=True)
        _remove_empty(self._state_path(key).parent)
        return line

    # Reading what an earlier process left

    def _is_done(self, line: Record) -> bool:
        """A line counts when it is no failure and its picture is there and whole: else the search is done again."""
        key = (line.get("id"), line.get("image_index"))
        is_key = isinstance(key[0], str) and isinstance(key[1], int)
        if "error" in line or not is_key or key not in self._wanted:
            return False
        path = self.image_path(key)  # never the line's own: it is only text
        return line.get("image") == self._relative(path) and _is_picture(path)

    def _read_states(self) -> dict[Key, Progress]:
        states = {}
        for key in self.keys:
            if key in self.finished:
                self._state_path(key).unlink(missing_ok=True)
            elif (progress := load_progress(self._state_path(key))) is not None:
                states[key] = progress
        _remove_empty(self.path / "state")
        return states

    def _drop_unfinished_steps(self) -> None:
        """Trace lines of steps that will be done again."""

        def is_kept(prompt_id: str, line: Record) -> bool:
            key = (prompt_id, line.get("image_index"))
            return key in self.finished or (
                key in self.resumable and line.get("step", math.inf) < self.resumable[key].steps_done
            )

        for prompt in self.identity.prompts:
            keep_lines(self._trace_path(prompt.id), partial(is_kept, prompt.id))

    # Names

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix()

    def _trace_path(self, prompt_id: str) -> Path:
        return self.path / "trace" / f"{prompt_id}.jsonl"

    def _state_path(self, key: Key) -> Path:
        return self.path / "state" / f"{_name(key)}.safetensors"

    def _steps_folder(self, key: Key) -> Path:
        return self.path / "steps" / _name(key)

    def _step_path(self, key: Key, step: int, sample: int) -> Path:
        return self._steps_folder(key) / f"{step:03}-{sample}.png"


@contextmanager
def open_run(
    path: str | Path,
    identity: Identity,
    *,
    resume: bool = False,
    keep_steps: bool = False,
    frames: bool = True,
    places: Mapping[Key, PurePosixPath] | None = None,
) -> Iterator[RunFolder]:
    """A new run folder, or with `resume` one that goes on; held against other processes while open.

    Raises:
        UsageError: the folder is a file, cannot be written, or holds something else.
        ResumeError: it holds a run that `resume` does not fit, or another process is at work in it.
    """
    path = Path(path)
    check_folder(path, resume)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(path)
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror or error}; choose another --out.") from None
    try:
        check_folder(path, resume)  # another process may have begun a run between the first look and the lock
        saved = read_identity(path)
        if saved is None:
            identity.write(path)
        else:
            check_same(saved, identity, path)
        yield RunFolder(path, identity, keep_steps, frames, places)
    finally:
        lock.release()


def _key(line: Record) -> Key:
    return (line["id"], line["image_index"])


def _name(key: Key) -> str:
    return f"{key[0]}-{key[1]}"


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it is not empty, or not there
        folder.rmdir()


def _is_picture(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.verify()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
