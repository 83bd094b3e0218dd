"""Port Lark's promises: right answers, no instance in both splits, the same bytes everywhere."""

import functools
import itertools
import json
import os
import re
import subprocess
import sys
from string import Formatter

import pytest

from openmodels.harbour import SCHEMAS, TASKS, Harbour, instances, text
from openmodels.harbour.text import (
    HELD_OUT_PHRASINGS,
    HELD_OUT_SHARE,
    REQUESTS,
    SHOP_FACTS,
    TEXT_FACTS,
    UNKNOWN,
    held_out,
)
from openmodels.harbour.world import DAYS, GOODS, NAMES, PLACES, SHIPS, SHOPS, TOWN_FACTS, WORDS
from openmodels.minis.train import RECIPES

SEEDS = (0, 1, 7)
COUNT = 300  # instances drawn per task and split


def drawn(task: str, split: str, seed: int, count: int = COUNT) -> list:
    source = Harbour(seed, split)
    return [getattr(source, task)() for _ in range(count)]


def shown(instance) -> str:
    """Everything of an instance that is read, the right answer included."""
    return json.dumps([instance.messages, instance.tools])


def question(instance) -> str:
    return instance.messages[-2]["content"]


def answer(instance) -> str:
    return instance.answer["content"]


# --- Train and held-out ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", TASKS)
def test_splits_share_no_key_and_no_text(task, seed):
    train, test = drawn(task, "train", seed), drawn(task, "test", seed + 1)
    assert {one.key for one in train} & {one.key for one in test} == set()
    assert {shown(one) for one in train} & {shown(one) for one in test} == set()


def test_splits_share_no_notice_of_one_sentence():
    """Short texts repeat soonest: a shop, an hour and a way of asking are few combinations."""

    def keys(split: str) -> set[str]:
        source = Harbour(1, split)
        return {source.text_questions(1, records=1).key for _ in range(3000)}

    assert sorted(keys("train") & keys("test")) == []


@pytest.mark.parametrize("function", SCHEMAS)
def test_splits_share_no_tool_call(function):
    def requests(split: str) -> set[str]:
        source = Harbour(1, split)
        drawn = (source.tool_conversation([function], [function]) for _ in range(3000))
        return {json.dumps(one.messages[:-1]) for one in drawn}

    assert sorted(requests("train") & requests("test")) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_orders_hold_out_the_name_with_the_good(seed):
    def pairs(split: str) -> list[tuple[str, str]]:
        fields = [json.loads(answer(one)) for one in drawn("order", split, seed)]
        return [(one["name"], one["item"]) for one in fields]

    assert not any(held_out(*pair) for pair in pairs("train"))
    assert all(held_out(*pair) for pair in pairs("test"))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("kind", "attribute"), [("shop", "owner"), ("good", "seller"), ("ship", "captain")]
)
def test_texts_hold_out_the_name_with_its_subject(kind, attribute, seed):
    def pairs(split: str) -> list[tuple[str, str]]:
        texts = [one.messages[0]["content"].split("\n")[0] for one in drawn("text_qa", split, seed)]
        return [
            (slots["name"], slots[kind])
            for text in texts
            for slots in stated(text, TEXT_FACTS[kind][attribute][0])
        ]

    train, test = pairs("train"), pairs("test")
    assert train and test
    assert not any(held_out(*pair) for pair in train)
    assert all(held_out(*pair) for pair in test)


def test_sums_hold_out_the_pair_of_numbers():
    for split, expected in (("train", False), ("test", True)):
        for instance in drawn("sums", split, 1):
            assert held_out(*map(int, instance.key.split("+"))) is expected, instance.key


def test_about_one_combination_in_eight_is_held_out():
    pairs = list(itertools.product(NAMES, GOODS))
    share = sum(held_out(*pair) for pair in pairs) / len(pairs)
    assert share == pytest.approx(1 / HELD_OUT_SHARE, rel=0.1)


def pattern(phrasing: str) -> re.Pattern:
    """What a phrasing looks like with any of the world's words in its slots."""
    words = {
        "good": GOODS,
        "goods": [plural for plural, *_ in GOODS.values()],
        "a_good": [f"{article} {good}" for good in GOODS for article in ("a", "an")],
        "shop": SHOPS,
        "ship": SHIPS,
        "day": DAYS,
        "name": NAMES,
        "n": map(str, range(2, 21)),
    }
    parts = []
    for literal, slot, _, _ in Formatter().parse(phrasing):
        parts.append(re.escape(literal))
        if slot:
            parts.append(f"(?:{'|'.join(words[slot])})")
    return re.compile(rf"\b{''.join(parts)}\b", re.IGNORECASE)


UNTRAINED = [
    (intent, phrasing, pattern(phrasing))
    for intent, phrasings in REQUESTS.items()
    for phrasing in phrasings[-HELD_OUT_PHRASINGS:]
]


