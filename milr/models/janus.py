"""Janus, Janus-Pro and the embedded `mini`: one backend on transformers' own `JanusForConditionalGeneration`.

A checkpoint is a folder or a hub id. A file `milr.json` beside its `config.json` may say how it is prompted and
sampled; without it the conventions of Janus-Pro hold. Prompts are templates over `{bos}`, `{boi}`, `{prompt}` and
`{reasoning}`; whatever a user types is stripped of special tokens, so that it stays text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache, JanusForConditionalGeneration, PreTrainedTokenizerBase

from milr.errors import PromptError
from milr.models.base import ModelFacts

# The instruction asks for what MILR (arXiv 2509.22761) asks for: a short visualisation that names every object, its
# attributes and relations, and adds nothing.
JANUS_PRO_REASONING = (
    "{bos}<|User|>: Describe, in at most 50 words, a picture of the following: {prompt}. Name every object. "
    "Give colours, counts and other attributes where they are stated, and say where the objects are relative to each "
    "other where it is stated. Add nothing that is not stated.\n\n<|Assistant|>:"
)
JANUS_PRO_IMAGE = "{bos}<|User|>: {prompt}. {reasoning}\n\n<|Assistant|>:{boi}"
JANUS_PRO_DIRECT = "{bos}<|User|>: {prompt}\n\n<|Assistant|>:{boi}"

_PIXEL_BATCH = 64  # pictures decoded at once: bounds the memory of the convolutional decoder
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


@dataclass(frozen=True)
class Templates:
    """How prompts are spelled for the model."""

    reasoning: str = JANUS_PRO_REASONING
    image: str = JANUS_PRO_IMAGE
    direct: str = JANUS_PRO_DIRECT


class Janus:
    """A frozen Janus; see `UnifiedModel` for what each member means.

    Args:
        network: on its device and in its dtype; frozen here.
        image_mean, image_std: pixels in 0..1 are decoder output x std + mean.
    """

    def __init__(
        self,
        network: JanusForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        facts: ModelFacts,
        templates: Templates = Templates(),
        stop_ids: frozenset[int] | None = None,
        image_mean: Sequence[float] = (0.5, 0.5, 0.5),
        image_std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.facts = facts
        self.templates = templates
        self.device, self.dtype = network.device, network.dtype
        self.bos, self.boi = tokenizer.bos_token, tokenizer.boi_token
        self._kept_when_unconditional = {tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids(self.boi)}
        self.pad_id = tokenizer.pad_token_id
        self.stop_ids = stop_ids or frozenset({tokenizer.eos_token_id})
        self._special_text = re.compile("|".join(map(re.escape, tokenizer.all_special_tokens)))
        self._mean = torch.tensor(image_mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(image_std, device=self.device).view(1, 3, 1, 1)

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
        values = {"bos": self.bos, "boi": self.boi, "prompt": self._plain(prompt), "reasoning": self._plain(reasoning)}
        text = re.sub(r"\{(bos|boi|prompt|reasoning)\}", lambda match: values[match[1]], template)
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
        return self.network.prepare_embeddings_for_image_generation(tokens)

    def new_cache(self) -> DynamicCache:
        return DynamicCache(config=self.network.config.text_config)

    def backbone(
        self, embeddings: Tensor, cache: DynamicCache | None, attention_mask: Tensor, positions: Tensor
    ) -> Tensor:
        return self.network.model.language_model(
            inputs_embeds=embeddings,
            past_key_values=cache,
            attention_mask=attention_mask,
            position_ids=positions,
            use_cache=cache is not None,
        ).last_hidden_state

    def text_head(self, hidden: Tensor) -> Tensor:
        return self.network.lm_head(hidden.to(self.network.lm_head.weight.dtype)).float()

    def image_head(self, hidden: Tensor) -> Tensor:
        head = self.network.model.generation_head
        return head(hidden.to(head.proj_out.weight.dtype)).float()

    @torch.no_grad()
    def pixels(self, image_tokens: Tensor) -> list[Image.Image]:
        pictures = []
        for tokens in image_tokens.split(_PIXEL_BATCH):
            decoded = self.network.model.vqmodel.decode(tokens).float() * self._std + self._mean  # [N, 3, R, R]
            array = (decoded.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            pictures += [Image.fromarray(picture) for picture in array]
        return pictures

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, parameter in sorted(self.network.state_dict().items()):
            digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
