"""The small real models, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rewards.tiny import tiny_clip_folder, tiny_detector_folder


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detector_folder(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip_folder(tmp_path_factory.mktemp("clip"))
