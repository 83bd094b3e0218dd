"""The office's tasks: right by construction, balanced, varied, and disjoint between the splits."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from openmodels.harbour import Harbour, desk, phrasing, phrasing_requests
from openmodels.harbour.desk import JUDGE_JSON_SYSTEM, TASKS, Desk, instances
from openmodels.harbour.desk_tasks import MODELS, problem
from openmodels.harbour.grammar import Grammar, in_words, parse
from openmodels.harbour.templates import TEXT_FACTS
from openmodels.harbour.text import INTENTS, UNKNOWN
from openmodels.harbour.varied import VARIED, with_gender
from openmodels.harbour.world import DAYS, GOODS, NAMES, SHIPS, SHOPS
from openmodels.minis.data import encode
from openmodels.minis.tokenizer import SHIPPED

ROOT = Path(__file__).parents[2]
COUNT = 300


def sample(task: str, split: str = "train", seed: int = 0, count: int = COUNT) -> list:
    source = Desk(seed, split)
    return [getattr(source, task)() for _ in range(count)]


def question(instance) -> str:
    return instance.messages[-2]["content"]


def answer(instance) -> str:
    return instance.answer["content"]


# --- Grammar --------------------------------------------------------------------------------------


def grammar(test: bool, seed: int = 0) -> Grammar:
    import random

    return Grammar(random.Random(seed), test, {"greet": "hi|~hey"})


def test_only_the_test_split_uses_held_out_alternatives():
    template = "<greet> [a [b|~c]|~d]"
    train = {grammar(False, seed).expand(template) for seed in range(60)}
    test = {grammar(True, seed).expand(template) for seed in range(200)}
    assert train == {"hi a b"}
    assert test == {"hi a b", "hi a c", "hi d", "hey a b", "hey a c", "hey d"}


@pytest.mark.parametrize("template", ["[a|b", "a]", "[[a]"])
def test_a_template_needs_matching_brackets(template):
    with pytest.raises(ValueError, match="bracket"):
        parse(template)


def test_numbers_in_words():
    import random

    assert in_words(random.Random(0), 7, 1.0) == "seven"
    assert in_words(random.Random(0), 77, 1.0) == "77"


def templates(value: object) -> list[str]:
    """Return every template of a table."""
    if isinstance(value, str):
        return [value]
    return [t for item in (value.values() if isinstance(value, dict) else value) for t in templates(item)]


@pytest.mark.parametrize("module", [phrasing, phrasing_requests])
def test_templates_are_well_formed_and_name_only_rules_that_exist(module):
    rules = phrasing.RULES | phrasing_requests.RULES
    tables = [v for k, v in vars(module).items() if k.isupper() and isinstance(v, dict | tuple)]
    for template in (t for table in tables for t in templates(table)):
        assert parse(template)
        assert set(re.findall(r"<(\w+)>", template)) <= set(rules), template


# --- Splits and seeds -----------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_instances(task):
    assert sample(task, count=40) == sample(task, count=40)
    assert sample(task, count=40) != sample(task, seed=1, count=40)


@pytest.mark.parametrize("task", TASKS)
def test_splits_share_no_instance(task):
    train, test = sample(task, count=2000), sample(task, "test", 1)
    assert not {i.key for i in train} & {i.key for i in test}
    train_texts = {json.dumps(i.messages) for i in train}
    assert not train_texts & {json.dumps(i.messages) for i in test}


def test_instances_are_distinct_and_an_unknown_task_is_rejected():
    keys = [i.key for i in instances("judge", 200)]
    assert len(set(keys)) == 200
    with pytest.raises(ValueError, match="unknown task"):
        next(instances("sums", 1))


# --- Rewriting questions --------------------------------------------------------------------------


def test_a_standalone_question_names_its_subject_and_keeps_the_slots():
    subjects = (*GOODS, *(p for p, _, _ in GOODS.values()), *SHOPS, *SHIPS, *NAMES, *DAYS)
    subjects = re.compile("|".join(sorted(map(re.escape, subjects), key=len, reverse=True)))
    for instance in sample("standalone", count=1000):
        text = answer(instance)
        assert text.endswith("?") and text[0].isupper()
        assert not re.search(r"\b(it|its|he|she|they|them|their|there)\b", text) or re.search(
            r"is (it|there)\b", text
        ), text
        assert subjects.search(text), text
        follow = question(instance).rsplit("Question: ", 1)[1]
        named = set(re.findall(subjects, follow))
        assert all(name in text for name in named if name[0].isupper()), (follow, text)


def test_a_fifth_of_the_last_questions_already_stand_alone():
    same = [
        question(i).lower().rstrip("?! ").endswith(answer(i).lower().rstrip("?").replace("'", "'"))
        for i in sample("standalone", count=1000)
    ]
    assert 0.12 < sum(same) / len(same) < 0.3


def test_a_compound_question_becomes_one_to_three_simple_ones():
    sizes = Counter()
    for instance in sample("decompose", count=1000):
        parts = json.loads(answer(instance))
        sizes[len(parts)] += 1
        assert len(set(parts)) == len(parts) or len(parts) > 1
        assert all(part.endswith("?") and part.count("?") == 1 for part in parts)
    assert set(sizes) == {1, 2, 3} and min(sizes.values()) > 80


def test_pronouns_follow_the_name():
    assert with_gender("where do they wait", "Ada") == "where does she wait"
    assert with_gender("what is their debt", "Omar") == "what is his debt"
    assert with_gender("where can I meet them", "Agnes") == "where can I meet them"


# --- Judging --------------------------------------------------------------------------------------


def supported(content: str) -> None:
    """Fail unless the answer's value is in the text."""


