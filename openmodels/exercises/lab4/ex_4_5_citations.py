"""Exercise 4.5: check the citations of an answer, whatever the words of its claims."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.cases import Case
from openmodels.exercises.contracts import Contract, describe_difference
from openmodels.exercises.lab4.number_words import NUMBER, read_numbers, values_of_words

Judge = Callable[[str, str], bool]
Check = Callable[[str, list[str], Judge], list[str]]

REFUSAL = "The documents do not say."
SUPPORTED, UNCITED, NO_PASSAGE, UNSUPPORTED, REFUSED = (
    "supported", "uncited", "no such passage", "unsupported", "refusal"
)  # fmt: skip
SENTENCE = re.compile(r"(.+?(?:[.!?](?=\s|\[|$)|$))((?:\s*\[\d+\])*)", re.DOTALL)

# --- The reference solution -----------------------------------------------------------------------


def split_sentences(answer: str) -> list[tuple[str, list[int]]]:
    """Return each sentence without its citation marks, and the numbers that it cites."""
    sentences = []
    for match in SENTENCE.finditer(answer.strip()):
        cited = [int(number) for number in re.findall(r"\[(\d+)\]", match[0])]
        claim = " ".join(re.sub(r"\s*\[\d+\]", "", match[1]).split())
        if claim:
            sentences.append((claim, cited))
    return sentences


@dataclass(frozen=True)
class Rules:
    """The steps of the check. A known mistake replaces one of them."""

    split: Callable[[str], list[tuple[str, list[int]]]] = split_sentences
    values: Callable[[str], set] = read_numbers
    exists: Callable[[list[int], int], bool] = lambda cited, n: all(1 <= c <= n for c in cited)
    contains: Callable[[set, str, Callable], bool] = lambda values, text, read: values <= read(text)
    text: Callable[[list[int], list[str]], str] = lambda cited, passages: "\n".join(
        passages[number - 1] for number in dict.fromkeys(cited)
    )
    refuses: Callable[[str], bool] = lambda claim: claim == REFUSAL


def check_with(rules: Rules, answer: str, passages: list[str], judge: Judge) -> list[str]:
    """Return the verdict on each sentence."""
    return [verdict_on(rules, *sentence, passages, judge) for sentence in rules.split(answer)]


def verdict_on(
    rules: Rules, claim: str, cited: list[int], passages: list[str], judge: Judge
) -> str:
    """Return the verdict on a sentence."""
    if not cited:
        return REFUSED if rules.refuses(claim) else UNCITED
    if not rules.exists(cited, len(passages)):
        return NO_PASSAGE
    text = rules.text(cited, passages)
    if not rules.contains(rules.values(claim), text, rules.values):
        return UNSUPPORTED
    return SUPPORTED if judge(claim, text) else UNSUPPORTED


def reference_check(answer: str, passages: list[str], judge: Judge) -> list[str]:
    """Return the verdict on each sentence of an answer."""
    return check_with(Rules(), answer, passages, judge)


# --- Known mistakes -------------------------------------------------------------------------------


def use(**changes: Any) -> Check:
    """Return the check with other rules."""
    return lambda answer, passages, judge: check_with(Rules(**changes), answer, passages, judge)


def split_at_stops(answer: str) -> list[tuple[str, list[int]]]:
    parts = [part for part in re.split(r"(?<=[.!?])\s+", answer.strip()) if part]
    cited = [[int(n) for n in re.findall(r"\[(\d+)\]", part)] for part in parts]
    claims = [" ".join(re.sub(r"\s*\[\d+\]", "", part).split()) for part in parts]
    return [pair for pair in zip(claims, cited, strict=True) if pair[0] or pair[1]]


def split_at_every_stop(answer: str) -> list[tuple[str, list[int]]]:
    pairs = re.findall(r"([^.!?]+[.!?]?)((?:\s*\[\d+\])*)", answer)
    return [
        (claim, [int(n) for n in re.findall(r"\[(\d+)\]", claim + marks)])
        for claim, marks in ((re.sub(r"\s*\[\d+\]", "", c).strip(), c + m) for c, m in pairs)
        if claim
    ]


def split_full_stops_only(answer: str) -> list[tuple[str, list[int]]]:
    return split_sentences(re.sub(r"[!?](?=\s|\[)", ",", answer))


def split_without_open_end(answer: str) -> list[tuple[str, list[int]]]:
    return [pair for pair in split_sentences(answer) if pair[0][-1] in ".!?"]


def split_citations_behind_only(answer: str) -> list[tuple[str, list[int]]]:
    return [
        (" ".join(re.sub(r"\s*\[\d+\]", "", m[1]).split()), [*map(int, re.findall(r"\d+", m[2]))])
        for m in SENTENCE.finditer(answer.strip())
    ]


def split_citations_inside_only(answer: str) -> list[tuple[str, list[int]]]:
    return [
        (" ".join(re.sub(r"\s*\[\d+\]", "", m[1]).split()),
         [*map(int, re.findall(r"\[(\d+)\]", m[1]))])
        for m in SENTENCE.finditer(answer.strip())
    ]  # fmt: skip


def split_first_citation(answer: str) -> list[tuple[str, list[int]]]:
    return [(claim, cited[:1]) for claim, cited in split_sentences(answer)]


def split_last_citation(answer: str) -> list[tuple[str, list[int]]]:
    return [(claim, cited[-1:]) for claim, cited in split_sentences(answer)]


def split_keeping_marks(answer: str) -> list[tuple[str, list[int]]]:
    return [
        (m[0].strip(), [*map(int, re.findall(r"\[(\d+)\]", m[0]))])
        for m in SENTENCE.finditer(answer.strip())
    ]


def split_whole_answer(answer: str) -> list[tuple[str, list[int]]]:
    pairs = split_sentences(answer)
    cited = [number for _, numbers in pairs for number in numbers]
    return [(claim, numbers if claim == REFUSAL else cited) for claim, numbers in pairs]


def split_single_digits(answer: str) -> list[tuple[str, list[int]]]:
    return [(c, [n for n in cited if n < 10]) for c, cited in split_sentences(answer)]


def split_lines(answer: str) -> list[tuple[str, list[int]]]:
    return [pair for line in answer.splitlines() for pair in split_sentences(line)]


def values_as_text(text: str) -> set[str]:
    return set(re.findall(NUMBER, text))


def values_in_digits(text: str) -> set[float]:
    return {float(number.replace(",", "")) for number in re.findall(NUMBER, text)}


def values_in_words(text: str) -> set[float]:
    words = values_of_words()
    return values_in_digits(text) | {v for word, v in words.items() if word in text.lower()}


def contains_as_text(values: set, text: str, read: Callable) -> bool:
    numbers = {f"{value:g}" for value in values}
    plain = text.replace(",", "") + " " + " ".join(f"{value:g}" for value in read(text))
    return all(number in plain for number in numbers)


def contains_any(values: set, text: str, read: Callable) -> bool:
    return not values or bool(values & read(text))


def contains_equal(values: set, text: str, read: Callable) -> bool:
    return values == read(text)


def judge_each_passage(answer: str, passages: list[str], judge: Judge) -> list[str]:
    verdicts = []
    for claim, cited in split_sentences(answer):
        single = [verdict_on(Rules(), claim, [n], passages, judge) for n in cited]
        single = single or [verdict_on(Rules(), claim, [], passages, judge)]
        verdicts.append(next((v for v in single if v != SUPPORTED), SUPPORTED))
    return verdicts


def judge_any_passage(answer: str, passages: list[str], judge: Judge) -> list[str]:
    verdicts = []
    for claim, cited in split_sentences(answer):
        if not cited or not Rules().exists(cited, len(passages)):
            verdicts.append(verdict_on(Rules(), claim, cited, passages, judge))
            continue
        single = [verdict_on(Rules(), claim, [n], passages, judge) for n in cited]
        verdicts.append(SUPPORTED if SUPPORTED in single else UNSUPPORTED)
    return verdicts


def trust_the_numbers(answer: str, passages: list[str], judge: Judge) -> list[str]:
    return check_with(Rules(), answer, passages, lambda claim, text: True)


def leave_all_to_the_judge(answer: str, passages: list[str], judge: Judge) -> list[str]:
    return check_with(Rules(values=lambda text: set()), answer, passages, judge)


def judge_without_values(answer: str, passages: list[str], judge: Judge) -> list[str]:
    def ask(claim: str, text: str) -> bool:
        return bool(read_numbers(claim)) or judge(claim, text)

    return check_with(Rules(), answer, passages, ask)


def judge_first(answer: str, passages: list[str], judge: Judge) -> list[str]:
    def inspect(claim: str, cited: list[int]) -> str:
        if cited and Rules().exists(cited, len(passages)):
            judge(claim, Rules().text(cited, passages))
        return verdict_on(Rules(), claim, cited, passages, judge)

    return [inspect(*pair) for pair in split_sentences(answer)]


def swap_for_the_judge(answer: str, passages: list[str], judge: Judge) -> list[str]:
    return reference_check(answer, passages, lambda claim, text: judge(text, claim))


def insert_a_passage(answer: str, passages: list[str], judge: Judge) -> list[str]:
    passages.insert(0, "")
    return check_with(
        Rules(text=lambda cited, texts: "\n".join(texts[n] for n in cited),
              exists=lambda cited, n: all(1 <= c < n for c in cited)),
        answer, passages, judge,
    )  # fmt: skip


def return_booleans(answer: str, passages: list[str], judge: Judge) -> list[bool]:
    return [verdict == SUPPORTED for verdict in reference_check(answer, passages, judge)]


MISTAKES = [
    WrongAnswer("split behind the full stop", use(split=split_at_stops),
                "You split at every full stop with a space behind it. A citation behind the full "
                "stop belongs to the sentence before it."),
    WrongAnswer("split in numbers", use(split=split_at_every_stop),
                "You split inside a number: a full stop ends a sentence only before a space, a "
                "citation or the end."),
    WrongAnswer("full stops only", use(split=split_full_stops_only),
                "Sentences end with ! and ? too."),
    WrongAnswer("split at line ends", use(split=split_lines),
                "You split at line ends, or your pattern stops there. A sentence may have several "
                "lines."),
    WrongAnswer("open end dropped", use(split=split_without_open_end),
                "You drop a last sentence without a full stop."),
    WrongAnswer("citations behind only", use(split=split_citations_behind_only),
                "You read the citations behind the full stop only. They may stand anywhere in "
                "the sentence."),
    WrongAnswer("citations inside only", use(split=split_citations_inside_only),
                "You read the citations before the full stop only. Those right behind it belong "
                "to the sentence too."),
    WrongAnswer("first citation only", use(split=split_first_citation),
                "You use the first citation only: a sentence may combine several passages."),
    WrongAnswer("last citation only", use(split=split_last_citation),
                "You use the last citation only: a sentence may combine several passages."),
    WrongAnswer("marks are values", use(split=split_keeping_marks),
                "The number of a citation is not a value of the claim: remove the marks first."),
    WrongAnswer("one list for the answer", use(split=split_whole_answer),
                "You collect the citations of the whole answer. Each sentence needs its own."),
    WrongAnswer("one digit", use(split=split_single_digits),
                "Your pattern reads one digit only: there may be ten passages or more."),
    WrongAnswer("index without a check", use(exists=lambda cited, n: all(c <= n for c in cited)),
                "There is no passage 0, and `passages[-1]` is the last one: check both ends."),
    WrongAnswer("one existing is enough",
                use(exists=lambda cited, n: any(1 <= c <= n for c in cited),
                    text=lambda cited, passages: "\n".join(
                        passages[c - 1] for c in cited if 1 <= c <= len(passages))),
                "Every cited passage must exist. You accept a sentence if one of them does."),
    WrongAnswer("counted from 0",
                use(exists=lambda cited, n: all(0 <= c < n for c in cited),
                    text=lambda cited, passages: "\n".join(passages[c] for c in cited)),
                "Passages are numbered from 1, lists from 0."),
    WrongAnswer("existence not checked", use(exists=lambda cited, n: True),
                "Check that each cited passage exists before you look into it."),
    WrongAnswer("all passages", use(text=lambda cited, passages: "\n".join(passages)),
                "You look in all passages. A claim must follow from those that it cites."),
    WrongAnswer("each passage alone", judge_each_passage,
                "You want each cited passage to support the whole claim. Together is enough."),
    WrongAnswer("any passage alone", judge_any_passage,
                "You judge each cited passage alone. A claim may need two of them together."),
    WrongAnswer("numbers as texts", use(values=values_as_text),
                "You compare numbers as texts: 1,200 and 1200 are the same value. Use "
                "`read_numbers`."),
    WrongAnswer("digits only", use(values=values_in_digits),
                "You read numbers in digits only: twelve is 12. Use `read_numbers`."),
    WrongAnswer("words within words", use(values=values_in_words),
                "You find number words inside other words: `often` is no ten. `read_numbers` finds "
                "whole words."),
    WrongAnswer("substrings", use(contains=contains_as_text),
                "You look for the digits inside the passage's text: 7 is not in 17."),
    WrongAnswer("any value", use(contains=contains_any),
                "Every value of the claim must be in the passages, not only one of them."),
    WrongAnswer("equal values", use(contains=contains_equal),
                "The passages may have more values than the claim."),
    WrongAnswer("no judge", trust_the_numbers,
                "You never ask the judge. Equal numbers can belong to different things."),
    WrongAnswer("judge only", leave_all_to_the_judge,
                "The judge overlooks numbers: compare the values yourself first."),
    WrongAnswer("judge without values only", judge_without_values,
                "You ask the judge only about claims without numbers. A claim with the right "
                "number can still be false."),
    WrongAnswer("judge's arguments swapped", swap_for_the_judge,
                "You swap the judge's arguments: `judge(claim, text)`."),
    WrongAnswer("refusal needs a citation", use(refuses=lambda claim: False),
                "The refusal needs no citation."),
    WrongAnswer("passages run together",
                use(text=lambda cited, passages: "".join(passages[c - 1] for c in cited)),
                "You join passages without a space or a line end, so the end of one and the start "
                "of the next become one number."),
    WrongAnswer("a refusal in any form", use(refuses=lambda claim: (
                    claim.lower().rstrip(".!") == REFUSAL.lower().rstrip("."))),
                "You ignore case or the full stop. A refusal has exactly the words and signs of "
                "`The documents do not say.`"),
    WrongAnswer("every uncited sentence is a refusal", use(refuses=lambda claim: "not" in claim),
                "Only the exact sentence `The documents do not say.` is a refusal."),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------


def scripted_judge(claim: str, text: str) -> bool:
    """Return whether a text speaks of the subject of a claim; numbers are not compared.

    The judge finds nothing if it gets a mark of a citation. It says no to a claim whose subject, a
    name with a capital letter, is not in the text, and to every claim with "free".
    """
    subjects = [s for s in ("Heron", "Gull", "Raven", "Ida", "rope") if s in claim]
    return "[" not in claim and all(s in text for s in subjects) and "free" not in claim


PASSAGES = [
    "The Heron lies at berth 17 and carries twelve crates.",
    "Ida has paid 1,200 coins, and the rope costs 2.5 coins per metre. Forty are sold.",
    "The Gull lies at berth 8. Often it sails at 6.",
    "The Raven weighs 21 tons; Seven sailors and thirty-four guests are on board.",
]


def ask(what: str, answer: str, hint: str = "", passages: Sequence[str] = PASSAGES) -> Case:
    """Return a case with the scripted judge."""
    return Case(f"{what}, {answer!r}", (answer, list(passages), scripted_judge), hint)


MANY = [*PASSAGES, *(f"The Heron was seen at {hour} o'clock." for hour in range(31, 39))]
EXAMPLE = ask("the example", "The Heron has 12 crates. [1] Ida owes 9 coins. [2]",
              "Ida owes nothing, so the value 9 is not in passage 2.")  # fmt: skip
CASES = [
    ask("a citation behind the full stop", "The Heron lies at berth 17. [1]"),
    ask("no citation", "The Heron lies at berth 17."),
    ask("two sentences", "The Heron lies at berth 17. [1] The Gull lies at berth 8. [3]",
        "Each sentence has its own citation behind its full stop."),
    ask("a citation without a space", "The Gull lies at berth 8.[3] Ida has paid.[2]"),
    ask("a citation before the full stop", "The Heron lies at berth 17 [1]. Ida has paid [2]!"),
    ask("a citation in the middle", "The Gull [3] lies at berth 8."),
    ask("a citation before the first word", "[1] The Heron lies at berth 17. Ida has paid. [2]"),
    ask("citations alone", "[1] [2]", "Without a claim there is no sentence."),
    ask("a sentence without a citation between two", "Ida has paid. [2] The Heron is here. The "
        "Gull lies at berth 8. [3]"),
    ask("a passage that does not exist", "The Heron lies at berth 17. [5]"),
    ask("passage 0", "The Raven weighs 21 tons. [0]"),
    ask("the last passage", "The Raven weighs 21 tons. [4]"),
    ask("one that exists and one that does not", "The Gull lies at berth 8. [3] [9]"),
    ask("passage 12 of 12", "The Heron was seen at 38 o'clock. [12]", "", MANY),
    EXAMPLE,
    ask("a wrong number", "The Heron lies at berth 8. [1]", "Passage 1 has no 8."),
    ask("digits of a longer number", "The Heron lies at berth 7. [1]"),
    ask("a number in words", "The Heron carries 12 crates. [1] The Gull lies at berth eight. [3]"),
    ask("a capital letter", "Twelve crates are on the Heron. [1] 7 sailors are on the Raven. [4]"),
    ask("a thousands separator", "Ida has paid 1200 coins. [2]"),
    ask("a part of a number", "Ida has paid 200 coins. [2]"),
    ask("a decimal number", "The rope costs 2.5 coins. [2] The rope costs 2.50 coins. [2]"),
    ask("a decimal that differs", "The rope costs 2.75 coins. [2]"),
    ask("number words with a hyphen", "The Raven weighs twenty-one tons. [4] It has 34 guests. "
        "[4]"),
    ask("a part of a number word", "The Raven weighs twenty tons. [4] 30 guests are there. [4]"),
    ask("tens in words", "40 ropes are sold. [2]"),
    ask("a number inside a word", "The Gull lies at berth 10. [3]"),
    ask("the word one", "No one knows the Raven. [4]"),
    ask("two numbers, one of them wrong", "The Heron lies at 17 with 13 crates. [1]"),
    ask("two citations, the second for a detail", "Ida has paid 1,200 coins. [2] [1]",
        "Passage 2 alone supports the claim; passage 1 may be cited too."),
    ask("two citations, the first for a detail", "Ida has paid 1,200 coins. [1] [2]"),
    ask("two passages together", "The Heron lies at 17 and Ida has paid 1,200 coins. [1] [2]"),
    ask("two passages, citations joined", "The Gull lies at 8, the Heron at 17. [3][1]"),
    ask("a fact of another passage", "Ida has paid 1,200 coins. [1]"),
    ask("a right number of something else", "The Heron sails at 6. [3]",
        "The judge finds no Heron in passage 3."),
    ask("a claim that the judge denies", "The rope is free. [2] The Raven has free beds for 7. "
        "[4]"),
    ask("a question and an exclamation", "Is the Gull here? [3] Ida has paid! [2] So what?"),
    ask("no full stop at the end", "Ida has paid. [2] The Gull sails at 6 [3]"),
    ask("no full stop and no citation", "Ida has paid. [2] The Gull sails at 6"),
    ask("a refusal", "The documents do not say."),
    ask("a refusal behind a claim", "Ida has paid. [2] The documents do not say."),
    ask("a refusal in small letters", "the documents do not say."),
    ask("a refusal without a full stop", "The documents do not say"),
    ask("a sentence of two lines", "The Heron\nlies at berth 17.\n[1] Ida has paid. [2]"),
    ask("two passages without full stops", "The Heron carries 17 crates. [1] [2]",
        "Passage 1 ends with 1, and passage 2 begins with 7.",
        ["The Heron carries crates at berth 1", "7 sailors are on the Heron"]),
    ask("nearly a refusal", "The documents do not say much about the Heron."),
    ask("a refusal with a citation", "The documents do not say. [1]",
        "With a citation it is a claim like any other."),
    ask("an empty answer", ""),
    ask("an answer in two lines", "The Heron lies at berth 17. [1]\nIda has paid. [2]"),
    ask("no passages", "Ida has paid. [1]", "", []),
]  # fmt: skip


def find_problem(result: Any, expected: list[str]) -> str:
    """Return what is wrong with the verdicts, or ""."""
    if isinstance(result, (list, tuple)) and len(result) != len(expected):
        return (
            f"your function returns {len(result)} verdicts, {list(result)!r}, expected "
            f"{len(expected)}, {expected!r}"
        )
    if isinstance(result, (list, tuple)) and any(isinstance(v, bool) for v in result):
        return f"your verdicts are {list(result)!r}; they are texts, such as {expected!r}"
    return describe_difference(result, expected)


CONTRACT = Contract(reference_check, CASES, MISTAKES, find_problem)


class Recorder:
    """Records the calls of the judge."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def __call__(self, claim: str, text: str) -> bool:
        self.calls.append((claim, text))
        return scripted_judge(claim, text)


