"""The set-up: start.py's decisions and errors, and the three lists of packages that must agree."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import nbformat
import nbformat.sign
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
setup_checks = importlib.import_module("setup_checks")
setup_course = importlib.import_module("setup_course")
setup_environment = importlib.import_module("setup_environment")
setup_jupyter = importlib.import_module("setup_jupyter")
setup_pip = importlib.import_module("setup_pip")
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
CONDA_ONLY = {"python", "pip", "ollama"}  # `ollama` is the server there, the client on pip
IMPORT_NAMES = {  # others differ by `_` and `-` only
    "PIL": "pillow",
    "yaml": "pyyaml",
    "pydantic_ai": "pydantic-ai-slim",
    "opentelemetry": "opentelemetry-sdk",
    "openinference": "openinference-semantic-conventions",
}


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    """Package to version, in the order of constraints.txt; fails on anything but exact pins."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if line:
            name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()
            assert normal(name) not in found, f"{name} is pinned twice"
            found[normal(name)] = version
    return found


def project() -> dict:
    """The [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared() -> set[str]:
    """Every package pyproject.toml asks for, test extras included."""
    lines = project()["dependencies"] + project()["optional-dependencies"]["test"]
    return {normal(re.match(r"[\w.-]+", line)[0]) for line in lines}


def conda_lines() -> list[str]:
    """The dependency lines of environment.yml, comments included."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    return [line.strip()[2:] for line in text.split("dependencies:\n")[1].splitlines()]


# The three lists ---------------------------------------------------------------------------------


def test_every_dependency_is_pinned_and_torch_comes_first():
    assert declared() - pins().keys() == set()
    assert next(iter(pins())) == "torch"


def test_pyproject_leaves_versions_to_the_constraints():
    lines = project()["dependencies"] + project()["optional-dependencies"]["test"]
    assert [line for line in lines if "=" in line and ">=" not in line] == []


def test_installed_packages_are_pinned():
    """Also the indirect ones: no run may depend on the day's newest version of anything."""
    assert reachable(declared()) - pins().keys() == set()


def reachable(names: set[str]) -> set[str]:
    """`names` and what they need in turn, as far as it is installed here."""
    installed = {normal(package.metadata["Name"]) for package in metadata.distributions()}
    found, waiting = set(), list(names & installed)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            needed = normal(re.match(r"[\w.-]+", line)[0])
            if "extra ==" not in line and needed in installed:
                waiting.append(needed)
    return found


def test_conda_agrees_with_the_pins():
    names = []
    for line in conda_lines():
        assert re.search(r"# (chapter \d|all chapters)", line) or line == "pip:", (
            f"environment.yml: {line!r} does not name the chapter that needs it"
        )
        found = re.match(r"([\w-]+)(?:=([\w.]+))?  #", line)
        if not found:
            continue
        name = normal(CONDA_NAMES.get(found[1], found[1]))
        names.append(found[1])
        if found[1] not in CONDA_ONLY:
            version = found[2]
            assert f"{pins()[name]}.".startswith(f"{version}."), f"{name}: {version} is not the pin"
            assert name in declared(), f"{name} is not in pyproject.toml"
    assert {"python", "pip", "pytorch", "jupyterlab", "ollama"} <= set(names)


def test_conda_leaves_the_rest_to_pip_with_the_pins():
    lines = [line.split("#")[0].strip() for line in conda_lines()]
    after = lines[lines.index("pip:") + 1 :]
    assert [line.removeprefix("- ") for line in after] == ["-c constraints.txt", "-e .[test]"]


def test_one_oldest_python_everywhere():
    oldest = ".".join(str(part) for part in setup_course.MIN_PYTHON)
    assert project()["requires-python"] == f">={oldest}"
    workflow = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    assert f'"{oldest}"' in workflow
    conda = next(line for line in conda_lines() if line.startswith("python="))
    version = tuple(int(part) for part in re.findall(r"\d+", conda)[:2])
    assert version >= setup_course.MIN_PYTHON


