"""Objects of any name in pictures: GroundingDINO, MM-GroundingDINO or OWLv2, as transformers has them.

    detector = OpenVocabularyDetector("spatial", "IDEA-Research/grounding-dino-base", device="cuda:0")
    detector.detect([picture], [["cat", "coat rack"]])[0]["cat"][0].box

A name is scored by its own words. GroundingDINO reads all names in one text, "cat. coat rack.", and gives each box a
score for each token; a name's score is the mean over its own tokens (as in T2I-R1), found by their place in the text.
The phrases that the library decodes from those tokens are not used: they mix names that share words or are rare. OWLv2
reads each name by itself.

Boxes of one name that overlap more than `DUPLICATE` are one object. The text of a picture has room for about eighty
names. Knows nothing about what should be in a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image

from milr.errors import PromptError, UsageError

from .batching import alike
from .checkpoints import Weights
from .detection import Detection

DEFAULT = "IDEA-Research/grounding-dino-base"
LICENCE = "Apache-2.0"
SIZE_MB = 933.0
THRESHOLD = 0.3  # that of T2I-R1 and MILR
DUPLICATE = 0.5  # overlap of two boxes that are one object
BATCH = 8  # pictures per forward pass; they are large inside

_GROUNDING = ("grounding-dino", "mm-grounding-dino")
_QUERYING = ("owlv2",)
_QUERY = "a photo of a {}"


class OpenVocabularyDetector:
    """Finds objects by their names.

    Args:
        reward: the critic that uses it, for messages.
        source: a checkpoint of GroundingDINO, MM-GroundingDINO or OWLv2 on the Hugging Face hub, or a folder.
        device: where it runs.
        revision: branch, tag or commit on the hub.
        threshold: detections must score more than this, in [0, 1); OWLv2 is less sure of itself, 0.1 fits it.
        option: which option of the critic chooses the source, for messages.

    Raises:
        UsageError: the threshold is none.
    """

    def __init__(
        self,
        reward: str,
        source: str = DEFAULT,
        *,
        device: str = "cpu",
        revision: str | None = None,
        threshold: float = THRESHOLD,
        option: str = "model",
    ) -> None:
        if not 0 <= threshold < 1:
            raise UsageError(f"reward {reward!r}: the threshold must be at least 0 and less than 1, not {threshold!r}.")
        self._weights = Weights(reward, source, revision, option)
        self._device, self._threshold = device, threshold
        self.kin = self._weights.kin

    @property
    def version(self) -> str:
        """Changes when detections may; the commit of weights on the hub is known once they are loaded."""
        return f"{self._weights.version} > {self._threshold:g}"

    def load(self) -> None:
        """Load the weights now.

        Raises:
            UsageError: they cannot be fetched, are damaged, or are those of another kind of network.
        """
        _ = self._loaded

    @torch.inference_mode()
    def detect(self, images: Sequence[Image.Image], names: Sequence[Sequence[str]]) -> list[dict[str, list[Detection]]]:
        """What is found of each name in each picture, the surest first; names may differ from picture to picture.

        Raises:
            UsageError: as `load`, or the names of a picture are too many for one text.
        """
        results: list[dict[str, list[Detection]]] = [{} for _ in images]
        for batch in alike(images, BATCH):
            batch = [index for index in batch if names[index]]
            if not batch:
                continue
            wanted = [list(dict.fromkeys(names[index])) for index in batch]
            scores, boxes = self._look([images[index].convert("RGB") for index in batch], wanted)
            for row, index in enumerate(batch):
                for column, name in enumerate(wanted[row]):
                    results[index][name] = self._keep(name, scores[row][:, column], boxes[row], images[index].size)
        return results

    def _look(self, images: list[Image.Image], names: list[list[str]]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Scores [queries, names] of each picture, and boxes [pictures, queries, 4] in its pixels."""
        model, processor = self._loaded
        pixels = dict(processor.image_processor(images, return_tensors="pt").to(self._device))
        if model.config.model_type in _GROUNDING:
            scores, relative = self._ground(model, processor.tokenizer, pixels, names)
            width, height = images[0].size
        else:
            scores, relative = self._query(model, processor.tokenizer, pixels, names)
            width = height = max(images[0].size)  # OWLv2 pads pictures to a square
        centre, size = relative.float().split(2, dim=-1)
        corners = torch.cat([centre - size / 2, centre + size / 2], dim=-1)  # [pictures, queries, 4]
        return scores, (corners * corners.new_tensor([width, height, width, height])).cpu()

    def _ground(
        self, model: Any, tokenizer: Any, pixels: Mapping[str, torch.Tensor], names: list[list[str]]
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        written = [write(each) for each in names]
        text = tokenizer([text for text, _ in written], padding=True, return_offsets_mapping=True, return_tensors="pt")
        offsets = text.pop("offset_mapping").tolist()
        if len(offsets[0]) > model.config.max_text_len:
            raise UsageError(f"{len(names[0])} names are too many for one picture's text: {', '.join(names[0])[:80]}.")
        output = model(**pixels, **text.to(self._device))
        tokens = output.logits.float().sigmoid().cpu()  # [pictures, queries, tokens]
        scores = []
        for row, (_, spans) in enumerate(written):
            own = [_inside(offsets[row], span) for span in spans]
            scores.append(torch.stack([tokens[row][:, places].mean(-1) for places in own], dim=-1))
        return scores, output.pred_boxes

    def _query(
        self, model: Any, tokenizer: Any, pixels: Mapping[str, torch.Tensor], names: list[list[str]]
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        every = list(dict.fromkeys(name for each in names for name in each))
        queries = [_QUERY.format(name) for name in every] * len(names)
        text = tokenizer(queries, padding="max_length", truncation=True, return_tensors="pt").to(self._device)
        output = model(**pixels, input_ids=text["input_ids"], attention_mask=text["attention_mask"])
        found = output.logits.float().sigmoid().cpu()  # [pictures, queries, names]
        return [found[row][:, [every.index(name) for name in each]] for row, each in enumerate(names)], (
            output.pred_boxes
        )

    def _keep(self, name: str, scores: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> list[Detection]:
        """The detections of one name: above the threshold, within the picture, each object once, the surest first."""
        from torchvision.ops import nms  # type: ignore[import-untyped]

        boxes = boxes.minimum(boxes.new_tensor([*size, *size])).clamp(min=0)
        within = (boxes[:, :2] < boxes[:, 2:]).all(-1)  # OWLv2 may see something in its padding
        sure = within & (scores > self._threshold)
        scores, boxes = scores[sure], boxes[sure]
        kept = nms(boxes, scores, DUPLICATE).tolist()
        return [Detection(name, scores[index].item(), tuple(boxes[index].tolist())) for index in kept]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        processor = self._weights.processor(AutoProcessor)
        model = self._weights.model(AutoModelForZeroShotObjectDetection, self._device)
        if model.config.model_type not in (*_GROUNDING, *_QUERYING):
            raise UsageError(
                f"reward {self._weights.reward!r}: {self._weights.source} is a {model.config.model_type!r}; expected "
                f"GroundingDINO, MM-GroundingDINO or OWLv2: --set reward.{self._weights.reward}.{self._weights.option}="
                f"{DEFAULT}."
            )
        return model, processor


def write(names: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """GroundingDINO's text, "cat. coat rack.", and where each name stands in it.

    Raises:
        PromptError: a name has no letters.
    """
    text, spans = "", []
    for name in names:
        plain = " ".join(name.lower().replace(".", " ").replace("?", " ").split())  # both end a name there
        if not plain:
            raise PromptError(f"{name!r} is the name of nothing that could be found in a picture.")
        text += " " if text else ""
        spans.append((len(text), len(text) + len(plain)))
        text += f"{plain}."
    return text, spans


def _inside(offsets: Sequence[Sequence[int]], span: tuple[int, int]) -> list[int]:
    """The tokens within a stretch of the text; those of no letters, such as [CLS], are in none."""
    return [place for place, (start, end) in enumerate(offsets) if start < end and span[0] <= start and end <= span[1]]
