"""The search keeps the best, stops when it should, survives its critic, and ignores batch size and interruption."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from PIL import Image, ImageStat

import milr
from milr.decoding import Engine
from milr.errors import PromptError, RunError, UnknownNameError
from milr.events import Failed, Finished, Progress, Started, Stepped
from milr.models import load_model
from milr.models.janus import Janus
from milr.prompts import Prompt
from milr.rewards import Reward, Score
from milr.search import refine
from tests.tiny import tiny_janus_folder

PROMPTS = [Prompt("a red apple"), Prompt("a photo of a dog left of three blue cat"), Prompt("two cup")]


class Redness(Reward):
    """How red a picture is: a real critic with a known meaning."""

    name, version, range = "redness", "1", (-255.0, 255.0)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        means = [ImageStat.Stat(image).mean for image in images]
        return [Score(red - (green + blue) / 2, {"red": red}, f"red {red:.0f}") for red, green, blue in means]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Janus:
    return load_model(str(tiny_janus_folder(tmp_path_factory.mktemp("janus"))), device="cpu")  # type: ignore[return-value]


def run(model: Janus, prompts: Sequence[Prompt] = PROMPTS, reward: Reward | None = None, **options: Any) -> list[Any]:
    return list(refine(model, prompts, reward or Redness(), **({"steps": 3, "samples": 2} | options)))


def outcomes(events: list[Any]) -> dict[tuple[str, int], tuple[float | None, bytes, str]]:
    ends = [event for event in events if isinstance(event, Finished)]
    return {
        (end.prompt.id, end.image_index): (
            end.progress.best.reward,
            end.progress.best.image.tobytes(),
            end.progress.best.reasoning,
        )
        for end in ends
    }


@pytest.mark.parametrize("method", ["milr", "best-of-n", "resample", "random-direction"])
def test_the_best_picture_seen_is_returned(model: Janus, method: str) -> None:
    events = run(model, PROMPTS[:1], method=method)
    steps = [event.step for event in events if isinstance(event, Stepped)]
    rewards = [score.value for step in steps for score in step.scores]
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert events[-1].progress.best.reward == max(rewards)
    assert events[-1].progress.initial_reward == rewards[0]
    assert events[-1].progress.images_decoded == 8


def test_the_last_picture_is_returned_on_request(model: Janus) -> None:
    events = run(model, PROMPTS[:1], keep="last", samples=1, method="best-of-n")
    last = [event for event in events if isinstance(event, Stepped)][-1].step
    assert events[-1].progress.best.reward == last.scores[-1].value


@pytest.mark.parametrize("method", ["milr", "best-of-n"])
def test_results_do_not_depend_on_the_batch(model: Janus, method: str) -> None:
    alone = outcomes(run(model, batch=1, method=method, images=2))
    together = outcomes(run(model, batch=5, method=method, images=2))
    shuffled = outcomes(run(model, PROMPTS[::-1], batch=2, method=method, images=2))
    assert alone == together == shuffled
    assert len(alone) == 6


@pytest.mark.parametrize("method", ["milr", "best-of-n"])
def test_results_do_not_depend_on_when_pictures_are_scored(model: Janus, method: str) -> None:
    straight = outcomes(run(model, method=method, images=2))
    for batch in (1, 2, 5):
        assert outcomes(run(model, method=method, images=2, batch=batch, overlap=True)) == straight


def test_one_half_is_scored_while_the_other_is_decoded(model: Janus, monkeypatch: pytest.MonkeyPatch) -> None:
    decodes, decoding = count(1), threading.Event()
    decode = Engine.decode_tokens

    def counted_decode(*arguments: Any) -> Any:
        if next(decodes) == 2:
            decoding.set()
        return decode(*arguments)

    class Patient(Redness):
        def score(self, images: Any, prompts: Any) -> list[Score]:
            assert decoding.wait(60), "the second half is decoded before the first one is scored"
            return super().score(images, prompts)

    monkeypatch.setattr(Engine, "decode_tokens", counted_decode)
    events = list(refine(model, PROMPTS, Patient(), "best-of-n", steps=1, samples=1, batch=2, overlap=True))
    assert sum(isinstance(event, Finished) for event in events) == len(PROMPTS)


def test_images_of_one_prompt_differ(model: Janus) -> None:
    pictures = {picture for _, picture, _ in outcomes(run(model, PROMPTS[:1], images=3)).values()}
    assert len(pictures) == 3


def test_another_seed_gives_another_picture(model: Janus) -> None:
    assert outcomes(run(model, PROMPTS[:1], seed=1)) != outcomes(run(model, PROMPTS[:1], seed=0))


def test_the_weights_do_not_change(model: Janus) -> None:
    before = model.fingerprint()
    run(model, PROMPTS[:1])
    assert model.fingerprint() == before


@pytest.mark.parametrize("method", ["milr", "best-of-n", "resample"])
def test_an_interrupted_search_ends_as_an_undisturbed_one(model: Janus, method: str) -> None:
    straight = outcomes(run(model, method=method))
    stands: dict[tuple[str, int], Progress] = {}
    for event in refine(model, PROMPTS, Redness(), method, steps=3, samples=2, batch=2):
        if isinstance(event, Stepped):
            stands[event.prompt.id, event.image_index] = event.progress
            if event.step.index == 1:
                break  # the process dies here
    resumed = run(model, method=method, resume=stands)
    assert outcomes(resumed) == straight
    steps_done = [event.steps_done for event in resumed if isinstance(event, Started)]
    assert max(steps_done) == 2


def test_what_is_done_is_skipped(model: Janus) -> None:
    events = run(model, skip=frozenset({(PROMPTS[0].id, 0)}))
    assert {event.prompt.text for event in events} == {prompt.text for prompt in PROMPTS[1:]}


def test_the_search_stops_at_its_target(model: Janus) -> None:
    events = run(model, PROMPTS[:1], target=-300.0)
    assert isinstance(events[-1], Finished)
    assert events[-1].why == "target"
    assert events[-1].progress.images_decoded == 2


def test_the_search_stays_within_its_budget(model: Janus) -> None:
    events = run(model, PROMPTS[:1], budget=5)
    assert events[-1].why == "budget"
    assert events[-1].progress.images_decoded == 4


def test_no_steps_is_plain_generation(model: Janus) -> None:
    events = run(model, PROMPTS[:1], steps=0, samples=1)
    assert events[-1].progress.images_decoded == 1


class Moody(Redness):
    """Fails on the pictures of one prompt, by exception or by NaN."""

    def __init__(self, raises: bool) -> None:
        self.raises = raises

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        if self.raises and any("dog" in prompt.text for prompt in prompts):
            raise RuntimeError("no dogs")
        scores = super().score(images, prompts)
        return [Score(math.nan) if "dog" in p.text else s for s, p in zip(scores, prompts, strict=True)]


@pytest.mark.parametrize(("raises", "message"), [(True, "no dogs"), (False, "nan")])
def test_a_failing_critic_fails_its_prompt_and_nobody_elses(model: Janus, raises: bool, message: str) -> None:
    events = run(model, reward=Moody(raises))
    failed = [event for event in events if isinstance(event, Failed)]
    assert [event.prompt.text for event in failed] == [PROMPTS[1].text]
    assert message in failed[0].error
    undisturbed = outcomes(run(model))
    assert outcomes(events) == {key: value for key, value in undisturbed.items() if key[0] != PROMPTS[1].id}


class Picky(Redness):
    needs = frozenset({"include"})


def test_a_prompt_without_needed_metadata_is_refused_before_any_work(model: Janus) -> None:
    with pytest.raises(PromptError, match="needs include"):
        refine(model, PROMPTS, Picky())


def test_an_unknown_method_or_option_is_refused_before_any_work(model: Janus) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'milr'"):
        refine(model, PROMPTS, Redness(), "mlir")
    with pytest.raises(UnknownNameError, match="Did you mean 'order'"):
        refine(model, PROMPTS, Redness(), method_options={"ordr": "text"})


def test_the_one_line_api_returns_the_best_picture_and_its_history(model: Janus) -> None:
    result = milr.refine(model, "a red apple", Redness(), steps=2, samples=2, seed=3)
    rewards = [score.value for step in result.history for score in step.scores if score.value is not None]
    assert result.reward == max(rewards)
    assert result.initial_reward == rewards[0]
    assert result.image.size == (8, 8)
    assert result.images_decoded == 6
    assert isinstance(result.reasoning, str)


def test_the_one_line_api_says_when_nothing_could_be_scored(model: Janus) -> None:
    with pytest.raises(RunError, match="no dogs"):
        milr.refine(model, "a dog", Moody(raises=True), steps=1, samples=1)
