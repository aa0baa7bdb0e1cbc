"""Janus, Janus-Pro and the embedded `mini`: one backend on transformers' own `JanusForConditionalGeneration`.

A checkpoint is a folder or a hub id. A file `milr.json` beside its `config.json` may say how it is prompted and
sampled; without it the conventions of Janus-Pro hold. Prompts are templates over `{bos}`, `{boi}`, `{eoi}`, `{prompt}`,
`{reasoning}`, `{question}` and `{image}` (the places of a picture's embeddings); whatever a user types is stripped of
special tokens, so that it stays text. A model reads pictures when it has a template for questions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import JanusForConditionalGeneration, PreTrainedTokenizerBase

from milr.errors import ModelError, PromptError
from milr.models.base import ModelFacts, tokens_of, with_tokens
from milr.models.eyes import JANUS_PRO_PICTURES, Preprocessing, pixel_values
from milr.models.llama import LlamaStack
from milr.models.weights import Precision

# The instruction asks for what MILR (arXiv 2509.22761) asks for: a short visualisation that names every object, its
# attributes and relations, and adds nothing.
JANUS_PRO_REASONING = (
    "{bos}<|User|>: Describe, in at most 50 words, a picture of the following: {prompt}. Name every object. "
    "Give colours, counts and other attributes where they are stated, and say where the objects are relative to each "
    "other where it is stated. Add nothing that is not stated.\n\n<|Assistant|>:"
)
JANUS_PRO_IMAGE = "{bos}<|User|>: {prompt}. {reasoning}\n\n<|Assistant|>:{boi}"
JANUS_PRO_DIRECT = "{bos}<|User|>: {prompt}\n\n<|Assistant|>:{boi}"
# The question follows the picture, as in Janus-Pro's own chat template; one word is easier to weigh than a sentence.
JANUS_PRO_QUESTION = "{bos}<|User|>: {boi}{image}{eoi}\n{question}\nAnswer yes or no.\n\n<|Assistant|>:"
JANUS_PRO_DESCRIBE = "{bos}<|User|>: {boi}{image}{eoi}\nDescribe the picture.\n\n<|Assistant|>:"

_READING_BATCH = 64  # rows of one picture and one question
_ANSWERS = {True: ("yes", "Yes", "YES", " yes", " Yes"), False: ("no", "No", "NO", " no", " No")}
_PIXELS_AT_ONCE = 16 * 384**2  # bounds the memory of the convolutional decoder
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


@dataclass(frozen=True)
class Templates:
    """How prompts are spelled for the model."""

    reasoning: str = JANUS_PRO_REASONING
    image: str = JANUS_PRO_IMAGE
    direct: str = JANUS_PRO_DIRECT
    question: str | None = JANUS_PRO_QUESTION  # None: the model does not read
    describe: str | None = JANUS_PRO_DESCRIBE


class Janus:
    """A frozen Janus; see `UnifiedModel` for what each member means.

    Args:
        network: on its device and in its dtype; frozen here.
        facts: `reads` is decided here, from the templates and the tokenizer.
        precision: of the backbone's projections; that of the network when not given.
        preprocessing: how pictures become the vision tower's input; its mean and std also hold for decoded pictures.
    """

    def __init__(
        self,
        network: JanusForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        facts: ModelFacts,
        templates: Templates = Templates(),
        stop_ids: frozenset[int] | None = None,
        preprocessing: Preprocessing = JANUS_PRO_PICTURES,
        precision: Precision | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.backbone = LlamaStack(self.network.model.language_model, precision)
        self.tokenizer = tokenizer
        self.templates = templates
        self.device, self.dtype = network.device, network.dtype
        self.bos, self.boi = tokenizer.bos_token, tokenizer.boi_token
        self._kept_when_unconditional = {tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids(self.boi)}
        self.pad_id = tokenizer.pad_token_id
        self.end_ids = frozenset({tokenizer.eos_token_id})
        self.stop_ids = stop_ids or self.end_ids
        self._special_text = re.compile("|".join(map(re.escape, tokenizer.all_special_tokens)))
        self._preprocessing = preprocessing
        self._mean = torch.tensor(preprocessing.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocessing.std, device=self.device).view(1, 3, 1, 1)
        self._yes, self._no = self._answer_ids(True), self._answer_ids(False)
        clear = bool(self._yes and self._no) and not set(self._yes) & set(self._no)
        self.facts = replace(facts, reads=templates.question is not None and clear)

    # Text

    def check_prompt(self, prompt: str) -> None:
        needed = len(self.reasoning_ids(prompt)) + self.facts.max_reasoning_tokens + self.facts.image_tokens
        surplus = needed - self.facts.context_length
        if surplus > 0:
            raise PromptError(
                f"the prompt is {surplus} tokens too long for {self.facts.name}, whose context of "
                f"{self.facts.context_length} tokens also holds the reasoning and the picture: {prompt[:60]!r}..."
            )

    def unknown_words(self, prompt: str) -> list[str]:
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return []
        words = dict.fromkeys(_WORD.findall(prompt))
        return [word for word in words if unknown in self.tokenizer.encode(word, add_special_tokens=False)]

    def reasoning_ids(self, prompt: str) -> list[int]:
        return self._encode(self.templates.reasoning, prompt)

    def image_ids(self, prompt: str, reasoning: str) -> list[int]:
        return self._encode(self.templates.image if reasoning else self.templates.direct, prompt, reasoning)

    def _encode(self, template: str, prompt: str, reasoning: str = "") -> list[int]:
        return self._filled(template, {"prompt": self._plain(prompt), "reasoning": self._plain(reasoning)})

    def _filled(self, template: str, values: dict[str, str]) -> list[int]:
        values = {"bos": self.bos, "boi": self.boi} | values
        text = re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _plain(self, text: str) -> str:
        return self._special_text.sub(" ", text).strip()

    def unconditional_ids(self, image_ids: Sequence[int]) -> list[int]:
        return [token if token in self._kept_when_unconditional else self.pad_id for token in image_ids]

    def decode_text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    # Tensors

    def embed_text(self, ids: Tensor) -> Tensor:
        return self.network.get_input_embeddings()(ids)

    def embed_image(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self._image_embeddings)

    @cached_property
    @torch.no_grad()
    def _image_embeddings(self) -> Tensor:
        """[V, H]: every code through the aligner once, which a step would else read again for each token."""
        codes = torch.arange(self.facts.image_vocabulary, device=self.device)
        return torch.cat([self.network.prepare_embeddings_for_image_generation(part) for part in codes.split(1024)])

    def text_head(self, hidden: Tensor) -> Tensor:
        return self.network.lm_head(hidden.to(self.network.lm_head.weight.dtype)).float()

    def image_head(self, hidden: Tensor) -> Tensor:
        head = self.network.model.generation_head
        return head(hidden.to(head.proj_out.weight.dtype)).float()

    @torch.no_grad()
    def pixels(self, image_tokens: Tensor) -> list[Image.Image]:
        pictures = []
        for tokens in image_tokens.split(max(1, _PIXELS_AT_ONCE // self.facts.resolution**2)):
            decoded = self.network.model.vqmodel.decode(tokens).float() * self._std + self._mean  # [N, 3, R, R]
            array = (decoded.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            drawn = [Image.fromarray(picture) for picture in array]
            if self.facts.reads_tokens:
                drawn = [with_tokens(picture, own) for picture, own in zip(drawn, tokens, strict=True)]
            pictures += drawn
        return pictures

    # Pictures that are read

    @torch.no_grad()
    def answer(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[float]:
        template = self._reading_template(self.templates.question)
        pairs = list(zip(images, questions, strict=True))
        chances: list[float] = []
        for start in range(0, len(pairs), _READING_BATCH):
            batch = pairs[start : start + _READING_BATCH]
            rows = [self._reading_ids(template, question) for _, question in batch]
            # Causal attention keeps the padding, which stands on the right, out of the answer.
            hidden = self.backbone.prefill(self._reading_embeddings([image for image, _ in batch], rows), None)
            logits = self.text_head(
                torch.stack([states[len(row) - 1] for states, row in zip(hidden, rows, strict=True)])
            )
            sides = torch.stack([logits[:, ids].logsumexp(-1) for ids in (self._yes, self._no)], dim=-1)
            chances += sides.softmax(-1)[:, 0].tolist()
        return chances

    @torch.no_grad()
    def read_picture(self, images: Sequence[Image.Image]) -> Tensor:
        ids = self._reading_ids(self._reading_template(self.templates.describe), "")
        return self._reading_embeddings(images, [ids] * len(images))

    def _reading_embeddings(self, images: Sequence[Image.Image], rows: Sequence[Sequence[int]]) -> Tensor:
        """[N, T, H] of prompts with their pictures, padded on the right."""
        different = {id(image): image for image in images}
        place = {key: index for index, key in enumerate(different)}
        seen = self._seen(list(different.values()))  # [pictures, tokens, H]
        length = max(map(len, rows))
        ids = torch.tensor([[*row, *[self.pad_id] * (length - len(row))] for row in rows], device=self.device)
        embeddings = self.embed_text(ids)
        here = (ids == self.network.config.image_token_id).unsqueeze(-1)
        seen = seen[[place[id(image)] for image in images]].to(embeddings.dtype)
        return embeddings.masked_scatter(here, seen)

    def _seen(self, images: Sequence[Image.Image]) -> Tensor:
        """[N, T, H] of pictures: what the vision tower sees, or the tokens themselves where the model reads those."""
        tokens = tokens_of(images) if self.facts.reads_tokens else None
        if tokens is not None:
            return self.embed_image(tokens.to(self.device))
        pixels = pixel_values(images, self.facts.resolution, self._preprocessing).to(self.device, self.dtype)
        return self.network.model.get_image_features(pixels, return_dict=True).pooler_output

    def _reading_template(self, template: str | None) -> str:
        if template is None or not self.facts.reads:
            raise ModelError(f"model {self.facts.name!r} does not read pictures.")
        return template

    def _reading_ids(self, template: str, question: str) -> list[int]:
        count = self.network.config.vision_config.num_image_tokens
        values = {"eoi": self.tokenizer.eoi_token, "image": self.tokenizer.image_token * count}
        return self._filled(template, values | {"question": self._plain(question)})

    def _answer_ids(self, answer: bool) -> list[int]:
        """Tokens that begin an answer, in every spelling that is one token."""
        spelled = (self.tokenizer.encode(text, add_special_tokens=False) for text in _ANSWERS[answer])
        return sorted({ids[0] for ids in spelled if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id})

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, parameter in sorted(self.network.state_dict().items()):
            digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
