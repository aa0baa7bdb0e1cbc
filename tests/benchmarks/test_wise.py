"""WISE, legacy and verified: the official files, layout and figures, and every way in which an entry can be wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from milr.errors import PromptError
from milr.evaluation.contract import equal_prompts
from milr.prompts import Prompt
from milr_benchmarks.wise import Wise, WiseVerified
from milr_rewards.judging.presets import PRESETS, explanation_of

LEGACY = {"culture": 400, "time": 167, "space": 133, "biology": 100, "physics": 100, "chemistry": 100}
VERIFIED = {"culture": 400, "time": 120, "space": 120, "biology": 120, "physics": 120, "chemistry": 120}
ROW = {"Prompt": "a", "Explanation": "b", "Category": "Biology", "Subcategory": "State", "prompt_id": 7}
BOTH = pytest.mark.parametrize(
    ("benchmark", "folder", "counts"),
    [(Wise(), "wise_legacy", LEGACY), (WiseVerified(), "wise_verified", VERIFIED)],
    ids=["wise", "wise-verified"],
)


@BOTH
def test_the_official_files_load(official_data: Path, benchmark: Wise, folder: str, counts: dict[str, int]) -> None:
    prompts = benchmark.load(official_data / folder)
    assert Counter(prompt.metadata["tag"] for prompt in prompts) == counts
    assert [prompt.id for prompt in prompts] == [f"{number:04}" for number in range(1, 1001)]
    assert all(map(explanation_of, prompts))


@BOTH
def test_overall_has_the_official_weights_which_are_the_shares_of_the_prompts(
    benchmark: Wise, folder: str, counts: dict[str, int]
) -> None:
    (overall,) = benchmark.figures
    assert overall.weights(counts) == pytest.approx(equal_prompts(counts))
    assert overall.weights(dict.fromkeys(counts, 2)) == pytest.approx(equal_prompts(counts))
    assert overall.weights({"culture": 400}) == {}


@BOTH
def test_the_judge_is_that_of_the_benchmark(benchmark: Wise, folder: str, counts: dict[str, int]) -> None:
    plugin, _, preset = benchmark.roles(None).judge.critic.partition(":")
    assert plugin == "judge"
    assert PRESETS[preset].name == benchmark.name


def test_categories_read_only_their_files(official_data: Path, tmp_path: Path) -> None:
    name = "natural_science.json"
    (tmp_path / name).write_bytes((official_data / "wise_legacy" / name).read_bytes())
    prompts = Wise().load(tmp_path, ["physics"])
    assert (len(prompts), {prompt.metadata["tag"] for prompt in prompts}) == (100, {"physics"})
    with pytest.raises(PromptError, match=r"there is no 'cultural_common_sense\.json'"):
        Wise().load(tmp_path)


def test_pictures_have_the_number_of_their_prompt() -> None:
    assert str(Wise().image_path(Prompt("a", "0007"), 0, 1)) == "7.png"
    assert str(Wise().image_path(Prompt("a", "1000"), 2, 3)) == "image_2/1000.png"


def test_milr_stops_at_half_a_wiscore() -> None:
    assert Wise.paper_targets == dict.fromkeys(LEGACY, 0.5)
    assert WiseVerified.paper_targets == {}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (ROW | {"prompt_id": "8"}, "expected a whole number from 1 under 'prompt_id', not '8'"),
        (ROW | {"prompt_id": 0}, "not 0"),
        (ROW, "the same 'prompt_id' as in .*, line 2"),
        (ROW | {"prompt_id": 8, "Category": "Alchemy"}, "unknown category 'Alchemy'; expected one of Biology, Phys"),
        (ROW | {"prompt_id": 8, "Category": "Space"}, "unknown category 'Space'"),
        (ROW | {"prompt_id": 8, "Prompt": ""}, "expected some text under 'Prompt'"),
        (ROW | {"prompt_id": 8, "Explanation": None}, "expected some text under 'Explanation'"),
        ({"prompt_id": 8}, "expected some text under 'Category'"),
        (ROW | {"prompt_id": 8, "Subcategory": 3}, "expected some text under 'Subcategory', not 3"),
    ],
)
def test_a_malformed_entry_is_told_by_file_line_and_reason(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    path = tmp_path / "natural_science.json"
    path.write_text(f"[\n{json.dumps(ROW)},\n{json.dumps(row)}]")
    with pytest.raises(PromptError, match=f"{path}, line 3: .*{problem}"):
        Wise().load(tmp_path, ["biology"])
