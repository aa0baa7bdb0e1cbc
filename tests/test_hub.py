"""The hub where it answers and where it does not: a real socket on this machine stands for it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError

from milr import hub
from milr.errors import ModelError, UsageError
from milr.hub import hub_or_cache
from milr.models import load_model
from milr_rewards.networks.checkpoints import Weights
from tests.rewards.live_server import answering, http

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a hub that is not there, which the libraries take for the hub."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    return address


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, which holds one file of one model."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--owner--name"
    (model / "refs").mkdir(parents=True)
    (model / "refs/main").write_text(COMMIT)
    (model / "snapshots" / COMMIT).mkdir(parents=True)
    (model / "snapshots" / COMMIT / "config.json").write_text("{}")
    return tmp_path


def test_what_is_cached_needs_no_hub(nobody: str, cache: Path) -> None:
    with hub_or_cache():
        assert constants.is_offline_mode()
        assert Path(hf_hub_download("owner/name", "config.json")).read_text() == "{}"
    assert not constants.is_offline_mode()
    assert Weights("hps", "owner/name").file("config.json").name == "config.json"


def test_what_is_not_cached_is_refused_in_one_line(nobody: str, cache: Path) -> None:
    why = rf"{nobody} does not answer, and the cache here lacks some of its files\. "
    with pytest.raises(UsageError, match=rf"^reward 'hps' cannot load owner/name: {why}Weights .*model=FOLDER\.$"):
        Weights("hps", "owner/name").file("weights.pt")
    with pytest.raises(ModelError, match=rf"^cannot load 'owner/other': {why}Fetch .*--model FOLDER\.$"):
        load_model("owner/other")


def test_a_hub_that_is_switched_off_is_not_asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with answering() as (address, asked):
        monkeypatch.setattr(constants, "ENDPOINT", f"http:{address}")
        with pytest.raises(ConnectionError, match=r"^HF_HUB_OFFLINE is set, and the cache"), hub_or_cache():
            hf_hub_download("owner/name", "weights.pt")
    assert asked == []
    assert constants.is_offline_mode()


def test_a_hub_that_answers_is_left_to_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(http("404 Not Found", b"")) as (address, asked):
        monkeypatch.setattr(constants, "ENDPOINT", f"http:{address}")
        for _ in range(2):
            with hub_or_cache():
                assert not constants.is_offline_mode()
        with pytest.raises(FileNotFoundError, match="theirs"), hub_or_cache():
            raise FileNotFoundError("theirs")
    assert len(asked) == 1


@pytest.mark.parametrize("mistake", [ValueError("shapes"), OSError(28, "No space left on device")])
def test_mistakes_that_have_nothing_to_do_with_the_hub_keep_their_message(nobody: str, mistake: Exception) -> None:
    with pytest.raises(type(mistake), match=str(mistake.args[-1])), hub_or_cache():
        raise mistake


def test_a_library_may_say_it_in_words_of_its_own(nobody: str) -> None:
    with pytest.raises(ConnectionError, match="does not answer"), hub_or_cache():
        raise RuntimeError("failed to download") from LocalEntryNotFoundError("config.json")


def test_a_hub_that_comes_back_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_PAUSE", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
    assert not hub.answers(endpoint)
    with answering(http("200 OK", b"")) as (address, asked):
        monkeypatch.setitem(hub._known, f"http:{address}", hub._known[endpoint])
        assert [hub.answers(f"http:{address}") for _ in range(2)] == [True, True]
    assert len(asked) == 1
