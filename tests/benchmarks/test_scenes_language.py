"""The words of scenes: tidy plans, GenEval's prompts, and a tokenizer that goes both ways."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from milr_benchmarks.scenes import language
from milr_benchmarks.scenes.concepts import CLASSES, geneval_plural, plural, with_article
from milr_benchmarks.scenes.language_model import TEXT_LENGTH
from milr_benchmarks.scenes.world import TAGS, Requests, Scenes, lay_out, sample_requests


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """Saved and loaded, as the shipped one is."""
    folder = tmp_path_factory.mktemp("tokenizer")
    language.build_tokenizer().save_pretrained(str(folder))
    loaded: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
    return loaded


def sample(count: int, tag: str | None = None) -> tuple[Requests, Scenes]:
    generator = torch.Generator().manual_seed(5)
    requests = sample_requests(count, len(CLASSES), generator, tag)
    return requests, lay_out(requests, generator)


def test_every_prompt_and_plan_is_made_of_known_words_and_fits(tokenizer: PreTrainedTokenizerFast) -> None:
    requests, scenes = sample(2000)
    for prompt, plan in zip(
        language.prompts(requests, CLASSES, random.Random(0)), language.plans(scenes, CLASSES), strict=True
    ):
        ids = tokenizer.encode(language.IMAGE_PROMPT.format(prompt=prompt, reasoning=plan), add_special_tokens=False)
        assert tokenizer.unk_token_id not in ids, prompt
        assert len(ids) <= TEXT_LENGTH
        assert len(tokenizer.encode(prompt, add_special_tokens=False)) <= language.CAPTION_LENGTH


def test_a_plan_reads_tidily_and_encodes_to_the_same_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    plan = "four objects: a red apple, top left; a red apple, left; a red apple, bottom left; a dog, right."
    ids = tokenizer.encode(plan, add_special_tokens=False)
    assert tokenizer.decode(ids) == plan
    assert tokenizer.encode(tokenizer.decode(ids), add_special_tokens=False) == ids


def test_literal_special_tokens_encode_to_one_id_each(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer.encode("<bos>A photo of a dog<think>one object: a dog, left.<boi>", add_special_tokens=False)
    special = [tokenizer.convert_tokens_to_ids(name) for name in ("<bos>", "<think>", "<boi>")]
    assert [index for index in ids if index in special] == special
    assert ids[0] == special[0]
    assert ids[-1] == special[2]


def test_unknown_words_and_invented_entries_become_unk(tokenizer: PreTrainedTokenizerFast) -> None:
    for word in ("unicorn", "<spare>", "[UNK]", "dogcat"):
        assert tokenizer.unk_token_id in tokenizer.encode(word, add_special_tokens=False)


def test_plans_name_equal_things_in_reading_order() -> None:
    _, scenes = sample(300, "counting")
    for plan in language.plans(scenes, CLASSES):
        places = [clause.rsplit(", ", 1)[1].rstrip(".") for clause in plan.split(": ", 1)[1].split("; ")]
        order = [language.PLACES.index(place) for place in places]
        assert order == sorted(order)


def test_a_relation_names_its_target_first_in_the_metadata() -> None:
    requests, _ = sample(20, "position")
    for row in language.metadata(requests, CLASSES):
        assert "position" not in row["include"][0]
        assert row["include"][1]["position"][1] == 0


@pytest.mark.parametrize("tag", TAGS)
def test_every_tag_has_a_prompt(tag: str) -> None:
    requests, _ = sample(5, tag)
    assert all(language.prompts(requests, CLASSES, random.Random(0)))


@pytest.mark.parametrize(
    ("noun", "one", "official", "many"),
    [
        ("knife", "a knife", "knifes", "knives"),
        ("apple", "an apple", "apples", "apples"),
        ("bench", "a bench", "benchs", "benches"),
        ("bus", "a bus", "buses", "buses"),
        ("wine glass", "a wine glass", "wine glasses", "wine glasses"),
        ("person", "a person", "persons", "people"),
    ],
)
def test_nouns_have_an_article_and_two_plurals(noun: str, one: str, official: str, many: str) -> None:
    assert (with_article(noun), geneval_plural(noun), plural(noun)) == (one, official, many)


def test_a_saved_tokenizer_has_all_special_tokens(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    for name in language.SPECIAL_TOKENS:
        assert len(tokenizer.encode(name, add_special_tokens=False)) == 1
