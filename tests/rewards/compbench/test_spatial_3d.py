"""The critic `spatial-3d`: a real detector and a real depth network under the benchmark's rule."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoImageProcessor, DPTForDepthEstimation

from milr.errors import PromptError, UsageError
from milr.prompts import Prompt
from milr_rewards.compbench import spatial_3d
from milr_rewards.compbench.relations import depth_score
from milr_rewards.compbench.spatial_3d import Spatial3d
from milr_rewards.networks.open_vocabulary import OpenVocabularyDetector
from tests.rewards.tiny_compbench import PICTURES, noise

PROMPTS = [Prompt("a cat behind a dog"), Prompt("a dog in front of a vase"), Prompt("a vase hidden by a cat")]


@pytest.fixture
def critic(dino_folder: Path, dpt_folder: Path) -> Spatial3d:
    return Spatial3d(model=str(dino_folder), depth_model=str(dpt_folder), threshold=0.0)


def test_a_score_is_the_formula_over_detections_and_depth(
    critic: Spatial3d, dino_folder: Path, dpt_folder: Path
) -> None:
    pictures = [noise(seed, width=40 + 10 * (seed % 2)) for seed in range(12)]
    scores = critic.score(pictures, [PROMPTS[0]] * 12)
    found = OpenVocabularyDetector("spatial-3d", str(dino_folder), threshold=0.0).detect(
        pictures, [["cat", "dog"]] * 12
    )
    processor = AutoImageProcessor.from_pretrained(dpt_folder)
    model = DPTForDepthEstimation.from_pretrained(dpt_folder).eval()
    for picture, each, score in zip(pictures, found, scores, strict=True):
        with torch.inference_mode():
            depth = model(**processor(picture, return_tensors="pt")).predicted_depth
        depth = torch.nn.functional.interpolate(
            depth[None], (picture.height, picture.width), mode="bilinear", align_corners=True
        )[0, 0]
        first, second = each["cat"][0], each["dog"][0]
        relation = depth_score("behind", first.box, second.box, depth)
        assert score.value == pytest.approx(0.25 * (first.score + second.score) + 0.5 * relation, abs=1e-5)
        assert score.parts["behind"] == pytest.approx(relation, abs=1e-5)
    assert any(score.parts["behind"] > 0 for score in scores)


def test_depth_has_the_size_of_the_picture(critic: Spatial3d) -> None:
    critic.check(PROMPTS[0])
    assert critic._nearness([noise(1, width=40, height=24)] * 2).shape == (2, 24, 40)


def test_batches_of_any_size_and_mixed_pictures_score_the_same(
    critic: Spatial3d, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = critic.score(PICTURES[:3], PROMPTS)
    monkeypatch.setattr(spatial_3d, "BATCH", 1)
    alone = critic.score(PICTURES[:3], PROMPTS)
    assert [score.value for score in alone] == pytest.approx([score.value for score in together], abs=1e-4)
    assert [list(score.parts)[-1] for score in alone] == ["behind", "front", "behind"]
    assert critic.score([], []) == []


def test_a_prompt_of_the_plane_is_refused_before_weights_are_loaded() -> None:
    with pytest.raises(PromptError, match="such as 'a cat behind a sofa'"):
        Spatial3d(model="no/where").check(Prompt("a cat on the left of a sofa"))


def test_the_version_tells_both_networks(dino_folder: Path, dpt_folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(dpt_folder, tmp_path / "other")
    (other / "note").write_text("another")
    versions = {Spatial3d(model=str(dino_folder), depth_model=str(folder)).version for folder in (dpt_folder, other)}
    assert len(versions) == 2


def test_missing_depth_weights_name_their_option(dino_folder: Path) -> None:
    critic = Spatial3d(model=str(dino_folder), depth_model="weights")
    with pytest.raises(UsageError, match=r"--set reward\.spatial-3d\.depth_model=OWNER/NAME"):
        critic.check(PROMPTS[0])
