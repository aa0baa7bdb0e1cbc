"""The engine's tokens equal a plain loop without a cache, whatever is batched, reused, refilled, halved or resumed."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from milr.decoding import Engine, Proposal, Request, Rollout, Sampling, memory
from milr.events import Progress, Stepped
from milr.latents import Mode, Prefix
from milr.models import load_model
from milr.models.janus import Janus
from milr.noise import NoiseSource
from milr.prompts import Prompt
from milr.rewards import Reward, Score
from milr.search import refine
from tests.decoding.plain import plain_rollout
from tests.tiny import tiny_janus_folder

PROMPTS = [
    Prompt(text) for text in ("a red apple", "a photo of a dog left of three blue cat", "two cup", "a cat, a dog")
]
SAMPLING = Sampling(guidance=3.0, temperature=0.9, reasoning_temperature=1.1, max_reasoning_tokens=12)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Janus:
    janus: Janus = load_model(str(tiny_janus_folder(tmp_path_factory.mktemp("janus"))), device="cpu")  # type: ignore
    janus.stop_ids = frozenset(range(5, 15))  # random weights seldom write the one that it has
    return janus


def requests(count: int, **proposal: Any) -> list[Request]:
    """Plain requests over all prompts, several steps and samples."""
    return [
        Request(prompt, NoiseSource.of(0, prompt.id), Proposal(step=index // 8, sample=index % 3, **proposal))
        for index in range(count)
        for prompt in [PROMPTS[index % len(PROMPTS)]]
    ]


def latents(length: int, mode: Mode, *shape: int, seed: int = 0) -> Prefix:
    values = torch.randn(length, *shape, generator=torch.Generator().manual_seed(seed))
    return Prefix(values if mode == "replace" else 0.5 * values, mode)


def tokens(rollouts: list[Rollout]) -> list[tuple[list[int], list[int]]]:
    return [(rollout.reasoning_ids.tolist(), rollout.image_tokens.tolist()) for rollout in rollouts]


def plain(model: Janus, wanted: list[Request], sampling: Sampling = SAMPLING) -> list[tuple[list[int], list[int]]]:
    return [plain_rollout(model, request, sampling) for request in wanted]


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("sampling", [SAMPLING, Sampling(5.0, 0.0, 0.0, 12)], ids=["sampled", "greedy"])
def test_a_batch_equals_plain_loops(model: Janus, count: int, sampling: Sampling) -> None:
    wanted = requests(count)
    got = tokens(Engine(model).decode(wanted, sampling))
    assert got == plain(model, wanted, sampling)
    assert count == 1 or len({len(reasoning) for reasoning, _ in got}) > 1, "the reasonings are to be ragged"


@pytest.mark.parametrize("mode", ["replace", "shift"])
@pytest.mark.parametrize("length", [1, 5, 12])
def test_latents_act_as_in_a_plain_loop(model: Janus, mode: Mode, length: int) -> None:
    hidden = model.facts.hidden_size
    wanted = requests(3, text=latents(length, mode, hidden), image=latents(length, mode, 2, hidden))
    assert tokens(Engine(model).decode(wanted, SAMPLING)) == plain(model, wanted)


def test_latents_of_every_picture_token_need_no_step(model: Janus) -> None:
    everything = latents(model.facts.image_tokens, "replace", 2, model.facts.hidden_size)
    wanted = requests(2, image=everything)
    rollouts = Engine(model).decode(wanted, SAMPLING, keep_image_states=model.facts.image_tokens)
    assert tokens(rollouts) == plain(model, wanted)
    assert torch.equal(rollouts[0].image_states, everything.values)


def test_rows_with_all_kinds_of_latents_share_a_batch(model: Janus) -> None:
    hidden = model.facts.hidden_size
    own = Engine(model).decode(requests(1), SAMPLING)[0]
    proposals = [
        Proposal(0, 0),
        Proposal(1, 1, text=latents(4, "shift", hidden), image=latents(3, "replace", 2, hidden)),
        Proposal(1, 2, text=latents(2, "replace", hidden)),
        Proposal(2, 0, reasoning_ids=own.reasoning_ids, image=latents(6, "shift", 2, hidden)),
        Proposal(2, 1, reasoning_ids=torch.zeros(0, dtype=torch.long), image=latents(2, "replace", 2, hidden)),
    ]
    wanted = [Request(PROMPTS[0], NoiseSource.of(0, PROMPTS[0].id), proposal) for proposal in proposals]
    assert tokens(Engine(model).decode(wanted, SAMPLING)) == plain(model, wanted)


def test_a_prompt_draws_the_same_alone_and_among_thirteen(model: Janus) -> None:
    wanted = requests(13)
    together = tokens(Engine(model).decode(wanted, SAMPLING))
    assert together == [tokens(Engine(model).decode([request], SAMPLING))[0] for request in wanted]


def test_parts_of_a_batch_that_does_not_fit_draw_the_same(model: Janus) -> None:
    wanted = requests(7)
    assert tokens(Engine(model, rows=3).decode(wanted, SAMPLING)) == tokens(Engine(model).decode(wanted, SAMPLING))


def test_an_engine_that_has_drawn_something_else_draws_the_same(model: Janus) -> None:
    engine = Engine(model)
    for count in (5, 1, 3):
        assert tokens(engine.decode(requests(count), SAMPLING)) == plain(model, requests(count))


def test_what_does_not_change_is_read_once(model: Janus) -> None:
    engine = Engine(model)
    prompt, noise = PROMPTS[0], NoiseSource.of(0, "")
    engine.decode([Request(prompt, noise, Proposal(0, sample)) for sample in range(3)], SAMPLING)
    before = engine.prompts.read_count
    written = engine.decode([Request(prompt, noise, Proposal(1, 0))], SAMPLING)[0]
    assert (
        engine.prompts.read_count - before <= 2
    )  # the image prompt of a new reasoning and, if of a new length, its twin
    kept = [Request(prompt, noise, Proposal(2, sample, reasoning_ids=written.reasoning_ids)) for sample in range(3)]
    first = engine.decode(kept, SAMPLING)
    before = engine.prompts.read_count
    assert tokens(engine.decode(kept, SAMPLING)) == tokens(first) == plain(model, kept)
    assert engine.prompts.read_count == before


def test_prompts_that_are_not_used_make_room(model: Janus) -> None:
    engine = Engine(model)
    engine.prompts._capacity = 4 * model.backbone.key_values.bytes_per_column
    assert tokens(engine.decode(requests(4), SAMPLING)) == plain(model, requests(4))
    assert sum(len(key) for key in engine.prompts._kept) <= 4


def test_out_of_memory_halves_the_batch_and_loses_nothing(
    model: Janus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = model.backbone.step

    def step_of_few(embeddings: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(embeddings) > 4:  # two guidance pairs
            raise torch.OutOfMemoryError("a device of four rows")
        return step(embeddings, *rest)

    monkeypatch.setattr(model.backbone, "step", step_of_few)
    engine = Engine(model)
    with caplog.at_level(logging.WARNING):
        rollouts = engine.decode(requests(7), SAMPLING)
    assert engine.rows <= 2
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory with 7 rollouts at once; going on with 3.",
        "out of memory with 3 rollouts at once; going on with 1.",
    ]
    monkeypatch.undo()
    assert tokens(rollouts) == plain(model, requests(7))


def test_a_device_without_room_for_one_rollout_is_an_error(model: Janus, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(model.backbone, "step", never)
    with pytest.raises(torch.OutOfMemoryError):
        Engine(model).decode(requests(2), SAMPLING)


def test_as_many_rollouts_as_fit_into_half_of_the_free_memory(model: Janus, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {}
    for gibibytes in (0, 1, 4, 1024):
        monkeypatch.setattr(memory, "_free_system_bytes", lambda: gibibytes * 2**30)  # noqa: B023
        sizes[gibibytes] = Engine(model).rows
    assert sizes == {0: 1, 1: 8, 4: 32, 1024: 64}


class Choosy(Reward):
    """A critic that is content with about one picture in six, so that slots become free one by one."""

    name, version, target = "choosy", "1", 1.0

    def score(self, images: Any, prompts: Any) -> list[Score]:
        return [Score(float(sum(image.tobytes()) % 6 == 0)) for image in images]


def test_refilled_slots_and_resumed_searches_draw_as_plain_loops(model: Janus) -> None:
    """Each rollout of a run whose slots are refilled between steps, and which is cut and resumed in the middle."""
    steps: dict[tuple[str, int], list[Rollout]] = {}
    progress: dict[tuple[str, int], Progress] = {}
    options: dict[str, Any] = {"steps": 2, "samples": 2, "batch": 3, "images": 2, "sampling": SAMPLING}
    for limit in (4, 10_000):  # events until the run is cut, and then to its end
        done = frozenset(key for key, state in progress.items() if state.steps_done > 2)
        events = refine(model, PROMPTS, Choosy(), skip=done, resume=dict(progress), **options)
        for event, _ in zip(events, range(limit), strict=False):
            if isinstance(event, Stepped):
                key = (event.prompt.id, event.image_index)
                progress[key] = event.progress
                steps.setdefault(key, []).extend(event.step.rollouts)
    assert len(steps) == 8
    assert len({len(rollouts) for rollouts in steps.values()}) > 1, "slots are to become free at different steps"
    for (prompt_id, image_index), rollouts in steps.items():
        noise = NoiseSource.of(0, prompt_id, image_index)
        wanted = [Request(rollout.prompt, noise, rollout.proposal) for rollout in rollouts]
        assert tokens(rollouts) == plain(model, wanted)
