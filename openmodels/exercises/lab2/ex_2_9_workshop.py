"""Exercise 2.9: size a server for a workshop, then run it with every participant at once."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from openmodels import catalog, sizing
from openmodels.check import NotYet, WrongAnswer, exercise, expect_type
from openmodels.exercises.known_mistakes import diagnose, expect_number
from openmodels.exercises.lab2.fixtures import load_miniature
from openmodels.gguf.export import gguf_file
from openmodels.harbour import instances
from openmodels.serving.engine import Engine

PEOPLE = 30
STEP = 256  # tokens: contexts are multiples of it

Plan = tuple[int, int, int]  # slots, tokens of context in each, bytes in all


class Room(NamedTuple):
    """A case to plan: a model in one of llama.cpp's formats, on a budget of bytes."""

    name: str
    kind: str
    budget: int
    people: int
    least: int  # tokens that each slot needs

    @property
    def call(self) -> tuple:
        """Return config, weights, budget, people, least."""
        config = catalog.config(self.name)
        weights = sum(sizing.gguf_bytes(config, self.kind).values())
        return config, weights, self.budget, self.people, self.least


ROOMS = {
    "room for all, and more than the model can use": Room(
        "qwen2.5-0.5b", "q4_k_m", 24 * sizing.GB, PEOPLE, 2048
    ),
    "room for all": Room("qwen2.5-7b", "q4_k_m", 24 * sizing.GB, PEOPLE, 2048),
    "fewer slots than people": Room("qwen2.5-72b", "q4_k_m", 80 * sizing.GB, PEOPLE, 8192),
    "one card, three people": Room("mistral-large-2-2407", "q4_k_m", 96 * sizing.GB, 3, 1024),
}


# --- The reference solution -----------------------------------------------------------------------


