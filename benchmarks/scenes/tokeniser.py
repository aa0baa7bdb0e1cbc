"""Training of the image tokeniser: transformers' own `JanusVQVAE`, 96 x 96 px to 12 x 12 tokens and back.

What makes it agree with the unmodified class afterwards (`encode` does not normalise latents, `get_codebook_entry`
does): training quantises unit-norm latents, and the codebook's rows are brought back to unit norm after each step. For
unit rows the nearest code is the same with and without normalised latents.

The codebook starts from clusters of real latents: the first steps train a plain auto-encoder, then k-means seeds the
codes. Codes that fall out of use are moved to fresh latents, and an entropy term, fading to zero, keeps them in use.

Tokens should belong to the thing, or to the ground, and not to the picture: norms and attention let the encoder write
all of a picture into every token, and the language part would have to learn that. So every batch shows each thing
twice, on two grounds and among other things; the latents of both are pulled together, and both are drawn with the same
codes. The first codes are set apart, one for each tone of ground: latents of bare ground are pulled there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import JanusVQVAEConfig
from transformers.models.janus.modeling_janus import JanusVQVAE, JanusVQVAEResnetBlock

from milr_rewards.networks.scene_detector import SceneDetector

from .layout import BACKGROUNDS, clutter, lay_out, tones
from .training import Averaged, Batch, Losses, Schedule, train
from .world import IMAGE_SIZE, Painter, Scenes, sample_requests

TOKENS_PER_SIDE = 12
_PIXELS = IMAGE_SIZE // TOKENS_PER_SIDE
_TWINS, _GROUND = 0.2, 0.5  # weights of the losses that make alike tokens equal
_FAINT = 0.002  # a difference to the ground that only rounding makes
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
    start: JanusVQVAE | None = None,
) -> JanusVQVAE:
    """A trained tokeniser; `features` (a detector) says which pictures look alike.

    The first `warm_steps` quantise nothing. With `start`, a tokeniser of the same shape, training goes on from there.
    """
    torch.manual_seed(generator.initial_seed())
    model = JanusVQVAE(config).to(generator.device).requires_grad_(True)
    if start:
        warm_steps = 0
        model.load_state_dict(start.state_dict())
    with_fused_blocks(model)
    codebook = model.quantize.embedding.weight
    tones_apart = torch.eye(*codebook.shape, device=generator.device)[: len(BACKGROUNDS)]

    @torch.no_grad()
    def tidy() -> None:
        codebook.copy_(F.normalize(codebook, dim=-1))
        codebook[: len(BACKGROUNDS)] = tones_apart

    tidy()
    tokens = schedule.batch * TOKENS_PER_SIDE**2
    latest = torch.zeros(tokens, codebook.shape[1], device=generator.device)  # where new codes come from
    interest = torch.zeros(tokens, device=generator.device)  # in things: ground has its codes
    used = torch.zeros(len(codebook), device=generator.device)
    pairs = _pairs(painter, schedule.batch // 2, generator)
    yes, no = torch.ones((), device=generator.device), torch.zeros((), device=generator.device)

    def draw(step: int) -> Batch:
        return *next(pairs), no if step < warm_steps else yes

    def losses(batch: Batch, share: Tensor) -> Losses:
        images, twins, ground, quantised = batch
        latents = encode_latents(model, images)
        common = _common(latents, twins, ground, codebook)
        latest.copy_(common.detach().permute(0, 2, 3, 1).flatten(0, 2))
        interest.copy_(ground == len(BACKGROUNDS))
        codes, terms = _quantise(common, codebook, interest, 0.02 * (1 - share), used)
        decoded = decode_latents(model, torch.lerp(common, codes, quantised))
        terms = {name: quantised * value for name, value in terms.items()}
        return _picture_losses(decoded, images, features) | terms | _differences(latents, common, ground)

    average = Averaged(model, 0.998)

    def after_step(step: int, share: float) -> None:
        with torch.no_grad():
            if step == warm_steps - 1:
                chosen = torch.multinomial(interest, len(latest), replacement=True, generator=generator)
                codebook.copy_(cluster(latest[chosen], len(codebook), generator))
                used.zero_()
            if step >= warm_steps and step % _RESTART_EVERY == 0 and share < 0.7:
                dead = used < 1
                pick = torch.multinomial(interest, len(codebook), replacement=True, generator=generator)
                codebook.copy_(torch.where(dead[:, None], latest[pick], codebook))
                used.zero_()
        tidy()
        average.update(max(0, step - warm_steps))

    train("tokeniser", model.parameters(), draw, losses, schedule, after_step, capture=True)
    average.apply()
    tidy()
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


def steadiness(model: JanusVQVAE, painter: Painter, generator: torch.Generator) -> tuple[float, float]:
    """Share of a thing's tokens that are the same elsewhere, and of ground that has the token of its tone."""
    images, twins, ground = next(_pairs(painter, _STEADY, generator, ahead=1))
    tokens = encode(model, images).flatten()
    things = twins != torch.arange(len(twins), device=twins.device)
    bare = ground < len(BACKGROUNDS)
    return (tokens == tokens[twins])[things].float().mean().item(), (tokens == ground)[bare].float().mean().item()


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


