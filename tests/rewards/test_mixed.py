"""The critic `mixed`: MILR's recipes as sums of known parts, and put together from small real networks."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
from PIL import Image

from milr.errors import PromptError, UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import Score, load_reward
from milr_rewards.git_vqa import GitVqa
from milr_rewards.grounding_dino import GroundingDino
from milr_rewards.hps import FILE, Hps
from milr_rewards.mixed import Mixed, mix, weights_of
from milr_rewards.unified_reward import UnifiedReward
from tests.rewards.tiny_compbench import tiny_grounding_dino_folder
from tests.rewards.tiny_embeddings import hps_file, register_architecture
from tests.rewards.tiny_vision_language import scripted_llava_folder, tiny_git_folder, tiny_llava_folder

PICTURES = [Image.new("RGB", (64, 48), "red"), Image.radial_gradient("L"), Image.new("RGB", (40, 40), "blue")]
PROMPTS = [
    Prompt("a photo of a red book"),
    Prompt("a photo of two cats"),
    Prompt("a photo of a green vase and a blue dog"),
]
LINES = ("Alignment Score (1-5): 4\n", "Coherence Score (1-5): 2\n", "Style Score (1-5): 3")
UNIT = (0.0, 1.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of every part but `hps`, by the option that takes it."""
    return {
        "grounding_dino": str(tiny_grounding_dino_folder(tmp_path_factory.mktemp("dino"))),
        "git": str(tiny_git_folder(tmp_path_factory.mktemp("git"))),
        "unified": str(scripted_llava_folder(tmp_path_factory.mktemp("unified"), {LINES[0]: 20.0}, LINES)),
    }


@pytest.fixture
def hps_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """HPS with a tiny network under the name of its own."""
    sizes = open_clip.factory._MODEL_CONFIGS[register_architecture(monkeypatch)]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-H-14", sizes)
    hps_file(tmp_path / FILE, "ViT-H-14")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("recipe", "tag", "weights"),
    [
        ("v1", "colors", {"grounding-dino": 0.4, "git-vqa": 0.4, "unified-reward": 0.2}),
        ("v1", "counting", {"grounding-dino": 0.4, "git-vqa": 0.4, "unified-reward": 0.2}),
        ("v2", "position", {"grounding-dino": 0.35, "git-vqa": 0.35, "unified-reward": 0.2, "hps": 0.1}),
        ("v3", "colors", {"grounding-dino": 0.4, "git-vqa": 0.4, "unified-reward": 0.2}),
        ("v3", "color_attr", {"grounding-dino": 0.4, "git-vqa": 0.4, "unified-reward": 0.2}),
        ("v3", "counting", {"grounding-dino": 0.6, "git-vqa": 0.2, "unified-reward": 0.2}),
        ("v3", None, {"grounding-dino": 0.6, "git-vqa": 0.2, "unified-reward": 0.2}),
        ("v4", "color_attr", {"grounding-dino": 0.5, "git-vqa": 0.5}),
        ("v4", "position", {"grounding-dino": 0.75, "git-vqa": 0.25}),
    ],
)
def test_a_recipe_weighs_its_parts_by_the_kind_of_prompt(
    recipe: str, tag: str | None, weights: dict[str, float]
) -> None:
    assert weights_of(recipe, tag) == weights


def test_the_sum_of_known_parts() -> None:
    scores = {"git-vqa": Score(0.25, reason="pale"), "hps": Score(0.3), "unified-reward": Score(0.5, reason="fair")}
    weights = {"git-vqa": 0.5, "hps": 0.3, "unified-reward": 0.2}
    score = mix(weights, scores, {"git-vqa": UNIT, "hps": (-1.0, 1.0), "unified-reward": UNIT})
    assert score.value == pytest.approx(0.5 * 0.25 + 0.3 * 0.65 + 0.2 * 0.5)
    assert score.parts == pytest.approx({"git-vqa": 0.25, "hps": 0.65, "unified-reward": 0.5})
    assert score.reason == "git-vqa: pale; unified-reward: fair"


def test_a_part_that_failed_is_a_failure_with_its_name() -> None:
    scores = {"git-vqa": Score(1.0), "unified-reward": Score(None, error="no reply")}
    score = mix({"git-vqa": 0.5, "unified-reward": 0.5}, scores, dict.fromkeys(scores, UNIT))
    assert score == Score(None, error="unified-reward: no reply")