def expect_calls(check_citations: Check) -> None:
    """Raise NotYet unless the judge is asked once per sentence that needs it, about its claim."""
    answer = (
        "The Heron [1] lies at 17. Ida has paid. [2] The Gull lies at 7. [3] So it is. Yes. [9]"
    )
    recorder = Recorder()
    check_citations(answer, list(PASSAGES), recorder)
    claims = [" ".join(claim.split()) for claim, _ in recorder.calls]
    expected = ["The Heron lies at 17.", "Ida has paid."]
    for claim, text in recorder.calls:
        if claim in PASSAGES or any(passage in claim for passage in PASSAGES):
            raise NotYet("you swap the judge's arguments: `judge(claim, text)`.")
        if "[" in claim:
            raise NotYet(f"the judge gets {claim!r}: remove the citation marks from the claim.")
        if claim in expected and sum(passage in text for passage in PASSAGES) != 1:
            raise NotYet(f"the judge gets {text!r} for {claim!r}: pass the cited passages only.")
    if [c.rstrip(".") for c in claims] != [c.rstrip(".") for c in expected]:
        raise NotYet(
            f"your function calls the judge about {claims}, expected {expected}. A call costs "
            "time: do not ask if the sentence has no citation, a missing passage or a wrong number."
        )


@exercise(
    "4.5",
    wrong=[
        *MISTAKES,
        WrongAnswer("judge asked first", judge_first, "A call costs time"),
        WrongAnswer("passages changed", insert_a_passage, "changes its input"),
        WrongAnswer("one verdict", lambda *call: SUPPORTED, "returns 'supported', expected"),
        WrongAnswer("true or false", return_booleans, "they are texts"),
        WrongAnswer("no return", lambda *call: None, "Is a `return` missing"),
    ],
)  # fmt: skip
def check_check_citations(check_citations: Check) -> str:
    """Judge `check_citations(answer, passages, judge)`."""
    CONTRACT.expect(check_citations)
    expect_calls(check_citations)
    return (
        f"your verdicts are right on {len(CASES)} answers, and you ask the judge about the claims "
        "that need it."
    )
