"""`milr generate`: what to draw, gathered and refused where it cannot be; `drawing` carries it out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from milr.errors import PromptError, UsageError
from milr.prompts import Prompt, read_prompts, read_prompts_from

from .arguments import Whole, user_path
from .gathering import Asked, check_resumed, gather, new_folder
from .options import drawing_options


@click.command()
@click.option("--prompt", multiple=True, metavar="TEXT", help="What to draw; may be given several times.")
@click.option("--prompts", metavar="FILE", help="A prompt or a JSON object with a 'prompt' a line; - is stdin.")
@click.option("--images", type=Whole(1), default=1, show_default=True, help="Pictures wanted per prompt.")
@drawing_options
@click.pass_context
def generate(context: click.Context, /, **_: Any) -> int:
    """Draw prompts, and search for better pictures of them.

    A search decodes SAMPLES x (1 + STEPS) pictures at most; it stops early where its critic is satisfied.
    """
    both = ("prompt", "prompts")
    asked = gather(context, instead=dict.fromkeys(both, both), protocols={})
    prompts = _prompts(asked)
    out = asked.out or new_folder(prompts[0].text)
    check_resumed(asked.settings, asked.saved, out)

    from .drawing import draw

    return draw(asked.settings, prompts, out)


def _prompts(asked: Asked) -> Sequence[Prompt]:
    texts, file = asked.settings["prompt"], asked.settings["prompts"]
    if texts and file:
        raise UsageError("give --prompt or --prompts, not both.")
    if file:
        if file != "-":
            return read_prompts(user_path(file, "--prompts"))
        if sys.stdin is None:
            raise UsageError("--prompts - reads standard input, which is closed.")
        return read_prompts_from(sys.stdin.buffer)
    if not texts and asked.saved is not None:
        return asked.saved.prompts
    if not texts:
        raise UsageError("nothing to draw; give --prompt TEXT, --prompts FILE, or --resume with the --out of a run.")
    if len(set(texts)) < len(texts):
        raise PromptError("a prompt is given twice; for two pictures of one prompt use --images 2.")
    return [Prompt(text) for text in texts]
