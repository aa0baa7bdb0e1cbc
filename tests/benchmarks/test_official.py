"""What benchmarks share: the place of every line, files that are none, categories by name, weights of the whole."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from milr.errors import PromptError, UnknownNameError
from milr.evaluation.contract import Benchmark, equal_prompts
from milr_benchmarks.geneval import GenEval
from milr_benchmarks.geneval2 import GenEval2
from milr_benchmarks.official import json_array, json_lines, official_file, tags_of, text_lines, whole
from milr_benchmarks.scenes.plugin import Scenes
from milr_benchmarks.t2i_compbench import T2ICompBench
from milr_benchmarks.wise import Wise, WiseVerified

FETCHED = {
    "geneval": GenEval(),
    "geneval2": GenEval2(),
    "t2i_compbench": T2ICompBench(),
    "wise_legacy": Wise(),
    "wise_verified": WiseVerified(),
}


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_blank_lines_carriage_returns_and_a_missing_last_newline_do_not_matter(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeffa dog \r\n\r\n  a cat\r\nan owl")
    assert text_lines(path) == [
        (f"{path}, line 1", "a dog"),
        (f"{path}, line 3", "a cat"),
        (f"{path}, line 4", "an owl"),
    ]


def test_an_object_of_an_array_is_known_by_the_line_where_it_begins(tmp_path: Path) -> None:
    path = written(tmp_path, '[\n {"a": "},{",\n  "b": [1, 2]}, {"a": 2}\n,\n\n{"a": 3}]\n')
    assert [where.rpartition(" ")[2] for where, _ in json_array(path)] == ["2", "3", "6"]
    assert [row["a"] for _, row in json_array(path)] == ["},{", 2, 3]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is empty"),
        ("\n \r\n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        ('{"a": 1}\n{"a": }', r"line 2: not valid JSON \(Expecting value at column 7\)"),
        ('{"a": 1}\n\n[1]', "line 3: expected a JSON object"),
        ("[" * 10**5, "line 1: not valid JSON"),
        ('{"a": ' + "1" * 10**4 + "}", r"line 1: not valid JSON \(a number or a nesting that is too large\)"),
    ],
)
def test_a_bad_line_is_told_by_file_line_and_reason(tmp_path: Path, content: str | bytes, problem: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(PromptError, match=f"^{re.escape(str(path))}.*{problem}"):
        json_lines(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "line 1: not valid JSON"),
        ("[]", "is not a JSON array of objects"),
        ('{"a": 1}', "is not a JSON array of objects"),
        ('[{"a": 1},\n{"a": 2}\n{"a": 3}]', "line 3: not valid JSON"),
        ('[{"a": 1},\n 7]', "line 2: expected a JSON object"),
    ],
)
def test_a_bad_array_is_told_likewise(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        json_array(written(tmp_path, content))


def test_a_file_stands_for_its_folder_only_where_it_is_the_only_one(tmp_path: Path) -> None:
    path = written(tmp_path, "a")
    assert official_file(GenEval(), path, "evaluation_metadata.jsonl", alone=True) == path
    with pytest.raises(PromptError, match=r"is a file; give the folder that holds 'natural_science\.json'"):
        official_file(Wise(), path, "natural_science.json")


@pytest.mark.parametrize("benchmark", FETCHED.values(), ids=lambda benchmark: benchmark.name)
def test_without_its_files_a_benchmark_says_how_to_get_them(benchmark: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=f"'milr data {benchmark.name}'.* --data"):
        benchmark.load()
    with pytest.raises(PromptError, match=f"there is no '.*' in '{tmp_path}'; 'milr data {benchmark.name}'"):
        benchmark.load(tmp_path)


@pytest.mark.parametrize(("folder", "benchmark"), FETCHED.items(), ids=FETCHED)
def test_the_official_files_are_those_that_the_source_names(
    official_data: Path, folder: str, benchmark: Benchmark
) -> None:
    assert benchmark.source is not None
    for file in benchmark.source.files:
        content = (official_data / folder / file.name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.size)
    told = (official_data / "README.md").read_text("utf-8")
    assert f"| {benchmark.source.repository} | `{benchmark.source.commit}` |" in told
    assert all(f"| `{file.path}` | {benchmark.source.licence} |" in told for file in benchmark.source.files)


@pytest.mark.parametrize(("folder", "benchmark"), FETCHED.items(), ids=FETCHED)
def test_ids_and_paths_of_pictures_are_unique_and_safe(official_data: Path, folder: str, benchmark: Benchmark) -> None:
    prompts = benchmark.load(official_data / folder)
    paths = {str(benchmark.image_path(prompt, index, 3)).casefold() for prompt in prompts for index in range(3)}
    assert len(paths) == 3 * len(prompts) == 3 * len({prompt.id for prompt in prompts})
    assert all(re.fullmatch(r"[\w-]+", prompt.id) for prompt in prompts)
    assert not any(path.startswith("/") or ".." in path.split("/") for path in paths)


@pytest.mark.parametrize("benchmark", [*FETCHED.values(), Scenes()], ids=lambda benchmark: benchmark.name)
def test_an_unknown_category_is_refused_with_the_nearest_one(benchmark: Benchmark) -> None:
    name = benchmark.categories[-1]
    with pytest.raises(UnknownNameError, match=f"category of benchmark '{benchmark.name}'.*Did you mean '{name}'"):
        benchmark.load(categories=[f"{name}s"])


def test_categories_come_in_the_order_of_the_benchmark() -> None:
    assert tags_of(GenEval(), ["position", "counting"]) == ("counting", "position")
    assert tags_of(GenEval(), []) == GenEval.categories


def test_a_figure_of_the_whole_says_nothing_of_a_part() -> None:
    weights = whole(("a", "b"), equal_prompts)
    assert weights({"a": 1, "b": 3, "c": 4}) == {"a": 0.25, "b": 0.75}
    assert weights({"a": 1, "c": 4}) == {}


@pytest.mark.parametrize("benchmark", [*FETCHED.values(), Scenes()], ids=lambda benchmark: benchmark.name)
def test_weights_of_each_figure_sum_to_1(benchmark: Benchmark) -> None:
    counts = {tag: number for number, tag in enumerate(benchmark.categories, start=1)}
    for figure in benchmark.figures:
        weights = figure.weights(counts)
        assert sum(weights.values()) == pytest.approx(1)
        assert set(weights) <= set(counts)


def test_listing_benchmarks_imports_no_torch() -> None:
    modules = "geneval, geneval2, t2i_compbench, wise"
    code = f"import sys; from milr_benchmarks import {modules}; import milr_benchmarks.scenes.plugin"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)
