"""The official files, where somebody has them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def official_data() -> Path:
    """A folder with a folder of official files for each benchmark."""
    folder = Path(__file__).parents[3] / "shared/data"
    if not folder.is_dir():
        pytest.skip("the benchmarks' official files are not at hand")
    return folder