def imported_modules(source: str) -> set[str]:
    """First names of the modules a source imports at its top level, where it cannot do without."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def sources() -> dict[str, str]:
    """Path to Python source: every module, test and tool, and each notebook's code."""
    found = {}
    for path in [ROOT / "start.py"] + [
        path for top in ("openmodels", "tools", "tests") for path in (ROOT / top).rglob("*.py")
    ]:
        found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
    for top in ("chapters", "solutions"):
        for path in (ROOT / top).rglob("*.ipynb"):
            if ".ipynb_checkpoints" not in path.parts:
                cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
                code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
                found[path.relative_to(ROOT).as_posix()] = "\n".join(code)
    return found


def test_what_is_imported_is_declared():
    local = {path.stem for path in ROOT.glob("*.py")} | {path.name for path in ROOT.iterdir()}
    local |= {path.stem for top in ("tests", "tools") for path in (ROOT / top).rglob("*.py")}
    undeclared = {
        f"{path}: {name}"
        for path, source in sources().items()
        for name in imported_modules(source) - set(sys.stdlib_module_names) - local
        if normal(IMPORT_NAMES.get(name, name)) not in declared()
    }
    assert undeclared == set()


def test_start_needs_the_standard_library_only():
    source = (ROOT / "start.py").read_text(encoding="utf-8")
    assert imported_modules(source) - set(sys.stdlib_module_names) == set()


def test_the_package_is_installed_from_this_folder():
    # The build leaves a second description, without this file, in the course folder.
    texts = [
        package.read_text("direct_url.json")
        for package in metadata.distributions(name="openmodels")
    ]
    [source] = [json.loads(text) for text in texts if text]
    assert source["dir_info"]["editable"]
    assert Path(url2pathname(urlsplit(source["url"]).path)).resolve() == ROOT


# What README promises ----------------------------------------------------------------------------


def readme_commands() -> list[list[str]]:
    """The arguments of each `python start.py ...` in README.md."""
    readme = ROOT / "README.md"
    assert readme.is_file(), "README.md is missing"
    return [
        shlex.split(found.strip(), comments=True)
        for found in re.findall(r"(?:python3?|py) start\.py([^`\n]*)", readme.read_text("utf-8"))
    ]


def test_readme_shows_both_commands():
    commands = readme_commands()
    assert [] in commands, "README.md does not show `python start.py`"
    assert ["test"] in commands, "README.md does not show `python start.py test`"


def test_start_knows_every_option_in_readme(capsys):
    with pytest.raises(SystemExit):
        setup_course.main(["--help"])
    shown = capsys.readouterr().out
    for arguments in readme_commands():
        if arguments and not arguments[0].startswith("-"):
            assert arguments[0] in setup_course.COMMANDS
            assert f"python start.py {arguments[0]}" in shown
            continue
        assert "python start.py  " in shown
        if "--help" not in arguments:
            _, unknown = setup_course.build_parser().parse_known_args(arguments)
            assert unknown == [], f"README.md: start.py does not know {unknown}"
        for option in [word for word in arguments if word.startswith("--")]:
            assert option.split("=")[0] in shown


def test_shipped_notebooks_are_signed(tmp_path, monkeypatch):
    page = tmp_path / "chapters" / "1_x" / "a.ipynb"
    page.parent.mkdir(parents=True)
    output = nbformat.v4.new_output("display_data", {"text/html": "<style></style>"})
    cells = [nbformat.v4.new_code_cell("1", outputs=[output])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), page)
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setattr(setup_course, "venv_python", lambda venv: Path(sys.executable))
    variables = {**os.environ, "JUPYTER_DATA_DIR": str(data)}
    monkeypatch.setattr(setup_course, "course_environment", lambda root: variables)
    notary = nbformat.sign.NotebookNotary(data_dir=str(data))
    assert not notary.check_signature(nbformat.read(page, as_version=4))
    setup_course.sign_notebooks(tmp_path)
    notary = nbformat.sign.NotebookNotary(data_dir=str(data))
    assert notary.check_signature(nbformat.read(page, as_version=4))


def test_the_whole_suite_gets_a_worker_per_core_and_a_part_of_it_none(monkeypatch):
    commands = []
    monkeypatch.setattr(setup_course, "prepare", lambda *_: None)
    monkeypatch.setattr(setup_course, "run", lambda _, command, *__: commands.append(command) or 0)
    for cores in (2, 64, None):
        monkeypatch.setattr(setup_course.os, "cpu_count", lambda cores=cores: cores)
        assert setup_course.main(["test"]) == 0
    assert [command[3] for command in commands] == ["2", "4", "1"]
    assert commands[0] == [
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadgroup",
        "--no-loadscope-reorder",
    ]
    assert setup_course.main(["test", "-k", "sizing"]) == 0
    assert commands[-1] == ["-m", "pytest", "-k", "sizing"]


