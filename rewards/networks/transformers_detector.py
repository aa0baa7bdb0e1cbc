"""Object detectors of transformers: pictures in, named boxes with scores out, and masks where the model draws them.

Mask2Former and MaskFormer are read as mmdet reads them (`MaskFormerFusionHead.instance_postprocess`), since official
GenEval does: the 100 best pairs of query and class, each worth the class's probability times the mean probability
inside its mask, with the mask's box, and no suppression of overlaps. (transformers' own reading works on small square
masks, and knows no boxes.) Models for object detection, DETR and its kin, are read by their own image processors.

Knows nothing about colours, prompts or rules; `geneval_rule` grades what it finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from milr.errors import UsageError

from ..geneval_rule import LIMIT
from ..language.vocabulary import CLASSES
from .batching import alike
from .checkpoints import Weights
from .detection import Box, Detection

BATCH = 4  # pictures per forward pass; keeps memory flat
PAIRS = 100  # of query and class, in a picture: mmdet's `max_per_image`
SCORE_FLOOR = 0.05  # below this a detection carries no information, only masks to store
MASK_MODELS = ("Mask2FormerForUniversalSegmentation", "MaskFormerForInstanceSegmentation")

# What datasets call a class of GenEval: COCO, then Pascal VOC where it differs.
_ALIASES = {
    "mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard", "hair dryer": "hair drier",
    "aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle", "pottedplant": "potted plant",
    "sofa": "couch", "tvmonitor": "tv",
}  # fmt: skip
_NO_CLASS = "N/A"  # what DETR calls the numbers that COCO left out


class TransformersDetector:
    """A detector by hub id or folder.

    Args:
        reward: the critic that uses it, for messages.
        source: "OWNER/NAME" on the Hugging Face hub, or a folder.
        device: where the model runs.
        revision: branch, tag or commit on the hub.
        shorter_edge: to what length the shorter edge of a picture is scaled, and the longer one to at most 5/3 of it;
            as the checkpoint's image processor says when not given.

    Attributes:
        version: changes with the weights and the scale; of a hub's, the commit is known once they are loaded.
    """

    def __init__(
        self,
        reward: str,
        source: str,
        device: str = "cpu",
        revision: str | None = None,
        shorter_edge: int | None = None,
    ) -> None:
        self._reward, self._device = reward, device
        self._weights = Weights(reward, source, revision, option="detector")
        self.kin = self._weights.kin
        self._size = {"shortest_edge": shorter_edge, "longest_edge": shorter_edge * 5 // 3} if shorter_edge else None

    @property
    def classes(self) -> tuple[str, ...]:
        """What it can find; GenEval's names where GenEval has one. Errors as `load`."""
        return tuple(dict.fromkeys(name for name in self._names.values() if name != _NO_CLASS))

    @property
    def version(self) -> str:
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return self._weights.version + (f"@{self._size['shortest_edge']}px" if self._size else "")

    def load(self) -> None:
        """Load the weights now.

        Raises:
            UsageError: there are none, they cannot be fetched, they are damaged, or those of no detector.
        """
        _ = self._loaded

    @torch.inference_mode()
    def detect(self, images: Sequence[Image.Image]) -> list[dict[str, list[Detection]]]:
        """Per picture: class name -> detections in falling order of score, at most 16 a class, none under 0.05.

        Pictures of one size travel together, so that none is padded and none depends on its neighbours. Errors as
        `load`.
        """
        found: dict[int, dict[str, list[Detection]]] = {}
        for batch in alike(images, BATCH):
            width, height = images[batch[0]].size
            detected = self._detect([images[index].convert("RGB") for index in batch], (height, width))
            found.update(zip(batch, map(_by_class, detected), strict=True))
        return [found[index] for index in range(len(images))]

    def _detect(self, images: Sequence[Image.Image], size: tuple[int, int]) -> Iterable[Iterable[Detection]]:
        """The detections of each picture; all are RGB, of one size (height, width)."""
        model, processor = self._loaded
        inputs = processor(images=list(images), return_tensors="pt", **({"size": self._size} if self._size else {}))
        output = model(**inputs.to(self._device))
        if type(model).__name__ in MASK_MODELS:
            scales = inputs["pixel_values"].shape[-2:], size
            pairs = zip(output.class_queries_logits, output.masks_queries_logits, strict=True)
            return (self._named_masks(classes, masks, *scales) for classes, masks in pairs)
        boxes = processor.post_process_object_detection(
            output, threshold=SCORE_FLOOR, target_sizes=[size] * len(images)
        )
        return (self._named_boxes(**columns) for columns in boxes)

    def _named_masks(
        self, classes: Tensor, masks: Tensor, seen: Sequence[int], size: Sequence[int]
    ) -> Iterator[Detection]:
        """Class logits [Q, C + 1] and mask logits [Q, h, w] as detections, one mask at a time at full size."""
        chances = classes.softmax(-1)[:, :-1]  # the last class is "nothing"
        best, pairs = chances.flatten().topk(min(PAIRS, chances.numel()))
        drawn: dict[int, tuple[float, Box, NDArray[np.bool_]]] = {}
        for chance, pair in zip(best.tolist(), pairs.tolist(), strict=True):
            if chance < SCORE_FLOOR:  # nor can it score more with its mask
                break
            query, label = divmod(pair, chances.shape[1])
            if query not in drawn:
                drawn[query] = _draw(masks[query], seen, size)
            certainty, box, mask = drawn[query]
            if chance * certainty >= SCORE_FLOOR:
                yield Detection(self._names[label], chance * certainty, box, mask=mask)

    def _named_boxes(self, scores: Tensor, labels: Tensor, boxes: Tensor, **_: Any) -> Iterator[Detection]:
        for score, label, box in zip(scores.tolist(), labels.tolist(), boxes.tolist(), strict=True):
            yield Detection(self._names[label], score, tuple(box))

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        return self._weights.processor(AutoConfig)

    @cached_property
    def _names(self) -> dict[int, str]:
        return {int(label): geneval_name(name) for label, name in self._config.id2label.items()}

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The model and its image processor."""
        from transformers import AutoImageProcessor, AutoModelForObjectDetection, AutoModelForUniversalSegmentation
        from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES

        # Not the model's type decides: whatever head the weights lack would be filled with noise, and nobody told.
        architecture = next(iter(self._config.architectures or ()), "")
        if architecture in MASK_MODELS:
            loader: Any = AutoModelForUniversalSegmentation
        elif architecture in MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES.values():
            loader = AutoModelForObjectDetection
        else:
            raise UsageError(
                f"reward {self._reward!r} cannot detect with {self._weights.source}: it is a "
                f"{architecture or self._config.model_type}, and should be a {' or '.join(MASK_MODELS)}, or a model "
                "for object detection such as DetrForObjectDetection."
            )
        return self._weights.model(loader, self._device), self._weights.processor(AutoImageProcessor)


def geneval_name(label: str) -> str:
    """GenEval's name of a class, whatever its case; a class that GenEval lacks keeps its own."""
    name = label.lower().replace("_", " ")
    name = _ALIASES.get(name, name)
    return name if name in CLASSES else label


def _draw(logits: Tensor, seen: Sequence[int], size: Sequence[int]) -> tuple[float, Box, NDArray[np.bool_]]:
    """A mask [h, w] in pixels of the picture: its mean probability, its box, and itself [height, width].

    Scaled in two steps, as mmdet does it: to the size that the model saw, then to that of the picture.
    """
    for target in (seen, size):
        logits = F.interpolate(logits[None, None], size=list(target), mode="bilinear")[0, 0]
    inside = logits > 0
    certainty = (logits.sigmoid() * inside).sum() / (inside.sum() + 1e-6)
    rows, columns = (inside.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows else (0, 0, 0, 0)
    return certainty.item(), box, inside.cpu().numpy()


def _by_class(detections: Iterable[Detection]) -> dict[str, list[Detection]]:
    found: dict[str, list[Detection]] = {}
    for detection in sorted(detections, key=lambda detection: -detection.score):
        same = found.setdefault(detection.label, [])
        if len(same) < LIMIT:
            same.append(detection)
    return found
