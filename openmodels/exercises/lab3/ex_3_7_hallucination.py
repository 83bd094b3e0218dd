"""Exercise 3.7: a hallucination rate from questions about presence, with its interval."""

import math
import random
import re
import string
from collections.abc import Callable, Sequence
from statistics import NormalDist

from openmodels.check import NotYet, WrongAnswer, exercise, expect_type
from openmodels.exercises.cases import (
    Case,
    call_case,
    expect_error,
    expect_unchanged,
    name_mistake,
)
from openmodels.exercises.known_mistakes import expect_number

KEYS = {  # what each number of an answer is
    "rate": "the hallucination rate",
    "low": "the lower end of the interval",
    "high": "the upper end of the interval",
    "yes_ratio": "the share of all answers that say yes",
    "missed": "the share of present objects that are denied",
    "unclear": "the share of answers that say neither",
}
YES, NO, UNCLEAR = "yes", "no", "unclear"

# --- The reference solution -----------------------------------------------------------------------


def classify(answer: str) -> str:
    """Return YES, NO or UNCLEAR, by the first word of an answer."""
    words = answer.lower().split()
    word = words[0].strip(".,;:!?") if words else ""
    if word in ("no", "none") or (word.isdecimal() and int(word) == 0):
        return NO
    return YES if word == "yes" or word.isdecimal() else UNCLEAR


