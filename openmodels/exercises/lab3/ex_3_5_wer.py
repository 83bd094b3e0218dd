"""Exercise 3.5: the word error rate of a corpus of transcripts."""

import difflib
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from openmodels.check import NotYet, WrongAnswer, exercise, expect_type
from openmodels.exercises.cases import (
    Case,
    call_case,
    expect_error,
    expect_unchanged,
    name_mistake,
)
from openmodels.exercises.known_mistakes import expect_number

Texts = Sequence[str]
Counts = tuple[int, int, int]  # substitutions, deletions, insertions
KINDS = ("substitutions", "deletions", "insertions")
KEYS = (*KINDS, "rate")

# --- The reference solution -----------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """Return the words of a text; a Chinese character is a word."""
    return re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+", text.lower())


def align(reference: Texts, hypothesis: Texts) -> Counts:
    """Return the errors of an alignment with the fewest errors (Levenshtein 1966)."""
    row = [(n, 0, 0, n) for n in range(len(hypothesis) + 1)]  # errors, then the three kinds
    for i, word in enumerate(reference, start=1):
        previous, row = row, [(i, 0, i, 0)]
        for j, heard in enumerate(hypothesis, start=1):
            errors, changed, lost, added = previous[j - 1]
            wrong = word != heard
            pair = (errors + wrong, changed + wrong, lost, added)
            errors, changed, lost, added = previous[j]
            deletion = (errors + 1, changed, lost + 1, added)
            errors, changed, lost, added = row[-1]
            row.append(min(pair, deletion, (errors + 1, changed, lost, added + 1)))
    return row[-1][1:]


def sum_counts(counts: Iterable[Counts]) -> Counts:
    """Return the sum of each kind of error."""
    substitutions, deletions, insertions = map(sum, zip(*counts, strict=True))
    return substitutions, deletions, insertions


def report(counts: Counts, words: float) -> dict:
    """Return the result in the form that the exercise asks for."""
    return dict(zip(KINDS, counts, strict=True)) | {"rate": sum(counts) / words}


