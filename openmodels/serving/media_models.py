"""Choose the model that reads the notebooks' pictures or sounds: one string, one client.

client, MODEL = connect_model("vision")  # OPENMODELS_MODEL, else mini-qwen-vl
client.chat(MODEL, [{"role": "user", "content": "How many flags?", "images": [png]}])
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import ollama
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from openmodels import catalog, loading, ollama_host, paths, sizing
from openmodels.serving.connect import connect, shared
from openmodels.serving.model_store import FOLDER

MINIATURES = {"vision": "mini-qwen-vl", "audio": "mini-qwen-audio"}
ENCODERS = {"vision": "vision_config", "audio": "audio_config"}


def connect_model(capability: str, name: str | None = None) -> tuple[ollama.Client, str]:
    """Return a client and the name of a model with a capability, and print which model it is.

    capability: "vision" or "audio". name: a miniature; "ollama:tag", a model that a real Ollama
    has pulled; "hf:org/name", a snapshot in the hub's cache; or a folder in the standard layout.
    The last two are converted to GGUF and served by the stand-in, and may need twice their size on
    disk. By default OPENMODELS_MODEL; if the model it names has no such capability, and by default,
    the course's miniature.

    Raises ValueError for another capability or a name that cannot be served, `loading.DoesNotFit`
    with the sizes before anything is loaded, `loading.NotDownloaded` if the weights are missing,
    and ConnectionError if no Ollama answers.
    """
    if capability not in MINIATURES:
        raise ValueError(f"no capability {capability!r}; there are {', '.join(MINIATURES)}")
    name = name or _requested(capability) or MINIATURES[capability]
    if name.startswith(("http://", "https://")):
        raise ValueError(
            f"{name!r}: these cells use Ollama's interface. Give ollama:tag and set OLLAMA_HOST "
            "for a server elsewhere; an OpenAI-compatible server is reached with the openai client."
        )
    if name.startswith("ollama:"):
        return _pulled(name.removeprefix("ollama:"), capability)
    if name.startswith("hf:"):
        return _converted(name, _snapshot(name), capability)
    if (Path(name).expanduser() / "config.json").is_file():
        return _converted(name, Path(name).expanduser(), capability)
    return _miniature(name, capability)


def _requested(capability: str) -> str | None:
    """Return OPENMODELS_MODEL unless it names a miniature without the capability."""
    name = os.environ.get("OPENMODELS_MODEL")
    if name and name.startswith("mini-") and not _has_encoder(name, capability):
        print(f"{name} has no {capability}: the miniature {MINIATURES[capability]} is used")
        return None
    return name


def _has_encoder(name: str, capability: str) -> bool:
    config = paths.shipped_dir(name) / "config.json"
    return config.is_file() and f'"{ENCODERS[capability]}"' in config.read_text(encoding="utf-8")


def _miniature(name: str, capability: str) -> tuple[ollama.Client, str]:
    """Return the stand-in's client and a miniature's name; ValueError for any other name."""
    if not _has_encoder(name, capability):
        able = [
            folder.name
            for folder in sorted(paths.shipped_dir(name).parent.glob("mini-*"))
            if _has_encoder(folder.name, capability)
        ]
        raise ValueError(
            f"no model {name!r} with {capability}. Miniatures with it: {', '.join(able)}; other "
            "models: ollama:tag, hf:org/name or a folder."
        )
    return _stand_in(name), name


def _stand_in(name: str) -> ollama.Client:
    """Return a client of the stand-in, and print that it serves the model."""
    address = shared().address
    print(f"{name} on the course's stand-in for Ollama at {address}")
    return ollama.Client(host=address, trust_env=False)


def _pulled(tag: str, capability: str) -> tuple[ollama.Client, str]:
    """Return a real Ollama's client and the tag of a model that it has and that fits."""
    row = next((m for m in catalog.models() if m.ollama_tag and m.ollama_tag == tag), None)
    host = ollama_host.clean(os.environ.get("OLLAMA_HOST"))
    if row and row.parameters and (not host or is_local(ollama_host.address(host))):
        refuse_unless_fits(f"ollama:{tag}", row.parameters, "q4_k_m")
    client = connect()
    try:
        shown = client.show(tag)
    except ollama.ResponseError as error:
        size = f" (about {row.ollama_GB:g} GB)" if row and row.ollama_GB else ""
        raise loading.NotDownloaded(
            f"the server that answers has no {tag!r}: run `ollama pull {tag}`{size} with a real "
            f"Ollama running, then this cell again. The server said: {error.error}"
        ) from error
    except httpx.HTTPError as error:
        raise ConnectionError(f"the server stopped answering: {error}") from error
    if capability not in (shown.capabilities or []):
        able = ", ".join(shown.capabilities or ["none listed"])
        raise ValueError(f"{tag!r} has no {capability}; its capabilities: {able}")
    print(f"{tag}: {shown.details.parameter_size} parameters, {shown.details.quantization_level}")
    return client, tag


def is_local(address: str) -> bool:
    """Return whether an address is this machine's own."""
    return urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1", "0.0.0.0")


def refuse_unless_fits(name: str, parameters: int, kind: str) -> None:
    """Raise `loading.DoesNotFit`, with the sizes, if a model does not fit in this machine's memory.

    parameters: their number. kind: how they are stored, as for `sizing.weight_bytes`.
    """
    fit = sizing.fits(parameters, kind)
    if not fit:
        raise loading.DoesNotFit(
            f"{name} does not fit here: {parameters / 1e9:.1f} B parameters as {kind} need "
            f"{sizing.gigabytes(fit.needed)} with room to work, and "
            f"{sizing.gigabytes(fit.available)} is available. The miniatures run the same cells: "
            "start without OPENMODELS_MODEL.",
            fit.needed,
            fit.available,
        )


def _snapshot(name: str) -> Path:
    """Return the folder of a hub model in the cache, after its size is checked."""
    repo = name.removeprefix("hf:")
    if repo.count("/") != 1:
        raise ValueError(f"{name!r}: a hub model is written hf:org/name")
    row = next(iter(catalog.find(hf_repo_id=repo)), None)
    if row and row.parameters:
        refuse_unless_fits(name, row.parameters, "float16")
    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except LocalEntryNotFoundError as error:
        size = sizing.weight_bytes(row.parameters) if row and row.parameters else None
        about = f"  (about {sizing.gigabytes(size)})" if size else ""
        raise loading.NotDownloaded(
            f"{repo} is not in {constants.HF_HUB_CACHE}. With network: hf download {repo}{about}"
        ) from error


def _converted(name: str, folder: Path, capability: str) -> tuple[ollama.Client, str]:
    """Return the stand-in's client and the name under which it serves a folder's model."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if getattr(config, ENCODERS[capability], None) is None:
        raise ValueError(f"{name!r} has no {capability}: its config has no {ENCODERS[capability]}")
    parameters = sizing.parameters(config)
    refuse_unless_fits(name, parameters, "float16")
    stored = "local/" + name.removeprefix("hf:").strip("/").split("/")[-1].lower()
    client = _stand_in(name)
    files = {
        path.name: client.create_blob(path)
        for path in sorted(folder.iterdir())
        if FOLDER.fullmatch(path.name)
    }
    client.create(stored, files=files)
    print(f"{name}: {parameters / 1e9:.2g} B parameters, served as {stored}")
    return client, stored
