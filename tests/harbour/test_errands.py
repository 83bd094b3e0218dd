"""Errands: the office answers every call, the splits share nothing, wrong runs are rejected."""

import copy
import functools
import hashlib
import json
import os
import random
import re
import subprocess
import sys

import jsonschema
import pytest
from transformers import AutoTokenizer

from openmodels.harbour import OFFICE_SCHEMAS, Office
from openmodels.harbour.errand_phrases import (
    GRAMMAR,
    SYMBOL,
    choose,
    expand,
    phrase_held_out,
)
from openmodels.harbour.errand_talk import calling, combinations, wish
from openmodels.harbour.errands import KINDS, SCENARIOS, TYPED, Errand, Errands, instances, score
from openmodels.harbour.office import BERTHS, WISHES, mail_text
from openmodels.harbour.text import assistant, held_out
from openmodels.harbour.tools import SCHEMAS, WRITES, final_result
from openmodels.harbour.world import DAYS, GOODS, NAMES, SHIPS, SHOPS
from openmodels.minis.data import encode, render
from openmodels.paths import ROOT

LIMIT, TYPICAL = 1500, 700  # tokens of a conversation: hard limit, and what most stay under


@functools.cache
def errands(kind: str, split: str, count: int = 100) -> tuple[Errand, ...]:
    return tuple(instances(kind, count, seed=1, split=split))


@functools.cache
def tokenizer():
    folder = ROOT / "openmodels" / "data" / "tokenizer"
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def right_replies(errand: Errand) -> list[dict]:
    return [copy.deepcopy(m) for m in errand.messages if m["role"] == "assistant"]


def replay(errand: Errand, replies: list[dict]):
    """Score an errand with these assistant messages, the last of them repeated."""
    sequence = iter(replies)

    def ask(messages: list[dict], tools: list[dict]) -> dict:
        return next(sequence, replies[-1])

    return score(errand, ask)


def with_scenario(scenario: str, kind: str | None = None, where=lambda errand: True) -> Errand:
    """Return the first errand of a scenario for which `where` holds."""
    kind = kind or next(k for k, scenarios in SCENARIOS.items() if scenario in scenarios)
    source = Errands(3, "train")
    for _ in range(3000):
        errand = source.errand(kind)
        if errand.scenario == scenario and where(errand):
            return errand
    raise AssertionError(f"no {scenario} in 3000 errands")


def ordered(errand: Errand) -> bool:
    """Return whether the errand's only turn ends with an order as its second step."""
    calls = errand.turns[0].calls
    return len(errand.turns) == 1 and len(calls) == 2 and calls[1][0][0] == "place_order"


# --- The office -----------------------------------------------------------------------------------


def test_the_first_five_schemas_are_those_that_mini_qwen_knows():
    digest = hashlib.sha256(json.dumps(SCHEMAS).encode()).hexdigest()
    assert list(SCHEMAS) == ["get_price", "ferry_times", "tide", "book_berth", "send_message"]
    assert digest.startswith("ff4fdb4c4055acb0")
    assert set(SCHEMAS) < set(OFFICE_SCHEMAS) and len(OFFICE_SCHEMAS) == 10
    assert set(WRITES) < set(OFFICE_SCHEMAS)


@pytest.mark.parametrize("schema", [*OFFICE_SCHEMAS.values(), final_result(answer="string")])
def test_schemas_are_valid_json_schema(schema):
    parameters = schema["function"]["parameters"]
    jsonschema.Draft202012Validator.check_schema(parameters)
    assert parameters["required"] == list(parameters["properties"])
    assert len(schema["function"]["description"]) < 60


def test_an_office_follows_from_its_seed():
    for part in ("prices", "stock", "ferries", "tides", "ships", "mail", "purse"):
        assert getattr(Office(4), part) == getattr(Office(4), part)
    assert Office(4).prices != Office(5).prices
    assert [s["function"]["name"] for s in Office(4).schemas(["tide", "pay"])] == ["tide", "pay"]
    assert Office(4).schemas() == list(OFFICE_SCHEMAS.values())


