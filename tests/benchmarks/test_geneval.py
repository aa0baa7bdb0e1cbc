"""GenEval and `scenes`: the official file, layout and figures, and every way in which a line can be wrong."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from milr.errors import PromptError
from milr.evaluation.contract import Figure
from milr.prompts import Prompt
from milr_benchmarks.geneval import DETECTOR, EMBEDDED_WORLD, PROMPTS, TAGS, GenEval
from milr_benchmarks.scenes.benchmark import FORMS
from milr_benchmarks.scenes.benchmark import PROMPTS as SCENES_PROMPTS
from milr_benchmarks.scenes.plugin import TAGS as SCENES_TAGS
from milr_benchmarks.scenes.plugin import Scenes
from milr_rewards import geneval as critic

ROW = {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"}
COUNTS = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    (folder / PROMPTS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def two(**clause: Any) -> dict[str, Any]:
    """A row of a dog and something that stands to it."""
    return ROW | {"tag": "position", "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1} | clause]}


def test_the_official_file_loads(official_data: Path) -> None:
    prompts = GenEval().load(official_data / "geneval")
    assert Counter(prompt.metadata["tag"] for prompt in prompts) == COUNTS
    assert list(dict.fromkeys(prompt.metadata["tag"] for prompt in prompts)) == list(TAGS)
    assert [prompt.id for prompt in prompts] == [f"{index:05}" for index in range(553)]
    assert prompts[0] == Prompt(
        "a photo of a bench", "00000", {"tag": "single_object", "include": [{"class": "bench", "count": 1}]}
    )


def test_the_file_alone_will_do(official_data: Path) -> None:
    folder = official_data / "geneval"
    assert GenEval().load(folder / PROMPTS) == GenEval().load(folder)


def test_chosen_categories_keep_their_official_ids(official_data: Path) -> None:
    prompts = GenEval().load(official_data / "geneval", ["counting"])
    assert (len(prompts), prompts[0].id, prompts[0].text) == (80, "00179", "a photo of two clocks")


def test_pictures_lie_where_the_official_evaluator_looks_for_them() -> None:
    assert str(GenEval().image_path(Prompt("a", "00012"), 3, 4)) == "00012/samples/0003.png"


def test_pictures_of_others_are_numbered_files_of_four_digits_or_five(tmp_path: Path) -> None:
    samples = tmp_path / "00004" / "samples"
    for name in ("00001.png", "00000.png", "grid.png", "00002.jpg"):
        samples.mkdir(parents=True, exist_ok=True)
        (samples / name).write_bytes(b"")
    (samples / "00003.png").mkdir()
    found = GenEval().find_images(tmp_path, Prompt("a photo of a bench", "00004"))
    assert [path.name for path in found] == ["00000.png", "00001.png"]


def test_beside_the_pictures_lies_the_official_line(official_data: Path) -> None:
    benchmark, folder = GenEval(), official_data / "geneval"
    lines = (folder / PROMPTS).read_bytes().splitlines()
    files = benchmark.other_files([(prompt, index) for prompt in benchmark.load(folder) for index in range(4)])
    assert files == {PurePosixPath(f"{i:05}/metadata.jsonl"): line for i, line in enumerate(lines)}


def test_figures_are_those_of_the_official_summary() -> None:
    overall, images, prompts = GenEval.figures
    assert overall.weights(COUNTS) == pytest.approx(dict.fromkeys(COUNTS, 1 / 6))
    assert images.weights(COUNTS) == prompts.weights(COUNTS) == {tag: n / 553 for tag, n in COUNTS.items()}
    assert (images.over_images, prompts.over_images) == ("mean", "any")
    assert overall.weights({"counting": 80}) == {}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"tag": "counting"}, "expected some text under 'prompt', not None"),
        (ROW | {"prompt": " "}, "expected some text under 'prompt', not ' '"),
        (ROW | {"prompt": "\ud800"}, "not valid UTF-8"),
        ({"prompt": "a"}, "expected some text under 'tag'"),
        (ROW | {"tag": "colour"}, "unknown tag 'colour'; expected one of single_object, two_object"),
        ({"tag": "counting", "prompt": "a"}, "expected a list of clauses under 'include'"),
        (ROW | {"include": {}}, "'include' and 'exclude' must be lists"),
        (ROW | {"include": []}, "not both empty"),
        (ROW | {"include": ["dog"]}, "a clause looks like"),
        (ROW | {"include": [{"count": 1}]}, "a clause looks like"),
        (ROW | {"include": [{"class": "dog"}]}, "a clause looks like"),
        (ROW | {"include": [{"class": "dog", "count": 0}]}, "the count of 'dog' must be a whole number"),
        (ROW | {"include": [{"class": "dog", "count": 1, "colour": "red"}]}, "a clause of 'include' has no 'colour'"),
        (ROW | {"exclude": [{"class": "dog"}]}, "a clause looks like"),
        (ROW | {"exclude": [{"class": "dog", "count": 1, "color": "red"}]}, "a clause of 'exclude' has no 'color'"),
        (ROW | {"excluded": []}, "a prompt has no 'excluded'"),
        (two(color="beige"), "knows no color 'beige'"),
        (two(position="left"), "a position looks like"),
        (two(position=["left", 0]), "knows no relation 'left'; did you mean 'left of'"),
        (two(position=["left of", 1]), "must point to an earlier clause, not to 1"),
        (two(position=["left of", -1]), "must point to an earlier clause, not to -1"),
    ],
)
def test_a_malformed_line_is_told_by_file_line_and_reason(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    folder = written(tmp_path, ROW, row)
    with pytest.raises(PromptError, match=f"{re.escape(str(folder / PROMPTS))}, line 2: .*{problem}"):
        GenEval().load(folder)


def test_classes_are_those_of_the_list_beside_the_prompts(tmp_path: Path) -> None:
    folder = written(tmp_path, ROW, ROW | {"include": [{"class": "wombat", "count": 1}]})
    assert len(GenEval().load(folder)) == 2
    (folder / "object_names.txt").write_text("bench\ndog\n")
    with pytest.raises(PromptError, match=r"line 2: .* knows no class 'wombat'"):
        GenEval().load(folder)


def test_a_file_without_the_chosen_category_is_told(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="has no prompts of counting"):
        GenEval().load(written(tmp_path, ROW), ["counting"])


def test_pictures_of_mini_are_judged_by_its_own_detectors() -> None:
    for benchmark in (GenEval(), Scenes()):
        roles = benchmark.roles(SimpleNamespace(name="mini"))
        assert [role.name for role in (roles.judge, roles.critic, roles.held_out)] == [
            "scenes-judge",
            "geneval",
            "scenes-third",
        ]
    assert EMBEDDED_WORLD == critic.EMBEDDED_WORLD
    assert critic.ScenesJudge().mode == "binary"


@pytest.mark.parametrize("facts", [None, SimpleNamespace(name="janus-pro-7b")])
def test_other_pictures_are_judged_by_a_detector_of_real_things(facts: Any) -> None:
    roles = GenEval().roles(facts)
    assert roles.judge.name == "geneval-hf"
    assert roles.judge.options == {"mode": "binary", "detector": critic.MASK2FORMER}
    assert DETECTOR == critic.MASK2FORMER


def test_scenes_ships_with_its_prompts() -> None:
    benchmark = Scenes()
    prompts = benchmark.load()
    assert Counter(prompt.metadata["tag"] for prompt in prompts) == dict.fromkeys(SCENES_TAGS, 64)
    assert len(benchmark.load(categories=["knowledge"])) == 64
    assert tuple(FORMS) == SCENES_TAGS
    assert prompts == benchmark.load(SCENES_PROMPTS)
    lines = SCENES_PROMPTS.read_bytes().splitlines()
    assert list(benchmark.other_files([(prompt, 0) for prompt in prompts]).values()) == lines


def test_scenes_has_figures_of_its_own_tags() -> None:
    figure: Figure = Scenes.figures[0]
    assert figure.weights(dict.fromkeys(SCENES_TAGS, 64)) == pytest.approx(dict.fromkeys(SCENES_TAGS, 1 / 7))
