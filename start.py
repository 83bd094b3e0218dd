"""Set up the course and open it: `python start.py`. Needs Python 3.11 or newer, nothing else.

The first run makes `.venv` and installs the pinned packages into it; later runs see that nothing
changed and open JupyterLab at once. `python start.py test` runs the tests in the same place.
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
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
FIRST_PAGE = "chapters/00_start_here.ipynb"
MIN_PYTHON = (3, 11)
GB = 10**9
DISK_NEEDED = 2.5 * GB  # .venv with PyTorch's CPU build and the test extras, and pip's downloads
CUDA_DISK_NEEDED = 10 * GB  # the same with the CUDA build pip takes on Linux by default
SECONDS_BETWEEN_LINES = 20  # of progress, where the output is not a terminal
QUIET_JUPYTERLAB = [  # its server asks no other host: for news, updates, a list of extensions
    "--ip=127.0.0.1",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
]
QUIET_SETTINGS = {  # and its page does not ask the learner whether it may
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}
HELP = """\
python start.py                    set up, check this machine, open JupyterLab
python start.py --no-browser       the same, but only print the address
python start.py --port 8890        the same, on another port
python start.py test               set up with the test extras and run all tests
python start.py test -k sizing     further arguments go to pytest (paths from the course folder)
"""
MORE_HELP = """\
Other options go to JupyterLab (`--allow-root` in a container, say). pip's own settings
(pip.conf, PIP_INDEX_URL, PIP_FIND_LINKS, HTTPS_PROXY, ...) are respected: on Linux, pip takes
PyTorch's CUDA build unless they point it to a CPU build.
"""


class SetupError(Exception):
    """A problem the reader can solve; the text says what was found and what to do."""


# What a failed pip says, and what to tell the reader. The first pattern that is found counts.
CAUSES = [
    (
        r"No space left on device|Errno 28|Errno 122|WinError 112|not enough space",
        "The disk is full. Free some space ({disk:.1f} GB are enough for all packages).",
    ),
    (
        r"stopped by signal 9",
        "The system ended pip, most likely for lack of memory. Close other programs.",
    ),
    (
        r"ProxyError|Cannot connect to proxy|407 Proxy",
        "The proxy refused the connection. Check HTTPS_PROXY and HTTP_PROXY, or leave the VPN.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError",
        "The package index's certificate was not accepted. Check the clock; in a company network\n"
        "that inspects traffic, set PIP_CERT to its certificate file.",
    ),
    (
        r"from versions: (?!none)|Requires-Python",
        "The package index has no build of this version for Python {python} on {platform}.\n"
        "The pinned packages exist for Python 3.11 to 3.14 on Linux, on Windows and on Macs with\n"
        "Apple silicon (macOS 14 or newer). Run start.py with such a Python, after removing the\n"
        "folder .venv; on other machines try conda with environment.yml.",
    ),
    (
        r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ConnectionError"
        r"|Connection (?:refused|reset|aborted|broken|timed out)|getaddrinfo failed"
        r"|Name or service not known|name resolution|nodename nor servname"
        r"|Network is unreachable|Read timed out|IncompleteRead",
        "No network, or the package index does not answer. Installing needs a connection once\n"
        "(the course itself does not).",
    ),
    (
        r"No matching distribution found|Could not find a version",
        "No package source offers this version for Python {python} on {platform}. Check pip's\n"
        "settings (`python -m pip config list`): they may point to a source without it.",
    ),
    (
        r"ResolutionImpossible|conflicting dependencies",
        "pyproject.toml and constraints.txt ask for different versions. Restore both files.",
    ),
    (
        r"Permission denied|Access is denied|WinError 5\b|WinError 32\b",
        "A file in .venv could not be written. Close JupyterLab and every program using .venv.",
    ),
]


def check_python(version: tuple = sys.version_info) -> None:
    """Raise SetupError unless `version` is Python 3.11 or newer."""
    if tuple(version[:2]) < MIN_PYTHON:
        seen = ".".join(str(part) for part in version[:3])
        raise SetupError(
            f"This is Python {seen}; the course needs Python 3.11 or newer.\n"
            "Install one and run start.py with it, for example: python3.12 start.py"
        )


def check_disk(free: float, present: float = 0.0, needed: float = DISK_NEEDED) -> None:
    """Raise SetupError unless `free` bytes hold what is missing beside the `present` bytes."""
    missing = needed - present
    if free < missing:
        raise SetupError(
            f"Not enough disk space: {free / GB:.1f} GB are free, about {missing / GB:.1f} GB\n"
            f"are needed for the packages in {ROOT / '.venv'}. Free some and run start.py again."
        )


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`; 0 when it does not exist."""
    return sum(
        os.lstat(os.path.join(path, name)).st_size
        for path, _, names in os.walk(folder)
        for name in names
    )