def test_reading_calls_return_the_state_and_change_nothing():
    office = Office(4)
    shop = next(s for s in SHOPS if office.prices[s])
    item = next(iter(office.prices[shop]))
    stall, (ship, berth) = {"item": item, "shop": shop}, next(iter(office.ships.items()))
    person, letter = next(iter(office.mail.items()))
    island = next(iter(office.ferries))
    day = next(iter(office.ferries[island]))
    high, low = office.tides["Monday"]
    assert office.call("get_price", stall) == {"price": office.prices[shop][item]}
    assert office.call("get_stock", stall) == {"stock": office.stock[shop][item]}
    assert office.call("find_ship", {"ship": ship}) == berth
    assert office.call("read_mail", {"person": person}) == letter
    times = office.call("ferry_times", {"to": island, "day": day})
    assert times == {"times": office.ferries[island][day]}
    assert office.call("tide", {"day": "Monday"}) == {"high": high, "low": low}
    assert office.ledger == [] and len(office.calls) == 6


def test_writing_calls_change_the_state():
    office = next(o for o in map(Office, range(20)) if o.free_berths)
    shop, item = next((s, i) for s in SHOPS for i, n in office.stock[s].items() if n > 3)
    stock, purse, berths = office.stock[shop][item], office.purse, list(office.free_berths)
    fields = {"name": "Ada", "item": item, "quantity": 3, "shop": shop}
    order = office.call("place_order", fields)["order"]
    receipt = office.call("pay", {"name": "Ada", "coins": 5})["receipt"]
    stay = {"ship": "Heron", "captain": "Ada", "nights": 2}
    assert office.call("book_berth", stay) == {"berth": berths[0]}
    assert office.call("send_message", {"to": "Ada", "text": "come"}) == {"sent": True}
    assert (office.stock[shop][item], office.purse) == (stock - 3, purse - 5)
    assert office.free_berths == berths[1:] and 1 <= berths[0] <= BERTHS
    assert receipt == order + 1
    assert office.ledger[0] == {"order": order} | fields
    assert [c.name for c in office.calls] == ["place_order", "pay", "book_berth", "send_message"]


def failing_calls() -> list[tuple[str, dict, str]]:
    """Return calls that the office with seed 4 cannot carry out, and their errors."""
    office = Office(4)
    item, shop = next((i, s) for i in GOODS for s in SHOPS if i not in office.prices[s])
    sold, seller = next((i, s) for s in SHOPS for i in office.prices[s])
    sellers, absent = (
        ", ".join(office.sellers(item)),
        next(s for s in SHIPS if s not in office.ships),
    )
    island, day = next((t, d) for t in office.ferries for d in DAYS if d not in office.ferries[t])
    days, stock = ", ".join(office.ferries[island]), office.stock[seller][sold]
    order = {"name": "Ada", "item": sold, "quantity": 2, "shop": seller}
    stay = {"ship": "Heron", "captain": "Ada", "nights": 2}
    have = f"{stock} {sold if stock == 1 else GOODS[sold][0]}"
    stranger = next(n for n in NAMES if n not in office.mail)
    return [
        ("fly", {}, "no tool fly"),
        ("tide", [], "arguments must be an object"),
        ("tide", {}, "missing day"),
        ("tide", {"day": 3}, "day must be a string"),
        ("tide", {"day": "Friday", "hour": 3}, "no argument hour; arguments: day"),
        ("tide", {"day": "Fryday"}, "no day Fryday; days: Friday"),
        ("get_price", {"item": "rope", "shop": "bakerie"}, "no shop bakerie; shops: bakery"),
        ("get_price", {"item": "ropes", "shop": "bakery"}, "no item ropes; items: rope"),
        ("get_price", {"item": "rope", "shop": "zoo"}, "no shop zoo"),
        ("get_price", {"item": item}, f"missing shop; shops: {sellers}"),
        ("get_stock", {"item": item, "shop": shop},
         f"the {shop} does not sell {GOODS[item][0]}; shops: {sellers}"),
        ("ferry_times", {"to": island, "day": day}, f"no ferry to {island} on {day}; days: {days}"),
        ("ferry_times", {"to": "Gul Island", "day": day},
         "no island Gul Island; islands: Gull Island"),
        ("find_ship", {"ship": absent}, f"the {absent} is not in the harbour"),
        ("find_ship", {"ship": "Herron"}, "no ship Herron; ships: Heron"),
        ("book_berth", stay | {"nights": 0}, "nights must be 1 to 30"),
        ("book_berth", stay | {"nights": "two"}, "nights must be an integer"),
        ("book_berth", stay | {"nights": True}, "nights must be an integer"),
        ("place_order", order | {"quantity": 0}, "quantity must be 1 or more"),
        ("place_order", order | {"quantity": 900}, f"the {seller} has only {have}"),
        ("read_mail", {"person": stranger}, f"no mail for {stranger}"),
        ("pay", {"name": "Ada", "coins": 0}, "coins must be 1 or more"),
        ("pay", {"name": "Ada", "coins": 900}, f"the office has only {office.purse} coins"),
        ("send_message", {"to": "Ada"}, "missing text"),
    ]  # fmt: skip


