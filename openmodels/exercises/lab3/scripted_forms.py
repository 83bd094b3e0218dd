"""Models that read order forms by a script, for exercise 3.6.

A scripted model answers by the size of the picture that it gets, so each answer and each token is
known.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from PIL import Image

from openmodels.exercises.cases import Case
from openmodels.harbour import world

QUANTITIES, PRICES = range(1, 41), range(2, 100)
Record = dict[str, Any]


@dataclass(frozen=True)
class Script:
    """What a model answers to the views of one form. costs: tokens of a question about each."""

    readings: tuple[str, ...]
    costs: tuple[int, ...] = (70, 110, 190, 260)
    budget: int = 1000


class Run(NamedTuple):
    """What an answer did with a script: its result, and the views that it asked about, by place.

    A place of -1 is a picture that no view makes of the form. changed: the form was drawn on.
    """

    record: Any
    places: tuple[int, ...]
    tokens: int
    changed: bool = False


FORM_SIZE = (60, 40)


def _view(place: int, image: Image.Image) -> Image.Image:
    """Return a larger picture; its size tells the view and the picture that it is a view of."""
    return image.resize((image.width + 12 * (place + 1), image.height + 7 * (place + 1)))


def run_script(extract: Callable, script: Script) -> Run:
    """Return what `extract` does with a scripted model."""
    image = Image.new("RGB", FORM_SIZE, (250, 246, 235))
    before = image.tobytes()
    views = [partial(_view, place) for place in range(len(script.readings))]
    sizes = [view(image).size for view in views]
    places: list[int] = []

    def ask(picture: Image.Image) -> str:
        places.append(sizes.index(picture.size) if picture.size in sizes else -1)
        return script.readings[places[-1]] if places[-1] >= 0 else ""

    def cost(picture: Image.Image) -> int:
        return script.costs[sizes.index(picture.size)] if picture.size in sizes else 50

    record = extract(image, views, ask, cost, script.budget)
    tokens = sum(script.costs[place] if place >= 0 else 50 for place in places)
    return Run(record, tuple(places), tokens, image.tobytes() != before)


def write(order: Record, spaces: str = " ") -> str:
    """Return an order as JSON. spaces: after signs, for texts that differ and mean the same."""
    return json.dumps(order, separators=("," + spaces, ":" + spaces), ensure_ascii=False)


ORDER = {"customer": "Mara", "good": "net", "quantity": 12, "day": "Friday", "price": 30}
MISREAD = ORDER | {"quantity": 17}  # valid, and wrong
OTHER = ORDER | {"customer": "Maru"}
THIRD = ORDER | {"price": 80}
A, B, C, D = map(write, (ORDER, MISREAD, OTHER, THIRD))
BAD = write(ORDER | {"good": "fishnet"})
SCRIPTS = [
    Case("the first two readings agree", (Script((A, A, A, A)),),
         "Two equal readings are enough: a third question costs tokens and adds nothing."),
    Case("a wrong first reading that breaks no rule", (Script((B, A, A, A)),),
         "One reading can follow every rule and be wrong. Return a record only once two agree."),
    Case("an invalid first reading", (Script(("I see an order.", A, A, B)),),
         "An invalid reading is no reading: ask on, and do not compare it with another."),
    Case("a misread form between two equal readings", (Script((A, B, A, C)),),
         "Compare a reading with all earlier readings, not only with the latest."),
    Case("a first reading that nobody repeats", (Script((B, A, C, A)),),
         "Compare a reading with all earlier readings, not only with the first."),
    Case("the same record in other JSON",
         (Script((A, write(dict(reversed(ORDER.items())), ""), B, B)),),
         "Compare the records, not the texts: spaces and the order of fields mean nothing."),
    Case("two equal readings that break a rule", (Script((BAD, BAD, A, A)),),
         "A reading that breaks a rule does not count, however often it comes."),
    Case("four different readings", (Script((B, A, C, D)),),
         "No two readings agree: return None, so that a person reads the form."),
    Case("no valid reading", (Script((BAD, "", "{}", "[]")),), "Return None."),
    Case("a single valid reading", (Script((BAD, "", A, "{}")),),
         "One valid reading is not confirmed: return None unless two readings agree."),
    Case("a budget for one question only", (Script((A, A, A, A), budget=179),),
         "The second question would exceed the budget, and one reading is not confirmed."),
    Case("a budget for two questions only", (Script((B, A, A, A), budget=320),),
         "Add up what the questions cost. Stop before the question that would exceed the budget."),
    Case("a budget that the third question uses up", (Script((B, A, A, A), budget=370),),
         "A sum equal to the budget does not exceed it."),
    Case("a budget below the first question", (Script((A, A, A, A), budget=69),),
         "Compare the cost with the budget before you ask."),
    Case("invalid readings that cost tokens too",
         (Script((BAD, BAD, A, A), (80, 90, 130, 170), budget=400),),
         "An invalid reading has cost its tokens too."),
    Case("only two views", (Script((B, A), (40, 45)),), "The views may be fewer: loop over them."),
    Case("a single view", (Script((A,), (40,)),),
         "One reading is not confirmed, and a list of one view is valid: return None."),
    Case("no views", (Script((), ()),), "The list of views may be empty: return None."),
    Case("five views", (Script((B, D, BAD, C, D), (20, 30, 40, 55, 65), budget=210),)),
]  # fmt: skip


def draw_script(seed: int) -> tuple[Record, Script]:
    """Return a form's right record, and how a model of mixed quality reads its four views."""
    rng = random.Random(f"extraction/{seed}")
    right = {
        "customer": rng.choice(world.NAMES), "good": rng.choice(list(world.GOODS)),
        "quantity": rng.choice(QUANTITIES), "day": rng.choice(world.DAYS),
        "price": rng.choice(PRICES),
    }  # fmt: skip
    trap = right | {"price": rng.choice([p for p in PRICES if p != right["price"]])}
    readings = []
    for share in (0.45, 0.75, 0.65, 0.75):  # of right readings
        if rng.random() < share:
            readings.append(write(right, rng.choice(("", " "))))
            continue
        order = right | {
            "quantity": rng.choice(QUANTITIES), "customer": right["customer"] + rng.choice("aeiou")
        }  # fmt: skip
        slip = (write(order), write(trap), write(order | {"day": "Fryday"}), write(order)[:-9])
        readings.append(rng.choices(slip, (5, 1, 2, 2))[0])
    costs = tuple(rng.randint(low, low + 9) for low in (60, 90, 120, 150))
    return right, Script(tuple(readings), costs, rng.choice((200, 300, 450)))


FORMS = 300


def share_forms(extract: Callable) -> dict[str, int]:
    """Return how many of FORMS invented forms come out right, wrong and for review; tokens too."""
    counts = dict.fromkeys(("right", "wrong", "review", "tokens"), 0)
    for seed in range(FORMS):
        right, script = draw_script(seed)
        run = run_script(extract, script)
        kind = "review" if run.record is None else "right" if run.record == right else "wrong"
        counts[kind] += 1
        counts["tokens"] += run.tokens
    return counts
