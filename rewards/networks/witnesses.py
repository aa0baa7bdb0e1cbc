"""Who looks at pictures for GenEval's rule: what they find, and of which colour it is.

`SceneWitness` is a detector of scenes, which sees colours itself; `RealWitness` is a detector of transformers and CLIP
for the colours. Both say what they can find, and neither knows whether a picture is as it should be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from milr.errors import UsageError

from ..language.vocabulary import COLORS
from .batching import batches
from .checkpoints import folder_kin
from .colors import ColorNamer
from .detection import Detection
from .transformers_detector import TransformersDetector

if TYPE_CHECKING:
    from .scene_detector import SceneDetector

BATCH = 8  # pictures whose masks are kept at a time

_FILE = "model.safetensors"

Found = dict[str, list[Detection]]


class Witness(Protocol):
    """What finds objects in pictures, and sees the colours that clauses ask for."""

    @property
    def version(self) -> str: ...

    @property
    def kin(self) -> frozenset[str]: ...

    @property
    def classes(self) -> Collection[str]: ...

    @property
    def colors(self) -> Collection[str]: ...

    def load(self) -> None: ...

    def find(self, images: Sequence[Image.Image], metadata: Sequence[Mapping[str, Any]]) -> list[Found]: ...


class SceneWitness:
    """A detector of scenes, from its folder."""

    def __init__(self, reward: str, folder: Path, device: str) -> None:
        self._reward, self._folder, self._device = reward, folder, device
        weights = folder / _FILE
        if not weights.is_file():
            raise UsageError(f"reward {reward!r} has no weights: there is no file {str(weights)!r}.")
        content = weights.read_bytes()
        self.version = hashlib.sha256(content).hexdigest()[:12]
        self.kin = folder_kin(folder)
        self.size_mb = round(len(content) / 1e6, 1)

    @property
    def classes(self) -> Collection[str]:
        return self._detector.config.classes

    @property
    def colors(self) -> Collection[str]:
        # A detector may have a name for things in two paints; no prompt asks for that.
        return [name for name in self._detector.config.colors if name in COLORS]

    def load(self) -> None:
        _ = self._detector

    def find(self, images: Sequence[Image.Image], metadata: Sequence[Mapping[str, Any]]) -> list[Found]:
        return self._detector.detect(images)

    @cached_property
    def _detector(self) -> SceneDetector:
        from .scene_detector import SceneDetector

        try:
            return SceneDetector.load(self._folder, self._device)
        except Exception as error:  # torch, safetensors and json each have their own ways to refuse a file
            raise UsageError(
                f"reward {self._reward!r} cannot use the weights in {str(self._folder)!r}: "
                f"{type(error).__name__}: {error}"
            ) from error


class RealWitness:
    """A detector of transformers, and CLIP for colours."""

    colors = COLORS

    def __init__(self, detector: TransformersDetector, namer: ColorNamer) -> None:
        self._detector, self._namer = detector, namer
        self.kin = detector.kin | namer.kin

    @property
    def version(self) -> str:
        return f"{self._detector.version}-{self._namer.version}"

    @property
    def classes(self) -> Collection[str]:
        return self._detector.classes

    def load(self) -> None:
        self._detector.load()
        self._namer.load()

    def find(self, images: Sequence[Image.Image], metadata: Sequence[Mapping[str, Any]]) -> list[Found]:
        everything: list[Found] = []
        for batch in batches(list(zip(images, metadata, strict=True)), BATCH):
            pictures, wanted = zip(*batch, strict=True)
            found = self._detector.detect(pictures)
            self._namer.paint(pictures, found, wanted)
            everything += [
                {name: [replace(detection, mask=None) for detection in group] for name, group in objects.items()}
                for objects in found  # masks are large, and nobody needs them from here on
            ]
        return everything
