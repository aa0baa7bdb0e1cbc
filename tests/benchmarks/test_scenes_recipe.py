"""The whole recipe in its toy form: every stage runs, leaves what the next one reads, and is skipped when done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoProcessor, AutoTokenizer, JanusForConditionalGeneration

import milr
from milr.decoding import Sampling
from milr_benchmarks.scenes import evaluate, language
from milr_benchmarks.scenes.__main__ import main
from milr_rewards.networks.scene_detector import SceneDetector

open_clip = pytest.importorskip("open_clip")

MINI, CLIP = "mini/model.safetensors", "scenes-clip/open_clip_model.safetensors"


def run(*arguments: str) -> None:
    result = CliRunner().invoke(main, [*arguments, "--toy", "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("workshop")
    run("all", "--out", str(out))
    return out


@pytest.fixture(scope="module")
def finished(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workshop with the rows of every matrix of `mini` and of the contrastive model in another order.

    A few steps of training leave a fresh model near the workshop's own, which began with the same random weights.
    """
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(workshop, folder, dirs_exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    for name in (MINI, CLIP):
        state = {
            key: value[torch.randperm(len(value), generator=generator)] if value.ndim > 1 else value
            for key, value in load_file(folder / name).items()
        }
        save_file(state, folder / name, {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def continued(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("continued")
    stages = ("detectors", "sight", "tokeniser", "language-model", "clip")
    run(*stages, "--start-from", str(finished), "--out", str(out))
    return out


def distance(one: Tensor, other: Tensor) -> float:
    """Of two tensors, as a share of the second one's length."""
    return ((one.float() - other.float()).norm() / other.float().norm()).item()


def test_every_stage_leaves_its_output_and_no_draft(workshop: Path) -> None:
    names = {path.name for path in workshop.iterdir()}
    assert names == {
        "clean-critic", "clean-judge", "clean-third", "tokeniser", "scenes-critic", "scenes-judge", "scenes-third",
        "sight", "mini", "scenes-clip", "detector-figures", "model-figures",
    }  # fmt: skip
    for name, keys in (
        ("detector-figures", {"tokeniser", "pairs", "scenes-judge"}),
        ("model-figures", {"geneval", "scenes", "reading"}),
    ):
        assert keys <= json.loads((workshop / name / f"{name}.json").read_text()).keys()


def test_every_critic_stands_in_the_table_of_pairs(workshop: Path) -> None:
    pairs = json.loads((workshop / "detector-figures" / "detector-figures.json").read_text())["pairs"]
    detectors = {f"{name}, {grade}" for name in ("critic", "judge", "third") for grade in ("rule", "dense")}
    for pictures in ("clean", "reconstructed"):
        assert pairs[pictures].keys() == {*detectors, "clip", "self"}
        assert pairs[pictures]["self"].keys() == pairs[pictures]["clip"].keys()


def test_finished_stages_are_skipped(workshop: Path) -> None:
    weights = workshop / "mini" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    run("all", "--out", str(workshop))
    assert weights.stat().st_mtime_ns == before


def test_the_model_folder_loads_offline_and_draws_as_the_library_does(workshop: Path) -> None:
    folder = workshop / "mini"
    network = JanusForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    assert AutoTokenizer.from_pretrained(folder).unk_token == language.UNK
    assert AutoProcessor.from_pretrained(folder).num_image_tokens == 144
    backend = milr.load_model(str(folder), device="cpu")
    assert backend.facts.reads
    greedy = Sampling(guidance=3.0, temperature=0.0, reasoning_temperature=0.0, max_reasoning_tokens=8)
    images, (plan,) = evaluate.generate(backend, ["a photo of a bench"], 0, greedy)
    ids = torch.tensor([backend.image_ids("a photo of a bench", plan)])
    official = network.generate(ids, torch.ones_like(ids), generation_mode="image", do_sample=False, guidance_scale=3)
    assert evaluate.to_picture(images[0]).tobytes() == backend.pixels(official)[0].tobytes()


def test_plans_end_where_the_image_begins(workshop: Path) -> None:
    model = JanusForConditionalGeneration.from_pretrained(workshop / "mini", dtype=torch.float32).eval()
    boi = language.build_tokenizer().convert_tokens_to_ids(language.BOI)
    assert boi in model.generation_config.eos_token_id


def test_detectors_differ_and_say_what_they_are(workshop: Path) -> None:
    three = [SceneDetector.load(workshop / f"scenes-{name}") for name in ("critic", "judge", "third")]
    assert len({detector.config.context for detector in three}) == 3
    assert len({detector.version for detector in three}) == 3
    assert not any(parameter.requires_grad for detector in three for parameter in detector.parameters())


def test_the_contrastive_model_loads_with_open_clip(workshop: Path) -> None:
    name = f"local-dir:{workshop / 'scenes-clip'}"
    model, _ = open_clip.create_model_from_pretrained(name)
    ids = open_clip.get_tokenizer(name)(["a photo of a bench", "a photo of two benchs and a toaster"])
    assert model.encode_text(ids).shape == (2, 128)


def test_training_goes_on_from_finished_detectors_without_a_clean_phase(finished: Path, continued: Path) -> None:
    for name in ("critic", "judge", "third"):
        was = SceneDetector.load(finished / f"scenes-{name}")
        now = SceneDetector.load(continued / f"clean-{name}")
        torch.testing.assert_close(now.state_dict(), was.state_dict(), rtol=0, atol=0)
        assert now.config == was.config


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (MINI, "model.language_model.embed_tokens.weight"),
        (MINI, "model.generation_embeddings.weight"),
        (MINI, "model.vision_model.embeddings.patch_embedding.weight"),
        (MINI, "model.vqmodel.encoder.conv_in.weight"),
        (CLIP, "token_embedding.weight"),
    ],
)
def test_training_goes_on_from_finished_weights(
    workshop: Path, finished: Path, continued: Path, file: str, name: str
) -> None:
    fresh, was, now = (load_file(folder / file)[name] for folder in (workshop, finished, continued))
    assert 0 < distance(now, was) < 0.3
    assert distance(now, fresh) > 0.5


def test_a_start_without_models_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "start" / "mini").mkdir(parents=True)
    arguments = ["all", "--toy", "--out", str(tmp_path / "out"), "--start-from", str(tmp_path / "start")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "has no scenes-critic, scenes-judge, scenes-third, scenes-clip" in result.output
    assert not (tmp_path / "out").exists()
