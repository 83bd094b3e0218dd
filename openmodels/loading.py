"""One string chooses the model: a miniature's name, `hf:org/name`, or a local directory.

What this machine cannot hold is refused before anything is loaded or downloaded.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from openmodels import catalog, paths, sizing

DEFAULT = "mini-qwen"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


class Loaded(NamedTuple):
    """A model in evaluation mode and its tokenizer: `model, tokenizer = openmodels.load()`."""

    model: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase


class Device(NamedTuple):
    """Where to compute, in which number type, and one line that says why."""

    device: torch.device
    dtype: torch.dtype
    reason: str


class DoesNotFit(RuntimeError):
    """The model needs more memory than there is. Carries `needed_bytes` and `available_bytes`."""

    def __init__(self, message: str, needed_bytes: int, available_bytes: int):
        super().__init__(message)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


class NotDownloaded(OSError):
    """The model is not on this machine and the hub does not answer."""


def load(name: str | None = None) -> Loaded:
    """Load a model and its tokenizer, and print one line: which, how big, where and why.

    `name`: a miniature ("mini-qwen"), "hf:org/name", or the path of a directory in the standard
    layout. By default $OPENMODELS_MODEL, else "mini-qwen". Only safetensors are read, and no code
    that comes with a model is run. A miniature always computes in float32, so that its greedy
    answers are the ones the course shows.

    Raises ValueError for a name that cannot be loaded, DoesNotFit before loading what is too big,
    NotDownloaded for a hub model that is neither here nor reachable.
    """
    name = name or os.environ.get("OPENMODELS_MODEL") or DEFAULT
    if name.startswith(("ollama:", "http://", "https://")):
        raise ValueError(
            f"{name!r} is a model behind a server: it is reached by a client, not loaded into this "
            "process. The chapter on local deployment shows how; load() takes a miniature, "
            "hf:org/name or a directory."
        )
    if name.startswith("hf:"):
        return _load_from_hub(name)
    folder = _folder(name)
    is_miniature = folder.resolve().parent == _miniatures().resolve()
    return _load(name, str(folder), _count_stored(folder, name), is_miniature)


def device() -> Device:
    """Return the device and number type this machine is best at, with the reason in words.

    $OPENMODELS_DEVICE (cpu, cuda, cuda:1, mps) overrides the choice. Raises ValueError for a device
    that this machine does not have.
    """
    where, why = _where()
    dtype, why_dtype = _number_type(where)
    return _described(where, dtype, f"{why}; {why_dtype}")


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether Linux lists bfloat16 instructions for this CPU.

    They are AVX-512 or AMX on x86, bf16 on Arm.
    """
    if not cpuinfo.is_file():
        return False
    flags = set(cpuinfo.read_text(encoding="utf-8").split())
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def available_on(where: torch.device) -> int:
    """Return the bytes that are free for a model on this device."""
    if where.type == "cuda":
        return torch.cuda.mem_get_info(where)[0]
    if where.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return min(free, sizing.available_memory())
    return sizing.available_memory()


def _where() -> tuple[torch.device, str]:
    requested = os.environ.get("OPENMODELS_DEVICE")
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if requested:
        if not present.get(requested.split(":")[0], False):
            raise ValueError(
                f"OPENMODELS_DEVICE is {requested!r}, but torch {torch.__version__} finds only: "
                f"{', '.join(kind for kind, here in present.items() if here)}."
            )
        return torch.device(requested), "OPENMODELS_DEVICE asks for it"
    if present["cuda"]:
        return torch.device("cuda"), f"found {torch.cuda.get_device_name()}"
    if present["mps"]:
        return torch.device("mps"), "found an Apple GPU"
    return torch.device("cpu"), "no MPS device" if sys.platform == "darwin" else "no CUDA device"


def _number_type(where: torch.device) -> tuple[torch.dtype, str]:
    if where.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "this GPU computes in bfloat16"
        return torch.float16, "this GPU has no bfloat16"
    if where.type == "mps":
        if torch.backends.mps.is_macos_or_newer(14, 0):
            return torch.bfloat16, "macOS 14 and later compute in bfloat16 on the GPU"
        return torch.float16, "bfloat16 on the GPU needs macOS 14"
    if cpu_has_bfloat16():
        return torch.float32, "float32 gives the same greedy answers on every CPU"
    return torch.float32, "no bfloat16 instructions found on this CPU"


def _described(where: torch.device, dtype: torch.dtype, why: str) -> Device:
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' * (count > 1)}" if where.type == "cpu" else ""
    return Device(where, dtype, f"{where}{threads}, {_short(dtype)}: {why}")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _miniatures() -> Path:
    return paths.shipped_dir(DEFAULT).parent


def _folder(name: str) -> Path:
    """The directory a name stands for: a miniature first, else a path that holds a config.json."""
    known = sorted(path.parent.name for path in _miniatures().glob("*/config.json"))
    if name in known:
        return paths.shipped_dir(name)
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir():
        raise ValueError(f"{name!r} is a directory without a config.json: no model to load there.")
    close = difflib.get_close_matches(name, known, n=1)
    raise ValueError(
        f"no model {name!r}"
        + (f"; did you mean {close[0]!r}?" if close else ".")
        + f" Miniatures here: {', '.join(known) or 'none'}. From the hub: hf:org/name."
    )


def _count_stored(folder: Path, name: str) -> int:
    """Number of weights in a directory, read from the headers of its safetensors files."""
    missing = [path.name for path in _shards(folder) if not path.is_file()]
    if missing:
        raise ValueError(
            f"{name!r} has no {missing[0]}. Weights must be safetensors: a pickled file "
            "(.bin, .pt) can run code while it is read, so load() never opens one."
        )
    count = 0
    for path in _shards(folder):
        with path.open("rb") as file:
            # a safetensors file opens with the length of its JSON header, 8 bytes, little-endian
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        count += sum(math.prod(t["shape"]) for key, t in header.items() if key != "__metadata__")
    return count


