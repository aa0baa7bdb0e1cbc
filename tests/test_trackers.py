"""Trackers, with the real libraries: what they write is read back from the disk, and no network is needed."""

from __future__ import annotations

import importlib
import json
import logging
import os
import socket
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from milr import trackers
from milr.errors import UnknownNameError, UsageError
from milr.events import Best, Event, Failed, Finished, Progress, Started, Step, Stepped
from milr.prompts import Prompt
from milr.rewards import Score
from milr.run_identity import Identity
from milr.runs import open_run
from milr.tracker_libraries import TRACKERS, Tracker
from milr.trackers import check_trackers, open_trackers
from tests.evaluation.file_server import no_proxies

APPLE, DOG = Prompt("a red apple", "apple"), Prompt("a dog", "dog")
IDENTITY = Identity({"steps": 3, "images": 1}, [APPLE, DOG], "f" * 64, "brightness@1")
CONFIG = {"steps": 3, "reward": ["brightness"], "target": None}


@pytest.fixture(autouse=True)
def _nobodys_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, folder or server of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "TRACKIO_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("NETRC", raising=False)
    no_proxies(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def fresh_trackio(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not imported it, and knows no folder yet."""
    pytest.importorskip("trackio")
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)


def stepped(
    prompt: Prompt, index: int, *rewards: float | None, best: float | None, facts: Mapping[str, float] | None = None
) -> Stepped:
    scores = [Score(reward, error=None if reward is not None else "broken") for reward in rewards]
    return Stepped(prompt, 0, Step(index, [], scores, dict(facts or {}), 0.5), progress(best, index), True)


def progress(best: float | None, step: int) -> Progress:
    picture = Image.new("RGB", (8, 6), (10 * step, 200, 0))
    return Progress(Best(picture, "", best, "bright", step, 0), step + 1, 2.0 * (step + 1), 0.25, 0.5 * (step + 1))


def finished(prompt: Prompt, best: float, step: int) -> Finished:
    return Finished(prompt, 0, progress(best, step), "steps")


EVENTS: list[Event] = [
    Started(APPLE, 0, 0),
    stepped(APPLE, 0, 0.25, 0.75, None, best=0.75, facts={"loss": 4.0, "gradient_norm": float("nan")}),
    stepped(DOG, 0, None, best=None),
    stepped(DOG, 1, 0.25, best=0.25),
    finished(APPLE, 0.75, 0),
    Failed(DOG, 0, "the critic is out", progress(0.25, 1)),
]


class Recorder(Tracker):
    """Keeps what it is told, and fails where it is told to."""

    def __init__(self, fails_in: str = "") -> None:
        self.place, self.told, self._fails_in = "memory", list[tuple[Any, ...]](), fails_in

    def _keep(self, what: str, *told: Any) -> None:
        if what == self._fails_in:
            raise OSError("the tracker's\nserver is gone")
        self.told.append((what, *told))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._keep("log", dict(figures), step)

    def picture(self, image: Image.Image, caption: str, step: int) -> None:
        self._keep("picture", caption, step)

    def summary(self, figures: Mapping[str, float], step: int) -> None:
        self._keep("summary", dict(figures), step)

    def close(self) -> None:
        self._keep("close")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Stands for tensorboard."""
    recorder = Recorder()
    monkeypatch.setitem(TRACKERS, "tensorboard", lambda *_: recorder)
    return recorder


def follow(names: list[str], run: Path, events: list[Event] = EVENTS, searches: int = 0) -> list[str]:
    """Events of a run that is not on disk; returns where to look at it."""
    with open_trackers(names, run, "a run", CONFIG, searches) as opened:
        for event in events:
            opened.show(event)
        opened.summary({"overall": 0.5, "tags": {"colors": 0.25, "note": "text"}, "oracle": True})
        return opened.places


def logged(recorder: Recorder, name: str) -> list[tuple[float, int]]:
    return [(figures[name], step) for what, figures, step in recorder.told[:-2] if what == "log" and name in figures]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """By milr; libraries log much."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("milr.")]


def test_an_unknown_tracker_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown tracker 'tensorbord'\. Did you mean 'tensorboard'"):
        check_trackers(["tensorbord"])


def test_a_missing_package_is_refused_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'milr\[wandb\]'"):
        open_trackers(["wandb"], tmp_path, "a run", CONFIG)


def test_without_trackers_nothing_happens(tmp_path: Path) -> None:
    assert follow([], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_figures_are_those_of_the_step_and_of_all_searches(recorder: Recorder, tmp_path: Path) -> None:
    follow(["tensorboard", "tensorboard"], tmp_path)
    assert recorder.told[0] == (
        "log",
        {
            "step/reward": 0.5,
            "step/loss": 4.0,
            "step/seconds": 0.5,
            "run/best_reward": 0.75,
            "run/pictures_decoded": 2.0,
            "run/searches_ended": 0,
            "run/searches_failed": 0,
        },
        1,
    )
    assert logged(recorder, "step/reward") == [(0.5, 1), (0.25, 3)]
    assert logged(recorder, "run/best_reward") == [(0.75, 1), (0.75, 2), (0.5, 3), (0.5, 3), (0.5, 3)]
    assert logged(recorder, "run/pictures_decoded") == [(2, 1), (4, 2), (6, 3), (6, 3), (6, 3)]
    assert logged(recorder, "run/searches_ended") == [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]
    assert logged(recorder, "run/searches_failed") == [(0, 1), (0, 2), (0, 3), (0, 3), (1, 3)]
    assert recorder.told[-2:] == [("summary", {"overall": 0.5, "tags/colors": 0.25}, 3), ("close",)]


def test_few_searches_have_charts_of_their_own(recorder: Recorder, tmp_path: Path) -> None:
    follow(["tensorboard"], tmp_path, searches=8)
    assert logged(recorder, "apple-0/best_reward") == [(0.75, 1)]
    assert logged(recorder, "dog-0/pictures_decoded") == [(2, 2), (4, 3)]
    recorder.told.clear()
    follow(["tensorboard"], tmp_path, searches=9)
    assert not logged(recorder, "apple-0/best_reward")


def test_the_first_pictures_are_shown_with_prompt_and_reward(recorder: Recorder, tmp_path: Path) -> None:
    follow(["tensorboard"], tmp_path, [finished(APPLE, 0.75, 2)] * (trackers.MOST_PICTURES + 3))
    pictures = [told for told in recorder.told if told[0] == "picture"]
    assert pictures == [("picture", "a red apple (reward 0.750, step 2)", 0)] * trackers.MOST_PICTURES


def test_a_resumed_run_goes_on_where_its_trace_ends(recorder: Recorder, tmp_path: Path) -> None:
    with open_run(tmp_path, IDENTITY) as run:
        for event in EVENTS:
            run.record(replace(event, step=replace(event.step, scores=[])) if isinstance(event, Stepped) else event)
    with open_run(tmp_path, IDENTITY, resume=True):  # drops the search that failed
        follow(["tensorboard"], tmp_path, [stepped(DOG, 0, 0.25, best=0.25)])
    assert logged(recorder, "run/best_reward") == [(0.5, 2)]
    assert logged(recorder, "run/searches_ended") == [(1, 2)]
    assert logged(recorder, "run/pictures_decoded") == [(4, 2)]


@pytest.mark.parametrize("call", ["log", "picture", "summary", "close"])
def test_a_tracker_that_fails_is_named_once_and_left_out(
    call: str, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Recorder(fails_in=call)
    monkeypatch.setitem(TRACKERS, "trackio", lambda *_: failing)
    with caplog.at_level(logging.WARNING):
        follow(["trackio", "tensorboard"], tmp_path)
    assert said(caplog) == ["tracker 'trackio' is left out from here on: the tracker's server is gone"]
    assert recorder.told[-1] == ("close",)


def test_a_tracker_that_cannot_be_opened_is_left_out(
    recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tracking.json").mkdir()  # where Trackio's run would have its name from
    with caplog.at_level(logging.WARNING):
        assert follow(["trackio", "tensorboard"], tmp_path) == ["memory"]
    (message,) = said(caplog)
    assert message.startswith("tracker 'trackio' is left out from here on: ")


def test_tensorboard_has_scalars_pictures_and_settings(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (place,) = follow(["tensorboard"], tmp_path)
    assert place == f"tensorboard: tensorboard --logdir {tmp_path / 'tensorboard'}"
    read = accumulators.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in read.Scalars("step/reward")] == [(1, 0.5), (3, 0.25)]
    assert [each.value for each in read.Scalars("summary/tags/colors")] == [0.25]
    assert "step/gradient_norm" not in read.Tags()["scalars"]
    assert [(each.step, each.width, each.height) for each in read.Images("picture")] == [(3, 8, 6), (3, 8, 6)]
    (config,) = read.Tensors("config/text_summary")
    assert b'"reward": [\n    "brightness"\n  ]' in config.tensor_proto.string_val[0]


def test_trackio_keeps_one_run_in_the_run_folder_and_prints_nothing(
    fresh_trackio: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place,) = follow(["trackio"], tmp_path)
    follow(["trackio"], tmp_path)
    assert place == f"trackio: TRACKIO_DIR={tmp_path / 'trackio'} trackio show"
    assert capsys.readouterr().out == ""
    with sqlite3.connect(tmp_path / "trackio" / "milr.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics").fetchall()
    metrics: dict[str, Any] = {}
    for _, _, text in rows:
        metrics |= json.loads(text)
    assert len({name for name, _, _ in rows}) == 1
    assert {step for _, step, _ in rows} == {1, 2, 3}
    assert (metrics["step/reward"], metrics["summary/tags/colors"]) == (0.25, 0.25)
    assert len(list((tmp_path / "trackio" / "media").rglob("*.png"))) == 4


def test_a_folder_of_the_users_own_is_respected(
    fresh_trackio: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "mine"))
    follow(["trackio"], tmp_path / "run")
    assert (tmp_path / "mine" / "milr.db").is_file()
    assert not (tmp_path / "run" / "trackio").exists()


def test_wandb_records_offline_without_a_key_and_a_resume_is_the_same_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    wandb = pytest.importorskip("wandb")
    with caplog.at_level(logging.WARNING):
        (place,) = follow(["wandb"], tmp_path)
    (message,) = said(caplog)
    assert message == "wandb records offline, 'wandb sync' uploads it later: there is no key, 'wandb login' takes one"
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()  # the environment is read once
    caplog.clear()
    follow(["wandb"], tmp_path)
    wandb.teardown()
    assert said(caplog) == []
    assert capsys.readouterr().out == ""
    first, second = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert first.name == second.name
    assert place in [f"wandb: wandb sync {file.parent}" for file in (first, second)]  # two of the same second
    history = [record.history for record in wandb_records(first) if record.HasField("history")]
    rows = [{item.key or item.nested_key[0]: item.value_json for item in each.item} for each in history]
    assert [(row["steps"], row["step/reward"]) for row in rows if "step/reward" in row] == [("1", "0.5"), ("3", "0.25")]
    assert len(list(first.parent.glob("files/media/images/*.png"))) == 2
    summaries = [item for record in wandb_records(first) for item in record.summary.update]
    assert ("overall", "0.5") in [(item.key or item.nested_key[0], item.value_json) for item in summaries]


def test_wandb_records_offline_where_its_server_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wandb = pytest.importorskip("wandb")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", "canary0123456789" * 3)
    wandb.teardown()
    with caplog.at_level(logging.WARNING):
        (place,) = follow(["wandb"], tmp_path)
    wandb.teardown()
    (message,) = said(caplog)
    assert "cannot be reached" in message
    assert place.startswith(f"wandb: wandb sync {tmp_path / 'wandb' / 'offline-run-'}")


def test_wandb_that_is_disabled_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb.teardown()
    assert follow(["wandb"], tmp_path) == ["wandb: disabled"]
    wandb.teardown()
    assert not (tmp_path / "wandb").exists()


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a short offline run: seven bytes, then for each a checksum, its length, its kind, and itself."""
    record = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    content = path.read_bytes()[7:]
    while content:
        length = int.from_bytes(content[4:6], "little")
        yield record.FromString(content[7 : 7 + length])
        content = content[7 + length :]
