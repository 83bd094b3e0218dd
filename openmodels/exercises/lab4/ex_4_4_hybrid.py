"""Exercise 4.4: fuse a keyword and a vector ranking so that the result beats both."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.cases import Case
from openmodels.exercises.contracts import Contract, shorten
from openmodels.exercises.known_mistakes import pair_answers

Scores = list[tuple[str, float]]
Part = Callable[[str, int], Scores]
Fuse = Callable[..., Scores]
Search = Callable[..., list[str]]

# --- The reference solution -----------------------------------------------------------------------


def reference_fuse(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    """Return ids with their reciprocal rank fusion scores, best first."""
    if k < 0 or (top is not None and top < 1):
        raise ValueError(f"k is {k} and top is {top}; they must be at least 0 and 1")
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, document in enumerate(dict.fromkeys(ranking), start=1):
            scores[document] = scores.get(document, 0.0) + 1 / (k + rank)
    return in_order(scores)[:top]


def in_order(scores: dict[str, float]) -> Scores:
    """Return the pairs of a dict, the highest score first, equal scores by id."""
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def reference_search(
    question: str, keyword: Part, vector: Part, k: float = 60, top: int = 5, depth: int = 20
) -> list[str]:
    """Return the ids of the best documents of both parts."""
    rankings = [ids_of(part(question, depth)) for part in (keyword, vector)]
    return ids_of(reference_fuse(rankings, k, top))


def ids_of(pairs: Scores) -> list[str]:
    """Return the ids of (id, score) pairs."""
    return [document for document, _ in pairs]


# --- Known mistakes of `fuse` ---------------------------------------------------------------------


def expect_numbers(k: float, top: int | None) -> None:
    """Raise ValueError as the reference does."""
    reference_fuse([], k, top)


def fuse_by(points: Callable[[int, float, int], float]) -> Fuse:
    """Return a fusion with other points. points: of rank, k and the ranking's length."""

    def fuse(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
        expect_numbers(k, top)
        scores: dict[str, float] = {}
        for ranking in rankings:
            unique = list(dict.fromkeys(ranking))
            for rank, document in enumerate(unique, start=1):
                scores[document] = scores.get(document, 0.0) + points(rank, k, len(unique))
        return in_order(scores)[:top]

    return fuse


def fuse_repeats(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    expect_numbers(k, top)
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, document in enumerate(ranking, start=1):
            scores[document] = scores.get(document, 0.0) + 1 / (k + rank)
    return in_order(scores)[:top]


def fuse_with_gaps(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    expect_numbers(k, top)
    scores: dict[str, float] = {}
    for ranking in rankings:
        for document in dict.fromkeys(ranking):
            scores[document] = scores.get(document, 0.0) + 1 / (k + ranking.index(document) + 1)
    return in_order(scores)[:top]


def fuse_last_places(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    return reference_fuse([list(dict.fromkeys(r[::-1]))[::-1] for r in rankings], k, top)


def fuse_intersection(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    everywhere = set.intersection(*map(set, rankings)) if rankings else set()
    return [pair for pair in reference_fuse(rankings, k) if pair[0] in everywhere][:top]


def fuse_mean(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    return [(d, score / len(rankings)) for d, score in reference_fuse(rankings, k, top)]


def fuse_best(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    expect_numbers(k, top)
    scores: dict[str, float] = {}
    for ranking in rankings:
        for document, score in reference_fuse([ranking], k):
            scores[document] = max(score, scores.get(document, 0.0))
    return in_order(scores)[:top]


def fuse_filling(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    expect_numbers(k, top)
    scores: dict[str, float] = {d: 0.0 for ranking in rankings for d in ranking}
    for ranking in rankings:
        unique = list(dict.fromkeys(ranking))
        for document in scores:
            rank = unique.index(document) + 1 if document in unique else len(unique) + 1
            scores[document] += 1 / (k + rank)
    return in_order(scores)[:top]


def fuse_first_seen(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    scores = dict(reference_fuse(rankings, k))
    seen = dict.fromkeys(document for ranking in rankings for document in ranking)
    expect_numbers(k, top)
    return sorted(((d, scores[d]) for d in seen), key=lambda pair: -pair[1])[:top]


def fuse_reversed(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    expect_numbers(k, top)
    pairs = reference_fuse(rankings, k)
    return sorted(pairs, key=lambda pair: (pair[1], pair[0]), reverse=True)[:top]


def fuse_worst_first(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    return sorted(reference_fuse(rankings, k, top), key=lambda pair: (pair[1], pair[0]))


def fuse_cut_first(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    expect_numbers(k, top)
    return reference_fuse([list(dict.fromkeys(r))[:top] for r in rankings], k, top)


def fuse_everything(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    expect_numbers(k, top)
    return reference_fuse(rankings, k)


def fuse_with_sixty(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    expect_numbers(k, top)
    return reference_fuse(rankings, 60, top)


def fuse_two(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    return reference_fuse(rankings[:2], k, top)


def fuse_popping(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    result = reference_fuse(rankings, k, top)
    for ranking in rankings:
        ranking[:] = dict.fromkeys(ranking)
    return result


def fuse_unchecked(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    return fuse_everything(rankings, abs(k))[:top]


def fuse_refusing_zero(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    return reference_fuse(rankings, k or -1, top)


def fuse_unchecked_top(rankings: list[list[str]], k: float = 60, top: int | None = None) -> Scores:
    return reference_fuse(rankings, k)[:top]


FUSE_MISTAKES = [
    WrongAnswer("ranks from 0", fuse_by(lambda rank, k, n: 1 / (k + rank - 1 or 1e-9)),
                "Your ranks start at 0. The first document has rank 1."),
    WrongAnswer("k left out", fuse_by(lambda rank, k, n: 1 / rank),
                "You divide by the rank alone: the score is 1 / (k + rank)."),
    WrongAnswer("k fixed", fuse_with_sixty, "Your function ignores `k`."),
    WrongAnswer("linear points", fuse_by(lambda rank, k, n: n - rank + 1),
                "You count points down from the length (Borda). The score is 1 / (k + rank)."),
    WrongAnswer("repeats add", fuse_repeats,
                "A repeated id scores twice in one ranking. It counts once, at its first place."),
    WrongAnswer("gaps behind repeats", fuse_with_gaps,
                "A repeat takes up a rank. Remove repeats first, so that later ids move up."),
    WrongAnswer("last place of a repeat", fuse_last_places,
                "You use the last place of a repeated id. It counts at its first place."),
    WrongAnswer("intersection", fuse_intersection,
                "You drop ids that a ranking lacks. They get the points of the other rankings."),
    WrongAnswer("mean", fuse_mean, "You divide by the number of rankings: the scores are sums."),
    WrongAnswer("maximum", fuse_best,
                "You take the best score of an id. Add its scores: being in two rankings counts."),
    WrongAnswer("last rank for missing ids", fuse_filling,
                "You give a missing id the rank behind the last. It gets nothing."),
    WrongAnswer("ties as they come", fuse_first_seen,
                "Ids with equal scores come in alphabetical order, not as first seen."),
    WrongAnswer("ties reversed", fuse_reversed,
                "`reverse=True` also reverses the order of ties: sort by (-score, id)."),
    WrongAnswer("worst first", fuse_worst_first, "Your result begins with the lowest score."),
    WrongAnswer("cut before fusion", fuse_cut_first,
                "You cut the rankings to `top` before the fusion. An id that is sixth in both may "
                "win: cut the result."),
    WrongAnswer("top ignored", fuse_everything, "Your function ignores `top`."),
    WrongAnswer("two rankings", fuse_two, "You fuse two rankings only; there may be any number."),
    WrongAnswer("k of 0 refused", fuse_refusing_zero,
                "You refuse a k of 0. Ranks start at 1, so nothing is divided by 0."),
    WrongAnswer("k below 0", fuse_unchecked,
                "A negative k divides by 0 or turns the order round: raise ValueError."),
    WrongAnswer("top below 1", fuse_unchecked_top,
                "`[:0]` is empty and `[:-1]` drops the last id: raise ValueError."),
]  # fmt: skip

# --- Known mistakes of `search` -------------------------------------------------------------------


def search_by(combine: Callable[[Scores, Scores, float, int], list[str]]) -> Search:
    """Return a search that combines the parts' results in another way."""

    def search(
        question: str, keyword: Part, vector: Part, k: float = 60, top: int = 5, depth: int = 20
    ) -> list[str]:
        return combine(keyword(question, depth), vector(question, depth), k, top)

    return search


def unique(ids: Sequence[str], top: int) -> list[str]:
    return list(dict.fromkeys(ids))[:top]


def concatenate(first: Scores, second: Scores, k: float, top: int) -> list[str]:
    return unique(ids_of(first) + ids_of(second), top)


def fill_up(first: Scores, second: Scores, k: float, top: int) -> list[str]:
    return unique(ids_of(first or second), top)


def interleave(first: Scores, second: Scores, k: float, top: int) -> list[str]:
    columns = [ids_of(first), ids_of(second)]
    most = max(map(len, columns))
    return unique([c[i] for i in range(most) for c in columns if i < len(c)], top)


def add_scores(first: Scores, second: Scores, k: float, top: int) -> list[str]:
    scores: dict[str, float] = {}
    for document, score in first + second:
        scores[document] = scores.get(document, 0.0) + score
    return ids_of(in_order(scores))[:top]


def add_scaled(first: Scores, second: Scores, k: float, top: int) -> list[str]:
    scores: dict[str, float] = {}
    for pairs in (first, second):
        best = max((score for _, score in pairs), default=1.0)
        for document, score in pairs:
            scores[document] = scores.get(document, 0.0) + score / best
    return ids_of(in_order(scores))[:top]


def sort_both(first: Scores, second: Scores, k: float, top: int) -> list[str]:
    ordered = [ids_of(sorted(pairs, key=lambda pair: -pair[1])) for pairs in (first, second)]
    return ids_of(reference_fuse(ordered, k, top))


def shared_only(first: Scores, second: Scores, k: float, top: int) -> list[str]:
    return ids_of(fuse_intersection([ids_of(first), ids_of(second)], k, top))


def fixed_k(first: Scores, second: Scores, k: float, top: int) -> list[str]:
    return ids_of(reference_fuse([ids_of(first), ids_of(second)], 60, top))


def no_top(first: Scores, second: Scores, k: float, top: int) -> list[str]:
    return ids_of(reference_fuse([ids_of(first), ids_of(second)], k))


def cut_parts(first: Scores, second: Scores, k: float, top: int) -> list[str]:
    parts = [unique(ids_of(pairs), top) for pairs in (first, second)]
    return ids_of(reference_fuse(parts, k, top))


def search_shallow(
    question: str, keyword: Part, vector: Part, k: float = 60, top: int = 5, depth: int = 20
) -> list[str]:
    return reference_search(question, keyword, vector, k, top, top)


def search_twenty(
    question: str, keyword: Part, vector: Part, k: float = 60, top: int = 5, depth: int = 20
) -> list[str]:
    return reference_search(question, keyword, vector, k, top)


def search_small_letters(
    question: str, keyword: Part, vector: Part, k: float = 60, top: int = 5, depth: int = 20
) -> list[str]:
    return reference_search(question.lower(), keyword, vector, k, top, depth)


def search_pairs(
    question: str, keyword: Part, vector: Part, k: float = 60, top: int = 5, depth: int = 20
) -> Scores:
    rankings = [ids_of(part(question, depth)) for part in (keyword, vector)]
    return reference_fuse(rankings, k, top)


SEARCH_MISTAKES = [
    WrongAnswer("keywords only", search_by(lambda a, b, k, top: unique(ids_of(a), top)),
                "You return the keyword ranking. Fuse it with the vector ranking."),
    WrongAnswer("vectors only", search_by(lambda a, b, k, top: unique(ids_of(b), top)),
                "You return the vector ranking. Fuse it with the keyword ranking."),
    WrongAnswer("vectors as a fallback", search_by(fill_up),
                "You use vectors only if no keyword matches. Some word nearly always matches."),
    WrongAnswer("one behind the other", search_by(concatenate),
                "You append one ranking to the other, so the second rarely counts."),
    WrongAnswer("alternating", search_by(interleave),
                "You alternate between the rankings. Fusion puts what both rank well first."),
    WrongAnswer("sum of scores", search_by(add_scores),
                "You add scores of different scales. Use the ranks only."),
    WrongAnswer("sum of scaled scores", search_by(add_scaled),
                "You scale the scores by the best and add them. A distance is low if it is good: "
                "use the ranks only."),
    WrongAnswer("sorted by score", search_by(sort_both),
                "You sort by score. Both parts return the best first, and the vector part's "
                "scores are distances."),
    WrongAnswer("shared results only", search_by(shared_only),
                "You return only what both parts return."),
    WrongAnswer("k not passed on", search_by(fixed_k), "`search` does not pass `k` on."),
    WrongAnswer("top not applied", search_by(no_top), "`search` does not cut the result to `top`."),
    WrongAnswer("parts cut to top", search_by(cut_parts),
                "You cut each part to `top` before the fusion. A document that is sixth in both "
                "may win."),
    WrongAnswer("top as depth", search_shallow,
                "You ask the parts for `top` results. Ask for `depth`: a document that is sixth "
                "in both may win."),
    WrongAnswer("depth fixed", search_twenty, "`search` does not pass `depth` on."),
    WrongAnswer("question changed", search_small_letters,
                "Pass the question on as it is."),
]  # fmt: skip

# --- The cases ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScriptedPart:
    """A part of the search whose results are known. results: ids by question, best first.

    distance: whether scores are distances, small for the best, or points, large for the best.
    """

    results: dict[str, list[str]] = field(default_factory=dict)
    distance: bool = False

    def __call__(self, question: str, depth: int) -> Scores:
        ids = self.results.get(question, [])[:depth]
        scores = [
            0.1 + 0.03 * n if self.distance else 19.0 / (1 + 0.4 * n) for n in range(len(ids))
        ]
        return list(zip(ids, scores, strict=True))


def fuse_case(what: str, rankings: Sequence[str], hint: str = "", **options: Any) -> Case:
    """Return a case; a ranking is a text of one-letter ids."""
    call: tuple = ([list(ranking) for ranking in rankings],)
    if options:
        call += (options.get("k", 60), options.get("top"))
    return Case(f"{what}, {', '.join(rankings) or 'nothing'}", call, hint)


def search_case(what: str, first: str, second: str, hint: str = "", **options: Any) -> Case:
    """Return a case whose parts answer the question "Ropes?" only."""
    parts = (ScriptedPart({"Ropes?": list(first)}), ScriptedPart({"Ropes?": list(second)}, True))
    call: tuple = ("Ropes?", *parts)
    if options:
        call += (options.get("k", 60), options.get("top", 5), options.get("depth", 20))
    return Case(
        f"{what}, keyword {first or 'nothing'} and vector {second or 'nothing'}", call, hint
    )


EXAMPLE = fuse_case("the example", ("ab", "bc"), "b is in both: 1/61 + 1/62.")
FUSE_CASES = [
    fuse_case("one ranking", ("dbac",)),
    EXAMPLE,
    fuse_case("three rankings", ("abcd", "cadb", "dc")),
    fuse_case("k of 1", ("abcd", "cadb", "dc"), k=1),
    fuse_case("k of 0", ("abcd", "bead"), k=0),
    fuse_case("ties", ("zma", "yxa"), "z and y have the same score: y comes first."),
    fuse_case("repeated ids", ("abacd", "dcc"), "Each id counts once in a ranking."),
    fuse_case("an id that is repeated at once", ("aab", "cbbba"), "b has rank 2 in the first."),
    fuse_case("top of 2", ("abcdef", "fedcga"), top=2),
    fuse_case("top of 1", ("abcx", "defx"), "x is fourth in both and wins.", top=1),
    fuse_case("top beyond the end", ("ab", "c"), top=9),
    fuse_case("an empty ranking", ("", "ba"), "The other ranking alone decides."),
    fuse_case("no ranking", ()),
    fuse_case("a large k", ("abcde", "edbca"), k=1000),
    fuse_case("a negative k", ("ab", "bc"), "Raise ValueError.", k=-1),
    fuse_case("a top of 0", ("ab", "bc"), "Raise ValueError.", top=0),
    fuse_case("a negative top", ("ab", "bc"), "Raise ValueError.", top=-1),
]
SEARCH_CASES = [
    search_case("two parts", "abcd", "dcef"),
    search_case("no keyword matches", "", "gfa"),
    search_case("no vector", "gfa", ""),
    search_case("more than five", "abcdefgh", "hgxyefwv"),
    search_case("sixth in both", "abcdex", "fghijx", "x is sixth in both and wins.", top=3),
    search_case("depth of 2", "abcd", "efgh", depth=2),
    search_case("depth of 30", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWxXYZ",
                depth=30, top=7),
    search_case("beyond the default depth", "abcdefghijklmnopqrstx", "ABCDEFGHIJKLMNOPQRSTx",
                "x is at place 21 in both, and the default depth is 20."),
    search_case("k of 1", "abcdefgh", "hpgqrefc", k=1),
    search_case("several chunks of a document", "aabac", "bccad"),
]  # fmt: skip
FUSE = Contract(reference_fuse, FUSE_CASES, FUSE_MISTAKES)
SEARCH = Contract(reference_search, SEARCH_CASES, SEARCH_MISTAKES)


def held_out(count: int = 60, seed: int = 44) -> tuple[ScriptedPart, ScriptedPart, dict[str, str]]:
    """Return a keyword part, a vector part, and questions with the document that answers each.

    A third of the questions have a rare word, a third paraphrase, a third are hard for both parts.
    """
    rng = random.Random(f"hybrid/{seed}")
    documents = [f"d{n:03}" for n in range(400)]
    keyword, vector, answers = {}, {}, {}
    for number in range(count):
        question, answer = f"question {number}", rng.choice(documents)
        good, poor, middle = rng.randrange(3), rng.randrange(8, 40), rng.randrange(4, 9)
        places = [(good, poor), (poor, good), (middle, middle + rng.randrange(-1, 2))][number % 3]
        answers[question] = answer
        for part, place in zip((keyword, vector), places, strict=True):
            ids = [d for d in rng.sample(documents, 40) if d != answer]
            part[question] = [*ids[:place], answer, *ids[place:]]
    return ScriptedPart(keyword), ScriptedPart(vector, True), answers


def recall(search: Callable[[str], list[str]], answers: dict[str, str]) -> float:
    """Return the share of questions whose document is in the result."""
    return sum(answer in search(question) for question, answer in answers.items()) / len(answers)


def measure(search: Search) -> tuple[float, float, float]:
    """Return recall@5 of the keyword part, of the vector part, and of a search over both."""
    keyword, vector, answers = held_out()
    return (
        recall(lambda question: ids_of(keyword(question, 5)), answers),
        recall(lambda question: ids_of(vector(question, 5)), answers),
        recall(lambda question: search(question, keyword, vector), answers),
    )


@exercise(
    "4.4",
    wrong=[
        *pair_answers(
            [
                *FUSE_MISTAKES,
                WrongAnswer("rankings changed", fuse_popping, "changes its input"),
                WrongAnswer("ids only", lambda *call: ids_of(reference_fuse(*call)), "its score"),
                WrongAnswer("a dict", lambda *call: dict(reference_fuse(*call)), "its score"),
                WrongAnswer("no return", lambda *call: None, "Is a `return` missing"),
            ],
            second=reference_search,
        ),
        *pair_answers(
            [
                *SEARCH_MISTAKES,
                WrongAnswer("pairs returned", search_pairs, "ids only"),
                WrongAnswer("no return in search", lambda *call: None, "Is a `return` missing"),
            ],
            first=reference_fuse,
        ),
    ],
)  # fmt: skip
def check_hybrid(fuse: Fuse, search: Search) -> str:
    """Judge `fuse(rankings, k, top)` and `search(question, keyword, vector, k, top, depth)`."""
    result = fuse(*[[list(r) for r in EXAMPLE.arguments[0]]])
    if isinstance(result, dict) or (
        isinstance(result, (list, tuple)) and any(isinstance(item, str) for item in result)
    ):
        raise NotYet(
            f"`fuse` returns {shorten(result)}, expected a list of pairs: each id with its score."
        )
    FUSE.expect(fuse)
    result = search(*SEARCH_CASES[0].arguments)
    if isinstance(result, (list, tuple)) and any(not isinstance(item, str) for item in result):
        raise NotYet(f"`search` returns {shorten(result)}, expected ids only.")
    SEARCH.expect(search)
    keyword, vector, both = measure(search)
    if both <= max(keyword, vector):
        raise NotYet(
            f"recall@5 is {both:.0%}, not above {keyword:.0%} (keyword) and {vector:.0%} (vector)."
        )
    return (
        f"on 60 held-out questions, recall@5 is {both:.0%}: keyword alone {keyword:.0%}, vector "
        f"alone {vector:.0%}."
    )


REFERENCES = (reference_fuse, reference_search)
