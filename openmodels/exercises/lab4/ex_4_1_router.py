"""Exercise 4.1: a router that learns word rules and asks a model about unclear requests only.

The check calls scripted classifiers. The notebook then runs the learner's functions on a real
model.
"""

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.cases import Case, name_mistake, raise_again, result_of
from openmodels.exercises.known_mistakes import pair_answers
from openmodels.harbour.text import INTENTS, instances

Examples = Sequence[tuple[str, str]]
Rules = Mapping[str, str]
Classify = Callable[[str], str]
PERSON = "person"
PRACTICE, HELD_OUT, BUDGET = 400, 300, 90

# --- The reference solution -----------------------------------------------------------------------


def words_of(text: str) -> set[str]:
    """Return the words of a text: runs of the letters a to z, in lower case."""
    return set(re.findall(r"[a-z]+", text.lower()))


def reference_rules(examples: Examples, support: int) -> dict[str, str]:
    """Return the words that occur in `support` examples or more, all with the same intent."""
    intents = defaultdict(list)
    for text, intent in examples:
        for word in words_of(text):
            intents[word].append(intent)
    return {
        word: seen[0]
        for word, seen in intents.items()
        if len(seen) >= support and len(set(seen)) == 1
    }


def reference_route(
    requests: Sequence[str], rules: Rules, classify: Classify, budget: int
) -> list[str]:
    """Return the intent of each request, or "person"."""
    routes = []
    for request in requests:
        intents = {rules[word] for word in words_of(request) if word in rules}
        if len(intents) == 1:
            routes.append(intents.pop())
        elif budget > 0:
            budget -= 1
            reply = classify(request).lower().strip(" .\n")
            routes.append(reply if reply in INTENTS else PERSON)
        else:
            routes.append(PERSON)
    return routes


# --- Known mistakes in the rules ------------------------------------------------------------------


def _rules(
    examples: Examples, words: Callable[[str], Iterable[str]],
    accept: Callable[[list[str]], bool],
) -> dict[str, str]:  # fmt: skip
    """Return the words whose list of intents is accepted."""
    intents = defaultdict(list)
    for text, intent in examples:
        for word in words(text):
            intents[word].append(intent)
    return {w: Counter(seen).most_common(1)[0][0] for w, seen in intents.items() if accept(seen)}


def _is_rule(support: int, seen: list[str]) -> bool:
    return len(seen) >= support and len(set(seen)) == 1


def rules_of_all_occurrences(examples: Examples, support: int) -> dict[str, str]:
    return _rules(examples, lambda t: re.findall(r"[a-z]+", t.lower()), partial(_is_rule, support))


def rules_of_majority(examples: Examples, support: int) -> dict[str, str]:
    return _rules(examples, words_of, lambda seen: Counter(seen).most_common(1)[0][1] >= support)


def rules_of_nearly_all(examples: Examples, support: int) -> dict[str, str]:
    def accept(seen: list[str]) -> bool:
        most = Counter(seen).most_common(1)[0][1]
        return len(seen) >= support and most >= 0.9 * len(seen)

    return _rules(examples, words_of, accept)


def rules_above_support(examples: Examples, support: int) -> dict[str, str]:
    return reference_rules(examples, support + 1)


def rules_without_support(examples: Examples, support: int) -> dict[str, str]:
    return reference_rules(examples, 1)


def rules_with_case(examples: Examples, support: int) -> dict[str, str]:
    return _rules(examples, lambda t: set(re.findall(r"[A-Za-z]+", t)), partial(_is_rule, support))


def rules_between_spaces(examples: Examples, support: int) -> dict[str, str]:
    return _rules(examples, lambda t: set(t.lower().split()), partial(_is_rule, support))


def rules_with_numbers(examples: Examples, support: int) -> dict[str, str]:
    return _rules(
        examples, lambda t: set(re.findall(r"\w+", t.lower())), partial(_is_rule, support)
    )


def rules_by_intent(examples: Examples, support: int) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for word, intent in reference_rules(examples, support).items():
        result.setdefault(intent, []).append(word)
    return result


def rules_as_words(examples: Examples, support: int) -> list[str]:
    return sorted(reference_rules(examples, support))


def rules_of_long_words(examples: Examples, support: int) -> dict[str, str]:
    return {w: i for w, i in reference_rules(examples, support).items() if len(w) > 3}


def rules_of_latest(examples: Examples, support: int) -> dict[str, str]:
    intents, counts = {}, Counter()
    for text, intent in examples:
        for word in words_of(text):
            intents[word] = intent
            counts[word] += 1
    return {word: intent for word, intent in intents.items() if counts[word] >= support}


