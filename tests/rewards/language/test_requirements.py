"""What a prompt's picture must show: metadata counts, then the sentence; malformed metadata is refused."""

from __future__ import annotations

from typing import Any

import pytest

from milr.errors import PromptError
from milr.prompts import Prompt
from milr_rewards.language.requirements import requirements_of

DOG = {"class": "dog", "count": 1}


def test_metadata_counts_more_than_the_sentence() -> None:
    prompt = Prompt("something fluffy", metadata={"tag": "single_object", "include": [DOG]})
    assert requirements_of(prompt).metadata == prompt.metadata


def test_without_metadata_the_sentence_is_parsed() -> None:
    assert requirements_of(Prompt("a dog", metadata={"source": "me"})).metadata["include"] == [DOG]


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"include": "dog"}, "must be lists"),
        ({"include": []}, "not both empty"),
        ({"include": ["dog"]}, "a clause looks like"),
        ({"include": [{"class": "dog"}]}, "a clause looks like"),
        ({"include": [DOG | {"count": 0}]}, "whole number"),
        ({"include": [DOG | {"count": "2"}]}, "whole number"),
        ({"include": [DOG | {"count": True}]}, "whole number"),
        ({"include": [DOG | {"class": "dgo"}]}, "knows no class 'dgo'; did you mean 'dog'?"),
        ({"include": [DOG | {"color": "gren"}]}, "knows no color 'gren'; did you mean 'green'?"),
        ({"include": [DOG, DOG | {"position": ["on", 0]}]}, "knows no relation 'on'"),
        ({"include": [DOG | {"position": ["above", 0]}]}, "earlier clause"),
        ({"include": [DOG, DOG | {"position": ["above", -1]}]}, "earlier clause"),
        ({"include": [DOG, DOG | {"position": "above"}]}, "a position looks like"),
        ({"include": [DOG], "exclude": [{"class": "unicorn", "count": 1}]}, "knows no class 'unicorn'"),
    ],
)
def test_malformed_metadata_is_refused(metadata: dict[str, Any], problem: str) -> None:
    with pytest.raises(PromptError, match="cannot grade a picture of 'a dog'") as refused:
        requirements_of(Prompt("a dog", metadata=metadata))
    assert problem in str(refused.value)


def test_a_detector_that_knows_less_refuses_more() -> None:
    with pytest.raises(PromptError, match="knows no class 'dog'"):
        requirements_of(Prompt("a dog"), classes=("cat",))
