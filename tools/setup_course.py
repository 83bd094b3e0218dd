"""Set up the course's environment and run its programs in it; standard library only.

The first run makes `.venv` and installs the pinned packages into it; later runs see that nothing
changed and open JupyterLab at once. The other commands run in the same environment.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import setup_environment
import setup_pip
from setup_checks import (
    GB,
    MIN_PYTHON,
    ROOT,
    SetupError,
    check_disk,
    check_path_length,
    check_python,
    check_writable,
    diagnose,
    folder_size,
    last_useful_line,
    nvidia_gpu,
)
from setup_environment import scripts_folder
from setup_jupyter import FIRST_PAGE, QUIET_JUPYTERLAB, QUIET_SETTINGS, run_server

SECONDS_BETWEEN_LINES = 20  # of progress, where the output is not a terminal
# Each kernel of .venv runs this before its first cell, also in a JupyterLab started by hand: some
# notebooks import ollama before openmodels.
KERNEL_CONFIG = "import openmodels  # repairs variables with which `import ollama` would fail\n"
BUILDS = ("--cuda", "--cpu")
# Command: what the environment's Python runs, and the parts it needs.
COMMANDS = {
    "test": (["-m", "pytest"], ["base", "test"]),
    "doctor": (["-m", "openmodels.doctor"], ["base"]),
    "grade": ([str(ROOT / "tools" / "grade.py")], ["base"]),
    "bench": ([str(ROOT / "tools" / "benchmark.py")], ["base"]),
    "labs": ([str(ROOT / "tools" / "make_labs.py")], ["base"]),
    "serve": (["-m", "openmodels.serving.app"], ["base"]),
    "run": ([], ["base"]),
}
MOST_WORKERS = 4  # each has one thread, and runs kernels that take up to 3 GB
FROM_HERE = ("grade", "run")  # their paths are read from the reader's folder, not the course's
HELP = """\
python start.py                    set up, check this machine, open JupyterLab
python start.py --no-browser       the same, but only print the address
python start.py --port 8890        the same, on another port
python start.py --cuda             on Linux: install PyTorch's CUDA build (3 GB to download)
python start.py --cpu              on Linux: install its CPU build (0.2 GB), despite a GPU
python start.py doctor             which models this machine can run, and why not the others
python start.py grade FOLDER       grade the notebooks of a folder; writes grades.csv
python start.py bench              measure the speed of a model on this machine
python start.py labs               make labs/ from solutions/
python start.py serve              start the stand-in for Ollama, on port 11435
python start.py run -m MODULE      run a Python module or file in the environment
python start.py test               set up with the test extras and run all tests
python start.py test -k sizing     further arguments go to pytest (paths from the course folder)
"""
MORE_HELP = """\
Other options go to JupyterLab, and arguments after a command to that command (`grade --help`).
pip's own settings (pip.conf, PIP_INDEX_URL, PIP_FIND_LINKS, HTTPS_PROXY, ...) are respected: if
they name a package source, it decides which build of PyTorch is installed.
"""


def venv_python(venv: Path) -> Path:
    """Return the Python program of a virtual environment."""
    return scripts_folder(venv) / ("python.exe" if os.name == "nt" else "python")


def venv_version(venv: Path) -> tuple[int, ...]:
    """Return the Python version of `venv`; () if `venv` is damaged or its base Python is gone."""
    try:
        settings = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return ()
    version = re.search(r"^version\s*=\s*(\d+)\.(\d+)\.(\d+)", settings, re.MULTILINE)
    base = re.search(r"^executable\s*=\s*(.+?)\s*$", settings, re.MULTILINE)
    base_is_gone = base is not None and not os.path.lexists(base[1])
    if version is None or base_is_gone or not venv_python(venv).exists():
        return ()
    return tuple(int(part) for part in version.groups())


def fingerprint(root: Path) -> str:
    """Return a hash that changes whenever the packages in `.venv` have to be looked at again."""
    digest = hashlib.sha256(f"{root} {venv_version(root / '.venv')}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def stamp(root: Path, part: str) -> Path:
    """Return the file that holds the fingerprint of the last complete installation of a part."""
    return root / ".venv" / f".installed-{part}"


def outdated(root: Path, parts: list[str]) -> list[str]:
    """Return those of `parts` ("base", "test") that are not installed as the files ask for now."""
    if venv_version(root / ".venv") < MIN_PYTHON:
        return parts
    now = fingerprint(root)
    return [
        part
        for part in parts
        if not stamp(root, part).exists() or stamp(root, part).read_text(encoding="utf-8") != now
    ]


def has_pip(venv: Path) -> bool:
    """Return whether the Python in `venv` starts and has pip."""
    return venv_version(venv) >= MIN_PYTHON and run_pip(venv, "--version") is not None


def run_pip(venv: Path, *arguments: str) -> str | None:
    """Return what pip prints for `arguments`; None if it does not start or fails."""
    command = [str(venv_python(venv)), "-m", "pip", *arguments]
    environment = setup_pip.environment(setup_environment.activated(venv, os.environ))
    try:
        result = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", env=environment
        )
    except OSError:
        return None
    return None if result.returncode else result.stdout


def pip_options(venv: Path) -> dict[str, str]:
    """Return pip's settings; raises SetupError if they install outside `venv`."""
    options = setup_pip.settings(run_pip(venv, "config", "list") or "")
    setup_pip.check_settings(options)
    return options


