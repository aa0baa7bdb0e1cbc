"""Models: the contract (`base`), the named checkpoints, and one backend a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milr import plugins
from milr.errors import UsageError

if TYPE_CHECKING:
    from milr.models.base import UnifiedModel


def load_model(
    name_or_path: str = "mini",
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    quantize: str | None = None,
) -> UnifiedModel:
    """A frozen model, ready to draw.

    Args:
        name_or_path: a name of `milr list models`, a local folder, or a hub id such as
            "deepseek-community/Janus-Pro-7B".
        device: "auto" (the first CUDA device, then MPS, then the CPU), or a torch device.
        dtype: "auto" (float32 on the CPU, bfloat16 elsewhere), or a torch floating dtype.
        revision: of a hub id.
        quantize: "int8" or "fp8": the backbone's weights are stored so and multiplied in `dtype` (extra `quant`).

    Raises:
        UnknownNameError: neither a name nor a path nor a hub id.
        ModelError: weights that are missing, truncated or of another architecture.
        UsageError: a device or dtype that is not there.
    """
    if not isinstance(name_or_path, str):
        raise UsageError(f"a model is a name, a folder or a hub id, not {name_or_path!r}.")
    precision = {}
    if quantize is not None:
        from milr.models.weights import check_precision

        precision = {"quantize": check_precision(quantize)}
    if name_or_path in plugins.plugins("models"):
        return plugins.find("models", name_or_path).load().load(device, dtype, revision, **precision)
    check_name(name_or_path)
    from milr.models.loading import load_from

    return load_from(name_or_path, device, dtype, revision, **precision)


def check_name(name_or_path: str) -> None:
    """Refuses what is neither a name nor a folder nor may be a hub id; UnknownNameError says what there is."""
    from milr.models.loading import is_folder

    if "/" not in name_or_path and not is_folder(name_or_path):
        plugins.find("models", name_or_path)
