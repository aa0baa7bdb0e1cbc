"""`milr data`: what is listed, what is fetched, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from milr import plugins
from tests.evaluation.file_server import COMMIT, NAMES, PROMPTS, Reply, no_proxies, serving

from .conftest import Milr, Outcome

WHERE = "all%20prompts/prompts.jsonl"
BENCHMARKS = """
from milr.evaluation.contract import Benchmark
from tests.evaluation.file_server import ONE_FILE, TWO_FILES


class Tiny(Benchmark):
    source = TWO_FILES


class Small(Benchmark):
    source = ONE_FILE


class Own(Benchmark):
    licence = "Apache-2.0"
"""


@pytest.fixture
def data(milr: Milr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Milr:
    """`milr data` where three benchmarks of a third party are installed."""
    no_proxies(monkeypatch)
    monkeypatch.setenv("MILR_DATA", str(tmp_path / "data"))
    information = tmp_path / "site" / "tiny_benchmarks-1.0.dist-info"
    information.mkdir(parents=True)
    (tmp_path / "site" / "tiny_benchmarks.py").write_text(BENCHMARKS)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-benchmarks\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[milr.benchmarks]\n"
        + "".join(f"{name.lower()} = tiny_benchmarks:{name}\n" for name in ("Tiny", "Small", "Own"))
        + "torn = no_such_module:Torn\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    plugins.plugins.cache_clear()
    return lambda *arguments: milr("data", *arguments)


def line_of(outcome: Outcome, name: str) -> str:
    (line,) = [line for line in outcome.stdout.splitlines() if line.split()[0] == name]
    return line


def test_benchmarks_are_listed_with_state_licence_and_origin(data: Milr, tmp_path: Path) -> None:
    with serving({WHERE: Reply(PROMPTS)}) as server:
        data("small", "--mirror", server.url)
    outcome = data()
    assert outcome.code == 0
    assert "here " in line_of(outcome, "small")
    assert "not here: milr data tiny" in line_of(outcome, "tiny")
    assert "none stated" in line_of(outcome, "tiny")
    assert f"someone/tiny@{COMMIT[:12]}" in line_of(outcome, "tiny")
    assert str(tmp_path / "data" / "tiny" / COMMIT[:12]) in line_of(outcome, "tiny")
    assert "ship with its package" in line_of(outcome, "own")
    assert "cannot be loaded" in line_of(outcome, "torn")
    assert "needs the package 'no_such_module'" in outcome.stderr


def test_fetching_says_where_the_files_are_and_whose(data: Milr, tmp_path: Path) -> None:
    with serving({WHERE: Reply(PROMPTS), "names.txt": Reply(NAMES)}) as server:
        first = data("small", "tiny", "small", "own", "--mirror", server.url)
        again = data("tiny", "--mirror", server.url)
    folder = tmp_path / "data" / "tiny" / COMMIT[:12]
    assert first.code == again.code == 0
    assert line_of(first, "tiny:") == f"tiny: {folder} (licence: none stated)"
    assert len(first.stdout.splitlines()) == 3
    assert "own: ships with its package" in first.stdout
    assert "tiny: names.txt fetched" in first.stderr
    assert again.stderr.splitlines() == ["tiny: prompts.jsonl is here", "tiny: names.txt is here"]
    assert (folder / "names.txt").read_bytes() == NAMES
    assert len(server.asked) == 3


def test_a_failure_is_one_line_and_exit_code_1(data: Milr, tmp_path: Path) -> None:
    with serving({WHERE: Reply(status=404)}) as server:
        outcome = data("small", "--mirror", server.url, "--quiet")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"milr: cannot fetch {server.url}/someone/tiny/{COMMIT}/{WHERE}: ")
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["smal"], "Did you mean 'small'?"),
        (["small", "--all"], "not both"),
        (["--mirror", "https://example.org"], "name a benchmark"),
        (["small", "--mirror", "example.org"], "is no address"),
        (["small", "torn"], "needs the package"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_fetched(
    data: Milr, arguments: list[str], said: str, tmp_path: Path
) -> None:
    outcome = data(*arguments)
    assert outcome.code == 2
    assert said in outcome.stderr
    assert not (tmp_path / "data").exists()
