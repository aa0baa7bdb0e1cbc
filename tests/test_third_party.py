"""A package of somebody else, exactly as docs/plugins.md writes it, in an environment of its own; and a broken one."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from milr.prompts import Prompt
from milr.rewards import Score, load_reward
from tests.plugin import write_plugin

DOCUMENT = Path(__file__).parent.parent / "docs" / "plugins.md"

pytest.importorskip("pip", reason="installs a package")


def write_documented(folder: Path) -> Path:
    """The files of the document; each block's first line is a comment with its name."""
    blocks = re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert [name for name, _ in blocks] == ["critics.py", "pyproject.toml", "milr_contrast.py", "milr_zoo.py"]
    for name, content in blocks:
        (folder / name).write_text(content)
    return folder


def write_broken(folder: Path) -> None:
    """A package that cannot be imported, as pip would leave it."""
    write_plugin(folder)
    (folder / "brightness.py").write_text("raise OSError('the disk is full')")
    (folder / "brightness-1.0.dist-info" / "entry_points.txt").write_text(
        "[milr.rewards]\nshattered = brightness:Any\n"
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of a new environment with the example, the broken package, and all that is installed here."""
    folder = tmp_path_factory.mktemp("third-party")
    venv.create(folder / "environment")
    (packages,) = (folder / "environment").glob("lib/python*/site-packages")
    (packages / "here.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    write_broken(packages)
    (folder / "example").mkdir()
    interpreter = str(folder / "environment" / "bin" / "python")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [interpreter, "-m", "pip", "install", *offline, str(write_documented(folder / "example"))], check=True
    )
    return interpreter


def milr(python: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [python, "-c", "from milr_cli.main import main; main()", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)


def test_the_function_of_the_document_scores_by_its_address(tmp_path: Path) -> None:
    write_documented(tmp_path)
    critic = load_reward(f"python:{tmp_path}/critics.py:warm")
    assert critic.score([Image.new("RGB", (4, 4), "red")], [Prompt("a sunset")]) == [Score(1.0)]


def test_it_is_listed_with_its_origin_and_a_broken_one_costs_one_warning(python: str, tmp_path: Path) -> None:
    listed = milr(python, "list", "rewards", folder=tmp_path)
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("contrast ")]
    assert "milr-contrast 1.0" in line
    assert "Apache-2.0" in line
    assert "How far light and dark are apart." in line
    assert any(line.startswith("geneval ") for line in listed.stdout.splitlines())
    (warning,) = [line for line in listed.stderr.splitlines() if "shattered" in line]
    assert "reward 'shattered' (brightness 1.0) is broken: OSError: the disk is full" in warning
    assert "Traceback" not in listed.stderr


def test_it_scores_with_its_option_and_the_broken_one_is_silent(python: str, tmp_path: Path) -> None:
    options = ["--reward", "contrast", "--set", "reward.contrast.enough=2", "--samples", "1", "--steps", "0"]
    drawn = milr(python, "generate", "--prompt", "a red apple", *options, "--json", "--out", "run", folder=tmp_path)
    result = json.loads(drawn.stdout)
    spread = ImageStat.Stat(Image.open(tmp_path / result["image"]).convert("L")).stddev[0] / 255
    assert result["reward"] == pytest.approx(spread / 2)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["reward_version"] == "1-2"
    assert "shattered" not in drawn.stderr


def test_its_benchmark_is_drawn_judged_and_laid_out_as_it_says(python: str, tmp_path: Path) -> None:
    evaluated = milr(
        python, "evaluate", "zoo", "--steps", "0", "--samples", "1", "--out", "run", "--json", folder=tmp_path
    )
    results = json.loads(evaluated.stdout)
    found = sorted(path.relative_to(tmp_path / "run" / "images").as_posix() for path in tmp_path.rglob("*.png"))
    assert found == [f"{tag}/{tag}-{n}-{i}.png" for tag in ("alone", "pairs") for n in range(2) for i in range(2)]
    assert (results["benchmark"], results["judge"]["name"], results["oracle"]) == ("zoo", "scenes-judge", False)
    assert set(results["judges"]["scenes-judge"]["figures"]) == {"overall", "images"}
