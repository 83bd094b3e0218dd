"""The regression gate: planted faults, harmless changes, false alarms and exit codes."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from openmodels.workflows import evals, gate
from openmodels.workflows.evals import Dataset, Sample


@pytest.fixture(scope="module")
def dataset():
    return Dataset(
        tuple(Sample(f"R{n // 3}-{n}", f"q{n}", f"a{n}", (), f"R{n // 3}") for n in range(90))
    )


def run_with(dataset, wrong, errors=()):
    """Return a run in which the samples with these numbers are wrong."""
    numbers = {sample.id: n for n, sample in enumerate(dataset.samples)}

    def solver(sample):
        if numbers[sample.id] in errors:
            raise TimeoutError("slow")
        return "?" if numbers[sample.id] in wrong else sample.target

    return evals.evaluate(dataset, solver, evals.exact)


@pytest.fixture(scope="module")
def baseline(dataset):
    return run_with(dataset, set(range(0, 90, 9)))


def test_a_large_loss_fails_and_names_cases(dataset, baseline):
    verdict = gate.compare(baseline, run_with(dataset, set(range(0, 90, 3))))
    assert not verdict.passed and verdict.p_value < 0.001
    assert len(verdict.broken) == 20 and verdict.fixed == ()
    assert verdict.message.startswith("FAIL: 60 of 90 right, baseline 80; 20 became wrong")
    assert verdict.broken[0] in verdict.message and "and 15 more" in verdict.message


@pytest.mark.parametrize(
    "wrong",
    [range(0, 90, 9), range(1, 90, 9), (), range(0, 90, 8)],
    ids=["the same", "other cases", "better", "a little worse"],
)
def test_a_harmless_change_passes(dataset, baseline, wrong):
    verdict = gate.compare(baseline, run_with(dataset, set(wrong)))
    assert verdict.passed and verdict.message.startswith("PASS")
    assert "detects a loss of 10 points in 4 of 5 runs" in verdict.message


def test_a_pass_of_a_low_baseline_says_that_it_means_little(dataset):
    low = run_with(dataset, set(range(5, 90)))
    verdict = gate.compare(low, run_with(dataset, set(range(90)) - {7}))
    assert verdict.passed and "only 6 to lose, so a pass means little" in verdict.message


def test_failed_calls_are_named(dataset, baseline):
    verdict = gate.compare(baseline, run_with(dataset, set(), errors=set(range(0, 80, 2))))
    assert not verdict.passed and "40 calls failed: R0-0" in verdict.message


def test_a_loss_inside_one_group_is_no_proof(dataset, baseline):
    groups = dict.fromkeys(baseline.groups, "one text")
    verdict = gate.compare(
        replace(baseline, groups=groups), run_with(dataset, set(range(0, 90, 3)))
    )
    assert verdict.passed


def test_other_datasets_are_not_compared(dataset, baseline):
    changed = Dataset((*dataset.samples[:-1], Sample("new", "q", "a")))
    with pytest.raises(ValueError, match="record a new baseline"):
        gate.compare(baseline, run_with(changed, set()))
    fewer = replace(baseline, scores=dict(list(baseline.scores.items())[:-1]))
    with pytest.raises(ValueError, match="record a new baseline"):
        gate.compare(baseline, fewer)


def test_false_alarms_stay_below_alpha(baseline):
    rate = gate.false_alarms(baseline, changed=0.3, trials=400)
    assert rate < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


def test_the_gate_detects_the_loss_it_names():
    points = gate.detectable_loss(150)
    rng, stopped = np.random.default_rng(0), 0
    for _ in range(200):
        draw = rng.random(150)
        worse = draw < points / 100 + gate.NOISE
        better = draw > 1 - gate.NOISE
        old = [True if w else not b for w, b in zip(worse, better, strict=True)]
        new = [not w for w in worse]
        stopped += evals.loss_p_value(old, new, list(range(150)), flips=1000) < gate.ALPHA
    assert 0.68 < stopped / 200 < 0.95
    assert gate.detectable_loss(20) > points and gate.detectable_loss(3) == 100


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, dataset, baseline):
    runs = {"baseline": baseline, "worse": run_with(dataset, set(range(0, 90, 3)))}
    for name, run in runs.items():
        evals.save_run(tmp_path / f"{name}.json", run)
    return tmp_path


def test_exit_codes(files, capsys):
    reference = ["--baseline", str(files / "baseline.json")]
    assert gate.main([str(files / "baseline.json"), *reference]) == 0
    assert gate.main([str(files / "worse.json"), *reference]) == 1
    assert capsys.readouterr().out.count("FAIL") == 1
    assert gate.main([str(files / "missing.json"), *reference]) == 2
    assert "missing.json" in capsys.readouterr().err
    assert gate.main([str(files / "worse.json"), *reference, "--alpha", "5"]) == 2
    (files / "half.json").write_text('{"dataset": ', "utf-8")
    assert gate.main([str(files / "half.json"), *reference]) == 2
    assert gate.main([str(files / "worse.json"), "--baseline", str(files / "half.json")]) == 2


def test_a_new_baseline_is_accepted_only_on_request(files):
    before = (files / "baseline.json").read_bytes()
    arguments = [str(files / "worse.json"), "--baseline", str(files / "baseline.json")]
    assert gate.main(arguments) == 1 and (files / "baseline.json").read_bytes() == before
    assert gate.main([*arguments, "--accept"]) == 0 and gate.main(arguments) == 0
    assert evals.read_run(files / "baseline.json") == evals.read_run(files / "worse.json")


def test_the_module_runs_and_loads_no_model_library(files):
    command = [sys.executable, "-X", "importtime", "-m", "openmodels.workflows.gate"]
    command += [str(files / "worse.json"), "--baseline", str(files / "baseline.json")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stdout.startswith("FAIL")
    assert " torch\n" not in ran.stderr and " openai\n" not in ran.stderr
