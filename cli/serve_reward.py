"""`milr serve-reward`: a critic for other processes and machines, until it is interrupted."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from milr.errors import UsageError
from milr.secrets import checked_variable

from .arguments import Number, Whole, parse_set, split_key
from .settings import Settings

if TYPE_CHECKING:
    from milr.rewards import Reward

# One of each kind that critics may want.
_SENTENCES = ("a red apple on the left of a dog", "a photo of a red apple", "a dog in front of a cat", "two dogs")


@click.command("serve-reward")
@click.argument("names", nargs=-1, required=True, metavar="NAME[=W]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Others than this machine need a token.")
@click.option("--port", type=Whole(most=65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--model", default="mini", show_default=True, help="Whose pictures are scored, of 'milr list models'.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--set", multiple=True, metavar="KEY=VALUE", help="An option of the critic: reward.NAME.OPTION=VALUE.")
@click.option(
    "--token-variable",
    default="MILR_REWARD_TOKEN",
    show_default=True,
    metavar="NAME",
    help="Environment variable; when it is set, requests must carry its value.",
)
@click.option("--max-megabytes", type=Number(min=0.001), default=64, show_default=True, help="Of one request.")
@click.option("--batch", type=Whole(1), default=64, show_default=True, help="Pictures scored at once.")
@click.option(
    "--wait-milliseconds", type=Number(min=0), default=5, show_default=True, help="A picture waits so long for others."
)
def serve_reward(
    names: Sequence[str],
    host: str,
    port: int,
    model: str,
    device: str,
    set: Sequence[str],  # noqa: A002
    token_variable: str,
    max_megabytes: float,
    batch: int,
    wait_milliseconds: float,
) -> None:
    """Serve a critic, or the weighted sum of several, over HTTP.

    \b
    milr serve-reward geneval
    milr generate --prompt "two cats" --reward http://127.0.0.1:8000
    """
    _check_installed()
    from milr_rewards.serving.app import create_app, server_of
    from milr_rewards.serving.wire import checked_token, is_loopback

    checked_variable(token_variable, "--token-variable")
    token = checked_token(os.environ.get(token_variable), token_variable)
    if not is_loopback(host) and token is None:
        raise UsageError(
            f"--host {host} lets other machines in, and they need a token; put one into the environment variable "
            f"{token_variable}, here and there."
        )
    reward = _loaded(names, model, device, Settings(dict(map(parse_set, set)), frozenset()))
    app = create_app(
        reward,
        token=token,
        most_bytes=int(max_megabytes * 1e6),
        batch=batch,
        wait=wait_milliseconds / 1000,
        model=model,
    )
    with _listening(host, port) as listening:
        url = _url(host, listening.getsockname()[1])
        click.echo(f"milr: {reward.name} is served at {url}; use it with: --reward {url}", err=True)
        server_of(app).run([listening])


def _check_installed() -> None:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"milr serve-reward needs the package {error.name!r}; install it with: pip install 'milr[serve]'"
        ) from error


def _loaded(names: Sequence[str], model: str, device: str, settings: Settings) -> Reward:
    """The critic with its weights: what is missing is said now, and not to the first client."""
    from milr.errors import PromptError
    from milr.models.loading import resolve_device
    from milr.prompts import Prompt
    from milr.rewards import check_prompt, load_reward, parse_reward

    from .critics import facts_of_pictures_by

    served = {parse_reward(name).plugin for name in names}
    for key in settings.values:
        kind, plugin, _ = split_key(key)
        if kind != "reward" or plugin not in served:
            raise UsageError(f"--set {key}: what is served is {' + '.join(names)}.")
    options = settings.plugin_options("reward")
    reward = load_reward(names, facts_of_pictures_by(model), str(resolve_device(device)), options)
    for text in _SENTENCES:  # critics load when they are asked about a prompt that they can score
        with suppress(PromptError):
            check_prompt(reward, Prompt(text, metadata={"explanation": text}))
            break
    return reward


def _listening(host: str, port: int) -> socket.socket:
    from milr_rewards.serving.app import listen

    try:
        return listen(host, port)
    except OSError as error:
        raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror or error}.") from error


def _url(host: str, port: int) -> str:
    """How others reach it."""
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
