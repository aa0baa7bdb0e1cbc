"""Training of the image tokeniser: transformers' own `JanusVQVAE`, 96 x 96 px to 12 x 12 tokens and back.

What makes it agree with the unmodified class afterwards (`encode` does not normalise latents, `get_codebook_entry`
does): training quantises unit-norm latents, and the codebook's rows are brought back to unit norm after each step. For
unit rows the nearest code is the same with and without normalised latents.

The codebook starts from clusters of real latents: the first steps train a plain auto-encoder, then k-means seeds the
codes. Codes that fall out of use are moved to fresh latents, and an entropy term, fading to zero, keeps them in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import JanusVQVAEConfig
from transformers.models.janus.modeling_janus import JanusVQVAE, JanusVQVAEResnetBlock

from milr_rewards.detector import SceneDetector

from .training import Averaged, Losses, Schedule, train
from .world import Painter, clutter, lay_out, sample_requests

TOKENS_PER_SIDE = 12
_RESTART_EVERY = 60
_SHARPNESS = 0.05  # temperature of the soft assignment in the entropy term
_CHUNK = 512
_AHEAD = 32  # batches laid out at once


def train_tokeniser(
    config: JanusVQVAEConfig,
    painter: Painter,
    features: SceneDetector,
    schedule: Schedule,
    generator: torch.Generator,
    warm_steps: int,
) -> JanusVQVAE:
    """A trained tokeniser; `features` (a detector) says which pictures look alike."""
    torch.manual_seed(generator.initial_seed())
    model = JanusVQVAE(config).to(generator.device).requires_grad_(True)
    with_fused_blocks(model)
    codebook = model.quantize.embedding.weight
    latest = torch.zeros(0)  # latents of the last batch, where new codes come from
    used = torch.zeros(len(codebook), device=generator.device)
    pictures = _pictures(painter, schedule.batch, generator)

    def losses(step: int, share: float) -> Losses:
        nonlocal latest
        images = next(pictures)
        latents = encode_latents(model, images)
        latest = latents.detach().permute(0, 2, 3, 1).flatten(0, 2)
        terms: Losses = {}
        if step < warm_steps:
            decoded = decode_latents(model, latents)
        else:
            codes, terms = _quantise(latents, codebook, 0.02 * (1 - share), used)
            decoded = decode_latents(model, codes)
        return _picture_losses(decoded, images, features) | terms

    average = Averaged(model, 0.998)

    def after_step(step: int, share: float) -> None:
        with torch.no_grad():
            if step == warm_steps - 1:
                codebook.copy_(cluster(latest, len(codebook), generator))
            if step >= warm_steps and step % _RESTART_EVERY == 0 and share < 0.7:
                dead = used < 1
                pick = torch.randint(len(latest), (int(dead.sum()),), device=latest.device, generator=generator)
                codebook[dead] = latest[pick]
                used.zero_()
            codebook.copy_(F.normalize(codebook, dim=-1))
        average.update(max(0, step - warm_steps))

    train("tokeniser", model.parameters(), losses, schedule, after_step)
    average.apply()
    with torch.no_grad():
        codebook.copy_(F.normalize(codebook, dim=-1))
    return model.requires_grad_(False)


def encode_latents(model: JanusVQVAE, images: Tensor) -> Tensor:
    """Pictures [B, 3, 96, 96] in 0 to 1 -> unit-norm latents [B, 8, 12, 12]."""
    return F.normalize(model.quant_conv(model.encoder(images * 2 - 1)).float(), dim=1)


def decode_latents(model: JanusVQVAE, latents: Tensor) -> Tensor:
    """Latents -> pictures, not clipped."""
    return model.decoder(model.post_quant_conv(latents)).float() / 2 + 0.5


def encode(model: JanusVQVAE, images: Tensor) -> Tensor:
    """Tokens [B, 144], always in single precision: bf16 picks another code for four tokens in ten."""
    found = []
    with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
        for batch in images.split(_CHUNK):
            flat = encode_latents(model, batch).permute(0, 2, 3, 1).flatten(1, 2)
            found.append((flat @ model.quantize.embedding.weight.float().T).argmax(-1))
    return torch.cat(found)


def decode(model: JanusVQVAE, tokens: Tensor) -> Tensor:
    """Tokens [B, 144] -> pictures in 0 to 1, through the library's own `decode`."""
    with torch.inference_mode():
        parts = [model.decode(batch).float() for batch in tokens.split(_CHUNK)]
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