def rules_need_examples(examples: Examples, support: int) -> dict[str, str]:
    examples[0]  # IndexError without examples
    return reference_rules(examples, support)


RULE_MISTAKES = [
    WrongAnswer("all occurrences", rules_of_all_occurrences,
                "You count a word as often as it occurs. Count the examples that contain it."),
    WrongAnswer("the majority", rules_of_majority,
                "You make a rule of a word that occurs with two intents. Only words with a single "
                "intent are rules."),
    WrongAnswer("nearly all of one intent", rules_of_nearly_all,
                "You accept a word if most of its examples have one intent. All of them must."),
    WrongAnswer("above the support", rules_above_support,
                "A word in exactly `support` examples is a rule."),
    WrongAnswer("no support", rules_without_support,
                "You ignore `support`: a word that occurs in one example is no evidence."),
    WrongAnswer("capitals differ", rules_with_case,
                "You treat \"Tide\" and \"tide\" as two words: use lower case."),
    WrongAnswer("words between spaces", rules_between_spaces,
                "Your words contain punctuation, such as \"tide?\"."),
    WrongAnswer("numbers", rules_with_numbers,
                "You make rules of numbers. A word has letters only."),
    WrongAnswer("words by intent", rules_by_intent,
                "Return a dictionary from word to intent, not from intent to words."),
    WrongAnswer("words alone", rules_as_words,
                "Return a dictionary from word to intent, not the words alone."),
    WrongAnswer("long words", rules_of_long_words,
                "You leave out short words. The examples decide, not the length."),
    WrongAnswer("the latest intent", rules_of_latest,
                "You overwrite the intent of a word. A word that occurs with another intent before "
                "is no rule."),
    WrongAnswer("needs examples", rules_need_examples,
                "Without examples there are no rules: return an empty dictionary."),
]  # fmt: skip

# --- Known mistakes in routing --------------------------------------------------------------------


class Parts:
    """The right router in parts; each mistake replaces one of them."""

    def __call__(
        self, requests: Sequence[str], rules: Rules, classify: Classify, budget: int
    ) -> Any:
        """Return what `reference_route` returns, as far as the parts are right."""
        self.remaining, routes = budget, []
        for request in requests:
            route = self.by_rules(self.intents(request, rules))
            if route is None and self.may_ask(budget):
                self.remaining -= 1
                route = self.read(self.ask(classify, request))
            routes.append(PERSON if route is None else route)
        return routes

    def intents(self, request: str, rules: Rules) -> list[str]:
        words = re.findall(r"[a-z]+", request.lower())
        return [rules[word] for word in words if word in rules]

    def by_rules(self, intents: list[str]) -> str | None:
        return intents[0] if len(set(intents)) == 1 else None

    def may_ask(self, budget: int) -> bool:
        return self.remaining > 0

    def ask(self, classify: Classify, request: str) -> str:
        return classify(request)

    def read(self, reply: str) -> str:
        reply = reply.lower().strip(" .\n")
        return reply if reply in INTENTS else PERSON


class FirstWord(Parts):
    def by_rules(self, intents: list[str]) -> str | None:
        return intents[0] if intents else None


class Majority(Parts):
    def by_rules(self, intents: list[str]) -> str | None:
        ranked = Counter(intents).most_common(2)
        tied = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
        return ranked[0][0] if ranked and not tied else None


class SingleWord(Parts):
    def by_rules(self, intents: list[str]) -> str | None:
        return intents[0] if len(intents) == 1 else None


class NoMatchIsPerson(Parts):
    def by_rules(self, intents: list[str]) -> str | None:
        return super().by_rules(intents) if intents else PERSON


class ConflictIsPerson(Parts):
    def by_rules(self, intents: list[str]) -> str | None:
        return PERSON if len(set(intents)) > 1 else super().by_rules(intents)


class AlwaysAsks(Parts):
    def by_rules(self, intents: list[str]) -> str | None:
        return None


class Substrings(Parts):
    def intents(self, request: str, rules: Rules) -> list[str]:
        return [intent for word, intent in rules.items() if word in request.lower()]


class CaseMatters(Parts):
    def intents(self, request: str, rules: Rules) -> list[str]:
        return [rules[word] for word in re.findall(r"[A-Za-z]+", request) if word in rules]


class BetweenSpaces(Parts):
    def intents(self, request: str, rules: Rules) -> list[str]:
        return [rules[word] for word in request.lower().split() if word in rules]


class NoBudget(Parts):
    def may_ask(self, budget: int) -> bool:
        return True


