"""Fixtures for every test: a tiny real model and a critic that needs no weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from milr import plugins
from tests.plugin import write_plugin
from tests.tiny import tiny_janus_folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """On matrices this small, threads cost more than they give, most of all where other processes want the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of a real Janus with tiny random weights; not to be changed."""
    return tiny_janus_folder(tmp_path_factory.mktemp("tiny-janus"))


@pytest.fixture(scope="session")
def plugin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A third party's package, with the critics `brightness`, `picky` and `broken`; for PYTHONPATH."""
    return write_plugin(tmp_path_factory.mktemp("plugin"))


@pytest.fixture
def third_party_plugin(plugin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Installs that package in this process for one test."""
    monkeypatch.syspath_prepend(plugin_folder)
    plugins.plugins.cache_clear()
    yield
    plugins.plugins.cache_clear()