def reconstruct(model: JanusVQVAE, images: Tensor) -> Tensor:
    """Through the tokeniser and back."""
    return decode(model, encode(model, images))


def cluster(latents: Tensor, count: int, generator: torch.Generator, rounds: int = 12) -> Tensor:
    """`count` unit-norm centres: spherical k-means from random latents."""
    latents = latents[torch.randperm(len(latents), generator=generator, device=latents.device)[: 64 * count]].float()
    pick = torch.randint(len(latents), (count,), generator=generator, device=latents.device)
    centres = latents[pick]
    for _ in range(rounds):
        nearest = (latents @ centres.T).argmax(-1)
        total = torch.zeros_like(centres).index_add_(0, nearest, latents)
        empty = total.norm(dim=-1) < 1e-6
        fresh = latents[torch.randint(len(latents), (count,), generator=generator, device=latents.device)]
        centres = torch.where(empty[:, None], fresh, F.normalize(total, dim=-1))
    return centres


def with_fused_blocks(model: nn.Module) -> None:
    """Run residual blocks with a fused SiLU and a GroupNorm in the autocast type: same values, a third less time.

    The library multiplies by a sigmoid in place, and autocast lifts GroupNorm to single precision.
    """
    for module in model.modules():
        if isinstance(module, JanusVQVAEResnetBlock):
            module.forward = partial(_block, module)


def _block(block: JanusVQVAEResnetBlock, hidden: Tensor) -> Tensor:
    residual = hidden if block.in_channels == block.out_channels else block.nin_shortcut(hidden)
    for norm, conv in ((block.norm1, block.conv1), (block.norm2, block.conv2)):
        with torch.autocast(hidden.device.type, enabled=False):
            kind = hidden.dtype
            normal = F.group_norm(hidden, norm.num_groups, norm.weight.to(kind), norm.bias.to(kind), norm.eps)
        hidden = conv(F.silu(normal))
    return residual + hidden


def _pictures(painter: Painter, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of `count` pictures, half prompted scenes, half dense clutter.

    Many batches are painted at once: laying out a scene is a hundred small kernels, whatever the number of scenes.
    """
    classes = len(painter.classes)
    half = count // 2
    while True:
        prompted = lay_out(sample_requests(_AHEAD * (count - half), classes, generator), generator, candidates=8)
        dense = clutter(_AHEAD * half, classes, generator, (3, 5))
        for index in range(_AHEAD):
            here = prompted[slice(index * (count - half), (index + 1) * (count - half))]
            yield painter.render(here.joined(dense[slice(index * half, (index + 1) * half)]))


def _picture_losses(decoded: Tensor, images: Tensor, features: SceneDetector) -> Losses:
    # Differences count on the scale -1 to 1, the scale of the weights that were found by experiment.
    error = 2 * (decoded - images)
    edges = sum((error.diff(dim=dim).abs().mean() for dim in (2, 3)), torch.zeros((), device=error.device))
    near = torch.zeros((), device=error.device)
    with torch.no_grad():
        wanted = features.features(images)
    for shown, true in zip(features.features(decoded), wanted, strict=True):
        difference = F.normalize(shown.float(), dim=1) - F.normalize(true.float(), dim=1)
        near = near + difference.square().sum(1).mean()
    return {"l1": error.abs().mean(), "l2": 2 * error.square().mean(), "edges": 0.5 * edges, "features": 0.2 * near}


def _quantise(latents: Tensor, codebook: Tensor, entropy_weight: float, used: Tensor) -> tuple[Tensor, Losses]:
    """Nearest codes with a straight-through gradient; counts into `used` which codes were taken."""
    with torch.autocast(latents.device.type, enabled=False):
        flat = latents.permute(0, 2, 3, 1).flatten(0, 2)
        likeness = flat @ codebook.T  # cosine: both have unit norm
        nearest = likeness.argmax(-1)
        codes = codebook[nearest].view(*latents.shape[:1], *latents.shape[2:], -1).permute(0, 3, 1, 2)
        soft = (likeness / _SHARPNESS).softmax(-1).mean(0)
        entropy = -(soft * (soft + 1e-9).log()).sum()
        # Unlike bincount, this does not wait for the GPU.
        used.index_add_(0, nearest, torch.ones_like(nearest, dtype=used.dtype))
        terms = {
            "codebook": (codes - latents.detach()).square().mean(),
            "commit": 0.25 * (codes.detach() - latents).square().mean(),
            "entropy": -entropy_weight * entropy,
        }
        return latents + (codes - latents).detach(), terms
