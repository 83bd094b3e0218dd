"""What pip installs, from where, and what its output says; standard library only."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from setup_checks import CPU_DISK, CUDA_DISK, SetupError

CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # PyTorch's own index of CPU builds
SOURCES = ("index-url", "extra-index-url", "find-links", "no-index")  # pip's names for them
ELSEWHERE = ("target", "prefix", "root")  # pip's settings that install outside .venv
SIZES = {
    "cpu": "about 0.2 GB to download, 2.5 GB of disk in all",
    "cuda": "about 3 GB to download, 10 GB of disk in all",
}
NEEDED = {"cuda": CUDA_DISK}  # bytes of disk; the other builds need CPU_DISK
# Values that undo settings with which pip would not install into .venv.
PIP_VALUES = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_USER": "0",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_DRY_RUN": "0",
    "PIP_NO_DEPS": "0",
    "PIP_REQUIRE_HASHES": "0",
    "PIP_PRE": "0",
    "PIP_IGNORE_INSTALLED": "0",
    "PIP_FORCE_REINSTALL": "0",
}
PIP_REMOVED = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_REQUIREMENT")
PIP_REMOVED += ("PIP_EDITABLE", "PIP_UPGRADE", "PIP_REPORT")


def environment(values: Mapping[str, str]) -> dict[str, str]:
    """Return `values` as pip needs them to install into .venv: sources and proxies stay."""
    return {**{k: v for k, v in values.items() if k.upper() not in PIP_REMOVED}, **PIP_VALUES}


def settings(listing: str) -> dict[str, str]:
    """Return what `pip config list` prints as {option: value}, later lines last.

    Options of other commands than install (`download.`, say) are left out.
    """
    lines = re.findall(
        r"^(?:global|install|:env:)\.([\w-]+)=['\"](.*)['\"]$", listing, re.MULTILINE
    )
    return {option.replace("_", "-"): value for option, value in lines if value}


def check_settings(options: Mapping[str, str]) -> None:
    """Raise SetupError if pip's settings send packages to a place outside .venv."""
    for name in ELSEWHERE:
        if name in options:
            raise SetupError(
                f"pip's settings install to another folder ({name} = {options[name]}).\n"
                f"Remove that line: python -m pip config unset global.{name}"
            )


def torch_build(
    system: str, gpu: str, options: Mapping[str, str], choice: str = ""
) -> tuple[str, str]:
    """Return which build of PyTorch to install, and a line that says so ("" for nothing to say).

    The builds: "configured" (pip's settings name a source, which decides), "cpu" and "cuda" (on
    Linux), "default" (PyPI's: the CPU build on Windows, the Mac build on macOS).

    system: as `platform.system()` names it. gpu: the name of an NVIDIA GPU, or "". options: pip's
    settings. choice: "cpu", "cuda" or "" as the learner asks. Raises SetupError for a choice of
    "cuda" on a system for which PyPI has no CUDA build.
    """
    if system != "Linux":
        if choice == "cuda":
            raise SetupError(
                f"--cuda works on Linux only. On {system}, set up without it; then install its\n"
                "CUDA build into .venv, with the command of https://pytorch.org/get-started/locally"
            )
        return "default", ""
    sources = [name for name in SOURCES if name in options]
    if sources:
        line = f"pip's settings name a package source ({', '.join(sources)}): it decides which"
        return "configured", f"{line} build of PyTorch is installed."
    if choice == "cuda":
        return "cuda", f"Installing PyTorch's CUDA build ({SIZES['cuda']})."
    if choice == "cpu":
        return "cpu", f"Installing PyTorch's CPU build ({SIZES['cpu']})."
    if gpu:
        line = f"Found {gpu}: installing PyTorch's CUDA build ({SIZES['cuda']})."
        return "cuda", f"{line}\nFor the CPU build ({SIZES['cpu']}): python start.py --cpu"
    line = f"No NVIDIA GPU found: installing PyTorch's CPU build ({SIZES['cpu']})."
    return "cpu", f"{line}\nFor the CUDA build: python start.py --cuda"


def torch_steps(build: str, torch: str, replace: bool = False) -> list[list[str]]:
    """Return the arguments of each `pip install` that installs PyTorch, and setuptools.

    torch: the pinned requirement, "torch==2.13.0". replace: whether another build is installed.
    PyTorch comes first and alone, so that no other package can pull in another build. The CPU index
    does not have the pinned versions of PyTorch's dependencies: they come with the course, from
    PyPI. setuptools saves the editable installation of the course a download of its own.
    """
    again = ["--force-reinstall", "--no-deps"] if replace else []
    if build == "cpu":
        again = again or ["--no-deps"]
        return [["--index-url", CPU_INDEX, *again, torch], ["setuptools"]]
    if replace:
        return [[*again, torch], ["setuptools"]]
    return [[torch, "setuptools"]]


def course_step(tests: bool) -> list[str]:
    """Return the arguments of the `pip install` that installs the course and its dependencies."""
    return ["--no-build-isolation", "-e", ".[test]" if tests else "."]


def installed_build(venv: Path) -> str:
    """Return which build of PyTorch is in `venv`: "cpu", "cuda" (or PyPI's default), or ""."""
    names = [path.name for path in site_packages(venv, "torch-*.dist-info")]
    if not names:
        return ""
    return "cpu" if "+cpu" in names[0] else "cuda"


def site_packages(venv: Path, pattern: str) -> list[Path]:
    """Return the entries of the environment's site-packages that match `pattern`."""
    places = [*venv.glob("lib/python*/site-packages"), *venv.glob("Lib/site-packages")]
    return sorted({path for place in places for path in place.glob(pattern)})


def forget_half_installed(venv: Path) -> None:
    """Remove what an interrupted pip left, so that the next one installs those packages again."""
    for folder in site_packages(venv, "*.dist-info"):
        if not (folder / "INSTALLER").exists():  # pip writes this file near the end
            shutil.rmtree(folder)
    for leftover in site_packages(venv, "~*"):  # pip's names for what it was about to delete
        if leftover.is_dir():
            shutil.rmtree(leftover)


def activity(line: str) -> str | None:
    """Return what a line of pip's output says is going on, in a few words; None if nothing."""
    match = re.match(r"\s*(Requirement already|Collecting|Downloading|Processing) (.+)", line)
    if match:
        target = match[2].replace("satisfied: ", "").split()[0]
        name = re.match(r"[\w.]+(?:-[A-Za-z_]\w*)*", re.split(r"[\\/]", target)[-1])
        size = re.search(r"\([\d.]+ [kMG]B\)$", match[2].strip())
        verb = {"Downloading": "downloading", "Processing": "reading"}.get(match[1], "checking")
        return " ".join([verb, name[0] if name else target, *([size[0]] if size else [])])
    if line.startswith("Installing collected packages:"):
        return f"unpacking {line.count(',') + 1} packages"
    return None


def needed_disk(build: str) -> float:
    """Return the bytes of disk that set-up needs with this build of PyTorch."""
    return NEEDED.get(build, CPU_DISK)
