"""Evaluate a workflow, in Inspect's words: a dataset of samples, a solver and a scorer.

    dataset = evals.read_dataset("questions.jsonl")
    run = evals.evaluate(dataset, solver, evals.normalised)

A solver is a function from a sample to text, a scorer one from text and target to a bool.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import string
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from math import ceil, comb, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from openmodels import files

MAX_BYTES = 20_000_000  # of a file that is read
IN_A_ROW = 10  # failed calls that end a run
ARTICLES = re.compile(r"\b(a|an|the)\b")


class Interval(NamedTuple):
    """An estimate with its 95 % interval, as shares or differences of shares."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.estimate:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f}) %"


# --- Datasets -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """A case of a dataset. group: samples of one group share something, such as a document."""

    id: str
    input: str
    target: str
    tags: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class Dataset:
    """Samples with different ids and inputs. Raises ValueError if two are the same."""

    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError("a dataset needs at least one sample")
        for name in ("id", "input"):
            values = [getattr(sample, name) for sample in self.samples]
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(f"two samples have the same {name}: {repeated[0][:80]!r}")

    @property
    def digest(self) -> str:
        """Return a SHA-256 of the samples; their order and the file's line ends do not matter."""
        lines = sorted(_line(sample) for sample in self.samples)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _line(sample: Sample) -> str:
    return json.dumps(asdict(sample), ensure_ascii=False, sort_keys=True)


def write_dataset(path: Path, dataset: Dataset) -> None:
    """Write a dataset as JSON Lines: one sample per line."""
    _write(path, "".join(f"{_line(sample)}\n" for sample in dataset.samples))


def read_dataset(path: Path) -> Dataset:
    """Return the dataset of a JSON Lines file; empty lines are skipped.

    Raises ValueError, with the line's number, for a line that is not a sample, for repeated ids or
    inputs, and for a file of more than MAX_BYTES.
    """
    samples = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        if line.strip():
            try:
                samples.append(_sample(json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path.name}, line {number}: {error}") from None
    return Dataset(tuple(samples))


def _sample(entry: object) -> Sample:
    """Return the sample of a JSON object. Raises ValueError, with the field, for any other."""
    if not isinstance(entry, dict):
        raise ValueError("a sample is a JSON object")
    names = [item.name for item in fields(Sample)]
    if unknown := sorted(entry.keys() - set(names)):
        raise ValueError(f"unknown field {unknown[0]!r}; a sample has {', '.join(names)}")
    for name in ("id", "input", "target"):
        if not isinstance(entry.get(name), str) or not entry[name].strip():
            raise ValueError(f"{name!r} must be a text that is not empty")
    tags = entry.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("'tags' must be a list of texts")
    if not isinstance(entry.get("group", ""), str):
        raise ValueError("'group' must be a text")
    return Sample(**entry | {"tags": tuple(tags)})


def _read(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name} is larger than {MAX_BYTES:,} bytes")
    return path.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    """Replace a file in one step; make its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text, encoding="utf-8", newline="\n")
    files.replace(draft, path)


# --- Scorers --------------------------------------------------------------------------------------


def exact(output: str, target: str) -> bool:
    """Return whether two texts are equal, spaces at their ends aside."""
    return output.strip() == target.strip()


def normalise(text: str) -> str:
    """Return the text in small letters, without punctuation, articles and repeated spaces.

    The steps of SQuAD's evaluation (arXiv 1606.05250). Brackets of a citation go too, its number
    stays.
    """
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(ARTICLES.sub(" ", plain).split())


def normalised(output: str, target: str) -> bool:
    """Return whether two texts are equal after `normalise`."""
    return normalise(output) == normalise(target)


def includes(output: str, target: str) -> bool:
    """Return whether the target occurs in the output, upper and lower case aside."""
    return target.lower() in output.lower()


# --- Runs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A dataset's results, by sample id.

    dataset: its digest. errors: the message of each solver call that failed; these count as wrong.
    """

    dataset: str
    scores: Mapping[str, bool]
    outputs: Mapping[str, str]
    groups: Mapping[str, str]
    errors: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flags(self) -> list[bool]:
        """Return the scores in the order of the dataset."""
        return list(self.scores.values())


def evaluate(
    dataset: Dataset,
    solver: Callable[[Sample], str],
    scorer: Callable[[str, str], bool],
    **settings: Any,
) -> Run:
    """Run a solver on every sample and score its outputs. settings: stored with the run.

    A call that raises counts as wrong: without it, a workflow would gain from failing on difficult
    cases. Raises RuntimeError if all calls fail, or IN_A_ROW of them one after the other: then the
    server is down, and the scores would not describe the workflow.
    """
    outputs, errors, in_a_row = {}, {}, 0
    for sample in dataset.samples:
        try:
            outputs[sample.id], in_a_row = solver(sample), 0
        except Exception as error:
            outputs[sample.id], errors[sample.id] = "", f"{type(error).__name__}: {error}"
            in_a_row += 1
        if in_a_row == IN_A_ROW or len(errors) == len(dataset.samples):
            raise RuntimeError(f"{in_a_row} calls in a row failed; the last: {errors[sample.id]}")
    scores = {
        sample.id: sample.id not in errors and bool(scorer(outputs[sample.id], sample.target))
        for sample in dataset.samples
    }
    groups = {sample.id: sample.group or sample.id for sample in dataset.samples}
    return Run(dataset.digest, scores, outputs, groups, errors, settings)


def save_run(path: Path, run: Run) -> None:
    """Write a run as JSON, in one step."""
    _write(path, json.dumps(asdict(run), ensure_ascii=False, indent=1) + "\n")


def read_run(path: Path) -> Run:
    """Return the run of a JSON file. Raises ValueError for any other file."""
    try:
        entry = json.loads(_read(path))
        run = Run(**entry)
        mappings = (run.scores, run.outputs, run.groups, run.errors)
        valid = isinstance(run.dataset, str) and all(isinstance(m, dict) for m in mappings)
        valid = valid and all(isinstance(score, bool) for score in run.scores.values())
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path.name} is not a stored run: {error}") from None
    if not valid or not run.scores or run.scores.keys() != run.groups.keys():
        raise ValueError(f"{path.name} is not a stored run: its scores or groups are incomplete")
    return run