def test_no_line_of_readme_needs_a_python_with_the_packages():
    """`python tools/grade.py` fails with the Python people have; `python start.py grade` runs."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"(?:python3?|py) [\w./-]+[^`\n]*", text)
    assert {command.split()[1] for command in commands} == {"start.py"}
    assert all(name in text for name in ("OPENMODELS_CACHE", "OPENMODELS_PROGRESS"))
    assert all(f"start.py {name}" in text for name in ("doctor", "grade", "bench", "labs", "serve"))


def test_readme_states_both_sizes():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line[:2] == "| "}
    assert rows["CPU"].endswith("| 0.2 GB | 2.5 GB |")
    assert rows["CUDA"].endswith("| 3 GB | 10 GB |")
    assert (setup_checks.CPU_DISK, setup_checks.CUDA_DISK) == (2.5e9, 10e9)
    sizes = [re.findall(r"[\d.]+ GB", size) for size in setup_pip.SIZES.values()]
    assert sizes == [["0.2 GB", "2.5 GB"], ["3 GB", "10 GB"]]


def test_help_shows_the_options_that_pass_through(capsys):
    with pytest.raises(SystemExit) as stopped:
        setup_course.main(["--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(text in shown for text in ("--no-browser", "--port", "start.py test", "pytest"))


# Errors for people -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(3, 7, 16), (3, 10, 13)])
def test_old_python_is_refused_with_its_version(version):
    with pytest.raises(setup_checks.SetupError) as seen:
        setup_checks.check_python(version)
    assert f"This is Python {version[0]}.{version[1]}.{version[2]};" in str(seen.value)
    assert "3.11 or newer" in str(seen.value)


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 14, 1), (4, 0, 0)])
def test_new_python_is_accepted(version):
    setup_checks.check_python(version)


def test_old_python_ends_start_with_1(monkeypatch, capsys):
    def refuse():
        raise setup_checks.SetupError(
            "This is Python 3.9.1; the course needs Python 3.11 or newer."
        )

    monkeypatch.setattr(setup_course, "check_python", refuse)
    monkeypatch.setattr(
        setup_course, "prepare", lambda *_: pytest.fail("went on with a wrong Python")
    )
    assert setup_course.main(["test"]) == 1
    assert "Python 3.9.1" in capsys.readouterr().err


def test_full_disk_is_refused_with_both_sizes():
    with pytest.raises(setup_checks.SetupError, match=r"1\.2 GB are free, about 2\.5 GB"):
        setup_checks.check_disk(free=1.2e9)


def test_disk_check_counts_what_is_there_already():
    setup_checks.check_disk(free=1.2e9, present=1.9e9)
    with pytest.raises(setup_checks.SetupError):
        setup_checks.check_disk(free=1.2e9, present=0.5e9)


NO_VERSION = "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 "
NO_MATCH = "\nERROR: No matching distribution found for torch==2.13.0"
RETRYING = "WARNING: Retrying (Retry(total=0)) after connection broken by "
PIP_OUTPUTS = {
    "The disk is full": "ERROR: Could not install packages due to an OSError: [Errno 28] "
    "No space left on device",
    "No network": RETRYING + "'NewConnectionError(\"HTTPSConnection(host='x'): Failed to establish "
    "a new connection: [Errno 101] Network is unreachable\")': /simple/torch/\n"
    + NO_VERSION + "(from versions: none)" + NO_MATCH,
    "lack of memory": "Collecting torch\nERROR: pip was stopped by signal 9",
    "The proxy refused": RETRYING + "'ProxyError('Cannot connect to proxy.', "
    "NewConnectionError('Connection refused'))': /simple/torch/",
    "certificate was not accepted": "Could not fetch URL /simple/torch/: There was a problem "
    "confirming the ssl certificate: SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_"
    "FAILED'))",
    "has no build of this version": NO_VERSION + "(from versions: 2.2.0, 2.2.2)" + NO_MATCH,
    "No package source offers": NO_VERSION + "(from versions: none)" + NO_MATCH,
    "ask for different versions": "ERROR: ResolutionImpossible: for help visit the documentation",
    "could not be written": "ERROR: Could not install packages due to an OSError: [WinError 5] "
    "Access is denied",
    "not recognised": "ERROR: something new",
}  # fmt: skip


@pytest.mark.parametrize("cause", PIP_OUTPUTS)
def test_pip_failures_are_recognised(cause):
    assert cause in setup_checks.diagnose(PIP_OUTPUTS[cause])


def test_last_useful_line_is_the_last_error():
    output = "Collecting torch\nERROR: first\nERROR: the cause\n[notice] a newer pip exists\n\n"
    assert setup_checks.last_useful_line(output) == "ERROR: the cause"
    assert setup_checks.last_useful_line("one\ntwo\n") == "two"
    assert setup_checks.last_useful_line("") == "(no output)"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("Collecting torch==2.13.0 (from openmodels==0.1.0)\n", "checking torch"),
        ("  Downloading jupyterlab_server-2.28.1-py3-none-any.whl (59 kB)\n",
         "downloading jupyterlab_server (59 kB)"),
        ("Processing ./wheels/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl\n", "reading torch"),
        ("Requirement already satisfied: numpy in ./lib/site-packages (2.4.6)\n", "checking numpy"),
        ("Installing collected packages: a, b, c\n", "unpacking 3 packages"),
        ("WARNING: something else\n", None),
    ],
)  # fmt: skip
def test_progress_names_the_package(line, text):
    assert setup_pip.activity(line) == text


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys):
    progress = setup_course.Progress("1/2 PyTorch")
    progress.show("downloading torch (190 MB)")
    progress.show("checking numpy")  # too soon after the first line
    progress.end("done")
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"\[\d+ s\]", "[s]", line) for line in lines] == [
        "1/2 PyTorch: downloading torch (190 MB) [s]",
        "1/2 PyTorch: done [s]",
    ]


# What is installed, and what has to be -----------------------------------------------------------


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder with the two lists and a `.venv` that looks whole; starting a program fails."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    python = setup_course.venv_python(tmp_path / ".venv")
    python.parent.mkdir(parents=True)
    python.write_text("")
    (tmp_path / ".venv/pyvenv.cfg").write_text(f"version = 3.11.7\nexecutable = {sys.executable}\n")

    def refuse(*arguments, **_):
        pytest.fail(f"started a program: {arguments}")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    return tmp_path


@pytest.fixture
def pip_calls(course, monkeypatch):
    """A list of what pip was asked to install, in place of doing it."""
    calls = []
    monkeypatch.setattr(setup_course, "pip_options", lambda venv: {})
    monkeypatch.setattr(setup_course, "nvidia_gpu", lambda: "")
    monkeypatch.setattr(setup_course.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(setup_course, "has_pip", lambda venv: True)
    monkeypatch.setattr(setup_course, "create_venv", lambda venv: calls.append(["venv"]))
    monkeypatch.setattr(setup_course, "pip_install", lambda root, title, what: calls.append(what))
    return calls


TORCH = ["torch==2.13.0", "setuptools"]
COURSE = ["--no-build-isolation", "-e", "."]
COURSE_AND_TESTS = ["--no-build-isolation", "-e", ".[test]"]


def test_torch_is_installed_first_and_the_test_extras_are_added(course, pip_calls):
    setup_course.prepare(course, ["base"])
    assert pip_calls == [TORCH, COURSE]
    pip_calls.clear()
    setup_course.prepare(course, ["base", "test"])
    assert pip_calls == [COURSE_AND_TESTS]


def test_one_installation_serves_both_commands(course, pip_calls):
    setup_course.prepare(course, ["base", "test"])
    assert pip_calls == [TORCH, COURSE_AND_TESTS]
    pip_calls.clear()
    setup_course.prepare(course, ["base"])
    setup_course.prepare(course, ["base", "test"])
    assert pip_calls == []


def test_installing_silences_jupyterlabs_question_about_news(course, pip_calls):
    """The settings exist in the pinned JupyterLab, and the answer is one it offers."""
    from jupyterlab.commands import get_app_dir

    setup_course.prepare(course, ["base"])
    written = course / ".venv/share/jupyter/lab/settings/overrides.json"
    [(plugin, settings)] = json.loads(written.read_text(encoding="utf-8")).items()
    folder, name = plugin.split(":")
    schema = Path(get_app_dir(), "schemas", *folder.split("/"), f"{name}.json")
    properties = json.loads(schema.read_text(encoding="utf-8"))["properties"]
    assert settings.keys() <= properties.keys()
    offered = [choice["const"] for choice in properties["fetchNews"]["oneOf"]]
    assert settings["fetchNews"] in offered and settings["fetchNews"] == "false"


def test_nothing_is_started_when_nothing_changed(course):
    for part in ("base", "test"):
        setup_course.stamp(course, part).write_text(setup_course.fingerprint(course))
    setup_course.prepare(course, ["base", "test"])  # the fixture fails where a program is started


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_list_is_installed(course, pip_calls, name):
    setup_course.prepare(course, ["base"])
    pip_calls.clear()
    with (course / name).open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    assert setup_course.outdated(course, ["base"]) == ["base"]
    setup_course.prepare(course, ["base"])
    assert pip_calls == [TORCH, COURSE]


def test_a_moved_folder_is_installed_again(course, pip_calls):
    setup_course.prepare(course, ["base"])
    moved = course.rename(course.with_name("moved"))
    assert setup_course.outdated(moved, ["base"]) == ["base"]


def test_an_interrupted_installation_leaves_no_stamp(course, pip_calls, monkeypatch):
    def interrupt(root, title, what):
        raise KeyboardInterrupt

    monkeypatch.setattr(setup_course, "pip_install", interrupt)
    with pytest.raises(KeyboardInterrupt):
        setup_course.prepare(course, ["base"])
    assert setup_course.outdated(course, ["base"]) == ["base"]


def test_half_installed_packages_are_forgotten(course):
    site = course / ".venv/lib/python3.11/site-packages"
    for name in ("whole-1.0.dist-info", "half-1.0.dist-info", "~orch", "package"):
        (site / name).mkdir(parents=True)
    (site / "whole-1.0.dist-info/INSTALLER").write_text("pip\n")
    setup_pip.forget_half_installed(course / ".venv")
    assert sorted(os.listdir(site)) == ["package", "whole-1.0.dist-info"]


def damage_settings(venv):
    (venv / "pyvenv.cfg").unlink()


def damage_python(venv):
    setup_course.venv_python(venv).unlink()


def damage_base(venv):
    (venv / "pyvenv.cfg").write_text("version = 3.11.7\nexecutable = /gone/python3.11\n")


def damage_version(venv):
    (venv / "pyvenv.cfg").write_text(f"version = 3.9.1\nexecutable = {sys.executable}\n")


@pytest.mark.parametrize("damage", [damage_settings, damage_python, damage_base, damage_version])
def test_a_damaged_venv_is_made_again(course, monkeypatch, damage):
    for part in ("base", "test"):
        setup_course.stamp(course, part).write_text(setup_course.fingerprint(course))
    damage(course / ".venv")
    done = []
    monkeypatch.setattr(setup_course, "pip_options", lambda venv: {"find-links": "/wheels"})
    monkeypatch.setattr(setup_course, "create_venv", lambda venv: done.append("venv"))
    monkeypatch.setattr(setup_course, "pip_install", lambda *_: done.append("pip"))
    setup_course.prepare(course, ["base", "test"])
    assert done == ["venv", "pip", "pip"]


def test_a_venv_without_pip_is_made_again(course, monkeypatch):
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert not setup_course.has_pip(course / ".venv")


def test_making_a_venv_removes_the_damaged_one(course, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    setup_course.create_venv(course / ".venv")
    assert not (course / ".venv").exists()
    assert "making it again" in capsys.readouterr().out


def test_a_missing_venv_module_is_explained(tmp_path, monkeypatch):
    output = "The virtual environment was not created: ensurepip is not available."
    failed = subprocess.CompletedProcess([], 1, output, "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(setup_checks.SetupError, match="apt install python3-venv"):
        setup_course.create_venv(tmp_path / ".venv")


def fake_pip(monkeypatch, code: str) -> None:
    """Let `pip_install` start a small program in pip's place."""
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **more: real([sys.executable, "-c", code], **more)
    )


