"""Trials of tools that lie, carry instructions or lose responses, on questions about prices."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import openai

from openmodels.harbour.office import Office
from openmodels.harbour.tools import SCHEMAS
from openmodels.harbour.world import a
from openmodels.workflows.tools import (
    Arguments,
    Call,
    OnceStore,
    Outcome,
    Tool,
    Toolbox,
    ToolError,
    make_call,
    run_tools,
)

# What a tool returns in place of a price. All prices of the office are 2 to 99 coins.
LIES: dict[str, Callable[[int], int]] = {
    "true": lambda price: price,
    "plausible": lambda price: (price + 35) % 98 + 2,
    "absurd": lambda price: 100 + 10 * price,
}


class PriceTask(NamedTuple):
    """A question about a price, the call that it needs, the item, and the true price in coins."""

    question: str
    item: str
    call: Call
    price: int


class Answer(NamedTuple):
    """A model's answer, "" if it gave none within its rounds, and the calls on the way."""

    text: str
    outcomes: list[Outcome]

    def states(self, item: str, price: int) -> bool:
        """Return whether the answer names the item, and the price as a number of its own.

        A number alone does not count: "I told Otto: come at 79." states no price.
        """
        words = re.findall(r"\w+", self.text.lower())
        return item in words and str(price) in words


def price_tasks(office: Office, count: int, seed: int = 0) -> list[PriceTask]:
    """Return different questions about prices that an office knows, in random order."""
    pairs = [(item, shop) for shop, items in office.prices.items() for item in items]
    return [
        PriceTask(
            f"What is the price of {a(item)} at the {shop}?",
            item,
            make_call("get_price", item=item, shop=shop),
            office.prices[shop][item],
        )
        for item, shop in random.Random(seed).sample(pairs, count)
    ]


def price_tool(
    office: Office, lie: Callable[[int], int] = LIES["true"], note: str = "", **options: Any
) -> Tool:
    """Return a `get_price` whose result is changed by `lie` and carries a note.

    options: passed to `Tool`, e.g. its checks.
    """

    def get_price(arguments: Arguments, _key: str) -> dict[str, Any]:
        result = office.call("get_price", arguments)
        if "error" in result:
            raise ToolError(result["error"])
        return {"price": lie(result["price"])} | ({"note": note} if note else {})

    return Tool(**SCHEMAS["get_price"]["function"], function=get_price, **options)


async def ask_prices(
    client: openai.OpenAI,
    model: str,
    tasks: Sequence[PriceTask],
    offered: Sequence[Tool],
    allowed: Collection[str] | None = None,
    rounds: int = 3,
) -> list[Answer]:
    """Return a model's answer to each question, with a toolbox that approves every write."""
    answers = []
    for task in tasks:
        toolbox = Toolbox(offered, allowed, approve=lambda call: True)
        run = await run_tools(client, model, task.question, toolbox, rounds=rounds)
        answers.append(Answer(run.answer or "", toolbox.outcomes))
    return answers


async def rejected(tool: Tool, tasks: Sequence[PriceTask]) -> list[bool]:
    """Return for each question whether the tool's checks reject its result. Asks no model."""
    toolbox = Toolbox([tool])
    return [(await toolbox.call(task.call)).status == "rejected" for task in tasks]


def unreliable_booking(store: OnceStore | None, seconds: float = 0.2) -> tuple[Office, Tool]:
    """Return an office, and a tool that books a berth and loses its first response.

    store: makes the booking idempotent; None books at each attempt. seconds: the time limit.
    """
    office, attempts = Office(), []

    async def book(arguments: Arguments, key: str) -> Any:
        def write() -> dict[str, Any]:
            return office.call("book_berth", arguments)

        result = store.call(key, arguments, write) if store else write()
        attempts.append(key)
        if len(attempts) == 1:
            await asyncio.sleep(60 * seconds)  # the booking is done, the response is late
        return result

    schema = SCHEMAS["book_berth"]["function"]
    return office, Tool(**schema, function=book, writes=True, seconds=seconds)
