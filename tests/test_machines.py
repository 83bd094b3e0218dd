"""Set-up on machines unlike ours: pip's command lines, Windows, GPUs, variables, old Pythons."""

import ast
import http.server
import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
setup_checks = importlib.import_module("setup_checks")
setup_course = importlib.import_module("setup_course")
setup_environment = importlib.import_module("setup_environment")
setup_jupyter = importlib.import_module("setup_jupyter")
setup_pip = importlib.import_module("setup_pip")
make_labs = importlib.import_module("make_labs")

TORCH = "torch==2.13.0"
CPU = ["--index-url", "https://download.pytorch.org/whl/cpu", "--no-deps", TORCH]
PYPI = [TORCH, "setuptools"]
H100 = "NVIDIA H100 80GB HBM3"
OWN = {"find-links": "/opt/wheels"}

# pip's command lines -----------------------------------------------------------------------------

# system, GPU, pip's settings, choice -> build, arguments of each `pip install` before the course's
LINES = {
    "Linux": ("Linux", "", {}, "", "cpu", [CPU, ["setuptools"]]),
    "Linux, GPU": ("Linux", H100, {}, "", "cuda", [PYPI]),
    "Linux, --cuda": ("Linux", "", {}, "cuda", "cuda", [PYPI]),
    "Linux, GPU, --cpu": ("Linux", H100, {}, "cpu", "cpu", [CPU, ["setuptools"]]),
    "Linux, wheels at hand": ("Linux", "", OWN, "", "configured", [PYPI]),
    "Linux, wheels at hand, GPU": ("Linux", H100, OWN, "", "configured", [PYPI]),
    "Linux, wheels at hand, --cuda": ("Linux", "", OWN, "cuda", "configured", [PYPI]),
    "Linux, own index": ("Linux", "", {"index-url": "https://x/simple"}, "", "configured", [PYPI]),
    "Linux, second index": ("Linux", "", {"extra-index-url": "x"}, "", "configured", [PYPI]),
    "Linux, no index": ("Linux", "", {"no-index": "1"}, "", "configured", [PYPI]),
    "Linux, a proxy only": ("Linux", "", {"proxy": "http://p:1"}, "", "cpu", [CPU, ["setuptools"]]),
    "macOS": ("Darwin", "", {}, "", "default", [PYPI]),
    "Windows": ("Windows", "", {}, "", "default", [PYPI]),
    "Windows, GPU": ("Windows", H100, {}, "", "default", [PYPI]),
}


@pytest.mark.parametrize("case", LINES)
def test_which_torch_pip_is_asked_for(case):
    system, gpu, options, choice, build, steps = LINES[case]
    chosen, line = setup_pip.torch_build(system, gpu, options, choice)
    assert chosen == build
    assert setup_pip.torch_steps(chosen, TORCH) == steps
    if build in setup_pip.SIZES:
        assert setup_pip.SIZES[build] in line
    if build == "cuda" and gpu:
        assert line.startswith(f"Found {gpu}: ") and "start.py --cpu" in line
    if build == "configured":
        assert next(iter(options)) in line


@pytest.mark.parametrize("system", ["Windows", "Darwin"])
def test_cuda_is_refused_where_pypi_has_no_such_build(system):
    with pytest.raises(setup_checks.SetupError, match="works on Linux only.*\n.*pytorch.org"):
        setup_pip.torch_build(system, "", {}, "cuda")


