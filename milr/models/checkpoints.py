"""The checkpoints that milr knows by name. Light: nothing here imports torch until a checkpoint is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from milr.models.base import UnifiedModel
    from milr.models.weights import Precision


@dataclass(frozen=True)
class Checkpoint:
    """A named checkpoint: a plugin of group `milr.models`.

    Attributes:
        source: a folder or a hub id.
        revision: the hub commit or tag; None for the newest.
        resolution: pixels, both sides.
        size_mb: of the weights as stored.
    """

    name: str
    source: str
    licence: str
    resolution: int
    size_mb: float
    description: str
    revision: str | None = None

    def load(
        self,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        quantize: Precision | None = None,
    ) -> UnifiedModel:
        """The frozen model; errors as in `milr.models.load_model`."""
        from milr.models.loading import load_from

        return load_from(self.source, device, dtype, revision or self.revision, self.name, quantize)


MINI = Checkpoint(
    name="mini",
    source=str(Path(__file__).parent / "mini"),
    licence="Apache-2.0",
    resolution=96,
    size_mb=40,
    description="embedded: emoji scenes, GenEval's objects, colours, counts and places",
)

_JANUS_PRO_LICENCE = "DeepSeek Model Agreement"

JANUS_PRO_1B = Checkpoint(
    name="janus-pro-1b",
    source="deepseek-community/Janus-Pro-1B",
    licence=_JANUS_PRO_LICENCE,
    resolution=384,
    size_mb=4_200,
    description="fetched from the Hugging Face hub",
)

JANUS_PRO_7B = Checkpoint(
    name="janus-pro-7b",
    source="deepseek-community/Janus-Pro-7B",
    licence=_JANUS_PRO_LICENCE,
    resolution=384,
    size_mb=14_900,
    description="fetched from the Hugging Face hub",
)
