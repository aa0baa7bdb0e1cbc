"""Weights of other people's networks: on the hub or in a folder, loaded frozen, refused in one clear sentence.

    weights = Weights("pickscore", "yuvalkirstain/PickScore_v1")
    model = weights.model(CLIPModel, device)
    processor = weights.processor(CLIPProcessor)

Only maintained classes load them: no code comes from a checkpoint, and pickles are read as plain tensors. Knows nothing
about what the networks do.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from milr.errors import PromptError, UsageError
from milr.hub import hub_or_cache
from milr.quiet import quiet
from milr.rewards import one_line

_EMBEDDED = Path(__file__).resolve().parents[1] / "weights"
_WHOLE = 64 * 2**20  # bytes; of a larger file only samples are hashed, so that a version costs no minutes
_END = 2**18  # bytes of a sample
_SAMPLES = 64  # the first and the last are the file's ends
_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """Where a critic's weights are.

    Attributes:
        reward: the critic, for messages.
        source: "OWNER/NAME" on the Hugging Face hub, or a folder.
        revision: branch, tag or commit on the hub.
        option: which option of the critic chooses the source, for messages.
    """

    reward: str
    source: str
    revision: str | None = None
    option: str = "model"

    @cached_property
    def folder(self) -> Path | None:
        """The source, where it is a folder."""
        path = Path(self.source).expanduser()
        return path if path.is_dir() else None

    @property
    def version(self) -> str:
        """The folder's content, or name and commit on the hub; the commit is known once something was loaded."""
        if self.folder:
            return self._content
        return f"{self.source}@{self._commit() or self.revision or 'main'}"

    @cached_property
    def kin(self) -> frozenset[str]:
        """What they are called, in whichever critic: the hub's name without a revision, or `folder_kin`."""
        return folder_kin(self.folder) if self.folder else frozenset({self.source})

    @cached_property
    def _content(self) -> str:
        assert self.folder
        return content_hash(self.folder)

    def model(self, loader: Any, device: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
        """A frozen network in eval mode, by the `from_pretrained` of a transformers class.

        Raises:
            UsageError: there are no such weights, they cannot be fetched, or they are damaged.
        """
        name = self._name()
        with self.explained(), quiet():
            model, report = loader.from_pretrained(
                name, revision=self.revision, dtype=dtype, output_loading_info=True, **options
            )
        missing = sorted(report["missing_keys"])
        if missing:  # some checkpoints lack what is never used; whether this one does, only their authors know
            _log.warning("%s: %s lacks %d tensors, %r among them", self.reward, self.source, len(missing), missing[0])
        return model.requires_grad_(False).eval().to(device)

    def processor(self, loader: Any, **options: Any) -> Any:
        """A tokenizer, image processor or both; errors as `model`."""
        name = self._name()
        with self.explained(), quiet():
            return loader.from_pretrained(name, revision=self.revision, **options)

    def file(self, name: str) -> Path:
        """One file of the source; errors as `model`."""
        from huggingface_hub import hf_hub_download

        if self.folder:
            if not (self.folder / name).is_file():
                raise UsageError(
                    f"reward {self.reward!r} has no weights: there is no file {str(self.folder / name)!r}."
                )
            return self.folder / name
        source = self._name()
        with self.explained(), quiet():
            return Path(hf_hub_download(source, name, revision=self.revision))

    def tensors(self, name: str) -> dict[str, Any]:
        """A checkpoint of tensors alone, `.safetensors` or a pickle without code; errors as `model`."""
        path = self.file(name)
        with self.explained():
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                return load_file(path)
            return torch.load(path, map_location="cpu", weights_only=True)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns whatever a library raises while it loads into one sentence.

        Raises:
            UsageError: instead of it.
        """
        try:
            with nullcontext() if self.folder else hub_or_cache():
                yield
        except UsageError:
            raise
        except ImportError as error:
            raise missing_package(self.reward, error) from error
        except Exception as error:  # hub, files, torch: each refuses in its own way
            raise UsageError(
                f"reward {self.reward!r} cannot load {self.source}: {_first_line(error)}. {self._advice()}"
            ) from error

    def _name(self) -> str:
        if self.folder:
            return str(self.folder)
        if self.source.count("/") != 1 or self.source.startswith((".", "/", "~")):
            raise UsageError(
                f"reward {self.reward!r}: there is no folder {self.source!r}; give a folder or a hub id, OWNER/NAME: "
                f"--set reward.{self.reward}.{self.option}=OWNER/NAME."
            )
        return self.source

    def _commit(self) -> str | None:
        """The commit that the hub's cache holds of this revision."""
        from huggingface_hub import constants

        cached = Path(constants.HF_HUB_CACHE) / f"models--{self.source.replace('/', '--')}"
        reference = cached / "refs" / (self.revision or "main")
        return reference.read_text("utf-8").strip()[:12] if reference.is_file() else None

    def _advice(self) -> str:
        if Path(self.source).expanduser().exists():
            return "Its files are damaged or those of another kind of model."
        return (
            "Weights are fetched on first use; without a network, give a folder that holds them: "
            f"--set reward.{self.reward}.{self.option}=FOLDER."
        )


@contextmanager
def as_part_of(whole: str, options: Mapping[str, str]) -> Iterator[None]:
    """Lets a critic that is part of another say how the other one is told.

    Args:
        whole: the critic that the user named.
        options: from an option of the part ("blip-vqa.model") to that of the whole ("model").

    Raises:
        UsageError: the part's, with the whole's options.
    """
    try:
        yield
    except PromptError:
        raise
    except UsageError as error:
        message = str(error)
        for option, own in options.items():
            message = message.replace(f"--set reward.{option}=", f"--set reward.{whole}.{own}=")
        named = f"--set reward.{whole}."
        for option, own in options.items():
            if f"reward {option.partition('.')[0]!r}" in message and named not in message:
                message += f" Choose others with {named}{own}=FOLDER."
        raise UsageError(f"as a part of {whole!r}: {message}") from error


def missing_package(reward: str, error: ImportError) -> UsageError:
    """What to install."""
    package = error.name or _first_line(error)
    return UsageError(f"reward {reward!r} needs {package}; install it with: pip install 'milr[critics]'")


def folder_kin(folder: Path) -> frozenset[str]:
    """What the weights in a folder are called: the same for every copy of a file, on every machine.

    Those that ship with milr have a name, and those in the hub's cache its name; others are called by the content of
    each file of weights, and a folder without any by its path. A plain copy of what the hub has is no kin of the hub's
    name, which does not say what is in it.
    """
    folder = folder.resolve()
    if folder.parent == _EMBEDDED:
        return frozenset({folder.name})
    if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
        return frozenset({folder.parents[1].name.removeprefix("models--").replace("--", "/", 1)})
    files = [file for file in folder.iterdir() if file.suffix in _SUFFIXES and file.is_file()]
    return frozenset(f"weights {_file_hash(file)}" for file in files) or frozenset({str(folder)})


def content_hash(folder: Path) -> str:
    """Twelve digits that change with the files of a folder; of very large files, with their size and some samples."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{file.name} {file.stat().st_size} ".encode())
        digest.update(_content_of(file))
    return digest.hexdigest()[:12]


def _file_hash(file: Path) -> str:
    return hashlib.sha256(f"{file.stat().st_size} ".encode() + _content_of(file)).hexdigest()[:12]


def _content_of(file: Path) -> bytes:
    """What stands for a file: its hash, or samples of a very large one."""
    size = file.stat().st_size
    with file.open("rb") as content:
        if size <= _WHOLE:
            return hashlib.file_digest(content, "sha256").digest()
        samples = []
        for place in range(_SAMPLES):
            content.seek(place * (size - _END) // (_SAMPLES - 1))
            samples.append(content.read(_END))
    return b"".join(samples)


def half_on_gpu(device: str) -> torch.dtype:
    """bfloat16 on a GPU, for networks of billions of weights; float32 elsewhere."""
    return torch.bfloat16 if device.startswith("cuda") else torch.float32


def _first_line(error: Exception) -> str:
    return one_line(str(error).strip().partition("\n")[0] or type(error).__name__, 200).rstrip(".:")
