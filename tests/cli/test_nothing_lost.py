"""What can go wrong under an evaluation: each has its one clear line, loses nothing, and can be gone on from."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from milr import plugins
from milr.evaluation.judgements import read_judgements
from milr.run_files import read_lines
from milr_cli import main
from tests.run_contents import contents, damage, differences

from .conftest import Milr, Outcome, Spawn

Happen = Callable[[str, Callable[[], object]], None]


def completed(given: tuple[str, ...], model: Path) -> list[str]:
    """`milr evaluate shades`: two prompts, two pictures of each, one step of two samples unless told otherwise."""
    defaults = {"--model": str(model), "--steps": "1", "--samples": "2", "--out": "run", "--limit": "2"}
    added = [text for name, value in defaults.items() if name not in given for text in (name, value)]
    return ["evaluate", "shades", *added, *given]


@pytest.fixture
def evaluate(milr: Milr, tiny_model: Path) -> Milr:
    """`milr evaluate shades` on the tiny model."""
    return lambda *arguments: milr(*completed(arguments, tiny_model))


@pytest.fixture
def go_on(milr: Milr) -> Milr:
    """`milr evaluate --resume` of the run."""

    def call(*arguments: str) -> Outcome:
        return milr("evaluate", "--resume", "--out", "run", *arguments)

    return call


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, plugin_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(plugin_folder)
        plugins.plugins.cache_clear()
        assert main.run(completed(("--out", str(out)), tiny_model)) == 0
    plugins.plugins.cache_clear()
    return out


@pytest.fixture
def run(milr: Milr, undisturbed: Path, tmp_path: Path) -> Path:
    """A finished run."""
    return shutil.copytree(undisturbed, tmp_path / "run")


@pytest.fixture
def while_scoring(third_party_plugin: None, monkeypatch: pytest.MonkeyPatch) -> Happen:
    """Has something happen, once, when a critic of the third party's is shown pictures."""

    def arrange(critic: str, happen: Callable[[], object]) -> None:
        kind = getattr(importlib.import_module("brightness"), critic)
        plainly = kind.score
        waiting = [happen]

        def score(self: Any, images: Any, prompts: Any) -> Any:
            while waiting:
                waiting.pop()()
            return plainly(self, images, prompts)

        monkeypatch.setattr(kind, "score", score)

    return arrange


def interrupted() -> None:
    raise KeyboardInterrupt


def refused(outcome: Outcome, *fragments: str) -> None:
    """In one line that says all of it."""
    assert outcome.code == 2, outcome
    assert outcome.stderr.startswith("milr: ")
    assert len(outcome.stderr.splitlines()) == 1, outcome.stderr
    for fragment in fragments:
        assert fragment in outcome.stderr


def failed(outcome: Outcome, *fragments: str) -> None:
    """While at work, with one line in the end."""
    assert outcome.code == 1, outcome
    assert "Traceback" not in outcome.stderr
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("milr: ")
    for fragment in fragments:
        assert fragment in last


# A full disk


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("critic", "full"),
    [
        ("Brightness", "trace/fruit-0.jsonl"),
        ("Brightness", "images/fruit-0/.0.png.part"),
        ("Brightness", "state/.beast-0-1.safetensors.part"),
        ("Brightness", "samples.jsonl"),
        ("Brightness", "images/.prompts.txt.part"),
        ("Redness", "judgements.jsonl"),
        ("Redness", ".results.json.part"),
    ],
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    undisturbed: Path, evaluate: Milr, milr: Milr, while_scoring: Happen, tmp_path: Path, critic: str, full: str
) -> None:
    path = tmp_path / "full" / full

    def fill() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to("/dev/full")

    while_scoring(critic, fill)
    failed(evaluate("--out", "full"), "cannot write", "No space left on device", "--resume")
    path.unlink(missing_ok=True)
    assert damage(tmp_path / "full") == []
    assert milr("evaluate", "--resume", "--out", "full").code == 0
    assert list(differences(contents(undisturbed), contents(tmp_path / "full"))) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in `disk`; tests that fill it make room with `mount -o remount`."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("pages", [2, 6, 8, 10, 12, 14])