def test_failed_pip_names_line_cause_and_log(tmp_path, monkeypatch):
    (tmp_path / ".venv").mkdir()
    fake_pip(monkeypatch, "print('ERROR: [Errno 28] No space left on device'); raise SystemExit(1)")
    with pytest.raises(setup_checks.SetupError) as seen:
        setup_course.pip_install(tmp_path, "1/2 PyTorch", ["torch==2.13.0"])
    text = str(seen.value)
    assert "pip stopped: ERROR: [Errno 28]" in text and "The disk is full" in text
    assert "install.log" in text
    assert "No space left" in (tmp_path / ".venv/install.log").read_text(encoding="utf-8")


def test_pip_that_succeeds_is_shown_and_logged(tmp_path, monkeypatch, capsys):
    (tmp_path / ".venv").mkdir()
    fake_pip(monkeypatch, "print('Collecting numpy==2.4.6')")
    setup_course.pip_install(tmp_path, "2/2 course and tools", ["-e", "."])
    assert "2/2 course and tools: done" in capsys.readouterr().out
    assert "Collecting" in (tmp_path / ".venv/install.log").read_text(encoding="utf-8")


# The two commands --------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """The modules start.py runs, in place of running them; each ends with exit code 5."""
    calls = []

    def record(root, arguments, environment, folder):
        calls.append(arguments)
        return 5

    def serve(command, root, environment):
        calls.append(command[1:])
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(5)"])

    def prepare(root, parts, choice):
        calls.append([*parts, choice] if choice else parts)

    monkeypatch.setattr(setup_course, "prepare", prepare)
    monkeypatch.setattr(setup_course, "run", record)
    monkeypatch.setattr(setup_course, "run_server", serve)
    monkeypatch.setattr(setup_course, "course_environment", lambda root: dict(os.environ))
    return calls


