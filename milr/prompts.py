"""A prompt: the text, and what a benchmark says must be in the picture.

Metadata has GenEval's form (`tag`, `include`, `exclude`); a plain prompt has none. Critics that need it say so
(`Reward.needs`), and the `geneval` critic can parse GenEval-style sentences when it is missing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from milr.errors import PromptError


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        text: what to draw; never empty.
        id: names the prompt in a run folder and seeds its noise; derived from text and metadata when not given.
        metadata: what a benchmark knows of it, e.g. GenEval's `tag`, `include` and `exclude`.
    """

    text: str
    id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise PromptError(f"a prompt is a text, not {self.text!r}.")
        if not self.text.strip():
            raise PromptError("the prompt is empty; say what to draw, e.g. --prompt 'a photo of a red apple'.")
        if not is_unicode([self.text, self.id, dict(self.metadata)]):
            raise PromptError(f"the prompt {self.text[:60]!r} is not valid UTF-8 text.")
        if not self.id:
            identity = json.dumps([self.text, self.metadata], sort_keys=True, default=str)
            object.__setattr__(self, "id", hashlib.sha256(identity.encode()).hexdigest()[:12])


def is_unicode(record: Any) -> bool:
    """Whether all texts of a record can be written as UTF-8: no lone surrogates, as undecodable bytes leave them."""
    return not any("\ud800" <= c <= "\udfff" for c in json.dumps(record, ensure_ascii=False, default=str))


def as_prompt(prompt: str | Prompt) -> Prompt:
    """The prompt itself, or a new one around a text."""
    return prompt if isinstance(prompt, Prompt) else Prompt(prompt)


def read_prompts(path: str | Path) -> list[Prompt]:
    """Prompts of a file: one text a line, or one JSON object with a "prompt" a line (GenEval's form).

    Empty lines are skipped. Repeated prompts are kept, each under an id of its own.

    Raises:
        PromptError: the file is missing, a folder, not UTF-8 text, empty, or has a malformed line.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise PromptError(f"there is no prompts file {str(path)!r}.") from None
    except OSError as error:
        raise PromptError(f"cannot read the prompts file {str(path)!r}: {error.strerror or error}.") from None
    return parse_prompts(content, str(path))


def read_prompts_from(stream: IO[bytes]) -> list[Prompt]:
    """Prompts of a binary stream, such as `sys.stdin.buffer`; the same form and errors as `read_prompts`."""
    return parse_prompts(stream.read(), "standard input")


def parse_prompts(content: bytes, source: str) -> list[Prompt]:
    """Prompts of a file's content; `source` names it in errors."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise PromptError(f"{source} is not UTF-8 text; give one prompt a line, or one JSON object a line.")
    prompts = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            prompts.append(_parse_line(line.strip(), f"{source}, line {number}"))
    if not prompts:
        raise PromptError(f"{source} has no prompts; give one prompt a line, or one JSON object a line.")
    return _with_distinct_ids(prompts)


def _parse_line(line: str, where: str) -> Prompt:
    if not line.startswith("{"):
        return Prompt(line)
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise PromptError(f"{where}: not valid JSON ({error.msg} at column {error.colno}).") from None
    except (ValueError, RecursionError):
        raise PromptError(f"{where}: a number or a nesting that is too large.") from None
    if not isinstance(record.get("prompt"), str) or not record["prompt"].strip():
        raise PromptError(f'{where}: a JSON line needs a "prompt" with some text.')
    identity = record.pop("id", None)
    text = record.pop("prompt")
    return Prompt(text, id="" if identity is None else safe_id(str(identity)), metadata=record)


def safe_id(identity: str) -> str:
    """Ids become file names: letters, digits, '-', '_' and '.' stay, anything else becomes '-'; 100 bytes at most."""
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in identity).lstrip(".")
    return safe.encode("utf-8", "replace")[:100].decode("utf-8", "ignore")


def _with_distinct_ids(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The same prompts; one whose id is taken gets the next free number behind it.

    Ids that differ in case alone count as the same: some file systems take them for one name.
    """
    taken = {prompt.id.casefold() for prompt in prompts}
    seen: set[str] = set()
    distinct = []
    for prompt in prompts:
        identity = prompt.id
        if identity.casefold() in seen:
            numbered = (f"{prompt.id}.{number}" for number in itertools.count(2))
            identity = next(name for name in numbered if name.casefold() not in taken)
            taken.add(identity.casefold())
        seen.add(identity.casefold())
        distinct.append(prompt if identity == prompt.id else Prompt(prompt.text, identity, prompt.metadata))
    return distinct
