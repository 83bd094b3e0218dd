"""Stop a change that makes a workflow worse: compare a stored run with a baseline, case by case.

    python -m openmodels.workflows.gate run.json --baseline baseline.json

Exit code 0: no regression was detected; 1: a regression; 2: the two runs cannot be compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openmodels.workflows import evals
from openmodels.workflows.evals import Run

ALPHA = 0.05
NOISE = 0.02  # share of cases that a harmless change is taken to turn from wrong to right
SHOWN = 5  # cases that a message names


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison. fixed, broken: ids of cases that became right, and wrong."""

    passed: bool
    p_value: float
    fixed: tuple[str, ...]
    broken: tuple[str, ...]
    message: str


def compare(baseline: Run, run: Run, alpha: float = ALPHA) -> Verdict:
    """Return whether a run is significantly worse than the baseline.

    alpha: the share of false alarms, at most. The test keeps the samples of one group together.
    Raises ValueError if the runs have different datasets or cases, and for another alpha than one
    between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    if baseline.dataset != run.dataset or baseline.scores.keys() != run.scores.keys():
        raise ValueError("the two runs have different datasets; record a new baseline")
    ids = list(baseline.scores)
    old, new = ([bool(scores[i]) for i in ids] for scores in (baseline.scores, run.scores))
    groups = [baseline.groups[i] for i in ids]
    p_value = evals.loss_p_value(old, new, groups)
    fixed = tuple(i for i in ids if run.scores[i] and not baseline.scores[i])
    broken = tuple(i for i in ids if baseline.scores[i] and not run.scores[i])
    passed = p_value >= alpha
    lines = [
        f"{'PASS' if passed else 'FAIL'}: {sum(new)} of {len(ids)} right, baseline {sum(old)}; "
        f"{len(broken)} became wrong, {len(fixed)} became right (one-sided p = {p_value:.4f})",
    ]
    lines.append(
        _sensitivity(len(ids), sum(old), alpha) if passed else f"wrong now: {_shortened(broken)}"
    )
    if run.errors:
        lines.append(f"{len(run.errors)} calls failed: {_shortened(tuple(run.errors))}")
    return Verdict(passed, p_value, fixed, broken, "\n".join(lines))


def _shortened(ids: tuple[str, ...]) -> str:
    more = len(ids) - SHOWN
    return ", ".join(ids[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _sensitivity(n: int, right: int, alpha: float) -> str:
    points = detectable_loss(n, alpha)
    text = f"a gate of {n} independent cases detects a loss of {points} points in 4 of 5 runs"
    if points > 100 * right / n:
        text += f"; the baseline has only {100 * right / n:.0f} to lose, so a pass means little"
    return text


def detectable_loss(n: int, alpha: float = ALPHA) -> int:
    """Return the loss in points that n independent cases detect with a power of 80 %.

    100 if even larger losses are missed.
    """
    for points in range(1, 98):
        if evals.cases_needed(points / 100 + NOISE, NOISE, alpha=2 * alpha) <= n:
            return points
    return 100


def false_alarms(
    baseline: Run, changed: float, trials: int = 400, alpha: float = ALPHA, seed: int = 0
) -> float:
    """Return the share of harmless changes that the gate stops, in a simulation.

    changed: the probability that a case's score is drawn anew, with the baseline's share of right
    scores: so both runs are equally good. The scores of the old run are drawn anew, too.
    """
    rng, ids = np.random.default_rng(seed), list(baseline.scores)
    share = sum(baseline.scores.values()) / len(ids)
    stopped = 0
    for _ in range(trials):
        old = rng.random(len(ids)) < share
        new = np.where(rng.random(len(ids)) < changed, rng.random(len(ids)) < share, old)
        groups = list(baseline.groups.values())
        p_value = evals.loss_p_value(old, new, groups, 1000, int(rng.integers(2**31)))
        stopped += p_value < alpha
    return stopped / trials


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two files, print the verdict and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m openmodels.workflows.gate", description=__doc__
    )
    parser.add_argument("run", type=Path, help="a run, stored with evals.save_run")
    parser.add_argument("--baseline", type=Path, required=True, help="the run to compare with")
    parser.add_argument("--alpha", type=float, default=ALPHA, help="share of false alarms")
    parser.add_argument(
        "--accept",
        action="store_true",
        help="store the run as the new baseline, whatever it scores",
    )
    options = parser.parse_args(arguments)
    try:
        run = evals.read_run(options.run)
        if options.accept:
            evals.save_run(options.baseline, run)
            print(f"stored as the baseline: {sum(run.flags)} of {len(run.flags)} right")
            return 0
        verdict = compare(evals.read_run(options.baseline), run, options.alpha)
    except (OSError, ValueError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    print(verdict.message)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