def test_a_disk_that_is_really_full_keeps_what_was_written(
    undisturbed: Path, evaluate: Milr, milr: Milr, small_disk: Path, pages: int
) -> None:
    def resize(kilobytes: int) -> None:
        command = ["mount", "-o", f"remount,size={kilobytes}k", str(small_disk)]
        subprocess.run(command, check=True, capture_output=True)

    resize(4 * pages)
    outcome = evaluate("--out", str(small_disk / "run"))
    assert outcome.code in (1, 2), outcome
    assert "No space left on device" in outcome.stderr.splitlines()[-1]
    assert "Traceback" not in outcome.stderr
    assert damage(small_disk) == []
    resize(4096)
    begun = (small_disk / "run" / "run.json").exists()
    again = (
        milr("evaluate", "--resume", "--out", str(small_disk / "run"))
        if begun
        else evaluate("--out", str(small_disk / "run"))
    )
    assert again.code == 0, again
    assert list(differences(contents(undisturbed), contents(small_disk / "run"))) == []


# A folder that cannot be written


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_place_where_nobody_can_write_is_refused(evaluate: Milr) -> None:
    refused(evaluate("--out", "/proc/self/run"), "cannot write to /proc/self/run", "choose another --out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_that_has_become_read_only_is_kept_as_it_is(run: Path, go_on: Milr) -> None:
    before = contents(run)
    (run / "images" / "fruit-0" / "0.png").unlink()
    folders = [run, *filter(Path.is_dir, run.rglob("*"))]
    for folder in folders:
        folder.chmod(0o500)
    failed(go_on(), "cannot write", "Permission denied")
    for folder in folders:
        folder.chmod(0o700)
    assert go_on().code == 0
    assert list(differences(before, contents(run))) == []


# A data file that has gone


@pytest.mark.parametrize(("benchmark", "tag"), [("scenes", "two_relations"), ("geneval", "single_object")])
def test_a_run_goes_on_without_the_file_that_its_prompts_came_from(
    milr: Milr, tiny_model: Path, while_scoring: Happen, tmp_path: Path, benchmark: str, tag: str
) -> None:
    data = tmp_path / "data.jsonl"
    rows = [
        {"tag": tag, "include": [{"class": it, "count": 1}], "prompt": f"a photo of a {it}"} for it in ("dog", "cat")
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["evaluate", benchmark, "--data", str(data), "--model", str(tiny_model), "--steps", "1", "--images", "1"]
    command += ["--samples", "2", "--reward", "brightness", "--judge", "redness"]
    assert milr(*command, "--out", "undisturbed").code == 0
    while_scoring("Redness", interrupted)
    assert milr(*command, "--out", "run").code == 130
    data.unlink()
    refused(milr("evaluate", "--resume", "--out", "run", "--data", str(data)), str(data))
    refused(milr(*command, "--out", "new"), str(data))
    assert not (tmp_path / "new").exists()
    assert milr("evaluate", "--resume", "--out", "run").code == 0
    assert list(differences(contents(tmp_path / "undisturbed"), contents(tmp_path / "run"))) == []


# Lines that are torn, and lines that are damaged


@pytest.mark.parametrize("name", ["samples.jsonl", "judgements.jsonl"])
def test_the_work_of_a_torn_last_line_is_done_again(run: Path, go_on: Milr, name: str) -> None:
    before = contents(run)
    os.truncate(run / name, (run / name).stat().st_size - 20)
    assert go_on().code == 0
    assert list(differences(before, contents(run))) == []


def test_what_is_torn_behind_the_trace_of_a_finished_search_is_taken_away(run: Path, go_on: Milr) -> None:
    before = contents(run)
    with (run / "trace" / "fruit-0.jsonl").open("ab") as file:
        file.write(b'{"image_index": 0, "st')
    assert go_on().code == 0
    assert contents(run) == before


@pytest.mark.parametrize("name", ["samples.jsonl", "trace/fruit-0.jsonl", "judgements.jsonl"])
@pytest.mark.parametrize("damaged", [b"{", b"3", b"\xff\0", b"[" * 100_000], ids=["torn", "number", "bytes", "deep"])
def test_a_damaged_line_is_named_and_nothing_is_touched(run: Path, go_on: Milr, name: str, damaged: bytes) -> None:
    first, second, *others = (run / name).read_bytes().split(b"\n")
    (run / name).write_bytes(b"\n".join([first, damaged, second, *others]))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    refused_in_the_end(go_on(), f"line 2 of run/{name} is damaged", "delete it to have that work done again")
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before
    (run / name).write_bytes(b"\n".join([first, second, *others]))
    assert go_on().code == 0


def refused_in_the_end(outcome: Outcome, *fragments: str) -> None:
    """As `refused`, after it was said which words a model does not know."""
    lines = [line for line in outcome.stderr.splitlines() if "does not know" not in line]
    refused(Outcome(outcome.code, outcome.stdout, "\n".join(lines)), *fragments)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"id": "fruit-0"', '"id": ["fruit-0"]'),
        ('"image_index": 0', '"image_index": {}'),
        ('"value": ', '"value": "much", "reason": '),
        ('"judge": "redness", ', ""),
        ('"judge": "redness"', '"jugde": "redness"'),
    ],
)
def test_a_line_that_is_no_judgement_is_named(run: Path, go_on: Milr, before: str, after: str) -> None:
    first, second, *others = (run / "judgements.jsonl").read_text().splitlines(keepends=True)
    (run / "judgements.jsonl").write_text("".join([second, first.replace(before, after, 1), first, *others]))
    refused_in_the_end(go_on(), "line 2 of run/judgements.jsonl is", "delete it to have that work done again")


