"""Small real networks, written once, and the official prompts, where somebody has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rewards.tiny_compbench import tiny_blip_folder, tiny_dpt_folder, tiny_grounding_dino_folder


@pytest.fixture(scope="session")
def blip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_blip_folder(tmp_path_factory.mktemp("blip"))


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_grounding_dino_folder(tmp_path_factory.mktemp("grounding-dino"))


@pytest.fixture(scope="session")
def dpt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dpt_folder(tmp_path_factory.mktemp("dpt"))


@pytest.fixture(scope="session")
def official_prompts() -> Path:
    """The folder of T2I-CompBench's prompt lists, `color_val.txt` and so on."""
    folder = Path(__file__).parents[4] / "shared/data/t2i_compbench"
    if not folder.is_dir():
        pytest.skip("T2I-CompBench's official prompts are not at hand")
    return folder