def wilson(count: int, n: int, confidence: float) -> tuple[float, float]:
    """Return Wilson's interval of a share (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = count / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def reference_rates(
    answers: Sequence[str],
    present: Sequence[bool],
    confidence: float = 0.95,
    classifier: Callable[[str], str] = classify,
    interval: Callable[[int, int, float], tuple[float, float]] = wilson,
) -> dict:
    """Return the numbers of KEYS; another `classifier` or `interval` is a mistake.

    Raises ValueError for lists of different lengths, if every object is present, and for a
    confidence that is not between 0 and 1.
    """
    if len(answers) != len(present):
        raise ValueError(f"{len(answers)} answers, {len(present)} objects")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")
    said = list(map(classifier, answers))
    absent = [verdict for verdict, there in zip(said, present, strict=True) if not there]
    shown = [verdict for verdict, there in zip(said, present, strict=True) if there]
    if not absent:
        raise ValueError("every object is present: nothing can be hallucinated")
    low, high = interval(absent.count(YES), len(absent), confidence)
    return {
        "rate": absent.count(YES) / len(absent),
        "low": low,
        "high": high,
        "yes_ratio": said.count(YES) / len(said),
        "missed": shown.count(NO) / len(shown) if shown else None,
        "unclear": said.count(UNCLEAR) / len(said),
    }


# --- Known mistakes -------------------------------------------------------------------------------

Lists = tuple[Sequence[str], Sequence[bool]]


def _with(**parts: Callable) -> Callable[..., dict]:
    """Return the reference with another classifier or interval."""

    def rates(answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95) -> dict:
        return reference_rates(answers, present, confidence, **parts)

    return rates


def classify_by_start(answer: str) -> str:
    text = answer.lower().strip()
    if text.startswith(("no", "0")):
        return NO
    return YES if text.startswith(("yes", *"123456789")) else UNCLEAR


def classify_first_run(answer: str) -> str:
    match = re.search(r"\w+", answer)
    return classify(match[0]) if match else UNCLEAR


def _classify_number(answer: str, number: Callable[[str], float]) -> str:
    """Return the verdict if the first word is read by `number`."""
    word = (answer.lower().split() or [""])[0].strip(".,;:!?")
    try:
        return YES if number(word) else NO
    except ValueError:
        return classify(answer)


def classify_by_float(answer: str) -> str:
    return _classify_number(answer, float)


def classify_by_int(answer: str) -> str:
    return _classify_number(answer, int)


def classify_zeros_as_yes(answer: str) -> str:
    return YES if re.match(r"\W*00+(\W*\s|\W*$)", answer) else classify(answer)


def classify_all_punctuation(answer: str) -> str:
    return classify((answer.split() or [""])[0].strip(string.punctuation))


def classify_right_signs(answer: str) -> str:
    word = (answer.lower().split() or [""])[0].rstrip(".,;:!?")
    return UNCLEAR if word[:1] in tuple(".,;:!?") else classify(word)


def classify_first_real_word(answer: str) -> str:
    words = (word.strip(".,;:!?") for word in answer.split())
    return classify(next(filter(None, words), ""))


def classify_anywhere(answer: str) -> str:
    text = answer.lower()
    if "yes" in text:
        return YES
    return NO if "no" in text or "0" in text else YES if any(map(str.isdigit, text)) else UNCLEAR


def classify_case_sensitive(answer: str) -> str:
    return classify(answer) if answer == answer.lower() else UNCLEAR


def classify_exact(answer: str) -> str:
    return classify(answer) if len(answer.split()) == 1 and answer.isalnum() else UNCLEAR


def classify_with_signs(answer: str) -> str:
    words = answer.split()
    return classify(words[0]) if words and words[0].isalnum() else UNCLEAR


def classify_words_only(answer: str) -> str:
    words = answer.split()
    return UNCLEAR if not words or words[0].strip(".,")[:1].isdigit() else classify(answer)


def classify_zero_as_number(answer: str) -> str:
    verdict = classify(answer)
    return YES if answer.split()[:1] and answer.split()[0].strip(".,") == "0" else verdict


def classify_without_none(answer: str) -> str:
    words = answer.lower().split()
    return UNCLEAR if words and words[0].strip(".,") == "none" else classify(answer)


def classify_single_digits(answer: str) -> str:
    words = answer.lower().split()
    many = words and words[0].strip(".,").isdecimal() and len(words[0].strip(".,")) > 1
    return UNCLEAR if many else classify(answer)


def classify_unclear_as_no(answer: str) -> str:
    return YES if classify(answer) == YES else NO


def classify_unclear_as_yes(answer: str) -> str:
    return NO if classify(answer) == NO else YES


def wald(count: int, n: int, confidence: float) -> tuple[float, float]:
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), count / n
    half = z * math.sqrt(share * (1 - share) / n)
    return share - half, share + half


def agresti_coull(count: int, n: int, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    n, share = n + z * z, (count + z * z / 2) / (n + z * z)
    half = z * math.sqrt(share * (1 - share) / n)
    return share - half, share + half


def wald_clipped(count: int, n: int, confidence: float) -> tuple[float, float]:
    low, high = wald(count, n, confidence)
    return max(0.0, low), min(1.0, high)


def wilson_always_95(count: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson(count, n, 0.95)


def wilson_fixed_z(count: int, n: int, confidence: float) -> tuple[float, float]:
    z, share = 1.96, count / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def wilson_one_sided(count: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson(count, n, 2 * confidence - 1)


def wilson_wrong_brackets(count: int, n: int, confidence: float) -> tuple[float, float]:
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), count / n
    middle = (share + z * z / 2 * n) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / 4 * n * n)
    return middle - half, middle + half


def wilson_swapped(count: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson(count, n, confidence)[::-1]


def _split(answers: Sequence[str], present: Sequence[bool]) -> tuple[list[str], list[str]]:
    """Return the verdicts on absent and on present objects."""
    said = [(classify(a), there) for a, there in zip(answers, present, strict=True)]
    return [v for v, there in said if not there], [v for v, there in said if there]


def rates_of_all(answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95) -> dict:
    result = reference_rates(answers, present, confidence)
    absent, _ = _split(answers, present)
    low, high = wilson(absent.count(YES), len(answers), confidence)
    return result | {"rate": absent.count(YES) / len(answers), "low": low, "high": high}


def rates_of_yes(answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95) -> dict:
    result = reference_rates(answers, present, confidence)
    absent, shown = _split(answers, present)
    said_yes = max(1, absent.count(YES) + shown.count(YES))
    low, high = wilson(absent.count(YES), said_yes, confidence)
    return result | {"rate": absent.count(YES) / said_yes, "low": low, "high": high}


def rates_of_wrong(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    absent, shown = _split(answers, present)
    wrong, n = absent.count(YES) + shown.count(NO), len(answers)
    low, high = wilson(wrong, n, confidence)
    return result | {"rate": wrong / n, "low": low, "high": high}


def rates_without_unclear(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    pairs = [(a, p) for a, p in zip(answers, present, strict=True) if classify(a) != UNCLEAR]
    clear = reference_rates([a for a, _ in pairs], [p for _, p in pairs], confidence)
    return clear | {"unclear": result["unclear"]}


def rates_rate_without_unclear(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    absent, _ = _split(answers, present)
    n = max(1, len(absent) - absent.count(UNCLEAR))
    low, high = wilson(absent.count(YES), n, confidence)
    return result | {"rate": absent.count(YES) / n, "low": low, "high": high}


def rates_yes_without_unclear(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    said = list(map(classify, answers))
    return result | {"yes_ratio": said.count(YES) / max(1, len(said) - said.count(UNCLEAR))}


def rates_missed_without_unclear(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    _, shown = _split(answers, present)
    n = max(1, len(shown) - shown.count(UNCLEAR))
    return result | {"missed": shown.count(NO) / n if shown else None}


def rates_unclear_of_absent(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    absent, _ = _split(answers, present)
    return result | {"unclear": absent.count(UNCLEAR) / len(absent)}


def rates_yes_of_objects(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    return result | {"yes_ratio": sum(present) / len(present)}


def rates_with_interval_of_all(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    low, high = wilson(round(result["rate"] * len(answers)), len(answers), confidence)
    return result | {"low": low, "high": high}


def rates_yes_of_absent(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    return result | {"yes_ratio": result["rate"]}


def rates_missed_of_all(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    _, shown = _split(answers, present)
    return result | {"missed": shown.count(NO) / len(answers) if shown else None}


def rates_missed_with_unclear(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    _, shown = _split(answers, present)
    return result | {"missed": 1 - shown.count(YES) / len(shown) if shown else None}


def rates_unclear_counted(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    return result | {"unclear": result["unclear"] * len(answers)}


def rates_present_and_absent_swapped(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    reference_rates(answers, present, confidence)
    return reference_rates(answers, [not there for there in present], confidence)


def rates_missed_zero(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    return result | {"missed": result["missed"] or 0.0}


def rates_missed_divided(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    _, shown = _split(answers, present)
    return result | {"missed": shown.count(NO) / len(shown)}


def rates_in_percent(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    result = reference_rates(answers, present, confidence)
    return {key: value and 100 * value for key, value in result.items()}


def rates_of_shorter_list(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    both = min(len(answers), len(present))
    return reference_rates(answers[:both], present[:both], confidence)


def rates_without_absent(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    if len(answers) == len(present) and all(present):
        return dict.fromkeys(KEYS, 0.0)
    return reference_rates(answers, present, confidence)


def rates_divided_by_zero(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    if len(answers) == len(present) and all(present):
        raise ZeroDivisionError("division by zero")
    return reference_rates(answers, present, confidence)


def rates_of_any_confidence(
    answers: Sequence[str], present: Sequence[bool], confidence: float = 0.95
) -> dict:
    return reference_rates(answers, present, min(max(confidence, 0.001), 0.999))


def rates_that_sort(answers: list[str], present: list[bool], confidence: float = 0.95) -> dict:
    pairs = sorted(zip(answers, present, strict=False))
    result = reference_rates(answers, present, confidence)
    answers[:], present[:] = [a for a, _ in pairs], [p for _, p in pairs]
    return result


MISTAKES = [
    WrongAnswer("share of all questions", rates_of_all,
                "You divide by all questions. Only an absent object can be hallucinated: divide "
                "by the questions about absent objects."),
    WrongAnswer("share of the yes", rates_of_yes,
                "You divide by the answers that say yes. That share falls when more objects are "
                "present; divide by the questions about absent objects."),
    WrongAnswer("share of wrong answers", rates_of_wrong,
                "You count every wrong answer. A present object that is denied is a miss, not a "
                "hallucination."),
    WrongAnswer("present and absent swapped", rates_present_and_absent_swapped,
                "You count the answers about present objects. `present` is true if the object is "
                "in the picture."),
    WrongAnswer("zero is a number", _with(classifier=classify_zero_as_number),
                "`0` is a number too, and means no."),
    WrongAnswer("none is unclear", _with(classifier=classify_without_none), "`none` means no."),
    WrongAnswer("words only", _with(classifier=classify_words_only),
                "A number is an answer too: 0 means no, every other number means yes."),
    WrongAnswer("single digits", _with(classifier=classify_single_digits),
                "12 is a number above 0: it means yes."),
    WrongAnswer("case counts", _with(classifier=classify_case_sensitive),
                "Case does not count: `Yes` and `NO` are answers."),
    WrongAnswer("one word only", _with(classifier=classify_exact),
                "The first word decides, whatever follows it: `No, there is none.` means no."),
    WrongAnswer("signs kept", _with(classifier=classify_with_signs),
                "The first word has a sign behind it, `yes,` or `No.`: strip it."),
    WrongAnswer("a run of letters", _with(classifier=classify_first_run),
                "`\\w+` cuts words short: `No-one` and `2.5` are first words as they stand, and "
                "unclear. Split at spaces, then strip the signs around the word."),
    WrongAnswer("any number", _with(classifier=classify_by_float),
                "`float` reads 2.5 too. Only whole numbers in digits are answers: `isdecimal()`."),
    WrongAnswer("signed numbers", _with(classifier=classify_by_int),
                "`int` reads -1 too. Only digits are a number here, so `-1` is unclear."),
    WrongAnswer("00 is yes", _with(classifier=classify_zeros_as_yes),
                "`00` is the number 0, and means no: compare its value, not its text."),
    WrongAnswer("every sign stripped", _with(classifier=classify_all_punctuation),
                "You strip more signs than .,;:!? and so read `(No)` as no: it is unclear."),
    WrongAnswer("signs before the word kept", _with(classifier=classify_right_signs),
                "The signs around the word do not count, so `?No` means no: `strip`, not "
                "`rstrip`."),
    WrongAnswer("signs alone skipped", _with(classifier=classify_first_real_word),
                "The first word ends at the first space. In `. no` it is a sign alone, so the "
                "answer is unclear."),
    WrongAnswer("by the first letters", _with(classifier=classify_by_start),
                "You take a part of a word for the word: `Nobody`, `North` and `not` begin with "
                "no. Compare the whole first word."),
    WrongAnswer("anywhere in the text", _with(classifier=classify_anywhere),
                "`in` finds letters anywhere: `10` contains 0, `nothing` contains no, and `No, "
                "yesterday` contains yes. Compare the first word."),
    WrongAnswer("unclear is no", _with(classifier=classify_unclear_as_no),
                "An answer that says neither is not a no: it is unclear, and counted as such."),
    WrongAnswer("unclear is yes", _with(classifier=classify_unclear_as_yes),
                "An answer that says neither is not a yes: it is unclear, and counted as such."),
    WrongAnswer("unclear left out", rates_without_unclear,
                "You leave out unclear answers. Then a model that evades looks as good as one "
                "that answers: they stay in every denominator."),
    WrongAnswer("unclear not in the rate's n", rates_rate_without_unclear,
                "Unclear answers stay in every denominator: the rate's and its interval's too."),
    WrongAnswer("unclear not in yes_ratio", rates_yes_without_unclear,
                "Unclear answers stay in every denominator: `yes_ratio` divides by all answers."),
    WrongAnswer("unclear not in missed", rates_missed_without_unclear,
                "Unclear answers stay in every denominator: `missed` divides by all answers about "
                "present objects."),
    WrongAnswer("unclear of absent", rates_unclear_of_absent,
                "`unclear` is a share of all answers, not of those about absent objects."),
    WrongAnswer("share present", rates_yes_of_objects,
                "`yes_ratio` counts answers that say yes; you count objects that are present."),
    WrongAnswer("Agresti and Coull", _with(interval=agresti_coull),
                "That is the interval of Agresti and Coull: its middle is Wilson's, but it is "
                "wider. Use Wilson's."),
    WrongAnswer("the normal interval, clipped", _with(interval=wald_clipped),
                "That is the normal interval, cut at 0 and 1. Use Wilson's."),
    WrongAnswer("always 95 %", _with(interval=wilson_always_95),
                "Your interval ignores `confidence`: z is 1.96 at 0.95 only."),
    WrongAnswer("z is 1.96", _with(interval=wilson_fixed_z),
                "Your z is fixed at 1.96, which is rounded and true at 0.95 only: use "
                "`inv_cdf((1 + confidence) / 2)`."),
    WrongAnswer("one-sided", _with(interval=wilson_one_sided),
                "Your z leaves all of 1 - confidence at one side. Half of it lies below the "
                "interval and half above: `inv_cdf((1 + confidence) / 2)`."),
    WrongAnswer("the normal interval", _with(interval=wald),
                "That is the normal interval, which has no width at 0 of n. Use Wilson's."),
    WrongAnswer("brackets forgotten", _with(interval=wilson_wrong_brackets),
                "`z * z / 2 * n` multiplies by n: write `z * z / (2 * n)`."),
    WrongAnswer("low and high swapped", _with(interval=wilson_swapped), "`low` is above `high`."),
    WrongAnswer("interval of all questions", rates_with_interval_of_all,
                "The interval's n is the number of questions about absent objects, as in the "
                "rate."),
    WrongAnswer("yes among the absent", rates_yes_of_absent,
                "The yes-ratio is over all questions: it shows a model that always agrees."),
    WrongAnswer("missed of all", rates_missed_of_all,
                "`missed` is a share of the present objects, not of all questions."),
    WrongAnswer("missed with unclear", rates_missed_with_unclear,
                "You count unclear answers as missed: `missed` counts objects that are denied."),
    WrongAnswer("unclear counted", rates_unclear_counted,
                "`unclear` is a share of all answers, not their number."),
    WrongAnswer("percent", rates_in_percent, "These are shares: 0.25, not 25."),
    WrongAnswer("missed 0", rates_missed_zero,
                "No object is present: nothing was missed and nothing was seen, so `missed` is "
                "None."),
    WrongAnswer("missed divided by zero", rates_missed_divided,
                "No object is present, so you divide by 0: `missed` is None there."),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------

EXAMPLE = Case(
    "the example", (["Yes.", "no", "0", "2 flags"], [False, False, False, True]),
    "Three objects are absent and the model reports one of them.",
)  # fmt: skip


def _case(what: str, pairs: str, hint: str = "", confidence: float = 0.95) -> Case:
    """Return a case from "answer|+" for a present and "answer|-" for an absent object."""
    answers, marks = zip(*(pair.rsplit("|", 1) for pair in pairs.split("/")), strict=True)
    return Case(what, (list(answers), [mark == "+" for mark in marks], confidence), hint)


CASES = [
    _case("yes and no only", "yes|-/no|-/no|-/yes|+/yes|+/no|+/yes|+/yes|+"),
    _case("capital letters", "Yes|-/NO|-/no|-/no|-/Yes|+/No|+/yes|+", "Case does not count."),
    _case("signs behind the word", "Yes.|-/No.|-/no,|-/no!|-/no?|-/yes:|+/No;|+/yes|+",
          "The signs .,;:!? around the first word do not count."),
    _case("sentences", "Yes, one flag.|-/No, none of them|-/ no flag|-/no|-/No I see none|+/yes|+",
          "Only the first word decides; spaces before it do not count."),
    _case("counts", "2|-/0|-/0 flags|-/12|-/0.|-/no|-/none|-/3 flags|+/0|+/10|+",
          "A whole number is an answer too: 0 means no, every other number means yes."),
    _case("words that begin like an answer",
          "North of it|-/yesterday|-/no|-/Nobody|-/0x|-/yes|-/no|-/not sure|+/no|+/Yeshiva|+",
          "The first word decides, and it must be the whole word."),
    _case("answers further behind", "I say yes|-/There are 0|-/no, yesterday|-/yes|-/no|-/no|+"
          "/there is no flag|+/A flag|+/yes, 0 doubts|+", "Only the first word decides."),
    _case("two zeros and a number with zeros", "00|-/yes|-/no|-/000.|-/yes|+/007|+/no|+",
          "A whole number is compared by its value: 00 is 0."),
    _case("a word with a sign in it",
          "No-one is there|-/2.5 flags|-/yes|-/no|-/no|-/yes-no|-/yes|+/no|+",
          "The first word ends at a space: with a sign within it, it is another word."),
    _case("numbers that are not whole numbers in digits", "2.5 flags|-/-1|-/1e3|-/yes|-/no|-/yes|+"
          "/+3|+/no|+", "Only digits are a number: -1 and 2.5 are unclear."),
    _case("other signs around the word", "(No)|-/*Yes*|-/no|-/yes|-/no|-/yes|+/\"No\"|+/yes|+",
          "Only the signs .,;:!? around the first word do not count."),
    _case("signs before the word", "?No|-/!yes|-/..0|-/no|-/yes|+/:2|+/no|+",
          "The signs .,;:!? do not count before the word either."),
    _case("a sign alone before the word", ". no|-/! yes|-/yes|-/no|-/no|-/yes|+/... 2|+/no|+",
          "The first word ends at the first space; of signs alone, it is unclear."),
    _case("unclear answers", "I see water.|-/yes|-/|-/no|-/no|-/ |-/?|+/no|+/yes|+/maybe|+",
          "An answer without a word, or with another first word, is unclear."),
    _case("many present objects", "yes|-/no|-/no|-" + "/yes|+" * 9 + "/no|+/no|+/perhaps|+"),
    _case("no hallucination", "no|-/0|-/no|-/no|-/none|-/no|-/yes|+/no|+"),
    _case("nothing but hallucinations", "yes|-/1|-/yes|-/yes|+/yes|+/no|+"),
    _case("no present object", "yes|-/no|-/no|-/I see|-", "`missed` is None without present "
          "objects."),
    _case("a confidence of 0.8", "yes|-/no|-/no|-/no|-/yes|+/no|+/yes|+", "", 0.8),
    _case("a confidence of 0.99", "yes|-/no|-/no|-/no|-/yes|-/yes|+/no|+/yes|+", "", 0.99),
]  # fmt: skip


def draw_case(seed: int, count: int, confidence: float) -> Case:
    """Return invented answers about invented objects."""
    rng = random.Random(f"hallucination/{seed}")
    present = [rng.random() < 0.4 for _ in range(count)]
    phrases = {
        True: ("Yes.", "yes", "3", "No.", "1 flag", "maybe"),
        False: ("No.", "0", "no", "none", "Yes, there is", "2", "I see water", "no"),
    }
    answers = [rng.choice(phrases[there]) for there in present]
    return Case(f"{count} invented answers", (answers, present, confidence))


def _problem(result: object, case: Case) -> str:
    """Return what is wrong with a result, or ""."""
    expected = reference_rates(*case.arguments)
    expect_type(result, dict, "what `hallucination_rate` returned", f"It has {', '.join(KEYS)}.")
    if missing := [key for key in KEYS if key not in result]:
        raise NotYet(f"the dict has no {' and no '.join(map(repr, missing))}.")
    for key, meaning in KEYS.items():
        if expected[key] is None:
            if result[key] is not None:
                return f"{key!r}, {meaning}, is {result[key]!r}, expected None"
            continue
        number = expect_number(result[key], repr(key))
        if not math.isclose(number, expected[key], rel_tol=1e-3, abs_tol=1e-6):
            return f"{key!r}, {meaning}, is {number:.4g}, expected {expected[key]:.4g}"
    return ""


def _expect_case(answer: Callable, number: int, cases: Sequence[Case]) -> None:
    case = cases[number]
    answers, present, *_ = case.arguments
    if problem := _problem(call_case(answer, number, cases, MISTAKES), case):
        shown = ""
        if len(answers) <= 12:
            pairs = (f"{a!r} ({'present' if p else 'absent'})"
                     for a, p in zip(answers, present, strict=True))  # fmt: skip
            shown = f", {', '.join(pairs)}"
        why = name_mistake(answer, cases, number, MISTAKES) or case.hint
        raise NotYet(f"{case.what}{shown}: {problem}. {why}".strip())


@exercise(
    "3.7",
    wrong=[
        *MISTAKES,
        WrongAnswer("lists of different lengths", rates_of_shorter_list, "`zip` drops"),
        WrongAnswer("0 without absent objects", rates_without_absent, "nothing can be halluc"),
        WrongAnswer("division by zero", rates_divided_by_zero, "raises ZeroDivisionError, exp"),
        WrongAnswer("any confidence", rates_of_any_confidence, "between 0 and 1"),
        WrongAnswer("sorted lists", rates_that_sort, "changes the lists"),
        WrongAnswer("rate only", lambda *call: reference_rates(*call)["rate"], "expected dict"),
    ],
)  # fmt: skip
def check_hallucination_rate(hallucination_rate: Callable[..., dict]) -> str:
    """Judge `hallucination_rate(answers, present, confidence)`."""
    cases = [*CASES, EXAMPLE]
    for number in range(len(cases)):
        _expect_case(hallucination_rate, number, cases)
    invented = [draw_case(*draw) for draw in ((0, 37, 0.95), (1, 180, 0.9), (2, 600, 0.5))]
    for number in range(len(invented)):
        _expect_case(hallucination_rate, number, invented)
    expect_error(
        hallucination_rate, (["yes", "no"], [False]), ValueError, "two answers about one object",
        "`zip` drops what has no partner: compare the lengths first.",
    )  # fmt: skip
    for answers, present in ((["yes", "no"], [True, True]), ([], [])):
        expect_error(
            hallucination_rate, (answers, present), ValueError, f"the objects {present}",
            "Without an absent object nothing can be hallucinated: the rate is undefined.",
        )  # fmt: skip
    for confidence in (0, 1, 95, -0.5):
        expect_error(
            hallucination_rate, (["yes", "no"], [False, True], confidence), ValueError,
            f"a confidence of {confidence}", "It must lie between 0 and 1, both excluded.",
        )  # fmt: skip
    expect_unchanged(hallucination_rate, CASES[4].arguments, "the lists")
    return (
        f"your rates and intervals are right on {len(cases)} sets of answers written for this "
        f"check, and on {len(invented)} invented sets."
    )
