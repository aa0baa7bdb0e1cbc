"""The critic `clip`: the cosine similarity of a picture and its prompt under an open_clip model.

Pictures of `mini` are scored by a small model that ships with milr and knows those scenes; any other picture by
OpenAI's ViT-L-14, or another architecture and checkpoint of open_clip, fetched on first use. Values are comparable
between pictures of one prompt, not between prompts, and there is none from which a picture counts as a success.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from milr.errors import UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

EMBEDDED = "scenes-clip"
EMBEDDED_WORLD = "mini"  # the model whose pictures the embedded one knows
DEFAULT = ("ViT-L-14", "openai")
BATCH = 64  # pictures per forward pass; keeps memory flat

_WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Checkpoint:
    """A model that open_clip can load.

    Attributes:
        architecture: as open_clip names it, schema included.
        tag: which of its weights; None where the architecture says so already.
        folder: where both are, for a local one.
    """

    architecture: str
    tag: str | None = None
    folder: Path | None = None

    def __str__(self) -> str:
        return f"{self.architecture} ({self.tag})" if self.tag else self.architecture


class Clip(Reward):
    """Cosine similarity of picture and prompt.

    Args:
        facts: of the model whose pictures are scored.
        model: the open_clip model to score with: an architecture, a folder with `open_clip_config.json`,
            "hf-hub:OWNER/NAME", or "scenes-clip", the embedded one; chosen by `facts` when not given.
        pretrained: the checkpoint of the architecture, a tag of open_clip; "openai" where there is one.
        device: where the model runs.

    Raises:
        UsageError: open_clip is not installed, the model or the tag is unknown, or embedded weights are missing.
    """

    name = "clip"
    range = (-1.0, 1.0)
    licence = "Apache-2.0 (embedded), MIT (OpenAI's), or as the chosen checkpoint says"
    size_mb = 8.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        model: str | None = None,
        pretrained: str | None = None,
        device: str = "cpu",
    ) -> None:
        self._device = device
        self._checkpoint = _choose(model or _fitting(facts), pretrained)
        folder = self._checkpoint.folder
        self.version = _folder_hash(folder) if folder else str(self._checkpoint)
        if folder:
            self.size_mb = round(sum(file.stat().st_size for file in _files(folder)) / 1e6, 1)

    def check(self, prompt: Prompt) -> None:
        """Load the weights, so that missing ones are an error before anything starts."""
        super().check(prompt)
        _ = self._loaded

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        if not images:
            return []
        texts = list(dict.fromkeys(prompt.text for prompt in prompts))
        described = torch.cat([self._embed_texts(batch) for batch in _batches(texts)])  # [texts, D]
        seen = torch.cat([self._embed_images(batch) for batch in _batches(images)])  # [images, D]
        wanted = described[[texts.index(prompt.text) for prompt in prompts]]
        return [Score(cosine) for cosine in (seen * wanted).sum(-1).clamp(-1, 1).tolist()]

    def _embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        model, _, tokenizer = self._loaded
        return model.encode_text(tokenizer(list(texts)).to(self._device), normalize=True).float()

    def _embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        model, preprocess, _ = self._loaded
        pixels = torch.stack([preprocess(image.convert("RGB")) for image in images])
        return model.encode_image(pixels.to(self._device), normalize=True).float()

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        """The model, what it does to pictures, and its tokenizer."""
        open_clip = _open_clip()
        architecture, tag = self._checkpoint.architecture, self._checkpoint.tag
        # Some checkpoints, OpenAI's among them, need another activation than their architecture has by default.
        quick_gelu = tag is not None and open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False)
        try:
            with _silent_logs():
                model, preprocess = open_clip.create_model_from_pretrained(
                    architecture, tag, device=self._device, force_quick_gelu=quick_gelu
                )
                tokenizer = open_clip.get_tokenizer(architecture)
        except Exception as error:  # hub, files, torch: each refuses in its own way
            problem = str(error).strip().partition("\n")[0].rstrip(".")
            raise UsageError(f"reward 'clip' cannot load {self._checkpoint}: {problem}. {self._advice()}") from error
        return model.requires_grad_(False).eval(), preprocess, tokenizer

    def _advice(self) -> str:
        if self._checkpoint.folder:
            return "Its files are damaged or not those of an open_clip model."
        return (
            "Weights are fetched on first use; without a network, give a folder that holds them: "
            "--set reward.clip.model=FOLDER."
        )


def _fitting(facts: ModelFacts | None) -> str:
    """The open_clip model that knows what a model draws."""
    return EMBEDDED if facts is not None and facts.name == EMBEDDED_WORLD else DEFAULT[0]


def _choose(model: str, pretrained: str | None) -> Checkpoint:
    """The checkpoint that is meant; nothing is loaded."""
    open_clip = _open_clip()
    if model in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(model)
        tag = pretrained or DEFAULT[1]
        if tag not in tags:
            raise UnknownNameError(
                f"checkpoint of {model}:", tag, tags, "Choose one with --set reward.clip.pretrained=NAME."
            )
        return Checkpoint(model, tag)
    if model.startswith("hf-hub:"):
        return _without_tag(Checkpoint(model), pretrained)
    folder = _WEIGHTS / EMBEDDED if model == EMBEDDED else Path(model.removeprefix("local-dir:"))
    if model != EMBEDDED and not folder.is_dir():
        raise UnknownNameError("model of reward 'clip':", model, [EMBEDDED, *open_clip.list_models()])
    if not (folder / "open_clip_config.json").is_file():
        raise UsageError(f"reward 'clip' has no weights: expected open_clip_config.json in {str(folder)!r}.")
    return _without_tag(Checkpoint(f"local-dir:{folder}", folder=folder), pretrained)


def _without_tag(checkpoint: Checkpoint, pretrained: str | None) -> Checkpoint:
    if pretrained:
        raise UsageError(f"reward 'clip': {checkpoint} is a checkpoint already; leave out pretrained={pretrained!r}.")
    return checkpoint


def _open_clip() -> ModuleType:
    try:
        import open_clip
    except ImportError as error:
        raise UsageError("reward 'clip' needs open_clip; install it with: pip install 'milr[critics]'") from error
    return open_clip


@contextmanager
def _silent_logs() -> Iterator[None]:
    """open_clip and the hub log each retry as an error; what fails in the end is raised here, once."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in _files(folder):
        with file.open("rb") as content:
            digest.update(file.name.encode() + hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:12]
