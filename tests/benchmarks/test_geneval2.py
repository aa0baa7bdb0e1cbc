"""GenEval 2: the official file, layout and figures, and every way in which a line can be wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from milr.errors import PromptError
from milr.prompts import Prompt
from milr_benchmarks.geneval2 import PROMPTS, TAGS, GenEval2
from milr_rewards.compbench.noun_phrases import phrases_of
from milr_rewards.soft_tifa import atoms_of

ROW = {"prompt": "three pigs", "atom_count": 3, "vqa_list": [["How many pigs?", "three"]], "skills": ["count"]}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / PROMPTS
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_official_file_loads_and_can_be_asked_about(official_data: Path) -> None:
    prompts = GenEval2().load(official_data / "geneval2")
    assert Counter(prompt.metadata["tag"] for prompt in prompts) == dict.fromkeys(TAGS, 100)
    assert [prompt.id for prompt in prompts] == [f"{index:04}" for index in range(800)]
    assert [len(atoms_of(prompt)) for prompt in prompts] == [len(prompt.metadata["vqa_list"]) for prompt in prompts]
    assert all(map(phrases_of, prompts))  # what the held-out judge asks about


def test_each_set_of_pictures_has_its_own_map_of_paths() -> None:
    benchmark, dog, cat = GenEval2(), Prompt("a dog", "0000"), Prompt("a cat", "0007")
    pictures = [(dog, 0), (dog, 1), (cat, 0)]
    assert [str(benchmark.image_path(*picture, 2)) for picture in pictures] == [
        "0000.png",
        "image_1/0000.png",
        "0007.png",
    ]
    maps = {str(path): json.loads(content) for path, content in benchmark.other_files(pictures).items()}
    assert maps == {
        "image_paths.json": {"a dog": "0000.png", "a cat": "0007.png"},
        "image_1/image_paths.json": {"a dog": "0000.png"},
    }


def test_figures_are_means_over_prompts() -> None:
    counts = dict.fromkeys(TAGS, 10) | {"3-atoms": 30}
    for figure in GenEval2.figures:
        assert figure.weights(counts) == pytest.approx(dict.fromkeys(TAGS, 0.1) | {"3-atoms": 0.3})
        assert figure.weights({"3-atoms": 30}) == {}
    assert [figure.part for figure in GenEval2.figures] == [None, "gm", "am"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (ROW | {"prompt": ""}, "expected some text under 'prompt'"),
        (ROW, "the same prompt as in .*, line 1"),
        (ROW | {"prompt": "b", "atom_count": "3"}, "expected a whole number from 3 to 10 under 'atom_count', not '3'"),
        (ROW | {"prompt": "b", "atom_count": 11}, "not 11"),
        (ROW | {"prompt": "b", "atom_count": True}, "not True"),
        (ROW | {"prompt": "b", "vqa_list": []}, "expected a list of questions with their answers"),
        (ROW | {"prompt": "b", "vqa_list": [["How many?"]]}, "expected a list of questions with their answers"),
        (ROW | {"prompt": "b", "vqa_list": [["How many?", 3]]}, "expected a list of questions with their answers"),
        (ROW | {"prompt": "b", "skills": []}, "a name for each question"),
        (ROW | {"prompt": "b", "skills": [3]}, "a name for each question"),
        ({"prompt": "b", "atom_count": 3}, "under 'vqa_list'"),
    ],
)
def test_a_malformed_line_is_told_by_file_line_and_reason(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    path = written(tmp_path, ROW, row)
    with pytest.raises(PromptError, match=f"{path}, line 2: .*{problem}"):
        GenEval2().load(path)