def test_another_build_replaces_the_installed_one():
    again = ["--force-reinstall", "--no-deps"]
    assert setup_pip.torch_steps("cuda", TORCH, replace=True) == [[*again, TORCH], ["setuptools"]]
    first, _ = setup_pip.torch_steps("cpu", TORCH, replace=True)
    assert first == ["--index-url", setup_pip.CPU_INDEX, *again, TORCH]


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """A course folder on Linux with a `.venv`; (root, what pip installs, whether there's a GPU)."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    python = setup_course.venv_python(tmp_path / ".venv")
    python.parent.mkdir(parents=True)
    python.write_text("")
    (tmp_path / ".venv/pyvenv.cfg").write_text(f"version = 3.11.7\nexecutable = {sys.executable}\n")
    calls, gpu = [], [""]
    monkeypatch.setattr(setup_course, "has_pip", lambda venv: True)
    monkeypatch.setattr(setup_course, "pip_options", lambda venv: {})
    monkeypatch.setattr(setup_course, "nvidia_gpu", lambda: gpu[0])
    monkeypatch.setattr(setup_course.platform, "system", lambda: "Linux")
    monkeypatch.setattr(setup_course, "pip_install", lambda root, title, what: calls.append(what))
    return tmp_path, calls, gpu


def install_torch(root: Path, version: str) -> None:
    """Leave what pip leaves of an installed torch."""
    info = root / f".venv/lib/python3.11/site-packages/torch-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "INSTALLER").write_text("pip\n")


def test_linux_without_a_gpu_gets_the_cpu_build_and_a_line(linux, capsys):
    root, calls, _ = linux
    setup_course.prepare(root, ["base"])
    assert calls == [CPU, ["setuptools"], setup_pip.course_step(tests=False)]
    assert "No NVIDIA GPU found: installing PyTorch's CPU build" in capsys.readouterr().out


def test_a_gpu_gets_the_cuda_build_and_needs_its_disk(linux, monkeypatch, capsys):
    root, calls, gpu = linux
    gpu[0] = H100
    usage = shutil.disk_usage(root)._replace(free=6 * 10**9)
    monkeypatch.setattr(setup_course.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(setup_checks.SetupError, match=r"10\.0 GB\n(.|\n)*start.py --cpu"):
        setup_course.prepare(root, ["base"])
    assert calls == []
    monkeypatch.setattr(setup_course.shutil, "disk_usage", lambda path: usage._replace(free=10**11))
    setup_course.prepare(root, ["base"])
    assert calls[0] == PYPI
    assert f"Found {H100}" in capsys.readouterr().out


def test_the_build_changes_only_if_the_learner_asks(linux):
    root, calls, gpu = linux
    setup_course.prepare(root, ["base"])
    install_torch(root, "2.13.0+cpu")
    calls.clear()
    gpu[0] = H100  # a card put in later changes nothing by itself
    setup_course.prepare(root, ["base"])
    setup_course.prepare(root, ["base"], "cpu")
    assert calls == []
    setup_course.prepare(root, ["base"], "cuda")
    assert calls[0] == ["--force-reinstall", "--no-deps", TORCH]


def test_a_changed_pin_keeps_the_build(linux):
    root, calls, gpu = linux
    gpu[0] = H100
    install_torch(root, "2.12.0+cpu")
    setup_course.prepare(root, ["base"])
    assert calls[0] == CPU


@pytest.mark.parametrize("arguments", [["--cuda"], ["--cuda", "test"], ["--no-browser", "--cuda"]])
def test_the_option_reaches_the_set_up(arguments, monkeypatch):
    def stop(root, parts, choice):
        raise setup_checks.SetupError(f"choice: {choice}")

    monkeypatch.setattr(setup_course, "prepare", stop)
    with pytest.raises(setup_checks.SetupError, match="choice: cuda"):
        command = [word for word in arguments if word != "--cuda"]
        if command == ["test"]:
            setup_course.run_command(ROOT, "test", [], "cuda")
        setup_course.open_course(ROOT, arguments)
    assert setup_course.main(arguments) == 1


def test_pips_settings_are_read_as_it_lists_them():
    listing = (
        ":env:.find-links='/opt/wheels'\nglobal.index-url='https://x/simple'\n"
        "install.no-deps='0'\ndownload.extra-index-url='https://y'\nglobal.cert=''\n"
    )
    assert setup_pip.settings(listing) == {
        "find-links": "/opt/wheels",
        "index-url": "https://x/simple",
        "no-deps": "0",
    }


@pytest.mark.parametrize("name", ["target", "prefix", "root"])
def test_settings_that_install_elsewhere_are_refused(name):
    with pytest.raises(setup_checks.SetupError, match=f"{name} = /x(.|\n)*config unset"):
        setup_pip.check_settings({name: "/x"})


# A GPU -------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for nvidia-smi")
@pytest.mark.parametrize(
    ("output", "code", "name"),
    [
        ("GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\nGPU 1: Other (UUID: GPU-2)", 0, H100),
        ("NVIDIA-SMI has failed because it couldn't communicate with the driver.", 9, ""),
        ("No devices were found", 0, ""),
    ],
)
def test_a_gpu_is_named_by_nvidia_smi(tmp_path, monkeypatch, output, code, name):
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\ncat <<"END"\n{output}\nEND\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    assert setup_checks.nvidia_gpu(tmp_path / "absent") == name


def test_a_gpu_is_found_by_its_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_checks.shutil, "which", lambda name: None)
    assert setup_checks.nvidia_gpu(tmp_path) == ""
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX 570\n")
    assert setup_checks.nvidia_gpu(tmp_path) == "an NVIDIA GPU"
    (tmp_path / "gpus/0000:01:00.0").mkdir(parents=True)
    (tmp_path / "gpus/0000:01:00.0/information").write_text("Model: \t\t NVIDIA L4\nIRQ: 1\n")
    assert setup_checks.nvidia_gpu(tmp_path) == "NVIDIA L4"


# Windows -----------------------------------------------------------------------------------------

DOWNLOADS = r"C:\Users\maria.mustermann\Downloads\open-models-main\open-models-main"


def test_a_long_folder_is_refused_with_two_ways_out():
    with pytest.raises(setup_checks.SetupError) as refused:
        setup_checks.check_path_length(DOWNLOADS, "Windows", long_paths=False)
    text = str(refused.value)
    assert f"{len(DOWNLOADS)} characters" in text and "at most 66 leave room" in text
    assert r"C:\course" in text and "New-ItemProperty" in text and "LongPathsEnabled" in text


def test_a_long_folder_is_accepted_where_it_is_no_problem():
    setup_checks.check_path_length(DOWNLOADS, "Windows", long_paths=True)
    setup_checks.check_path_length(DOWNLOADS[:66], "Windows", long_paths=False)
    setup_checks.check_path_length(DOWNLOADS, "Linux", long_paths=False)


def test_the_registry_is_asked_where_there_is_one(monkeypatch):
    if os.name != "nt":
        assert setup_checks.long_paths_enabled() is False

    class Registry:
        HKEY_LOCAL_MACHINE = 1
        QueryValueEx = staticmethod(lambda key, name: (int(name == "LongPathsEnabled"), 4))

        @staticmethod
        def OpenKey(root, path):
            assert path == r"SYSTEM\CurrentControlSet\Control\FileSystem"
            return open(os.devnull)

    monkeypatch.setitem(sys.modules, "winreg", Registry)
    assert setup_checks.long_paths_enabled() is True


def test_no_installed_path_is_longer_than_assumed():
    site = next(path for path in map(Path, sys.path) if (path / "torch").is_dir())
    longest_file = longest_folder = 0
    for folder, _, names in os.walk(site):
        inside = os.path.relpath(folder, site).replace("+cpu", "")
        length = len("Lib\\site-packages\\" + inside)
        longest_folder = max(longest_folder, length)
        longest_file = max([longest_file, *(length + 1 + len(name) for name in names)])
    assert longest_file <= setup_checks.LONGEST_FILE
    assert longest_folder <= setup_checks.LONGEST_FOLDER


@pytest.mark.parametrize(
    "output",
    [
        "ERROR: Could not install packages due to an OSError: [WinError 206] The filename or "
        "extension is too long: 'C:\\\\x'",
        "ERROR: Could not install packages due to an OSError: [Errno 2] No such file or directory"
        "\nHINT: ... https://pip.pypa.io/warnings/enable-long-paths",
    ],
)
def test_pips_error_of_a_long_path_is_explained(output):
    assert "too long for Windows" in setup_checks.diagnose(output)
    assert "-Name LongPathsEnabled" in setup_checks.diagnose(output)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install packages due to an OSError: Missing dependencies for SOCKS "
         "support.", "SOCKS proxy"),
        ("ERROR: Could not install packages due to an OSError: Could not find a suitable TLS CA "
         "certificate bundle, invalid path: /nope", "PIP_CERT"),
    ],
)  # fmt: skip
def test_other_causes_are_named(output, words):
    assert words in setup_checks.diagnose(output)


def test_an_unreachable_cpu_index_leaves_the_cuda_build(tmp_path):
    failure = setup_course.pip_failure("ERROR: Read timed out", 1, CPU, tmp_path / "log")
    assert "No network" in failure and "python start.py --cuda" in failure
    assert "--cuda" not in setup_course.pip_failure("ERROR: x", 1, PYPI, tmp_path / "log")


def test_output_that_a_terminal_cannot_show_is_no_error():
    code = (
        "import sys; sys.path[:0] = ['tools', '.']; import setup_course as c\n"
        "c.check_python = lambda: (_ for _ in ()).throw(c.SetupError('C:\\\\\u0141ukasz'))\n"
        "sys.exit(c.main([]))"
    )
    for encoding in ("cp1252", "ascii"):
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        )  # fmt: skip
        assert (run.returncode, run.stderr.split()) == (1, [b"C:\\?ukasz"])


def text_calls_without_encoding(source: str) -> list[int]:
    """Return the lines that read or write text in the encoding of the machine."""
    lines = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
        texts = [ast.unparse(argument) for argument in call.args]
        if name == "read_text" and not texts and "encoding" not in keywords:
            lines.append(call.lineno)
        elif name == "write_text" and len(texts) < 2 and "encoding" not in keywords:
            lines.append(call.lineno)
        elif keywords.get("text") == "True" and "encoding" not in keywords:
            lines.append(call.lineno)
        elif name == "open" and "encoding" not in keywords and is_text(call, texts, keywords):
            lines.append(call.lineno)
    return lines


def is_text(call: ast.Call, texts: list[str], keywords: dict[str, str]) -> bool:
    """Return whether an `open` is one of a text file: `open(path)` or `path.open()`."""
    function = ast.unparse(call.func)
    if function != "open" and (function.startswith(("os.", "Image.", "gzip.", "web")) or keywords):
        return "mode" in keywords and "b" not in keywords["mode"]
    mode = texts[1:2] if function == "open" else texts[:1]
    return not mode or mode[0].strip("'\"") in ("r", "w", "a", "x", "r+")


# They read /proc and control groups, and log the training: on Linux, and ASCII only.
ASCII_ONLY = ("openmodels/isolation/network.py", "openmodels/sizing.py", "openmodels/minis/")


def test_text_is_read_and_written_as_utf_8():
    paths = [
        ROOT / "start.py",
        *(ROOT / "openmodels").rglob("*.py"),
        *(ROOT / "tools").glob("*.py"),
    ]
    lines = {
        path.relative_to(ROOT).as_posix(): found
        for path in paths
        if not path.relative_to(ROOT).as_posix().startswith(ASCII_ONLY)
        and (found := text_calls_without_encoding(path.read_text(encoding="utf-8")))
    }
    assert lines == {}
    for wrong in (
        "p.read_text()",
        "p.write_text(x)",
        "open(p)",
        "p.open('w')",
        "run(c, text=True)",
    ):
        assert text_calls_without_encoding(wrong) == [1], wrong


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a checkout of git is examined")
def test_a_checkout_on_windows_has_the_same_bytes(tmp_path):
    """Git for Windows sets core.autocrlf=true: bash and the labs' test need LF all the same."""
    names = [".ci/run", "start.py", "constraints.txt", "models/mini-qwen/model.safetensors"]
    for top in ("labs", "solutions"):
        names += [path.relative_to(ROOT).as_posix() for path in (ROOT / top).glob("*.ipynb")]
    git = ["git", "-c", f"safe.directory={ROOT}", "-c", "core.autocrlf=true"]
    command = [*git, "checkout-index", f"--prefix={tmp_path}/", "--", ".gitattributes", *names]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for name in names:
        stored = subprocess.run([*git, "show", f":{name}"], cwd=ROOT, capture_output=True)
        assert (tmp_path / name).read_bytes() == stored.stdout, name
    assert make_labs.stale_labs(tmp_path / "solutions", tmp_path / "labs") == []