def test_held_out_phrasings_never_appear_in_training():
    source = Harbour(1, "train")
    lessons = [source.lesson({"intent": 1}) for _ in range(400)]
    lessons += [source.lesson(RECIPES["mini-qwen"].mix) for _ in range(400)]
    read = {m["content"] for one in lessons for m in one.messages if m["role"] == "user"}
    for intent, phrasing, found in UNTRAINED:
        same = [text for text in read if found.search(text)]
        assert same == [], f"{intent}: {phrasing}"


def test_intent_phrasing_uses_every_held_out_phrasing_and_no_other():
    used = set()
    for instance in drawn("intent_phrasing", "test", 1, 1000):
        phrasings = [
            phrasing
            for intent, phrasing, found in UNTRAINED
            if intent == answer(instance) and found.search(question(instance))
        ]
        assert phrasings, question(instance)
        used.update(phrasings)
    assert used == {phrasing for _, phrasing, _ in UNTRAINED}


# --- The same bytes everywhere --------------------------------------------------------------------

DIGEST = """
import hashlib, json
from openmodels.harbour import TASKS, Harbour, instances
source = Harbour(3, "train", invented=0.3)
mix = dict.fromkeys([task for task in TASKS if task != "intent_phrasing"], 1)
for task in TASKS:
    read = [[one.messages, one.tools, one.key] for one in instances(task, 30, seed=3)]
    print(task, hashlib.sha256(json.dumps(read).encode()).hexdigest()[:16])
lessons = [source.lesson(mix) for _ in range(200)]
read = [[one.messages, one.tools, one.key] for one in lessons]
print("lessons", hashlib.sha256(json.dumps(read).encode()).hexdigest()[:16])
"""


def test_a_seed_gives_the_same_bytes_in_every_process():
    def digests(hash_seed: str) -> dict[str, str]:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        out = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, check=True
        )
        return dict(line.split() for line in out.stdout.decode().splitlines())

    first = digests("0")
    assert set(first) == {*TASKS, "lessons"}
    for hash_seed in ("1", "2"):
        now = digests(hash_seed)
        assert [task for task in first if now[task] != first[task]] == []


@pytest.mark.parametrize("task", TASKS)
def test_seeds_matter(task):
    one, same, other = (list(map(shown, drawn(task, "train", seed, 30))) for seed in (1, 1, 2))
    assert one == same
    assert one != other


# --- Right answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_order_follows_from_its_text(split):
    for instance in drawn("order", split, 1):
        fields = json.loads(answer(instance))
        assert list(fields) == ["name", "item", "quantity", "price", "day"]
        text, count, item = question(instance), fields["quantity"], fields["item"]
        goods = item if count == 1 else GOODS[item][0]
        for part in (fields["name"], f"{count} {goods}", fields["day"], f"{fields['price']} coins"):
            assert re.search(rf"\b{part}\b", text), (part, text)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_sum_is_worked_out_digit_by_digit(split):
    for instance in drawn("sums", split, 1):
        one, two = map(int, re.findall(r"\d+", question(instance)))
        thought = re.fullmatch(r"<think>\n(.*)\n</think>\n\n(.*)", answer(instance), re.DOTALL)
        assert thought[2] == f"{one} + {two} = {one + two}"
        written = ""
        for line in thought[1].splitlines():
            step = re.fullmatch(r"\w+ (\d)\+(\d)\+(\d)=(\d+), write (\d)", line)
            if step:
                assert int(step[1]) + int(step[2]) + int(step[3]) == int(step[4])
                assert step[4][-1] == step[5]
            written = re.search(r"write (\d)$", line)[1] + written
        assert int(written) == one + two


def test_words_are_one_to_one():
    assert len(set(WORDS.values())) == len(WORDS)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_word_is_translated_in_the_direction_asked(split):
    english_of = {chinese: english for english, chinese in WORDS.items()}
    directions = set()
    for instance in drawn("words", split, 1):
        said = answer(instance)
        to_chinese = said in english_of
        word = english_of[said] if to_chinese else WORDS[said]
        asked = question(instance)
        assert re.search(rf"\b{word}\b" if to_chinese else word, asked), (asked, said)
        assert ("English" in asked or "mean" in asked) is not to_chinese
        directions.add(to_chinese)
    assert directions == {True, False}


def test_facts_are_those_of_the_world():
    of_the_town = {answer for _, answer in TOWN_FACTS.values()}
    for instance in drawn("fact", "train", 1):
        said = answer(instance)
        if said in of_the_town:
            continue
        shop = re.match(r"The (\w+) ", said)[1]
        slots = {"shop": shop, **vars(SHOPS[shop])}
        slots["sells"] = [GOODS[good][0] for good in SHOPS[shop].sells]
        assert said in {one.format(**slots) for _, one in SHOP_FACTS.values()}
        assert shop in question(instance)


SLOTS = {"name": r"[A-Z]\w+", "place": "(?:" + "|".join(PLACES) + ")"}  # "the dairy" is no name


