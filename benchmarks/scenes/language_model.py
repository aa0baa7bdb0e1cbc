"""Training of the language part of `mini`: an unmodified `JanusForConditionalGeneration` around a trained tokeniser.

A sample is one row of ids: `<bos> prompt <think> plan <boi>`, 144 image tokens, padding. Image tokens are counted on
from the vocabulary's end, so that one table embeds both kinds. One row in ten has no plan, one in ten loses all its
text but `<bos>` and `<boi>` to padding (Janus's unconditional form, which guidance needs).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import JanusConfig, JanusForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.janus.modeling_janus import JanusVQVAE

from . import language, tokeniser
from .training import Averaged, Losses, Schedule, train
from .world import Painter, lay_out, sample_requests

IMAGE_TOKENS = tokeniser.TOKENS_PER_SIDE**2
TEXT_LENGTH = 48  # the longest row of text has 46
_WITHOUT_PLAN = 0.1
_WITHOUT_TEXT = 0.1
_TEXT_WEIGHT = 0.3
_CHUNK = 8192


@dataclass(frozen=True)
class Pool:
    """Tokenised scenes, all on one device."""

    ids: Tensor  # [N, 48 + 144] int16, image tokens counted on from the vocabulary's end
    first: Tensor  # [N] where the image begins
    plan: Tensor  # [N] where the plan begins; equal to `first` where there is none


def build_pool(
    painter: Painter,
    vq: JanusVQVAE,
    tokenizer: PreTrainedTokenizerFast,
    vocabulary: int,
    count: int,
    generator: torch.Generator,
) -> Pool:
    """`count` fresh scenes with their text and tokens."""
    rng = random.Random(generator.initial_seed())
    think = tokenizer.convert_tokens_to_ids(language.THINK)
    parts = []
    for start in range(0, count, _CHUNK):
        rows = min(_CHUNK, count - start)
        requests = sample_requests(rows, len(painter.classes), generator)
        scenes = lay_out(requests, generator)
        tokens = torch.cat(
            [tokeniser.encode(vq, painter.render(scenes[slice(i, i + 1024)])) for i in range(0, rows, 1024)]
        )
        prompts, plans = language.prompts(requests, painter.classes, rng), language.plans(scenes, painter.classes)
        lines = [
            language.DIRECT_PROMPT.format(prompt=prompt)
            if rng.random() < _WITHOUT_PLAN
            else language.IMAGE_PROMPT.format(prompt=prompt, reasoning=plan)
            for prompt, plan in zip(prompts, plans, strict=True)
        ]
        text = [encoded.ids for encoded in tokenizer.backend_tokenizer.encode_batch(lines, add_special_tokens=False)]
        parts.append(_assemble(text, tokens, think, tokenizer.pad_token_id, vocabulary))
    return Pool(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _assemble(text: list[list[int]], tokens: Tensor, think: int, pad: int, vocabulary: int) -> tuple[Tensor, ...]:
    device = tokens.device
    first = torch.tensor([len(line) for line in text], device=device)
    plan = torch.tensor([line.index(think) + 1 if think in line else len(line) for line in text], device=device)
    padded = torch.tensor([line + [pad] * (TEXT_LENGTH - len(line)) for line in text], device=device)
    ids = torch.full((len(text), TEXT_LENGTH + IMAGE_TOKENS), pad, device=device)
    ids[:, :TEXT_LENGTH] = padded
    place = first[:, None] + torch.arange(IMAGE_TOKENS, device=device)
    ids.scatter_(1, place, tokens + vocabulary)
    return ids.short(), first, plan


def train_language_model(
    config: JanusConfig,
    vq: JanusVQVAE,
    pool: Pool,
    tokenizer: PreTrainedTokenizerFast,
    schedule: Schedule,
    generator: torch.Generator,
) -> JanusForConditionalGeneration:
    """A trained model, with the average of its last weights."""
    torch.manual_seed(generator.initial_seed())
    device = generator.device
    model = JanusForConditionalGeneration(config)
    model.model.vqmodel.load_state_dict(vq.state_dict())
    with torch.no_grad():
        # Codes that look alike start alike.
        model.model.generation_embeddings.weight.copy_(0.5 * vq.quantize.embedding.weight)
    model.to(device).train()
    model.model.vqmodel.requires_grad_(False).eval()
    model.model.vision_model.requires_grad_(False)  # reading pictures is not trained yet
    model.model.aligner.requires_grad_(False)
    backbone = model.model.language_model
    if device.type == "cuda":  # per layer: 10 s to the first step instead of a minute
        for layer in backbone.layers:
            layer.compile()

    vocabulary = config.text_config.vocab_size
    kept = torch.tensor([tokenizer.convert_tokens_to_ids(name) for name in (language.BOS, language.BOI)], device=device)
    pad = tokenizer.pad_token_id

    def losses(step: int, share: float) -> Losses:
        with torch.no_grad():
            rows = torch.randint(len(pool.ids), (schedule.batch,), generator=generator, device=device)
            ids, first, plan = pool.ids[rows].long(), pool.first[rows], pool.plan[rows]
            blank = torch.rand(schedule.batch, generator=generator, device=device) < _WITHOUT_TEXT
            text = (ids < vocabulary) & ~torch.isin(ids, kept)
            ids = torch.where(blank[:, None] & text, pad, ids)
            where = first[:, None] + torch.arange(IMAGE_TOKENS, device=device)  # [B, 144]
            column = torch.arange(1, TEXT_LENGTH, device=device)
            written = (column >= plan[:, None]) & (column < first[:, None]) & ~blank[:, None]
        drawn = model.prepare_embeddings_for_image_generation(codes)
        table = torch.cat([backbone.embed_tokens.weight.to(drawn.dtype), drawn])
        hidden = backbone(inputs_embeds=F.embedding(ids, table), use_cache=False).last_hidden_state
        before = hidden.gather(1, (where - 1)[..., None].expand(-1, -1, hidden.shape[-1]))
        image_logits = model.model.generation_head(before).flatten(0, 1)
        text_logits = model.lm_head(hidden[:, : TEXT_LENGTH - 1]).flatten(0, 1)
        wanted = torch.where(written, ids[:, 1:TEXT_LENGTH], -100).flatten()
        return {
            "image": F.cross_entropy(image_logits.float(), (ids.gather(1, where) - vocabulary).flatten()),
            "text": _TEXT_WEIGHT * F.cross_entropy(text_logits.float(), wanted),
        }

    codes = torch.arange(config.vq_config.num_embeddings, device=device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    average = Averaged(model, 0.997)
    train("language model", trained, losses, schedule, average.update)
    average.apply()
    for layer in backbone.layers:
        layer._compiled_call_impl = None  # a compiled layer would compile again for every new shape
    return model.requires_grad_(False).eval()
