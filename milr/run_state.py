"""Where a search stands, as one safetensors file: the method's tensors, the best picture, and the rest as metadata.

The file needs nothing beside it, so a search goes on from it whatever else was being written when the process died.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from milr.events import Best, Progress
from milr.run_files import to_json, write_file

_METHOD = "method."
_PICTURE = "best_image"
_METADATA = "progress"


def save_progress(path: Path, progress: Progress) -> None:
    """Replace the state of a search."""
    tensors = {
        _METHOD + name: tensor.detach().cpu().contiguous().clone() for name, tensor in progress.method_state.items()
    }
    tensors[_PICTURE] = torch.from_numpy(np.array(progress.best.image.convert("RGB")))
    without_picture = replace(progress, method_state={}, best=replace(progress.best, image=None))  # type: ignore[arg-type]
    write_file(path, save(tensors, metadata={_METADATA: to_json(asdict(without_picture))}))


def load_progress(path: Path) -> Progress | None:
    """The state of a search; None when there is none or it cannot be read, so that the search starts anew."""
    try:
        with safe_open(path, "pt") as file:
            record = json.loads(file.metadata()[_METADATA])
            # Copied: in the mapped file tensors lie unaligned, and a kernel that minds would round differently.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
        best = Best(**record.pop("best") | {"image": Image.fromarray(tensors.pop(_PICTURE).numpy())})
        method_state = {name.removeprefix(_METHOD): tensor for name, tensor in tensors.items()}
        return Progress(**record | {"best": best, "method_state": method_state})
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