def _pairs(painter: Painter, count: int, generator: torch.Generator, ahead: int = _AHEAD) -> Iterator[Batch]:
    """Batches of `count` pairs of pictures; each pair shows one thing, of one size, mostly on two grounds.

    Yields pictures [2 * count, 3, 96, 96], first halves before second halves, and what `_likenesses` says of them.
    `ahead` batches are laid out at once: that is a hundred small kernels, whatever the number of scenes.
    """
    classes, rows = len(painter.classes), ahead * count
    while True:
        prompted = lay_out(sample_requests(rows - rows // 2, classes, generator), generator, candidates=8)
        first = prompted.joined(clutter(rows // 2, classes, generator, (2, 5)))
        second = _elsewhere(first, classes, generator)
        # Prompted scenes are the first half of the rows: a stride mixes them with the others.
        for index in range(ahead):
            one = slice(index, None, ahead)
            scenes = first[one].joined(second[one])
            images = painter.render(scenes)
            yield images, *_likenesses(scenes, images)


def _elsewhere(scenes: Scenes, classes: int, generator: torch.Generator) -> Scenes:
    """Other scenes with as many things, mostly on another ground, and the same first thing in another place."""
    others = clutter(len(scenes), classes, generator, (scenes.label >= 0).sum(1))
    label, color, size, corner = (getattr(others, name).clone() for name in ("label", "color", "size", "corner"))
    label[:, 0], color[:, 0], size[:, 0] = scenes.label[:, 0], scenes.color[:, 0], scenes.size[:, 0]
    corner[:, 0] = corner[:, 0].minimum(IMAGE_SIZE - size[:, :1])
    return Scenes(label, color, size, corner, others.background)


def _likenesses(scenes: Scenes, images: Tensor) -> tuple[Tensor, Tensor]:
    """Which tokens should be alike, [2P * 144] each: the twin of each token, and the tone of ground.

    The twin of a token of the first thing, in the second picture of a pair, is the one in the first picture (an index
    into the batch); others are their own. The tone is an index into BACKGROUNDS, their number where things are.
    """
    rows, device = len(scenes), scenes.label.device
    ink = (images - scenes.background[:, :, None, None]).abs().amax(1)
    bare = F.max_pool2d(ink, _PIXELS).flatten(1) < _FAINT  # [2P, 144]
    squares = _squares(scenes)  # [2P, K, 144]
    first, second = (squares[:, 0] & ~squares[:, 1:].any(1) & ~bare).chunk(2)

    here, there = scenes.corner[:, 0].chunk(2)
    axis = torch.arange(TOKENS_PER_SIDE, device=device)
    move = (here - there) // _PIXELS  # [P, 2] from the second picture to the first
    column = axis.repeat(TOKENS_PER_SIDE) + move[:, :1]  # [P, 144]
    row = axis.repeat_interleave(TOKENS_PER_SIDE) + move[:, 1:]
    cell = (row * TOKENS_PER_SIDE + column).clamp(0, TOKENS_PER_SIDE**2 - 1)
    shared = second & first.gather(1, cell)

    own = torch.arange(rows * TOKENS_PER_SIDE**2, device=device).view(rows, -1)
    twins = torch.cat([own[: rows // 2], torch.where(shared, own[: rows // 2, :1] + cell, own[rows // 2 :])])
    ground = torch.where(bare, tones(scenes)[:, None], len(BACKGROUNDS))
    return twins.flatten(), ground.flatten()


def _squares(scenes: Scenes) -> Tensor:
    """[B, K, 144] which tokens lie in each thing's square."""
    axis = torch.arange(TOKENS_PER_SIDE, device=scenes.label.device)
    corner, extent = scenes.corner // _PIXELS, scenes.size // _PIXELS
    inside_x, inside_y = (
        (axis >= corner[..., i, None]) & (axis < (corner[..., i] + extent)[..., None]) for i in (0, 1)
    )  # [B, K, 12]
    return (inside_y[..., :, None] & inside_x[..., None, :] & (scenes.label >= 0)[..., None, None]).flatten(2)


def _common(latents: Tensor, twins: Tensor, ground: Tensor, codebook: Tensor) -> Tensor:
    """Latents [2P, 8, 12, 12] as they should be: those of twins, and the codes of the ground's tones."""
    last = latents.permute(0, 2, 3, 1)  # [2P, 12, 12, 8]
    bare = (ground < len(BACKGROUNDS))[:, None]
    common = torch.where(bare, codebook.detach()[ground], last.flatten(0, 2)[twins])
    return common.view(last.shape).permute(0, 3, 1, 2)


def _differences(latents: Tensor, common: Tensor, ground: Tensor) -> Losses:
    """How far the latents of things and of ground are from what they should be."""
    distance = (latents - common).square().sum(1).flatten()
    bare = ground < len(BACKGROUNDS)
    return {
        "twins": _TWINS * (distance * ~bare).sum() / (distance * ~bare).count_nonzero().clamp(min=1),
        "ground": _GROUND * (distance * bare).sum() / bare.sum().clamp(min=1),
    }


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


def _quantise(
    latents: Tensor, codebook: Tensor, interest: Tensor, entropy_weight: Tensor, used: Tensor
) -> tuple[Tensor, Losses]:
    """Nearest codes with a straight-through gradient; counts into `used` which codes were taken.

    The entropy is over tokens by their `interest` [B * 144].
    """
    with torch.autocast(latents.device.type, enabled=False):
        flat = latents.permute(0, 2, 3, 1).flatten(0, 2)
        likeness = flat @ codebook.T  # cosine: both have unit norm
        nearest = likeness.argmax(-1)
        codes = codebook[nearest].view(*latents.shape[:1], *latents.shape[2:], -1).permute(0, 3, 1, 2)
        soft = interest @ (likeness / _SHARPNESS).softmax(-1) / interest.sum()
        entropy = -(soft * (soft + 1e-9).log()).sum()
        # Unlike bincount, this does not wait for the GPU.
        used.index_add_(0, nearest, torch.ones_like(nearest, dtype=used.dtype))
        terms = {
            "codebook": (codes - latents.detach()).square().mean(),
            "commit": 0.25 * (codes.detach() - latents).square().mean(),
            "entropy": -entropy_weight * entropy,
        }
        return latents + (codes - latents).detach(), terms
