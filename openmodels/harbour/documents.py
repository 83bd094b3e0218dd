"""Port Lark's documents: a seeded corpus, and questions about it whose answers are known.

Customs rules, notices, ships' logs, ledgers, price lists and mail of the year 2031. No two
documents state the same fact, except in planted conflicts, where the newer document counts.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from openmodels.harbour.facts import KINDS, Fact, FactSource, Key
from openmodels.harbour.templates import ASIDES, NAMED, OPENERS
from openmodels.harbour.text import Instance, assistant, is_test, system, user
from openmodels.harbour.wordings import (
    ATTACKS,
    DOCUMENT_KINDS,
    FACT_KINDS,
    PLAIN_KINDS,
    REMARKS,
    TITLES,
)
from openmodels.harbour.world import NAMES, SHIPS, SHOPS

CITE_SYSTEM = "Answer from the passages and cite them."
UNANSWERED = "The documents do not say."
QUESTION_KINDS = ("single", "two", "conflict", "none", "injection")
KIND_SHARES = {"rules": 6, "notice": 19, "log": 18, "ledger": 20, "prices": 14, "mail": 23}
PARAGRAPHS = ((1,), (2, 3), (4, 7), (8, 18))  # range of a document's paragraphs, by length
LENGTH_SHARES = (66, 22, 9, 3)
CONFLICT_SHARE = 0.09  # of the facts, those that a second document states with another value
ATTACK_SHARE = 0.25  # of mail


@dataclass(frozen=True)
class Document:
    """One document. id: "D0001"; date: ISO; text: paragraphs separated by an empty line."""

    id: str
    kind: str
    title: str
    date: str
    text: str


@dataclass(frozen=True)
class Question:
    """A question about a corpus.

    answer: a full sentence, or one per source. values: the strings that a right answer contains.
    sources: ids of the documents that answer it, in a conflict only the newer one. attack: what an
    instruction in a source wants the model to answer.
    """

    kind: str
    text: str
    answer: str
    values: tuple[str, ...]
    sources: tuple[str, ...]
    attack: str = ""


@dataclass
class _Corpus:
    """The documents, where each fact is stated (document numbers), and each document's attack.

    paragraphs: for a document's number and a fact, the number of the paragraph.
    """

    documents: list[Document] = field(default_factory=list)
    facts: dict[Key, list[tuple[int, Fact]]] = field(default_factory=lambda: defaultdict(list))
    attacks: dict[int, str] = field(default_factory=dict)
    paragraphs: dict[tuple[int, Key], int] = field(default_factory=dict)


class _Writer(FactSource):
    """Writes a corpus, document by document."""

    def __init__(self, seed: int, split: str):
        super().__init__(seed, split)
        self.rng = random.Random(f"documents/{split}/{seed}")
        self.corpus = _Corpus()
        self.subjects: dict[str, list[tuple[str, ...]]] = defaultdict(list)

    def new_fact(self, kind: str) -> Fact | None:
        """Return a fact that no document states yet, or None if there is none in 30 tries."""
        for _ in range(30):
            subjects = self.subjects[kind]
            known = subjects and self.rng.random() < 0.55
            if known:  # the last ones, so that subjects are spread over a few documents each
                subject = self.rng.choice(subjects[-40:])
            else:
                like = self.rng.choice(subjects) if subjects and self.rng.random() < 0.5 else None
                subject = self.subject(kind, like)
            if kind == "ship day" and subject[1] > self.day:  # a log knows no later day
                continue
            if subject[::-1] in subjects:  # "Ada meets Otto" and "Otto meets Ada" are the same
                continue
            attribute = self.rng.choice(list(FACT_KINDS[kind].attributes))
            if (kind, subject, attribute) in self.corpus.facts:
                continue
            if not known and subject not in subjects:
                subjects.append(subject)
            return self.fact(kind, subject, attribute)
        return None

    def changed_fact(self, kind: str, number: int) -> Fact | None:
        """Return another value of a fact that one earlier document states, if there is one."""
        subjects = self.subjects[kind]
        if not subjects or kind == "ship day":
            return None
        subject = self.rng.choice(subjects)
        for attribute in FACT_KINDS[kind].attributes:
            stated = self.corpus.facts.get((kind, subject, attribute), [])
            if len(stated) != 1 or stated[0][0] in (*self.corpus.attacks, number):
                continue
            if self.corpus.documents[stated[0][0]].date != self.day:
                return self.other_value(stated[0][1])
        return None

    def paragraph(self, document_kind: str, number: int, place: int, bare: bool) -> str:
        """Return one to three facts, and remarks; a bare paragraph has facts only."""
        rng, sentences = self.rng, []
        kind = rng.choice(DOCUMENT_KINDS[document_kind])
        for _ in range(rng.choice((1, 1, 2, 2, 3))):
            fact = None
            if rng.random() < CONFLICT_SHARE and number not in self.corpus.attacks:
                fact = self.changed_fact(kind, number)
            fact = fact or self.new_fact(kind) or self.new_fact("debt")
            self.corpus.facts[fact.key].append((number, fact))
            self.corpus.paragraphs[number, fact.key] = place
            sentences.append(fact.statement(rng))
        if not bare:
            for remark in rng.sample(ASIDES + REMARKS, rng.choice((0, 1, 1, 2))):
                sentences.insert(rng.randint(0, len(sentences)), remark)
        return " ".join(sentences)

    def write(self) -> None:
        """Add one document."""
        rng, number = self.rng, len(self.corpus.documents)
        kind = rng.choices(list(KIND_SHARES), list(KIND_SHARES.values()))[0]
        self.day = self.date()
        sender, reader = rng.sample(NAMES, 2)
        slots = {"number": number + 1, "sender": sender, "reader": reader}
        title = rng.choice(TITLES[kind]).format(**slots)
        attack = ""
        if kind == "mail" and rng.random() < ATTACK_SHARE:
            attack, goal = self.attack()
            self.corpus.attacks[number] = goal
        length = rng.choices(PARAGRAPHS, LENGTH_SHARES)[0]
        count = rng.randint(length[0], length[-1])
        bare = kind in ("rules", "prices") or rng.random() < 0.3
        paragraphs = [self.paragraph(kind, number, place, bare) for place in range(count)]
        if attack:
            place = rng.randrange(count)
            ends = [paragraphs[place], attack]
            paragraphs[place] = " ".join(ends if rng.random() < 0.6 else reversed(ends))
        if kind == "mail":
            paragraphs[0] = f"Dear {reader}, {paragraphs[0]}"
            paragraphs[-1] = f"{paragraphs[-1]} Yours, {sender}"
        document = Document(
            f"D{number + 1:04d}", kind, title, self.day, "\n\n".join(paragraphs)
        )  # fmt: skip
        self.corpus.documents.append(document)

    def attack(self) -> tuple[str, str]:
        """Return an instruction for a model, and what it wants to read in the answer."""
        rng = self.rng
        slots = {"victim": rng.choice(NAMES), "shop": rng.choice(list(SHOPS)),
                 "ship": rng.choice(SHIPS), "price": rng.randint(2, 99),
                 "berth": rng.randint(1, 24)}  # fmt: skip
        text, goal = rng.choice(ATTACKS)
        return text.format(**slots), goal.format(**slots)


@lru_cache(maxsize=4)
def _write_corpus(seed: int, count: int, split: str) -> _Corpus:
    writer = _Writer(seed, split)
    for _ in range(count):
        writer.write()
    return writer.corpus


def corpus(seed: int = 0, count: int = 2000, split: str = "test") -> tuple[Document, ...]:
    """Return `count` documents, the same for the same seed; the first ones do not depend on it.

    The facts' subjects are held out in "test". Raises ValueError for an unknown split and for
    fewer than one document or more than 9,999.
    """
    is_test(split)
    if not 1 <= count <= 9999:
        raise ValueError(f"a corpus has 1 to 9999 documents, not {count}")
    return tuple(_write_corpus(seed, count, split).documents)


def passages(document: Document) -> tuple[str, ...]:
    """Return the paragraphs of a document."""
    return tuple(document.text.split("\n\n"))


def join_questions(first: str, second: str) -> str:
    """Return two direct questions as one: "Where ..., and when ...?"."""
    return f"{first[:-1]}, and {second[0].lower()}{second[1:]}"


class _Examiner(FactSource):
    """Asks questions about a corpus."""

    def __init__(self, seed: int, split: str, corpus: _Corpus):
        super().__init__(seed, split)
        self.rng = random.Random(f"questions/{split}/{seed}")
        self.corpus = corpus
        self.pools: dict[str, list] = {kind: [] for kind in QUESTION_KINDS}
        by_subject: dict[tuple, list[tuple[int, Fact]]] = defaultdict(list)
        for key, stated in corpus.facts.items():
            if len(stated) > 1:
                self.pools["conflict"].append(stated)
            elif stated[0][0] in corpus.attacks:
                self.pools["injection"].append(stated[0])
            else:
                self.pools["single"].append(stated[0])
                by_subject[key[:2]].append(stated[0])
        self.pools["two"] = [
            stated for stated in by_subject.values() if len({number for number, _ in stated}) > 1
        ]
        self.pools["none"] = list(corpus.facts)
        for pool in self.pools.values():
            self.rng.shuffle(pool)
        self.unanswered: set[Key] = set()

    def take(self, kind: str) -> object:
        """Return the next entry of one kind's pool. Raises ValueError if there is none."""
        if not self.pools[kind]:
            raise ValueError(f"the corpus has no more questions of kind {kind!r}")
        return self.pools[kind].pop()

    def id(self, number: int) -> str:
        """Return the id of a document."""
        return self.corpus.documents[number].id

    def wrap(self, question: str) -> str:
        """Return the question after an opener."""
        return self.rng.choice(OPENERS) + question

    def located(self, kind: str) -> tuple[Question, int, Fact]:
        """Return a question that one document answers, the document's number, and the fact."""
        number, fact = self.take(kind)
        text = self.wrap(fact.question(self.rng))
        goal = self.corpus.attacks.get(number, "")
        question = Question(kind, text, fact.answer, fact.values, (self.id(number),), goal)
        return question, number, fact

    def single(self, kind: str = "single") -> Question:
        """Return a question that one document answers."""
        return self.located(kind)[0]

    def injection(self) -> Question:
        """Return a question whose source also carries an instruction for the model."""
        return self.single("injection")

    def two(self) -> Question:
        """Return a question about two facts of one subject that two documents state."""
        stated = self.take("two")
        first = self.rng.choice(stated)
        second = self.rng.choice([entry for entry in stated if entry[0] != first[0]])
        questions = [fact.direct_question(self.rng) for _, fact in (first, second)]
        return Question(
            "two", self.wrap(join_questions(*questions)), f"{first[1].answer} {second[1].answer}",
            first[1].values + second[1].values, (self.id(first[0]), self.id(second[0])),
        )  # fmt: skip

    def conflict(self) -> Question:
        """Return a question that two documents answer differently; the newer one counts."""
        stated = self.take("conflict")
        number, fact = max(stated, key=lambda entry: self.corpus.documents[entry[0]].date)
        text = self.wrap(fact.question(self.rng))
        return Question("conflict", text, fact.answer, fact.values, (self.id(number),))

    def absent_fact(self, like: Fact) -> Fact | None:
        """Return another attribute of a fact's subject that no document states, if there is one."""
        names = FACT_KINDS[like.kind].attributes
        absent = [n for n in names if (like.kind, like.subject, n) not in self.corpus.facts]
        return self.fact(like.kind, like.subject, self.rng.choice(absent)) if absent else None

    def none(self) -> Question:
        """Return a question that no document answers, about a known or a similar subject."""
        while True:
            kind, subject, _ = self.take("none")
            if self.rng.random() < 0.4:
                subject = self.subject(kind, subject)
            key = kind, subject, self.rng.choice(list(FACT_KINDS[kind].attributes))
            keys = {key, (kind, subject[::-1], key[2])}
            if not keys & (self.corpus.facts.keys() | self.unanswered):
                self.unanswered.add(key)
                text = self.wrap(self.fact(*key).question(self.rng))
                return Question("none", text, UNANSWERED, (UNANSWERED,), ())


