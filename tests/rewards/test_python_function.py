"""The critic `python`: a function of yours, found by its address, called as its parameters say."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from milr.errors import UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import Score, load_reward, score_safely
from milr_rewards.python_function import PythonFunction

IMAGES = [Image.new("RGB", (4, 4), (level, 0, 0)) for level in (51, 102, 255)]
PROMPTS = [Prompt("dark"), Prompt("middle"), Prompt("bright")]

CRITICS = """
from __future__ import annotations

from dataclasses import dataclass

from milr.rewards import Score


@dataclass
class Level:
    red: int


def red(image, prompt):
    return image.getpixel((0, 0))[0] / 255


def told(prompt: str, image, scale: float = 2.0) -> Score:
    return Score(scale * Level(*image.getpixel((0, 0))[:1]).red, {"length": len(prompt)}, prompt)


def all_at_once(images, prompts):
    return [len(images) + image.getpixel((0, 0))[0] / 255 for image in images]


def careful(image, prompt):
    if prompt == "middle":
        raise ValueError("not that one")
    return 1


def silent(image, prompt):
    return None


def wordy(image, prompt):
    return "0.5"


def picture_only(image): return 1
def one_more(image, prompt, style): return 1
def other_names(picture, text): return 1
def mixture(images, prompt): return 1
async def later(image, prompt): return 1
"""


@pytest.fixture
def critics(tmp_path: Path) -> str:
    """A file of critics."""
    file = tmp_path / "critics.py"
    file.write_text(CRITICS)
    return str(file)


def test_a_function_scores_picture_by_picture(critics: str) -> None:
    scores = PythonFunction(address=f"{critics}:red").score(IMAGES, PROMPTS)
    assert [score.value for score in scores] == [0.2, 0.4, 1.0]


def test_a_function_may_return_scores_and_have_defaults(critics: str) -> None:
    scores = PythonFunction(address=f"{critics}:told").score(IMAGES[:2], PROMPTS[:2])
    assert scores == [Score(102, {"length": 4}, "dark"), Score(204, {"length": 6}, "middle")]


def test_a_function_of_images_and_prompts_gets_the_batch(critics: str) -> None:
    scores = PythonFunction(address=f"{critics}:all_at_once").score(IMAGES, PROMPTS)
    assert [score.value for score in scores] == [3.2, 3.4, 4.0]


def test_a_module_in_the_current_folder_is_found_and_sys_path_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "found_here.py").write_text("from found_beside import red")
    (tmp_path / "found_beside.py").write_text(CRITICS)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    critic = PythonFunction(address="found_here:red")
    assert critic.score(IMAGES[:1], PROMPTS[:1]) == [Score(0.2)]
    assert critic.name == "python:found_here:red"
    assert sys.path == before


def test_a_file_finds_what_stands_beside_it(critics: str) -> None:
    file = Path(critics).parent / "more.py"
    file.write_text("from critics import red\n\n\ndef half(image, prompt):\n    return red(image, prompt) / 2\n")
    assert PythonFunction(address=f"{file}:half").score(IMAGES[:1], PROMPTS[:1]) == [Score(0.1)]


def test_two_files_of_one_name_are_two_critics(tmp_path: Path) -> None:
    for value in (1, 2):
        (tmp_path / str(value)).mkdir()
        (tmp_path / str(value) / "mine.py").write_text(f"def f(image, prompt): return {value}")
    scores = [
        PythonFunction(address=f"{tmp_path}/{value}/mine.py:f").score(IMAGES[:1], PROMPTS[:1]) for value in (1, 2)
    ]
    assert scores == [[Score(1)], [Score(2)]]


def test_an_edited_file_is_another_critic(critics: str) -> None:
    before = PythonFunction(address=f"{critics}:red")
    assert PythonFunction(address=f"{critics}:red").version == before.version
    Path(critics).write_text(CRITICS.replace("/ 255", "/ 51", 1))
    after = PythonFunction(address=f"{critics}:red")
    assert after.version != before.version
    assert after.score(IMAGES[:1], PROMPTS[:1]) == [Score(1.0)]


def test_it_is_loaded_by_its_address_and_weighted(critics: str) -> None:
    reward = load_reward(f"python:{critics}:red=2")
    assert [score.value for score in reward.score(IMAGES, PROMPTS)] == [0.4, 0.8, 2.0]


def test_what_a_function_raises_is_the_failure_of_its_picture(critics: str) -> None:
    scores = score_safely(PythonFunction(address=f"{critics}:careful"), IMAGES, PROMPTS)
    assert [score.value for score in scores] == [1, None, 1]
    assert scores[1].error == "ValueError: not that one"


@pytest.mark.parametrize("function", ["silent", "wordy"])
def test_what_is_no_number_is_a_failure(critics: str, function: str) -> None:
    (score,) = score_safely(PythonFunction(address=f"{critics}:{function}"), IMAGES[:1], PROMPTS[:1])
    assert score.value is None
    assert str(score.error).startswith("TypeError: ")


@pytest.mark.parametrize("function", ["picture_only", "one_more", "other_names", "mixture", "later", "Level"])
def test_a_function_of_other_parameters_is_refused(critics: str, function: str) -> None:
    with pytest.raises(UsageError, match=rf"is no critic; write it as def {function}\(image, prompt\)"):
        PythonFunction(address=f"{critics}:{function}")


def test_a_builtin_function_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'math:hypot' is no critic"):
        PythonFunction(address="math:hypot")


def test_an_unknown_function_is_refused_with_the_nearest_one(critics: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown function of '.*critics.py': 'rde'. Did you mean 'red'"):
        PythonFunction(address=f"{critics}:rde")


@pytest.mark.parametrize("address", ["", "critics", "critics:", ":red"])
def test_an_address_without_a_function_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="reward 'python' needs a function; write --reward python:MODULE:FUNCTION"):
        PythonFunction(address=address)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'."),
        ("def f(:", r"SyntaxError: .*line 1\)."),
        ("1 / 0", "ZeroDivisionError: division by zero."),
        ("raise SystemExit('bye')", "SystemExit: bye."),
    ],
)
def test_a_file_that_cannot_be_imported_is_an_error_in_a_line(tmp_path: Path, code: str, problem: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(code)
    modules, path = set(sys.modules), list(sys.path)
    with pytest.raises(UsageError, match=f"^reward 'python' cannot import '.*bad.py': {problem}$") as refused:
        PythonFunction(address=f"{file}:f")
    assert os.linesep not in str(refused.value)
    assert sys.path == path
    assert not any(name.startswith("bad") for name in set(sys.modules) - modules)


def test_a_missing_module_or_file_is_an_error_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot import 'not.there': ModuleNotFoundError: No module named 'not'"):
        PythonFunction(address="not.there:f")
    with pytest.raises(UsageError, match=f"there is no file '{tmp_path}/gone.py'"):
        PythonFunction(address=f"{tmp_path}/gone.py:f")


def test_it_gets_pictures_of_its_own_and_its_talk_is_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "careless.py").write_text(
        "def shrink(image, prompt):\n    print('looking')\n    image.thumbnail((1, 1))\n    return image.width\n"
    )
    picture = Image.new("RGB", (8, 8))
    (score,) = PythonFunction(address=f"{tmp_path}/careless.py:shrink").score([picture], PROMPTS[:1])
    assert score.value == 1
    assert picture.size == (8, 8)
    assert capsys.readouterr() == ("", "looking\n")