def create_venv(venv: Path) -> None:
    """Make `venv` anew with the running Python; raises SetupError with the way out."""
    if venv.exists():
        print(f"{venv} is damaged or incomplete: making it again.")
        try:
            shutil.rmtree(venv)
        except OSError as error:
            raise SetupError(
                f"{venv} could not be removed ({error}).\n"
                "Close JupyterLab and every program using it, then run start.py again."
            ) from error
    print(f"Making {venv} with Python {platform.python_version()} ...")
    removed = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONOPTIMIZE")
    environment = {name: value for name, value in os.environ.items() if name not in removed}
    result = subprocess.run(
        [sys.executable, "-m", "venv", str(venv)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={**environment, "PYTHONUTF8": "1"},
        check=False,
    )
    if result.returncode:
        output = result.stdout + result.stderr
        advice = "Remove the folder .venv and run start.py again."
        if "ensurepip" in output:
            advice = "On Debian and Ubuntu: apt install python3-venv. Then run start.py again."
        raise SetupError(f"Python could not make {venv}:\n{last_useful_line(output)}\n{advice}")


class Progress:
    """One line that rewrites itself in a terminal; elsewhere, a new line now and then."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.text = "starting pip"
        self.began = time.monotonic()
        self.next_line = 0.0
        self.terminal = sys.stdout.isatty()

    def show(self, text: str | None = None) -> None:
        """Show `text`, or the last text again, with the seconds since the beginning."""
        self.text = text or self.text
        seconds = time.monotonic() - self.began
        line = f"{self.title}: {self.text} [{seconds:.0f} s]"
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + line[:width].ljust(width), end="", flush=True)
        elif seconds >= self.next_line:
            self.next_line = seconds + SECONDS_BETWEEN_LINES
            print(line, flush=True)

    def end(self, text: str) -> None:
        """Show the last line and leave it standing."""
        self.next_line = 0.0
        self.show(text)
        if self.terminal:
            print()


def pip_install(root: Path, title: str, arguments: list[str]) -> None:
    """Run `pip install` with the pins and one line of progress; raises SetupError if it fails."""
    venv = root / ".venv"
    log = venv / "install.log"
    command = [str(venv_python(venv)), "-m", "pip", "install", "--progress-bar", "off"]
    command += ["-c", "constraints.txt", *arguments]
    progress = Progress(title)
    process = subprocess.Popen(
        command,
        cwd=root,
        env=setup_pip.environment(setup_environment.activated(venv, os.environ)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        text = follow(process, log, progress)
        failed = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    progress.end("failed" if failed else "done")
    if failed:
        raise SetupError(pip_failure(text, failed, arguments, log))


def follow(process: subprocess.Popen, log: Path, progress: Progress) -> str:
    """Show pip's output as progress until it ends; append it to `log` and return it."""
    lines: queue.Queue = queue.Queue()
    threading.Thread(target=forward, args=(process.stdout, lines), daemon=True).start()
    output = []
    with log.open("a", encoding="utf-8") as log_file:
        while True:
            try:
                line = lines.get(timeout=0.5)
            except queue.Empty:  # pip is silent while it works: keep the seconds running
                progress.show()
                continue
            if line is None:
                return "".join(output)
            log_file.write(line)
            output.append(line)
            progress.show(setup_pip.activity(line))


def forward(stream, lines: queue.Queue) -> None:
    """Put every line of `stream` into `lines`, and None at its end."""
    for line in stream:
        lines.put(line)
    lines.put(None)


def pip_failure(text: str, code: int, arguments: list[str], log: Path) -> str:
    """Return what to tell the reader about a pip that ended with `code` after printing `text`."""
    if code < 0:
        text += f"ERROR: pip was stopped by signal {-code}"
    other = ""
    if setup_pip.CPU_INDEX in arguments:
        other = f"If {setup_pip.CPU_INDEX} cannot be reached but PyPI can: python start.py --cuda\n"
    return (
        f"pip stopped: {last_useful_line(text)}\n{diagnose(text)}\n{other}"
        f"Then run start.py again: it goes on where it stopped. Full log: {log}"
    )


def prepare(root: Path, parts: list[str], choice: str = "") -> None:
    """Bring `.venv` to what pyproject.toml and constraints.txt ask for; quick if it is there.

    choice: "cpu" or "cuda" for another build of PyTorch than the machine suggests, or "". Raises
    SetupError with the cause and the cure.
    """
    venv = root / ".venv"
    todo = outdated(root, parts)
    switch = choice not in ("", setup_pip.installed_build(venv) or choice)
    if switch and "base" not in todo:
        todo = ["base", *todo]
    if not todo:
        return
    check_path_length(root)
    check_writable(root)
    free, present = shutil.disk_usage(root).free, folder_size(venv)
    check_disk(free, present)
    if not has_pip(venv):
        create_venv(venv)
    setup_pip.forget_half_installed(venv)
    steps = [setup_pip.course_step("test" in todo)]
    if "base" in todo:
        steps = torch_steps(root, choice, free, present) + steps
    titles = {1: ["course and tools"], 2: ["PyTorch", "course and tools"]}
    titles[3] = ["PyTorch", "setuptools", "course and tools"]
    for number, (title, step) in enumerate(zip(titles[len(steps)], steps, strict=True), start=1):
        pip_install(root, f"{number}/{len(steps)} {title}", step)
    write_settings(venv)
    sign_notebooks(root)
    for part in todo:
        stamp(root, part).write_text(fingerprint(root), encoding="utf-8")
    print(f"Ready: {venv} takes {folder_size(venv) / GB:.1f} GB.")


def sign_notebooks(root: Path) -> None:
    """Sign the chapters as they were shipped, so that JupyterLab trusts their stored figures.

    JupyterLab shows an unsigned notebook without its styles: figures on white in the dark theme
    until their cells run. Nothing else depends on it, so a failure is ignored.
    """
    notebooks = [str(path) for path in sorted((root / "chapters").rglob("*.ipynb"))]
    if notebooks:
        sign = "from nbformat.sign import TrustNotebookApp; TrustNotebookApp.launch_instance()"
        command = [str(venv_python(root / ".venv")), "-c", sign, *notebooks]
        environment = course_environment(root)
        subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False)