@pytest.mark.parametrize("name, arguments, error", failing_calls())
def test_a_call_that_fails_says_why_and_changes_nothing(name, arguments, error):
    office, untouched = Office(4), Office(4)
    result = office.call(name, arguments)["error"]
    assert result == error or result.startswith(error + ", ")  # more names that are similar
    for part in ("stock", "free_berths", "purse", "ledger", "mail"):
        assert getattr(office, part) == getattr(untouched, part)
    assert len(office.calls) == 1


def test_a_full_harbour_books_no_berth():
    office = next(o for o in map(Office, range(60)) if not o.free_berths)
    stay = {"ship": "Heron", "captain": "Ada", "nights": 2}
    assert office.call("book_berth", stay) == {"error": "no berth is open"}


@pytest.mark.parametrize("template", WISHES)
def test_every_wish_in_a_letter_is_a_call_that_fits_its_schema(template):
    rng, office = random.Random(1), Office(4)
    for _ in range(20):
        name, arguments = wish(mail_text(rng, office, NAMES, True, template))
        jsonschema.validate(arguments, OFFICE_SCHEMAS[name]["function"]["parameters"])
        assert "error" not in office.call(name, arguments) or name in WRITES


# --- Seeds and splits -----------------------------------------------------------------------------

DIGEST = """
import hashlib, json
from openmodels.harbour.errands import KINDS, instances
for kind in KINDS:
    read = [[e.messages, e.tools, e.key] for e in instances(kind, 20, 3, "train", invented=0.3)]
    print(kind, hashlib.sha256(json.dumps(read).encode()).hexdigest())
"""