# Variables ---------------------------------------------------------------------------------------

# variable, its value, what becomes of it for the course's programs
VARIABLES = [
    ("PYTHONPATH", "/x", None),
    ("PYTHONHOME", "/x", None),
    ("PYTHONSTARTUP", "/x.py", None),
    ("PYTHONWARNINGS", "error", None),
    ("PYTHONOPTIMIZE", "2", None),
    ("PYTHONINSPECT", "1", None),
    ("PYTHONSAFEPATH", "1", None),
    ("PYTHONNOUSERSITE", "1", "1"),
    ("PYTHONUTF8", "0", "1"),
    ("PYTHONIOENCODING", "cp1252", "utf-8"),
    ("JUPYTER_PREFER_ENV_PATH", "0", "1"),
    ("JUPYTER_PATH", "/x", None),
    ("JUPYTERLAB_DIR", "/x", None),
    ("JUPYTER_NO_CONFIG", "1", None),
    ("JUPYTER_CONFIG_DIR", "{writable}", "{writable}"),
    ("JUPYTER_CONFIG_DIR", "{file}/x", "{home}/jupyter/config"),
    ("JUPYTER_DATA_DIR", "{file}/x", "{home}/jupyter/data"),
    ("JUPYTERLAB_SETTINGS_DIR", "{file}/x", "{home}/jupyter/config/lab/user-settings"),
    ("JUPYTERLAB_WORKSPACES_DIR", "{file}/x", "{home}/jupyter/config/lab/workspaces"),
    ("IPYTHONDIR", "{file}/x", "{home}/ipython"),
    ("MPLCONFIGDIR", "{file}/x", "{home}/matplotlib"),
    ("MPLBACKEND", "nonsense", None),
    ("HF_HOME", "{file}/x", "{home}/huggingface"),
    ("HF_HOME", "{writable}/new/folder", "{writable}/new/folder"),
    ("OPENMODELS_CACHE", "{file}/x", "{home}/cache"),
    ("OPENMODELS_MODEL", "mini-qwen", "mini-qwen"),
    ("TORCH_LOGS", "nonsense", None),
    ("TORCH_LOGS_OUT", "/no/such/folder/x", None),
    ("CUDA_VISIBLE_DEVICES", "0", "0"),
    ("OMP_NUM_THREADS", "1", "1"),
    ("VIRTUAL_ENV", "/other", "{venv}"),
]


