"""Every notebook runs once from a fresh kernel, offline, and shows what is stored.

nbclient runs it, since it keeps what widgets show: there an error fails no cell, and nbval misses
it. Tagged outputs are compared as nbval does, of which it would take a second run (8 minutes of
25); nbval itself runs the first notebook and the examples, so that its verdicts and these agree.
"""

import os
import socket
import subprocess
import sys
import textwrap
import warnings
from xml.etree import ElementTree

import nbformat
import notebooks
import pytest
from nbformat.v4 import new_code_cell, new_notebook

CHAPTERS, SOLUTIONS, LABS = (notebooks.notebooks(folder) for folder in notebooks.FOLDERS)
OUTSIDE = "192.0.2.1"  # an address for documentation (RFC 5737): nobody has it
STUB = "replace this line with your code"


@pytest.mark.parametrize("folder", notebooks.FOLDERS)
def test_there_are_notebooks(folder):
    assert notebooks.notebooks(folder), f"no notebook in {folder}/"


# --- The notebooks of the course ------------------------------------------------------------------


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=notebooks.name)
def test_runs_and_shows_what_is_stored(path, tmp_path, record_property):
    executed, measured = notebooks.run(path, tmp_path)
    record_property("notebook", {"name": notebooks.name(path), **measured})
    assert notebooks.unexpected(executed) == []
    assert notebooks.changed(nbformat.read(path, as_version=4), executed) == []
    if path in SOLUTIONS:
        states = notebooks.check_states(executed)
        assert len(states) == len(notebooks.check_cells(executed)) > 0
        assert set(states.values()) == {"correct"}


def test_runs_by_nbval(tmp_path):
    path = CHAPTERS[0]
    counts = nbval(path, tmp_path)
    cells = len(notebooks.code_cells(nbformat.read(path, as_version=4)))
    assert cells, "this notebook has no code cell"
    assert counts == {"tests": cells, "failures": 0, "errors": 0, "skipped": 0}


def nbval(path, folder) -> dict[str, int]:
    """Counts of nbval's report on a notebook; fails where anything asks for another machine."""
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env"]
    command += ["--nbval-cell-timeout", str(notebooks.CELL_TIMEOUT), "-o", "addopts="]
    command += ["-p", "no:cacheprovider", "--junitxml", str(report), str(path)]
    ran = notebooks.run_offline(command, folder)
    print(ran.output)
    assert ran.outside == "", f"asked for another machine: {ran.outside}"
    assert report.exists(), "nbval wrote no report"
    suite = ElementTree.parse(report).getroot().find("testsuite")
    return {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}


@pytest.mark.parametrize("path", LABS, ids=notebooks.name)
def test_a_lab_stops_at_its_stubs_only(path, tmp_path, record_property):
    executed, measured = notebooks.run(path, tmp_path)
    record_property("notebook", {"name": notebooks.name(path), **measured})
    found = notebooks.complaints(executed)
    assert [one for one in found if one[1] != f"NotImplementedError: {STUB}"] == []
    states = notebooks.check_states(executed)
    assert len(states) == len(notebooks.check_cells(executed)) > 0
    assert set(states.values()) == {"not attempted"}


# --- That these tests can fail --------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    """Writes a notebook of these sources and returns its path."""

    def write_notebook(*sources):
        cells = [
            new_code_cell(textwrap.dedent(source), id=f"cell-{place}", execution_count=place)
            for place, source in enumerate(sources, start=1)
        ]
        path = tmp_path / "demo.ipynb"
        nbformat.write(new_notebook(cells=cells), path)
        return path

    return write_notebook


IN_A_WIDGET = """
    import ipywidgets

    def fail(x):
        return 1 // (x - x)

    ipywidgets.interact(fail, x=ipywidgets.IntSlider(3));
    """
CONNECT = f"""
    import socket

    try:
        socket.create_connection(({OUTSIDE!r}, 9), timeout=1)
    except OSError:
        print("caught")
    """


