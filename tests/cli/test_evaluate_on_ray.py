"""`milr evaluate --ray`: a local cluster of real workers ends as the single process does."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Milr
from .test_evaluate import evaluate, record
from .test_score_and_merge import contents, lines, without_spent

__all__ = ["evaluate"]  # a fixture

pytest.importorskip("ray", reason="needs the extra ray")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_workers_draw_what_one_process_draws_controls_and_all(evaluate: Milr, tmp_path: Path) -> None:
    options = ["--controls", "--images", "1", "--batch", "1"]
    options += ["--reward", "brightness", "--normalise", "brightness=zscore"]
    assert evaluate(*options, "--out", "alone").code == 0
    outcome = evaluate(*options, "--out", "crew", "--ray", "--workers", "2", "--cpus-per-worker", "1")
    assert outcome.code == 0, outcome.stderr
    alone, crew = tmp_path / "alone", tmp_path / "crew"
    assert contents(crew / "images") == contents(alone / "images")
    assert without_spent(record(crew)) == without_spent(record(alone))
    for name in ("samples.jsonl", "judgements.jsonl", "trace/fruit-1.jsonl", "controls/resample/samples.jsonl"):
        assert lines(crew / name) == lines(alone / name)


def test_workers_are_for_ray(evaluate: Milr, tmp_path: Path) -> None:
    outcome = evaluate("--workers", "2")
    assert (outcome.code, list(tmp_path.iterdir())) == (2, [])
    assert "--workers is for workers on a Ray cluster; add --ray" in outcome.stderr


def test_no_cluster_at_an_address_is_one_line(evaluate: Milr, tmp_path: Path) -> None:
    outcome = evaluate("--ray", "127.0.0.1:1")
    assert (outcome.code, list(tmp_path.iterdir())) == (2, [])
    assert "no Ray cluster answers at '127.0.0.1:1'" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