class Planner:
    """Returns slots, context and bytes of a plan, step by step. Subclasses make mistakes."""

    def __call__(self, config: Any, weights: int, budget: int, people: int, least: int) -> Plan:
        per_token = sizing.kv_cache_bytes_per_token(config)
        tokens = (budget - self.reserved_bytes(weights)) // per_token
        slots = self.count_slots(tokens, people, least)
        if slots == 0:
            return self.refuse(weights)
        context = self.share_tokens(tokens, slots, least)
        context = self.round_context(self.limit_context(context, config))
        cached = self.count_caches(slots) * context * per_token
        return slots, context, self.counted_bytes(weights) + cached

    def engine_bytes(self, weights: int) -> int:
        """Return the bytes of weights and working space."""
        return sizing.needed_bytes(weights)

    def reserved_bytes(self, weights: int) -> int:
        """Return the bytes that the caches cannot have."""
        return self.engine_bytes(weights)

    def counted_bytes(self, weights: int) -> int:
        """Return the bytes that the sum has beside the caches."""
        return self.engine_bytes(weights)

    def count_slots(self, tokens: int, people: int, least: int) -> int:
        """Return how many conversations the server holds at once."""
        return min(max(tokens // least, 0), people)

    def refuse(self, weights: int) -> Plan:
        """Raise ValueError: the budget leaves no room for a slot."""
        raise ValueError("not one conversation fits")

    def share_tokens(self, tokens: int, slots: int, least: int) -> int:
        """Return the tokens for each slot."""
        return tokens // slots

    def limit_context(self, context: int, config: Any) -> int:
        """Return a context that the model was trained for."""
        return min(context, config.max_position_embeddings)

    def round_context(self, context: int) -> int:
        """Return a context that is a multiple of STEP."""
        return context // STEP * STEP

    def count_caches(self, slots: int) -> int:
        """Return how many caches the sum counts."""
        return slots


reference_plan = Planner()


# --- Known mistakes -------------------------------------------------------------------------------


class WeightsForgotten(Planner):
    def reserved_bytes(self, weights: int) -> int:
        return 0


class WorkingSpaceForgotten(Planner):
    def engine_bytes(self, weights: int) -> int:
        return weights


class WorkingSpaceNotCounted(Planner):
    def counted_bytes(self, weights: int) -> int:
        return weights


class TokensNotDivided(Planner):
    def share_tokens(self, tokens: int, slots: int, least: int) -> int:
        return tokens


class ContextNotLimited(Planner):
    def limit_context(self, context: int, config: Any) -> int:
        return context


class ContextNotRounded(Planner):
    def round_context(self, context: int) -> int:
        return context


class ContextRoundedUp(Planner):
    def round_context(self, context: int) -> int:
        return -(-context // STEP) * STEP


class SlotForEverybody(Planner):
    def count_slots(self, tokens: int, people: int, least: int) -> int:
        return people


class UnusedSlots(Planner):
    def count_slots(self, tokens: int, people: int, least: int) -> int:
        return max(tokens // least, 0)


class LeastForEverybody(Planner):
    def share_tokens(self, tokens: int, slots: int, least: int) -> int:
        return least


class CacheOfOneSlot(Planner):
    def count_caches(self, slots: int) -> int:
        return 1


class NoSlot(Planner):
    def refuse(self, weights: int) -> Plan:
        return 0, 0, self.engine_bytes(weights)


class DivisionByZero(Planner):
    def refuse(self, weights: int) -> Plan:
        return 0, 1 // 0, weights


MISTAKES = [
    WrongAnswer(
        "weights forgotten", WeightsForgotten(),
        "The weights lie in the same memory: the caches get what they leave.",
    ),
    WrongAnswer(
        "working space forgotten", WorkingSpaceForgotten(),
        "An engine needs room to work beside weights and caches, as in notebook 2.1: the caches "
        "get what `sizing.needed_bytes(weights)` leaves.",
    ),
    WrongAnswer(
        "working space not told", WorkingSpaceNotCounted(),
        "The bytes in all count the working space too: `sizing.needed_bytes` has it in.",
    ),
    WrongAnswer(
        "one context for all", TokensNotDivided(),
        "Each slot has a context of its own: divide the tokens that fit by the slots.",
    ),
    WrongAnswer(
        "more than it was trained for", ContextNotLimited(),
        "No context may be longer than the model's own: `config.max_position_embeddings`.",
    ),
    WrongAnswer(
        "not rounded", ContextNotRounded(),
        "A context is a multiple of 256, rounded down.",
    ),
    WrongAnswer(
        "rounded up", ContextRoundedUp(),
        "Rounded up, the caches outgrow the budget: round down.",
    ),
    WrongAnswer(
        "a slot for everybody", SlotForEverybody(),
        "With a slot for everybody nobody has `least` tokens: fewer slots then, and some wait.",
    ),
    WrongAnswer(
        "slots nobody uses", UnusedSlots(),
        "More slots than people: those stand empty, and take context from the others.",
    ),
    WrongAnswer(
        "the least for everybody", LeastForEverybody(),
        "Memory is left over: spread it, `least` is only what a slot needs at least.",
    ),
    WrongAnswer(
        "the bytes of one slot", CacheOfOneSlot(),
        "The bytes in all count the cache of every slot.",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


@exercise(
    "2.9",
    wrong=[
        *MISTAKES,
        WrongAnswer("no slot", NoSlot(), "no conversation fits ... ValueError"),
        WrongAnswer(
            "division by zero", DivisionByZero(), "no conversation fits ... ZeroDivisionError"
        ),
        WrongAnswer(
            "two numbers", lambda *call: reference_plan(*call)[:2], "2 numbers, expected three"
        ),
        WrongAnswer(
            "in GB",
            lambda *call: (*reference_plan(*call)[:2], reference_plan(*call)[2] / 1e9),
            "'bytes'",
        ),
        WrongAnswer("None", lambda *_: None, "Is a `return` missing"),
    ],
)
def check_plan(plan: Callable[..., Plan]) -> str:
    """Judge `plan(config, weights, budget, people, least)`."""
    for what, room in ROOMS.items():
        _expect_plan(plan, what, room)
    _expect_refusal(plan)
    return _run_under_load(plan)


def _expect_plan(plan: Callable, what: str, room: Room) -> None:
    """Raise NotYet unless the plan for a room has the right numbers."""
    result, expected = plan(*room.call), reference_plan(*room.call)
    expect_type(result, (tuple, list), "what `plan` returned")
    if len(result) != 3:
        raise NotYet(f"`plan` returned {len(result)} numbers, expected three.")
    names = ("slots", "context", "bytes")
    for key, number, right in zip(names, result, expected, strict=True):
        number = expect_number(number, f"{key!r}")
        if not math.isclose(number, right, rel_tol=1e-9):  # 1.1 times weights is a float
            calls = [known.call for known in ROOMS.values()]
            why = diagnose(plan, calls, MISTAKES, rtol=1e-9)
            raise NotYet(
                f"{room.name} on {sizing.gigabytes(room.budget)} for {room.people}, at least "
                f"{room.least:,} tokens each ({what}): {key!r} is {number:,}, expected "
                f"{right:,}. {why}".strip()
            )


def _expect_refusal(plan: Callable) -> None:
    """Raise NotYet unless a budget without room for a slot raises ValueError."""
    config, weights, _, people, least = ROOMS["fewer slots than people"].call
    for budget in (weights // 2, sizing.needed_bytes(weights) + 1000):
        what = f"on {sizing.gigabytes(budget)} qwen2.5-72b leaves no room, no conversation fits"
        try:
            result = plan(config, weights, budget, people, least)
        except ValueError:
            continue
        except ArithmeticError as error:
            raise NotYet(
                f"{what}, and your code stopped with {type(error).__name__}: {error}. Raise "
                "ValueError before you divide."
            ) from error
        raise NotYet(f"{what}, and you say {tuple(result)}; expected a ValueError.")


def _run_under_load(plan: Callable) -> str:
    """Start llama.cpp by the plan, send everybody's question at once; return the praise."""
    config, file = load_miniature().model.config, gguf_file("mini-qwen")
    weights, least = file.stat().st_size, 512
    budget = sizing.needed_bytes(weights) + 12_000_000
    slots, context, _ = map(int, plan(config, weights, budget, PEOPLE, least))
    questions = [list(instance.messages[:-1]) for instance in instances("fact", PEOPLE)]
    with Engine(file, context=context, slots=slots, threads=1) as engine:
        letter = engine.tokenize("The bakery is run by Mara. " * 100)[: least - 24]

        def answer(messages: list[dict]) -> str:
            response = engine.chat(messages, temperature=0, max_tokens=24)
            return response["choices"][0]["message"]["content"]

        with ThreadPoolExecutor(PEOPLE) as people:
            longest = people.submit(engine.complete, letter, n_predict=16, temperature=0)
            answers = list(people.map(answer, questions))
            read = longest.result()["tokens_evaluated"]
    if not all(answers) or read != len(letter):
        raise NotYet(f"by your plan, {slots} slots of {context} tokens, some got no answer.")
    return (
        f"and it holds: mini-qwen with {slots} slots of {context} tokens answered {len(answers)} "
        f"people who asked at once, and read a letter of {read} tokens beside them."
    )
