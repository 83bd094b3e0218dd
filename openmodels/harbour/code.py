"""Short Python functions with a docstring for the ledger, graded by running them.

An instance is one function. The combination in its docstring (an aggregate over some entries of a
list, perhaps changed first) is held out, so a test function never occurs in training.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from openmodels.harbour.text import held_out, is_test

LISTS = {  # name of the list: name of one entry
    "prices": "price", "weights": "weight", "hours": "hour", "nights": "night", "duties": "duty",
    "coins": "coin", "crates": "crate", "debts": "debt",
}  # fmt: skip
# phrase in the docstring: (word in the function's name, expression around the entries)
AGGREGATES = {
    "The sum of": ("sum", "sum({})"),
    "The largest of": ("largest", "max(({}), default=0)"),
    "The smallest of": ("smallest", "min(({}), default=0)"),
    "The number of": ("count", "len([{}])"),
    "A list of": ("list", "[{}]"),
    "A sorted list of": ("sorted", "sorted({})"),
    "A list without doubles of": ("set", "sorted(set({}))"),
}
TASKS = ("function", "fim")  # complete the body after the head; fill a gap
CHOICES = {  # which entries: phrase in the docstring, condition on x
    "": "",
    " above {n}": "x > {n}",
    " below {n}": "x < {n}",
    " of at least {n}": "x >= {n}",
    " of at most {n}": "x <= {n}",
    " other than {n}": "x != {n}",
    " that are even": "x % 2 == 0",
    " that are odd": "x % 2 == 1",
}
CHANGES = {  # how an entry is changed first: phrase in the docstring, expression of x
    "": "x",
    ", each plus {m}": "x + {m}",
    ", each times {m}": "x * {m}",
    ", each less {m}": "x - {m}",
    ", each squared": "x * x",
}


@dataclass(frozen=True)
class Function:
    """One function of the ledger.

    head: signature and docstring, ending in a line break. body: one right body. calls: the lists it
    is tested on. key: the combination in its docstring; splits share no key.
    """

    name: str
    head: str
    body: str
    calls: tuple[tuple[int, ...], ...]
    key: str

    @property
    def source(self) -> str:
        """Return the whole function."""
        return self.head + self.body

    def test(self, source: str) -> str:
        """Return a program that fails unless `source` does what this function does."""
        return (
            f"{self.source}\nright = [{self.name}(list(x)) for x in {self.calls!r}]\n"
            f"del {self.name}\n{source}\n"
            f"assert [{self.name}(list(x)) for x in {self.calls!r}] == right\n"
        )


@dataclass(frozen=True)
class Gap:
    """A function with a gap, for filling in the middle: prefix + middle + suffix is its source."""

    function: Function
    prefix: str
    middle: str
    suffix: str

    @property
    def key(self) -> str:
        """Return the key of its function."""
        return self.function.key


class Ledger:
    """A seeded source of functions: the same seed and split give the same bytes everywhere."""

    def __init__(self, seed: int, split: str = "train"):
        self.test = is_test(split)
        self.rng = random.Random(f"code/{split}/{seed}")

    def function(self) -> Function:
        """Return one function whose combination of words belongs to this split."""
        rng = self.rng
        while True:
            entries = rng.choice(list(LISTS))
            words = [rng.choice(list(of)) for of in (AGGREGATES, CHOICES, CHANGES)]
            n, m = rng.randint(2, 60), rng.randint(2, 9)
            if held_out(entries, *words) == self.test:
                break
        aggregate, choice, change = words
        short, around = AGGREGATES[aggregate]
        x = entries[0]
        condition = CHOICES[choice].format(n=n).replace("x", x)
        changed = CHANGES[change].format(m=m).replace("x", x)
        inside = f"{changed} for {x} in {entries}" + (f" if {condition}" if condition else "")
        name = f"{short}_{entries}"
        docstring = f"{aggregate} the {entries}{choice}{change}.".format(n=n, m=m)
        return Function(
            name,
            head=f'def {name}({entries}):\n    """{docstring}"""\n',
            body=f"    return {around.format(inside)}\n",
            calls=self.calls(n),
            key=docstring,
        )

    def calls(self, n: int) -> tuple[tuple[int, ...], ...]:
        """Return lists to test a function on: empty, one entry, near `n`, and a few at random."""
        rng = self.rng
        random_lists = [[rng.randint(0, 70) for _ in range(rng.randint(3, 9))] for _ in range(4)]
        near = [n - 1, n, n + 1, n, 7, 7, 8]
        return tuple(map(tuple, ([], [n], near, *random_lists)))

    def gap(self) -> Gap:
        """Return a function with part of its body cut out, between any two characters."""
        function = self.function()
        start = len(function.head) + self.rng.randrange(4, len(function.body) - 6)
        stop = self.rng.randrange(start + 4, len(function.source))
        source = function.source
        return Gap(function, source[:start], source[start:stop], source[stop:])


def functions(count: int, seed: int = 0, split: str = "test") -> Iterator[Function]:
    """Yield `count` functions, no two with the same docstring."""
    return _different(Ledger(seed, split).function, count)


def gaps(count: int, seed: int = 0, split: str = "test") -> Iterator[Gap]:
    """Yield `count` functions with a gap, no two with the same docstring."""
    return _different(Ledger(seed, split).gap, count)


def _different(draw: Callable[[], Function | Gap], count: int) -> Iterator:
    """Yield the first `count` samples with different keys."""
    keys = set()
    while len(keys) < count:
        sample = draw()
        if sample.key not in keys:
            keys.add(sample.key)
            yield sample