def torch_steps(root: Path, choice: str, free: float, present: float) -> list[list[str]]:
    """Return the steps that install the build of PyTorch for this machine, and say which."""
    venv = root / ".venv"
    installed = setup_pip.installed_build(venv)
    options = pip_options(venv)
    gpu = "" if choice or installed else nvidia_gpu()
    build, line = setup_pip.torch_build(platform.system(), gpu, options, choice or installed)
    check_disk(free, present, setup_pip.needed_disk(build))
    if line and not installed or choice:
        print(line)
    pins = (root / "constraints.txt").read_text(encoding="utf-8")
    torch = re.search(r"^torch==\S+", pins, re.MULTILINE)[0]
    replace = build in ("cpu", "cuda") and installed not in ("", build)
    return setup_pip.torch_steps(build, torch, replace)


def write_settings(venv: Path) -> None:
    """Write the settings of JupyterLab and of its kernels that live in `venv`."""
    files = {
        "share/jupyter/lab/settings/overrides.json": json.dumps(QUIET_SETTINGS),
        "etc/ipython/ipython_kernel_config.py": KERNEL_CONFIG,
    }
    for name, text in files.items():
        (venv / name).parent.mkdir(parents=True, exist_ok=True)
        (venv / name).write_text(text, encoding="utf-8")


