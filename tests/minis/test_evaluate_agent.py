"""Conversations with tools are run by any number of threads and generated in batches."""

import json
import threading

import pytest

from openmodels.harbour import assistant, errands
from openmodels.minis import configs, evaluate, evaluate_agent, tokenizer


def call(name, **arguments):
    """Return the text of one call as a model generates it."""
    body = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{body}\n</tool_call>"


def test_generated_text_becomes_a_message_with_its_calls():
    text = call("tide", day="Monday") + "\n" + call("tide", day="Friday")
    message = evaluate_agent.message_of(text)
    days = [c["function"]["arguments"]["day"] for c in message["tool_calls"]]
    assert days == ["Monday", "Friday"] and message["content"] == ""


@pytest.mark.parametrize("text", ["At 7.", "<tool_call>\n{not json}\n</tool_call>",
                                  '<tool_call>\n{"name": "tide"}\n</tool_call>'])  # fmt: skip
def test_text_without_a_valid_call_has_no_calls(text):
    assert "tool_calls" not in evaluate_agent.message_of(text)


def test_threads_are_answered_together_and_each_gets_its_own_answer():
    batches = []

    def generate(prompts):
        batches.append(sorted(prompts))
        return [prompt.upper() for prompt in prompts]

    generator, answers = evaluate_agent.LockstepGenerator(generate, 3), {}

    def run(name, rounds):
        for number in range(rounds):
            answers[name, number] = generator.request(f"{name}{number}")
        generator.leave()

    threads = [threading.Thread(target=run, args=a) for a in (("a", 1), ("b", 3), ("c", 2))]
    for thread in threads:
        thread.start()
    generator.serve()
    assert batches == [["a0", "b0", "c0"], ["b1", "c1"], ["b2"]]
    assert answers["b", 2] == "B2" and len(answers) == 6


def test_every_right_conversation_is_complete_and_a_model_that_refuses_completes_few(monkeypatch):
    samples = evaluate_agent.draw("chain", 6, seed=3)
    gold = {i.messages[0]["content"] if i.messages[0]["role"] == "user" else i.key: i
            for i in samples}  # fmt: skip
    assert len(gold) == 6
    monkeypatch.setattr(evaluate, "answer", lambda *_, **__: ["I have no tool for that."] * 6)
    results = evaluate_agent.run_conversations(None, tokenizer.load("mini-qwen-agent"), samples)
    assert [r.complete for r in results] == [False] * 6 and all(r.reason for r in results)


def test_cited_questions_are_split_by_whether_they_have_an_answer():
    for task, without in (("cited", False), ("cited_none", True)):
        for instance in evaluate_agent.draw(task, 12, seed=5):
            assert (instance.answer["content"] == evaluate_agent.NOT_FOUND) is without


def test_only_the_agent_is_scored_on_an_agents_tasks():
    shared = tokenizer.load("mini-qwen")
    assert set(evaluate_agent.SCORED) <= set(evaluate.scored(configs.config("mini-qwen-agent"),
                                                             shared))  # fmt: skip
    assert not set(evaluate_agent.SCORED) & set(evaluate.scored(configs.config("mini-qwen"),
                                                                shared))  # fmt: skip
    assert set(errands.KINDS) <= set(assistant.TASKS)
