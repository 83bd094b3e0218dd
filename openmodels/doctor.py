"""What this machine is and what it can run, with the reasons: `python -m openmodels.doctor`.

Nothing leaves the machine: the only request goes to Ollama on a loopback address.
"""

from __future__ import annotations

import ipaddress
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

from openmodels import catalog, paths, sizing, tables

PINS = Path(__file__).parents[1] / "constraints.txt"
NEEDED = (
    *("torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "numpy"),
    *("ollama", "jupyterlab", "ipywidgets", "matplotlib", "psutil"),
)
OLLAMA = "http://127.0.0.1:11434"
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
        """What keeps the course from running at all; empty on a healthy machine."""
        found = []
        if MINIATURE not in self.miniatures:
            found.append(
                f"models/{MINIATURE} is missing: the clone is not complete. "
                "Fix: git checkout -- models"
            )
        if self.machine.memory_free < sizing.WORKING_BYTES:
            found.append(
                f"only {sizing.gigabytes(self.machine.memory_free)} of memory is free, a miniature "
                f"needs {sizing.gigabytes(sizing.WORKING_BYTES)}. Fix: close other programs."
            )
        return found


def report() -> Report:
    """Examine this machine. Takes a second or two; builds no model."""
    here = machine()
    return Report(here, packages(), ollama(), miniatures(), [runs(id, here) for id in CATALOGUE])


def machine() -> Machine:
    """Cores, memory, disk and GPU."""
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
    """Cores this process may use: its CPU affinity, or its container's quota if that is less."""
    cores = len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else os.cpu_count()
    if quota.is_file():
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, max(1, int(limit) // int(period)))
    return cores


def _gpu() -> tuple[str, int]:
    """(what there is, bytes free). torch takes seconds to import: only where a GPU is likely."""
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
        return f"a driver is here, but torch {torch.__version__} cannot use it", 0
    return "none found", 0


def packages(pins: Path = PINS) -> list[Package]:
    """The packages the course needs, installed against pinned, with the command that mends each."""
    pinned = read_pins(pins)
    found = []
    for name in NEEDED:
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = ""
        wanted = pinned.get(name, "")
        same = installed and (not wanted or installed.split("+")[0] == wanted.split("+")[0])
        fix = "" if same else f"pip install -c {pins.name} {name}"
        found.append(Package(name, installed, wanted, fix))
    return found


def read_pins(path: Path) -> dict[str, str]:
    """The `name==version` lines of a constraints file as {name: version}; none if no file."""
    if not path.is_file():
        return {}
    lines = (line.split("#")[0].split(";")[0] for line in path.read_text().splitlines())
    pairs = (line.split("==") for line in lines if "==" in line)
    return {name.strip().lower().replace("_", "-"): version.strip() for name, version in pairs}


def ollama(timeout: float = 0.5) -> str:
    """Whether Ollama answers, and what to do if not. Only a loopback address is contacted."""
    address = ollama_address(os.environ.get("OLLAMA_HOST", ""))
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
    """The URL OLLAMA_HOST stands for, if it is on this machine; None if it is another machine.

    Ollama reads "", "127.0.0.1", ":11434", "localhost:8080" and "http://…"; a server told to listen
    on 0.0.0.0 is reached on 127.0.0.1.
    """
    if not host:
        return OLLAMA
    parts = urlsplit(host if "://" in host else f"http://{host}")
    name = parts.hostname or "127.0.0.1"
    if name in ("localhost", "0.0.0.0"):
        name = "127.0.0.1"
    try:
        if not ipaddress.ip_address(name).is_loopback:
            return None
    except ValueError:
        return None
    shown = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{shown}:{parts.port or 11434}"


def miniatures() -> list[str]:
    """Names of the miniatures in models/, sorted."""
    folder = paths.shipped_dir(MINIATURE).parent
    return sorted(config.parent.name for config in folder.glob("*/config.json"))


def runs(id: str, here: Machine) -> Runs:
    """Would this model of the catalogue run on this machine: in bf16, in 4 bits, or not?

    In bf16, transformers needs it whole on the GPU, or in memory where there is none. In 4 bits,
    Ollama may share it out between both.
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

    def __init__(self, found: Report):
        self.sections = _sections(found)

    def __repr__(self) -> str:
        return "\n\n".join(tables.as_text(rows, title) for title, rows in self.sections)

    def _repr_html_(self) -> str:
        return "".join(tables.as_html(rows, title) for title, rows in self.sections)


def table() -> Table:
    """Examine this machine and show it: the last line of a notebook cell."""
    return Table(report())


def _sections(found: Report) -> list[tuple[str, list[tuple[str, ...]]]]:
    """(title, rows) pairs; the first row of each is its header."""
    here, gb = found.machine, sizing.gigabytes
    machine_rows = [
        ("what", "here"),
        ("system", f"{here.system}, Python {here.python}"),
        ("cores", f"{here.cores} of {here.cores_in_machine}"),
        ("memory", f"{gb(here.memory_free)} free of {gb(here.memory_total)}"),
        ("disk", f"{gb(here.disk_free)} free"),
        ("GPU", here.gpu),
        ("Ollama", found.ollama),
    ]
    package_rows = [("package", "installed", "pinned", "to do")]
    for p in found.packages:
        package_rows.append((p.name, p.installed or "missing", p.pinned or "any", p.fix or "–"))
    model_rows = [("model", "parameters", "bf16", "4 bits", "runs here?", "why")]
    for name in found.miniatures:
        model_rows.append((name, "miniature", "–", "–", "yes", "ships with the course"))
    for m in found.models:
        billions = f"{m.parameters / 1e9:,.1f} B"
        model_rows.append((m.name, billions, gb(m.bf16), gb(m.q4), m.verdict, m.reason))
    sections = [
        ("Machine", machine_rows),
        ("Packages", package_rows),
        ("Models (needed: weights × 1.1 + 0.5 GB)", model_rows),
    ]
    if found.broken:
        sections.append(("Broken", [("what, and how to mend it",), *((b,) for b in found.broken)]))
    return sections


def main() -> int:
    """Print the report; 1 if something keeps the course from running, else 0."""
    found = report()
    print(Table(found))
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
