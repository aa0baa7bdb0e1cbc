"""Questions that are true of what is drawn, rows that hold them, and a tower that learns from them."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import JanusForConditionalGeneration

import milr
from milr_benchmarks.scenes import language, reading
from milr_benchmarks.scenes.broken import Broken, break_things, render_broken
from milr_benchmarks.scenes.concepts import MAX_OBJECTS
from milr_benchmarks.scenes.export import save_mini
from milr_benchmarks.scenes.layout import BACKGROUNDS
from milr_benchmarks.scenes.questions import KINDS, ask, content_of, natural_distance
from milr_benchmarks.scenes.reading import ANSWER, PLAN, PatchHeads, build_reading_pool, draw_broken, draw_reading
from milr_benchmarks.scenes.reading_figures import description_figures, own_picture_figures, reading_figures
from milr_benchmarks.scenes.recipe import TOY
from milr_benchmarks.scenes.sprites import drawn_sprites
from milr_benchmarks.scenes.training import Schedule
from milr_benchmarks.scenes.world import Painter, Scenes

TOKENIZER = language.build_tokenizer()


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter(drawn_sprites(), "cpu")


@pytest.fixture(scope="module")
def model() -> JanusForConditionalGeneration:
    torch.manual_seed(0)
    ids = (TOKENIZER.convert_tokens_to_ids(language.IMAGE), TOKENIZER.pad_token_id)
    config = TOY.janus_config(*ids, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id)
    return JanusForConditionalGeneration(config)


@pytest.fixture(scope="module")
def pool(painter: Painter) -> reading.ReadingPool:
    return build_reading_pool(painter, 48, torch.Generator().manual_seed(3))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(painter: Painter, *things: tuple[str, int, int, int]) -> Broken:
    """One whole scene of (class, colour, x, y), each 32 px."""
    empty = [(-1, 0, 0, 0)] * (MAX_OBJECTS - len(things))
    rows = [(painter.classes.index(name), *rest) for name, *rest in things] + empty
    label, color, x, y = torch.tensor([rows]).unbind(-1)
    corner = torch.stack([x, y], dim=-1)
    scenes = Scenes(label, color, torch.full_like(label, 32), corner, torch.tensor([BACKGROUNDS[0]]))
    return break_things(scenes, painter, generator(), share=0.0)


def asked(painter: Painter, broken: Broken, kind: str, times: int = 500) -> dict[str, bool]:
    """Everything of a kind that may be asked of one picture."""
    natural = natural_distance(painter)
    (row,) = ask(content_of(painter, broken), painter.classes, natural, random.Random(0), times, kind)
    return {one.text: one.answer for one in row}


def test_counts_are_exact_and_false_ones_are_off_by_one(painter: Painter) -> None:
    two = picture(painter, ("fork", 1, 0, 0), ("fork", 5, 64, 0), ("oven", 0, 32, 64))
    answers = asked(painter, two, "count")
    assert answers["are there two forks?"] is True
    assert answers["are there three forks?"] is False
    assert answers["is there one fork?"] is False
    assert answers["is there one oven?"] is True


def test_relations_follow_the_rule_and_false_ones_are_plainly_false(painter: Painter) -> None:
    pair = picture(painter, ("fork", 1, 0, 32), ("oven", 0, 64, 32))
    answers = asked(painter, pair, "relation")
    assert answers["is the fork left of the oven?"] is True
    assert answers["is the oven left of the fork?"] is False
    assert answers["is the fork above the oven?"] is False
    assert answers["is the oven to the right of the fork?"] is True


def test_relations_near_the_cut_are_open(painter: Painter) -> None:
    slanted = picture(painter, ("oven", 0, 0, 0), ("sink", 0, 64, 48))
    _, left, right, above, below = content_of(painter, slanted).relations[0, 0, 1].tolist()
    assert (left, right, below) == (1, 0, 0)
    assert above == -1
    assert "is the oven above the sink?" not in asked(painter, slanted, "relation")


def test_colors_are_asked_of_painted_things_only(painter: Painter) -> None:
    both = picture(painter, ("fork", 1, 0, 0), ("oven", 5, 64, 64))
    assert asked(painter, both, "color")["is the fork red?"] is True
    assert asked(painter, both, "color")["is the fork blue?"] is False  # the colour of the other one
    plain = picture(painter, ("fork", 0, 0, 0))
    assert True not in asked(painter, plain, "color").values()


def test_a_thing_that_is_only_there_in_part_is_not_there(painter: Painter) -> None:
    scene = picture(painter, ("fork", 0, 0, 0), ("oven", 0, 64, 64))
    label = scene.seen.label.clone()
    label[0, 0] = -1
    half = replace(scene, seen=replace(scene.seen, label=label), unsure=torch.full_like(label, -1))
    answers = asked(painter, half, "presence")
    assert answers["is there a fork?"] is False
    assert answers["is there an oven?"] is True


def test_what_is_unclear_is_neither_asked_for_nor_described(painter: Painter) -> None:
    scene = picture(painter, ("fork", 0, 0, 0), ("oven", 0, 64, 64))
    unsure = torch.full_like(scene.unsure, -1)
    unsure[0, 0] = scene.drawn.label[0, 0]
    open_one = replace(scene, unsure=unsure)
    assert not any("fork" in text for kind in KINDS for text in asked(painter, open_one, kind))
    assert not content_of(painter, open_one).describable().any()


def test_every_kind_has_about_as_many_yes_as_no(painter: Painter) -> None:
    broken = draw_broken(painter, 300, generator(5))
    rows = ask(content_of(painter, broken), painter.classes, natural_distance(painter), random.Random(1))
    for kind in KINDS:
        answers = [one.answer for row in rows for one in row if one.kind == kind]
        assert 0.35 < sum(answers) / len(answers) < 0.65, kind


def test_every_word_of_a_row_is_known(pool: reading.ReadingPool) -> None:
    assert not (pool.ids == TOKENIZER.unk_token_id).any()


def test_a_row_teaches_answers_or_a_plan_to_its_end(pool: reading.ReadingPool) -> None:
    words = set(TOKENIZER.batch_decode(pool.ids[pool.target == ANSWER][:, None]))
    assert words == {"yes", "no"}
    described = (pool.target == PLAN).any(1)
    assert described.any()
    assert not ((pool.target == ANSWER).any(1) & described).any()
    row = pool.ids[described][0]
    taught = row[pool.target[described][0] == PLAN]
    assert row[0] == TOKENIZER.convert_tokens_to_ids(language.THINK)
    assert taught[-1] == TOKENIZER.eos_token_id


def test_a_pool_depends_on_its_seed_alone(painter: Painter, pool: reading.ReadingPool) -> None:
    again = build_reading_pool(painter, 48, generator(3))
    assert torch.equal(again.ids, pool.ids)
    assert torch.equal(again.images, pool.images)
    assert not torch.equal(build_reading_pool(painter, 48, generator(4)).images, pool.images)


def test_every_second_picture_is_reconstructed(painter: Painter, pool: reading.ReadingPool) -> None:
    black = build_reading_pool(painter, 48, generator(3), reconstruct=torch.zeros_like)
    assert not black.images[::2].any()
    assert torch.equal(black.images[1::2], pool.images[1::2])


def test_patches_name_what_covers_them(painter: Painter) -> None:
    one = picture(painter, ("oven", 3, 32, 64))
    label, color, offset = (each[0].view(12, 12, -1) for each in reading.patch_labels(painter, one))
    assert label[10, 6] == painter.classes.index("oven")
    assert color[10, 6] == 3
    assert label[0, 0] == len(painter.classes)
    assert not offset[0, 0].any()
    left, right = offset[10, 4, 0], offset[10, 7, 0]
    assert left > 0 > right


def test_the_tower_learns_from_its_patches(painter: Painter, model: JanusForConditionalGeneration) -> None:
    fresh = build_reading_pool(painter, 32, generator(8))
    heads = PatchHeads(model.config.text_config.hidden_size, len(painter.classes))
    tower, aligner = model.model.vision_model, model.model.aligner

    def loss() -> Tensor:
        with torch.no_grad():
            pixels, _, _, *patches = draw_reading(fresh, torch.arange(32), generator(1))
            return reading.patch_losses(heads, reading.look(tower, aligner, pixels), *patches)["patch class"]

    before = loss()
    reading.train_vision(tower, aligner, heads, fresh, Schedule(25, 16, 3e-3, warmup=3), generator())
    assert loss() < 0.7 * before


def test_losses_reach_the_tower_through_answers_and_plans(
    painter: Painter, pool: reading.ReadingPool, model: JanusForConditionalGeneration
) -> None:
    heads = PatchHeads(model.config.text_config.hidden_size, len(painter.classes))
    frame = reading.frame_ids(TOKENIZER, "cpu")
    terms = reading.reading_losses(model, heads, frame, draw_reading(pool, torch.arange(8), generator()))
    assert {"answers", "descriptions", "patch class"} <= terms.keys()
    (terms["answers"] + terms["descriptions"]).backward()
    gradient = model.model.vision_model.embeddings.patch_embedding.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert all(term.isfinite() for term in terms.values())


def test_figures_cover_every_kind(painter: Painter, model: JanusForConditionalGeneration, tmp_path: Path) -> None:
    save_mini(copy.deepcopy(model), TOKENIZER, tmp_path)
    reader = milr.load_model(str(tmp_path), device="cpu")
    table = reading_figures(reader, painter, 12, 77)
    assert {*KINDS, "overall", "exact", "recall"} <= table.keys()
    images = render_broken(painter, picture(painter, ("oven", 3, 32, 64))).repeat(2, 1, 1, 1)
    rows = [{"include": [{"class": "oven", "count": 1}]}] * 2
    assert 0 <= own_picture_figures(reader, images, rows, [True, False])["agreement"] <= 1


def test_descriptions_are_compared_thing_by_thing() -> None:
    plan = "two objects: a red cup, left; a dog, right."
    half = "two objects: a red cup, left; a dog, top."
    assert description_figures([plan, half], [plan, plan]) == {"exact": 0.5, "recall": 0.75, "precision": 0.75}