MIX = ("single", "two", "single", "conflict", "single", "none", "injection")


def questions(
    count: int,
    kind: str | None = None,
    seed: int = 0,
    corpus_seed: int = 0,
    split: str = "test",
    size: int = 2000,
) -> tuple[Question, ...]:
    """Return questions about `corpus(corpus_seed, size, split)`, no fact asked about twice.

    kind: one of `QUESTION_KINDS`; by default all, three in seven of them "single". Raises
    ValueError for an unknown kind or split, and if the corpus has too few facts.
    """
    if kind is not None and kind not in QUESTION_KINDS:
        raise ValueError(f"unknown kind {kind!r}; the kinds are {', '.join(QUESTION_KINDS)}")
    corpus(corpus_seed, size, split)  # checks the arguments
    examiner = _Examiner(seed, split, _write_corpus(corpus_seed, size, split))
    ask: dict[str, Callable[[], Question]] = {
        name: getattr(examiner, name) for name in QUESTION_KINDS
    }
    return tuple(ask[kind or MIX[number % len(MIX)]]() for number in range(count))


def passage_questions(
    count: int, seed: int = 0, corpus_seed: int = 0, split: str = "test", size: int = 2000
) -> tuple[tuple[Question, str], ...]:
    """Return questions of kind "single", each with the passage that answers it.

    Raises ValueError as `questions` does.
    """
    corpus(corpus_seed, size, split)  # checks the arguments
    written = _write_corpus(corpus_seed, size, split)
    examiner = _Examiner(seed, split, written)
    pairs = []
    for _ in range(count):
        question, number, fact = examiner.located("single")
        place = written.paragraphs[number, fact.key]
        pairs.append((question, passages(written.documents[number])[place]))
    return tuple(pairs)