def course_environment(root: Path) -> dict[str, str]:
    """Return the environment of the course's programs, after a line for each repair."""
    values, lines = setup_environment.course(root / ".venv", os.environ)
    for line in lines:
        print(line, flush=True)
    return setup_environment.repaired(venv_python(root / ".venv"), values)


def run(root: Path, arguments: list[str], environment: dict[str, str], folder: Path) -> int:
    """Run the Python in `.venv` with `arguments` in `folder` and return its exit code."""
    command = [str(venv_python(root / ".venv")), *arguments]
    return exit_code(subprocess.Popen(command, cwd=folder, env=environment))


def exit_code(process: subprocess.Popen) -> int:
    """Wait for a program and return its exit code, also if Ctrl-C is pressed meanwhile."""
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the program got it too, and decides when to end
            continue
        except SystemExit:  # SIGTERM reached this program only
            process.terminate()
            process.wait()
            raise
        return code if code >= 0 else 128 - code


def stop_on_sigterm() -> None:
    """Let SIGTERM end this program as an exception does, so that its children end with it."""

    def stop(signal_number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + signal_number)

    signal.signal(signal.SIGTERM, stop)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the options of `python start.py` without a command."""
    parser = argparse.ArgumentParser(
        prog="python start.py",
        usage=HELP.strip().replace("\n", "\n       "),
        epilog=MORE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument("--port", type=int, help="JupyterLab's port (default: 8888 or the next)")
    build = parser.add_mutually_exclusive_group()
    build.add_argument(
        "--cuda", dest="build", action="store_const", const="cuda", help="PyTorch's CUDA build"
    )
    build.add_argument(
        "--cpu", dest="build", action="store_const", const="cpu", help="PyTorch's CPU build"
    )
    return parser


def open_course(root: Path, arguments: list[str]) -> int:
    """Set up, run the doctor, open JupyterLab; returns its exit code."""
    options, for_jupyterlab = build_parser().parse_known_args(arguments)
    if for_jupyterlab and not for_jupyterlab[0].startswith("-"):
        known = ", ".join(COMMANDS)
        raise SetupError(
            f"Unknown command {for_jupyterlab[0]!r}; there are {known}. See: python start.py --help"
        )
    prepare(root, ["base"], options.build or "")
    environment = course_environment(root)
    if run(root, ["-m", "openmodels.doctor"], environment, root):
        print("The check of this machine found a problem (above). JupyterLab starts anyway.")
    # Named as the address, not as the file to open: that would make chapters/ the whole tree.
    page = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{FIRST_PAGE}"]
    command = ["-m", "jupyterlab", *page, *QUIET_JUPYTERLAB]
    if options.no_browser:
        command.append("--no-browser")
    if options.port is not None:
        command.append(f"--port={options.port}")
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in for_jupyterlab:
        print("You are root: JupyterLab gets --allow-root. It listens on 127.0.0.1 only.")
        command.append("--allow-root")
    command = [str(venv_python(root / ".venv")), *command, *for_jupyterlab]
    return exit_code(run_server(command, root, environment))


def parallel(cores: int | None) -> list[str]:
    """Return pytest's options for the whole suite: a worker per core, the longest tests first."""
    workers = min(cores or 1, MOST_WORKERS)
    return ["-n", str(workers), "--dist", "loadgroup", "--no-loadscope-reorder"]


def run_command(root: Path, name: str, arguments: list[str], choice: str) -> int:
    """Set up what the command needs, run it in the environment and return its exit code."""
    program, parts = COMMANDS[name]
    if name == "test" and not arguments:
        arguments = parallel(os.cpu_count())
    prepare(root, parts, choice)
    folder = Path.cwd() if name in FROM_HERE else root
    return run(root, [*program, *arguments], course_environment(root), folder)


def main(arguments: list[str]) -> int:
    """Do what the command line says and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a path may hold characters the terminal cannot show
            stream.reconfigure(errors="replace")
    try:
        check_python()
        build = arguments[0].removeprefix("--") if arguments[:1] and arguments[0] in BUILDS else ""
        command = arguments[1:] if build else arguments
        if command[:1] and command[0] in COMMANDS:
            return run_command(ROOT, command[0], command[1:], build)
        return open_course(ROOT, arguments)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The next `python start.py` goes on from here.", file=sys.stderr)
        return 130