def _shards(folder: Path) -> list[Path]:
    """The weight files a model directory should hold."""
    if not (folder / INDEX).is_file():
        return [folder / WEIGHTS]
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return [folder / shard for shard in sorted(set(index["weight_map"].values()))]


def _load_from_hub(name: str) -> Loaded:
    repo = name.removeprefix("hf:")
    if repo.count("/") != 1:
        raise ValueError(f"{name!r}: a hub model is written hf:org/name, e.g. hf:Qwen/Qwen2.5-0.5B")
    try:
        snapshot = Path(snapshot_download(repo, local_files_only=True))
    except LocalEntryNotFoundError:
        snapshot = None
    if snapshot and all(path.is_file() for path in _shards(snapshot)):
        return _load(name, repo, _count_stored(snapshot, name), local_files_only=True)
    if constants.is_offline_mode():
        raise NotDownloaded(_how_to_get(repo, "HF_HUB_OFFLINE is set"))
    print(f"{name}: not on this machine yet, asking the hub")
    try:
        with _no_custom_code(name):
            config = transformers.AutoConfig.from_pretrained(repo, trust_remote_code=False)
        return _load(name, repo, sizing.parameters(config))
    except OSError as error:
        if isinstance(error.__cause__, LocalEntryNotFoundError):
            raise NotDownloaded(_how_to_get(repo, "the hub does not answer")) from error
        raise


def _how_to_get(repo: str, why: str) -> str:
    row = next(iter(catalog.find(hf_repo_id=repo)), None)
    known = row is not None and row.parameters
    size = f"  (about {sizing.gigabytes(sizing.weight_bytes(row.parameters))})" if known else ""
    folder = "models--" + repo.replace("/", "--")
    cache = str(constants.HF_HUB_CACHE).replace(str(Path.home()), "~")
    return (
        f"{repo} is not on this machine, and {why}. Either\n"
        f"  1. on a machine with network: hf download {repo}{size}\n"
        f"  2. copy the folder {folder} from its ~/.cache/huggingface/hub\n"
        f"     into {cache} here, and run this cell again;\n"
        f'or stay offline with openmodels.load("{DEFAULT}").'
    )


def _load(
    name: str,
    target: str,
    n_parameters: int,
    is_miniature: bool = False,
    local_files_only: bool = False,
) -> Loaded:
    """Check the size, say what is about to happen, then let transformers load it."""
    chosen = _fitting(name, n_parameters, is_miniature)
    print(f"{name}: {_counted(n_parameters)} parameters on {chosen.reason}")
    options = {"local_files_only": local_files_only, "trust_remote_code": False}
    with _no_custom_code(name):
        config = transformers.AutoConfig.from_pretrained(target, **options)
        with _progress_bars(not is_miniature):
            model = sizing.model_class(config).from_pretrained(
                target, dtype=chosen.dtype, use_safetensors=True, **options
            )
        tokenizer = transformers.AutoTokenizer.from_pretrained(target, **options)
    return Loaded(model.to(chosen.device).eval(), tokenizer)


@contextmanager
def _no_custom_code(name: str) -> Iterator[None]:
    """Raise ValueError, in words, if transformers can load a model only by running its code."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{name!r} needs Python code that comes with the model, and load() never runs such "
            "code. Choose a model whose architecture transformers has: its config.json has no "
            "auto_map, or a model_type that transformers knows."
        ) from error


def _fitting(name: str, n_parameters: int, is_miniature: bool) -> Device:
    """The device and number type for a model of this size; DoesNotFit if there is none."""
    chosen = device()
    if is_miniature:
        why = f"{_where()[1]}; a miniature keeps to float32, as in the course's outputs"
        chosen = _described(chosen.device, torch.float32, why)
    available = available_on(chosen.device)
    if sizing.fits(n_parameters, _short(chosen.dtype), available=available):
        return chosen
    smallest = sizing.fits(n_parameters, "bfloat16", available=available)
    if smallest:
        wide = sizing.weight_bytes(n_parameters, "float32")
        why = f"{sizing.gigabytes(wide)} of float32 weights would not fit, half of that does"
        return _described(chosen.device, torch.bfloat16, why)
    quantised = sizing.fits(n_parameters, "q4_k_m", available=available)
    raise DoesNotFit(
        f"{name} does not fit on {chosen.device}: {_counted(n_parameters)} parameters in bfloat16 "
        f"need {sizing.gigabytes(smallest.needed)} with room to work, and "
        f"{sizing.gigabytes(available)} is available. What helps: a smaller model "
        "(`python -m openmodels.doctor` lists those that fit); shutting down other notebooks' "
        "kernels; or the model in 4 bits through Ollama, which needs "
        f"{sizing.gigabytes(quantised.needed)}{'' if quantised else ', too much here as well'}.",
        smallest.needed,
        available,
    )


def _counted(n_parameters: int) -> str:
    """494_032_768 -> "494.0 M", 72_706_203_648 -> "72.7 B"."""
    if n_parameters >= 1e9:
        return f"{n_parameters / 1e9:.1f} B"
    return f"{n_parameters / 1e6:.1f} M"


@contextmanager
def _progress_bars(visible: bool) -> Iterator[None]:
    """Hide transformers' progress bar for what loads in a moment, and put it back as it was."""
    log = transformers.utils.logging
    was_shown = log.is_progress_bar_enabled()
    if not visible:
        log.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            log.enable_progress_bar()
