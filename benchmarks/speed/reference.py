"""The published procedure (MILR, arXiv 2509.22761), written plainly from a description of it: what everything is
compared with.

One prompt at a time on eager transformers. The reasoning is decoded greedily without a cache, asking for the hidden
states of every layer and waiting for each token on the host. A picture is two rows (conditional, unconditional) over a
cache that grows, sampled token by token, its states copied to the host. A step moves the text latents, decodes the
reasoning again from scratch, moves the image latents with the same reward, and draws again. Latents have the model's
dtype, the log-probability is that of the most likely token, and one Adam keeps its moments over all steps.

Where the description leaves a choice, the faster one is taken: the head reads the last position only, and the tokens of
an image prefix enter in one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from milr.models.janus import Janus

from .timing import timed

_LEARNING_RATE = 0.03
_TEXT_RATIO, _IMAGE_RATIO = 0.2, 0.02
_ENDS_OF_RANGE = 3  # start, middle and end of the cache's growth


@dataclass(frozen=True)
class Text:
    """A reasoning: its ids, and the state [1, H] behind each."""

    ids: list[int]
    states: list[Tensor]


@dataclass
class Drawing:
    """Image tokens of one picture, the state [2, H] behind each on the host, and the seconds per token.

    Attributes:
        measured: how many tokens were drawn; fewer than a picture has where the rest is extrapolated.
        seconds: of a whole picture's tokens.
        ms_at: milliseconds per token at the start, middle and end, where only these were drawn.
    """

    tokens: list[Tensor] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    measured: int = 0
    seconds: float = 0.0
    ms_at: list[float] = field(default_factory=list)


class Reference:
    """One search of the published procedure on one prompt.

    Args:
        max_text: tokens after which a reasoning is cut.
        measured_tokens: image tokens to draw, a third each at the start, middle and end of the picture, behind filled
            caches; the time of a token grows linearly with the cache, so that their mean times the number of tokens is
            the picture's time. None draws whole pictures.
    """

    def __init__(self, model: Janus, prompt: str, max_text: int, measured_tokens: int | None = None) -> None:
        count = model.facts.image_tokens
        self.model, self.prompt, self.max_text = model, prompt, max_text
        whole = measured_tokens is None or measured_tokens >= count
        self.part = None if whole else max(1, (measured_tokens or 0) // _ENDS_OF_RANGE)
        self.adam: torch.optim.Adam | None = None

    # A picture

    @torch.no_grad()
    def picture(self) -> dict[str, Any]:
        """The model's own picture: reasoning, image tokens, pixels, each timed; `step` may follow."""
        device = self.model.device
        self.text, text_seconds = timed(device, lambda: self.decode_text([]))
        self.drawing = self.draw(self._image_ids(self.text.ids), [])
        pixel_seconds = self._pixels()
        return {
            "text_tokens": len(self.text.ids),
            "text_seconds": text_seconds,
            **self._facts(self.drawing),
            "pixel_seconds": pixel_seconds,
            "seconds": text_seconds + self.drawing.seconds + pixel_seconds,
        }

    def decode_text(self, prefix: list[int]) -> Text:
        """The reasoning after its first tokens, greedily, each token by a pass over everything before it."""
        network = self.model.network
        ids = [*self.model.reasoning_ids(self.prompt), *prefix]
        written, states = list(prefix), []
        while len(written) < self.max_text:
            answer = network.model.language_model(
                input_ids=torch.tensor([ids], device=self.model.device), use_cache=False, output_hidden_states=True
            )
            state = answer.hidden_states[-1][:, -1]  # [1, H]
            token = network.lm_head(state).argmax(dim=-1).item()
            ids.append(token)
            written.append(token)
            states.append(state)
            if token in self.model.stop_ids:
                break
        return Text(written, states)

    def draw(self, image_ids: list[int], prefix: list[Tensor]) -> Drawing:
        """Image tokens behind a prompt and the first tokens, which are given."""
        model, count = self.model, self.model.facts.image_tokens
        pair = torch.tensor([image_ids, model.unconditional_ids(image_ids)], device=model.device)
        embeddings = model.embed_text(pair)  # [2, T, H]
        if prefix:
            embeddings = torch.cat([embeddings, self._embedded(torch.stack(prefix))], dim=1)
        drawing = Drawing(tokens=list(prefix))
        if self.part is None:
            cache = self._new_cache()
            drawing.measured = count - len(prefix)
            _, drawing.seconds = timed(
                model.device, lambda: self._draw_on(embeddings, cache, drawing.measured, drawing)
            )
            return drawing
        self._draw_parts(embeddings, count - len(prefix), drawing)
        return drawing

    def _draw_parts(self, embeddings: Tensor, count: int, drawing: Drawing) -> None:
        """Times the first, middle and last tokens of `count`; between them the cache is filled in one pass."""
        assert self.part is not None
        part = min(self.part, count // _ENDS_OF_RANGE)
        seconds = []
        for start in (0, (count - part) // 2, count - part):
            cache = self._new_cache()
            filling = torch.randint(self.model.facts.image_vocabulary, (start,), device=self.model.device)
            before = torch.cat([embeddings, self._embedded(filling)], dim=1) if start else embeddings
            self._forward(before[:, :-1], cache)
            work = partial(self._draw_on, before[:, -1:], cache, part, drawing)
            seconds.append(timed(self.model.device, work)[1])
        drawing.measured = _ENDS_OF_RANGE * part
        drawing.seconds = sum(seconds) / drawing.measured * count
        drawing.ms_at = [1000 * each / part for each in seconds]

    def _draw_on(self, embeddings: Tensor, cache: DynamicCache, count: int, drawing: Drawing) -> None:
        for _ in range(count):
            state = self._forward(embeddings, cache)[:, -1]  # [2, H]
            logits = self.model.network.model.generation_head(state)
            token = torch.multinomial(self._fused(logits).softmax(dim=-1), 1)[0]
            drawing.states.append(state.cpu())
            drawing.tokens.append(token)
            embeddings = self._embedded(token)

    def _forward(self, embeddings: Tensor, cache: DynamicCache) -> Tensor:
        return self.model.network.model.language_model(
            inputs_embeds=embeddings, past_key_values=cache, use_cache=True
        ).last_hidden_state

    def _new_cache(self) -> DynamicCache:
        return DynamicCache(config=self.model.network.config.text_config)

    def _fused(self, logits: Tensor) -> Tensor:
        """[..., 2, V] logits to [..., V] under guidance and temperature."""
        facts = self.model.facts
        conditional, unconditional = logits[..., 0, :], logits[..., 1, :]
        return (unconditional + facts.guidance * (conditional - unconditional)) / facts.temperature

    def _embedded(self, tokens: Tensor) -> Tensor:
        """[T] image tokens to [2, T, H], the same for both rows."""
        return self.model.embed_image(tokens.view(1, -1)).repeat(2, 1, 1)

    def _image_ids(self, text: list[int]) -> list[int]:
        return self.model.image_ids(self.prompt, self.model.decode_text(text))

    def _pixels(self) -> float:
        """Seconds of turning a picture's tokens into an image."""
        model = self.model
        count = model.facts.image_tokens
        tokens = torch.cat([token.view(1) for token in self.drawing.tokens])
        tokens = tokens.repeat(-(-count // len(tokens)))[None, :count]  # a part stands for the whole
        (self.image,), seconds = timed(model.device, lambda: model.pixels(tokens))
        return seconds

    def _facts(self, drawing: Drawing) -> dict[str, Any]:
        count = self.model.facts.image_tokens
        return {
            "image_tokens": count,
            "measured_tokens": drawing.measured,
            "extrapolated": self.part is not None,
            "image_seconds": drawing.seconds,
            "ms_per_token": 1000 * drawing.seconds / count,
            "ms_per_token_at_start_middle_end": drawing.ms_at or None,
        }

    # A step

    def step(self, reward: float) -> dict[str, Any]:
        """One step of mode "both" on what `picture` or an earlier step left: two updates, one picture."""
        device = self.model.device
        if self.adam is None:
            self._begin()
        prefix, update_text = timed(device, lambda: self._update_text(reward))
        with torch.no_grad():
            text, text_seconds = timed(device, lambda: self.decode_text(prefix))
        tokens, update_image = timed(device, lambda: self._update_image(reward))
        with torch.no_grad():
            self.drawing = self.draw(self._image_ids(text.ids), tokens)
            pixel_seconds = self._pixels()
        seconds = update_text + text_seconds + update_image + self.drawing.seconds + pixel_seconds
        return {
            "text_tokens": len(text.ids),
            "text_seconds": text_seconds,
            "update_seconds": update_text + update_image,
            **self._facts(self.drawing),
            "pixel_seconds": pixel_seconds,
            "seconds": seconds,
        }

    def _begin(self) -> None:
        text = self.text.states[: int(_TEXT_RATIO * len(self.text.states))]
        count = min(int(_IMAGE_RATIO * self.model.facts.image_tokens), len(self.drawing.states))
        image = self.drawing.states[:count]
        self.latents = [
            torch.stack(states).to(self.model.device).requires_grad_() if states else None for states in (text, image)
        ]  # [Lt, 1, H], [Lv, 2, H]
        self.adam = torch.optim.Adam([latent for latent in self.latents if latent is not None], lr=_LEARNING_RATE)

    def _update_text(self, reward: float) -> list[int]:
        """Moves the text latents; the tokens that they now stand for."""
        latent = self.latents[0]
        if latent is None:
            return []
        self._descend(lambda: self.model.network.lm_head(latent)[:, 0], reward)
        with torch.no_grad():
            return self.model.network.lm_head(latent)[:, 0].argmax(dim=-1).tolist()

    def _update_image(self, reward: float) -> list[Tensor]:
        """Moves the image latents; tokens sampled from them, independently of each other."""
        latent = self.latents[1]
        if latent is None:
            return []
        head = self.model.network.model.generation_head
        self._descend(lambda: self._fused(head(latent)), reward)
        with torch.no_grad():
            return list(torch.multinomial(self._fused(head(latent)).softmax(dim=-1), 1)[:, 0])

    def _descend(self, logits_of: Callable[[], Tensor], reward: float) -> None:
        assert self.adam is not None
        probabilities = logits_of().softmax(dim=-1) + 1e-8  # [L, V]
        taken = probabilities.argmax(dim=-1, keepdim=True)
        loss = -reward * torch.log(probabilities.gather(-1, taken) + 1e-10).sum()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