def test_test_passes_arguments_and_exit_code(started):
    assert setup_course.main(["test", "-k", "sizing", "--port"]) == 5
    assert started == [["base", "test"], ["-m", "pytest", "-k", "sizing", "--port"]]


def test_start_runs_the_doctor_then_jupyterlab(started, capsys):
    arguments = ["--no-browser", "--port", "8890", "--allow-root"]
    assert setup_course.main(arguments) == 5
    parts, doctor, jupyterlab = started
    assert (parts, doctor) == (["base"], ["-m", "openmodels.doctor"])
    assert jupyterlab[:2] == ["-m", "jupyterlab"]
    assert jupyterlab[-3:] == ["--no-browser", "--port=8890", "--allow-root"]
    assert "found a problem" in capsys.readouterr().out


def test_jupyterlab_opens_the_first_page_and_asks_no_other_host(started):
    """The flags exist in the pinned JupyterLab and mean what start.py wants of them."""
    from jupyterlab.labapp import LabApp

    setup_course.main([])
    app = LabApp()
    app.parse_command_line(started[-1][2:])
    assert app.default_url == f"/lab/tree/{setup_course.FIRST_PAGE}"
    assert f"--ServerApp.root_dir={ROOT}" in started[-1]
    assert app.news_url is None
    assert app.check_for_updates_class.__name__ == "NeverCheckForUpdate"
    assert app.extension_manager == "readonly"
    assert "--ip=127.0.0.1" in started[-1]


def test_unknown_command_is_refused(started, capsys):
    assert setup_course.main(["tset"]) == 1
    assert "'tset'" in capsys.readouterr().err
    assert started == []


def test_ctrl_c_is_quiet(monkeypatch, capsys):
    def interrupt(root, parts, choice):
        raise KeyboardInterrupt

    monkeypatch.setattr(setup_course, "prepare", interrupt)
    assert setup_course.main([]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_the_first_page_exists():
    assert (ROOT / setup_course.FIRST_PAGE).is_file()


# Continuous integration --------------------------------------------------------------------------


def test_ci_runs_the_command_of_readme():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in script
    assert re.search(r'"\$python" start\.py test\n', script)
    workflow = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    assert "bash .ci/run" in workflow
    assert all(name in workflow for name in ("ubuntu-", "macos-", "windows-"))
