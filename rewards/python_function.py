"""The critic `python`: one function of yours, by its address.

    --reward python:mymodule:warm        --reward python:path/to/critics.py:warm

    def warm(image, prompt):        one picture and its text; a number, or a milr.rewards.Score
    def warm(images, prompts):      the same for a batch: lists in, a list out

Parameter names decide which it is. Modules are found as `python -m` finds them, in the current folder too. An edited
file is another critic: its version is a hash of the source. What that file imports is not looked at.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from PIL import Image

from milr.errors import UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

ONE, MANY = ("image", "prompt"), ("images", "prompts")

Function = Callable[..., Any]


class PythonFunction(Reward):
    """A function of yours: --reward python:MODULE:FUNCTION, or python:FILE.py:FUNCTION.

    Args:
        address: "MODULE:FUNCTION" or "FILE.py:FUNCTION".
        facts, device: unused.

    Raises:
        UsageError: the module cannot be imported, or the function takes other arguments.
        UnknownNameError: the module has no such function.
    """

    name = "python"
    licence = "your own"

    def __init__(self, *, address: str = "", facts: ModelFacts | None = None, device: str = "cpu") -> None:
        place, _, function = address.rpartition(":")
        if not place or not function:
            raise UsageError("reward 'python' needs a function; write --reward python:MODULE:FUNCTION.")
        module = _imported(place)
        self._function = _found(module, function, place)
        self._takes_many = _takes_many(self._function, address)
        self.name = f"python:{address}"
        self.version = f"1-{function}-{_source_hash(self._function, module)}"

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        texts = [prompt.text for prompt in prompts]
        images = [image.copy() for image in images]  # others look at these pictures too
        with redirect_stdout(sys.stderr):  # results are on stdout, and what a function prints is none
            if self._takes_many:
                return [_as_score(value) for value in self._function(images=images, prompts=texts)]
            pairs = zip(images, texts, strict=True)
            return [_as_score(self._function(image=image, prompt=text)) for image, text in pairs]


def _imported(place: str) -> ModuleType:
    try:
        if not place.endswith(".py"):
            with _importable(Path.cwd()):
                return importlib.import_module(place)
        path = Path(place).expanduser().resolve()
        if not path.is_file():
            raise UsageError(f"reward 'python': there is no file {str(path)!r}.")
        with _importable(path.parent):
            return _imported_file(path)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's code
        problem = " ".join(str(error).split()).rstrip(".")
        raise UsageError(f"reward 'python' cannot import {place!r}: {type(error).__name__}: {problem}.") from error


def _imported_file(path: Path) -> ModuleType:
    """A module of its own for each file: two of one name are two modules."""
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Modules of a folder come before all others, for a moment."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):  # the module may have set it to something else
            sys.path.remove(str(folder))


def _found(module: ModuleType, name: str, place: str) -> Function:
    function = getattr(module, name, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise UnknownNameError(f"function of {place!r}:", name, functions)
    return function


def _takes_many(function: Function, address: str) -> bool:
    """Whether a function takes a batch.

    Raises:
        UsageError: it takes neither a picture and its prompt nor lists of them.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of some built-in functions nobody knows
        parameters = []
    by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    variable = {p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    needed = {p.name for p in parameters if p.default is p.empty} - variable
    for names in (ONE, MANY):
        if by_name.issuperset(names) and needed.issubset(names) and not inspect.iscoroutinefunction(function):
            return names == MANY
    raise UsageError(
        f"reward 'python': {address!r} is no critic; write it as def {address.rpartition(':')[2]}(image, prompt), or "
        "(images, prompts) for a batch."
    )


def _source_hash(function: Function, module: ModuleType) -> str:
    """Twelve digits that change with the file in which a function stands, or with its module's where it has none."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # an object that can be called
        file = None
    path = Path(file or module.__file__ or "")
    content = path.read_bytes() if path.is_file() else b""
    return hashlib.sha256(content).hexdigest()[:12]


def _as_score(value: Any) -> Score:
    """A score of what a function returns.

    Raises:
        TypeError: it is neither a Score nor a number.
    """
    if isinstance(value, Score):
        return value
    if isinstance(value, str):
        raise TypeError(f"the function returned {value!r} where a number or a Score belongs")
    return Score(float(value))
