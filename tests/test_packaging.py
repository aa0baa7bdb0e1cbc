"""What is installed: every package and data file of the tree, light imports, a public surface that is meant."""

from __future__ import annotations

import configparser
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from PIL import Image

import milr
from milr.plugins import KINDS

ROOT = Path(__file__).parent.parent
FOLDERS = {"milr": "milr", "benchmarks": "milr_benchmarks", "cli": "milr_cli", "rewards": "milr_rewards"}


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_every_package_of_the_tree_is_installed() -> None:
    there = {
        ".".join((FOLDERS[folder], *init.parent.relative_to(ROOT / folder).parts))
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert set(setup_cfg()["options"]["packages"].split()) == there


def test_every_data_file_of_the_tree_is_installed() -> None:
    data = setup_cfg()["options.package_data"]
    for folder, package in FOLDERS.items():
        covered = {path for pattern in data.get(package, "").split() for path in (ROOT / folder).glob(pattern)}
        there = {path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        data_files = {path for path in there if path.suffix != ".py" and path.name != "README.md"}
        assert data_files == {path for path in covered if path.is_file() and path.name != "README.md"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_point_of_ours_can_be_loaded(kind: str) -> None:
    for entry_point in entry_points(group=f"milr.{kind}"):
        if entry_point.dist is not None and entry_point.dist.name == "milr":
            entry_point.load()


def test_the_version_stands_in_one_place() -> None:
    assert version("milr") == milr.__version__


def test_the_public_names_are_these() -> None:
    assert milr.__all__ == sorted(milr.__all__, key=lambda name: (not name[0].isupper(), name))
    assert set(milr.__all__) == {
        *("load_model", "load_reward", "refine", "Prompt", "Result", "Reward", "Score", "__version__"),
        *("MilrError", "UsageError", "UnknownNameError", "PromptError", "ModelError", "ResumeError"),
        "RunError",
    }
    for name in milr.__all__:
        assert getattr(milr, name) is not None


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'refien'"):
        milr.refien  # noqa: B018


@pytest.mark.parametrize("code", ["import milr", "import milr_cli.main", "import milr.plugins, milr.prompts"])
def test_imports_bring_no_torch(code: str) -> None:
    subprocess.run([sys.executable, "-c", f"import sys; {code}; assert 'torch' not in sys.modules"], check=True)


def test_help_needs_no_torch() -> None:
    code = "import sys, milr_cli.main as m; code = m.run(['generate', '--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_the_critic_in_the_readme_works(tmp_path: Path) -> None:
    block = (ROOT / "README.md").read_text("utf-8").split("# critics.py, ")[1].split("```")[0]
    (tmp_path / "critics.py").write_text("# " + block)
    critic = milr.load_reward(f"python:{tmp_path / 'critics.py'}:warm")
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    assert critic.score([red], [milr.Prompt("a red square")])[0].value == 1.0
