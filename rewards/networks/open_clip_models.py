"""Embeddings of texts and pictures under an open_clip model: chosen by name, loaded once, computed in batches.

Knows nothing about which picture belongs to which text, nor about what the embeddings are good for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image

from milr.errors import UnknownNameError, UsageError
from milr.quiet import quiet

from .batching import batches, once
from .checkpoints import Weights, content_hash, folder_kin, missing_package

BATCH = 64  # texts or pictures per forward pass; keeps memory flat
OPENAI = "openai"  # the tag that is meant where an architecture has it

_CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class Checkpoint:
    """A model that open_clip can load.

    Attributes:
        architecture: as open_clip names it, schema included.
        tag: which of its weights, or a file of them; None where the architecture says so already.
        folder: where architecture and weights are, for a local one.
    """

    architecture: str
    tag: str | None = None
    folder: Path | None = None

    @property
    def source(self) -> str:
        """Where the weights come from, for messages."""
        if self.tag and Path(self.tag).is_file():
            return self.tag
        return str(self.folder or self)

    @property
    def kin(self) -> frozenset[str]:
        """What it is called in whichever critic."""
        return folder_kin(self.folder) if self.folder else frozenset({str(self).removeprefix("hf-hub:")})

    def __str__(self) -> str:
        return f"{self.architecture} ({self.tag})" if self.tag else self.architecture


class OpenClip:
    """An open_clip model by name: normalised embeddings of texts and pictures.

    Args:
        reward: the critic that uses it, for messages.
        model: an architecture of open_clip, "hf-hub:OWNER/NAME", or a folder with `open_clip_config.json`.
        pretrained: the checkpoint of an architecture: a tag of open_clip or a file; "openai", or the only tag there
            is, when not given.
        device: where the model runs.
        option: which option of the critic chooses the model, for messages.
        resize: what becomes of pictures that are not square: "shortest" (cropped), "longest" (padded) or "squash";
            as the checkpoint says when not given.

    Attributes:
        version: changes with the files of a folder; else the names of model and checkpoint.
        kin: what the checkpoint is called.
        size_mb: of a folder; None for what is fetched.

    Raises:
        UnknownNameError: there is no such model or tag.
        UsageError: open_clip is not installed, or the folder holds no model of it.
    """

    def __init__(
        self,
        reward: str,
        model: str,
        pretrained: str | None = None,
        *,
        device: str = "cpu",
        option: str = "model",
        resize: str | None = None,
    ) -> None:
        self._reward, self._option, self._device, self._resize = reward, option, device, resize
        self._checkpoint = _choose(reward, model, pretrained)
        self.version = str(self._checkpoint)
        self.kin = self._checkpoint.kin
        self.size_mb: float | None = None
        if folder := self._checkpoint.folder:
            self.version = content_hash(folder)
            self.size_mb = round(sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6, 1)

    def load(self) -> None:
        """Load the weights now.

        Raises:
            UsageError: they cannot be fetched, or they are damaged.
        """
        _ = self._loaded

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """[texts, D] of length 1, in float32, of one text or more; equal texts are embedded once. Errors as `load`."""
        model, _, tokenizer = self._loaded

        def embed(batch: Sequence[str]) -> torch.Tensor:
            return model.encode_text(tokenizer(list(batch)).to(self._device), normalize=True).float()

        return once(texts, embed, BATCH)

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[images, D] of length 1, in float32, of one picture or more, in any mode and size. Errors as `load`."""
        model, preprocess, _ = self._loaded

        def embed(batch: Sequence[Image.Image]) -> torch.Tensor:
            pixels = torch.stack([preprocess(image.convert("RGB")) for image in batch])  # [batch, 3, side, side]
            return model.encode_image(pixels.to(self._device), normalize=True).float()

        return torch.cat([embed(batch) for batch in batches(images, BATCH)])

    def cosines(self, images: Sequence[Image.Image], texts: Sequence[str]) -> torch.Tensor:
        """[images] of each picture with its text, from -1 to 1; none of none. Errors as `load`."""
        if not images:
            return torch.empty(0)
        return (self.embed_images(images) * self.embed_texts(texts)).sum(-1).clamp(-1, 1)

    @property
    def sigmoid(self) -> tuple[float, float]:
        """(scale, bias) with which SigLIP's probability of a pair is sigmoid(scale · cosine + bias).

        Raises:
            UsageError: the model was trained otherwise; or errors as `load`.
        """
        model = self._loaded[0]
        if model.logit_bias is None:
            raise UsageError(
                f"reward {self._reward!r}: {self._checkpoint} is no SigLIP model, so that its cosines have no "
                f"probability; choose one with --set reward.{self._reward}.{self._option}=ViT-B-16-SigLIP2-256."
            )
        return model.logit_scale.exp().item(), model.logit_bias.item()

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        """The model, what it does to pictures, and its tokenizer."""
        architecture, tag = self._checkpoint.architecture, self._checkpoint.tag
        source = Weights(self._reward, self._checkpoint.source, option=self._option)
        # Networks are born with random weights; the fork keeps that from the generator of whoever calls.
        with source.explained(), quiet(), torch.random.fork_rng(devices=[]):
            import open_clip

            # Some checkpoints, OpenAI's among them, need another activation than their architecture has by default.
            quick_gelu = tag is not None and open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False)
            model, preprocess = open_clip.create_model_from_pretrained(
                architecture,
                tag,
                device=self._device,
                force_quick_gelu=quick_gelu,
                image_resize_mode=self._resize,
            )
            tokenizer = open_clip.get_tokenizer(architecture)
            tokenizer(["a photo"])  # some do not work with every release of transformers
            return model.requires_grad_(False).eval(), preprocess, tokenizer


def _choose(reward: str, model: str, pretrained: str | None) -> Checkpoint:
    """The checkpoint that is meant; nothing is loaded."""
    open_clip = _open_clip(reward)
    if model in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(model)
        tag = pretrained or (tags[0] if len(tags) == 1 else OPENAI)
        if tag not in tags and not Path(tag).is_file():
            raise UnknownNameError(
                f"checkpoint of {model}:", tag, tags, f"Choose one with --set reward.{reward}.pretrained=NAME."
            )
        return Checkpoint(model, tag)
    if model.startswith("hf-hub:"):
        checkpoint = Checkpoint(model)
    else:
        folder = Path(model.removeprefix("local-dir:")).expanduser()
        if not folder.is_dir():
            raise UnknownNameError(f"model of reward {reward!r}:", model, open_clip.list_models())
        if not (folder / _CONFIG).is_file():
            raise UsageError(f"reward {reward!r} has no weights: expected {_CONFIG} in {str(folder)!r}.")
        checkpoint = Checkpoint(f"local-dir:{folder}", folder=folder)
    if pretrained:
        raise UsageError(
            f"reward {reward!r}: {checkpoint} is a checkpoint already; leave out pretrained={pretrained!r}."
        )
    return checkpoint


def _open_clip(reward: str) -> ModuleType:
    try:
        import open_clip
    except ImportError as error:
        raise missing_package(reward, error) from error
    return open_clip
