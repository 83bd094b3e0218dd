"""Lab 5's exercises name their known mistakes, and accept right answers in other forms."""

import json
import re
from dataclasses import replace
from difflib import SequenceMatcher

import pytest

from openmodels.check import NotYet, find
from openmodels.exercises.lab5 import (
    EXERCISES,
    ex_5_1_route,
    ex_5_2_tools,
    ex_5_3_rules,
    ex_5_4_media,
    ex_5_5_limits,
    ex_5_6_office,
    parts,
)
from openmodels.harbour.tools import WRITES
from openmodels.harbour.world import GOODS, NAMES, SHOPS
from openmodels.workflows import trace
from openmodels.workflows.calls import BudgetExceeded, count_usage
from openmodels.workflows.office_kit import GOODS_BY_WORD, claims, subjects, topic
from openmodels.workflows.office_request import Call, Reply, Source

NUMBERS = [exercise.number for exercise in EXERCISES]


def correct(number, *answers):
    outcome = find(number).load_checker().judge(*answers)
    assert outcome.state == "correct", outcome.message
    return outcome


def message(number, *answers):
    outcome = find(number).load_checker().judge(*answers)
    assert outcome.state != "correct"
    return outcome.message


def named(number):
    """Return (exercise, wrong answer) pairs as test parameters."""
    wrong = find(number).load_checker().wrong_answers
    return [pytest.param(number, answer, id=f"{number} {answer.name}") for answer in wrong]


def test_the_exercises_are_numbered_from_1():
    assert NUMBERS == [f"5.{place}" for place in range(1, 7)]
    assert all(len(exercise.hints) == 3 for exercise in EXERCISES)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_exercise_has_twelve_wrong_answers_with_messages_of_their_own(number):
    wrong = find(number).load_checker().wrong_answers
    assert len(wrong) >= 12
    assert len({answer.message for answer in wrong}) >= 12


@pytest.mark.parametrize(("number", "wrong"), [case for n in NUMBERS for case in named(n)])
def test_a_wrong_answer_gets_its_message(number, wrong):
    answers = wrong.answer if isinstance(wrong.answer, tuple) else (wrong.answer,)
    outcome = find(number).load_checker().judge(*answers)
    assert outcome.state == "not yet"
    assert wrong.matches(outcome.message), outcome.message


@pytest.mark.parametrize("number", NUMBERS[:5])
def test_the_references_are_right(number):
    correct(number, *parts.REFERENCES[number])


def test_the_reference_office_is_right_with_models_that_make_no_mistake():
    ex_5_6_office.expect_contract(ex_5_6_office.reference_build_office)


def test_a_stub_counts_as_not_attempted():
    def build_office(desk):
        raise NotImplementedError("replace this line with your code")

    outcome = find("5.6").load_checker().judge(build_office)
    assert outcome.state == "not attempted"


# --- 5.1 ------------------------------------------------------------------------------------------


def by_position(text, glossary):
    if all(not 0x4E00 <= ord(character) <= 0x9FFF for character in text):
        return text
    words, place = [""], 0
    while place < len(text):
        size = max((len(p) for p in glossary if text[place:].startswith(p)), default=0)
        if size:
            words += [glossary[text[place : place + size]], ""]
        else:
            words[-1] += text[place]
        place += max(size, 1)
    english = " ".join(" ".join(words).split())
    for mark, other in zip("？。，：！", "?.,:!", strict=True):
        english = english.replace(f" {mark}", other).replace(mark, other)
    return english


def by_loops(request, glossary, routes):
    english = by_position(request.text, glossary)
    head = english.split(":")[0].casefold()
    words = "".join(c if c.isalnum() or c == "_" else " " for c in head).split()
    matching = [name for name in routes for word in routes[name] if word in words]
    name = matching[0] if matching else "person"
    if request.sound:
        name = "sound"
    elif request.image:
        name = {"place_order": "form"}.get(name, "picture")
    return [name, english]


def test_a_router_by_position_and_loops():
    correct("5.1", by_position, by_loops)


@pytest.mark.parametrize(
    ("text", "english"),
    [("在船具店绳子多少钱？", "at the chandlery rope costs how much?"), ("面包面包店", "loaf the bakery")],
)
def test_the_glossary_keeps_the_order_of_phrases(text, english):
    assert ex_5_1_route.reference_to_english(text, ex_5_1_route.GLOSSARY) == english


