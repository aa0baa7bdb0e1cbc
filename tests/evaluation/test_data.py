"""The official files: what is fetched, tried again, refused, kept and found, against a server on loopback."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from milr.errors import PromptError, RunError, UsageError
from milr.evaluation.data import ATTEMPTS, data_folder, fetch, find, is_fetched, verify

from .file_server import COMMIT, NAMES, ONE_FILE, PROMPTS, TWO_FILES, FileServer, Reply, no_proxies, serving

WHERE = "all%20prompts/prompts.jsonl"
RIGHT = Reply(PROMPTS)


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_proxies(monkeypatch)
    monkeypatch.setenv("MILR_DATA", str(tmp_path / "data"))


def fetch_one(server: FileServer, folder: Path, naps: list[float] | None = None) -> bytes:
    """The one official file, fetched without ever sleeping."""
    (path,) = fetch("tiny", ONE_FILE, folder, server.url, sleep=(naps if naps is not None else []).append)
    return path.read_bytes()


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_folder_is_named_by_benchmark_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("MILR_DATA", "~/benchmarks")
    assert data_folder("tiny", ONE_FILE) == Path("/home/someone/benchmarks/tiny", COMMIT[:12])
    monkeypatch.delenv("MILR_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", "/srv/share")
    assert data_folder("tiny", ONE_FILE) == Path("/srv/share/milr/tiny", COMMIT[:12])
    monkeypatch.delenv("XDG_DATA_HOME")
    assert data_folder("tiny", ONE_FILE) == Path("/home/someone/.local/share/milr/tiny", COMMIT[:12])


def test_files_are_fetched_from_the_commit_and_reported(tmp_path: Path) -> None:
    told: list[tuple[Path, bool]] = []
    with serving({WHERE: RIGHT, "names.txt": Reply(NAMES)}) as server:
        paths = fetch("tiny", TWO_FILES, tmp_path, f"{server.url}/", lambda path, there: told.append((path, there)))
    assert [path.read_bytes() for path in paths] == [PROMPTS, NAMES]
    assert told == [(tmp_path / "prompts.jsonl", False), (tmp_path / "names.txt", False)]
    assert server.asked == [f"/someone/tiny/{COMMIT}/{WHERE}", f"/someone/tiny/{COMMIT}/names.txt"]
    assert is_fetched(TWO_FILES, tmp_path)


def test_a_file_that_is_right_stays_and_a_wrong_one_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_bytes(PROMPTS)
    (tmp_path / "names.txt").write_bytes(NAMES.upper())
    told = []
    with serving({WHERE: RIGHT, "names.txt": Reply(NAMES)}) as server:
        fetch("tiny", TWO_FILES, tmp_path, server.url, lambda path, was_there: told.append(was_there))
    assert (tmp_path / "names.txt").read_bytes() == NAMES
    assert told == [True, False]
    assert server.asked == [f"/someone/tiny/{COMMIT}/names.txt"]


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(status=408),
        Reply(status=429),
        Reply(status=500),
        Reply(status=503),
        Reply(PROMPTS[:20], announced=len(PROMPTS)),
        Reply(PROMPTS[:20]),
        Reply(PROMPTS[:20], announced=-1),
    ],
    ids=lambda reply: f"{reply.status}-{len(reply.body)}-{reply.announced}",
)
def test_what_may_pass_is_tried_again(trouble: Reply, tmp_path: Path) -> None:
    with serving({WHERE: [trouble, RIGHT]}) as server:
        assert fetch_one(server, tmp_path) == PROMPTS
    assert len(server.asked) == 2


def test_pauses_grow_and_the_server_may_say_how_long(tmp_path: Path) -> None:
    naps: list[float] = []
    busy = Reply(status=429, headers={"Retry-After": "7"})
    forever = Reply(status=429, headers={"Retry-After": "86400"})
    with serving({WHERE: [Reply(status=500), Reply(status=502), busy, forever, RIGHT]}) as server:
        assert fetch_one(server, tmp_path, naps) == PROMPTS
    assert naps == [1, 2, 7, 60]


@pytest.mark.parametrize(
    ("trouble", "reason", "attempts"),
    [
        (Reply(status=404), "the server answers 404", 1),
        (Reply(status=403), "the server answers 403", 1),
        (Reply(status=302, headers={"Location": "ftp://elsewhere"}), "protocol", 1),
        (Reply(PROMPTS.replace(b"bench", b"wench")), "its SHA-256 is another", 1),
        (Reply(PROMPTS * 1000), f"more than {len(PROMPTS)} bytes", 1),
        (Reply(PROMPTS * 1000, announced=-1), f"more than {len(PROMPTS)} bytes", 1),
        (Reply(status=500), "the server answers 500", ATTEMPTS),
        (Reply(PROMPTS[:20]), f"20 bytes came of {len(PROMPTS)}", ATTEMPTS),
    ],
    ids=lambda value: f"{value.status}-{len(value.body)}-{value.announced}" if isinstance(value, Reply) else "",
)
def test_what_is_not_the_official_file_is_refused_and_nothing_is_left(
    trouble: Reply, reason: str, attempts: int, tmp_path: Path
) -> None:
    with serving({WHERE: trouble}) as server, pytest.raises(RunError) as caught:
        fetch_one(server, tmp_path)
    message = str(caught.value)
    assert f"cannot fetch {server.url}/someone/tiny/{COMMIT}/{WHERE}: " in message
    assert reason in message
    assert "give a copy of its folder as --data FOLDER" in message
    assert "\n" not in message
    assert len(server.asked) == attempts
    assert files_below(tmp_path) == []


def test_a_wrong_file_stays_until_the_right_one_is_there(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_bytes(b"mine")
    with serving({}) as server, pytest.raises(RunError):
        fetch_one(server, tmp_path)
    assert (tmp_path / "prompts.jsonl").read_bytes() == b"mine"


def test_files_before_the_one_that_fails_are_kept(tmp_path: Path) -> None:
    with serving({WHERE: RIGHT}) as server, pytest.raises(RunError, match=r"names\.txt"):
        fetch("tiny", TWO_FILES, tmp_path, server.url)
    assert files_below(tmp_path) == ["prompts.jsonl"]


def test_a_machine_without_a_network_is_told_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    naps: list[float] = []
    with pytest.raises(RunError, match=r"run 'milr data tiny' where it works .* --data FOLDER"):
        fetch("tiny", ONE_FILE, tmp_path, f"http://127.0.0.1:{port}", sleep=naps.append)
    assert len(naps) == ATTEMPTS - 1


@pytest.mark.parametrize("mirror", ["example.org", "ftp://example.org", "https://", "https://e.org/?a=b", " "])
def test_a_mirror_that_is_no_address_is_refused(mirror: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no address"):
        fetch("tiny", ONE_FILE, tmp_path, mirror)


def test_a_mirror_with_a_password_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no password") as caught:
        fetch("tiny", ONE_FILE, tmp_path, "https://me:canary@example.org")
    assert "canary" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        serving({WHERE: RIGHT}) as server,
        pytest.raises(RunError, match=r"cannot write .*; name a folder .* MILR_DATA"),
    ):
        fetch_one(server, tmp_path / "file" / "tiny")


def test_a_given_file_or_folder_is_found_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_bytes(PROMPTS)
    assert find("tiny", ONE_FILE, file) == file
    assert find("tiny", TWO_FILES, tmp_path) == tmp_path


def test_what_is_given_must_exist(tmp_path: Path) -> None:
    with pytest.raises(
        PromptError, match=r"there is no '.*mine'; --data takes a folder of tiny's files, such as prompts"
    ):
        find("tiny", ONE_FILE, tmp_path / "mine")


def test_fetched_files_are_found_and_missing_or_damaged_ones_named() -> None:
    folder = data_folder("tiny", TWO_FILES)
    with pytest.raises(UsageError, match="not here; run 'milr data tiny', or give --data PATH"):
        find("tiny", TWO_FILES)
    with serving({WHERE: RIGHT, "names.txt": Reply(NAMES)}) as server:
        fetch("tiny", TWO_FILES, folder, server.url)
    assert find("tiny", TWO_FILES) == folder
    (folder / "names.txt").write_bytes(NAMES[:-1])
    with pytest.raises(UsageError, match=r"names\.txt is not the official file; run 'milr data tiny'"):
        find("tiny", TWO_FILES)


def test_files_are_verified_by_name_in_a_folder_and_by_content_alone(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(PROMPTS)
    hash_of_prompts = hashlib.sha256(PROMPTS).hexdigest()
    assert verify(TWO_FILES, tmp_path) == {"names.txt": {"sha256": hash_of_prompts, "official": False}}
    assert verify(ONE_FILE, tmp_path / "names.txt") == {"names.txt": {"sha256": hash_of_prompts, "official": True}}