def scripts_folder(venv: Path) -> Path:
    """Where a virtual environment keeps its programs."""
    return venv / ("Scripts" if os.name == "nt" else "bin")


def venv_python(venv: Path) -> Path:
    """The Python program of a virtual environment."""
    return scripts_folder(venv) / ("python.exe" if os.name == "nt" else "python")


def venv_version(venv: Path) -> tuple[int, ...]:
    """Version of the Python in `venv`; () when `venv` is damaged or its base Python is gone."""
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
    """A hash that changes whenever the packages in `.venv` have to be looked at again."""
    digest = hashlib.sha256(f"{root} {venv_version(root / '.venv')}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def stamp(root: Path, part: str) -> Path:
    """The file that holds the fingerprint of the last complete installation of a part."""
    return root / ".venv" / f".installed-{part}"


def outdated(root: Path, parts: list[str]) -> list[str]:
    """Those of `parts` ("base", "test") that are not installed as the files ask for now."""
    if venv_version(root / ".venv") < MIN_PYTHON:
        return parts
    now = fingerprint(root)
    return [
        part
        for part in parts
        if not stamp(root, part).exists() or stamp(root, part).read_text(encoding="utf-8") != now
    ]


def forget_half_installed(venv: Path) -> None:
    """Remove what an interrupted pip left, so that the next one installs those packages again."""
    for site in [*venv.glob("lib/python*/site-packages"), *venv.glob("Lib/site-packages")]:
        for folder in site.glob("*.dist-info"):
            if not (folder / "INSTALLER").exists():  # pip writes this file near the end
                shutil.rmtree(folder)
        for leftover in site.glob("~*"):  # pip's names for what it was about to delete
            if leftover.is_dir():
                shutil.rmtree(leftover)


def has_pip(venv: Path) -> bool:
    """Whether the Python in `venv` starts and has pip."""
    if venv_version(venv) < MIN_PYTHON:
        return False
    command = [str(venv_python(venv)), "-m", "pip", "--version"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


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
    command = [sys.executable, "-m", "venv", str(venv)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        output = result.stdout + result.stderr
        advice = "Remove the folder .venv and run start.py again."
        if "ensurepip" in output:
            advice = "On Debian and Ubuntu: apt install python3-venv. Then run start.py again."
        raise SetupError(f"Python could not make {venv}:\n{last_useful_line(output)}\n{advice}")


def last_useful_line(output: str) -> str:
    """The last error line of a program's output, or else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\w*error\b|fatal\b)", line, re.IGNORECASE)]
    return (errors or lines or ["(no output)"])[-1]


def diagnose(output: str) -> str:
    """Why pip failed, from its output, and what to do about it."""
    for pattern, advice in CAUSES:
        if re.search(pattern, output):
            return advice.format(
                disk=DISK_NEEDED / GB,
                python=platform.python_version(),
                platform=f"{platform.system()} {platform.machine()}",
            )
    return "The cause was not recognised; the log has the details."


def activity(line: str) -> str | None:
    """What a line of pip's output says is going on, in a few words; None when it says nothing."""
    found = re.match(r"\s*(Requirement already|Collecting|Downloading|Processing) (.+)", line)
    if found:
        target = found[2].replace("satisfied: ", "").split()[0]
        name = re.match(r"[\w.]+(?:-[A-Za-z_]\w*)*", re.split(r"[\\/]", target)[-1])
        size = re.search(r"\([\d.]+ [kMG]B\)$", found[2].strip())
        verb = {"Downloading": "downloading", "Processing": "reading"}.get(found[1], "checking")
        return " ".join([verb, name[0] if name else target, *([size[0]] if size else [])])
    if line.startswith("Installing collected packages:"):
        return f"unpacking {line.count(',') + 1} packages"
    return None


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
        env=environment(venv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    lines: queue.Queue = queue.Queue()
    threading.Thread(target=forward, args=(process.stdout, lines), daemon=True).start()
    output = []
    try:
        with log.open("a", encoding="utf-8") as log_file:
            line = ""
            while line is not None:
                try:
                    line = lines.get(timeout=0.5)
                except queue.Empty:  # pip is silent while it works: keep the seconds running
                    progress.show()
                    continue
                if line is not None:
                    log_file.write(line)
                    output.append(line)
                    progress.show(activity(line))
        failed = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    progress.end("failed" if failed else "done")
    if failed:
        text = "".join(output)
        if failed < 0:
            text += f"ERROR: pip was stopped by signal {-failed}"
        raise SetupError(
            f"pip stopped: {last_useful_line(text)}\n{diagnose(text)}\n"
            f"Then run start.py again: it goes on where it stopped. Full log: {log}"
        )


def forward(stream, lines: queue.Queue) -> None:
    """Put every line of `stream` into `lines`, and None at its end."""
    for line in stream:
        lines.put(line)
    lines.put(None)


def environment(venv: Path) -> dict:
    """The environment for programs of `venv`: as if it had been activated."""
    values = {**os.environ, "VIRTUAL_ENV": str(venv), "PYTHONIOENCODING": "utf-8"}
    values["PATH"] = str(scripts_folder(venv)) + os.pathsep + values.get("PATH", "")
    values["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    values.pop("PYTHONHOME", None)
    return values


def prepare(root: Path, parts: list[str]) -> None:
    """Bring `.venv` to what pyproject.toml and constraints.txt ask for; quick when it is."""
    todo = outdated(root, parts)
    if not todo:
        return
    venv = root / ".venv"
    free, present = shutil.disk_usage(root).free, folder_size(venv)
    check_disk(free, present)
    if sys.platform == "linux" and free < CUDA_DISK_NEEDED - present:
        print(f"Note: {free / GB:.1f} GB free are enough for PyTorch's CPU build only.")
    if not has_pip(venv):
        create_venv(venv)
    forget_half_installed(venv)
    if "base" in todo:
        # First and alone: a CPU build at hand is taken before anything else can pull in another.
        # setuptools beside it spares the editable install below a download of its own.
        torch = re.search(r"^torch==\S+", (root / "constraints.txt").read_text(), re.MULTILINE)
        pip_install(root, "1/2 PyTorch", [torch[0], "setuptools"])
    target = ".[test]" if "test" in todo else "."
    pip_install(root, "2/2 course and tools", ["--no-build-isolation", "-e", target])
    settings = venv / "share/jupyter/lab/settings/overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(QUIET_SETTINGS), encoding="utf-8")
    for part in todo:
        stamp(root, part).write_text(fingerprint(root), encoding="utf-8")
    print(f"Ready: {venv} takes {folder_size(venv) / GB:.1f} GB.")


def run(root: Path, arguments: list[str]) -> int:
    """Run a module with the Python in `.venv` and return its exit code."""
    venv = root / ".venv"
    command = [str(venv_python(venv)), "-m", *arguments]
    process = subprocess.Popen(command, cwd=root, env=environment(venv))
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the program got it too, and decides when to end
            continue
        return code if code >= 0 else 128 - code


def build_parser() -> argparse.ArgumentParser:
    """The options of `python start.py` without `test`."""
    parser = argparse.ArgumentParser(
        prog="python start.py",
        usage=HELP.strip().replace("\n", "\n       "),
        epilog=MORE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument("--port", type=int, help="JupyterLab's port (default: 8888 or the next)")
    return parser


def open_course(root: Path, arguments: list[str]) -> int:
    """Set up, run the doctor, open JupyterLab; returns its exit code."""
    options, for_jupyterlab = build_parser().parse_known_args(arguments)
    if for_jupyterlab and not for_jupyterlab[0].startswith("-"):
        raise SetupError(f"Unknown command {for_jupyterlab[0]!r}. See: python start.py --help")
    prepare(root, ["base"])
    if run(root, ["openmodels.doctor"]):
        print("The check of this machine found a problem (above). JupyterLab starts anyway.")
    # Named as the address, not as the file to open: that would make chapters/ the whole tree.
    page = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{FIRST_PAGE}"]
    command = ["jupyterlab", *page, *QUIET_JUPYTERLAB]
    if options.no_browser:
        command.append("--no-browser")
    if options.port is not None:
        command.append(f"--port={options.port}")
    return run(root, [*command, *for_jupyterlab])


def main(arguments: list[str]) -> int:
    """Do what the command line says and return the exit code."""
    try:
        check_python()
        if arguments[:1] == ["test"]:
            prepare(ROOT, ["base", "test"])
            return run(ROOT, ["pytest", *arguments[1:]])
        return open_course(ROOT, arguments)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The next `python start.py` goes on from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
