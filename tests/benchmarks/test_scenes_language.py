"""The words of scenes: tidy plans, GenEval's prompts, and a tokenizer that goes both ways."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from milr_benchmarks.scenes import language
from milr_benchmarks.scenes.concepts import CLASSES, geneval_plural, plural, with_article
from milr_benchmarks.scenes.language_model import TEXT_LENGTH
from milr_benchmarks.scenes.layout import lay_out
from milr_benchmarks.scenes.world import TAGS, Requests, Scenes, sample_requests
from milr_rewards.language.knowledge import HELD_OUT, TRAINED
from milr_rewards.language.sentences import parse


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
    generator = torch.Generator().manual_seed(7)
    requests = sample_requests(20_000, len(CLASSES), generator)
    prompts = language.prompts(requests, CLASSES, random.Random(0))
    plans = language.plans(lay_out(requests, generator, candidates=1), CLASSES)
    rows = [
        language.IMAGE_PROMPT.format(prompt=prompt, reasoning=plan) for prompt, plan in zip(prompts, plans, strict=True)
    ]
    backend = tokenizer.backend_tokenizer
    for encoded, row in zip(backend.encode_batch(rows, add_special_tokens=False), rows, strict=True):
        assert tokenizer.unk_token_id not in encoded.ids, row
        assert len(encoded) <= TEXT_LENGTH, row
    captions = backend.encode_batch(prompts, add_special_tokens=False)
    assert max(map(len, captions)) <= language.CAPTION_LENGTH


@pytest.mark.parametrize("tag", TAGS)
def test_the_critics_read_every_prompt_as_it_is_meant(tag: str) -> None:
    requests = sample_requests(400, len(CLASSES), torch.Generator().manual_seed(6), tag)
    rows = language.metadata(requests, CLASSES)
    for prompt, row in zip(language.prompts(requests, CLASSES, random.Random(1)), rows, strict=True):
        understood = parse(prompt)
        assert wishes(understood.metadata) == wishes(row), prompt
        assert not understood.unchecked, prompt


def wishes(metadata: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What is asked for in any order; "one" excludes two in words, and needs no saying where one is drawn."""

    def wish(clause: dict[str, Any]) -> str:
        relation, index = clause.get("position", ("", None))
        target = wish(metadata["include"][index]) if relation else ""
        return f"{clause['count']} {clause.get('color', '')} {clause['class']} {relation} {target}"

    excluded = [f"{clause['count']} {clause['class']}" for clause in metadata.get("exclude", ()) if clause["count"] > 2]
    return sorted(map(wish, metadata["include"])), sorted(excluded)


def test_most_prompts_are_in_the_words_of_geneval() -> None:
    requests = sample_requests(2000, len(CLASSES), torch.Generator().manual_seed(8))
    described = requests.tag == list(TAGS).index("knowledge")
    requests = requests[~described]
    official = language.official_prompts(requests, CLASSES)
    prompts = language.prompts(requests, CLASSES, random.Random(2))
    same = sum(mine == theirs for mine, theirs in zip(prompts, official, strict=True))
    assert 0.55 < same / len(prompts) < 0.7
    assert set(official[0].split()[:3]) == {"a", "photo", "of"}


def test_official_prompts_have_the_words_and_plurals_of_geneval() -> None:
    groups = {
        "label": [["knife", "bench", "bus", "dog", "cat"]],
        "color": [[1, 0, 0, 0, 0]],
        "count": [[3, 1, 0, 0, 0]],
        "relation": [[1, 0]],
    }
    label = torch.tensor([[CLASSES.index(name) for name in groups["label"][0]]])
    color, count, relation = (torch.tensor(groups[name]) for name in ("color", "count", "relation"))
    request = Requests(torch.zeros(1, dtype=torch.long), label, color, count, relation)
    assert language.official_prompts(request, CLASSES) == ["a photo of three red knifes left of a bench"]
    listed = Requests(request.tag, label, 0 * color, torch.ones(1, 5, dtype=torch.long), 0 * relation)
    assert language.official_prompts(listed, CLASSES) == ["a photo of a knife, a bench, a bus, a dog and a cat"]


def test_a_knowledge_prompt_is_a_trained_phrase_and_never_the_name() -> None:
    requests, _ = sample(300, "knowledge")
    for prompt, row in zip(
        language.prompts(requests, CLASSES, random.Random(3)), language.metadata(requests, CLASSES), strict=True
    ):
        assert any(prompt.endswith(phrase) for phrase in TRAINED[row["include"][0]["class"]])


def test_no_training_prompt_holds_a_held_out_phrase() -> None:
    requests = sample_requests(3000, len(CLASSES), torch.Generator().manual_seed(9))
    text = "\n".join(language.prompts(requests, CLASSES, random.Random(4)))
    assert not [phrase for phrases in HELD_OUT.values() for phrase in phrases if f" {phrase}\n" in text]


def test_capitals_and_punctuation_do_not_matter(tokenizer: PreTrainedTokenizerFast) -> None:
    shouted = tokenizer.encode("A PHOTO OF A Red Apple!", add_special_tokens=False)
    assert tokenizer.unk_token_id not in shouted
    assert shouted[:-1] == tokenizer.encode("a photo of a red apple", add_special_tokens=False)
    assert parse("A PHOTO OF A Red Apple!").metadata["include"] == [{"class": "apple", "count": 1, "color": "red"}]


@pytest.mark.parametrize(
    "question",
    [
        "Is there a red apple?",
        "are there three sofas in the picture?",
        "there's no bike, is there any?",
        "what color does the dog have, and which is above it?",
        "how many cats do you see below or at the left side of the bird?",
    ],
)
def test_questions_about_pictures_are_known_words(tokenizer: PreTrainedTokenizerFast, question: str) -> None:
    assert tokenizer.unk_token_id not in tokenizer.encode(question, add_special_tokens=False)


def test_the_vocabulary_is_small(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) <= 1000


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


def test_a_chain_of_relations_points_from_each_thing_to_the_one_before_it() -> None:
    requests, _ = sample(20, "two_relations")
    for row, labels in zip(language.metadata(requests, CLASSES), requests.label.tolist(), strict=True):
        assert [clause["class"] for clause in row["include"]] == [CLASSES[label] for label in labels[2::-1]]
        assert [clause.get("position", ["", None])[1] for clause in row["include"]] == [None, 0, 1]


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
