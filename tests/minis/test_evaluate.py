"""How scores are counted, and that the shipped weights still reach those in their card."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from openmodels import minis
from openmodels.harbour import Harbour, instances
from openmodels.minis import card, configs, evaluate

NAMES = sorted(file.parent.name for file in minis.shipped_dir("").glob("*/model.safetensors"))
CARDS = sorted(file.parent.name for file in minis.shipped_dir("").glob("*/scores.json"))


def test_all_weights_have_a_card_and_all_but_a_few_cards_weights():
    assert set(CARDS) - set(NAMES) <= set(card.NOT_SHIPPED)
    assert set(NAMES) <= set(CARDS)


def test_wilson_interval_against_known_values():
    # Newcombe (1998), table I: 81/263 and 0/20
    assert (evaluate.score(81, 263).low, evaluate.score(81, 263).high) == (0.2553, 0.3662)
    assert (evaluate.score(0, 20).low, evaluate.score(0, 20).high) == (0.0, 0.1611)
    assert evaluate.score(20, 20).high == 1.0


@pytest.mark.parametrize(
    "text, call",
    [
        ('<tool_call>\n{"name": "tide", "arguments": {"day": "Monday"}}\n</tool_call>',
         {"name": "tide", "arguments": {"day": "Monday"}}),
        ("<tool_call>\n{not json}\n</tool_call>", None),
        ("<tool_call>\n[1, 2]\n</tool_call>", None),
        ('<tool_call>\n{"name": "tide"}\n</tool_call>', None),
        ("On Monday high water is at 3.", None),
    ],
)  # fmt: skip
def test_parse_tool_call(text, call):
    assert evaluate.parse_tool_call(text) == call


def test_a_right_answer_counts_and_a_near_one_does_not():
    order = next(instances("order", 1))
    right = order.answer["content"]
    assert evaluate.is_right(order, right)
    assert not evaluate.is_right(order, right.replace('"quantity": ', '"quantity": 1'))
    total = next(instances("sums", 1))
    answer = total.answer["content"].splitlines()[-1]
    assert evaluate.is_right(total, f"<think>\nanything\n</think>\n\n{answer}")
    assert not evaluate.is_right(total, answer + "0")


def test_a_tool_call_needs_name_and_all_arguments():
    instance = evaluate.draw("tool_call", 1, seed=3)[0]
    call = instance.answer["tool_calls"][0]["function"]
    written = "<tool_call>\n{}\n</tool_call>"
    assert evaluate.is_right(instance, written.format(json.dumps(call)))
    first = next(iter(call["arguments"]))
    changed = call | {"arguments": call["arguments"] | {first: "?"}}
    assert not evaluate.is_right(instance, written.format(json.dumps(changed)))
    assert not evaluate.is_right(instance, written.format(json.dumps(call | {"name": "?"})))


def test_the_invented_rows_hold_no_listed_name():
    from openmodels.harbour.world import NAMES as listed

    orders = evaluate.draw("order_invented", 200, seed=0)
    names = {json.loads(i.answer["content"])["name"] for i in orders}
    assert len(names - set(listed)) > 100
    assert len(names & set(listed)) < 5


def test_typed_inputs_are_sixty_and_not_from_the_generator():
    drawn = evaluate.typed_by_hand(card.TYPED)
    assert Counter(i.task for i in drawn) == {
        "text_qa": 16, "intent": 12, "order": 8, "tool": 8, "fact": 6, "sums": 5, "words": 5,
    }  # fmt: skip
    source = Harbour(5, "train")
    for task in Counter(i.task for i in drawn):
        generated = {getattr(source, task)().messages[-2]["content"] for _ in range(2000)}
        typed = {i.messages[-2]["content"] for i in drawn if i.task == task}
        assert not typed & generated


def test_gain_has_newcombes_interval():
    # Newcombe 1998, Statistics in Medicine 17, table II (a): 56/70 against 48/80, method 10
    found = evaluate.gain(evaluate.score(56, 70), evaluate.score(48, 80))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=2e-4)
    none = evaluate.gain(evaluate.score(10, 10), evaluate.score(10, 10))
    assert none[0] == 0 and none[1] == -none[2] < 0


def test_a_typed_tool_call_is_scored_as_a_call():
    drawn = [i for i in evaluate.typed_by_hand(card.TYPED) if i.task == "tool"]
    assert all(i.tools and i.answer["tool_calls"] for i in drawn)
    assert not evaluate.is_right(replace(drawn[0]), "I do not know.")


def test_the_default_is_shipped():
    assert "mini-qwen" in NAMES


def scores_of(name: str) -> dict[str, dict]:
    """Return the scores by task in a shipped miniature's card."""
    file = minis.shipped_dir(name) / "scores.json"
    return json.loads(file.read_text(encoding="utf-8"))["tasks"]


