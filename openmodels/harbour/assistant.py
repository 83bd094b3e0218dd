"""Everything that an office assistant is trained and scored on, from four seeded sources.

`text` has the tasks of every miniature, `desk` single-answer language tasks, `errands` requests
that need tools, and `documents` questions over numbered passages.
"""

from __future__ import annotations

from collections.abc import Iterator

from openmodels.harbour import desk, documents, errands, guarded_mail, text
from openmodels.harbour.text import Instance

CITED = ("cited",)
TASKS = (*text.TASKS, *desk.TASKS, *errands.KINDS, *CITED)
MOST_QUESTIONS = 6  # about one set of passages
GUARDED = 0.4  # share of training mail that is delimited, marked or replaced


class Assistant:
    """A seeded source of every task: the same seed and split give the same bytes everywhere.

    split is "train" or "test"; invented is the share of names made from syllables.
    """

    def __init__(self, seed: int, split: str = "train", invented: float = 0.0):
        self.text = text.Harbour(seed, split, invented)
        self.desk = desk.Desk(seed, split, invented)
        self.errands = errands.Errands(seed, split, invented)
        self.reader = documents.Reader(seed, split, invented)
        self.rng = self.text.rng

    @property
    def invented(self) -> float:
        """Return the share of names made from syllables."""
        return self.text.invented

    @invented.setter
    def invented(self, share: float) -> None:
        """Set the share of names made from syllables in every source."""
        for source in (self.text, self.desk, self.errands, self.reader):
            source.invented = share

    def instance(self, task: str) -> Instance:
        """Return one instance of a task. Raises ValueError for an unknown task."""
        if task in errands.KINDS:
            return self.errands.errand(task)
        if task in CITED:
            return self.reader.cited()
        for source, tasks in ((self.desk, desk.TASKS), (self.text, text.TASKS)):
            if task in tasks:
                return getattr(source, task)()
        raise ValueError(f"unknown task {task!r}; the tasks are {', '.join(TASKS)}")

    def lesson(
        self, mix: dict[str, float], level: float = 1.0, value_first_share: float = 0.0
    ) -> Instance:
        """Return a training conversation: a task drawn from the mix, several times if that helps.

        level and value_first_share are those of `text.Harbour.lesson`.
        """
        [task] = self.rng.choices(list(mix), list(mix.values()))
        if task in errands.KINDS:
            errand = self.errands.errand(task)
            if errand.mail and self.rng.random() < GUARDED:
                return guarded_mail.guarded(errand, self.rng.choice(guarded_mail.FORMS))
            return errand
        if task in CITED:
            return self.reader.several_cited(self.rng.randint(1, MOST_QUESTIONS))
        if task in desk.TASKS:
            return self.desk.lesson({task: 1.0})
        return self.text.lesson({task: 1.0}, level, value_first_share)


def instances(
    task: str, count: int, seed: int = 0, split: str = "test", invented: float = 0.0
) -> Iterator[Instance]:
    """Yield `count` instances of one task, no two with the same key.

    Raises ValueError for an unknown task, and if there are fewer than `count` instances.
    """
    source, keys = Assistant(seed, split, invented), set()
    for _ in range(200 * count):
        if len(keys) == count:
            return
        instance = source.instance(task)
        if instance.key not in keys:
            keys.add(instance.key)
            yield instance
    if len(keys) < count:
        raise ValueError(f"{task} has only {len(keys)} different {split} instances, not {count}")
