"""Score a miniature by what it writes: `python -m openmodels.minis.evaluate mini-qwen --json`.

Greedy generation, exact match with the right answer, held-out instances only; code is judged by
running it (`openmodels.minis.evaluate_code`). Intervals are Wilson's 95 % score intervals.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import hypot, sqrt
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from openmodels.harbour import Instance, instances, pictures
from openmodels.minis import configs, data, evaluate_code, images, weights_dir

TOOL_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.S)
LONGEST = 140  # new tokens; the longest right answer has about 100
# Measured beside the tasks: names of several tokens that no list holds.
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
    """Wilson's interval (Wilson 1927): sensible near 0 and 1, unlike the normal one.

    z: how many standard deviations wide on each side; the default is 95 %.
    """
    share = correct / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Score(correct, n, round(max(0, middle - half), 4), round(min(1, middle + half), 4))


def gain(new: Score, old: Score) -> tuple[float, float, float]:
    """How much higher one share is than another, with its 95 % interval; each -1 to 1.

    For scores of two models that were measured apart (Newcombe 1998, method 10).
    """
    share, before = new.correct / new.n, old.correct / old.n
    down = hypot(share - new.low, old.high - before)
    up = hypot(new.high - share, before - old.low)
    return share - before, share - before - down, share - before + up


def parse_tool_call(text: str) -> dict | None:
    """The call inside <tool_call>…</tool_call> as {"name", "arguments"}, or None."""
    found = TOOL_CALL.search(text)
    if not found:
        return None
    try:
        call = json.loads(found[1])
    except json.JSONDecodeError:
        return None
    return call if isinstance(call, dict) and {"name", "arguments"} <= call.keys() else None


def scored(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The tasks a miniature is scored on: the coder's, or conversations and what it sees."""
    if evaluate_code.is_coder(tokenizer):
        return evaluate_code.SCORED
    return SCORED + pictures.TASKS if configs.sees(config) else SCORED


@torch.no_grad()
def answer(model, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], batch: int = 50,
           longest: int = LONGEST, temperature: float = 0.0,
           pictures: Sequence[Image.Image] | None = None) -> list[str]:  # fmt: skip
    """Continuations up to the end of the turn: greedy ones, or drawn at a temperature above 0.

    pictures: one to each text, at its <|image|>; None where texts have none.
    """
    if pictures is not None:
        process = images.Processor(tokenizer, images.Shape.of(model.config))
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    answers = [""] * len(prompts)
    how = dict(do_sample=False)
    if temperature:
        how = dict(do_sample=True, temperature=temperature, top_k=0, top_p=1.0)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        texts = [prompts[n] for n in chosen]
        if pictures is None:
            inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
        else:
            inputs = process(texts, [pictures[n] for n in chosen])
        output = model.generate(**inputs.to(model.device), max_new_tokens=longest, **how)
        new = output[:, inputs["input_ids"].shape[1] :]
        for n, ids in zip(chosen, new, strict=True):
            answers[n] = tokenizer.decode(ids, skip_special_tokens=True)
    return answers


def is_right(instance: Instance | pictures.Sighting, written: str) -> bool:
    """Exact match; a tool call by name and all arguments; a sum by its last line."""
    right = instance.answer
    if right.get("tool_calls"):
        return parse_tool_call(written) == right["tool_calls"][0]["function"]
    if instance.task == "sums":
        return written.strip().splitlines()[-1:] == right["content"].splitlines()[-1:]
    return written.strip() == right["content"]


def marked(model, tokenizer: PreTrainedTokenizerBase, drawn: Sequence[Instance | pictures.Sighting],
           start: str = "", **how) -> list[tuple[str, bool]]:  # fmt: skip
    """What is written for each instance, and whether it is right.

    start: put into the model's mouth. how: as for `answer`.
    """
    written = answer(model, tokenizer, [prompt(tokenizer, i) + start for i in drawn], **how)
    return [(text, is_right(i, text)) for i, text in zip(drawn, written, strict=True)]


def draw(task: str, count: int, seed: int) -> list[Instance] | list[pictures.Sighting]:
    """Held-out instances of a scored task; the tool tasks are one conversation's two answers."""
    if task in pictures.TASKS:
        return list(pictures.sightings(task, count, seed))
    base, invented = (INVENTED[task], 1.0) if task in INVENTED else (task, 0.0)
    if task == "tool_call":
        return [replace(i, messages=i.messages[:2]) for i in draw("tool", count, seed)]
    if task == "tool_answer":
        return draw("tool", count, seed)
    return list(instances(base, count, seed, "test", invented))


