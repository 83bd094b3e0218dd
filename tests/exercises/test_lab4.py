"""Lab 4's exercises 4.1, 4.2, 4.3 and 4.7 accept right answers written in other ways."""

import base64
import hashlib
import itertools
import json
import re
import secrets
import string
import uuid
from collections import Counter, defaultdict

import pytest
from openai.types.chat import ChatCompletion
from pydantic import TypeAdapter, ValidationError

from openmodels.check import find
from openmodels.exercises.lab4 import (
    cache_keys,
    ex_4_1_router,
    ex_4_2_repair,
    ex_4_3_tool_loop,
    ex_4_7_cache,
    scripted_replies,
    scripted_tools,
)
from openmodels.harbour.text import INTENTS

NUMBERS = ["4.1", "4.2", "4.3", "4.7"]


def correct(number, *answers) -> bool:
    outcome = find(number).load_checker().judge(*answers)
    assert outcome.state == "correct", outcome.message
    return True


@pytest.mark.parametrize("number", NUMBERS)
def test_an_exercise_has_twelve_wrong_answers_with_messages_of_their_own(number):
    wrong = find(number).load_checker().wrong_answers
    assert len(wrong) >= 12
    assert len({answer.message for answer in wrong}) >= 12


# --- 4.1: a router --------------------------------------------------------------------------------


def test_examples_of_the_router():
    examples = [("Tide? Tide!", "tide"), ("low tide", "tide")]
    assert ex_4_1_router.reference_rules(examples, 2) == {"tide": "tide"}
    routes = ex_4_1_router.reference_route(
        ["Low tide?", "Hello", "Open?"], {"tide": "tide"}, lambda request: "Hours.", 1
    )
    assert routes == ["tide", "hours", "person"]


def test_the_reference_router_is_right_on_95_percent_within_the_budget():
    right, calls = ex_4_1_router.trial(ex_4_1_router.reference_rules, ex_4_1_router.reference_route)
    assert right >= 0.95 * ex_4_1_router.HELD_OUT
    assert 0 < calls <= ex_4_1_router.BUDGET


def test_a_router_with_counters():
    def learn_rules(examples, support):
        counts = defaultdict(Counter)
        for request, intent in examples:
            for word in {*re.split(r"[^a-z]+", request.lower())} - {""}:
                counts[word][intent] += 1
        return {
            word: intent
            for word, counter in counts.items()
            for intent, count in counter.items()
            if count >= support and len(counter) == 1
        }

    def route(requests, rules, classify, budget):
        calls = 0

        def one_route(request):
            nonlocal calls
            words = re.split(r"[^a-z]+", request.lower())
            match = {rules.get(word) for word in words} - {None}
            if len(match) == 1:
                return next(iter(match))
            if calls == budget:
                return "person"
            calls += 1
            reply = classify(request).strip().strip(".").strip().lower()
            return reply if reply in INTENTS else "person"

        return [one_route(request) for request in requests]

    assert correct("4.1", learn_rules, route)


def words_by_letter(text):
    letters = [x if x in string.ascii_letters else " " for x in text]
    return frozenset("".join(letters).lower().split())


def test_a_router_by_sets_of_examples():
    def learn_rules(examples, support):
        pairs = [(words_by_letter(request), intent) for request, intent in examples]
        rules = {}
        for word in set().union(*(words for words, _ in pairs)):
            intents = [intent for words, intent in pairs if word in words]
            if len(intents) >= support and intents.count(intents[0]) == len(intents):
                rules[word] = intents[0]
        return rules

    def route(requests, rules, classify, budget):
        replies = iter(range(budget))
        routes = ["person"] * len(requests)
        for place, request in enumerate(requests):
            matches = Counter(rules[word] for word in words_by_letter(request) if word in rules)
            if len(matches) == 1:
                (routes[place],) = matches
            elif next(replies, None) is not None:
                reply = re.sub(r"^[ .\n]+|[ .\n]+$", "", classify(request)).casefold()
                routes[place] = reply if reply in set(INTENTS) else "person"
        return routes

    assert correct("4.1", learn_rules, route)