@pytest.mark.parametrize("task, labels", [("judge", "yes no"), ("relevant", "yes no"), ("prefer", "A B")])
def test_both_answers_are_equally_frequent(task, labels):
    counts = Counter(answer(i) for i in sample(task, count=2000))
    assert set(counts) == set(labels.split())
    assert abs(counts.total() / 2 - min(counts.values())) < 120


def value_of(attribute: str, record: dict) -> str:
    return str(record[desk.VALUES[attribute]])


def test_a_wrong_record_never_has_the_right_value():
    source = Desk(3)
    for _ in range(400):
        _, stated, _ = source.free_text(3)
        for record, attribute in stated:
            false = source.wrong(record, attribute, stated)
            assert value_of(attribute, false) != value_of(attribute, record)
            assert value_of(attribute, false) in source.statement_of(false, attribute)


@pytest.mark.parametrize("task", ["judge_json", "judge"])
def test_a_judgement_agrees_with_the_facts_of_its_text(task):
    """Judge again from the pairs that the text states, with no use of the generator's label."""
    source, yes = Desk(5), 0
    for _ in range(600):
        _, stated, absent = source.free_text(2)
        (record, attribute), text, label, reason = source.judgement(stated, absent)
        known = {(r["subject"], b): value_of(b, r) for r, b in stated}
        value = known.get((record["subject"], attribute))
        if text == UNKNOWN:
            expected = value is None
        else:
            expected = value is not None and re.search(rf"\b{re.escape(value)}\b", text, re.I)
        # a number of the subject's name cannot be mistaken: subjects have none
        assert bool(expected) == label, (stated, text, attribute)
        assert (reason == UNKNOWN) == (value is None)
        assert value is None or value in reason
        yes += label
    assert 240 < yes < 360


def test_the_json_judgement_gives_its_reason_first():
    for instance in sample("judge_json"):
        assert instance.messages[0]["content"] == JUDGE_JSON_SYSTEM
        verdict = json.loads(answer(instance))
        assert list(verdict) == ["reason", "supported"]
        assert type(verdict["supported"]) is bool


def test_the_length_of_an_answer_says_nothing_about_its_rightness():
    longer = Counter()
    for instance in sample("prefer", count=3000):
        a, b = re.search(r"\nA: (.*)\nB: (.*)$", question(instance)).groups()
        if len(a) != len(b):
            longer["AB"[len(b) > len(a)] == answer(instance)] += 1
    assert 0.45 < longer[True] / longer.total() < 0.55


def test_hard_negatives_of_relevance_share_words_with_the_passage():
    shared = 0
    negatives = [i for i in sample("relevant", count=1000) if answer(i) == "no"]
    for instance in negatives:
        passage, text = question(instance).split("\nQuestion: ")
        names = re.findall("|".join((*SHIPS, *SHOPS, *NAMES, *GOODS)), text)
        shared += any(name in passage for name in names)
    assert 0.2 < shared / len(negatives) < 0.95


# --- Repair ---------------------------------------------------------------------------------------


def test_a_repair_is_valid_json_and_the_broken_one_gives_the_stated_error():
    errors = set()
    for instance in sample("repair", count=600):
        right, content = answer(instance), question(instance)
        broken, error = re.search(r"JSON: (.*)\nError: (.*)$", content, re.DOTALL).groups()
        keys = set(json.loads(right))
        model = next(m for m in MODELS.values() if set(m.model_fields) == keys)
        assert problem(model, right) is None
        assert problem(model, broken) == error
        errors.add(re.sub(r"\d+", "9", error))
    assert len(errors) > 40