def reference_rate(
    references: Texts,
    hypotheses: Texts,
    split: Callable[[str], Texts] = split_words,
    count: Callable[[Texts, Texts], Counts] = align,
) -> dict:
    """Return the errors and the rate; another `split` or `count` is a mistake.

    Raises ValueError for lists of different lengths, and if the references have no word.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses")
    pairs = [(split(a), split(b)) for a, b in zip(references, hypotheses, strict=True)]
    words = sum(len(reference) for reference, _ in pairs)
    if words == 0:
        raise ValueError("the references have no words: the rate is undefined")
    return report(sum_counts(count(*pair) for pair in pairs), words)


def possible_counts(reference: Texts, hypothesis: Texts) -> set[Counts]:
    """Return the counts of every alignment with the fewest errors."""
    row = [{(0, 0, n)} for n in range(len(hypothesis) + 1)]
    for i, word in enumerate(reference, start=1):
        previous, row = row, [{(0, i, 0)}]
        for j, heard in enumerate(hypothesis, start=1):
            wrong = int(word != heard)
            ways = {(s + wrong, d, n) for s, d, n in previous[j - 1]}
            ways |= {(s, d + 1, n) for s, d, n in previous[j]}
            ways |= {(s, d, n + 1) for s, d, n in row[-1]}
            fewest = min(map(sum, ways))
            row.append({way for way in ways if sum(way) == fewest})
    return row[-1]


# --- Known mistakes -------------------------------------------------------------------------------


def split_case_sensitive(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+", text)


def split_at_spaces(text: str) -> list[str]:
    return text.lower().split()


def split_after_deleting_signs(text: str) -> list[str]:
    return split_words(re.sub(r"[^\w\s]", "", text))


def split_chinese_as_words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def split_english_letters_only(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|[a-z0-9]+", text.lower())


def split_letters_without_digits(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+", text.lower())


def split_with_underscore(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text.lower())


def split_with_apostrophe(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|(?:[^\W_\u4e00-\u9fff]|['’])+", text.lower())


def split_letters_from_digits(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+|\d+", text.lower())


def split_chinese_glued_to_letters(text: str) -> list[str]:
    words = re.findall(r"[^\W_]+", text.lower())
    return [part for word in words for part in (
        word if "\u4e00" <= word[0] <= "\u9fff" else [word])]  # fmt: skip


def split_old_chinese_range(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fa5]|[^\W_\u4e00-\u9fa5]+", text.lower())


def split_wide_chinese_range(text: str) -> list[str]:
    return re.findall(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+", text.lower())


def split_european_letters_only(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|[a-zà-ÿ0-9]+", text.lower())


def split_normalised(text: str) -> list[str]:
    return split_words(unicodedata.normalize("NFKC", text))


def split_casefold(text: str) -> list[str]:
    return split_words(text.casefold())


def split_characters(text: str) -> list[str]:
    return [letter for word in split_words(text) for letter in word]


def count_position_by_position(reference: Texts, hypothesis: Texts) -> Counts:
    both = min(len(reference), len(hypothesis))
    wrong = sum(a != b for a, b in zip(reference, hypothesis, strict=False))
    return wrong, len(reference) - both, len(hypothesis) - both


def count_unordered(reference: Texts, hypothesis: Texts) -> Counts:
    lost, added = set(reference) - set(hypothesis), set(hypothesis) - set(reference)
    both = min(len(lost), len(added))
    return both, len(lost) - both, len(added) - both


def count_with_difflib(reference: Texts, hypothesis: Texts) -> Counts:
    counts = [0, 0, 0]
    matcher = difflib.SequenceMatcher(None, reference, hypothesis, autojunk=False)
    for _, i, i_end, j, j_end in (code for code in matcher.get_opcodes() if code[0] != "equal"):
        both = min(i_end - i, j_end - j)
        counts = [counts[0] + both, counts[1] + i_end - i - both, counts[2] + j_end - j - both]
    return counts[0], counts[1], counts[2]


def count_without_substitutions(reference: Texts, hypothesis: Texts) -> Counts:
    substitutions, deletions, insertions = align(reference, hypothesis)
    return 0, deletions + substitutions, insertions + substitutions


def count_the_other_way(reference: Texts, hypothesis: Texts) -> Counts:
    return align(hypothesis, reference)


def count_without_kinds(reference: Texts, hypothesis: Texts) -> Counts:
    return sum(align(reference, hypothesis)), 0, 0


def count_greedily(reference: Texts, hypothesis: Texts) -> Counts:
    changed = lost = j = 0
    added = 0
    for word in reference:
        if word in hypothesis[j:]:
            place = hypothesis.index(word, j)
            added, j = added + place - j, place + 1
        else:
            lost += 1
    return changed, lost, added + len(hypothesis) - j


def count_with_one_look_ahead(reference: Texts, hypothesis: Texts) -> Counts:
    i = j = changed = lost = added = 0
    while i < len(reference) and j < len(hypothesis):
        if reference[i] == hypothesis[j]:
            i, j = i + 1, j + 1
        elif reference[i + 1 : i + 2] == [hypothesis[j]]:
            i, lost = i + 1, lost + 1
        elif hypothesis[j + 1 : j + 2] == [reference[i]]:
            j, added = j + 1, added + 1
        else:
            i, j, changed = i + 1, j + 1, changed + 1
    return changed, lost + len(reference) - i, added + len(hypothesis) - j


def count_substitutions_twice(reference: Texts, hypothesis: Texts) -> Counts:
    row = [(n, 0, 0, n) for n in range(len(hypothesis) + 1)]
    for i, word in enumerate(reference, start=1):
        previous, row = row, [(i, 0, i, 0)]
        for j, heard in enumerate(hypothesis, start=1):
            errors, changed, lost, added = previous[j - 1]
            wrong = word != heard
            pair = (errors + 2 * wrong, changed + wrong, lost, added)
            errors, changed, lost, added = previous[j]
            deletion = (errors + 1, changed, lost + 1, added)
            errors, changed, lost, added = row[-1]
            cells = (pair, deletion, (errors + 1, changed, lost, added + 1))
            row.append(min(cells, key=lambda cell: (cell[0], -cell[1])))
    return row[-1][1:]


def count_from_zero_border(reference: Texts, hypothesis: Texts) -> Counts:
    row = [(0, 0, 0, 0)] * (len(hypothesis) + 1)
    for word in reference:
        previous, row = row, [(0, 0, 0, 0)]
        for j, heard in enumerate(hypothesis, start=1):
            errors, changed, lost, added = previous[j - 1]
            wrong = word != heard
            pair = (errors + wrong, changed + wrong, lost, added)
            errors, changed, lost, added = previous[j]
            deletion = (errors + 1, changed, lost + 1, added)
            errors, changed, lost, added = row[-1]
            row.append(min(pair, deletion, (errors + 1, changed, lost, added + 1)))
    return row[-1][1:]


def _all(references: Texts, hypotheses: Texts) -> list[tuple[list[str], list[str], Counts]]:
    """Return the words and the errors of each pair, after the errors that the contract promises."""
    reference_rate(references, hypotheses)
    pairs = [(split_words(a), split_words(b)) for a, b in zip(references, hypotheses, strict=True)]
    return [(a, b, align(a, b)) for a, b in pairs]


def rate_mean_of_clips(references: Texts, hypotheses: Texts) -> dict:
    clips = _all(references, hypotheses)
    rates = [sum(counts) / max(1, len(words)) for words, _, counts in clips]
    return report(sum_counts(clip[2] for clip in clips), 1) | {"rate": sum(rates) / len(rates)}


def rate_of_first_clip(references: Texts, hypotheses: Texts) -> dict:
    reference_rate(references, hypotheses)
    return reference_rate(references[:1], hypotheses[:1])


def rate_of_last_clip(references: Texts, hypotheses: Texts) -> dict:
    reference_rate(references, hypotheses)
    return reference_rate(references[-1:], hypotheses[-1:])


def rate_rounded(references: Texts, hypotheses: Texts) -> dict:
    result = reference_rate(references, hypotheses)
    return result | {"rate": round(result["rate"], 4)}


def rate_rounded_to_two_places(references: Texts, hypotheses: Texts) -> dict:
    result = reference_rate(references, hypotheses)
    return result | {"rate": round(result["rate"], 2)}


def rate_of_heard_words(references: Texts, hypotheses: Texts) -> dict:
    clips = _all(references, hypotheses)
    words = sum(len(heard) for _, heard, _ in clips)
    return report(sum_counts(clip[2] for clip in clips), max(1, words))


def rate_of_longer_text(references: Texts, hypotheses: Texts) -> dict:
    clips = _all(references, hypotheses)
    words = sum(max(len(reference), len(heard)) for reference, heard, _ in clips)
    return report(sum_counts(clip[2] for clip in clips), words)


def rate_of_clips_with_errors(references: Texts, hypotheses: Texts) -> dict:
    clips = _all(references, hypotheses)
    wrong = sum(any(counts) for _, _, counts in clips)
    return report(sum_counts(clip[2] for clip in clips), 1) | {"rate": wrong / len(clips)}


def rate_at_most_one(references: Texts, hypotheses: Texts) -> dict:
    result = reference_rate(references, hypotheses)
    return result | {"rate": min(1.0, result["rate"])}


def rate_in_percent(references: Texts, hypotheses: Texts) -> dict:
    result = reference_rate(references, hypotheses)
    return result | {"rate": 100 * result["rate"]}


def rate_without_insertions(references: Texts, hypotheses: Texts) -> dict:
    clips = _all(references, hypotheses)
    total = sum_counts(clip[2] for clip in clips)
    words = sum(len(clip[0]) for clip in clips)
    return report(total, words) | {"rate": (total[0] + total[1]) / words}


def rate_without_silent_clips(references: Texts, hypotheses: Texts) -> dict:
    clips = [clip for clip in _all(references, hypotheses) if clip[0]]
    return report(sum_counts(clip[2] for clip in clips), sum(len(clip[0]) for clip in clips))


def rate_of_joined_texts(references: Texts, hypotheses: Texts) -> dict:
    reference_rate(references, hypotheses)
    return reference_rate([" ".join(references)], [" ".join(hypotheses)])


def rate_of_shorter_list(references: Texts, hypotheses: Texts) -> dict:
    both = min(len(references), len(hypotheses))
    return reference_rate(references[:both], hypotheses[:both])


def rate_zero_without_words(references: Texts, hypotheses: Texts) -> dict:
    try:
        return reference_rate(references, hypotheses)
    except ValueError:
        if len(references) != len(hypotheses):
            raise
        return dict.fromkeys(KEYS, 0)


def rate_divided_by_zero(references: Texts, hypotheses: Texts) -> dict:
    try:
        return reference_rate(references, hypotheses)
    except ValueError:
        if len(references) != len(hypotheses):
            raise
        raise ZeroDivisionError("division by zero") from None


def rate_of_changed_lists(references: list[str], hypotheses: list[str]) -> dict:
    for texts in (references, hypotheses):
        texts[:] = [text.lower() for text in texts]
    return reference_rate(references, hypotheses)


ALIGN = "Words are compared after an alignment: a lost word must not make all later words wrong."
MISTAKES = [
    WrongAnswer("position by position", partial(reference_rate, count=count_position_by_position),
                ALIGN),
    WrongAnswer("deletions and insertions swapped",
                partial(reference_rate, count=count_the_other_way),
                "A deletion is a spoken word that is missing in what was heard; an insertion is a "
                "heard word that nobody said. You have them the other way round."),
    WrongAnswer("no substitutions", partial(reference_rate, count=count_without_substitutions),
                "A wrong word in place of a right word is one substitution, not a deletion and an "
                "insertion: in the table, a substitution costs 1 like every other error, not 2."),
    WrongAnswer("kinds not told apart", partial(reference_rate, count=count_without_kinds),
                "Your sum of errors is right, but all of them are called substitutions. Let each "
                "cell of the table hold three counts, or walk back through the table."),
    WrongAnswer("words without their order", partial(reference_rate, count=count_unordered),
                "You compare sets of words: their order and their number are lost."),
    WrongAnswer("a substitution costs 2", partial(reference_rate, count=count_substitutions_twice),
                "Your table charges 2 for a substitution, so it prefers eight deletions and "
                "insertions to five substitutions. Each error costs 1."),
    WrongAnswer("difflib", partial(reference_rate, count=count_with_difflib),
                "`difflib` looks for long equal blocks, which is not always the alignment with "
                "the fewest errors. Compute the edit distance."),
    WrongAnswer("a border of zeros", partial(reference_rate, count=count_from_zero_border),
                "Errors at the start of a text are lost: the first row and the first column of the "
                "table count 0, 1, 2, … errors, and a walk back through it ends in its corner."),
    WrongAnswer("greedy", partial(reference_rate, count=count_greedily),
                "You search each spoken word in what was heard, one after the other. This greedy "
                "alignment skips too many words: the fewest errors need the whole table."),
    WrongAnswer("one word ahead", partial(reference_rate, count=count_with_one_look_ahead),
                "You look one word ahead and decide at once. This greedy alignment is lost after "
                "two missing words: the fewest errors need the whole table."),
    WrongAnswer("characters", partial(reference_rate, split=split_characters),
                "You count letters. That is the character error rate; here the unit is a word."),
    WrongAnswer("case counts", partial(reference_rate, split=split_case_sensitive),
                "Case does not count: `Berth` and `berth` are the same word."),
    WrongAnswer("punctuation kept", partial(reference_rate, split=split_at_spaces),
                "Punctuation is not part of a word: `berth,` and `berth` are the same word."),
    WrongAnswer("punctuation deleted", partial(reference_rate, split=split_after_deleting_signs),
                "A sign between letters separates words: `half-past` has two. If you delete the "
                "sign, they become one."),
    WrongAnswer("digits lost", partial(reference_rate, split=split_letters_without_digits),
                "Digits are part of words: berth 8 is not berth 3."),
    WrongAnswer("underscore kept", partial(reference_rate, split=split_with_underscore),
                "`\\w` contains the underscore. It is a sign: `berth_8` has two words."),
    WrongAnswer("apostrophe kept", partial(reference_rate, split=split_with_apostrophe),
                "An apostrophe is a sign like every other: `don't` has two words, `don` and `t`."),
    WrongAnswer("digits apart", partial(reference_rate, split=split_letters_from_digits),
                "Letters and digits that touch are one word: `8th` is not `8` and `th`."),
    WrongAnswer("Chinese behind letters", partial(
                reference_rate, split=split_chinese_glued_to_letters),
                "A Chinese character is a word also where it touches letters: `gull百灵` has three "
                "words."),
    WrongAnswer("the range to U+9FA5", partial(reference_rate, split=split_old_chinese_range),
                "Your range of Chinese characters ends at U+9FA5; the rule's ends at U+9FFF."),
    WrongAnswer("the range from U+3400", partial(reference_rate, split=split_wide_chinese_range),
                "Your range of Chinese characters begins at U+3400; the rule's begins at U+4E00, "
                "and other characters form runs."),
    WrongAnswer("European letters only", partial(
                reference_rate, split=split_european_letters_only),
                "`à-ÿ` has no Cyrillic: a word is a run of letters of any alphabet."),
    WrongAnswer("normalised", partial(reference_rate, split=split_normalised),
                "You normalise the text: a digit in full width is a character of its own. The "
                "rule changes case only."),
    WrongAnswer("casefold", partial(reference_rate, split=split_casefold),
                "`casefold` writes ß as ss. The rule is lower case: `lower()`."),
    WrongAnswer("Chinese by spaces", partial(reference_rate, split=split_chinese_as_words),
                "Chinese has no spaces: each character counts as a word."),
    WrongAnswer("English letters only", partial(reference_rate, split=split_english_letters_only),
                "`[a-z]` has no ë: a word is a run of letters of any alphabet."),
    WrongAnswer("mean of the clips", rate_mean_of_clips,
                "You average the rates of the clips, so a clip of two words weighs as much as a "
                "long one. Sum errors and words over all clips, then divide once."),
    WrongAnswer("the first clip", rate_of_first_clip,
                "You return the result of the first clip: is a `return` within the loop?"),
    WrongAnswer("the last clip", rate_of_last_clip,
                "You return the result of the last clip: add the counts of each clip to a sum."),
    WrongAnswer("by the heard words", rate_of_heard_words,
                "You divide by the words that were heard. The rate is per word that was spoken."),
    WrongAnswer("by the longer text", rate_of_longer_text,
                "You divide by the longer text. The rate is per word that was spoken, so it can "
                "exceed 1."),
    WrongAnswer("share of wrong clips", rate_of_clips_with_errors,
                "That is the share of clips with an error; the rate counts words."),
    WrongAnswer("insertions not in the rate", rate_without_insertions,
                "Insertions are errors too: add them to the numerator."),
    WrongAnswer("at most 1", rate_at_most_one,
                "The rate is not limited to 1: a model may invent more words than were spoken."),
    WrongAnswer("percent", rate_in_percent, "The rate is a share: 0.25, not 25."),
    WrongAnswer("silent clips left out", rate_without_silent_clips,
                "You leave out clips without speech. Words that the model invents there are "
                "insertions."),
    WrongAnswer("all clips joined", rate_of_joined_texts,
                "You align all clips as one text, so a word of one clip can match a word of the "
                "next. Align each clip on its own, then add."),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------

EXAMPLE = Case(
    "the example", (["Gull to berth 8."], ["the gull to berth nine"]),
    "`the` is inserted and `8` became `nine`: 2 errors in 4 spoken words.",
)  # fmt: skip
CASES = [
    Case("one wrong word", (["gull to berth eight"], ["gull to berth nine"]),
         "The unit is a word, and a wrong word is one substitution."),
    Case("one lost word", (["the lark needs ice today"], ["lark needs ice today"]), ALIGN),
    Case("two more words", (["help the old tern"], ["help help the old tern now"])),
    Case("errors of three kinds",
         (["the gull will bring four nets and a lamp on monday"],
          ["gull will bring for four more nets of a lamp on the monday morning"]),
         "Compute the fewest errors with a table: each cell comes from the cell above, the cell "
         "to its left and the cell between them."),
    Case("words in another order", (["ice for the tern"], ["tern for the ice"])),
    Case("capital letters", (["Gull TO Berth eight now"], ["gull to berth eight now"]),
         "Case does not count."),
    Case("punctuation", (["Help! Gull, at berth eight."], ["help gull at berth eight"]),
         "Punctuation is not part of a word."),
    Case("a hyphen", (["at half-past nine the tern leaves"], ["at half past the tern leaves"]),
         "A sign between letters separates words."),
    Case("digits", (["berth 8 at 12"], ["berth 3 at 12"]), "Digits are part of words."),
    Case("an underscore", (["berth_8 is free", "ice"], ["berth 8 is free", "ice"]),
         "An underscore is a sign and separates words."),
    Case("an apostrophe", (["I don't see it", "ice"], ["I don t see it", "ice"]),
         "An apostrophe is a sign and separates words."),
    Case("a digit next to letters", (["the 8th boat"], ["the 8 th boat"]),
         "Letters and digits that touch are one word."),
    Case("Chinese", (["大船到百灵港。一号", "the gull"], ["大船 到了百灵一号", "the gull"]),
         "Each Chinese character counts as a word."),
    Case("a name with an accent", (["Zoë pays 30"], ["zo pays 30"]),
         "A word is a run of letters of any alphabet."),
    Case("Chinese next to letters", (["gull百灵 leaves", "ice"], ["gull 百灵 leaves", "ice"]),
         "A Chinese character is a word also where it touches letters."),
    Case("Cyrillic letters", (["чайка у причала"], ["чайки у причала"]),
         "A word is a run of letters of any alphabet."),
    Case("the last Chinese characters", (["\u9ffe\u9fff ice"], ["\u9ffe ice"]),
         "The range of Chinese characters ends at U+9FFF."),
    Case("characters before the Chinese range", (["\u3400\u3401 ice"], ["\u3400 ice"]),
         "Characters before U+4E00 are letters that form runs."),
    Case("a digit in full width", (["berth ８ is free"], ["berth 8 is free"]),
         "Lower case is the only change to a character."),
    Case("a ß", (["the Weißbach leaves"], ["the weissbach leaves"]),
         "Lower case is the only change to a character."),
    Case("one more word among equal words", (["help help help"], ["help tern help help"]),
         "Count the fewest errors of all alignments."),
    Case("nothing heard rightly but one word",
         (["lark needs ice for nine"], ["nine lamps at berth seven"]),
         "Five substitutions are fewer errors than a match with four deletions and insertions."),
    Case("two lost words", (["the lark needs ice and the tern leaves"],
                            ["the lark and the tern leaves"]),
         "Count the fewest errors of all alignments; a greedy search may miss it."),
    Case("a word that comes again later", (["to berth eight to ice"], ["ice to berth eight to"]),
         "Count the fewest errors of all alignments; a greedy search may miss it."),
    Case("three clips of different lengths",
         (["help", "the lark needs ice and nets today", "gull to berth eight"],
          ["hello", "the lark needs nets today", "the gull to berth eight"]),
         "Sum the errors and the words of all clips, then divide once."),
    Case("a word that moved to the next clip", (["gull to berth", "ice for ten"],
                                                ["gull to", "berth ice for ten"]),
         "Align each clip on its own."),
    Case("more errors than spoken words", (["help me"], ["what help is at the berth today"])),
    Case("a clip without speech",
         (["", "gull to berth eight"], ["the lark needs ice", "gull to berth"]),
         "A clip without speech has no words; each word heard in it is an insertion."),
    Case("nothing heard", (["the lark needs ice", "gull"], ["", "..."]),
         "If nothing was heard, every spoken word is deleted."),
]  # fmt: skip


def draw_corpus(seed: int, clips: int) -> tuple[list[str], list[str]]:
    """Return spoken texts, and the same texts with words lost, added and replaced."""
    rng = random.Random(f"wer/{seed}")
    words = ("gull", "lark", "to", "berth", "ice", "nine", "港", "船")
    references = [" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(clips)]
    hypotheses = []
    for text in references:
        heard = [
            rng.choice((word, word, word, rng.choice(words), f"{word} {rng.choice(words)}", ""))
            for word in text.split()
        ]
        hypotheses.append(" ".join(heard))
    return references, hypotheses


def accepted_counts(references: Texts, hypotheses: Texts) -> set[Counts]:
    """Return the sums of counts that the alignments with the fewest errors allow."""
    sums = {(0, 0, 0)}
    for pair in zip(map(split_words, references), map(split_words, hypotheses), strict=True):
        sums = {sum_counts([a, b]) for a in sums for b in possible_counts(*pair)}
    return sums


def _problem(result: object, arguments: tuple) -> str:
    """Return what is wrong with a result, or ""."""
    expect_type(result, dict, "what `word_error_rate` returned", f"It has {', '.join(KEYS)}.")
    if missing := [key for key in KEYS if key not in result]:
        raise NotYet(f"the dict has no {' and no '.join(map(repr, missing))}.")
    numbers = {key: expect_number(result[key], repr(key)) for key in KEYS}
    expected = reference_rate(*arguments)
    counts = tuple(numbers[kind] for kind in KINDS)
    possible = accepted_counts(*arguments)
    if counts not in possible:
        expected |= dict(zip(KINDS, min(possible), strict=True))
        key = next((k for k in KINDS if numbers[k] != expected[k]), KINDS[0])
        return f"{key} is {numbers[key]}, expected {expected[key]}"
    if abs(numbers["rate"] - expected["rate"]) > 1e-6:
        rounded = any(numbers["rate"] == round(expected["rate"], n) for n in range(1, 6))
        why = ". Do not round the rate" if rounded else ""
        return f"the rate is {numbers['rate']:.8g}, expected {expected['rate']:.8g}{why}"
    return ""


def _expect_case(answer: Callable, number: int, cases: list[Case]) -> None:
    case = cases[number]
    if problem := _problem(call_case(answer, number, cases, MISTAKES), case.arguments):
        spoken, heard = case.arguments
        shown = f" (spoken {spoken}, heard {heard})" if len(spoken) < 4 else ""
        why = name_mistake(answer, cases, number, MISTAKES) or case.hint
        raise NotYet(f"{case.what}{shown}: {problem}. {why}".strip())


@exercise(
    "3.5",
    wrong=[
        *MISTAKES,
        WrongAnswer("rounded", rate_rounded, "Do not round the rate."),
        WrongAnswer("rounded to two places", rate_rounded_to_two_places, "Do not round the rate"),
        WrongAnswer("lists of different lengths", rate_of_shorter_list, "`zip` drops"),
        WrongAnswer("0 without words", rate_zero_without_words, "The rate is undefined there"),
        WrongAnswer("division by zero", rate_divided_by_zero, "raises ZeroDivisionError, expected"),
        WrongAnswer("changed lists", rate_of_changed_lists, "changes the lists"),
        WrongAnswer("rate only", lambda *texts: reference_rate(*texts)["rate"], "expected dict"),
        WrongAnswer("no rate", lambda *texts: dict.fromkeys(KINDS, 0), "has no 'rate'"),
    ],
)
def check_word_error_rate(word_error_rate: Callable[[list[str], list[str]], dict]) -> str:
    """Judge `word_error_rate(references, hypotheses)`."""
    cases = [*CASES, EXAMPLE]
    for number in range(len(cases)):
        _expect_case(word_error_rate, number, cases)
    corpora = [
        Case(f"an invented corpus of {clips} clips", draw_corpus(seed, clips))
        for seed, clips in enumerate((5, 40, 90))
    ]
    for number in range(len(corpora)):
        _expect_case(word_error_rate, number, corpora)
    expect_error(
        word_error_rate, (["gull", "to berth"], ["gull"]), ValueError,
        "two references and one hypothesis",
        "`zip` drops what has no partner: compare the lengths first.",
    )  # fmt: skip
    for texts in ([], [""], ["...", ""]):
        expect_error(
            word_error_rate, (texts, list(texts)), ValueError, f"the references {texts}",
            "The rate is undefined there: nothing was spoken.",
        )  # fmt: skip
    expect_unchanged(word_error_rate, CASES[5].arguments, "the lists")
    return (
        f"your counts are right on {len(cases)} corpora written for this check, and on "
        f"{len(corpora)} invented corpora."
    )
