"""Vision-language models that critics ask about pictures: how likely an answer is, or what they write.

    model = VisionLanguageModel(Weights("vqascore", "Qwen/Qwen3-VL-4B-Instruct"), "cuda")
    model.answer_log_probabilities([picture], ["Is there a dog?"], [("Yes",), ("No",)])  # [1, 2]
    model.write([picture], ["Describe the picture."], most_tokens=64)  # ["A dog on a beach."]

Any checkpoint that `AutoModelForImageTextToText` and `AutoProcessor` load, and that brings a chat template, will do:
Qwen-VL, LLaVA, InternVL, Gemma, Idefics, SmolVLM. (Picture, text) pairs travel in batches, padded on the left. Where a
template lets a model think before it answers, thinking is switched off; a model that always thinks cannot be asked for
the probability of an answer, since its replies begin otherwise.

Knows nothing about which questions are asked, nor what their answers are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image

from milr.errors import UsageError

from .batching import batches
from .checkpoints import Weights, half_on_gpu

BATCH = 16  # (picture, text) pairs per forward pass; keeps memory flat


class VisionLanguageModel:
    """One model, loaded on first use; in bfloat16 on a GPU.

    Args:
        weights: where it is.
        device: where it runs.
    """

    def __init__(self, weights: Weights, device: str = "cpu") -> None:
        self._weights = weights
        self._device = device
        self.kin = weights.kin

    @property
    def version(self) -> str:
        """That of the weights, and of their precision; of weights from the hub it is exact once they are loaded."""
        return self._weights.version + ("-bf16" if half_on_gpu(self._device) == torch.bfloat16 else "")

    def load(self) -> None:
        """Load the weights, so that missing ones are an error before anything starts.

        Raises:
            UsageError: there are none, they are damaged, or they cannot be asked.
        """
        _ = self._loaded

    @torch.inference_mode()
    def answer_log_probabilities(
        self, images: Sequence[Image.Image], questions: Sequence[str], answers: Sequence[Sequence[str]]
    ) -> torch.Tensor:
        """[N, A]: log-probability, over the whole vocabulary, that the reply to each question begins with each answer.

        The softmax is over the raw logits of the first token of the reply. A softmax over the result weighs the answers
        against each other.

        Args:
            images, questions: N of each.
            answers: the same A answers for every question, each by its spellings. A spelling stands for the first of
                its tokens; the probabilities of an answer's different tokens are added up. Answers that begin alike
                are as likely.

        Raises:
            UsageError: an answer begins with no token that could be read.
        """
        model, processor = self._loaded
        first = self._first_tokens(processor.tokenizer, answers)
        rows = [torch.empty(0, len(answers))]
        for pairs in batches(list(zip(images, questions, strict=True)), BATCH):
            reply = model.generate(
                **self._inputs(pairs), max_new_tokens=1, output_logits=True, return_dict_in_generate=True
            )
            spread = reply.logits[0].float().log_softmax(-1)  # [pairs, vocabulary]
            chances = torch.stack([spread[:, tokens].logsumexp(-1) for tokens in first], dim=-1)
            rows.append(chances.clamp(max=0).cpu())  # rounding may lift a sure answer above 1
        return torch.cat(rows)

    @torch.inference_mode()
    def write(self, images: Sequence[Image.Image], instructions: Sequence[str], most_tokens: int) -> list[str]:
        """What the model writes about each picture, token by likeliest token.

        A penalty for repetition stays where the checkpoint asks for one, as its authors' own replies have it.
        """
        model, processor = self._loaded
        texts: list[str] = []
        for pairs in batches(list(zip(images, instructions, strict=True)), BATCH):
            inputs = self._inputs(pairs)
            tokens = model.generate(**inputs, max_new_tokens=most_tokens)[:, inputs["input_ids"].shape[1] :]
            texts += processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return texts

    def _inputs(self, pairs: Sequence[tuple[Image.Image, str]]) -> Any:
        """What the model reads: each pair as the first message of a talk."""
        model, processor = self._loaded
        talks = [
            [
                {
                    "role": "user",
                    "content": [{"type": "image", "image": image.convert("RGB")}, {"type": "text", "text": text}],
                }
            ]
            for image, text in pairs
        ]
        thinks = "enable_thinking" in str(processor.chat_template)
        inputs = processor.apply_chat_template(
            talks,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
            **({"enable_thinking": False} if thinks else {}),
        )
        return inputs.to(self._device, model.dtype)

    def _first_tokens(self, tokenizer: Any, answers: Sequence[Sequence[str]]) -> list[list[int]]:
        first = [first_tokens(tokenizer, spellings) for spellings in answers]
        for spellings, tokens in zip(answers, first, strict=True):
            if not tokens:
                raise UsageError(
                    f"reward {self._weights.reward!r}: {self._weights.source} cannot tell the answer {spellings[0]!r} "
                    "by its first token; choose another model."
                )
        return first

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The model and its processor."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        processor = self._weights.processor(AutoProcessor)
        model = self._weights.model(AutoModelForImageTextToText, self._device, half_on_gpu(self._device))
        if not getattr(processor, "chat_template", None):
            raise UsageError(
                f"reward {self._weights.reward!r}: {self._weights.source} has no chat template, so it cannot be asked; "
                "choose a model that is made for talking, e.g. 'Qwen/Qwen3-VL-4B-Instruct'."
            )
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        # The likeliest token always; what else a checkpoint says of sampling and lengths only causes warnings.
        model.generation_config.update(
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            max_length=None,
            pad_token_id=processor.tokenizer.pad_token_id,
        )
        return model, processor


def first_tokens(tokenizer: Any, spellings: Sequence[str]) -> list[int]:
    """The tokens with which a reply in one of the spellings begins, each once.

    A spelling that begins with a blank token (" 7" where space and digit are two) is left out: any reply may begin so.
    """
    first = [tokenizer.encode(spelling, add_special_tokens=False)[0] for spelling in spellings]
    return list(dict.fromkeys(token for token in first if tokenizer.decode([token]).strip()))
