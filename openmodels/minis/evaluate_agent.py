"""Score mini-qwen-agent: conversations with tools are run to their end, other answers compared.

A conversation with tools is complete if the model made the right calls and its last answer has the
right values (`harbour.errands.score`). Every conversation of a task runs at the same time, so that
each generation is a batch.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from itertools import islice

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from openmodels.harbour import Instance, assistant, desk, errands
from openmodels.minis import configs, evaluate

NOT_FOUND = "The documents do not say."
CITED = ("cited", "cited_none")
SCORED = (*errands.KINDS, *CITED, *desk.TASKS)
LONGEST = 220  # new tokens of one turn; four calls side by side have about 190


def acts(config: PreTrainedConfig) -> bool:
    """Return whether a model with this configuration is scored on an agent's tasks."""
    return configs.acts(config)


def draw(task: str, count: int, seed: int) -> list[Instance]:
    """Return held-out instances of an agent's task.

    "cited" has an answer in its passages, "cited_none" has none.
    """
    if task not in CITED:
        return list(assistant.instances(task, count, seed))
    without_answer = task == "cited_none"
    source = assistant.Assistant(seed, "test")
    drawn = (source.instance("cited") for _ in range(1000 * count))
    fitting = (i for i in drawn if (i.answer["content"] == NOT_FOUND) == without_answer)
    return list(islice(fitting, count))


def message_of(text: str) -> dict:
    """Return generated text as an assistant's message with its tool calls.

    Text whose calls are not valid JSON has no calls.
    """
    calls = []
    for body in evaluate.TOOL_CALL.findall(text):
        try:
            call = json.loads(body)
        except json.JSONDecodeError:
            continue
        if isinstance(call, dict) and {"name", "arguments"} <= call.keys():
            calls.append({"type": "function", "function": call})
    content = evaluate.TOOL_CALL.sub("", text).strip()
    message = {"role": "assistant", "content": content}
    return message | ({"tool_calls": calls} if calls else {})


class LockstepGenerator:
    """Answers requests of many threads together, when each of them waits for an answer."""

    def __init__(self, generate: Callable[[list[str]], list[str]], threads: int):
        self.generate, self.running = generate, threads
        self.changed = threading.Condition()
        self.waiting: dict[int, str] = {}
        self.answers: dict[int, str] = {}

    def request(self, prompt: str) -> str:
        """Return the continuation of a prompt; called by the threads."""
        number = threading.get_ident()
        with self.changed:
            self.waiting[number] = prompt
            self.changed.notify_all()
            self.changed.wait_for(lambda: number in self.answers)
            return self.answers.pop(number)

    def leave(self) -> None:
        """Note that a thread has ended."""
        with self.changed:
            self.running -= 1
            self.changed.notify_all()

    def serve(self) -> None:
        """Generate until every thread has left."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: len(self.waiting) == self.running)
                if not self.running:
                    return
                batch, self.waiting = self.waiting, {}
            texts = self.generate(list(batch.values()))
            with self.changed:
                self.answers.update(zip(batch, texts, strict=True))
                self.changed.notify_all()


def run_conversations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, samples: Sequence[Instance]
) -> list[errands.Result]:
    """Return the result of each conversation with tools, run to its end by the model."""
    results: list[errands.Result | None] = [None] * len(samples)

    def generate(prompts: list[str]) -> list[str]:
        return evaluate.answer(model, tokenizer, prompts, longest=LONGEST)

    generator = LockstepGenerator(generate, len(samples))

    def ask(messages: list[dict], tools: list[dict]) -> dict:
        prompt = tokenizer.apply_chat_template(
            messages, tools=tools or None, tokenize=False, add_generation_prompt=True
        )
        return message_of(generator.request(prompt))

    def run(number: int) -> None:
        try:
            results[number] = errands.score(samples[number], ask)
        finally:
            generator.leave()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(samples))]
    for thread in threads:
        thread.start()
    generator.serve()
    for thread in threads:
        thread.join()
    return results


def correct(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: str, count: int, seed: int
) -> int:
    """Return how many of `count` held-out instances of an agent's task are answered right."""
    samples = draw(task, count, seed)
    if task in errands.KINDS:
        return sum(r.complete for r in run_conversations(model, tokenizer, samples))
    longest = evaluate.enough_tokens(tokenizer, samples)
    marks = evaluate.marked(model, tokenizer, samples, longest=longest)
    return sum(ok for _, ok in marks)