def evaluate(model, tokenizer, tasks: Sequence[str] | None = None, count: int = 500,
             seed: int = 0, show: Callable[[str, Score], None] | None = None,
             ) -> dict[str, Score]:  # fmt: skip
    """Scores per task, by default all that are `scored`.

    A conversation's task is asked in chat form, with its own conversation before it. "function_5"
    and "fim_5" are pass@5, every other task the share right at the first, greedy attempt.
    """
    scores = {}
    for task in tasks or scored(model.config, tokenizer):
        if task in evaluate_code.SCORED:
            write = partial(answer, model, tokenizer)
            scores[task] = score(evaluate_code.solved(write, task, count, seed), count)
        else:
            drawn = draw(task, count, seed)
            images = [i.image for i in drawn] if task in pictures.TASKS else None
            right = sum(ok for _, ok in marked(model, tokenizer, drawn, pictures=images))
            scores[task] = score(right, len(drawn))
        if show:
            show(task, scores[task])
    return scores


def prompt(tokenizer, instance: Instance | pictures.Sighting) -> str:
    """The chat text up to where the right answer begins."""
    return data.render(tokenizer, instance, messages=-1, ask=True)


def walled(tokenizer, instance: Instance, chunk: int) -> bool:
    """Whether a wall between chunks of that many tokens falls after the last request has begun and
    before its answer ends: then a layer that attends in chunks never sees both whole."""
    text = data.render(tokenizer, instance)
    begin, end = (
        len(tokenizer(part).input_ids) for part in (text[: text.rindex("<|im_start|>user")], text)
    )
    return begin // chunk != (end - 1) // chunk


def typed_by_hand(file: Path) -> list[Instance]:
    """The instances of a file with one JSON object per line: task, messages, tools."""
    from openmodels.harbour import SCHEMAS

    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [
        Instance(
            row["task"], tuple(row["messages"]), key=str(number),
            tools=tuple(SCHEMAS[name] for name in row["tools"] or ()) or None,
        )
        for number, row in enumerate(rows)
    ]  # fmt: skip


def load(home: Path):
    """Model (float32) and tokenizer of a folder."""
    model_class = configs.model_class(AutoConfig.from_pretrained(home))
    model = model_class.from_pretrained(home, dtype=torch.float32, use_safetensors=True)
    return model.eval(), AutoTokenizer.from_pretrained(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a miniature's name, or a folder")
    parser.add_argument("--instances", type=int, default=500, help="held-out instances per task")
    tasks = SCORED + pictures.TASKS + evaluate_code.SCORED
    parser.add_argument(
        "--tasks", nargs="+", choices=tasks, help="default: all the model is made for"
    )
    parser.add_argument("--typed", type=Path, help="also score a file of hand-typed inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        home = weights_dir(options.name)
    except FileNotFoundError as error:
        parser.error(str(error))
    model, tokenizer = load(home)
    if odd := set(options.tasks or ()) - set(scored(model.config, tokenizer)):
        parser.error(f"{home.name} is not scored on {', '.join(sorted(odd))}")

    def show(task: str, s: Score) -> None:
        if not options.json:
            print(f"{task:18} {s.correct:4}/{s.n}  {s.correct / s.n:6.1%}  "
                  f"[{s.low:.1%}, {s.high:.1%}]", flush=True)  # fmt: skip

    scores = evaluate(model, tokenizer, options.tasks, options.instances, options.seed, show)
    if options.typed:
        drawn = typed_by_hand(options.typed)
        found = marked(model, tokenizer, drawn)
        scores["typed_by_hand"] = score(sum(ok for _, ok in found), len(found))
        show("typed_by_hand", scores["typed_by_hand"])
        for instance, (text, ok) in zip(drawn, found, strict=True):
            if not ok and not options.json:
                print(f"  {instance.task}: {instance.messages[-2]['content']!r} -> {text!r}")
    if options.json:
        print(json.dumps({task: vars(s) for task, s in scores.items()}, indent=1))


if __name__ == "__main__":
    main()
