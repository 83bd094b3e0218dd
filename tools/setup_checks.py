"""What set-up checks before it installs anything, and why pip failed; standard library only."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIN_PYTHON = (3, 11)
GB = 10**9
CPU_DISK = 2.5 * GB  # .venv with PyTorch's CPU build and the test extras, and pip's downloads
CUDA_DISK = 10 * GB  # the same with the CUDA build
# Windows refuses longer paths unless long paths are enabled; the last character is reserved.
LONGEST_WINDOWS_FILE = 259
LONGEST_WINDOWS_FOLDER = 247
# The longest paths below .venv, on Windows: two licence files of torch 2.13.0.
LONGEST_FILE = 185
LONGEST_FOLDER = 174
LONG_PATHS_KEY = r"SYSTEM\CurrentControlSet\Control\FileSystem"
ENABLE_LONG_PATHS = (
    rf'New-ItemProperty -Path "HKLM:\{LONG_PATHS_KEY}" '
    "-Name LongPathsEnabled -Value 1 -PropertyType DWORD -Force"
)
DRIVER = Path("/proc/driver/nvidia")


class SetupError(Exception):
    """A problem the reader can solve; the text names the cause and the cure."""


# What a failed pip prints, and what to tell the reader. The first pattern that matches counts.
CAUSES = [
    (
        r"No space left on device|Errno 28|Errno 122|WinError 112|not enough space",
        "The disk is full. Free some space ({disk:.1f} GB are enough for all packages with\n"
        "PyTorch's CPU build).",
    ),
    (
        r"stopped by signal 9",
        "The system ended pip, most likely for lack of memory. Close other programs.",
    ),
    (
        r"WinError 206|enable-long-paths",
        "The path of a file is too long for Windows. Move the course to a short folder, such as\n"
        "C:\\course, or enable long paths: in PowerShell as administrator, run\n"
        + ENABLE_LONG_PATHS.replace("{", "{{").replace("}", "}}"),
    ),
    (
        r"Missing dependencies for SOCKS support",
        "pip cannot use a SOCKS proxy here. Set HTTPS_PROXY to an http:// proxy and remove\n"
        "ALL_PROXY for the set-up.",
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
        r"TLS CA certificate bundle",
        "PIP_CERT, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names a certificate file that does not\n"
        "exist. Correct or remove it.",
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
        "pyproject.toml and constraints.txt ask for different versions, or a constraint of yours\n"
        "does (PIP_CONSTRAINT, `python -m pip config list`). Restore both files, remove yours.",
    ),
    (
        r"Permission denied|Access is denied|WinError 5\b|WinError 32\b",
        "A file in .venv could not be written. Close JupyterLab and every program using .venv.",
    ),
]


def diagnose(output: str) -> str:
    """Return why pip failed, from its output, and what to do about it."""
    for pattern, advice in CAUSES:
        if re.search(pattern, output):
            return advice.format(
                disk=CPU_DISK / GB,
                python=platform.python_version(),
                platform=f"{platform.system()} {platform.machine()}",
            )
    return "The cause was not recognised; the log has the details."


def last_useful_line(output: str) -> str:
    """Return the last error line of a program's output, or else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\w*error\b|fatal\b)", line, re.IGNORECASE)]
    return (errors or lines or ["(no output)"])[-1]


def check_python(version: tuple = sys.version_info) -> None:
    """Raise SetupError unless `version` is Python 3.11 or newer."""
    if tuple(version[:2]) < MIN_PYTHON:
        text = ".".join(str(part) for part in version[:3])
        raise SetupError(
            f"This is Python {text}; the course needs Python 3.11 or newer.\n"
            "Install one and run start.py with it, for example: python3.12 start.py"
        )


def check_disk(free: float, present: float = 0.0, needed: float = CPU_DISK) -> None:
    """Raise SetupError unless `free` bytes hold what is missing next to the `present` bytes."""
    missing = needed - present
    if free >= missing:
        return
    smaller = "\nThe CPU build of PyTorch needs less: python start.py --cpu" * (needed > CPU_DISK)
    raise SetupError(
        f"Not enough disk space: {free / GB:.1f} GB are free, about {missing / GB:.1f} GB\n"
        f"are needed for the packages in {ROOT / '.venv'}. Free some and run start.py again."
        + smaller
    )


def folder_size(folder: Path) -> int:
    """Return the bytes of all files below `folder`; 0 if it does not exist."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                continue  # removed since it was listed
    return total


def long_paths_enabled() -> bool:
    """Return whether Windows accepts paths of more than 260 characters; False if unknown."""
    try:
        import winreg

        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, LONG_PATHS_KEY) as key:
            return winreg.QueryValueEx(key, "LongPathsEnabled")[0] == 1
    except (ImportError, OSError):
        return False


def longest_root() -> int:
    """Return how many characters the course folder's path may have on Windows."""
    beside = len("\\.venv\\")
    return min(
        LONGEST_WINDOWS_FILE - beside - LONGEST_FILE,
        LONGEST_WINDOWS_FOLDER - beside - LONGEST_FOLDER,
    )


def check_path_length(
    root: str | Path, system: str | None = None, long_paths: bool | None = None
) -> None:
    """Raise SetupError if Windows would refuse the longest path of the installed packages.

    system: the operating system as `platform.system()` names it, by default this machine's.
    long_paths: whether long paths are enabled, by default as the registry says.
    """
    if (system or platform.system()) != "Windows" or len(str(root)) <= longest_root():
        return
    if long_paths_enabled() if long_paths is None else long_paths:
        return
    raise SetupError(
        f"The path of the course folder is too long for Windows: {len(str(root))} characters,\n"
        f"and at most {longest_root()} leave room for PyTorch's files. Either\n"
        "  1. move the course to a shorter folder, such as C:\\course, or\n"
        "  2. enable long paths: in PowerShell as administrator, run\n"
        f"     {ENABLE_LONG_PATHS}\n"
        "Then run start.py again."
    )


def is_writable(folder: Path) -> bool:
    """Return whether a file can be made in `folder`, or in its nearest parent that exists."""
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, ValueError):
        return False


def check_writable(root: Path) -> None:
    """Raise SetupError unless files can be made in the course folder."""
    if not is_writable(root):
        raise SetupError(
            f"The course folder {root} cannot be written to, and set-up makes {root / '.venv'}.\n"
            "Copy the folder to a place of yours (your home folder, say) and run start.py there."
        )


def nvidia_gpu(driver: Path = DRIVER) -> str:
    """Return the name of the first NVIDIA GPU, or "" if there is none or no driver for it."""
    program = shutil.which("nvidia-smi")
    if program:
        try:
            result = subprocess.run(
                [program, "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        name = re.match(r"GPU \d+: (.+?)(?: \(UUID|$)", result.stdout)
        return name[1].strip() if name and result.returncode == 0 else ""
    for file in sorted(driver.glob("gpus/*/information")):
        name = re.search(r"^Model:\s*(.+)$", file.read_text("utf-8", "replace"), re.MULTILINE)
        return name[1].strip() if name else "an NVIDIA GPU"
    return "an NVIDIA GPU" if (driver / "version").is_file() else ""
