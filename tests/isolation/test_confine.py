"""Confined programs read and write in one folder only, and reach no port, process or child."""

import pytest

from openmodels.isolation import attempts, confine, sandbox

needs_linux = pytest.mark.skipif(bool(confine.problem()), reason=confine.problem() or "-")
LIMITED = ("use all memory", "never end", "fill the disk")  # the limits alone contain these


@needs_linux
@pytest.mark.parametrize("name", attempts.PROGRAMS)
def test_a_confined_program_achieves_nothing(name):
    assert attempts.try_to_leave(name, confined=True) == ""


@needs_linux
@pytest.mark.parametrize("name", attempts.PROGRAMS)
def test_without_confinement_each_attempt_would_be_seen(name):
    achieved = attempts.try_to_leave(name, confined=False)
    assert (achieved == "") == (name in LIMITED), achieved


@needs_linux
@pytest.mark.parametrize(
    "code",
    [
        "import math, json, re; print(json.dumps(math.pi))",
        "open('x', 'w').write('1'); print(open('x').read())",
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
        "import os, random; print(os.listdir('.'), random.random())",
    ],
)
def test_ordinary_programs_run(code):
    result = sandbox.run(code, 20, confined=True)
    assert result.ok, result.output


@needs_linux
@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import os; os.listdir('/proc')",
        "import os; os.chmod('/tmp', 0o777)",
        "import os; os.truncate(__import__('sys').executable, 0)",
        "import os; os.symlink('/etc', '/tmp/link-out')",
        "open('../outside', 'w')",
        "import resource as r; r.setrlimit(r.RLIMIT_AS, (2**40, 2**40))",
    ],
)
def test_other_ways_out_raise_an_error(code):
    result = sandbox.run(code, 20, confined=True)
    assert result.state == "error" and "Error" in result.output, result.output


def test_a_system_without_confinement_runs_nothing(monkeypatch):
    monkeypatch.setattr(confine, "problem", lambda: "needs Linux")
    with pytest.raises(confine.CannotConfine, match="needs Linux"):
        sandbox.run("print('ran')", confined=True)
    assert sandbox.run("print('ran')", 20).output.strip() == "ran"


@pytest.mark.parametrize(("machine", "system"), [("riscv64", "linux"), ("x86_64", "darwin")])
def test_the_reason_names_the_system(monkeypatch, machine, system):
    monkeypatch.setattr(confine.platform, "machine", lambda: machine)
    monkeypatch.setattr(confine.sys, "platform", system)
    assert system in confine.problem.__wrapped__()
