"""The entry point: the group of commands, and the one place where an error becomes a line and an exit code.

Exit codes: 0 done; 1 a failure during the run, what was done is kept; 2 wrong use, nothing written; 130 interrupted.
Nothing heavy is imported here, so that `milr --help` is quick.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Sequence

import click

from milr import __version__
from milr.errors import MilrError

from .compare import compare
from .data import data
from .doctor import doctor
from .evaluate import evaluate
from .generate import generate
from .listing import list_plugins
from .merge import merge
from .score import score
from .serve_reward import serve_reward

INTERRUPTED = 130
_BUSY = 0.5  # processes that want a core, the last minute's average


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="milr")
def milr() -> None:
    """Improve the images of a frozen unified model by searching its latents."""


milr.add_command(generate)
milr.add_command(evaluate)
milr.add_command(score)
milr.add_command(merge)
milr.add_command(compare)
milr.add_command(list_plugins)
milr.add_command(data)
milr.add_command(doctor)
milr.add_command(serve_reward)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    try:
        return milr.main(arguments, prog_name="milr", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return _say(error.format_message(), error.exit_code)
    except MilrError as error:
        return _say(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted.", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output is gone; leave nothing for the interpreter to flush into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # What milr writes to a disk has errors of its own: without a name, it is our output that is full.
        where = error.filename or ("stdout" if error.errno == errno.ENOSPC else "")
        return _say(f"{error.strerror or error}{f': {where}' if where else ''}.", 1)


def main() -> None:
    """Entry point of the `milr` script."""
    _set_up_logging()
    _wait_as_the_load_allows()
    sys.exit(run())


def _wait_as_the_load_allows() -> None:
    """Threads that spin while they wait decode twice as fast on idle cores, and up to ten times as slow on busy ones.

    Four pictures of `mini` on two cores: spinning 0.9 s, beside one busy process 3.7 s, beside more 9 s; sleeping 1.8 s
    and 2.0 s. What is said here is read when torch loads.
    """
    if os.getloadavg()[0] > _BUSY:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _set_up_logging() -> None:
    """Warnings of milr are lines like its others; torchao makes torch warn of what nobody can help."""
    lines = logging.StreamHandler()
    lines.setFormatter(logging.Formatter("milr: %(message)s"))
    for room in ("milr", "milr_rewards", "milr_benchmarks"):
        logger = logging.getLogger(room)
        logger.handlers = [lines]
        logger.propagate = False
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)


def _say(message: str, exit_code: int) -> int:
    click.echo(f"milr: {' '.join(message.split())}", err=True)
    return exit_code
