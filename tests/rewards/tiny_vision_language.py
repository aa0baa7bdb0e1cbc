"""Small real vision-language models with random or scripted weights, in folders as a download leaves them.

Their tokenizer is a byte-level BPE of some hundred tokens, in which "Yes", " Yes", "no" or " seven" are one token each;
GIT has words, as BERT has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from milr_rewards.language.vocabulary import CLASSES, COLORS, NUMBERS

WIDTH = 32
WORDS = ("yes", "no", *NUMBERS)
CONTROL = ("<pad>", "<s>", "</s>", "<image>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_CHAT = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}</s>\n{% endfor %}{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}(hush)\n{% endif %}"
)
LLAVA_CHAT = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    spelled = [form for word in WORDS for form in (word, word.capitalize(), f" {word}", f" {word.capitalize()}")]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(spelled * 2, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(CONTROL[3:]),
    )


def tiny_qwen_folder(folder: Path) -> Path:
    """A Qwen2.5-VL; a picture costs one token or more, by its size."""
    tokenizer = tiny_tokenizer()
    config = Qwen2_5_VLConfig(
        text_config=_text(tokenizer)
        | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}},
        vision_config=_vision() | {"fullatt_block_indexes": [1], "window_size": 28},
        **_places(tokenizer),
    )
    torch.manual_seed(0)
    _sharpened(Qwen2_5_VLForConditionalGeneration(config)).save_pretrained(folder)
    small = {"min_pixels": 28 * 28, "max_pixels": 112 * 112}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**small), tokenizer, Qwen2VLVideoProcessor(**small), chat_template=QWEN_CHAT
    )
    processor.save_pretrained(folder)
    return folder


def tiny_qwen3_folder(folder: Path) -> Path:
    """A Qwen3-VL; a picture costs one token or more, by its size."""
    tokenizer = tiny_tokenizer()
    config = Qwen3VLConfig(
        text_config=_text(tokenizer)
        | {
            "head_dim": 8,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
        },
        vision_config=_vision() | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        **_places(tokenizer),
    )
    torch.manual_seed(0)
    _sharpened(Qwen3VLForConditionalGeneration(config)).save_pretrained(folder)
    small = {"size": {"shortest_edge": 32 * 32, "longest_edge": 128 * 128}, "patch_size": 16}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**small), tokenizer, Qwen3VLVideoProcessor(**small), chat_template=QWEN_CHAT
    )
    processor.save_pretrained(folder)
    return folder


def tiny_llava_folder(folder: Path, chat_template: str | None = LLAVA_CHAT) -> Path:
    """A LLaVA of a CLIP tower and a Llama; a picture costs four tokens."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    _save_llava(_sharpened(_llava(tokenizer)), tokenizer, folder, chat_template)
    return folder


def scripted_llava_folder(folder: Path, first: Mapping[str, float], lines: Sequence[str] = ()) -> Path:
    """A LLaVA that says the same of every picture.

    Args:
        first: logits of the first token of its reply, by what the token says; of all others the logit is 0.
        lines: tokens of their own, each of which is followed by the next one, the last by the end.
    """
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(line, normalized=False) for line in lines])
    model = _llava(tokenizer)
    text, head = model.model.language_model, model.lm_head
    told = [tokenizer.encode(line, add_special_tokens=False)[0] for line in lines]
    with torch.no_grad():
        for layer in text.layers:  # a token sees nothing but itself
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        text.norm.weight.fill_(1 / math.sqrt(WIDTH))  # so that a unit vector stays one
        text.embed_tokens.weight.zero_()[:, 0] = 1
        head.weight.zero_()
        for word, logit in first.items():
            head.weight[tokenizer.encode(word, add_special_tokens=False)[0], 0] = logit
        for state, token in enumerate(told, start=1):
            text.embed_tokens.weight[token] = torch.eye(WIDTH)[state]
            head.weight[told[state] if state < len(told) else tokenizer.eos_token_id, state] = 20
    _save_llava(model, tokenizer, folder, LLAVA_CHAT)
    return folder


def tiny_git_folder(folder: Path, answers: Mapping[str, float] | None = None) -> Path:
    """A GIT that knows words; with `answers` it says the same of every picture, by the logits of these words."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "?"]
    things = {word for name in (*CLASSES, *COLORS) for word in (*name.split(), *f"{name}s".split())}
    words = [*marks, *sorted(things | {"yes", "no", "is", "this", "a", "are", "there", *map(str, range(11))})]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    config = GitConfig(
        vision_config={
            "image_size": 32,
            "patch_size": 16,
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = _sharpened(GitForCausalLM(config))
    if answers is not None:
        with torch.no_grad():
            model.output.weight.zero_()
            for word, logit in answers.items():
                model.output.bias[words.index(word)] = logit
    model.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    GitProcessor(CLIPImageProcessor(**sizes), tokenizer).save_pretrained(folder)
    return folder


def _llava(tokenizer: PreTrainedTokenizerFast) -> Any:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            image_size=32,
            patch_size=16,
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
        ),
        text_config=LlamaConfig(**_text(tokenizer), rms_norm_eps=1e-12),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    return LlavaForConditionalGeneration(config)


def _save_llava(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path, chat_template: str | None) -> None:
    model.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    processor = LlavaProcessor(
        CLIPImageProcessor(**sizes),
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template,
    )
    processor.save_pretrained(folder)


def _text(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _vision() -> dict[str, Any]:
    return {"depth": 2, "hidden_size": WIDTH, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": WIDTH}


def _places(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    place = tokenizer.convert_tokens_to_ids
    return {
        "image_token_id": place("<|image_pad|>"),
        "video_token_id": place("<|video_pad|>"),
        "vision_start_token_id": place("<|vision_start|>"),
        "vision_end_token_id": place("<|vision_end|>"),
    }


def _sharpened(model: Any) -> Any:
    """Random weights of the usual size hardly tell pictures apart; larger ones do."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model