@pytest.mark.parametrize(("name", "value", "after"), VARIABLES)
def test_what_becomes_of_a_variable(tmp_path, name, value, after):
    (tmp_path / "file").write_text("")
    (tmp_path / "writable").mkdir()
    venv = tmp_path / ".venv"
    venv.mkdir()
    places = {"file": tmp_path / "file", "writable": tmp_path / "writable", "venv": venv}
    places["home"] = venv / "home"
    before = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "PATH": "/bin"}
    before[name] = value.format(**places)
    values, lines = setup_environment.course(venv, before)
    expected = after.format(**places) if after is not None else None
    assert values.get(name) == (str(Path(expected)) if "/" in str(expected) else expected)
    changed = expected != before[name] and name not in (*setup_environment.SET, "VIRTUAL_ENV")
    assert [line for line in lines if name in line] == lines and bool(lines) == changed
    if after and after.startswith("{home}"):
        assert Path(values[name]).is_dir()


def test_an_unwritable_home_is_replaced_as_a_whole(tmp_path):
    (tmp_path / "file").write_text("")
    home = str(tmp_path / "file" / "home")
    values, [line] = setup_environment.course(
        tmp_path / ".venv", {"HOME": home, "USERPROFILE": home, "PATH": ""}
    )
    replaced = set(setup_environment.FOLDERS) - set(setup_environment.OPTIONAL)
    assert {name for name in setup_environment.FOLDERS if name in values} == replaced
    assert all(Path(values[name]).is_dir() for name in replaced)
    assert "OPENMODELS_CACHE" in line and "home folder cannot be written to" in line