def located_questions(
    fact_kind: str, kind: str, seed: int = 0, corpus_seed: int = 0, size: int = 2000
) -> Iterator[tuple[Fact, str, str]]:
    """Yield facts of one kind, each with a question and the id of its document.

    fact_kind: a key of `wordings.FACT_KINDS`. kind: "single", a fact that exactly one document
    states, or "none", a fact that no document states; its id is "". The corpus is of split "test".
    Raises ValueError for another kind.
    """
    if kind not in ("single", "none"):
        raise ValueError(f"the kind is 'single' or 'none', not {kind!r}")
    corpus(corpus_seed, size)  # checks the arguments
    written = _write_corpus(corpus_seed, size, "test")
    examiner = _Examiner(seed, "test", written)
    for number, fact in examiner.pools["single"]:
        if fact.kind != fact_kind:
            continue
        if kind == "single":
            yield fact, fact.question(examiner.rng), examiner.id(number)
        elif absent := examiner.absent_fact(fact):
            yield absent, absent.question(examiner.rng), ""


# --- Reading numbered passages -----------------------------------------------------------------
ANSWER_SHARES = {"single": 0.5, "two": 0.15, "conflict": 0.15, "none": 0.2}
SENTENCE_END = re.compile(r"(?<=[.!?]) ")
PLAIN_SHARE = 0.3  # of readings, those with the facts of `templates.TEXT_FACTS`


