"""The slowest right way to decode: one row, no cache, transformers' own forward pass over everything for each token."""

from __future__ import annotations

import torch
from torch import Tensor

from milr.decoding import Request, Sampling
from milr.decoding.tokens import guide
from milr.latents import Prefix
from milr.models.janus import Janus
from milr.noise import NoiseRows, Stream


@torch.no_grad()
def plain_rollout(model: Janus, request: Request, sampling: Sampling) -> tuple[list[int], list[int]]:
    """Reasoning and image tokens of a request."""
    proposal = request.proposal
    noise = NoiseRows([request.noise], [proposal.step], [proposal.sample], torch.device("cpu"))

    def gumbel(stream: Stream, position: int, entries: int, temperature: float) -> Tensor:
        return noise.gumbel(stream, position, 1, entries)[0, 0] if temperature else torch.zeros(entries)

    def last_hidden(embeddings: Tensor) -> Tensor:
        return model.network.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, -1]

    if proposal.reasoning_ids is not None:
        reasoning = proposal.reasoning_ids.tolist()
    else:
        reasoning = []
        embeddings = model.embed_text(torch.tensor([model.reasoning_ids(request.prompt.text)]))
        while len(reasoning) < sampling.max_reasoning_tokens:
            state = _moved(last_hidden(embeddings)[0], proposal.text, len(reasoning))
            logits = model.text_head(state) / (sampling.reasoning_temperature or 1)
            logits = logits + gumbel(Stream.TEXT, len(reasoning), len(logits), sampling.reasoning_temperature)
            reasoning.append(int(logits.argmax()))
            if reasoning[-1] in model.stop_ids:
                break
            embeddings = torch.cat([embeddings, model.embed_text(torch.tensor([[reasoning[-1]]]))], dim=1)
    ids = model.image_ids(request.prompt.text, model.decode_text(reasoning))
    picture: list[int] = []
    embeddings = model.embed_text(torch.tensor([ids, model.unconditional_ids(ids)]))
    while len(picture) < model.facts.image_tokens:
        states = _moved(last_hidden(embeddings), proposal.image, len(picture))
        conditional, unconditional = model.image_head(states)
        logits = guide(conditional, unconditional, sampling.guidance) / (sampling.temperature or 1)
        logits = logits + gumbel(Stream.IMAGE, len(picture), len(logits), sampling.temperature)
        picture.append(int(logits.argmax()))
        embeddings = torch.cat([embeddings, model.embed_image(torch.tensor([[picture[-1]]] * 2))], dim=1)
    return reasoning, picture


def _moved(states: Tensor, prefix: Prefix | None, position: int) -> Tensor:
    if prefix is None or position >= len(prefix):
        return states
    return prefix.values[position] + (states if prefix.mode == "shift" else 0)