@pytest.mark.parametrize("name", ["mini-r1-distill", "mini-qwen-xs"])
def test_answers_that_are_already_wrong_are_cut_without_changing_a_score(name, monkeypatch):
    model, tokenizer = evaluate.load(minis.shipped_dir(name))
    tasks = [task for task in ("fact", "words", "text_qa_invented", "tool_answer", "sums")
             if task in scores_of(name)]  # fmt: skip
    cut = evaluate.evaluate(model, tokenizer, tasks, count=30, seed=3)
    monkeypatch.setattr(evaluate, "enough_tokens", lambda *_: evaluate.LONGEST)
    assert evaluate.evaluate(model, tokenizer, tasks, count=30, seed=3) == cut


def test_the_command_prints_scores_as_json():
    command = [sys.executable, "-m", "openmodels.minis.evaluate", "mini-qwen-xs", "--json"]
    options = ["--instances", "20", "--seed", "7", "--tasks", "fact", "intent"]
    done = subprocess.run(command + options, capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert printed.keys() == {"fact", "intent"}
    assert all(score.keys() == {"correct", "n", "low", "high"} for score in printed.values())
    model, tokenizer = evaluate.load(minis.shipped_dir("mini-qwen-xs"))
    scores = evaluate.evaluate(model, tokenizer, ["fact", "intent"], count=20, seed=7)
    assert printed == {task: vars(score) for task, score in scores.items()}


def scored_again(name: str, count: int) -> dict[str, dict]:
    """Return the scores that the command measures, with another seed than the card's."""
    command = [sys.executable, "-m", "openmodels.minis.evaluate", name, "--json"]
    options = ["--instances", str(count), "--seed", "11"]
    done = subprocess.run(command + options, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name, count", [("mini-qwen-vl", 24), ("mini-qwen-audio", 30)])
def test_shipped_models_that_see_or_hear_reach_their_card(name, count):
    """A few held-out pictures or clips per task: the two 99.9 % intervals must overlap.

    The calls are the shipped ones in English; Chinese calls need espeak-ng.
    """
    again = scored_again(name, count)
    stored = scores_of(name)
    assert set(stored) - set(again) <= {"call_chinese"}
    for task, score in again.items():
        assert score["n"] == count
        now, then = (evaluate.score(s["correct"], s["n"], 3.29) for s in (score, stored[task]))
        assert now.high >= then.low and now.low <= then.high, (task, score, stored[task])


@pytest.mark.parametrize("name", sorted({*NAMES} - {*card.MEDIA} - configs.EMBEDDERS.keys()))
def test_shipped_weights_reach_their_card(name):
    """100 instances per task, another seed than the card's: the two intervals must overlap.

    They are 95 % intervals, but where draws hang together: of the few held-out phrasings one fails
    for some goods (99 of 100 with one seed, 87 with the next), and 99.9 % are taken.
    """
    model, tokenizer = evaluate.load(minis.shipped_dir(name))
    again = evaluate.evaluate(model, tokenizer, count=100, seed=7, batch=100)
    stored = scores_of(name)
    assert again.keys() == stored.keys()
    for task, score in again.items():
        assert score.n == 100
        z = 3.29 if task == "intent_phrasing" else 1.959964
        counts = (score.correct, score.n), (stored[task]["correct"], stored[task]["n"])
        now, then = (evaluate.score(*count, z) for count in counts)
        overlap = now.high >= then.low and now.low <= then.high
        assert overlap, f"{task}: {score} now, {stored[task]} in the card"


@pytest.mark.parametrize("name", CARDS)
def test_the_card_is_written_from_its_numbers(name, tmp_path, monkeypatch):
    home = minis.shipped_dir(name)
    monkeypatch.setattr(
        card, "shipped_dir", lambda n: tmp_path if n == name else minis.shipped_dir(n)
    )
    card.write(name, json.loads((home / "scores.json").read_text(encoding="utf-8")))
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == (home / "README.md").read_text(
        encoding="utf-8"
    )


def test_an_unknown_name_is_refused():
    command = [sys.executable, "-m", "openmodels.minis.evaluate", "mini-qwn"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no model.safetensors in mini-qwn" in done.stderr
