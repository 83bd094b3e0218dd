"""What this machine is and what it can run, with the reasons: `python -m openmodels.doctor`.

Nothing leaves the machine: the only request goes to Ollama on a loopback address.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import urllib.request
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from openmodels import catalog, ollama_host, paths, sizing, tables

PINS = Path(__file__).parents[1] / "constraints.txt"
NEEDED = (
    *("torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "numpy"),
    *("ollama", "jupyterlab", "ipywidgets", "matplotlib", "psutil"),
)
CATALOGUE = (
    *(f"qwen2.5-{size}" for size in ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b")),
    *("deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-llama-8b"),
    *("deepseek-r1-distill-qwen-32b", "deepseek-r1-distill-llama-70b"),
    *("llama-4-scout", "mistral-large-2-2407", "llama-4-maverick", "deepseek-r1"),
)
MINIATURE = "mini-qwen"


@dataclass(frozen=True)
class Machine:
    """The machine as this process sees it; sizes in bytes."""

    system: str
    python: str
    cores: int  # this process may use
    cores_in_machine: int
    memory_total: int
    memory_free: int
    disk_free: int
    gpu: str
    gpu_free: int  # 0 where the GPU shares the machine's memory, or there is none


@dataclass(frozen=True)
class Package:
    """A package the course needs. `fix` is empty when nothing has to be done."""

    name: str
    installed: str
    pinned: str
    fix: str


@dataclass(frozen=True)
class Runs:
    """Whether a model runs here, and why. Sizes in bytes."""

    name: str
    parameters: int
    bf16: int
    q4: int
    verdict: str  # "yes, bf16" (transformers), "yes, 4 bits" (through Ollama) or "no"
    reason: str


@dataclass(frozen=True)
class Report:
    """Everything the doctor looked at."""

    machine: Machine
    packages: list[Package]
    ollama: str
    miniatures: list[str]
    models: list[Runs]

    @property
    def broken(self) -> list[str]:
        """Return what keeps the course from running at all; empty on a healthy machine."""
        problems = []
        if MINIATURE not in self.miniatures:
            problems.append(
                f"models/{MINIATURE} is missing: the clone is not complete. "
                "Fix: git checkout -- models"
            )
        if self.machine.memory_free < sizing.WORKING_BYTES:
            problems.append(
                f"only {sizing.gigabytes(self.machine.memory_free)} of memory is free, a miniature "
                f"needs {sizing.gigabytes(sizing.WORKING_BYTES)}. Fix: close other programs."
            )
        return problems


def report() -> Report:
    """Return a report on this machine. Takes a second or two; builds no model."""
    here = machine()
    return Report(here, packages(), ollama(), miniatures(), [runs(id, here) for id in CATALOGUE])


def machine() -> Machine:
    """Return cores, memory, disk and GPU."""
    gpu, gpu_free = _gpu()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cores=_usable_cores(),
        cores_in_machine=os.cpu_count(),
        memory_total=sizing.total_memory(),
        memory_free=sizing.available_memory(),
        disk_free=shutil.disk_usage(Path.cwd()).free,
        gpu=gpu,
        gpu_free=gpu_free,
    )


def _usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the cores this process may use: its CPU affinity, or its container's quota if less."""
    cores = len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else os.cpu_count()
    if quota.is_file():
        limit, period = quota.read_text(encoding="ascii").split()
        if limit != "max":
            cores = min(cores, max(1, int(limit) // int(period)))
    return cores


def _gpu() -> tuple[str, int]:
    """Return (description, bytes free). torch takes seconds to import: only if a GPU is likely."""
    driver = shutil.which("nvidia-smi") or Path("/dev/kfd").exists()
    if not driver and sys.platform != "darwin":
        return "none found", 0
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return f"{torch.cuda.get_device_name()}, {sizing.gigabytes(total)}", free
    if torch.backends.mps.is_available():
        return "Apple GPU, shares the machine's memory", 0
    if driver:
        cure = "; python start.py --cuda" if "+cpu" in torch.__version__ else ""
        return f"a driver is here, but torch {torch.__version__} cannot use it{cure}", 0
    return "none found", 0


def packages(pins: Path = PINS) -> list[Package]:
    """Return the packages the course needs, each with its pin and the command that repairs it."""
    pinned = read_pins(pins)
    result = []
    for name in NEEDED:
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = ""
        pin = pinned.get(name, "")
        same = installed and (not pin or installed.split("+")[0] == pin.split("+")[0])
        fix = "" if same else f"pip install -c {pins.name} {name}"
        result.append(Package(name, installed, pin, fix))
    return result


def read_pins(path: Path) -> dict[str, str]:
    """Return the `name==version` lines of a constraints file as {name: version}; {} if no file."""
    if not path.is_file():
        return {}
    lines = (
        line.split("#")[0].split(";")[0] for line in path.read_text(encoding="utf-8").splitlines()
    )
    pairs = (line.split("==") for line in lines if "==" in line)
    return {name.strip().lower().replace("_", "-"): version.strip() for name, version in pairs}


def ollama(timeout: float = 0.5) -> str:
    """Return whether Ollama responds, and what to do if not; contacts a loopback address only."""
    try:
        address = ollama_address(os.environ.get("OLLAMA_HOST", ""))
    except ValueError as error:
        return f"OLLAMA_HOST cannot be read: {error}"
    if address is None:
        return "OLLAMA_HOST names another machine; it was not contacted"
    # without proxies: a loopback address is never theirs to answer
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}/api/version", timeout=timeout) as answer:
            return f"answers, version {json.load(answer)['version']}"
    except (OSError, ValueError, KeyError):
        if shutil.which("ollama"):
            return "installed, but does not answer: run `ollama serve`"
        return "not installed; optional here. To get it: https://ollama.com/download"


def ollama_address(host: str) -> str | None:
    """Return the URL of `OLLAMA_HOST` if it is on this machine; None if it is another machine.

    "localhost" becomes 127.0.0.1, so that no name is looked up. Raises ValueError for a value that
    is no address.
    """
    address = ollama_host.address(host)
    if not ollama_host.is_loopback(address):
        return None
    parts = urlsplit(address)
    if parts.hostname == "localhost":
        return ollama_host.join(parts.scheme, "127.0.0.1", parts.port) + parts.path
    return address


def miniatures() -> list[str]:
    """Return the names of the miniatures in models/, sorted."""
    folder = paths.shipped_dir(MINIATURE).parent
    return sorted(config.parent.name for config in folder.glob("*/config.json"))


def runs(id: str, here: Machine) -> Runs:
    """Return whether a model of the catalogue runs on this machine: in bf16, in 4 bits, or not.

    In bf16, transformers needs the whole model on the GPU, or in memory if there is no GPU. In 4
    bits, Ollama can split the model between both.
    """
    model = catalog.get(id)
    bf16 = sizing.fits(model.parameters, "bfloat16", available=here.gpu_free or here.memory_free)
    q4 = sizing.fits(model.parameters, "q4_k_m", available=here.gpu_free + here.memory_free)
    needed, available, needed_q4 = map(sizing.gigabytes, (bf16.needed, bf16.available, q4.needed))
    if bf16:
        verdict, reason = "yes, bf16", f"needs {needed} of {available}"
    elif q4:
        tag = f"; ollama run {model.ollama_tag}" if model.ollama_tag else ""
        verdict = "yes, 4 bits"
        reason = f"bf16 needs {needed} of {available}, 4 bits need {needed_q4}{tag}"
    else:
        verdict = "no"
        reason = f"4 bits need {needed_q4}, there is {sizing.gigabytes(q4.available)}"
    return Runs(
        id,
        model.parameters,
        sizing.weight_bytes(model.parameters, "bfloat16"),
        sizing.weight_bytes(model.parameters, "q4_k_m"),
        verdict,
        reason,
    )


class Table:
    """A report to look at: aligned text in a terminal, HTML in a notebook."""

    def __init__(self, report: Report):
        self.sections = _sections(report)

    def __repr__(self) -> str:
        return "\n\n".join(tables.as_text(rows, title) for title, rows in self.sections)

    def _repr_html_(self) -> str:
        return "".join(tables.as_html(rows, title) for title, rows in self.sections)


def table() -> Table:
    """Return a table of this machine: the last line of a notebook cell."""
    return Table(report())


def _sections(report: Report) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Return (title, rows) pairs; the first row of each is its header."""
    here, gb = report.machine, sizing.gigabytes
    machine_rows = [
        ("what", "here"),
        ("system", f"{here.system}, Python {here.python}"),
        ("cores", f"{here.cores} of {here.cores_in_machine}"),
        ("memory", f"{gb(here.memory_free)} free of {gb(here.memory_total)}"),
        ("disk", f"{gb(here.disk_free)} free"),
        ("GPU", here.gpu),
        ("Ollama", report.ollama),
    ]
    package_rows = [("package", "installed", "pinned", "to do")]
    for p in report.packages:
        package_rows.append((p.name, p.installed or "missing", p.pinned or "any", p.fix or "–"))
    model_rows = [("model", "parameters", "bf16", "4 bits", "runs here?", "why")]
    for name in report.miniatures:
        model_rows.append((name, "miniature", "–", "–", "yes", "ships with the course"))
    for m in report.models:
        billions = f"{m.parameters / 1e9:,.1f} B"
        model_rows.append((m.name, billions, gb(m.bf16), gb(m.q4), m.verdict, m.reason))
    sections = [
        ("Machine", machine_rows),
        ("Packages", package_rows),
        ("Models (needed: weights × 1.1 + 0.5 GB)", model_rows),
    ]
    if report.broken:
        sections.append(
            (
                "Broken",
                [("what, and how to repair it",), *((problem,) for problem in report.broken)],
            )
        )
    return sections


def main() -> int:
    """Print the report; 1 if something keeps the course from running, else 0."""
    if hasattr(sys.stdout, "reconfigure"):  # a pipe may be cp1252
        sys.stdout.reconfigure(errors="replace")
    examined = report()
    print(Table(examined))
    return 1 if examined.broken else 0


if __name__ == "__main__":
    sys.exit(main())
