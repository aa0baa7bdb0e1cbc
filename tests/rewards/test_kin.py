"""What critics look with: the same checkpoint under two names is kin, another one is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from milr.rewards import CachedReward, Composite, Part, Reward, kin_of
from milr_rewards.clip import Clip
from milr_rewards.compbench.blip_vqa import BlipVqa
from milr_rewards.compbench.by_category import ByCategory
from milr_rewards.compbench.clip_score import ClipScore
from milr_rewards.compbench.numeracy import Numeracy
from milr_rewards.compbench.spatial import Spatial
from milr_rewards.compbench.spatial_3d import DEPTH_MODEL, Spatial3d
from milr_rewards.compbench.three_in_one import ThreeInOne
from milr_rewards.geneval import MASK2FORMER, GenEval, ScenesJudge, ScenesThird
from milr_rewards.git_vqa import GitVqa
from milr_rewards.grounding_dino import GroundingDino
from milr_rewards.judge import Judge
from milr_rewards.mixed import Mixed
from milr_rewards.python_function import PythonFunction
from milr_rewards.soft_tifa import SoftTifa
from milr_rewards.unified_reward import UnifiedReward
from milr_rewards.vqascore import VqaScore

DINO = "IDEA-Research/grounding-dino-base"


def test_two_modes_of_one_detector_are_kin() -> None:
    assert GenEval(mode="dense").kin == GenEval(mode="binary").kin == {"scenes-critic"}
    assert GenEval(detector=MASK2FORMER).kin == {MASK2FORMER, "ViT-L-14 (openai)"}, "CLIP names the colours"


def test_the_embedded_detectors_are_no_kin() -> None:
    assert [critic.kin for critic in (GenEval(), ScenesJudge(), ScenesThird())] == [
        {"scenes-critic"},
        {"scenes-judge"},
        {"scenes-third"},
    ]


def test_a_judge_that_is_told_to_use_the_critics_detector_is_its_kin() -> None:
    assert ScenesJudge(detector="scenes-critic").kin == GenEval().kin


def test_one_checkpoint_under_two_critics_is_kin() -> None:
    assert VqaScore(model="Qwen/Qwen3-VL-8B-Instruct").kin == SoftTifa().kin == {"Qwen/Qwen3-VL-8B-Instruct"}
    assert not VqaScore().kin & SoftTifa().kin
    assert VqaScore(revision="v1").kin == VqaScore().kin
    assert GroundingDino().kin == Spatial().kin == Numeracy().kin == {DINO}
    assert Spatial3d().kin == {DINO, DEPTH_MODEL}
    assert ClipScore().kin == Clip(model="ViT-B-32").kin == {"ViT-B-32 (openai)"}


def test_a_judge_is_kin_of_what_the_endpoint_serves() -> None:
    assert Judge(address="wise", cache="none", model="Qwen/Qwen3-VL-8B-Instruct").kin == SoftTifa().kin


def test_snapshots_of_one_model_are_kin() -> None:
    models = ("gpt-4o", "gpt-4o-2024-05-13", "gpt-4o-2024-11-20", "gpt-4o-20241120", "gpt-4o-1120", "gpt-4o-001")
    assert {Judge(cache="none", model=model).kin for model in models} == {frozenset({"gpt-4o"})}
    assert Judge(cache="none", model="gpt-4o-mini-2024-07-18").kin == {"gpt-4o-mini"}


def test_a_folder_is_called_by_its_weights_wherever_they_lie(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip_folder.parent)
    copy = shutil.copytree(clip_folder, tmp_path / "copy")
    (copy / "README.md").write_text("another day")
    named = Clip(model=clip_folder.name).kin
    assert named == ClipScore(model=str(clip_folder)).kin == Clip(model=str(copy)).kin
    assert not any(str(clip_folder) in name for name in named)
    (weights,) = copy.glob("*.safetensors")
    (copy / "other.bin").write_bytes(b"another network")
    assert Clip(model=str(copy)).kin > named
    (copy / "other.bin").unlink()
    weights.write_bytes(weights.read_bytes() + b" ")
    assert Clip(model=str(copy)).kin != named


def test_shipped_weights_and_those_of_the_hub_have_a_name(tmp_path: Path) -> None:
    assert Clip(model="scenes-clip").kin == {"scenes-clip"}
    cached = tmp_path / "models--Qwen--Qwen3-VL-8B-Instruct" / "snapshots" / "0123456"
    cached.mkdir(parents=True)
    assert VqaScore(model=str(cached)).kin == SoftTifa().kin
    assert BlipVqa(model=str(tmp_path)).kin == {str(tmp_path.resolve())}, "it holds no weights"


def test_a_critic_of_several_is_kin_of_all_of_them() -> None:
    assert Mixed().kin == kin_of([GroundingDino(), GitVqa(), UnifiedReward()])
    assert ThreeInOne().kin == kin_of([BlipVqa(), Spatial(), ClipScore()])
    assert ByCategory().kin == kin_of([ThreeInOne(), Spatial3d()])


def test_a_composition_is_kin_of_what_counts_or_guards_and_not_of_what_is_watched() -> None:
    parts = [Part("a", VqaScore()), Part("b", GitVqa(), 0.0, gate=0.5), Part("c", UnifiedReward(), 0.0)]
    critic = Composite(parts)
    assert critic.kin == kin_of([VqaScore(), GitVqa()])
    assert CachedReward(critic).kin == critic.kin


def test_a_critic_that_says_nothing_is_kin_of_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def warm(image, prompt):\n    return 1.0\n")
    critic: Reward = PythonFunction(address=f"{path}:warm")
    assert critic.kin == {f"python:{path}:warm"}