@functools.cache
def sentence_pattern(sentence: str) -> re.Pattern:
    """Where a text says a sentence, with a group for each of its slots."""
    parts, seen = [], set()
    for literal, slot, _, _ in Formatter().parse(sentence):
        parts.append(re.escape(literal))
        if slot:
            parts.append(
                rf"(?P={slot})" if slot in seen else rf"(?P<{slot}>{SLOTS.get(slot, '[^.:?]+?')})"
            )
            seen.add(slot)
    end = "" if sentence[-1] in ".?" else r"\b"
    return re.compile(r"(?:^|(?<=[.] )|(?<=Text: ))" + "".join(parts) + end)


def stated(text: str, sentences: tuple[str, ...]) -> list[dict[str, str]]:
    """The slots of every place in a text that one of the sentences describes."""
    found = (sentence_pattern(sentence).finditer(text) for sentence in sentences)
    return [place.groupdict() for places in found for place in places]


def normal(slots: dict[str, str]) -> frozenset:
    """Slots with "A lamp" as "a lamp": the same thing at the beginning of a sentence."""
    return frozenset((key.lower(), value.lower()) for key, value in slots.items())


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("task", ["text_qa", "dialogue"])
def test_answers_are_stated_in_the_text_or_unknown(task, split):
    kinds_seen, unknown = set(), 0
    for instance in drawn(task, split, 1):
        text = instance.messages[0]["content"].split("\n")[0]
        asked = [m["content"].split("Question: ")[1] for m in instance.messages[::2]]
        said = [m["content"] for m in instance.messages[1::2]]
        for one, reply in zip(asked, said, strict=True):
            facts = [
                (kind, sentences, questions, template)
                for kind, attributes in TEXT_FACTS.items()
                for sentences, questions, template in attributes.values()
                if any(stated(one, (q,)) for q in questions)
            ]
            known = [
                normal(slots)
                for _, sentences, questions, _ in facts
                for slots in stated(text, sentences)
                if any(
                    normal(about) <= normal({**slots, **aliases(slots)})
                    for q in questions
                    for about in stated(one, (q,))
                )
            ]
            if reply == UNKNOWN:
                unknown += 1
                assert known == [], (text, one)
                continue
            replies = [
                normal(slots) for _, _, _, template in facts for slots in stated(reply, (template,))
            ]
            assert any(r == k for r in replies for k in known), (text, one, reply)
            kinds_seen.update(kind for kind, *_ in facts)
    assert kinds_seen == set(TEXT_FACTS)
    assert unknown


def test_alike_records_differ_in_their_subject_only():
    source = Harbour(1, "train")
    for alike in (1, 2):
        for _ in range(50):
            _, stated, absent = source.notice(3, alike)
            assert len({record["kind"] for record, _ in stated}) == 1
            said = [{a for r, a in stated if r is record} for record, _ in stated]
            assert all(attributes == said[0] and len(said[0]) == alike for attributes in said)
            assert len({record["subject"] for record, _ in stated}) * alike == len(stated)
            assert absent


def test_turned_sentences_name_the_value_first():
    assert text.value_first("ship", "captain") == (
        "{name} is captain of the {ship}.",
        "{name} commands the {ship}.",
    )
    assert text.value_first("shop", "place") == TEXT_FACTS["shop"]["place"][0]  # there is none


def aliases(slots: dict[str, str]) -> dict[str, str]:
    """A good's other slots, from the one a sentence fills: lamp, a lamp, A lamp."""
    for key in ("good", "a_good", "A_good"):
        if key in slots:
            good = slots[key].split()[-1]
            article = "an" if good[0] in "aeiou" else "a"
            return {"good": good, "a_good": f"{article} {good}"}
    return {}


def test_a_tool_call_follows_from_its_request():
    for instance in drawn("tool", "train", 1):
        request, call, response, final = instance.messages
        function = call["tool_calls"][0]["function"]
        schemas = {one["function"]["name"]: one["function"] for one in instance.tools}
        required = schemas[function["name"]]["parameters"]["required"]
        assert list(function["arguments"]) == required
        for value in function["arguments"].values():
            assert re.search(rf"\b{re.escape(str(value))}\b", request["content"])
        for value in json.loads(response["content"]).values():
            for one in value if isinstance(value, list) else [value]:
                assert one is True or re.search(rf"\b{one}\b", final["content"])


# --- instances() ----------------------------------------------------------------------------------


def test_an_unknown_task_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown task 'prices'; .* fact, intent, .*sentences"):
        next(instances("prices", 1))


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="split must be 'train' or 'test', not 'dev'"):
        next(instances("fact", 1, split="dev"))


def test_a_closed_world_has_its_limits():
    with pytest.raises(ValueError, match=r"fact has only \d+ different test instances, not 1500"):
        list(instances("fact", 1500))


@pytest.mark.parametrize("task", TASKS)
def test_instances_are_as_many_as_asked_and_all_different(task):
    found = list(instances(task, 64))
    assert {one.task for one in found} == {task}
    assert len({one.key for one in found}) == len(found) == 64


def test_invented_names_are_new():
    names = [json.loads(answer(one))["name"] for one in instances("order", 100, invented=1.0)]
    assert len(set(names)) > 80
    assert set(names) & set(NAMES) == set()