def test_every_value_of_a_repair_can_be_read():
    """Each name and number of the answer occurs in the broken JSON or in the request."""
    for instance in sample("repair", count=600):
        content = question(instance).lower()
        for value in json.loads(answer(instance)).values():
            words = {str(value).lower(), in_words(Desk(0).rng, value, 1.0)} if isinstance(
                value, int) else {str(value).lower(), str(value)[:3].lower()}  # fmt: skip
            words |= {"dozen"} if value == 12 else set()
            words |= {"1 ", " a ", " an "} if value == 1 else set()
            assert any(word in content for word in words), (value, content)


# --- Plans ----------------------------------------------------------------------------------------


def test_a_plan_names_known_functions_with_their_arguments():
    counts = {"get_price": 2, "ferry_times": 2, "tide": 1, "book_berth": 3, "send_message": 2}
    sizes = Counter()
    for instance in sample("plan", count=600):
        steps = json.loads(answer(instance))
        sizes[len(steps)] += 1
        for step in steps:
            function, arguments = step.split(": ", 1)
            assert len(arguments.split(", ")) == counts[function]
    assert set(sizes) == {1, 2, 3}


# --- The older tasks in free phrasings ------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
def test_texts_and_questions_state_their_values(split):
    for task in ("varied_text_qa", "conversation_qa"):
        for instance in sample(task, split):
            text = instance.messages[0]["content"].split("\nQuestion: ")[0].lower()
            for message in instance.messages[1::2]:
                if message["content"] == UNKNOWN:
                    continue
                kind, attribute = next(
                    (kind, attribute)
                    for kind, facts in TEXT_FACTS.items()
                    for attribute, (_, _, form) in facts.items()
                    if re.fullmatch(re.sub(r"\\{\w+\\}", "(.+)", re.escape(form)), message["content"])
                )
                form = re.escape(TEXT_FACTS[kind][attribute][2])
                for value in re.fullmatch(
                    re.sub(r"\\{\w+\\}", "(.+)", form), message["content"]
                ).groups():
                    noun = value.lower().removeprefix("a ").removeprefix("an ")
                    plural = GOODS[noun][0] if noun in GOODS else noun
                    assert noun in text or plural in text, (value, text)


def test_orders_and_requests_contain_their_fields():
    for instance in sample("varied_order"):
        content, fields = question(instance).lower(), json.loads(answer(instance))
        assert list(fields) == ["name", "item", "quantity", "price", "day"]
        for key in ("name", "price", "day"):
            assert str(fields[key]).lower() in content
    for instance in sample("varied_tool"):
        [call] = instance.messages[1]["tool_calls"]
        for key, value in call["function"]["arguments"].items():
            if key != "nights" and key != "item":
                assert value.lower() in instance.messages[0]["content"].lower()
            if key == "text":
                assert value in instance.messages[0]["content"]


def test_every_intent_occurs():
    counts = Counter(answer(i) for i in sample("varied_intent", count=1200))
    assert set(counts) == set(INTENTS) and min(counts.values()) > 150


@pytest.mark.parametrize("task, least", [("varied_intent", 0.9), ("varied_order", 0.95),
    ("varied_tool", 0.9), ("varied_fact", 0.5), ("varied_text_qa", 0.99)])  # fmt: skip
def test_most_requests_are_distinct(task, least):
    texts = [i.messages[-2 if task != "varied_tool" else 0]["content"] for i in sample(task, count=2000)]
    assert len(set(texts)) > least * len(texts)


def test_free_phrasings_repeat_no_sentence_that_people_typed():
    path = ROOT / "tests" / "data" / "typed_by_hand.jsonl"
    typed = {
        message["content"].lower().strip(" .?!")
        for line in path.read_text(encoding="utf-8").splitlines()
        for message in json.loads(line)["messages"]
        if message["role"] == "user"
    }
    for task in VARIED:
        users = {
            message["content"].lower().strip(" .?!")
            for instance in sample(task, count=2000)
            for message in instance.messages
            if message["role"] == "user"
        }
        assert not users & typed, users & typed


# --- Lessons --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_conversations_are_short(task):
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED, trust_remote_code=False)
    source = Desk(2)
    lengths = [len(encode(tokenizer, getattr(source, task)(), 0.1).ids) for _ in range(60)]
    assert sorted(lengths)[-3] <= 500
    lessons = [len(encode(tokenizer, source.lesson({task: 1}), 0.1).ids) for _ in range(60)]
    assert sorted(lessons)[-6] <= 600


def test_a_lesson_has_several_answers_and_gives_the_text_once():
    lesson = Desk(1).lesson({"judge": 1})
    answers = [m["content"] for m in lesson.messages if m["role"] == "assistant"]
    assert len(answers) > 1 and set(answers) <= {"yes", "no"}
    assert sum(m["content"].startswith("Text: ") for m in lesson.messages) == 1


def test_a_lesson_of_an_older_task_is_that_of_the_harbour():
    assert Desk(4).lesson({"order": 1}).task == "order"
    assert isinstance(Desk(4), Harbour)