# --- Statistics -----------------------------------------------------------------------------------


def _sums(values: Sequence[float], groups: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum and the number of values of each group."""
    members = defaultdict(list)
    for value, group in zip(values, groups, strict=True):
        members[group].append(float(value))
    return np.array([sum(m) for m in members.values()]), np.array(
        [len(m) for m in members.values()]
    )


def clustered(values: Sequence[float], groups: Sequence[Hashable] | None = None) -> Interval:
    """Return the mean and its 95 % interval if values of one group are not independent.

    values: scores of samples or differences of two runs. groups: one per value; None treats all
    values as independent. Normal approximation with clustered standard errors (arXiv 2411.00640,
    section 2.2), so it needs some dozens of groups. Raises ValueError for no values or for groups
    of another length.
    """
    if not len(values):
        raise ValueError("an interval needs at least one value")
    mean, n = sum(values) / len(values), len(values)
    sums, _ = _sums([value - mean for value in values], range(n) if groups is None else groups)
    half = NormalDist().inv_cdf(0.975) * sqrt(float((sums**2).sum())) / n
    return Interval(mean, mean - half, mean + half)


def bootstrap_difference(
    old: Sequence[bool],
    new: Sequence[bool],
    groups: Sequence[Hashable],
    trials: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return new minus old and its 95 % interval, from a paired bootstrap over groups.

    Each trial draws whole groups with replacement. The three sequences have a value per sample.
    """
    pairs = [float(b) - float(a) for a, b in zip(old, new, strict=True)]
    sums, sizes = _sums(pairs, groups)
    draws = np.random.default_rng(seed).integers(len(sums), size=(trials, len(sums)))
    means = sums[draws].sum(1) / sizes[draws].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(sum(pairs) / len(pairs), float(low), float(high))


def loss_p_value(
    old: Sequence[bool],
    new: Sequence[bool],
    groups: Sequence[Hashable],
    flips: int = 10_000,
    seed: int = 0,
) -> float:
    """Return the probability of a loss at least as large if both runs were equally good.

    A one-sided permutation test: each flip exchanges old and new for a random half of the groups.
    With one sample per group it approximates McNemar's exact test.
    """
    sums, _ = _sums([float(b) - float(a) for a, b in zip(old, new, strict=True)], groups)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(flips, len(sums)))
    return float((1 + (signs @ sums <= sums.sum() + 1e-9).sum()) / (1 + flips))


def cases_needed(only_old: float, only_new: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return the paired cases that detect a difference with this power, two-sided.

    only_old, only_new: the true shares of cases that only one of two runs gets right. For a
    one-sided test, give twice its alpha. The formula is Connor's (Biometrics 43, 1987). Raises
    ValueError for equal shares.
    """
    if only_old == only_new:
        raise ValueError("two runs that differ equally often in both directions are equally good")
    discordant, gap = only_old + only_new, abs(only_old - only_new)
    z = NormalDist().inv_cdf
    width = z(1 - alpha / 2) * sqrt(discordant) + z(power) * sqrt(discordant - gap**2)
    return ceil(width**2 / gap**2)


@cache
def sign_test(first: int, second: int) -> float:
    """Return McNemar's exact two-sided p-value of the two counts of discordant cases."""
    n = first + second
    return min(1.0, 2 * sum(comb(n, k) for k in range(min(first, second) + 1)) / 2**n)


def simulated_power(
    n: int, only_old: float, only_new: float, trials: int = 4000, seed: int = 0,
    alpha: float = 0.05,
) -> float:  # fmt: skip
    """Return the share of simulated comparisons of n cases with a two-sided p-value below alpha.

    For a one-sided test, give twice its alpha, as in `cases_needed`.
    """
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, (only_old, only_new, 1 - only_old - only_new), size=trials)
    return float(np.mean([sign_test(int(a), int(b)) < alpha for a, b, _ in counts]))


def simulated_coverage(
    documents: int, questions: int, clusters: bool, trials: int = 1000, seed: int = 0
) -> float:
    """Return how often the 95 % interval contains the true share, in a simulation.

    Documents differ in difficulty: each document's probability of a right answer is drawn evenly
    from 0.4 to 1, so the true share is 0.7. clusters: whether the interval groups by document.
    """
    rng = random.Random(seed)
    groups = [n // questions for n in range(documents * questions)]
    hits = 0
    for _ in range(trials):
        chances = [rng.uniform(0.4, 1.0) for _ in range(documents)]
        scores = [rng.random() < chances[group] for group in groups]
        interval = clustered(scores, groups if clusters else None)
        hits += interval.low <= 0.7 <= interval.high
    return hits / trials
