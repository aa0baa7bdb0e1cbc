"""The critic `unified-reward`: which replies count, what they are worth, and what is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from milr.errors import UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import load_reward, score_safely
from milr_rewards.networks.checkpoints import Weights
from milr_rewards.networks.vision_language import VisionLanguageModel
from milr_rewards.unified_reward import INSTRUCTION, UnifiedReward, parse_reply, score_reply
from tests.rewards.tiny_vision_language import scripted_llava_folder, tiny_qwen_folder

PICTURES = [Image.new("RGB", (40, 40), "red"), Image.new("L", (30, 60), 128)]
PROMPTS = [Prompt("a red dog"), Prompt("a blue {cat}")]
LINES = ("Alignment Score (1-5): 4.5\n", "Coherence Score (1-5): 2\n", "Style Score (1-5): 3.25")
REPLY = "".join(LINES)


@pytest.mark.parametrize(
    ("reply", "parts"),
    [
        (REPLY, {"alignment": 4.5, "coherence": 2.0, "style": 3.25}),
        (f"Here you are.\n{REPLY}\n\nThanks.", {"alignment": 4.5, "coherence": 2.0, "style": 3.25}),
        (
            "Alignment Score (1-5): 2.694700002670288\nCoherence Score (1-5): 1\nStyle Score (1-5): 5.0",
            {"alignment": 2.694700002670288, "coherence": 1.0, "style": 5.0},
        ),
        ("".join(LINES[:2]), None),
        (REPLY + "\nStyle Score (1-5): 3.25", None),
        (REPLY.replace("4.5", "5.5"), None),
        (REPLY.replace("4.5", "0"), None),
        (REPLY.replace("4.5", "-4.5"), None),
        (REPLY.replace("4.5", "X"), None),
        (REPLY.replace("4.5", "4.5.1"), None),
        (REPLY.replace("4.5", "4 or 5"), None),
        (REPLY.replace("Alignment", "My Alignment"), None),
        ("", None),
    ],
)
def test_a_reply_is_read_strictly(reply: str, parts: dict[str, float] | None) -> None:
    assert parse_reply(reply) == parts


@pytest.mark.parametrize(
    ("axes", "value"),
    [
        (["alignment"], 0.875),
        (["coherence"], 0.25),
        (["style"], 0.5625),
        (["alignment", "coherence"], 0.5625),
        (["alignment", "coherence", "style"], (0.875 + 0.25 + 0.5625) / 3),
    ],
)
def test_the_value_is_the_mean_of_the_axes_brought_to_zero_and_one(axes: list[str], value: float) -> None:
    score = score_reply(REPLY, axes)
    assert score.value == pytest.approx(value)
    assert score.parts == {"alignment": 4.5, "coherence": 2.0, "style": 3.25}
    assert score.reason == "alignment 4.5 of 5, coherence 2.0 of 5, style 3.2 of 5"


def test_a_reply_that_cannot_be_read_is_a_failure_that_quotes_it() -> None:
    score = score_reply("I cannot help with that." * 9, ["alignment"])
    assert score.value is None
    assert "the model wrote 'I cannot help with that.I cannot" in str(score.error)
    assert len(str(score.error)) < 200


def test_a_model_that_writes_scores_gives_them(tmp_path: Path) -> None:
    folder = scripted_llava_folder(tmp_path, {LINES[0]: 20.0}, LINES)
    scores = UnifiedReward(model=str(folder)).score(PICTURES, PROMPTS)
    assert [score.value for score in scores] == [0.875, 0.875]
    assert scores[0].parts == {"alignment": 4.5, "coherence": 2.0, "style": 3.25}


def test_a_model_that_writes_something_else_is_a_recorded_failure(tmp_path: Path) -> None:
    reward = UnifiedReward(model=str(tiny_qwen_folder(tmp_path)))
    instruction = INSTRUCTION.replace("{prompt}", "a red dog")
    written = VisionLanguageModel(Weights("unified-reward", str(tmp_path))).write(PICTURES[:1], [instruction], 128)[0]
    score = score_safely(reward, PICTURES[:1], PROMPTS[:1])[0]
    assert score.value is None
    assert repr(written[:80]) in str(score.error)


def test_the_instruction_ends_with_the_prompt_as_it_is() -> None:
    assert INSTRUCTION.replace("{prompt}", PROMPTS[1].text).endswith("Text Caption: [a blue {cat}]")


def test_nothing_is_scored_for_nothing(tmp_path: Path) -> None:
    assert UnifiedReward(model=str(scripted_llava_folder(tmp_path, {}))).score([], []) == []


def test_an_unknown_axis_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"'alignmnt'\. Did you mean 'alignment'\?"):
        UnifiedReward(axes="style, alignmnt")


def test_axes_and_weights_make_the_version(tmp_path: Path) -> None:
    folder = str(scripted_llava_folder(tmp_path, {}))
    assert UnifiedReward(model=folder).version != UnifiedReward(model=folder, axes="alignment,style").version


def test_missing_weights_are_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reward 'unified-reward' cannot load"):
        UnifiedReward(model=str(tmp_path)).check(PROMPTS[0])


def test_it_is_found_by_name_with_its_options() -> None:
    reward = load_reward("unified-reward", options={"unified-reward": {"axes": "alignment,style"}})
    assert isinstance(reward, UnifiedReward)