def test_the_published_recipe_is_the_weighted_sum_of_its_critics(folders: dict[str, str]) -> None:
    scores = Mixed(**folders).score(PICTURES, PROMPTS)
    dino = GroundingDino(model=folders["grounding_dino"]).score(PICTURES, PROMPTS)
    git = GitVqa(model=folders["git"]).score(PICTURES, PROMPTS)
    unified = UnifiedReward(model=folders["unified"]).score(PICTURES, PROMPTS)
    expected = [
        weight * dino[row].value + (0.8 - weight) * git[row].value + 0.2 * unified[row].value
        for row, weight in enumerate((0.4, 0.6, 0.4))  # a colour, a number, two colours
    ]
    assert [score.value for score in scores] == pytest.approx(expected, abs=1e-5)
    assert scores[1].parts == pytest.approx(
        {"grounding-dino": dino[1].value, "git-vqa": git[1].value, "unified-reward": 0.75}, abs=1e-5
    )


def test_the_recipe_with_human_preference_brings_the_cosine_to_zero_and_one(
    folders: dict[str, str], hps_folder: str
) -> None:
    score = Mixed(recipe="v2", hps=hps_folder, **folders).score(PICTURES[:1], PROMPTS[:1])[0]
    cosine = Hps(model=hps_folder).score(PICTURES[:1], PROMPTS[:1])[0].value
    parts = score.parts
    assert parts["hps"] == pytest.approx((cosine + 1) / 2, abs=1e-6)
    assert score.value == pytest.approx(
        0.35 * parts["grounding-dino"] + 0.35 * parts["git-vqa"] + 0.2 * parts["unified-reward"] + 0.1 * parts["hps"]
    )


def test_a_recipe_loads_no_part_that_it_does_not_weigh(folders: dict[str, str]) -> None:
    reward = Mixed(
        recipe="v4", unified="./nowhere/at/all", grounding_dino=folders["grounding_dino"], git=folders["git"]
    )
    reward.check(PROMPTS[0])
    assert set(reward.score(PICTURES[:1], PROMPTS[:1])[0].parts) == {"grounding-dino", "git-vqa"}


def test_a_picture_that_one_part_cannot_score_has_no_score(folders: dict[str, str], tmp_path: Path) -> None:
    mumbling = folders | {"unified": str(tiny_llava_folder(tmp_path))}
    scores = Mixed(**mumbling).score(PICTURES[:2], PROMPTS[:2])
    assert [score.value for score in scores] == [None, None]
    assert scores[0].error.startswith("unified-reward: expected a score from 1 to 5")


def test_the_tag_of_the_metadata_counts_before_the_sentence(folders: dict[str, str]) -> None:
    metadata = {"tag": "counting", "include": [{"class": "book", "count": 1, "color": "red"}], "exclude": []}
    plain, tagged = Mixed(**folders).score(PICTURES[:1] * 2, [PROMPTS[0], Prompt(PROMPTS[0].text, metadata=metadata)])
    assert plain.parts == pytest.approx(tagged.parts, abs=1e-6)
    dino, git = plain.parts["grounding-dino"], plain.parts["git-vqa"]
    assert tagged.value - plain.value == pytest.approx(0.2 * (dino - git), abs=1e-6)


def test_nothing_is_scored_for_nothing(folders: dict[str, str]) -> None:
    assert Mixed(**folders).score([], []) == []


def test_every_part_makes_the_version(folders: dict[str, str]) -> None:
    reward = Mixed(**folders)
    before = reward.version
    reward.check(PROMPTS[0])
    assert reward.version == before
    other = {Mixed(recipe="v1", **folders).version, Mixed(**folders | {"git": "OWNER/NAME"}).version, before}
    assert len(other) == 3


def test_the_size_is_that_of_the_parts() -> None:
    assert Mixed(recipe="v4").size_mb == GroundingDino.size_mb + GitVqa.size_mb
    assert Mixed().size_mb == Mixed.size_mb


def test_missing_weights_of_a_part_are_an_error_that_names_the_option(folders: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"reward 'git-vqa' cannot load .* with --set reward\.mixed\.git=FOLDER"):
        Mixed(**folders | {"git": str(tmp_path)}).check(PROMPTS[0])


def test_a_prompt_that_a_part_cannot_score_is_refused() -> None:
    with pytest.raises(PromptError, match="the meaning of life"):
        Mixed().check(Prompt("the meaning of life"))


def test_an_unknown_recipe_gets_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown recipe of reward 'mixed': 'v5'\. Did you mean"):
        Mixed(recipe="v5")


def test_it_is_found_by_name_with_its_options(folders: dict[str, str]) -> None:
    reward = load_reward("mixed", options={"mixed": {"recipe": "v4", "git": folders["git"]}})
    assert reward.version == Mixed(recipe="v4", git=folders["git"]).version
