"""Exercise 2.3: answer several conversations in one padded batch."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import torch

from openmodels.check import NotYet, WrongAnswer, exercise, expect_type
from openmodels.exercises.lab2.fixtures import load_miniature, shorten
from openmodels.harbour import instances

NEW_TOKENS = 20
CLOSE = 1e-3  # logits of a batch and of a single row differ by about 1e-5 in float32
CONVERSATIONS = 8


# --- The reference solution -----------------------------------------------------------------------


def encode(tokenizer: Any, conversations: list, side: str = "left", **options: Any) -> dict:
    """Return input ids and attention mask of a padded batch."""
    tokenizer.padding_side = side
    options = {"add_generation_prompt": True, "padding": True, "return_tensors": "pt"} | options
    return tokenizer.apply_chat_template(conversations, **options)


def generate(model: Any, inputs: dict, max_new_tokens: int, **options: Any) -> torch.Tensor:
    """Return prompt and answer of each row, greedily unless the options say otherwise."""
    return model.generate(**inputs, max_new_tokens=max_new_tokens, **{"do_sample": False} | options)


def decode(tokenizer: Any, output: torch.Tensor, inputs: dict, skip: bool = True) -> list[str]:
    """Return the answers: what comes after the last column of the input."""
    start = inputs["input_ids"].shape[1]
    return tokenizer.batch_decode(output[:, start:], skip_special_tokens=skip)


def reference_batch(
    model: Any, tokenizer: Any, conversations: list, max_new_tokens: int, **encoding: Any
) -> list[str]:
    """Return the answers of a batch; options of the encoding are mistakes."""
    inputs = encode(tokenizer, conversations, **encoding)
    return decode(tokenizer, generate(model, inputs, max_new_tokens), inputs)


# --- Known mistakes -------------------------------------------------------------------------------


def batch_without_mask(
    model: Any, tokenizer: Any, conversations: list, max_new_tokens: int
) -> list[str]:
    inputs = encode(tokenizer, conversations)
    del inputs["attention_mask"]
    return decode(tokenizer, generate(model, inputs, max_new_tokens), inputs)


def batch_with_prompts(
    model: Any, tokenizer: Any, conversations: list, max_new_tokens: int
) -> list[str]:
    inputs = encode(tokenizer, conversations)
    output = generate(model, inputs, max_new_tokens)
    return tokenizer.batch_decode(output, skip_special_tokens=True)


def batch_with_special_tokens(
    model: Any, tokenizer: Any, conversations: list, max_new_tokens: int
) -> list[str]:
    inputs = encode(tokenizer, conversations)
    return decode(tokenizer, generate(model, inputs, max_new_tokens), inputs, skip=False)


def batch_sampled(
    model: Any, tokenizer: Any, conversations: list, max_new_tokens: int
) -> list[str]:
    inputs = encode(tokenizer, conversations)
    torch.manual_seed(0)
    output = generate(model, inputs, max_new_tokens, do_sample=True, temperature=9.0)
    return decode(tokenizer, output, inputs)


def answer_singly(
    model: Any, tokenizer: Any, conversations: list, max_new_tokens: int
) -> list[str]:
    return [
        reference_batch(model, tokenizer, [conversation], max_new_tokens)[0]
        for conversation in conversations
    ]


# --- The checker ----------------------------------------------------------------------------------


class Single(NamedTuple):
    """A conversation answered alone: prompt ids, answer, and the logits of its first new token."""

    conversation: list[dict]
    prompt: list[int]
    text: str
    logits: torch.Tensor


@cache
def _singles() -> list[Single]:
    """Return conversations of different lengths with greedy answers that no rounding changes.

    A conversation is left out if its two likeliest tokens are ever closer than CLOSE.
    """
    tasks = [instances(task, 4) for task in ("fact", "text_qa", "intent", "order")]
    conversations = (
        list(instance.messages[:-1]) for group in zip(*tasks, strict=True) for instance in group
    )
    singles = []
    for conversation in conversations:
        single, margin = _answer_alone(conversation)
        if margin > CLOSE:
            singles.append(single)
        if len(singles) == CONVERSATIONS:
            break
    return singles


def _answer_alone(conversation: list[dict]) -> tuple[Single, float]:
    """Return a conversation with its answer, and the smallest lead of a likeliest token."""
    model, tokenizer = load_miniature()
    prompt = tokenizer.apply_chat_template(
        conversation, add_generation_prompt=True, return_tensors="pt"
    )
    output = model.generate(
        **prompt, max_new_tokens=NEW_TOKENS, do_sample=False,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    best = torch.cat(output.logits).topk(2).values  # (new tokens, 2)
    size = prompt["input_ids"].shape[1]
    text = tokenizer.decode(output.sequences[0, size:], skip_special_tokens=True)
    ids = prompt["input_ids"][0].tolist()
    single = Single(conversation, ids, text, output.logits[0][0])
    return single, (best[:, 0] - best[:, 1]).min().item()


@dataclass
class FirstCall:
    """The model's first forward pass: ids (rows, tokens), mask if any, last logits of each row."""

    ids: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    logits: torch.Tensor | None = None


@contextlib.contextmanager
def _record_first_call(model: Any) -> Iterator[FirstCall]:
    """Record what the model reads and returns when it is first called."""
    first = FirstCall()

    def record(_: Any, args: tuple, kwargs: dict, output: Any) -> None:
        if first.ids is None:
            first.ids = kwargs.get("input_ids", args[0] if args else None)
            first.mask = kwargs.get("attention_mask")
            first.logits = output.logits[:, -1]

    handle = model.register_forward_hook(record, with_kwargs=True)
    try:
        yield first
    finally:
        handle.remove()