@pytest.mark.parametrize("name", ["reward", "seconds", "images_decoded", "cost"])
def test_a_line_that_is_no_record_of_a_picture_is_named(run: Path, go_on: Milr, name: str) -> None:
    path = run / "samples.jsonl"
    first, second, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first, second.replace(f'"{name}": ', f'"{name}": "much", "other": '), *others]))
    refused_in_the_end(go_on(), "line 2 of run/samples.jsonl is no record of a picture", "delete it")


# What was left half done


def test_what_a_kill_leaves_beside_a_finished_search_is_taken_away(run: Path, go_on: Milr) -> None:
    before = contents(run)
    (run / "state").mkdir()
    (run / "state" / "fruit-0-0.safetensors").write_bytes(b"of a step before the last")
    (run / "images" / "fruit-0" / ".0.png.part").write_bytes(b"half")
    assert go_on().code == 0
    assert contents(run) == before


def test_controls_that_begin_after_a_resume_are_those_of_an_undisturbed_run(
    evaluate: Milr, go_on: Milr, while_scoring: Happen, tmp_path: Path
) -> None:
    command = ["--controls", "--limit", "1", "--images", "1"]
    assert evaluate(*command, "--out", "undisturbed").code == 0
    while_scoring("Redness", interrupted)
    outcome = evaluate(*command)
    assert outcome.code == 130
    assert "Go on with: milr evaluate" in outcome.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "controls").exists()
    assert go_on().code == 0
    assert list(differences(contents(tmp_path / "undisturbed"), contents(tmp_path / "run"))) == []


# Two processes, and other settings