class BudgetTooSmall(Parts):
    def may_ask(self, budget: int) -> bool:
        return self.remaining > 1


class BudgetTooLarge(Parts):
    def may_ask(self, budget: int) -> bool:
        return self.remaining >= 0


class BudgetForEach(Parts):
    def may_ask(self, budget: int) -> bool:
        return budget > 0


class RawReply(Parts):
    def read(self, reply: str) -> str:
        return reply if reply in INTENTS else PERSON


class AnyReply(Parts):
    def read(self, reply: str) -> str:
        return reply.lower().strip(" .\n")


class ContainedIntent(Parts):
    def read(self, reply: str) -> str:
        return next((intent for intent in INTENTS if intent in reply.lower()), PERSON)


class FreeInvalidReplies(Parts):
    def read(self, reply: str) -> str:
        result = super().read(reply)
        self.remaining += result == PERSON
        return result


class AsksAgain(Parts):
    def ask(self, classify: Classify, request: str) -> str:
        reply = classify(request)
        return reply if self.read(reply) != PERSON else classify(request)


class RemembersReplies(Parts):
    def __call__(
        self, requests: Sequence[str], rules: Rules, classify: Classify, budget: int
    ) -> Any:
        routes = super().__call__(requests, rules, classify, budget)
        first = {request: routes[place] for place, request in reversed([*enumerate(requests)])}
        return [first[request] for request in requests]


class LowerRequest(Parts):
    def ask(self, classify: Classify, request: str) -> str:
        return classify(request.lower())


class StopsAtBudget(Parts):
    def __call__(
        self, requests: Sequence[str], rules: Rules, classify: Classify, budget: int
    ) -> Any:
        routes = []
        self.remaining = budget
        for request in requests:
            route = self.by_rules(self.intents(request, rules))
            if route is None:
                if self.remaining == 0:
                    break
                self.remaining -= 1
                route = self.read(classify(request))
            routes.append(route)
        return routes


class RaisesAtBudget(Parts):
    def may_ask(self, budget: int) -> bool:
        if self.remaining == 0:
            raise RuntimeError("the budget is used up")
        return True


class NoneForPerson(Parts):
    def __call__(
        self, requests: Sequence[str], rules: Rules, classify: Classify, budget: int
    ) -> Any:
        routes = super().__call__(requests, rules, classify, budget)
        return [None if route == PERSON else route for route in routes]


class RoutesByRequest(Parts):
    def __call__(
        self, requests: Sequence[str], rules: Rules, classify: Classify, budget: int
    ) -> Any:
        routes = super().__call__(requests, rules, classify, budget)
        return dict(zip(requests, routes, strict=True))


ROUTE_MISTAKES = [
    WrongAnswer("the first word", FirstWord(),
                "The first matching word decides. Words of two intents make a request unclear."),
    WrongAnswer("the majority of words", Majority(),
                "You count matching words. Words of two intents make a request unclear."),
    WrongAnswer("a single word", SingleWord(),
                "Two matching words with the same intent are clear."),
    WrongAnswer("no match is for a person", NoMatchIsPerson(),
                "You do not ask the model about a request without a matching word."),
    WrongAnswer("a conflict is for a person", ConflictIsPerson(),
                "You do not ask the model about a request that matches two intents."),
    WrongAnswer("always asks", AlwaysAsks(),
                "You ask the model about clear requests, too."),
    WrongAnswer("parts of words", Substrings(),
                "You search for parts of words: \"order\" is in \"border\"."),
    WrongAnswer("capitals matter", CaseMatters(),
                "The rules are in lower case, and you compare them with capitals."),
    WrongAnswer("words between spaces, in requests", BetweenSpaces(),
                "You split a request at spaces, so \"tide?\" matches nothing."),
    WrongAnswer("no budget", NoBudget(),
                "You ignore the budget."),
    WrongAnswer("a budget too small", BudgetTooSmall(),
                "You leave one call of the budget unused."),
    WrongAnswer("a budget too large", BudgetTooLarge(),
                "You call the model once more than the budget allows."),
    WrongAnswer("a budget for each", BudgetForEach(),
                "The budget is for all requests together, not for each."),
    WrongAnswer("the raw reply", RawReply(),
                "A model writes \"Order.\" for order: remove spaces and full stops around the "
                "reply, and use lower case."),
    WrongAnswer("any reply", AnyReply(),
                "You return a reply that is no intent: a person handles such a request."),
    WrongAnswer("an intent inside the reply", ContainedIntent(),
                "You search for an intent inside the reply, so \"not an order\" becomes order."),
    WrongAnswer("free invalid replies", FreeInvalidReplies(),
                "A call whose reply is no intent has cost its tokens too."),
    WrongAnswer("asks again", AsksAgain(),
                "You ask twice about one request. At temperature 0 the reply is the same."),
    WrongAnswer("remembers replies", RemembersReplies(),
                "Equal requests get the route of the first. Call the model for each of them."),
    WrongAnswer("a request in lower case", LowerRequest(),
                "Pass the request to the model as it is."),
    WrongAnswer("stops at the budget", StopsAtBudget(),
                "When the budget is used up you stop. Later requests can be clear, and each needs "
                "a route."),
    WrongAnswer("an error at the budget", RaisesAtBudget(),
                "A used-up budget is an expected state: route to a person, do not raise an "
                "error."),
    WrongAnswer("None for a person", NoneForPerson(),
                "The route to a person is the text \"person\", not None."),
    WrongAnswer("routes by request", RoutesByRequest(),
                "Return a list in the order of the requests. In a dictionary, equal requests share "
                "a route."),
]  # fmt: skip

