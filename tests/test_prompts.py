"""Prompts are read from lines or JSON lines, each with an id that can name a file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from milr.errors import PromptError
from milr.prompts import Prompt, read_prompts, read_prompts_from


def test_a_text_file_has_one_prompt_a_line(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\ufeffa red apple\n\n  a dog  \n", "utf-8")
    assert [prompt.text for prompt in read_prompts(tmp_path / "prompts.txt")] == ["a red apple", "a dog"]


def test_a_json_line_carries_metadata_and_id() -> None:
    stream = io.BytesIO(b'{"prompt": "a dog", "id": "x/7", "tag": "single_object"}\n')
    (prompt,) = read_prompts_from(stream)
    assert prompt == Prompt("a dog", "x-7", {"tag": "single_object"})


def test_repeated_prompts_keep_ids_of_their_own() -> None:
    ids = [prompt.id for prompt in read_prompts_from(io.BytesIO(b"a dog\na dog\na cat\n"))]
    assert len(set(ids)) == 3
    assert ids[1] == f"{ids[0]}.2"


def test_a_numbered_id_never_takes_one_that_is_given() -> None:
    lines = [b'{"prompt": "a dog", "id": "a"}', b'{"prompt": "a cat", "id": "A"}', b'{"prompt": "a cow", "id": "a.2"}']
    ids = [prompt.id for prompt in read_prompts_from(io.BytesIO(b"\n".join(lines)))]
    assert ids == ["a", "A.3", "a.2"]


def test_an_id_is_short_enough_for_a_file_name() -> None:
    (prompt,) = read_prompts_from(io.BytesIO(('{"prompt": "a", "id": "' + "\u82f9" * 200 + '"}').encode()))
    assert 0 < len(prompt.id.encode()) <= 100


def test_a_line_separator_inside_a_json_text_does_not_end_the_line() -> None:
    (prompt,) = read_prompts_from(io.BytesIO('{"prompt": "a dog", "note": "one\u2028two"}'.encode()))
    assert prompt.metadata["note"] == "one\u2028two"


def test_the_same_text_has_the_same_id_anywhere() -> None:
    assert Prompt("a dog").id == read_prompts_from(io.BytesIO(b"a cat\na dog"))[1].id


def test_ids_cannot_leave_their_folder() -> None:
    (prompt,) = read_prompts_from(io.BytesIO(b'{"prompt": "a", "id": "../../etc/x"}'))
    assert "/" not in prompt.id
    assert not prompt.id.startswith(".")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no prompts"),
        (b"\n  \n", "has no prompts"),
        (b"\xff\xfe\x00\x01", "not UTF-8 text"),
        (b"a\x00b", "not UTF-8 text"),
        (b"a dog\n{bad json", "line 2: not valid JSON"),
        (b'{"text": "a dog"}', 'needs a "prompt"'),
        (b'{"prompt": "  "}', 'needs a "prompt"'),
        (b'{"prompt": "a", "n": ' + b"9" * 5000 + b"}", "too large"),
        (b'{"prompt": "a", "n": ' + b"[" * 100_000, "too large"),
        (b'{"prompt": "a \\ud800"}', "not valid UTF-8"),
        (b'{"prompt": "a", "n": "\\ud800"}', "not valid UTF-8"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(content: bytes, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        read_prompts_from(io.BytesIO(content))


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="there is no prompts file"):
        read_prompts(tmp_path / "nothing.txt")
    with pytest.raises(PromptError, match="cannot read"):
        read_prompts(tmp_path)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(PromptError, match="empty"):
        Prompt("  ")