def test_a_second_process_is_refused_and_the_first_is_not_disturbed(
    undisturbed: Path, evaluate: Milr, while_scoring: Happen, spawn: Spawn, tmp_path: Path
) -> None:
    said = []

    def intrude() -> None:
        process = spawn("evaluate", "--resume", "--out", str(tmp_path / "busy"))
        _, stderr = process.communicate()
        said.append((process.returncode, stderr))

    while_scoring("Brightness", intrude)
    assert evaluate("--out", "busy").code == 0
    ((code, stderr),) = said
    assert code == 2
    assert f"busy is in use by another process (pid {os.getpid()})" in stderr.splitlines()[-1]
    assert list(differences(contents(undisturbed), contents(tmp_path / "busy"))) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "3"], "steps = 1, not 3"),
        (["--limit", "3"], "limit = 2, not 3"),
        (["--categories", "beast"], 'categories = the default, not "beast"'),
        (["--shard", "1/2"], 'shard = the default, not "1/2"'),
        (["--protocol", "official"], 'protocol = the default, not "official"'),
        (["--protocol", "paper"], 'protocol = the default, not "paper"'),
        (["--images", "3"], "images = 2, not 3"),
        (["--seed", "1"], "seed = 0, not 1"),
        (["--method", "resample"], 'method = "milr", not "resample"'),
        (["--reward", "redness"], 'reward = ["brightness"], not ["redness"]'),
        (["--set", "method.milr.lr=0.5"], "method.milr.lr = the default, not 0.5"),
        (["scenes"], 'benchmark = "shades", not "scenes"'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_other_settings_are_refused_and_named(run: Path, go_on: Milr, arguments: list[str], message: str) -> None:
    before = contents(run)
    refused(go_on(*arguments), message, "leave that option out, or choose another --out")
    assert contents(run) == before


def write_critic(path: Path, factor: int) -> None:
    path.write_text(f"def size(image, prompt):\n    return {factor} * image.getpixel((0, 0))[0] / 255\n")


def test_another_version_of_the_critic_is_refused_with_both_versions(
    evaluate: Milr, go_on: Milr, tmp_path: Path
) -> None:
    write_critic(tmp_path / "critic.py", 1)
    assert evaluate("--reward", "python:critic.py:size").code == 0
    run = tmp_path / "run"
    before, version = contents(run), contents(run)["run.json"]["reward_version"]
    write_critic(tmp_path / "critic.py", 2)
    outcome = go_on()
    assert outcome.code == 2
    assert f"another critic ({version}, now " in outcome.stderr.splitlines()[-1]
    assert contents(run) == before
    write_critic(tmp_path / "critic.py", 1)
    assert go_on().code == 0
    assert list(differences(before, contents(run))) == []


def test_another_version_of_the_judge_judges_again_and_draws_nothing(
    evaluate: Milr, go_on: Milr, tmp_path: Path
) -> None:
    write_critic(tmp_path / "judge.py", 1)
    assert evaluate("--judge", "python:judge.py:size").code == 0
    run = tmp_path / "run"
    before = contents(run)
    write_critic(tmp_path / "judge.py", 2)
    outcome = go_on()
    assert outcome.code == 0
    assert "python:judge.py:size: 4 pictures judged" in outcome.stderr
    after = contents(run)
    assert {path for path in before if before[path] != after[path]} == {"judgements.jsonl", "results.json"}
    assert after["results.json"]["judge"]["version"] != before["results.json"]["judge"]["version"]
    values = {(line["judge"], line["id"], line["image_index"]): line["value"] for line in before["judgements.jsonl"]}
    assert {key: judgement.value for key, judgement in read_judgements(run).items()} == {
        key: 2 * value for key, value in values.items()
    }
    assert len(read_lines(run / "judgements.jsonl")) == 8  # what was said before stays


# What somebody else did to a finished run


@pytest.mark.parametrize("content", ["", "not JSON", "[]", '{"format": 0}'])
def test_results_of_another_format_are_written_again(run: Path, go_on: Milr, content: str) -> None:
    before = contents(run)
    (run / "results.json").write_text(content)
    assert go_on().code == 0
    assert list(differences(before, contents(run))) == []


@pytest.mark.parametrize(
    "harm",
    [Path.unlink, lambda path: os.truncate(path, 60), lambda path: os.truncate(path, 0)],
    ids=["deleted", "truncated", "empty"],
)
def test_a_picture_that_is_lost_is_drawn_again_and_judged_once(
    run: Path, go_on: Milr, harm: Callable[[Path], object]
) -> None:
    before = contents(run)
    others = {path: path.stat().st_mtime_ns for path in run.glob("images/*/1.png")}
    harm(run / "images" / "fruit-0" / "0.png")
    assert go_on().code == 0
    assert list(differences(before, contents(run))) == []
    assert {path: path.stat().st_mtime_ns for path in others} == others