# --- Cases ----------------------------------------------------------------------------------------

A_FEW = (
    ("When is the tide low?", "tide"), ("Tide on Friday, tide on Monday?", "tide"),
    ("Is 12 coins the price?", "price"), ("12 coins? What price is that?", "price"),
    ("I order 7 nets.", "order"), ("I order 9 nets, low price.", "order"),
    ("A berth for the Heron", "berth"), ("Ebb and ebb again", "tide"),
)  # fmt: skip
RULE_CASES = [
    Case("no examples", ((), 2), "Return an empty dictionary."),
    Case("support 1", (A_FEW[:2], 1), "Each word with a single intent is a rule."),
    Case("support 2", (A_FEW, 2), "A word needs `support` examples, all with the same intent."),
    Case("support 3", ((*A_FEW, ("High TIDE!", "tide")), 3)),
    Case("a word that changes its intent later",
         ((("open", "hours"), ("open", "hours"), ("open", "complaint")), 2),
         "A word that occurs with two intents is no rule."),
    Case("30 examples of one intent and one of another",
         ((*[("ferry", "hours")] * 30, ("ferry", "complaint")), 5),
         "A word that occurs with two intents is no rule."),
]  # fmt: skip

RULES = {"tide": "tide", "ebb": "tide", "order": "order", "price": "price", "coins": "price"}


@dataclass(frozen=True)
class Script:
    """Requests, what a model replies to each unclear one, and the budget."""

    requests: tuple[str, ...]
    replies: tuple[str, ...] = ("order",)
    budget: int = 5
    rules: tuple[tuple[str, str], ...] = tuple(RULES.items())


class Run(NamedTuple):
    """What a router did: the routes, the requests that it asked about, whether it changed input."""

    routes: Any
    queries: tuple[str, ...]
    changed: bool = False


def run_script(route: Callable, script: Script) -> Run:
    """Return what `route` does with a script."""
    requests, rules, queries = list(script.requests), dict(script.rules), []

    def classify(request: str) -> str:
        queries.append(request)
        return script.replies[(len(queries) - 1) % len(script.replies)]

    routes = route(requests, rules, classify, script.budget)
    changed = requests != list(script.requests) or rules != dict(script.rules)
    return Run(list(routes) if isinstance(routes, tuple) else routes, tuple(queries), changed)


ROUTE_CASES = [
    Case("a clear request", (Script(("Is the tide high",)),),
         "One matching intent is the route, without a call."),
    Case("capitals and a question mark", (Script(("Tide?",)),),
         "Compare words in lower case and without punctuation."),
    Case("two words of one intent", (Script(("Tide or ebb", "12 coins, what price")),)),
    Case("no matching word", (Script(("Sell me a Net",), ("order",)),),
         "An unclear request goes to the model."),
    Case("words of two intents", (Script(("The price of my order",), ("order",)),),
         "An unclear request goes to the model."),
    Case("two words against one", (Script(("ebb, tide, order",), ("order",)),),
         "An unclear request goes to the model."),
    Case("a part of a word", (Script(("Cross the border",), ("hours",)),),
         "Compare whole words."),
    Case("replies with capitals, spaces and a full stop",
         (Script(("Hello", "Open at 9"), ("Order.", " hours\n")),),
         "Use `reply.lower().strip(\" .\\n\")`."),
    Case("replies that are no intent",
         (Script(("Hello", "Rain?", "Open"), ("weather", "not an order", "")),),
         "Route to \"person\"."),
    Case("a budget of 2 for 4 unclear requests",
         (Script(("Hello", "Open", "Broken", "Late"), ("hours", "complaint"), 2),),
         "When the budget is used up, unclear requests go to a person."),
    Case("a clear request after the budget is used up",
         (Script(("Hello", "Open", "High tide", "Late"), ("berth",), 1),),
         "A clear request needs no call."),
    Case("a budget of 0", (Script(("Hello", "ebb"), budget=0),),
         "With a budget of 0 the rules still work."),
    Case("an invalid reply and a budget of 2",
         (Script(("Hello", "Open", "Late"), ("sorry", "hours", "berth"), 2),),
         "Each call counts, whatever the reply."),
    Case("no rules", (Script(("High tide", "My order"), ("tide", "order"), rules=()),)),
    Case("no requests", (Script(()),), "Return an empty list."),
    Case("equal requests", (Script(("Hello", "Hello"), ("hours", "berth")),),
         "Each request has its own route and, if it is unclear, its own call."),
]  # fmt: skip


