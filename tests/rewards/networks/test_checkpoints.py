"""Weights in folders and on the hub: versions, files, and clear refusals. Nothing is fetched."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPModel

from milr.errors import UsageError
from milr_rewards.networks import checkpoints
from milr_rewards.networks.checkpoints import Weights, content_hash, half_on_gpu
from tests.rewards.tiny_embeddings import pickscore_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pickscore_folder(tmp_path_factory.mktemp("weights"))


def test_a_network_comes_frozen_and_ready(folder: Path) -> None:
    model = Weights("pickscore", str(folder)).model(CLIPModel, "cpu")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.logit_scale.dtype == torch.float32


def test_a_network_comes_in_the_precision_that_is_asked_for(folder: Path) -> None:
    assert Weights("pickscore", str(folder)).model(CLIPModel, "cpu", torch.bfloat16).dtype == torch.bfloat16


def test_the_version_of_a_folder_changes_with_its_files(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    assert Weights("pickscore", str(other)).version == Weights("pickscore", str(folder)).version
    (other / "config.json").write_text("{}")
    assert Weights("pickscore", str(other)).version != Weights("pickscore", str(folder)).version


def test_the_version_of_very_large_files_is_that_of_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_WHOLE", 8)
    monkeypatch.setattr(checkpoints, "_END", 2)
    monkeypatch.setattr(checkpoints, "_SAMPLES", 3)
    file = tmp_path / "weights.bin"

    def version(content: bytes) -> str:
        file.write_bytes(content)
        return content_hash(tmp_path)

    assert version(b"ab..mm..yz") == version(b"ab--mm--yz")
    others = (b"ab..mm..yz", b"xb..mm..yz", b"ab..nm..yz", b"ab..mm..yx", b"ab..mm...yz")
    assert len({version(content) for content in others}) == 5


def test_the_version_of_hub_weights_names_the_commit_once_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    weights = Weights("hps", "owner/name")
    assert weights.version == "owner/name@main"
    reference = tmp_path / "models--owner--name" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_text("0123456789abcdef0123456789abcdef01234567")
    assert weights.version == "owner/name@0123456789ab"
    assert Weights("hps", "owner/name", revision="v1").version == "owner/name@v1"


def test_what_is_neither_a_folder_nor_a_hub_id_is_refused() -> None:
    with pytest.raises(UsageError, match=r"there is no folder './nowhere'.*--set reward\.pickscore\.processor=OWNER/"):
        Weights("pickscore", "./nowhere", option="processor").model(CLIPModel, "cpu")


def test_whatever_a_library_says_becomes_one_line() -> None:
    expected = pytest.raises(UsageError, match=r"cannot load owner/name: no room\. .*--set reward\.hps\.model=FOLDER")
    with expected, Weights("hps", "owner/name").explained():
        raise RuntimeError("no room.\ntraced")


def test_a_missing_package_is_named() -> None:
    expected = pytest.raises(UsageError, match=r"reward 'hps' needs nothing_like_it; .*pip install 'milr\[critics\]'")
    with expected, Weights("hps", "owner/name").explained():
        __import__("nothing_like_it")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_tensors_come_from_either_kind_of_file(tmp_path: Path, name: str) -> None:
    tensors = {"one": torch.ones(2)}
    (save_file if name.endswith("safetensors") else torch.save)(tensors, tmp_path / name)
    assert Weights("hps", str(tmp_path)).tensors(name)["one"].tolist() == [1, 1]


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "proof",))

    (tmp_path / "weights.pt").write_bytes(pickle.dumps({"one": Code()}, protocol=2))
    with pytest.raises(UsageError, match=r"reward 'hps' cannot load"):
        Weights("hps", str(tmp_path)).tensors("weights.pt")
    assert not (tmp_path / "proof").exists()


def test_a_file_that_a_folder_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"reward 'hps' has no weights: there is no file '.*weights\.pt'"):
        Weights("hps", str(tmp_path)).file("weights.pt")


def test_half_precision_is_for_gpus() -> None:
    assert (half_on_gpu("cuda:1"), half_on_gpu("cpu")) == (torch.bfloat16, torch.float32)
