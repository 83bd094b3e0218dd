"""Score a miniature by its answers: `python -m openmodels.minis.evaluate mini-qwen --json`.

Greedy generation, exact match with the right answer, held-out instances only; code is judged by
running it (`openmodels.minis.evaluate_code`). Intervals are Wilson's 95 % score intervals.
"""

import argparse
import importlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import hypot, sqrt
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from openmodels.harbour import Instance, instances, pictures
from openmodels.minis import configs, data, evaluate_code, images, qwen_vl, weights_dir

TOOL_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.S)
LONGEST = 140  # new tokens; the longest right answer has about 100
# Scored in addition: names of several tokens that are on no list.
INVENTED = {"text_qa_invented": "text_qa", "order_invented": "order", "tool_invented": "tool"}
SCORED = (
    "fact", "intent", "intent_phrasing", "order", "tool_call", "tool_answer", "text_qa",
    "dialogue", "sums", "words", "sentences", "text_qa_invented", "order_invented",
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """`correct` of `n`, with the bounds of the 95 % interval of the share."""

    correct: int
    n: int
    low: float
    high: float


def score(correct: int, n: int, z: float = 1.959964) -> Score:
    """Return Wilson's interval (Wilson 1927), which stays within 0 and 1, unlike the normal one.

    z: half the width in standard deviations; the default is 95 %.
    """
    share = correct / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Score(correct, n, round(max(0, middle - half), 4), round(min(1, middle + half), 4))


def gain(new: Score, old: Score) -> tuple[float, float, float]:
    """Return how much higher one share is than another, with its 95 % interval; each -1 to 1.

    For scores of two models on separate instances (Newcombe 1998, method 10).
    """
    share, old_share = new.correct / new.n, old.correct / old.n
    down = hypot(share - new.low, old.high - old_share)
    up = hypot(new.high - share, old_share - old.low)
    return share - old_share, share - old_share - down, share - old_share + up


def parse_tool_call(text: str) -> dict | None:
    """Return the call inside <tool_call>…</tool_call> as {"name", "arguments"}, or None."""
    match = TOOL_CALL.search(text)
    if not match:
        return None
    try:
        call = json.loads(match[1])
    except json.JSONDecodeError:
        return None
    return call if isinstance(call, dict) and {"name", "arguments"} <= call.keys() else None


def scored(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the tasks a miniature is scored on: code, scenes, sounds, or conversations."""
    if media := media_scores(config):
        return media.TASKS
    if evaluate_code.is_coder(tokenizer):
        return evaluate_code.SCORED
    if configs.acts(config):
        return SCORED + agent_scores().SCORED
    return SCORED + pictures.TASKS if configs.sees(config) else SCORED


def agent_scores() -> ModuleType:
    """Return the module that scores an agent's tasks; it needs this module."""
    return importlib.import_module("openmodels.minis.evaluate_agent")


def media_scores(config: PreTrainedConfig) -> ModuleType | None:
    """Return the module that scores a Qwen that sees or hears; None for any other model."""
    if configs.hears(config):
        return importlib.import_module("openmodels.minis.evaluate_audio")
    if config.model_type == qwen_vl.MODEL_TYPE:
        return importlib.import_module("openmodels.minis.evaluate_vl")
    return None


@torch.no_grad()
def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    batch: int = 50,
    longest: int = LONGEST,
    temperature: float = 0.0,
    pictures: Sequence[Image.Image] | None = None,
) -> list[str]:
    """Return continuations up to the end of the turn: greedy, or sampled at a temperature above 0.

    pictures: one for each text, at its <|image|>; None if the texts have none.
    """
    if pictures is not None:
        process = images.Processor(tokenizer, images.Shape.of(model.config))
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    answers = [""] * len(prompts)
    options = dict(do_sample=False)
    if temperature:
        options = dict(do_sample=True, temperature=temperature, top_k=0, top_p=1.0)
    for start in range(0, len(order), batch):
        indices = order[start : start + batch]
        texts = [prompts[n] for n in indices]
        if pictures is None:
            inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
        else:
            inputs = process(texts, [pictures[n] for n in indices])
        output = model.generate(**inputs.to(model.device), max_new_tokens=longest, **options)
        new_ids = output[:, inputs["input_ids"].shape[1] :]
        for n, ids in zip(indices, new_ids, strict=True):
            answers[n] = tokenizer.decode(ids, skip_special_tokens=True)
    return answers


def is_right(instance: Instance | pictures.Sighting, text: str) -> bool:
    """Return whether a text is the right answer: exact match, with two exceptions.

    A tool call is compared by name and all arguments, a sum by its last line.
    """
    expected = instance.answer
    if expected.get("tool_calls"):
        return parse_tool_call(text) == expected["tool_calls"][0]["function"]
    if instance.task == "sums":
        return text.strip().splitlines()[-1:] == expected["content"].splitlines()[-1:]
    return text.strip() == expected["content"]


def marked(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Instance | pictures.Sighting],
    start: str = "",
    **options: Any,
) -> list[tuple[str, bool]]:
    """Return the answer to each instance, and whether it is right.

    start: the beginning of the model's answer. options: as for `answer`.
    """
    texts = answer(model, tokenizer, [prompt(tokenizer, i) + start for i in samples], **options)
    return [(text, is_right(i, text)) for i, text in zip(samples, texts, strict=True)]


def draw(task: str, count: int, seed: int) -> list[Instance] | list[pictures.Sighting]:
    """Return held-out instances of a scored task; a tool conversation has two scored answers."""
    if task in pictures.TASKS:
        return list(pictures.sightings(task, count, seed))
    base, invented = (INVENTED[task], 1.0) if task in INVENTED else (task, 0.0)
    if task == "tool_call":
        return [replace(i, messages=i.messages[:2]) for i in draw("tool", count, seed)]
    if task == "tool_answer":
        return draw("tool", count, seed)
    return list(instances(base, count, seed, "test", invented))