def test_an_error_inside_a_widget_is_seen(write, tmp_path):
    executed, measured = notebooks.run(write(IN_A_WIDGET, "2 + 2"), tmp_path)
    [line] = notebooks.unexpected(executed)
    assert line.startswith("widget ")
    assert "ZeroDivisionError" in line
    assert measured["peak_mb"] > 10  # no Python kernel is smaller


def test_errors_and_unknown_magics_of_a_cell_are_seen(write, tmp_path):
    executed, _ = notebooks.run(write("1 / 0", "%no_such_magic", "2 + 2"), tmp_path)
    first, second = notebooks.unexpected(executed)
    assert first == "cell-1: ZeroDivisionError: division by zero"
    assert "no_such_magic" in second
    assert notebooks.code_cells(executed)[2].outputs[0].data["text/plain"] == "4"


def test_a_caught_connection_fails_both_runs(write, tmp_path):
    path = write(CONNECT)
    with pytest.raises(AssertionError, match=f"another machine: {OUTSIDE}"):
        notebooks.run(path, tmp_path)
    (tmp_path / "outside.log").unlink()
    with pytest.raises(AssertionError, match=f"another machine: {OUTSIDE}"):
        nbval(path, tmp_path)


def text(kind: str, **shown):
    return nbformat.v4.new_output(kind, **shown)


def test_tagged_cells_are_compared_as_nbval_does(write, tmp_path):
    said = text("stream", name="stdout", text="4\n")
    cases = [  # source, what is stored, whether that differs
        ("2 + 2", [text("execute_result", data={"text/plain": "5"}, execution_count=1)], True),
        ("2 + 2", [text("execute_result", data={"text/plain": "4"}, execution_count=9)], False),
        ("print(4)", [said], False),
        ("print(4)", [text("stream", name="stderr", text="4\n")], True),
        ("print(4)", [], True),
        ("x = 4", [said], True),
    ]
    path = write(*(source for source, _, _ in cases), "3 + 3")
    stored = nbformat.read(path, as_version=4)
    for cell, (_, outputs, _) in zip(stored.cells, cases, strict=False):
        cell.outputs = outputs
        cell.metadata["tags"] = [notebooks.CHECK_TAG]
    stored.cells[-1].outputs = [text("stream", name="stdout", text="untagged and different\n")]
    nbformat.write(stored, path)
    (tmp_path / "run").mkdir()
    executed, _ = notebooks.run(path, tmp_path / "run")
    found = [line.split(":")[0] for line in notebooks.changed(stored, executed)]
    assert found == [f"cell-{n}" for n, case in enumerate(cases, start=1) if case[2]]
    counts = {"tests": 7, "failures": len(found), "errors": 0, "skipped": 0}
    assert nbval(path, tmp_path) == counts