def test_a_seed_gives_the_same_bytes_in_every_process():
    def digests(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", DIGEST]
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout

    assert digests("0") == digests("1")
    first, second = (next(instances("chain", 1, seed)).key for seed in (1, 2))
    assert first != second


def combinations_of(errand: Errand) -> set[tuple]:
    """Return every combination that the errand's calls depend on, by running them."""
    office = errand.office()
    for turn in errand.turns:
        for step in turn.calls:
            for name, arguments in step:
                office.call(name, arguments)
    return {
        part for c in office.calls for part in combinations(c.name, c.arguments, c.result)
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_splits_share_no_combination_and_no_key(kind):
    train, test = errands(kind, "train"), errands(kind, "test")
    assert not any(held_out(*part) for errand in train for part in combinations_of(errand))
    assert all(held_out(*part) for errand in test for part in combinations_of(errand))
    assert not {errand.key for errand in train} & {errand.key for errand in test}
    texts = [{m["content"] for m in e.messages if m["role"] == "user"} for e in (*train, *test)]
    first = [" ".join(sorted(t)) for t in texts]
    assert not set(first[: len(train)]) & set(first[len(train) :])


def test_held_out_phrases_are_used_in_test_only():
    rng, both = random.Random(1), 0
    for symbol, phrases in GRAMMAR.items():
        held = {phrase for phrase in phrases if phrase_held_out(symbol, phrase)}
        trained = {choose(rng, symbol, test=False) for _ in range(300)}
        tested = {choose(rng, symbol, test=True) for _ in range(300)}
        assert not trained & held and len(trained) >= 3
        assert held <= tested
        both += len(held)
    assert both > 40


@pytest.mark.parametrize("symbol", GRAMMAR)
def test_every_phrase_expands_completely(symbol):
    rng = random.Random(1)
    for phrase in GRAMMAR[symbol]:
        assert all(name in GRAMMAR for name in SYMBOL.findall(phrase))
        text = expand(rng, phrase, test=False)
        assert not re.search(r"[<>()|]", text)
        assert "  " not in text.strip()


def test_unknown_kinds_and_splits_are_named():
    with pytest.raises(ValueError, match="unknown kind 'prices'; the kinds are chain, parallel"):
        next(instances("prices", 1))
    with pytest.raises(ValueError, match="split must be 'train' or 'test', not 'dev'"):
        next(instances("chain", 1, split="dev"))


# --- What is in the conversations -----------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_right_conversation_is_complete(kind, split):
    scenarios = set()
    for errand in errands(kind, split):
        result = replay(errand, right_replies(errand))
        assert result.complete, (result.reason, errand.messages)
        assert list(result.messages) == list(errand.messages)
        assert errand.task == kind and 2 <= len(errand.tools) <= 5
        scenarios.add(errand.scenario)
    assert len(scenarios) >= len(TYPED if kind == "final_result" else SCENARIOS[kind]) * 2 / 3


@pytest.mark.parametrize("kind", KINDS)
def test_calls_fit_the_schemas_that_the_model_is_given(kind):
    for errand in errands(kind, "train"):
        schemas = {t["function"]["name"]: t["function"]["parameters"] for t in errand.tools}
        final = [t for t in schemas if t == "final_result"]
        assert bool(final) == (kind == "final_result")
        finals = 0
        for message in errand.messages:
            for call in message.get("tool_calls", ()):
                name, arguments = call["function"]["name"], call["function"]["arguments"]
                finals += name == "final_result"
                if errand.scenario != "price_anywhere":  # its first call lacks the shop
                    jsonschema.validate(arguments, schemas[name])
        assert finals == len(final)


def test_a_chain_has_up_to_four_calls_and_parallel_calls_share_a_message():
    counts = {len(step) for e in errands("parallel", "train") for t in e.turns for step in t.calls}
    assert counts >= {2, 3, 4}
    chains = [sum(map(len, t.calls)) for e in errands("chain", "train", 200) for t in e.turns]
    assert {1, 2, 3, 4} <= set(chains) and max(chains) == 4
    users = {sum(m["role"] == "user" for m in e.messages) for e in errands("chain", "train")}
    assert users == {1, 2, 3}


def test_mail_that_asks_for_something_is_only_reported_until_the_user_says_so():
    reported = acted = 0
    for errand in errands("mail", "train", 200):
        if errand.scenario != "read_mail":
            continue
        assert [name for step in errand.turns[0].calls for name, _ in step] == ["read_mail"]
        acted += len(errand.turns) == 2
        reported += instructs(errand)
        letter = json.loads(errand.messages[2]["content"])
        assert all(value in errand.messages[3]["content"] for value in letter.values())
    assert acted >= 5 and reported >= 5


@pytest.mark.parametrize("kind", KINDS)
def test_the_template_renders_conversations_of_moderate_length(kind):
    lengths = []
    for errand in errands(kind, "train"):
        text = render(tokenizer(), errand)
        lengths.append(len(encode(tokenizer(), errand, 0.1).ids))
        calls = [c for m in errand.messages for c in m.get("tool_calls", ())]
        assert text.count("\n<tool_call>\n{") == len(calls) + 1  # the system prompt has an example
        assert text.count("<tool_response>") == sum(m["role"] == "tool" for m in errand.messages)
        for call in calls:
            assert f'{{"name": "{call["function"]["name"]}", "arguments": {{' in text
    assert max(lengths) <= LIMIT
    assert sum(lengths) / len(lengths) <= TYPICAL


def test_requests_are_worded_in_thousands_of_ways():
    source = Errands(1, "train")
    texts = [m["content"] for _ in range(600) for m in source.errand().messages[:1]]
    assert len(set(texts)) > 570
    names = "|".join(map(re.escape, [*NAMES, *SHIPS, *SHOPS, *DAYS, *GOODS]))
    forms = {re.sub(rf"\d+|\b(?:{names})\b", "_", text) for text in texts}
    assert len(forms) > 500


# --- Wrong runs -----------------------------------------------------------------------------------


def wrong_argument(replies):
    replies[0]["tool_calls"][0]["function"]["arguments"]["ship"] = "Nautilus"


def no_second_call(replies):
    replies.pop(1)


def order_before_prices(replies):
    replies[0], replies[1] = replies[1], replies[0]


def order_twice(replies):
    replies.insert(1, replies[1])


def extra_message(replies):
    replies.insert(1, calling(("send_message", {"to": "Ada", "text": "hello"})))


def wrong_value(replies):
    replies[-1] = assistant(re.sub(r"\d+", "998", replies[-1]["content"]))


def invented_number(replies):
    replies[-1]["content"] += " That makes 997 coins."


def empty_answer(replies):
    replies[-1] = assistant("")


def refuses(replies):
    replies[-1]["content"] = "I could not do that. " + replies[-1]["content"]


def claims_success(replies):
    replies[-1]["content"] = replies[-1]["content"].replace("I could not", "I can")


def reason_lacks(replies):
    replies[-1] = assistant("I could not do it.")


def text_instead(replies):
    replies[-1] = assistant("Done.")


def wrong_fields(replies):
    arguments = replies[-1]["tool_calls"][0]["function"]["arguments"]
    replies[-1] = calling(("final_result", arguments | {"price": 998}))


def other_fields(replies):
    replies[-1] = calling(("final_result", {"result": "done"}))


def final_beside(replies):
    replies[-1]["tool_calls"].append(replies[0]["tool_calls"][0])


def never_ends(replies):
    replies[-1] = replies[0]


def broken_json(replies):
    replies[0]["tool_calls"][0]["function"]["arguments"] = '{"item": '


def list_arguments(replies):
    replies[0]["tool_calls"][0]["function"]["arguments"] = "[1]"


def unavailable(replies):
    replies[0] = calling(("open_door", {}))


def acts_on_mail(replies):
    request = wish(replies[1]["content"].split(": ", 1)[1])
    replies.insert(1, calling(request))


def tool_for_nothing(replies):
    replies.insert(0, calling(("tide", {"day": "Monday"})))


def has(name: str):
    return lambda errand: name in [t["function"]["name"] for t in errand.tools]


def instructs(errand: Errand) -> bool:
    """Return whether the mail asks for a call that is available."""
    if len(errand.turns) > 1:
        return False
    try:
        name, _ = wish(errand.messages[3]["content"].split(": ", 1)[1])
    except ValueError:
        return False
    return has(name)(errand)


def typed_price(errand: Errand) -> bool:
    return set(errand.turns[0].fields) == {"shop", "price"} and len(errand.turns[0].calls) == 1


WRONG = [
    ("captain", "chain", wrong_argument, "wrong arguments: find_ship"),
    ("cheaper_order", "chain", no_second_call, "missing call: place_order"),
    ("cheaper_order", "chain", order_before_prices, "wrong order: place_order"),
    ("cheaper_order", "chain", order_twice, "extra writing call: place_order"),
    (
        "captain",
        "chain",
        extra_message,
        "extra writing call|wrong arguments|which is not available",
    ),
    ("cheaper_order", "chain", extra_message, "extra writing call: send_message"),
    ("cheaper_order", "chain", wrong_value, "the answer lacks"),
    ("cheaper_order", "chain", invented_number, r"numbers that no result has: \['997'\]"),
    ("cheaper_order", "chain", empty_answer, "the answer is empty"),
    ("cheaper_order", "chain", refuses, "the answer refuses"),
    ("no_ferry", "tool_error", claims_success, "the answer does not refuse"),
    ("no_ferry", "tool_error", reason_lacks, "the answer lacks 'no ferry to"),
    ("odd", "no_tool", text_instead, "the answer lacks 'no tool'"),
    ("odd", "no_tool", tool_for_nothing, "extra call: tide"),
    ("typed_output", "final_result", text_instead, "text instead of final_result"),
    ("typed_output", "final_result", wrong_fields, "wrong fields"),
    ("typed_output", "final_result", other_fields, r"final_result has the fields \['result'\]"),
    ("typed_output", "final_result", final_beside, "beside other calls"),
    ("cheaper_order", "chain", never_ends, "no answer after 8 steps"),
    ("cheaper_order", "chain", broken_json, "the arguments of get_price are not JSON"),
    ("cheaper_order", "chain", list_arguments, "the arguments of get_price are not an object"),
    ("cheaper_order", "chain", unavailable, "called open_door, which is not available"),
    ("read_mail", "mail", acts_on_mail, "extra writing call"),
]
WHERE = {
    (refuses, "cheaper_order"): ordered,
    (extra_message, "cheaper_order"): lambda e: ordered(e) and has("send_message")(e),
    (claims_success, "no_ferry"): lambda e: e.turns[-1].opening == "I could not",
    (reason_lacks, "no_ferry"): lambda e: e.turns[-1].opening == "I could not",
    (tool_for_nothing, "odd"): has("tide"),
    (wrong_fields, "typed_output"): typed_price,
    (other_fields, "typed_output"): typed_price,
    (final_beside, "typed_output"): typed_price,
    (acts_on_mail, "read_mail"): instructs,
}


@pytest.mark.parametrize("scenario, kind, change, reason", WRONG)
def test_a_wrong_run_is_rejected_with_its_reason(scenario, kind, change, reason):
    where = WHERE.get((change, scenario), ordered if scenario == "cheaper_order" else None)
    errand = with_scenario(scenario, kind, where or (lambda e: len(e.turns) == 1))
    assert replay(errand, right_replies(errand)).complete
    replies = right_replies(errand)
    change(replies)
    result = replay(errand, replies)
    assert not result.complete
    assert re.search(reason, result.reason), result.reason


def test_side_by_side_calls_may_come_in_any_order_and_as_json_text():
    errand = with_scenario("which_cheaper", where=lambda e: len(e.turns) == 1)
    replies = right_replies(errand)
    first, second = replies[0]["tool_calls"]
    for call in (first, second):
        call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
        call["id"] = f"call_{call['function']['arguments']}"
    assert replay(errand, [replies[0] | {"tool_calls": [second, first]}, replies[1]]).complete
    alone = [replies[0] | {"tool_calls": [call]} for call in (second, first)]
    result = replay(errand, [*alone, replies[1]])
    assert result.complete and result.writes == 0
    assert [m["tool_call_id"] for m in result.messages if m["role"] == "tool"] == [
        second["id"], first["id"]
    ]  # fmt: skip
