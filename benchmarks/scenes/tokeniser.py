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

from .layout import clutter, lay_out
from .training import Averaged, Batch, Losses, Schedule, train
from .world import IMAGE_SIZE, SIZES, Painter, Scenes, sample_requests

TOKENS_PER_SIDE = 12
_PIXELS = IMAGE_SIZE // TOKENS_PER_SIDE
_SAME = 0.1  # weight of the loss that makes a thing's tokens its own
_RESTART_EVERY = 60
_SHARPNESS = 0.05  # temperature of the soft assignment in the entropy term
_CHUNK = 512  # pictures at once on a GPU
_CHUNK_ON_CPU = 16  # more do not fit its cache, which costs half as much time again
_STEADY = 512  # pairs of pictures that tell how steady tokens are
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
    latest = torch.zeros(schedule.batch * TOKENS_PER_SIDE**2, codebook.shape[1], device=generator.device)
    used = torch.zeros(len(codebook), device=generator.device)
    pairs = _pairs(painter, schedule.batch // 2, generator)
    yes, no = torch.ones((), device=generator.device), torch.zeros((), device=generator.device)

    def draw(step: int) -> Batch:
        return *next(pairs), no if step < warm_steps else yes

    def losses(batch: Batch, share: Tensor) -> Losses:
        images, here, there, shared, quantised = batch
        latents = encode_latents(model, images)
        latest.copy_(latents.detach().permute(0, 2, 3, 1).flatten(0, 2))  # where new codes come from
        codes, terms = _quantise(latents, codebook, 0.02 * (1 - share), used)
        decoded = decode_latents(model, _exchanged(torch.lerp(latents, codes, quantised), here, there, shared))
        terms = {name: quantised * value for name, value in terms.items()}
        return (
            _picture_losses(decoded, images, features)
            | terms
            | {"same": _SAME * _difference(latents, here, there, shared)}
        )

    average = Averaged(model, 0.998)

    def after_step(step: int, share: float) -> None:
        with torch.no_grad():
            if step == warm_steps - 1:
                codebook.copy_(cluster(latest, len(codebook), generator))
                used.zero_()
            if step >= warm_steps and step % _RESTART_EVERY == 0 and share < 0.7:
                dead = used < 1
                pick = torch.randint(len(latest), (len(codebook),), device=latest.device, generator=generator)
                codebook.copy_(torch.where(dead[:, None], latest[pick], codebook))
                used.zero_()
            codebook.copy_(F.normalize(codebook, dim=-1))
        average.update(max(0, step - warm_steps))

    train("tokeniser", model.parameters(), draw, losses, schedule, after_step, capture=True)
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
        for batch in _chunks(images):
            flat = encode_latents(model, batch).permute(0, 2, 3, 1).flatten(1, 2)
            found.append((flat @ model.quantize.embedding.weight.float().T).argmax(-1))
    return torch.cat(found)


def decode(model: JanusVQVAE, tokens: Tensor) -> Tensor:
    """Tokens [B, 144] -> pictures in 0 to 1, through the library's own `decode`."""
    with torch.inference_mode():
        parts = [model.decode(batch).float() for batch in _chunks(tokens)]
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


def _chunks(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.split(_CHUNK if rows.is_cuda else _CHUNK_ON_CPU)


def reconstruct(model: JanusVQVAE, images: Tensor) -> Tensor:
    """Through the tokeniser and back."""
    return decode(model, encode(model, images))


def steadiness(model: JanusVQVAE, painter: Painter, generator: torch.Generator) -> float:
    """Share of a thing's tokens that stay the same in another place, among other things."""
    images, here, there, shared = next(_pairs(painter, _STEADY, generator))
    first, second = encode(model, images).chunk(2)
    same = (first.gather(1, here) == second.gather(1, there)).float()
    return ((same * shared).sum() / shared.sum()).item()


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


def _pairs(painter: Painter, count: int, generator: torch.Generator) -> Iterator[Batch]:
    """Batches of `count` pairs of pictures; each pair shows one thing, of one size, in two surroundings.

    Yields pictures [2 * count, 3, 96, 96], first halves before second halves; the tokens that the thing covers in the
    first and in the second picture, [count, 64] each; and which of those to compare, [count, 64].
    Many batches are laid out at once: that is a hundred small kernels, whatever the number of scenes.
    """
    classes, rows = len(painter.classes), _AHEAD * count
    while True:
        prompted = lay_out(sample_requests(rows - rows // 2, classes, generator), generator, candidates=8)
        first = prompted.joined(clutter(rows // 2, classes, generator, (2, 5)))
        second = _elsewhere(first, classes, generator)
        (here, clear_here), (there, clear_there) = (_covered(scenes) for scenes in (first, second))
        shared = (clear_here & clear_there).float()
        # Prompted scenes are the first half of the rows: a stride mixes them with the others.
        for index in range(_AHEAD):
            one = slice(index, None, _AHEAD)
            images = painter.render(first[one].joined(second[one]))
            yield images, here[one], there[one], shared[one]


def _elsewhere(scenes: Scenes, classes: int, generator: torch.Generator) -> Scenes:
    """Other scenes with as many things on the same ground, and the same first thing in another place."""
    others = clutter(len(scenes), classes, generator, (scenes.label >= 0).sum(1))
    label, color, size, corner = (getattr(others, name).clone() for name in ("label", "color", "size", "corner"))
    label[:, 0], color[:, 0], size[:, 0] = scenes.label[:, 0], scenes.color[:, 0], scenes.size[:, 0]
    corner[:, 0] = corner[:, 0].minimum(IMAGE_SIZE - size[:, :1])
    return Scenes(label, color, size, corner, scenes.background)


def _covered(scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Tokens under the first thing, [B, 64], row by row from its corner; and which it has and shares with no other."""
    axis = torch.arange(TOKENS_PER_SIDE, device=scenes.label.device)
    corner, extent = scenes.corner // _PIXELS, scenes.size // _PIXELS
    inside_x, inside_y = (
        (axis >= corner[:, 1:, i, None]) & (axis < (corner[:, 1:, i] + extent[:, 1:])[..., None]) for i in (0, 1)
    )  # [B, K - 1, 12]
    others = inside_y[..., :, None] & inside_x[..., None, :] & (scenes.label[:, 1:] >= 0)[..., None, None]
    step = torch.arange(SIZES[-1] // _PIXELS, device=axis.device)
    x = (corner[:, 0, 0, None] + step).clamp(max=TOKENS_PER_SIDE - 1)  # [B, 8]
    y = (corner[:, 0, 1, None] + step).clamp(max=TOKENS_PER_SIDE - 1)
    cell = (y[:, :, None] * TOKENS_PER_SIDE + x[:, None, :]).flatten(1)
    own = step < extent[:, :1]
    inside = (own[:, :, None] & own[:, None, :]).flatten(1)
    return cell, inside & ~others.any(1).flatten(1).gather(1, cell)


def _exchanged(codes: Tensor, here: Tensor, there: Tensor, shared: Tensor) -> Tensor:
    """Codes [2P, 8, 12, 12] in which the thing of every second picture is drawn with the codes of the first one.

    Otherwise a thing's tokens depend on the whole picture, through norms and attention, and the language part has to
    learn them all.
    """
    flat = codes.flatten(2).transpose(1, 2)  # [2P, 144, 8]
    first, second = flat.chunk(2)
    taken = first.gather(1, here[..., None].expand(-1, -1, flat.shape[-1]))
    nowhere = torch.full_like(there, flat.shape[1])
    place = torch.where(shared > 0, there, nowhere)[..., None].expand_as(taken)
    second = F.pad(second, (0, 0, 0, 1)).scatter(1, place, taken)[:, :-1]
    return torch.cat([first, second]).transpose(1, 2).reshape(codes.shape)


def _difference(latents: Tensor, here: Tensor, there: Tensor, shared: Tensor) -> Tensor:
    """Mean squared distance of the latents of a thing in two surroundings."""
    flat = latents.flatten(2).transpose(1, 2)  # [2P, 144, 8]
    first, second = (
        half.gather(1, cells[..., None].expand(-1, -1, flat.shape[-1]))
        for half, cells in zip(flat.chunk(2), (here, there), strict=True)
    )
    return ((first - second).square().sum(-1) * shared).sum() / shared.sum().clamp(min=1)


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


def _quantise(latents: Tensor, codebook: Tensor, entropy_weight: Tensor, used: Tensor) -> tuple[Tensor, Losses]:
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