# --- 5.2 ------------------------------------------------------------------------------------------


class Conversation:
    """The loop as an object with one method for each kind of message."""

    def __init__(self, ask, text, tools, call, approve, limit=4):
        self.ask, self.tools, self.call, self.approve = ask, tools, call, approve
        self.messages, self.limit = [dict(role="user", content=text)], limit
        self.calls, self.receipts, self.stopped = [], [], False

    def run(self):
        for _ in range(self.limit):
            message = self.ask(list(self.messages), self.tools)
            if not message.get("tool_calls"):
                return message["content"] or "There is no answer.", self.calls
            self.messages.append(message)
            for part in message["tool_calls"]:
                self.step(part)
                if self.stopped:
                    return "Nothing was written: the call was refused.", self.calls
        return "I did not finish.", self.calls

    def step(self, part):
        name, arguments = part["function"]["name"], json.loads(part["function"]["arguments"])
        result = next((r for n, a, r in self.receipts if (n, a) == (name, arguments)), None)
        if result is None:
            result = self.perform(name, arguments)
        content = json.dumps(result)
        self.messages.append({"role": "tool", "tool_call_id": part["id"], "content": content})

    def perform(self, name, arguments):
        if name not in {tool["function"]["name"] for tool in self.tools}:
            self.calls.append(Call(name, arguments, {"error": f"no tool {name}"}, "failed"))
            return self.calls[-1].result
        if name in WRITES and not self.approve(name, json.loads(json.dumps(arguments))):
            self.calls.append(Call(name, arguments, None, "denied"))
            self.stopped = True
            return None
        result = self.call(name, arguments)
        self.calls.append(Call(name, arguments, result, ["done", "failed"]["error" in result]))
        if name in WRITES and "error" not in result:
            self.receipts.append((name, arguments, result))
        return result


def test_a_tool_loop_as_an_object():
    correct("5.2", lambda *arguments: Conversation(*arguments).run())


def test_an_error_of_an_unknown_tool_may_have_any_words():
    def carry_out(*arguments):
        text, calls = ex_5_2_tools.reference_carry_out(*arguments)
        return text, tuple(calls)

    correct("5.2", carry_out)


# --- 5.3 ------------------------------------------------------------------------------------------


def by_generator(question, search, read):
    wanted = topic(question)
    names = [s for s in search(question) if not subjects(question) - subjects(s.text)]
    stated = [s for s in names if claims(s.text, wanted)][:3]

    def attempts():
        for source in stated:
            answer = read(question, [source.text])
            marks = re.findall(r"\[(.*?)\]", answer)
            values = claims(re.sub(r"\[.*?\]", " ", answer), wanted)
            if marks == ["1"] and values and not values - claims(source.text, wanted):
                yield answer, [source]

    return next(attempts(), ["I cannot answer: no rule states it.", []])


def test_rules_by_a_generator_that_returns_lists():
    correct("5.3", by_generator)


def test_claims_have_units():
    rule = "The first 12 lamps off the Heron are not taxed."
    assert claims(rule, "duty") == set()
    assert claims(rule, "allowance") == {"12"}
    assert claims("It is the pilot who reports lamps.", "declarer") == {"pilot"}
    assert topic("How many lamps can I bring without duty?") == "allowance"
    assert subjects("two ropes from Gull Island") == {"rope", "Gull Island"}


# --- 5.4 ------------------------------------------------------------------------------------------


def by_ratio(word, words):
    ratios = [(SequenceMatcher(None, known, word).ratio(), known) for known in words]
    best = max(ratios)
    return best[1] if best[0] >= 0.6 else None


def form_by_ratio(seen, text):
    try:
        form = json.loads(seen)
    except json.JSONDecodeError:
        return None
    if type(form) is not dict or not {"customer", "good", "quantity"} <= form.keys():
        return None
    shops = set(re.split(r"\W+", text)) & set(SHOPS)
    name, item = by_ratio(form["customer"], NAMES), by_ratio(form["good"], GOODS)
    quantity = form["quantity"]
    whole = type(quantity) is not bool and re.fullmatch(r"[1-9]\d*", str(quantity))
    if not (shops and name and item and whole):
        return None
    order = {"shop": shops.pop(), "quantity": int(quantity), "item": item, "name": name}
    return ["place_order", order]