@pytest.mark.parametrize("tag", ["nbval-ignore-output", "raises-exception", "none"])
def test_nbval_reads_the_other_tags(tag, write, tmp_path):
    source = "raise ValueError('low tide')" if tag == "raises-exception" else "2 + 2"
    path = write(source)
    stored = nbformat.read(path, as_version=4)
    stored.cells[0].metadata["tags"] = [notebooks.CHECK_TAG, tag]
    wrong = text("execute_result", data={"text/plain": "5"}, execution_count=1)
    error = text("error", ename="ValueError", evalue="low tide", traceback=[])
    stored.cells[0].outputs = [error if tag == "raises-exception" else wrong]
    nbformat.write(stored, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nbval warns that two of its tags contradict each other
        failures = nbval(path, tmp_path)["failures"]
    assert failures == (tag == "none")


@pytest.mark.parametrize("path", CHAPTERS, ids=notebooks.name)
def test_no_figure_is_compared(path):
    """A figure's bytes change with matplotlib's version; its values are compared as text."""
    notebook = nbformat.read(path, as_version=4)
    tagged = {
        c.id for c in notebooks.code_cells(notebook) if notebooks.CHECK_TAG in notebooks.tags(c)
    }
    assert [cell_id for cell_id, _ in notebooks.figures(notebook) if cell_id in tagged] == []


# --- The guard itself -----------------------------------------------------------------------------


def guarded(code: str, folder, **variables: str):
    """Run code in a Python under the socket guard alone, outside any namespace."""
    environment = notebooks.offline_environment(folder) | variables
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "attempt",
    [
        f"socket.create_connection(({OUTSIDE!r}, 9))",
        f"socket.socket().connect(({OUTSIDE!r}, 9))",
        f"socket.socket().connect_ex(({OUTSIDE!r}, 9))",
        f"socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ({OUTSIDE!r}, 9))",
        f"socket.socket(type=socket.SOCK_DGRAM).sendmsg([b''], [], 0, ({OUTSIDE!r}, 9))",
        "socket.socket(socket.AF_INET6).connect(('2001:db8::1', 9))",
        "socket.socket().connect(('port-lark.example', 9))",
        "socket.getaddrinfo('port-lark.example', 443)",
        "socket.gethostbyname('port-lark.example')",
        f"socket.getnameinfo(({OUTSIDE!r}, 9), 0)",
        "urllib.request.urlopen('https://port-lark.example/')",
        "asyncio.run(asyncio.open_connection('port-lark.example', 443))",
        f"_socket.socket().connect(({OUTSIDE!r}, 9))",
    ],
)
def test_the_guard_refuses_and_writes_down(attempt, tmp_path):
    if "sendmsg" in attempt and not hasattr(socket.socket, "sendmsg"):
        pytest.skip("sockets have no sendmsg on this system")
    done = guarded(f"import _socket, asyncio, socket, urllib.request\n{attempt}", tmp_path)
    assert done.returncode == 1
    assert "this test blocks every connection but loopback" in done.stderr
    assert any(host in notebooks.outside(tmp_path) for host in (OUTSIDE, "2001:", "port-lark"))


def test_the_guard_lets_loopback_pass(tmp_path):
    code = """
        import socket

        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "localhost")):
            with socket.socket(family) as server:
                server.bind((host, 0))
                server.listen()
                with socket.create_connection(server.getsockname()) as client:
                    client.sendall(b"bell")
                    print(server.accept()[0].recv(4))
        socket.getaddrinfo(None, 80), socket.gethostbyname("localhost")
        """
    done = guarded(code, tmp_path)
    assert done.stdout.split() == ["b'bell'", "b'bell'"], done.stderr
    assert notebooks.outside(tmp_path) == ""


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no unix sockets")
def test_the_guard_lets_unix_sockets_pass(tmp_path):
    code = """
        import socket

        one, two = socket.socketpair()
        try:
            one.connect("no-such-socket")
        except OSError as error:
            print(type(error).__name__)
        """
    done = guarded(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Blocked" not in done.stdout
    assert notebooks.outside(tmp_path) == ""


def test_the_guard_holds_in_children_of_children(tmp_path):
    inner = f"import socket; socket.create_connection(({OUTSIDE!r}, 9))"
    middle = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    done = guarded(
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {middle!r}])", tmp_path
    )
    assert OUTSIDE in done.stderr
    assert OUTSIDE in notebooks.outside(tmp_path)


def test_the_guard_runs_the_sitecustomize_it_hides(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('the other one')\n", encoding="utf-8")
    paths = os.pathsep.join([str(notebooks.OFFLINE), str(tmp_path)])
    done = guarded(
        "import socket; print(socket.socket.connect.__name__)", tmp_path, PYTHONPATH=paths
    )
    assert done.stdout.split("\n")[:2] == ["the other one", "checked"]


def test_in_the_namespace_not_even_a_guardless_program_gets_out(tmp_path):
    if not notebooks.namespace():
        pytest.skip("this system makes no network namespace; the socket guard is the proof here")
    code = f"import socket; socket.create_connection(({OUTSIDE!r}, 9), timeout=5)"
    ran = notebooks.run_offline([sys.executable, "-I", "-c", code], tmp_path)
    assert "Network is unreachable" in ran.output
    assert ran.outside == "", "-I was meant to leave the guard out"