def test_a_router_with_conflicts_removed():
    def learn_rules(examples, support):
        rules, counts, conflicts = {}, Counter(), set()
        for request, intent in examples:
            for word in words_by_letter(request):
                counts[word] += 1
                if rules.setdefault(word, intent) != intent:
                    conflicts.add(word)
        return {w: i for w, i in rules.items() if w not in conflicts and counts[w] >= support}

    def route(requests, rules, classify, budget):
        unclear, routes = [], {}
        for place, request in enumerate(requests):
            matches = [rules[word] for word in words_by_letter(request) & rules.keys()]
            if matches and all(match == matches[0] for match in matches):
                routes[place] = matches[0]
            else:
                unclear.append(place)
        for place in unclear[:budget]:
            reply = classify(requests[place]).strip(" .\n\t").lower()
            routes[place] = reply if INTENTS.count(reply) else "person"
        return tuple(routes.get(place, "person") for place in range(len(requests)))

    assert correct("4.1", learn_rules, route)


def test_a_router_by_recursion():
    def route(requests, rules, classify, budget):
        if not requests:
            return []
        head, *tail = requests
        match = {rules[word] for word in ex_4_1_router.words_of(head) if word in rules}
        if len(match) == 1:
            return [*match, *route(tail, rules, classify, budget)]
        if not budget:
            return ["person", *route(tail, rules, classify, 0)]
        reply = classify(head).lower().strip(" .\n")
        first = reply if reply in INTENTS else "person"
        return [first, *route(tail, rules, classify, budget - 1)]

    assert correct("4.1", ex_4_1_router.reference_rules, route)


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


# --- 4.3: a tool loop -----------------------------------------------------------------------------


def test_example_of_the_tool_loop():
    turns = ((None, (scripted_tools.book("a"),)), ("Booked.", ()))
    script = scripted_tools.Script(turns, {"book_berth": ("lost",)}, retries=1)
    run = scripted_tools.run_script(ex_4_3_tool_loop.reference_loop, script)
    arguments = json.dumps({"nights": 3, "ship": "Heron"})
    assert run.attempts == (("book_berth", arguments, 1), ("book_berth", arguments, 1))
    assert (run.booked, run.answer, run.shared) == (1, "Booked.", False)
    assert run.messages == (
        "request", "calls book_berth a", 'result of a: {"berth": 4}', "answer 'Booked.'",
    )  # fmt: skip


def test_a_double_booking_is_counted():
    turns = ((None, (scripted_tools.book("a"),)), ("Booked.", ()))
    script = scripted_tools.Script(turns, {"book_berth": ("lost",)})
    assert scripted_tools.run_script(ex_4_3_tool_loop.KeyPerAttempt(), script).booked == 2


def read_object(text):
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value if type(value) is dict else None


def test_a_tool_loop_by_recursion_over_attempts():
    def attempt(function, arguments, key, remaining):
        try:
            return function(arguments, key)
        except (ConnectionError, TimeoutError) as error:
            if remaining:
                return attempt(function, arguments, key, remaining - 1)
            return {"error": repr(error)}
        except Exception as error:
            return {"error": repr(error)}

    def run_loop(ask, messages, tools, steps, retries):
        history = [*messages]
        while steps > 0:
            steps -= 1
            message = ask(history)
            history += [message.model_dump(exclude_none=True)]
            if message.tool_calls is None:
                return message.content or "", history
            for call in message.tool_calls:
                arguments = read_object(call.function.arguments)
                function, safe = tools.get(call.function.name, (None, False))
                if function is None or arguments is None:
                    result = {"error": f"check the call {call.function}"}
                else:
                    key = secrets.token_hex(8)
                    result = attempt(function, arguments, key, retries * safe)
                content = json.dumps(result, ensure_ascii=False, indent=1)
                history += [{"content": content, "role": "tool", "tool_call_id": call.id}]
        return None, history

    assert correct("4.3", run_loop)


