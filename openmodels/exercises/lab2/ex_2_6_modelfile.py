"""Exercise 2.6: write a Modelfile for a desk that sorts requests by intent."""

from collections.abc import Callable
from functools import partial

import ollama

from openmodels.check import NotYet, WrongAnswer, exercise, expect_type
from openmodels.exercises.lab2.fixtures import DESK, serve, shorten
from openmodels.gguf import modelfile
from openmodels.harbour import instances

MOST_TOKENS = 8
INTENTS = ("price", "order", "hours", "tide", "berth", "complaint")
REQUESTS, ENOUGH = 12, 11  # requests to sort, and how many must be right
EMPTY_TURN = "<|im_start|>user\n"  # the model invents a request: any request will do

REFERENCE = {  # a Modelfile's lines by purpose
    "base": "FROM mini-qwen",
    "system": "SYSTEM Name the intent: price, order, hours, tide, berth or complaint.",
    "temperature": "PARAMETER temperature 0",
    "limit": "PARAMETER num_predict 8",
}


def reference_modelfile(**changes: str) -> str:
    """Return a right Modelfile; changes of some lines, by purpose, are mistakes."""
    return "\n".join(line for line in (REFERENCE | changes).values() if line)


# --- The checker ----------------------------------------------------------------------------------


def _create(client: ollama.Client, text: str) -> None:
    """Create the desk's model from a Modelfile; raise NotYet if that is not possible."""
    try:
        parsed = modelfile.parse(text)
    except modelfile.ModelfileError as error:
        lines = "A text over several lines stands in triple quotes."
        why = f" {lines}" if "instruction" in str(error) else ""
        raise NotYet(f"the Modelfile cannot be read: {error}.{why}") from error
    try:
        parsed.create(client, DESK)
    except FileNotFoundError as error:
        raise NotYet(f"there is {error}; FROM may name a model, such as mini-qwen.") from error
    except ollama.ResponseError as error:
        raise NotYet(
            f"the server does not create the model: {error.error}. FROM names a model that it has, "
            "such as mini-qwen."
        ) from error


def _expect_greedy(client: ollama.Client) -> None:
    """Raise NotYet unless every seed continues an empty turn in the same way."""
    texts = [
        client.generate(DESK, EMPTY_TURN, raw=True, options={"seed": seed}).response
        for seed in range(5)
    ]
    different = next((text for text in texts if text != texts[0]), None)
    if different is not None:
        raise NotYet(
            f"a trader's empty turn, the raw prompt {EMPTY_TURN!r}, gave {texts[0]!r} and, with "
            f"another seed, {different!r}. A desk that sorts has no dice: which parameter takes "
            "always the likeliest token?"
        )


def _expect_limit(client: ollama.Client) -> None:
    """Raise NotYet if a prompt can make the desk generate more than MOST_TOKENS tokens."""
    messages = list(next(iter(instances("order", 1))).messages[:-1])
    answer = client.chat(DESK, messages)
    if answer.eval_count > MOST_TOKENS:
        raise NotYet(
            f"a trader who brings a system text of their own made it write {answer.eval_count} "
            f"tokens, {shorten(answer.message.content)}; at most {MOST_TOKENS} are allowed. Which "
            "parameter limits an answer, whatever the prompt says?"
        )


def _expect_sorted(client: ollama.Client) -> int:
    """Return how many held-out requests are sorted rightly; raise NotYet if too few are."""
    examples = [instance.messages for instance in instances("intent", REQUESTS)]
    answers = [client.chat(DESK, [messages[-2]]).message.content for messages in examples]
    intents = [messages[-1]["content"] for messages in examples]
    right = [answer == intent for answer, intent in zip(answers, intents, strict=True)]
    if sum(right) >= ENOUGH:
        return sum(right)
    place = right.index(False)
    request, intent, answer = examples[place][-2]["content"], intents[place], answers[place]
    if intent.startswith(answer):
        why = "The answer is cut short: allow a few tokens more."
    elif answer in INTENTS:
        why = "It is a word of the list, and the wrong one. Does a larger miniature know better?"
    elif intent in answer.lower():
        why = "The word is there, with others around it."
    else:
        why = (
            "It answers instead of sorting. mini-qwen learnt this task under one system text, word "
            "for word: print `desk_request[0]`."
        )
    raise NotYet(
        f"{sum(right)} of {REQUESTS} requests are sorted rightly, expected {ENOUGH} at least. "
        f"{request!r} gave {shorten(answer)}, expected {intent!r}. {why}"
    )


def _with(**changes: str) -> Callable[[], str]:
    return partial(reference_modelfile, **changes)


TWO_LINES = "SYSTEM Name the intent: price, order,\nhours, tide, berth or complaint."
TWO_LINES_NO_COMMA = "SYSTEM Name the intent: price, order, hours, tide,\nberth or complaint."


@exercise(
    "2.6",
    wrong=[
        WrongAnswer("no system text", _with(system=""), "answers instead of sorting"),
        WrongAnswer(
            "another system text",
            _with(system="SYSTEM You are a helpful assistant."),
            "answers instead of sorting",
        ),
        WrongAnswer("dice", _with(temperature=""), "another seed ... likeliest"),
        WrongAnswer("hot", _with(temperature="PARAMETER temperature 1.5"), "another seed"),
        WrongAnswer("no limit", _with(limit=""), "system text of their own ... at most 8"),
        WrongAnswer(
            "limit too high",
            _with(limit="PARAMETER num_predict 12"),
            "12 tokens ... at most 8",
        ),
        WrongAnswer("no FROM", _with(base=""), "no FROM line"),
        WrongAnswer(
            "no such model",
            _with(base="FROM llama4:scout"),
            "does not create the model ... such as mini-qwen",
        ),
        WrongAnswer(
            "no such file",
            _with(base="FROM ./clerk.gguf"),
            "no file ./clerk.gguf ... may name a model",
        ),
        WrongAnswer(
            "unknown parameter",
            _with(more="PARAMETER max_tokens 8"),
            "line 5: no parameter 'max_tokens'",
        ),
        WrongAnswer("equals sign", _with(temperature="temperature = 0"), "cannot be read: line 3"),
        WrongAnswer(
            "a text over two lines", _with(system=TWO_LINES), "line 3: 'hours ... triple quotes"
        ),
        WrongAnswer(
            "a text over two lines, the second without a comma",
            _with(system=TWO_LINES_NO_COMMA),
            "no instruction 'berth' ... triple quotes",
        ),
        WrongAnswer("stopped at once", _with(more="PARAMETER stop o"), "cut short"),
        WrongAnswer("no text", lambda: {"from": "mini-qwen"}, "is dict ... expected str"),
        WrongAnswer("None", lambda: None, "Is a `return` missing"),
    ],
)
def check_modelfile(desk_modelfile: Callable[[], str]) -> str:
    """Judge `desk_modelfile()` by running the model that it describes."""
    text = desk_modelfile()
    expect_type(text, str, "what `desk_modelfile` returned", "A Modelfile is a text.")
    with serve() as client:
        _create(client, text)
        right = _expect_sorted(client)
        _expect_greedy(client)
        _expect_limit(client)
    return (
        f"the desk sorted {right} of {REQUESTS} requests it had never seen, five seeds gave one "
        f"answer, and nobody got more than {MOST_TOKENS} tokens out of it."
    )