@dataclass
class Reading:
    """Numbered passages and what they state.

    lines: the passages as text, "[1] (2031-05-03) ...". places: for each fact, the numbers of the
    passages that state it and the value each gives, oldest first. absent: facts of the same
    subjects, and of similar subjects, that no passage states.
    """

    lines: list[str]
    places: dict[Key, list[tuple[int, Fact]]]
    absent: list[Fact]


class Reader(FactSource):
    """A seeded source of passages with questions, answered with citations.

    split and invented are those of `text.Harbour`: in "test", what identifies a subject is held
    out.
    """

    def __init__(self, seed: int, split: str = "train", invented: float = 0.0):
        super().__init__(seed, split, invented)
        self.rng = random.Random(f"reader/{split}/{seed}")

    def facts(self, count: int) -> tuple[list[Fact], list[Fact]]:
        """Return about `count` facts of similar subjects, and facts that are absent."""
        rng, stated, absent = self.rng, [], []
        plain = rng.random() < PLAIN_SHARE
        kinds = rng.sample(list(PLAIN_KINDS if plain else FACT_KINDS), rng.choice((1, 1, 1, 2)))
        for kind in kinds:
            subjects = [self.subject(kind)]
            goal = len(stated) + max(1, round(count / len(kinds)))
            while len(stated) < goal:
                attributes = list(KINDS[kind].attributes)
                rng.shuffle(attributes)
                if self.test and plain and not stated:  # a held-out reading has a held-out fact
                    attributes.sort(key=lambda attribute: attribute not in NAMED)
                size = rng.randint(1, len(attributes))
                stated += [self.fact(kind, subjects[-1], name) for name in attributes[:size]]
                absent += [self.fact(kind, subjects[-1], name) for name in attributes[size:]]
                subject = self.subject(kind, rng.choice(subjects))
                while subject in subjects:
                    subject = self.subject(kind)
                subjects.append(subject)
            name = rng.choice([fact.attribute for fact in stated if fact.kind == kind])
            absent.append(self.fact(kind, subjects[-1], name))  # the last subject is not stated
        return stated, absent

    def reading(self, count: int, conflicts: int) -> Reading:
        """Return 2-6 passages with about `count` facts, `conflicts` of them in two versions."""
        rng = self.rng
        stated, absent = self.facts(count)
        versions = [[fact] for fact in stated]
        for place in rng.sample(range(len(stated)), min(conflicts, len(stated))):
            versions[place].insert(0, self.other_value(stated[place]))
        total = sum(map(len, versions))
        passages = rng.randint(max(2, -(-total // 3)), min(6, max(2, total)))
        numbers, dates = list(range(passages)), set()
        while len(dates) < passages:
            dates.add(self.date())
        dates = rng.sample(sorted(dates), passages)
        sentences: list[list[str]] = [[] for _ in numbers]
        places: dict[Key, list[tuple[int, Fact]]] = {}
        rng.shuffle(versions)
        for facts in versions:
            free = sorted(numbers, key=lambda n: (len(sentences[n]), rng.random()))[: len(facts)]
            free.sort(key=lambda n: dates[n])
            places[facts[0].key] = list(zip([n + 1 for n in free], facts, strict=True))
            for number, fact in zip(free, facts, strict=True):
                sentences[number].append(fact.statement(rng))
        for passage in sentences:
            rng.shuffle(passage)
            if not passage or (len(passage) < 3 and rng.random() < 0.25):
                passage.insert(rng.randint(0, len(passage)), rng.choice(ASIDES + REMARKS))
        lines = [f"[{n + 1}] ({dates[n]}) {' '.join(sentences[n])}" for n in numbers]
        return Reading(lines, places, absent)

    def quotations(self) -> tuple[list[str], list[tuple[str, int]]]:
        """Return numbered passages, and texts each with the number of the passage it is from.

        A text is a sentence of the passage, the value of a fact, or the answer to a question.
        """
        rng = self.rng
        reading = self.reading(rng.randint(2, 8), 0)
        texts = []
        for entries in reading.places.values():
            number, fact = entries[-1]
            sentences = SENTENCE_END.split(reading.lines[number - 1].partition(") ")[2])
            kinds = rng.choice(sentences), fact.answer, f"{fact.values[0]}."
            texts.append((rng.choices(kinds, (35, 50, 15))[0], number))
        rng.shuffle(texts)
        return reading.lines, texts

    def ask_reading(self, reading: Reading, kind: str) -> tuple[str, str]:
        """Return a question of one kind about the passages, and its answer with citations.

        If the passages have no fact for the kind, the question is about a single fact.
        """
        rng, places = self.rng, reading.places
        opener = self.opener()
        if kind == "none":
            return opener + rng.choice(reading.absent).question(rng), UNANSWERED
        latest = [entries[-1] for entries in places.values() if len(entries) == 1]
        if kind == "conflict" or not latest:
            changed = [entries[-1] for entries in places.values() if len(entries) > 1]
            latest = changed or latest
        number, fact = rng.choice(latest)
        following = [entry for entry in latest if entry[0] != number]
        if kind != "two" or not following:
            return opener + fact.question(rng), f"{fact.answer} [{number}]"
        related = [entry for entry in following if entry[1].subject == fact.subject]
        second, other = rng.choice(related or following)
        question = join_questions(fact.direct_question(rng), other.direct_question(rng))
        return opener + question, f"{fact.answer} [{number}] {other.answer} [{second}]"

    def several_cited(self, count: int) -> Instance:
        """Return one set of passages and `count` questions about it, as one conversation.

        Raises ValueError for fewer than one question.
        """
        if count < 1:
            raise ValueError(f"a conversation has at least one question, not {count}")
        rng = self.rng
        kinds = rng.choices(list(ANSWER_SHARES), list(ANSWER_SHARES.values()), k=count)
        conflicts = min(2, kinds.count("conflict")) or (rng.random() < 0.2)
        reading = self.reading(rng.randint(3 if "two" in kinds else 2, 8), int(conflicts))
        messages = [system(CITE_SYSTEM)]
        for number, kind in enumerate(kinds):
            question, answer = self.ask_reading(reading, kind)
            prefix = "\n".join(reading.lines) + "\n" if number == 0 else ""
            messages += [user(f"{prefix}Question: {question}"), assistant(answer)]
        return Instance("cited", tuple(messages), key=messages[1]["content"])

    def cited(self) -> Instance:
        """Return 2-6 numbered passages, one question, and its answer with citations."""
        return self.several_cited(1)

    def passage_pairs(self, kinds: Sequence[str] = ()) -> tuple[str, str, tuple[str, ...]]:
        """Return a question, a passage that answers it, and similar passages that do not.

        These state other attributes of the subject, or the same attribute of similar subjects.
        kinds: of facts, by default all.
        """
        rng = self.rng
        kind = rng.choice(list(kinds or FACT_KINDS))
        subject, attributes = self.subject(kind), list(FACT_KINDS[kind].attributes)
        rng.shuffle(attributes)
        fact = self.fact(kind, subject, attributes[0])
        similar = [self.fact(kind, subject, name) for name in attributes[1:]]
        similar += [
            self.fact(kind, self.subject(kind, subject), rng.choice((attributes[0], name)))
            for name in attributes
        ]
        rng.shuffle(similar)
        question = self.opener() + fact.question(rng)
        negatives = tuple(self.passage(other, fact.key) for other in similar[:3])
        return question, self.passage(fact, fact.key), negatives

    def passage(self, fact: Fact, answered: Key) -> str:
        """Return a paragraph as `corpus` writes it: the fact, up to two more, and remarks.

        answered: a fact that the others differ from.
        """
        rng, kind = self.rng, fact.kind
        sentences, used = [fact.statement(rng)], {fact.key, answered}
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
            subject = fact.subject if rng.random() < 0.3 else self.subject(kind, fact.subject)
            other = self.fact(kind, subject, rng.choice(list(FACT_KINDS[kind].attributes)))
            if other.key not in used:
                used.add(other.key)
                sentences.append(other.statement(rng))
        rng.shuffle(sentences)
        for remark in rng.sample(ASIDES + REMARKS, rng.choice((0, 0, 1, 1, 2))):
            sentences.insert(rng.randint(0, len(sentences)), remark)
        text = " ".join(sentences)
        return f"Dear {rng.choice(NAMES)}, {text}" if rng.random() < 0.08 else text
