"""Lab 4's exercises 4.1, 4.2, 4.3 and 4.7 accept right answers written in other ways."""

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from openmodels.check import find
from openmodels.exercises.lab4 import ex_4_2_repair, scripted_replies

NUMBERS = ["4.2"]


def correct(number, *answers) -> bool:
    outcome = find(number).load_checker().judge(*answers)
    assert outcome.state == "correct", outcome.message
    return True


@pytest.mark.parametrize("number", NUMBERS)
def test_an_exercise_has_twelve_wrong_answers_with_messages_of_their_own(number):
    wrong = find(number).load_checker().wrong_answers
    assert len(wrong) >= 12
    assert len({answer.message for answer in wrong}) >= 12


# --- 4.2: repair ----------------------------------------------------------------------------------


def test_example_of_the_repair_loop():
    script = scripted_replies.Script(
        (scripted_replies.Reply(scripted_replies.MANY), scripted_replies.Reply(
            scripted_replies.RIGHT)), attempts=3,
    )  # fmt: skip
    run = scripted_replies.run_script(ex_4_2_repair.reference_record, script)
    record = {"item": "rope", "quantity": 3, "price": 12}
    assert run.result == (("Order", record), "valid", 2)
    assert run.calls == (("request", "request"), ("request", "request", "reply 1", "error 1"))


def test_a_message_about_an_invalid_reply_needs_each_field_and_its_problem():
    words = scripted_replies.needed_words(scripted_replies.BOTH, scripted_replies.Order)
    assert [word for word in words if word in ("item", "price", "quantity")] == ["item", "price"]
    assert "Input should be greater than or equal to 2" in words
    assert scripted_replies.needed_words(scripted_replies.RIGHT, scripted_replies.Order) == []


def test_repair_by_recursion():
    def get_record(ask, messages, record_class, attempts, number=1, replies=()):
        choice = ask(messages)
        message = choice.message
        if message.refusal is not None or choice.finish_reason == "content_filter":
            return (None, "refused", number)
        if choice.finish_reason == "length":
            return (None, "cut", number)
        try:
            return (record_class.model_validate_json(message.content or ""), "valid", number)
        except ValidationError as error:
            if (message.content or "") in replies:
                return (None, "repeated", number)
            if number == attempts:
                return (None, "invalid", number)
            more = [*messages, message, {"role": "user", "content": f"Errors: {error}"}]
        replies = (*replies, message.content or "")
        return get_record(ask, more, record_class, attempts, number + 1, replies)

    assert correct("4.2", get_record)


def test_repair_with_json_and_sentences_of_its_own():
    def problems(record_class, text):
        try:
            return record_class.model_validate(json.loads(text)), ""
        except json.JSONDecodeError as error:
            return None, f"This is not JSON: {error}."
        except ValidationError as error:
            lines = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            return None, "\n".join(lines)

    def get_record(ask, messages, record_class, attempts):
        history, replies, number = [dict(m) for m in messages], set(), 0
        while number < attempts:
            choice, number = ask(history), number + 1
            if choice.message.refusal or choice.finish_reason == "content_filter":
                return [None, "refused", number]
            if choice.finish_reason == "length":
                return [None, "cut", number]
            text = choice.message.content or ""
            record, problem = problems(record_class, text)
            if record is not None:
                return [record, "valid", number]
            if text in replies:
                return [None, "repeated", number]
            replies.add(text)
            history = [*history, {"role": "assistant", "content": text}]
            history.append({"role": "user", "content": f"{problem}\nReturn the corrected JSON."})
        return [None, "invalid", number]

    assert correct("4.2", get_record)


def test_repair_with_a_type_adapter_and_one_exit():
    def get_record(ask, messages, record_class, attempts):
        adapter, sent, counts = TypeAdapter(record_class), list(messages), {}
        record, reason, number = None, None, 0
        while reason is None:
            number += 1
            choice = ask(sent)
            text = choice.message.content or ""
            counts[text] = counts.get(text, 0) + 1
            if choice.message.refusal or choice.finish_reason == "content_filter":
                reason = "refused"
            elif choice.finish_reason == "length":
                reason = "cut"
            else:
                try:
                    record, reason = adapter.validate_json(text), "valid"
                except ValidationError as error:
                    sent += [{"role": "assistant", "content": text}]
                    sent += [{"role": "user", "content": json.dumps(error.errors(), default=str)}]
                    late = "invalid" if number == attempts else None
                    reason = "repeated" if counts[text] > 1 else late
        return record, reason, number

    assert correct("4.2", get_record)


def test_repair_as_an_object():
    class Repair:
        def __call__(self, ask, messages, record_class, attempts):
            texts, sent = [], tuple(messages)
            for number, _ in enumerate(range(attempts), start=1):
                choice = ask(list(sent))
                match choice.finish_reason, choice.message.refusal:
                    case ("content_filter", _) | (_, str()):
                        return None, "refused", number
                    case ("length", _):
                        return None, "cut", number
                texts.append(choice.message.content)
                try:
                    record = record_class.model_validate_json(texts[-1] or "")
                except ValidationError as error:
                    if texts.count(texts[-1]) > 1:
                        return None, "repeated", number
                    reply = {"role": "assistant", "content": texts[-1]}
                    sent += (reply, {"role": "user", "content": str(error)})
                else:
                    return record, "valid", number
            return None, "invalid", attempts

    assert correct("4.2", Repair())
