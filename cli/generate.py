"""`milr generate`: what the user asks for, gathered and refused where it cannot be; `drawing` carries it out."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milr.errors import PromptError, UnknownNameError, UsageError
from milr.presets import PRESETS
from milr.prompts import Prompt, read_prompts, read_prompts_from

from .arguments import Number, Target, Whole, user_path
from .settings import Layer, Settings, checked_layer, command_line_layer, default_layer, file_layer, settle

if TYPE_CHECKING:
    from milr.run_identity import Identity

IDENTITY_FILE = "run.json"


@click.command()
@click.option("--prompt", multiple=True, metavar="TEXT", help="What to draw; may be given several times.")
@click.option("--prompts", metavar="FILE", help="A prompt or a JSON object with a 'prompt' a line; - is stdin.")
@click.option("--steps", type=Whole(), default=20, show_default=True, help="Steps after the model's own.")
@click.option("--samples", type=Whole(1), default=4, show_default=True, help="Pictures decoded per step.")
@click.option("--images", type=Whole(1), default=1, show_default=True, help="Pictures wanted per prompt.")
@click.option("--model", default="mini", show_default=True, help="A name of 'milr list models', a folder or a hub id.")
@click.option("--reward", multiple=True, metavar="NAME[=W]", help="Critic and its weight.  [default: the model's]")
@click.option("--combine", type=click.Choice(["sum", "min", "product"]), default="sum", help="Several critics as one.")
@click.option("--normalise", multiple=True, metavar="NAME=LOW:HIGH", help="Make its range 0 to 1; or NAME=zscore.")
@click.option("--gate", multiple=True, metavar="NAME=LEAST", help="Pictures with less of it come after all others.")
@click.option("--method", default="milr", show_default=True, help="A name of 'milr list methods'.")
@click.option("--order", metavar="ORDER", help="Which latents a step moves: short for --set method.NAME.order=.")
@click.option("--perturb", metavar="HOW", help="token or gaussian: short for --set method.NAME.perturb=.")
@click.option("--preset", metavar="NAME", help="Named settings, such as 'paper'; other options override them.")
@click.option("--guidance", type=Number(), help="Weight of classifier-free guidance.  [default: the model's]")
@click.option("--temperature", type=Number(min=0), help="Of image tokens; 0 is greedy.  [default: the model's]")
@click.option("--reasoning-temperature", type=Number(min=0), help="Of reasoning tokens.  [default: the model's]")
@click.option("--seed", type=Whole(most=2**63 - 1), default=0, show_default=True, help="Decides every random draw.")
@click.option("--batch", type=Whole(1), help="Searches that travel together.  [default: what fits into memory]")
@click.option("--overlap", is_flag=True, help="Score half of the searches while the other half is decoded.")
@click.option("--budget", type=Number(min=1), help="Pictures that one search may decode.")
@click.option("--target", type=Target(), help="Reward that is enough, or none.  [default: the critic's]")
@click.option("--keep", type=click.Choice(["best", "last"]), default="best", help="Picture returned.  [default: best]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16, float16.")
@click.option("--quantize", type=click.Choice(["int8", "fp8"]), help="Smaller weights, for a GPU (extra quant).")
@click.option("--out", metavar="DIR", help="Run folder.  [default: runs/TIME-PROMPT]")
@click.option("--keep-steps", is_flag=True, help="Keep every picture of every step.")
@click.option("--json", is_flag=True, help="One JSON object per image on stdout.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out; nothing else needs to be repeated.")
@click.option("--set", multiple=True, metavar="KEY=VALUE", help="Any plugin argument, e.g. method.milr.lr=0.01.")
@click.option("--config", metavar="FILE", help="YAML with any of these options.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.pass_context
def generate(context: click.Context, /, **_: Any) -> int:
    """Draw prompts, and search for better pictures of them.

    A search decodes SAMPLES x (1 + STEPS) pictures at most; it stops early where its critic is satisfied.
    """
    typed = command_line_layer(context)
    file = _file(context, typed)
    asked = file | typed
    out = user_path(asked["out"], "--out") if "out" in asked else None
    saved = _saved_run(out, bool(typed.get("resume")))
    preset = _preset(context, asked.get("preset"))
    settings = settle(typed, file, preset, _resumed(context, saved, out), default_layer(context))
    prompts = _prompts(settings, saved)
    out = out or _new_folder(prompts[0])
    _check_resumed(settings, saved, out)

    from .drawing import draw

    return draw(settings, prompts, out)


def _file(context: click.Context, typed: Layer) -> Layer:
    """What --config says; prompts on the command line replace the file's."""
    layer = file_layer(context, Path(typed["config"])) if "config" in typed else {}
    if "prompt" in typed or "prompts" in typed:
        return {name: value for name, value in layer.items() if name not in ("prompt", "prompts")}
    return layer


def _preset(context: click.Context, name: str | None) -> Layer:
    if name is None:
        return {}
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return checked_layer(context, PRESETS[name], f"preset {name!r}")


def _saved_run(out: Path | None, resume: bool) -> Identity | None:
    """The run to go on with; None for a new one."""
    if out is None:
        if resume:
            raise UsageError("--resume needs the folder of the run; add --out DIR.")
        return None
    from milr.run_identity import read_identity
    from milr.runs import check_folder

    if not resume:
        check_folder(out, resume)
        return None
    saved = read_identity(out)
    if saved is None:
        raise UsageError(f"there is no run to go on with in {out}: it has no {IDENTITY_FILE}.")
    return saved


def _resumed(context: click.Context, saved: Identity | None, out: Path | None) -> Layer:
    """The settings of the run to go on with; also what is decoded together, which moves the last bit of a sum."""
    if saved is None:
        return {}
    kept = dict(saved.config) | {name: saved.facts[name] for name in ("batch", "overlap") if name in saved.facts}
    kept |= saved.facts.get("incidental", {})
    return checked_layer(context, kept, f"{out}/{IDENTITY_FILE}")


def _check_resumed(settings: Settings, saved: Identity | None, out: Path) -> None:
    """What the user said must be what the run was made with; looked at before a model is loaded."""
    if saved is not None:
        from milr.run_identity import check_same_config

        said = {name: value for name, value in settings.said_configuration().items() if value != "auto"}
        check_same_config(saved.config, said, out)


def _prompts(settings: Settings, saved: Identity | None) -> Sequence[Prompt]:
    texts, file = settings["prompt"], settings["prompts"]
    if texts and file:
        raise UsageError("give --prompt or --prompts, not both.")
    if file:
        if file != "-":
            return read_prompts(user_path(file, "--prompts"))
        if sys.stdin is None:
            raise UsageError("--prompts - reads standard input, which is closed.")
        return read_prompts_from(sys.stdin.buffer)
    if not texts and saved is not None:
        return saved.prompts
    if not texts:
        raise UsageError("nothing to draw; give --prompt TEXT, --prompts FILE, or --resume with the --out of a run.")
    if len(set(texts)) < len(texts):
        raise PromptError("a prompt is given twice; for two pictures of one prompt use --images 2.")
    return [Prompt(text) for text in texts]


def _new_folder(prompt: Prompt) -> Path:
    """runs/TIME-PROMPT, with a number where there is one already."""
    words = "-".join(re.findall(r"[a-z0-9]+", prompt.text.lower()))[:40].strip("-")
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{words}".strip("-")
    candidates = (Path("runs") / (f"{name}-{number}" if number > 1 else name) for number in count(1))
    return next(folder for folder in candidates if not folder.exists())