def draw_any(task: str, count: int, seed: int) -> list:
    """Return held-out instances of a task of any miniature that converses, an agent's included."""
    agent = agent_scores()
    return agent.draw(task, count, seed) if task in agent.SCORED else draw(task, count, seed)


def enough_tokens(tokenizer: PreTrainedTokenizerBase, samples: Sequence) -> int:
    """Return after how many new tokens no answer to these instances can be right any more.

    An exact match ends at the right answer's length. A sum counts by its last line and a call by
    its contents, so they get LONGEST.
    """
    if any(i.task == "sums" or i.answer.get("tool_calls") for i in samples):
        return LONGEST
    answers = [tokenizer(i.answer["content"], add_special_tokens=False) for i in samples]
    return min(LONGEST, max(len(answer.input_ids) for answer in answers) + 4)


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str] | None = None,
    count: int = 500,
    seed: int = 0,
    show: Callable[[str, Score], None] | None = None,
    batch: int = 50,
    picture_last: bool = False,
) -> dict[str, Score]:
    """Return the score per task, by default for all tasks in `scored`.

    The prompt is the conversation before the answer, in chat form. "function_5" and "fim_5" are
    pass@5, every other task is the accuracy of one greedy attempt. batch: prompts generated
    together. picture_last: pictures follow their question instead of preceding it.
    """
    if media := media_scores(model.config):
        return media.evaluate_tasks(model, tokenizer, tasks or media.TASKS, count, seed, show)
    scores = {}
    for task in tasks or scored(model.config, tokenizer):
        if task in evaluate_code.SCORED:
            generate = partial(answer, model, tokenizer, batch=batch)
            scores[task] = score(evaluate_code.solved(generate, task, count, seed), count)
        elif configs.acts(model.config) and task in agent_scores().SCORED:
            correct = agent_scores().correct(model, tokenizer, task, count, seed)
            scores[task] = score(correct, count)
        else:
            samples = draw(task, count, seed)
            if picture_last and task in pictures.TASKS:
                samples = [pictures.put_last(sighting) for sighting in samples]
            sample_images = [i.image for i in samples] if task in pictures.TASKS else None
            longest = enough_tokens(tokenizer, samples)
            marks = marked(
                model, tokenizer, samples, pictures=sample_images, batch=batch, longest=longest
            )
            correct = sum(ok for _, ok in marks)
            scores[task] = score(correct, len(samples))
        if show:
            show(task, scores[task])
    return scores


def prompt(tokenizer: PreTrainedTokenizerBase, instance: Instance | pictures.Sighting) -> str:
    """Return the chat text up to the beginning of the right answer."""
    return data.render(tokenizer, instance, messages=-1, ask=True)


def walled(tokenizer: PreTrainedTokenizerBase, instance: Instance, chunk: int) -> bool:
    """Return whether a chunk boundary lies between the last request's start and the answer's end.

    Then a layer with chunked attention never sees both of them whole. chunk: tokens per chunk.
    """
    text = data.render(tokenizer, instance)
    start, end = (
        len(tokenizer(part).input_ids) for part in (text[: text.rindex("<|im_start|>user")], text)
    )
    return start // chunk != (end - 1) // chunk


def typed_by_hand(file: Path) -> list[Instance]:
    """Return the instances of a file with one JSON object per line: task, messages, tools."""
    from openmodels.harbour import SCHEMAS

    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [
        Instance(
            row["task"], tuple(row["messages"]), key=str(number),
            tools=tuple(SCHEMAS[name] for name in row["tools"] or ()) or None,
        )
        for number, row in enumerate(rows)
    ]  # fmt: skip


def load(home: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the model (float32) and the tokenizer of a folder."""
    model_class = configs.model_class(AutoConfig.from_pretrained(home, trust_remote_code=False))
    model = model_class.from_pretrained(
        home, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    return model.eval(), AutoTokenizer.from_pretrained(home, trust_remote_code=False)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a miniature's name, or a folder")
    parser.add_argument("--instances", type=int, default=500, help="held-out instances per task")
    parser.add_argument("--tasks", nargs="+", help="default: all the model is made for")
    parser.add_argument("--typed", type=Path, help="also score a file of hand-typed inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture-last", action="store_true", help="put pictures after questions")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        home = weights_dir(options.name)
    except FileNotFoundError as error:
        parser.error(str(error))
    model, tokenizer = load(home)
    if unscored := set(options.tasks or ()) - set(scored(model.config, tokenizer)):
        parser.error(f"{home.name} is not scored on {', '.join(sorted(unscored))}")

    def show(task: str, s: Score) -> None:
        if not options.json:
            print(f"{task:18} {s.correct:4}/{s.n}  {s.correct / s.n:6.1%}  "
                  f"[{s.low:.1%}, {s.high:.1%}]", flush=True)  # fmt: skip

    scores = evaluate(
        model, tokenizer, options.tasks, options.instances, options.seed, show,
        picture_last=options.picture_last,
    )  # fmt: skip
    if options.typed:
        samples = typed_by_hand(options.typed)
        answers = marked(model, tokenizer, samples)
        scores["typed_by_hand"] = score(sum(ok for _, ok in answers), len(answers))
        show("typed_by_hand", scores["typed_by_hand"])
        for instance, (text, ok) in zip(samples, answers, strict=True):
            if not ok and not options.json:
                print(f"  {instance.task}: {instance.messages[-2]['content']!r} -> {text!r}")
    if options.json:
        print(json.dumps({task: vars(s) for task, s in scores.items()}, indent=1))


if __name__ == "__main__":
    main()