def requests_of(task: str, count: int, seed: int, split: str) -> list[tuple[str, str]]:
    """Return requests of the harbour with their intents."""
    drawn = instances(task, count, seed, split=split)
    return [(item.messages[1]["content"], item.answer["content"]) for item in drawn]


def trial(learn_rules: Callable, route: Callable) -> tuple[int, int]:
    """Return how many of HELD_OUT requests are right, and the calls.

    Their phrasings are not in the practice. The scripted model is right on 19 of 20 requests.
    """
    rules = learn_rules(requests_of("intent", PRACTICE, 41, "train"), 3)
    held_out = dict(requests_of("intent_phrasing", HELD_OUT, 42, "test"))
    calls = []

    def classify(request: str) -> str:
        calls.append(request)
        return held_out[request] if zlib.crc32(request.encode()) % 20 else "order"

    routes = route(list(held_out), rules, classify, BUDGET)
    right = sum(route == intent for route, intent in zip(routes, held_out.values(), strict=True))
    return right, len(calls)


# --- The checker ----------------------------------------------------------------------------------


def _expect(
    function: Callable, name: str, cases: Sequence[Case], reference: Callable, mistakes: Sequence
) -> None:
    """Raise NotYet unless a function agrees with the reference on each case."""
    for number, case in enumerate(cases):
        state, result = result_of(function, case.arguments)
        expected = reference(*case.arguments)
        if state == "value" and result == expected and type(result) is type(expected):
            continue
        if state == "error" and result == "NotImplementedError":
            function(*case.arguments)  # raises again, from the learner's own line
        why = name_mistake(function, cases, number, mistakes) or case.hint
        if state == "error":
            learners = function.args[0] if isinstance(function, partial) else function
            raise_again(function, learners, name, case, why)
        if isinstance(result, Run) and result.changed:
            why = "You change the requests or the rules: the caller still needs them."
        raise NotYet(
            f"{case.what}: `{name}` gives {_describe(result)}, expected {_describe(expected)}. "
            f"{why}".strip()
        )


def _describe(result: Any) -> str:
    if isinstance(result, Run):
        return f"{result.routes!r} with {len(result.queries)} calls"
    return repr(dict(sorted(result.items()))) if isinstance(result, dict) else repr(result)


@exercise(
    "4.1",
    wrong=[
        *pair_answers(RULE_MISTAKES, second=reference_route),
        *pair_answers(ROUTE_MISTAKES, first=reference_rules),
        WrongAnswer(
            "returns nothing", (lambda examples, support: None, reference_route), "gives None",
        ),
    ],
)  # fmt: skip
def check_router(
    learn_rules: Callable[[Examples, int], Rules], route: Callable[..., list[str]]
) -> str:
    """Judge `learn_rules(examples, support)` and `route(requests, rules, classify, budget)`."""
    _expect(learn_rules, "learn_rules", RULE_CASES, reference_rules, RULE_MISTAKES)
    runs = [replace(m, answer=partial(run_script, m.answer)) for m in ROUTE_MISTAKES]
    runner, reference = partial(run_script, route), partial(run_script, reference_route)
    _expect(runner, "route", ROUTE_CASES, reference, runs)
    right, calls = trial(learn_rules, route)
    if (right, calls) != trial(reference_rules, reference_route):
        raise NotYet(
            f"of {HELD_OUT} held-out requests {right} are right after {calls} calls; expected "
            "{} after {}.".format(*trial(reference_rules, reference_route))
        )
    return (
        f"of {HELD_OUT} held-out requests {right} ({right / HELD_OUT:.0%}) are right with {calls} "
        "calls of a scripted model that is right on 19 of 20."
    )
