"""T2I-CompBench: the official files, names as the official scorers parse them, figures, and lists that do not fit."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from milr.errors import PromptError
from milr.prompts import Prompt
from milr_benchmarks.t2i_compbench import COMPLEX_LISTS, SIX, TAGS, T2ICompBench, file_name
from milr_rewards.compbench.by_category import CRITICS
from milr_rewards.compbench.three_in_one import parts_of

COUNTS = dict.fromkeys(TAGS, 300)


@pytest.fixture
def complex_lists(tmp_path: Path) -> Path:
    """A folder with three complex prompts, one of each kind."""
    texts = ["The red hat was on the left.", "The red hat fell.", "The red hat fell next to it."]
    (tmp_path / "complex_val.txt").write_text("\r\n".join(texts))
    for name, text in zip(COMPLEX_LISTS, texts, strict=True):
        (tmp_path / name).write_text(f"{text.upper().rstrip('.')}\r\n\n")
    return tmp_path


def test_the_official_files_load(official_data: Path) -> None:
    prompts = T2ICompBench().load(official_data / "t2i_compbench")
    assert Counter(prompt.metadata["tag"] for prompt in prompts) == COUNTS
    assert [(prompt.id, prompt.text) for prompt in (prompts[0], prompts[300])] == [
        ("color-0000", "a green bench and a blue bowl"),
        ("shape-0000", "an oblong cucumber and a teardrop plum"),
    ]
    assert all(prompt.text == prompt.text.strip() and "\r" not in prompt.text for prompt in prompts)


def test_every_official_complex_prompt_knows_which_scores_count(official_data: Path) -> None:
    prompts = T2ICompBench().load(official_data / "t2i_compbench", ["complex"])
    kinds = Counter(map(parts_of, prompts))
    assert [kinds[parts] for parts in COMPLEX_LISTS.values()] == [58, 212, 30]


def test_neither_case_nor_full_stop_matters_to_the_lists(complex_lists: Path) -> None:
    prompts = T2ICompBench().load(complex_lists, ["complex"])
    assert [tuple(prompt.metadata["parts"]) for prompt in prompts] == list(COMPLEX_LISTS.values())


@pytest.mark.parametrize(("name", "how"), [("complex_val.txt", "none"), ("complex_val_action.txt", "2")])
def test_a_complex_prompt_that_is_not_in_exactly_one_list_is_told(complex_lists: Path, name: str, how: str) -> None:
    with (complex_lists / name).open("a") as file:
        file.write("\nThe red hat was on the left." if how == "2" else "\nA blue hat.")
    line = 1 if how == "2" else 4
    with pytest.raises(PromptError, match=rf"complex_val\.txt, line {line}: .*exactly one .*this one is in {how}\."):
        T2ICompBench().load(complex_lists, ["complex"])


def test_a_missing_list_is_told(complex_lists: Path) -> None:
    (complex_lists / "complex_val_spatial.txt").unlink()
    with pytest.raises(PromptError, match=r"there is no 'complex_val_spatial\.txt'"):
        T2ICompBench().load(complex_lists, ["complex"])


def test_official_scorers_read_the_prompt_and_the_order_from_a_name(official_data: Path) -> None:
    benchmark = T2ICompBench()
    prompts = benchmark.load(official_data / "t2i_compbench")
    for tag, group in itertools.groupby(prompts, lambda prompt: prompt.metadata["tag"]):
        pictures = [(prompt, index) for prompt in group for index in range(10)]
        paths = [benchmark.image_path(*picture, 10) for picture in pictures]
        assert {str(path.parent) for path in paths} == {f"{tag}/samples"}
        # As `BLIP_vqa.py`, `CLIP_similarity.py` and `2D_spatial_eval.py` have it.
        assert [path.name.split("_")[0] for path in paths] == [prompt.text for prompt, _ in pictures]
        assert [int(path.name.split("_")[-1].split(".")[0]) for path in paths] == list(range(3000))


def test_numbers_fit_the_pictures_of_a_prompt() -> None:
    benchmark, prompt = T2ICompBench(), Prompt("two boys", "numeracy-0012", {"tag": "numeracy"})
    assert benchmark.image_path(prompt, 3, 10).name == "two boys_000123.png"
    assert benchmark.image_path(prompt, 0, 1).name == "two boys_000012.png"


def test_a_prompt_that_is_no_name_of_a_file_becomes_one() -> None:
    assert file_name("a black/white_dog\\cat\tand\0more") == "a black white dog cat and more"
    assert len(file_name("\u732b" * 300).encode()) <= 200
    benchmark, tag = T2ICompBench(), {"tag": "color"}
    same = [Prompt("a dog", f"color-{index:04}", tag) for index in range(2)]
    assert len({benchmark.image_path(prompt, 0, 10) for prompt in same}) == 2


def test_each_mean_in_use_has_its_name_and_its_tags() -> None:
    six, attributes, eight = T2ICompBench.figures
    assert six.weights(COUNTS) == pytest.approx(dict.fromkeys(SIX, 1 / 6))
    assert attributes.weights(COUNTS) == pytest.approx(dict.fromkeys(("color", "shape", "texture"), 1 / 3))
    assert eight.weights(COUNTS) == dict.fromkeys(TAGS, 1 / 8)
    assert six.weights({"color": 300}) == attributes.weights({"color": 300}) == {}


def test_targets_are_those_of_the_published_scripts() -> None:
    assert T2ICompBench.paper_targets == {
        "color": 0.9,
        "shape": 0.9,
        "texture": 0.9,
        "spatial": 0.9,
        "non_spatial": 0.35,
        "complex": 0.4,
    }


def test_every_category_has_a_critic() -> None:
    assert set(CRITICS) == set(T2ICompBench.categories)
