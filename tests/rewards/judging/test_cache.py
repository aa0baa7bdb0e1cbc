"""Replies on disk: shared by threads and processes, safe from kill -9, and never a reason to fail."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sqlite3
import threading
from pathlib import Path

import pytest

from milr_rewards.judging import cache as judge_cache
from milr_rewards.judging.cache import ReplyCache, default_path
from milr_rewards.judging.endpoint import in_parallel


def test_a_reply_is_kept_under_its_key(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "judge.sqlite")
    assert cache.get("a") is None
    cache.put("a", "yes: 是", 100, 10)
    cache.put("b", "no", 1, 1)
    assert (cache.get("a"), cache.get("b")) == ("yes: 是", "no")


def test_a_later_reply_replaces_an_earlier_one(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "judge.sqlite")
    cache.put("a", "yes", 1, 1)
    cache.put("a", "no", 1, 1)
    assert cache.get("a") == "no"


def test_another_cache_of_the_same_file_knows_it_too(tmp_path: Path) -> None:
    ReplyCache(tmp_path / "judge.sqlite").put("a", "yes", 1, 1)
    assert ReplyCache(str(tmp_path / "judge.sqlite")).get("a") == "yes"


def test_folders_are_made(tmp_path: Path) -> None:
    ReplyCache(tmp_path / "some" / "where" / "judge.sqlite").put("a", "yes", 1, 1)
    assert (tmp_path / "some" / "where" / "judge.sqlite").is_file()


def test_without_a_path_nothing_is_kept() -> None:
    cache = ReplyCache(None)
    cache.put("a", "yes", 1, 1)
    assert cache.get("a") is None


def test_the_default_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert default_path() == "/some/where/milr/judge.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_path() == "~/.cache/milr/judge.sqlite"


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ReplyCache("~/judge.sqlite").put("a", "yes", 1, 1)
    assert (tmp_path / "judge.sqlite").is_file()


def _damaged(folder: Path) -> Path:
    file = folder / "judge.sqlite"
    file.write_bytes(b"this is no database, and long enough to be sure of it " * 100)
    return file


def _truncated(folder: Path) -> Path:
    file = folder / "judge.sqlite"
    cache = ReplyCache(file)
    for index in range(200):
        cache.put(str(index), "yes" * 100, 1, 1)
    file.write_bytes(file.read_bytes()[:5000])
    return file


def _foreign(folder: Path) -> Path:
    file = folder / "judge.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE replies (something TEXT)")
    connection.close()
    return file


def _folder(folder: Path) -> Path:
    return folder


def _below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "judge.sqlite"


def _impossible(folder: Path) -> Path:
    return folder / "a\0b"


@pytest.mark.parametrize("place", [_damaged, _truncated, _foreign, _folder, _below_a_file, _impossible])
def test_an_unusable_file_is_one_warning_and_then_no_cache(
    place: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(place)
    cache = ReplyCache(place(tmp_path))
    for _ in range(3):
        cache.put("a", "yes", 1, 1)
        assert cache.get("a") is None
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "reward 'judge' keeps no replies" in warnings[0].getMessage()


def test_a_file_that_another_process_holds_for_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ReplyCache(tmp_path / "judge.sqlite")
    cache.put("a", "yes", 1, 1)
    monkeypatch.setattr(judge_cache, "PATIENCE", 0.0)
    holder = sqlite3.connect(tmp_path / "judge.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    cache.put("b", "yes", 1, 1)
    holder.close()
    assert "database is locked" in caplog.text


def test_reading_does_not_wait_for_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ReplyCache(tmp_path / "judge.sqlite")
    cache.put("a", "yes", 1, 1)
    monkeypatch.setattr(judge_cache, "PATIENCE", 0.0)
    holder = sqlite3.connect(tmp_path / "judge.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert cache.get("a") == "yes"
    holder.close()


@pytest.mark.parametrize("file", range(10))  # the first to come makes it, and the others must wait
def test_many_threads_write_at_once(tmp_path: Path, file: int) -> None:
    cache = ReplyCache(tmp_path / f"{file}.sqlite")
    together = threading.Barrier(8)

    def work(item: int) -> None:
        together.wait(30)
        cache.put(str(item), f"reply {item}", 1, 1)

    in_parallel(work, range(40), 8)
    assert [cache.get(str(item)) for item in range(40)] == [f"reply {item}" for item in range(40)]


def _write(path: Path, first: int) -> None:
    cache = ReplyCache(path)
    for item in range(first, first + 20):
        cache.put(str(item), f"reply {item}", 1, 1)


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(path, first)) for first in (0, 20, 40)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [ReplyCache(path).get(str(item)) for item in range(60)] == [f"reply {item}" for item in range(60)]


def _write_and_die(path: Path) -> None:
    ReplyCache(path).put("a", "yes", 1, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_paid_for_survives_a_kill(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(tmp_path / "judge.sqlite",))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert ReplyCache(tmp_path / "judge.sqlite").get("a") == "yes"