def test_a_tool_loop_with_numbered_keys_of_the_run():
    def run_loop(ask, messages, tools, steps, retries):
        run, numbers, history = uuid.uuid4(), itertools.count(), list(messages)

        def outcome(call):
            arguments, key = read_object(call.function.arguments), f"{run}/{next(numbers)}"
            if arguments is None or call.function.name not in tools:
                raise LookupError("unknown tool, or no JSON object")
            function, safe = tools[call.function.name]
            for remaining in range(retries if safe else 0, -1, -1):
                try:
                    return function(arguments, key)
                except (ConnectionError, TimeoutError):
                    if remaining == 0:
                        raise

        for _ in range(steps):
            history.append(ask(history))
            calls = history[-1].tool_calls or []
            for call in calls:
                try:
                    result = outcome(call)
                except Exception as error:
                    result = {"error": f"{type(error).__name__} {error}", "tool": call.id}
                history.append(
                    {"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)}
                )
            if not calls:
                return history[-1].content or "", history
        return (None, history)

    assert correct("4.3", run_loop)


def test_a_tool_loop_that_collects_the_results_of_a_step():
    def run_call(call, tools, retries, key):
        if call.function.name not in tools:
            return {"error": f"tools: {sorted(tools)}"}
        function, safe = tools[call.function.name]
        failures = []
        while True:
            try:
                arguments = json.loads(call.function.arguments)
                return function({**arguments}, key)
            except (TimeoutError, ConnectionError) as error:
                failures.append(error)
                if not safe or len(failures) > retries:
                    return {"error": f"{len(failures)} failures, the last {error!r}"}
            except Exception as error:
                return {"error": f"{error!r}"}

    def run_loop(ask, messages, tools, steps, retries):
        history = tuple(messages)
        for _ in range(steps):
            message = ask(history)
            calls = message.tool_calls or ()
            results = [run_call(call, tools, retries, str(uuid.uuid1())) for call in calls]
            history += (message,) + tuple(
                dict(role="tool", tool_call_id=call.id, content=json.dumps(result))
                for call, result in zip(calls, results, strict=True)
            )
            if not calls:
                return message.content or "", list(history)
        return None, list(history)

    assert correct("4.3", run_loop)


def test_a_tool_loop_as_an_object():
    class Loop:
        def __call__(self, ask, messages, tools, steps, retries):
            history = []
            for _ in range(steps):
                message = ask([*messages, *history])
                history.append(message)
                if not message.tool_calls:
                    return [message.content or "", [*messages, *history]]
                for call in message.tool_calls:
                    content = json.dumps(ex_4_3_tool_loop.reference_result(
                        call.function, tools, retries))  # fmt: skip
                    history.append({"role": "tool", "tool_call_id": call.id, "content": content})
            return [None, [*messages, *history]]

    assert correct("4.3", Loop())


# --- 4.7: a cache ---------------------------------------------------------------------------------

IGNORED = {"user", "metadata", "timeout", "store"}


def test_examples_of_the_cache():
    key = cache_keys.reference_key
    assert key(cache_keys.BASE | {"user": "a"}, "d") == key(cache_keys.BASE | {"user": "b"}, "d")
    steps = tuple(
        ex_4_7_cache.Step(cache_keys.BASE, (reason,)) for reason in ("length", "stop", "stop")
    )
    run = ex_4_7_cache.run_steps(ex_4_7_cache.reference_cached, steps)
    assert len(run.sent) == 2
    assert run.answers == ("answer 1: answer 1 a", "answer 2: answer 2 a", "answer 2: answer 2 a")


def test_a_response_that_its_caller_changed_is_seen():
    steps = (ex_4_7_cache.Step(cache_keys.BASE),) * 2
    run = ex_4_7_cache.run_steps(ex_4_7_cache.StoresObjects(), steps)
    assert run.answers[1] == "answer 1: changed by the caller"


def test_a_key_by_python_s_hash_is_seen():
    relation = cache_keys.relate(
        cache_keys._key_by_hash, cache_keys.BASE, "d", cache_keys.BASE, "d"
    )
    assert relation == "a key by `hash`"


def pairs_of(value):
    """Return a value with dictionaries as sorted pairs."""
    if isinstance(value, dict):
        return ("dict", sorted((name, pairs_of(part)) for name, part in value.items()))
    return ("list", list(map(pairs_of, value))) if isinstance(value, list) else repr(value)


def test_a_cache_with_keys_of_sorted_pairs():
    def cache_key(request, digest):
        match request:
            case {"stream": True}:
                return None
            case {"temperature": 0} | {"seed": int()}:
                parts = {k: request[k] for k in set(request) - IGNORED}
                text = repr((pairs_of(parts), digest))
                return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return None

    def cached(create, request, digest, store):
        key = cache_key(request, digest)
        text = store.get(key)
        if text is None:
            response = create(**request)
            incomplete = [c for c in response.choices if c.finish_reason not in
                          ("stop", "tool_calls")]  # fmt: skip
            if key and response.choices and not incomplete:
                store[key] = response.model_dump_json(indent=1)
            return response
        return ChatCompletion.model_validate(json.loads(text))

    assert correct("4.7", cache_key, cached)


def test_a_cache_whose_key_is_the_text_itself():
    def cache_key(request, digest):
        request = json.loads(json.dumps(request))
        for name in IGNORED:
            request.pop(name, None)
        if request.pop("stream", False):
            return None
        if request.get("temperature") != 0 and request.get("seed") is None:
            return None
        return json.dumps({"request": request, "digest": digest}, sort_keys=True, indent=0)

    def cached(create, request, digest, store):
        key = cache_key(request, digest)
        if key is None:
            return create(**request)
        if key not in store:
            response = create(**dict(request))
            reasons = [choice.finish_reason for choice in response.choices] or ["none"]
            if set(reasons) - {"stop", "tool_calls"}:
                return response
            store[key] = json.dumps(response.model_dump())
        return ChatCompletion.model_validate_json(store[key])

    assert correct("4.7", cache_key, cached)


def test_a_cache_that_feeds_a_hash_part_by_part():
    def feed(state, value):
        if isinstance(value, dict):
            state.update(b"{%d" % len(value))
            for name in sorted(value):
                feed(state, name)
                feed(state, value[name])
        elif isinstance(value, (list, tuple)):
            state.update(b"[%d" % len(value))
            for part in value:
                feed(state, part)
        else:
            text = f"{type(value).__name__}:{value}".encode()
            state.update(b"%d:" % len(text) + text)

    def cache_key(request, digest):
        seeded = request.get("seed", None) is not None
        if not seeded and request.get("temperature", 1) != 0 or request.get("stream", False):
            return None
        state = hashlib.sha1(usedforsecurity=False)
        feed(state, [digest, {k: v for k, v in request.items() if k not in IGNORED}])
        return base64.b64encode(state.digest()).decode()

    def cached(create, request, digest, store):
        try:
            return ChatCompletion.model_validate_json(store[cache_key(request, digest)])
        except KeyError:
            pass
        response = create(**request)
        storable = len(response.choices) > 0 and cache_key(request, digest) is not None
        for choice in response.choices:
            storable = storable and choice.finish_reason in {"stop", "tool_calls"}
        if storable:
            store.setdefault(cache_key(request, digest), response.model_dump_json())
        return response

    assert correct("4.7", cache_key, cached)


def test_a_cache_of_objects():
    class Key:
        def __call__(self, request, digest):
            sample = request.get("temperature") != 0 and request.get("seed") is None
            if sample or request.get("stream"):
                return None
            fields = [[k, request[k]] for k in sorted(request) if k not in IGNORED]
            text = json.dumps([fields, digest], sort_keys=True, separators=(",", ":"))
            return f"v1-{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"

    class Cached:
        def __call__(self, create, request, digest, store):
            key = Key()(request, digest)
            if key in store:
                return ChatCompletion.model_validate_json(store[key])
            response = create(**request)
            reasons = {choice.finish_reason for choice in response.choices}
            if key and reasons and reasons.issubset(("stop", "tool_calls")):
                store.update({key: response.model_dump_json()})
            return response

    assert correct("4.7", Key(), Cached())
