"""The ledger's functions do what their docstrings say, and model code runs within its limits."""

import time

import pytest

from openmodels.harbour import code
from openmodels.isolation import network, sandbox

EXAMPLES = {
    "The sum of the duties above 12.": "sum(x for x in xs if x > 12)",
    "The largest of the hours, each plus 3.": "max((x + 3 for x in xs), default=0)",
    "The number of the debts that are even.": "len([x for x in xs if x % 2 == 0])",
    "A list without doubles of the coins of at most 9.": "sorted({x for x in xs if x <= 9})",
}


def test_splits_share_no_function():
    train = {one.key for one in code.functions(800, 1, "train")}
    test = {one.key for one in code.functions(200, 1, "test")}
    assert train & test == set()

    def words(key: str) -> str:
        return "".join(c for c in key if not c.isdigit())  # the numbers are not what is held out

    assert {words(key) for key in train} & {words(key) for key in test} == set()


def test_a_seed_gives_the_same_functions():
    assert list(code.functions(20, 3)) == list(code.functions(20, 3))
    assert list(code.functions(20, 3)) != list(code.functions(20, 4))


def test_a_function_passes_its_own_test_and_its_neighbour_does_not():
    functions = list(code.functions(12, 5, "train"))
    for one, other in zip(functions, functions[1:] + functions[:1], strict=True):
        assert sandbox.run(one.test(one.source)).ok, one.source
        wrong = one.head + other.body
        assert not sandbox.run(one.test(wrong)).ok, wrong


@pytest.mark.parametrize("docstring", EXAMPLES)
def test_a_docstring_says_what_its_function_does(docstring):
    """An independent reading of four docstrings agrees with the generator's body."""
    found = (one for seed in range(40) for one in code.functions(300, seed, "train"))
    shape = "".join(c for c in docstring if not c.isdigit())
    one = next(f for f in found if "".join(c for c in f.key if not c.isdigit()) == shape)
    numbers = [word for word in one.key.replace(".", " ").split() if word.isdigit()]
    written = [word for word in docstring.replace(".", " ").split() if word.isdigit()]
    reading = f"def f(xs): return {EXAMPLES[docstring]}"
    for before, after in zip(written, numbers, strict=True):
        reading = reading.replace(before, after)
    assert sandbox.run(one.test(f"{reading}\n{one.name} = f")).ok, (one.source, reading)


def test_a_gap_is_a_piece_of_the_body():
    ledger = code.Ledger(2)
    for _ in range(50):
        gap = ledger.gap()
        assert gap.prefix + gap.middle + gap.suffix == gap.function.source
        assert gap.prefix.startswith(gap.function.head) and len(gap.middle) >= 4
        assert compile(gap.function.source, "ledger", "exec")


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="'train' or 'test', not 'dev'"):
        code.Ledger(1, "dev")


# --- The sandbox ----------------------------------------------------------------------------------


def test_output_and_errors_come_back():
    assert sandbox.run("print('ahoy')") == network.RunResult("ok", "ahoy\n")
    ran = sandbox.run("1 / 0")
    assert (ran.state, ran.ok) == ("error", False)
    assert "ZeroDivisionError" in ran.output


def test_an_endless_loop_ends():
    start = time.monotonic()
    assert sandbox.run("while True: pass", seconds=0.5).state == "time limit"
    assert time.monotonic() - start < 10


def test_children_end_with_it(tmp_path):
    mark = tmp_path / "alive"
    child = f"import time; time.sleep(2); open({str(mark)!r}, 'w')"
    code_ = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
    assert sandbox.run(code_).ok
    time.sleep(2.5)
    assert not mark.exists()


def test_the_environment_and_the_folder_are_empty(monkeypatch):
    monkeypatch.setenv("SECRET", "of the harbour")
    ran = sandbox.run("import os; print(os.listdir(), 'SECRET' in os.environ)")
    assert ran.output == "[] False\n"


def test_only_the_standard_library_is_there():
    assert "No module named 'torch'" in sandbox.run("import torch").output


def test_long_output_is_cut():
    ran = sandbox.run("print('x' * 500_000)")
    assert ran.ok and len(ran.output) == network.LONGEST_OUTPUT


@pytest.mark.skipif(sandbox.resource is None, reason="this system limits the clock only")
@pytest.mark.parametrize(
    "greedy", ["x = bytearray(2 * 10**9)", "open('full', 'wb').write(bytes(5 * 10**6))"]
)
def test_memory_and_disk_are_limited(greedy):
    assert sandbox.run(greedy).state == "error"


# --- Many programs in one process -----------------------------------------------------------------

ACCIDENTS = {
    "an endless loop": "while True: pass",
    "an endless loop that stops for nothing": "while 1:\n try:\n  while 1: len([])\n except: pass",
    "a syntax error": "def f(:",
    "a memory bomb": "x = bytearray(2 * 10**9)",
    "a memory bomb in steps": "x = []\nwhile True: x.append(bytearray(10**7))",
    "leaving without an error": "import sys; sys.exit(0)",
    "leaving at once": "import os; os._exit(0)",
    "deep recursion": "def f(): return f()\nf()",
    "waiting": "import time; time.sleep(60)",
    "reading": "input()",
}  # fmt: skip


@pytest.mark.skipif(sandbox.resource is None, reason="this system limits the clock only")
def test_an_accident_is_wrong_and_its_neighbours_are_right():
    programs = [code for accident in ACCIDENTS.values() for code in (accident, "x = 1")]
    found = sandbox.run_each(programs, seconds=0.3)
    assert found == [False, True] * len(ACCIDENTS)


def test_prints_do_not_reach_the_verdicts():
    noisy = "print('x' * 20_000)\nimport os\nfor _ in range(50): os.write(1, b'True' * 500)"
    assert sandbox.run_each(["1 / 0", noisy, "1 / 0", "x = 1", noisy]) == [
        False, True, False, True, True,
    ]  # fmt: skip


def test_a_program_leaves_nothing_to_the_next():
    programs = ["x = 1", "assert 'x' not in globals()", "import builtins; builtins.len = sum",
                "assert len([3]) == 1"]  # fmt: skip
    assert sandbox.run_each(programs) == [True] * 4


def test_long_programs_are_cut_into_groups():
    assert sandbox.run_each(["# " + "x" * 50_000] * 3 + ["1 / 0"]) == [True] * 3 + [False]
    assert sandbox.run_each([]) == []