def radio_by_sets(heard, text):
    good = [GOODS_BY_WORD[w] for w in re.split(r"\W+", heard.lower()) if w in GOODS_BY_WORD]
    shop = [shop for shop in SHOPS if shop in text]
    if good and shop and "price" in heard.lower():
        return ["get_price", {"shop": shop[0], "item": good[0]}]
    people = sorted(set(re.split(r"\W+", text)) & set(NAMES))
    return ("send_message", dict(text=heard, to=people[0])) if people else None


def test_forms_and_calls_by_ratio_and_sets():
    correct("5.4", form_by_ratio, radio_by_sets)


def test_a_form_is_never_guessed():
    form = {"customer": "Ada", "good": "zzz", "quantity": 3}
    assert ex_5_4_media.reference_form_call(json.dumps(form), "at the smithy") is None


# --- 5.5 ------------------------------------------------------------------------------------------


def guard_by_words(text, markers):
    kept_sentences = []
    for sentence in re.findall(r".+?(?:[.!?](?= )|$)", text):
        padded = " " + re.sub(r"\W", " ", sentence.lower()) + " "
        if not any(f" {marker} " in padded for marker in markers):
            kept_sentences.append(sentence.strip())
    return " ".join(kept_sentences)


class Limited:
    """The wrapper as a callable object."""

    def __init__(self, handle, desk, budget):
        self.handle, self.desk, self.budget = handle, desk, budget

    def __call__(self, request, approve):
        with self.desk.recorder.chain("office", request.text) as span:
            usage, reply = self.counted(span, request, approve)
            trace.set_output(span, reply.text)
            identity = f"{span.get_span_context().trace_id:032x}"
        reply.usage, reply.trace = usage, identity
        return reply

    def counted(self, span, request, approve):
        reply = Reply("A part of the office failed.")
        try:
            with count_usage(self.desk.client, self.budget) as usage:
                reply = self.handle(request, approve)
        except BudgetExceeded as limit:
            reply = Reply(f"The budget ended this: {limit}")
        except Exception as error:
            trace.fail(span, error)
        return usage, reply


def test_a_guard_by_words_and_a_callable_object():
    correct("5.5", guard_by_words, lambda *arguments: Limited(*arguments))


def test_the_error_of_an_inner_office_is_not_shown():
    seen = ex_5_5_limits.observe(
        ex_5_5_limits.reference_within, ex_5_5_limits.Plan((0,), error="KeyError")
    )
    assert seen[0]["text"] == "a text about a failure"
    assert seen[0]["trace"][-1] == "an error"


# --- 5.6 ------------------------------------------------------------------------------------------


def test_an_office_in_chinese_that_says_no_more_than_the_values():
    def build_office(desk):
        office = ex_5_6_office.reference_build_office(desk)

        def short(request, approve):
            reply = office(request, approve)
            if any(call.state == "denied" for call in reply.calls):
                return replace(reply, text="没有写入。")
            if "do not say" in reply.text:
                return replace(reply, text="没有。")
            return replace(reply, text=f"回答：{reply.text}")

        return short

    ex_5_6_office.expect_contract(build_office)


def test_an_office_as_a_class():
    class Office:
        def __init__(self, desk):
            self.inner = ex_5_6_office.reference_build_office(desk)

        def __call__(self, request, approve):
            return self.inner(request, approve)

    ex_5_6_office.expect_contract(Office)


def test_an_office_that_reads_passages_with_several_sources():
    def build_office(desk):
        office = ex_5_6_office.reference_build_office(desk)

        def doubled(request, approve):
            reply = office(request, approve)
            return replace(reply, sources=reply.sources * 2)

        return doubled

    ex_5_6_office.expect_contract(build_office)


def test_an_office_without_the_model_for_known_tools():
    def refuse_all(desk):
        def office(request, approve):
            return Reply("No.", (Source("D0001", "x"),))

        return office

    with pytest.raises(NotYet, match="Most missed"):
        ex_5_6_office.expect_contract(refuse_all)


def test_working_takes_references_for_what_is_not_right(capsys):
    broken = parts.working("5.3", lambda question, search, read: None)
    assert broken == parts.REFERENCES["5.3"]
    assert "the reference" in capsys.readouterr().out
    assert parts.working("5.3", by_generator) == (by_generator,)
