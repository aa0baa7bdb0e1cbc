"""The run folder: what stands on disk, what survives a kill, what a resume accepts."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from milr.decoding.rollout import Proposal, Rollout
from milr.errors import ResumeError, RunError, UsageError
from milr.events import Best, Failed, Finished, Progress, Step, Stepped
from milr.prompts import Prompt
from milr.rewards import Score
from milr.run_files import append_line, read_lines, write_file
from milr.run_identity import Identity, read_identity
from milr.run_state import load_progress, save_progress
from milr.runs import open_run

APPLE = Prompt("a red apple", id="apple")
DOG = Prompt("a dog", id="dog", metadata={"tag": "single_object"})
IDENTITY = Identity({"steps": 3, "images": 1}, [APPLE, DOG], "f" * 64, "brightness@1", {"torch": "2.14"})


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (shade, shade, shade))


def rollout(step: int, sample: int, shade: int) -> Rollout:
    nothing = torch.zeros(0)
    return Rollout(
        prompt=APPLE,
        proposal=Proposal(step, sample),
        reasoning=f"an apple of shade {shade}",
        reasoning_ids=torch.zeros(0, dtype=torch.long),
        text_states=nothing,
        text_log_probs=torch.tensor([-1.0, -2.0]),
        image_tokens=torch.zeros(0, dtype=torch.long),
        image_states=nothing,
        image_log_probs=torch.tensor([-0.5]),
        image=picture(shade),
    )


def stepped(index: int, shades: list[int], best: tuple[int, int], improved: bool) -> Stepped:
    """Step `index` drew pictures of these shades; the best so far is (step, shade)."""
    scores = [Score(shade / 255, {"shade": float(shade)}, "bright") for shade in shades]
    step = Step(index, [rollout(index, k, shade) for k, shade in enumerate(shades)], scores, {"loss": 0.5}, 0.1)
    return Stepped(APPLE, 0, step, progress(index, best, shades), improved)


def progress(index: int, best: tuple[int, int], shades: list[int]) -> Progress:
    sample = shades.index(best[1]) if best[1] in shades else 0
    return Progress(
        best=Best(picture(best[1]), "an apple", best[1] / 255, "bright", best[0], sample),
        steps_done=index + 1,
        images_decoded=2.0 * (index + 1),
        initial_reward=10 / 255,
        seconds=0.1 * (index + 1),
        method_state={"latents.text": torch.full((2, 3), float(index)), "adam.step": torch.tensor(index)},
    )


FIRST = stepped(0, [10, 20], best=(0, 20), improved=True)
WORSE = stepped(1, [5, 6], best=(0, 20), improved=False)
BETTER = stepped(2, [30, 40], best=(2, 40), improved=True)
END = Finished(APPLE, 0, BETTER.progress, "steps")


def shade_of(path: Path) -> Any:
    with Image.open(path) as image:
        return image.getpixel((0, 0))


def write_run(folder: Path, *events: Any, keep_steps: bool = False) -> None:
    with open_run(folder, IDENTITY, keep_steps=keep_steps) as run:
        for event in events:
            run.record(event)


def test_a_finished_search_leaves_its_best_picture_and_one_line(tmp_path: Path) -> None:
    write_run(tmp_path / "run", FIRST, WORSE, BETTER, END)
    (line,) = read_lines(tmp_path / "run" / "samples.jsonl")
    assert line["prompt"] == "a red apple"
    assert (line["initial_reward"], line["reward"], line["step"]) == (10 / 255, 40 / 255, 2)
    assert shade_of(tmp_path / "run" / line["image"]) == (40, 40, 40)
    assert not (tmp_path / "run" / "state").exists()


def test_a_finished_run_leaves_no_empty_folders(tmp_path: Path) -> None:
    events = [stepped(0, [50, 80], (0, 80), True), Finished(APPLE, 0, progress(0, (0, 80), [50, 80]), "steps")]
    with open_run(tmp_path, IDENTITY) as run:
        for event in events:
            run.record(event)
        run.forget_frames(("apple", 0))
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "steps").exists()


def test_the_best_picture_so_far_is_there_at_every_moment(tmp_path: Path) -> None:
    with open_run(tmp_path, IDENTITY) as run:
        for event, shade in [(FIRST, 20), (WORSE, 20), (BETTER, 40)]:
            run.record(event)
            assert shade_of(run.image_path(("apple", 0))) == (shade, shade, shade)


def test_the_trace_has_one_line_a_step_with_every_rollout(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, WORSE)
    first, second = read_lines(tmp_path / "trace" / "apple.jsonl")
    assert (first["step"], first["improved"], second["improved"]) == (0, True, False)
    assert second["facts"] == {"loss": 0.5}
    assert second["rollouts"][1] == {
        "reward": 6 / 255,
        "parts": {"shade": 6.0},
        "reason": "bright",
        "error": None,
        "cost": {},
        "reasoning": "an apple of shade 6",
        "text_log_prob": -3.0,
        "image_log_prob": -0.5,
        "file": None,
    }


def test_numbers_that_json_has_not_become_null(tmp_path: Path) -> None:
    append_line(tmp_path / "lines.jsonl", {"norm": float("nan"), "parts": [float("inf"), 1.0]})
    assert read_lines(tmp_path / "lines.jsonl") == [{"norm": None, "parts": [None, 1.0]}]


def test_frames_are_the_models_own_picture_and_each_better_one(tmp_path: Path) -> None:
    with open_run(tmp_path, IDENTITY) as run:
        for event in (FIRST, WORSE, BETTER, END):
            run.record(event)
        frames = run.frames(("apple", 0))
        assert [shade_of(frame.path)[0] for frame in frames] == [10, 20, 40]
        assert [(frame.step, frame.reward) for frame in frames] == [(0, 10 / 255), (0, 20 / 255), (2, 40 / 255)]
        run.forget_frames(("apple", 0))
        assert run.frames(("apple", 0)) == []


def test_keep_steps_keeps_every_picture_and_names_it_in_the_trace(tmp_path: Path) -> None:
    with open_run(tmp_path, IDENTITY, keep_steps=True) as run:
        run.record(FIRST)
        run.record(WORSE)
        run.forget_frames(("apple", 0))
    files = [rollout["file"] for line in read_lines(tmp_path / "trace" / "apple.jsonl") for rollout in line["rollouts"]]
    assert [shade_of(tmp_path / file)[0] for file in files] == [10, 20, 5, 6]


def test_progress_comes_back_from_disk_exactly(tmp_path: Path) -> None:
    before = BETTER.progress
    save_progress(tmp_path / "state.safetensors", before)
    after = load_progress(tmp_path / "state.safetensors")
    assert after is not None
    assert after.best.image.tobytes() == before.best.image.tobytes()
    assert replace(after.best, image=before.best.image) == before.best
    assert after.method_state.keys() == before.method_state.keys()
    for name, tensor in before.method_state.items():
        assert torch.equal(after.method_state[name], tensor)
        assert after.method_state[name].dtype == tensor.dtype
    same = {"best": before.best, "method_state": {}}
    assert replace(after, **same) == replace(before, **same)


@pytest.mark.parametrize("content", [b"", b"not tensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_state_that_cannot_be_read_starts_the_search_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.safetensors").write_bytes(content)
    assert load_progress(tmp_path / "state.safetensors") is None


def test_resume_skips_what_is_finished_and_knows_where_the_rest_stands(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, END, replace(FIRST, prompt=DOG))
    with open_run(tmp_path, IDENTITY, resume=True) as run:
        assert list(run.finished) == [("apple", 0)]
        assert {key: progress.steps_done for key, progress in run.resumable.items()} == {("dog", 0): 1}


def test_a_torn_last_line_is_tolerated_and_repaired(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, END)
    with (tmp_path / "samples.jsonl").open("ab") as file:
        file.write(b'{"id": "dog", "image_in')
    with open_run(tmp_path, IDENTITY, resume=True) as run:
        assert list(run.finished) == [("apple", 0)]
        run.record(replace(END, prompt=DOG))
    assert [line["id"] for line in read_lines(tmp_path / "samples.jsonl")] == ["apple", "dog"]


def test_a_damaged_line_in_the_middle_is_refused_by_number(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, END, replace(END, prompt=DOG))
    lines = (tmp_path / "samples.jsonl").read_bytes().split(b"\n")
    (tmp_path / "samples.jsonl").write_bytes(b"\n".join([lines[0][:20], *lines[1:]]))
    with pytest.raises(ResumeError, match=r"line 1 of .*samples\.jsonl"), open_run(tmp_path, IDENTITY, resume=True):
        pass


def test_trace_lines_of_a_step_whose_state_was_not_saved_are_dropped(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, WORSE)
    append_line(tmp_path / "trace" / "apple.jsonl", {"image_index": 0, "step": 2, "improved": False})
    with open_run(tmp_path, IDENTITY, resume=True):
        pass
    assert [line["step"] for line in read_lines(tmp_path / "trace" / "apple.jsonl")] == [0, 1]


def test_a_finished_search_whose_picture_is_gone_is_done_again(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, END)
    (tmp_path / "images" / "apple-0.png").unlink()
    with open_run(tmp_path, IDENTITY, resume=True) as run:
        assert not run.finished


def test_a_failed_search_is_recorded_with_its_reason_and_done_again_on_resume(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, Failed(APPLE, 0, "ValueError: the critic is out", FIRST.progress))
    (line,) = read_lines(tmp_path / "samples.jsonl")
    assert line["error"] == "ValueError: the critic is out"
    with open_run(tmp_path, IDENTITY, resume=True) as run:
        assert not run.finished
        run.record(END)
    with open_run(tmp_path, IDENTITY, resume=True) as run:
        assert list(run.finished) == [("apple", 0)]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(IDENTITY, config={"steps": 4, "images": 1}), r"steps = 3, not 4"),
        (
            replace(IDENTITY, config={**IDENTITY.config, "method.milr.lr": 0.1}),
            r"method\.milr\.lr = the default, not 0\.1",
        ),
        (replace(IDENTITY, prompts=[APPLE]), r"other prompts"),
        (replace(IDENTITY, model_fingerprint="0" * 64), r"another model weights|model weights"),
        (replace(IDENTITY, reward_version="brightness@2"), r"critic \(brightness@1, now brightness@2\)"),
    ],
)
def test_another_identity_refuses_to_resume_and_names_what_differs(
    tmp_path: Path, other: Identity, message: str
) -> None:
    write_run(tmp_path, FIRST)
    with pytest.raises(ResumeError, match=message), open_run(tmp_path, other, resume=True):
        pass


def test_other_versions_and_devices_may_resume(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST)
    with open_run(tmp_path, replace(IDENTITY, facts={"torch": "2.15"}), resume=True) as run:
        assert run.resumable


def test_a_folder_with_a_run_is_refused_unless_resume_is_asked_for(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST)
    with pytest.raises(ResumeError, match="--resume"), open_run(tmp_path, IDENTITY):
        pass


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match=r"thesis\.tex"), open_run(tmp_path, IDENTITY, resume=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_second_process_gets_a_clear_error(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, IDENTITY),
        pytest.raises(ResumeError, match=f"in use by another process .*{os.getpid()}"),
        open_run(tmp_path, IDENTITY, resume=True),
    ):
        pass


def test_a_lock_file_left_by_a_killed_process_does_not_block(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("pid 1")
    with open_run(tmp_path, IDENTITY) as run:
        run.record(FIRST)


@pytest.mark.parametrize("failing", ["fsync", "write"])
def test_a_full_disk_is_one_clear_error_and_leaves_what_is_there_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def no_space(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_run(tmp_path, IDENTITY) as run:
        run.record(FIRST)
        if failing == "fsync":
            monkeypatch.setattr(os, "fsync", no_space)
        else:
            monkeypatch.setattr(Path, "open", no_space)
        with pytest.raises(RunError, match="No space left on device"):
            run.record(BETTER)
        monkeypatch.undo()
    assert not list(tmp_path.rglob("*.part"))
    with open_run(tmp_path, IDENTITY, resume=True) as run:
        assert run.resumable["apple", 0].steps_done == 1
        assert shade_of(run.image_path(("apple", 0))) == (20, 20, 20)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "run.json", b"old")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "run.json", b"new")
    assert (tmp_path / "run.json").read_bytes() == b"old"


def test_run_json_says_who_the_run_is(tmp_path: Path) -> None:
    write_run(tmp_path)
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["config"] == {"steps": 3, "images": 1}
    assert content["model_fingerprint"] == "f" * 64
    assert content["prompts"][1] == {"id": "dog", "prompt": "a dog", "tag": "single_object"}


@pytest.mark.parametrize("identity", ["../../evil", "", ".hidden", "a/b"])
def test_an_id_in_run_json_that_could_leave_the_folder_is_refused(tmp_path: Path, identity: str) -> None:
    write_run(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    record["prompts"][0]["id"] = identity
    path.write_text(json.dumps(record))
    with pytest.raises(ResumeError, match="not the record of a milr run"):
        read_identity(tmp_path / "run")


def test_a_line_of_samples_that_names_a_foreign_picture_does_not_count(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    foreign = {"id": "apple", "image_index": 0, "image": "../secret.png", "prompt": "a red apple"}
    (tmp_path / "secret.png").write_bytes(b"")
    append_line(tmp_path / "run" / "samples.jsonl", foreign)
    append_line(tmp_path / "run" / "samples.jsonl", {"image": 3})
    with open_run(tmp_path / "run", IDENTITY, resume=True) as run:
        assert run.finished == {}
    assert read_lines(tmp_path / "run" / "samples.jsonl") == []