PIP_VARIABLES = {
    "PIP_USER": "1", "PIP_REQUIRE_VIRTUALENV": "1", "PIP_TARGET": "/x", "PIP_PREFIX": "/x",
    "PIP_ROOT": "/x", "PIP_PYTHON": "/x", "PIP_NO_DEPS": "1", "PIP_DRY_RUN": "1",
    "PIP_REQUIRE_HASHES": "1", "PIP_REQUIREMENT": "/x.txt", "PIP_EDITABLE": "/x",
    "PIP_UPGRADE": "1", "PIP_REPORT": "/x/report.json",
}  # fmt: skip


def test_pip_installs_into_the_environment_whatever_is_set():
    install = [sys.executable, "-m", "pip", "install", "--no-index", "pip"]  # it is there already
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    refused = subprocess.run(install, env={**plain, "PIP_USER": "1"}, capture_output=True)
    assert b"--user" in refused.stderr and refused.returncode
    values = setup_pip.environment({**plain, **PIP_VARIABLES})
    run = subprocess.run(install, env=values, capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    assert "already satisfied" in run.stdout


@pytest.mark.parametrize("name", PIP_VARIABLES)
def test_no_variable_of_pip_leads_out_of_the_environment(name):
    assert setup_pip.environment({name: PIP_VARIABLES[name]}).get(name) in (None, "0")


def test_pips_sources_and_proxies_stay():
    values = {"PIP_INDEX_URL": "https://x", "PIP_FIND_LINKS": "/w", "HTTPS_PROXY": "http://p:1"}
    values |= {"PIP_CERT": "/c.pem", "PIP_CONSTRAINT": "/c.txt", "PIP_CONFIG_FILE": "/pip.conf"}
    assert values.items() <= setup_pip.environment(values).items()


def test_the_programs_get_the_repairs_of_the_package():
    values = {**os.environ, "ALL_PROXY": "socks5://127.0.0.1:1", "PYTHONPATH": str(ROOT)}
    repaired = setup_environment.repaired(Path(sys.executable), values)
    assert "ALL_PROXY" not in repaired and repaired["PATH"] == values["PATH"]
    assert setup_environment.repaired(ROOT / "no-python", values) == values


def test_kernels_repair_their_environment_before_the_first_cell(tmp_path):
    """A JupyterLab that was started by hand, too: IPython reads the file from the environment."""
    from ipykernel.kernelapp import IPKernelApp

    setup_course.write_settings(tmp_path)
    [config] = (tmp_path / "etc/ipython").iterdir()
    assert config.name == IPKernelApp().config_file_name
    assert ast.unparse(ast.parse(config.read_text(encoding="utf-8"))) == "import openmodels"


def test_a_read_only_folder_is_refused_with_the_cure(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(setup_checks.SetupError, match="cannot be written to(.|\n)*Copy the folder"):
        setup_checks.check_writable(tmp_path / "file" / "course")
    setup_checks.check_writable(tmp_path)


# Old Pythons -------------------------------------------------------------------------------------

PYTHONS = sorted(Path.home().glob(".pyenv/versions/*/bin/python"))
OLD = [
    path for path in PYTHONS if path.parts[-3].startswith(("2.", *(f"3.{n}." for n in range(11))))
]


def test_start_has_no_syntax_that_old_pythons_refuse():
    tree = ast.parse((ROOT / "start.py").read_text(encoding="ascii"), feature_version=(3, 4))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Nonlocal, ast.YieldFrom)
    assert [node for node in ast.walk(tree) if isinstance(node, newer)] == []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        assert function.returns is None and not function.args.kwonlyargs
        assert all(argument.annotation is None for argument in function.args.args)


@pytest.mark.skipif(not OLD, reason="no Python older than 3.11 on this machine")
@pytest.mark.parametrize("python", OLD, ids=lambda path: path.parts[-3])
def test_an_old_python_ends_in_the_message(python, tmp_path):
    shutil.copy(ROOT / "start.py", tmp_path)  # it stands alone until the version is known
    run = subprocess.run([str(python), "start.py"], cwd=tmp_path, capture_output=True)
    text = run.stderr.decode("ascii")
    assert run.returncode == 1 and "Traceback" not in text
    assert text.startswith("This is Python " + python.parts[-3]) and "py -3.12 start.py" in text


def test_a_module_on_pythonpath_does_not_replace_one_that_set_up_needs(tmp_path):
    (tmp_path / "argparse.py").write_text("raise SystemExit('the wrong argparse')")
    (tmp_path / "setup_pip.py").write_text("raise SystemExit('the wrong setup_pip')")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/__init__.py").write_text("")
    run = subprocess.run(
        [sys.executable, str(ROOT / "start.py"), "--help"], capture_output=True, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "python start.py grade FOLDER" in run.stdout


# JupyterLab and the other commands ---------------------------------------------------------------


@pytest.mark.parametrize("command", ["doctor", "grade", "bench", "labs", "serve", "run"])
def test_a_command_runs_in_the_environment(command, monkeypatch, tmp_path):
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(setup_course, "prepare", lambda root, parts, choice: calls.append(parts))
    monkeypatch.setattr(setup_course, "course_environment", lambda root: {})
    monkeypatch.setattr(setup_course, "run", lambda *arguments: calls.append(arguments) or 3)
    assert setup_course.main([command, "folder", "--jobs", "1"]) == 3
    parts, (root, program, _, folder) = calls
    assert parts == ["base"] and root == ROOT and program[-3:] == ["folder", "--jobs", "1"]
    assert folder == (tmp_path if command in ("grade", "run") else ROOT)
    if program[0] == "-m":
        assert importlib.util.find_spec(program[1])
    elif command != "run":
        assert Path(program[0]).is_file()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no root")
@pytest.mark.parametrize(
    ("uid", "given", "count"), [(0, [], 1), (0, ["--allow-root"], 1), (7, [], 0)]
)
def test_root_gets_the_option_that_jupyterlab_needs(monkeypatch, capsys, uid, given, count):
    commands = []
    finished = subprocess.Popen([sys.executable, "-c", ""])
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(setup_course, "prepare", lambda *_: None)
    monkeypatch.setattr(setup_course, "course_environment", lambda root: {})
    monkeypatch.setattr(setup_course, "run", lambda *_: 0)
    monkeypatch.setattr(
        setup_course, "run_server", lambda command, *_: commands.append(command) or finished
    )
    assert setup_course.main(given) == 0
    assert commands[0].count("--allow-root") == count
    assert ("You are root" in capsys.readouterr().out) == (uid == 0 and not given)


SUPERVISOR = """
import subprocess, sys, setup_course
setup_course.stop_on_sigterm()
code = "import os, time; time.sleep(1); print(os.getpid(), flush=True); time.sleep(60)"
setup_course.exit_code(subprocess.Popen([sys.executable, "-c", code]))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_sigterm_ends_the_program_that_was_started_too():
    import psutil

    program = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
    )  # fmt: skip
    child = int(program.stdout.readline())
    program.terminate()
    assert program.wait(30) == 143
    assert not psutil.pid_exists(child)


SERVER = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(403); self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print("a line of the log", flush=True)
info = {"url": f"http://127.0.0.1:{server.server_port}/", "token": os.environ["JUPYTER_TOKEN"]}
with open(os.path.join(os.environ["JUPYTER_RUNTIME_DIR"], "jpserver-1.json"), "w") as file:
    json.dump(info, file)
server.handle_request()
"""


def test_the_address_is_printed_last_and_framed(tmp_path, capfd):
    (tmp_path / "server.py").write_text(SERVER)
    environment = {**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "JUPYTER_TOKEN": ""}
    command = [sys.executable, "server.py"]
    process = setup_jupyter.run_server(command, tmp_path, environment)
    assert process.wait(30) == 0
    log, _, rule, _, address, _, last_rule = capfd.readouterr().out.strip().splitlines()
    assert log == "a line of the log" and rule == last_rule == "=" * len(rule)
    page = setup_jupyter.FIRST_PAGE
    assert address.startswith("http://127.0.0.1:") and f"/lab/tree/{page}?token=" in address
    assert len(address.split("token=")[1]) == 48


def test_a_server_that_ends_prints_no_address(tmp_path, capfd):
    process = setup_jupyter.run_server([sys.executable, "-c", "1 / 0"], tmp_path, dict(os.environ))
    assert process.wait(30) == 1
    assert capfd.readouterr().out == ""


def test_a_half_written_note_of_the_server_is_no_address(tmp_path):
    assert setup_jupyter.server_info(tmp_path) is None
    for text in ("", '{"url": ', "[]", '{"port": 1}', '{"url": 3}'):
        (tmp_path / "jpserver-1.json").write_text(text)
        assert setup_jupyter.server_info(tmp_path) is None
    (tmp_path / "jpserver-1.json").write_text(json.dumps({"url": "http://127.0.0.1:1/"}))
    assert setup_jupyter.server_info(tmp_path)["url"] == "http://127.0.0.1:1/"


def test_an_error_of_the_server_is_an_answer():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(500)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert setup_jupyter.answers(f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
    assert not setup_jupyter.answers("http://127.0.0.1:9/")