def _expect_batch(first: FirstCall, singles: list[Single], pad: int) -> None:
    """Raise NotYet unless the model read all prompts at once, padded and masked as it needs."""
    if first.ids is None:
        raise NotYet("the model you were given was not called. Does `generate_batch` use it?")
    rows = len(first.ids)
    if rows != len(singles):
        raise NotYet(
            f"the model read {rows} conversation{'s' if rows > 1 else ''} at a time, expected all "
            f"{len(singles)} in one batch."
        )
    for row, (ids, single) in enumerate(zip(first.ids.tolist(), singles, strict=True)):
        _expect_prompt(row, ids, single, pad)
    for row, (logits, single) in enumerate(zip(first.logits, singles, strict=True)):
        difference = (logits - single.logits).abs().max().item()
        if difference > CLOSE:
            padding = first.ids.shape[1] - len(single.prompt)
            attended = first.mask is None or first.mask[row, :padding].any()
            why = "Does the model get the attention mask?" if attended and padding else ""
            raise NotYet(
                f"row {row} reads {padding} padding tokens before its prompt, and its first logits "
                f"differ by {difference:.2g} from those of the prompt alone. {why}".strip()
            )


def _expect_prompt(row: int, ids: list[int], single: Single, pad: int) -> None:
    """Raise NotYet unless a row of the batch ends in its prompt."""
    size = len(single.prompt)
    if ids[-size:] == single.prompt:
        return
    if ids[:size] == single.prompt:
        raise NotYet(
            f"row {row} ends in {len(ids) - size} padding tokens: its first new token would "
            "follow those, not the prompt. Pad on the left: set `tokenizer.padding_side`; an "
            "argument `padding_side` of `apply_chat_template` is ignored, without a word."
        )
    end = [token for token in ids if token != pad]
    if end == single.prompt[: len(end)]:
        raise NotYet(
            f"row {row} lacks the last {size - len(end)} tokens of its prompt, which open the "
            "assistant's turn. Is it `add_generation_prompt=True`?"
        )
    raise NotYet(
        f"row {row} holds other tokens than conversation {row} alone. Do the prompts come from "
        "`tokenizer.apply_chat_template`, in the same order?"
    )


def _expect_answer(row: int, answer: Any, single: Single) -> None:
    """Raise NotYet unless an answer of the batch equals the one generated alone."""
    expect_type(answer, str, f"answer {row}")
    if answer == single.text:
        return
    if "<|im_end|>" in answer or "<|endoftext|>" in answer:
        why = "The end of turn and the padding after it are not part of it: cut special tokens."
    elif answer.endswith(single.text) and single.conversation[-1]["content"][-12:] in answer:
        why = "It begins with the prompt: keep what comes after the last column of the input."
    else:
        why = "Is it greedy, and cut after the prompt's last column?"
    raise NotYet(f"answer {row} is {shorten(answer)}, alone it is {shorten(single.text)}. {why}")


@exercise(
    "2.3",
    wrong=[
        WrongAnswer("right padding", partial(reference_batch, side="right"), "Pad on the left"),
        WrongAnswer(
            "side as an argument",
            partial(reference_batch, side="right", padding_side="left"),
            "`padding_side` of `apply_chat_template` is ignored",
        ),
        WrongAnswer("no attention mask", batch_without_mask, "get the attention mask"),
        WrongAnswer("prompt and answer", batch_with_prompts, "begins with the prompt"),
        WrongAnswer("special tokens kept", batch_with_special_tokens, "cut special tokens"),
        WrongAnswer(
            "no generation prompt",
            partial(reference_batch, add_generation_prompt=False),
            "add_generation_prompt=True",
        ),
        WrongAnswer("sampled", batch_sampled, "Is it greedy"),
        WrongAnswer("one at a time", answer_singly, "1 conversation at a time, expected all 8"),
        WrongAnswer("model not called", lambda *_: [""] * CONVERSATIONS, "was not called"),
        WrongAnswer(
            "one text", lambda *call: reference_batch(*call)[0], "is str ... expected list"
        ),
        WrongAnswer(
            "texts missing",
            lambda *call: reference_batch(*call)[:3],
            "3 answers for 8 conversations",
        ),
    ],
)
def check_generate_batch(generate_batch: Callable[..., list[str]]) -> str:
    """Judge `generate_batch(model, tokenizer, conversations, max_new_tokens)`."""
    singles = _singles()
    model, tokenizer = load_miniature()
    tokenizer.padding_side = "right"  # as it is loaded; an earlier answer may have changed it
    with _record_first_call(model) as first:
        conversations = [single.conversation for single in singles]
        answers = generate_batch(model, tokenizer, conversations, NEW_TOKENS)
    _expect_batch(first, singles, tokenizer.pad_token_id)
    expect_type(answers, list, "what `generate_batch` returned")
    if len(answers) != len(singles):
        raise NotYet(f"there are {len(answers)} answers for {len(singles)} conversations.")
    for row, (answer, single) in enumerate(zip(answers, singles, strict=True)):
        _expect_answer(row, answer, single)
    sizes = [len(single.prompt) for single in singles]
    return (
        f"{len(singles)} prompts of {min(sizes)} to {max(sizes)} tokens got the answers in one "
        "batch that they get alone, word for word."
    )
