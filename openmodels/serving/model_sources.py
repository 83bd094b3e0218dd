"""Where a model that is no miniature comes from: a real Ollama, the hub's cache or a folder.

A model that does not fit in this machine's memory is refused before anything is loaded. A folder is
sent to the stand-in, which converts it to GGUF.
"""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import ollama
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import AutoConfig, PreTrainedConfig

from openmodels import catalog, loading, ollama_host, sizing
from openmodels.serving.model_store import FOLDER

STORED_AS = "float16"  # how the stand-in stores the weights of a folder


# --- What fits ------------------------------------------------------------------------------------


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


def refuse_tag_unless_fits(tag: str) -> None:
    """Raise `loading.DoesNotFit` if an Ollama of this machine cannot hold a model of the catalogue.

    An Ollama elsewhere has its own memory, so nothing is refused then.
    """
    row = _row_of_tag(tag)
    host = ollama_host.clean(os.environ.get("OLLAMA_HOST"))
    if row and row.parameters and (not host or is_local(ollama_host.address(host))):
        refuse_unless_fits(f"ollama:{tag}", row.parameters, "q4_k_m")


def refuse_folder_unless_fits(name: str, folder: Path) -> None:
    """Raise `loading.DoesNotFit` for a folder's model that is too large for this machine."""
    refuse_unless_fits(name, sizing.parameters(read_config(folder)), STORED_AS)


def is_local(address: str) -> bool:
    """Return whether an address is this machine's own."""
    return urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1", "0.0.0.0")


# --- A real Ollama --------------------------------------------------------------------------------


def show_pulled(client: ollama.Client, tag: str) -> ollama.ShowResponse:
    """Return a server's description of a model that it has.

    Raises `loading.NotDownloaded`, with the command that pulls the model, if the server lacks it,
    and ConnectionError if the server stops responding.
    """
    try:
        return client.show(tag)
    except ollama.ResponseError as error:
        row = _row_of_tag(tag)
        size = f" (about {row.ollama_GB:g} GB)" if row and row.ollama_GB else ""
        raise loading.NotDownloaded(
            f"the server that answers has no {tag!r}: run `ollama pull {tag}`{size} with a real "
            f"Ollama running, then this cell again. The server said: {error.error}"
        ) from error
    except httpx.HTTPError as error:
        raise ConnectionError(f"the server stopped answering: {error}") from error


def _row_of_tag(tag: str) -> catalog.Model | None:
    return next((row for row in catalog.models() if row.ollama_tag and row.ollama_tag == tag), None)


# --- The hub's cache and folders ------------------------------------------------------------------


def snapshot(name: str) -> Path:
    """Return the folder of a hub model, "hf:org/name", in the cache.

    Raises ValueError for another form, `loading.DoesNotFit` if the catalogue knows that it is too
    large, and `loading.NotDownloaded` if it is not in the cache.
    """
    repo = name.removeprefix("hf:")
    if repo.count("/") != 1:
        raise ValueError(f"{name!r}: a hub model is written hf:org/name")
    row = next(iter(catalog.find(hf_repo_id=repo)), None)
    if row and row.parameters:
        refuse_unless_fits(name, row.parameters, STORED_AS)
    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except LocalEntryNotFoundError as error:
        size = sizing.weight_bytes(row.parameters) if row and row.parameters else None
        about = f"  (about {sizing.gigabytes(size)})" if size else ""
        raise loading.NotDownloaded(
            f"{repo} is not in {constants.HF_HUB_CACHE}. With network: hf download {repo}{about}"
        ) from error


def read_config(folder: Path) -> PreTrainedConfig:
    """Return the config of a folder in the standard layout.

    Raises ValueError if the model needs code of its own, which is never run.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{folder.name} needs Python code that comes with the model, and the course never runs "
            "such code. Choose a model whose config.json has no auto_map."
        ) from error


def serve_folder(client: ollama.Client, name: str, folder: Path) -> tuple[str, str]:
    """Send a folder's model to the stand-in; return the name under which it is served, and a size.

    name: the model as the learner wrote it; its last part becomes the stored name. The size is
    text, such as "0.49 B parameters".

    Raises ValueError if the folder has no safetensors, or the stand-in cannot convert them.
    """
    files = [path for path in sorted(folder.iterdir()) if FOLDER.fullmatch(path.name)]
    if not any(path.suffix == ".safetensors" for path in files):
        raise ValueError(
            f"{name!r} has no model.safetensors. Weights must be safetensors: a pickled file "
            "(.bin, .pt) can run code while it is read."
        )
    last = re.split(r"[/\\]", name.removeprefix("hf:").strip("/\\"))[-1]
    stored = "local/" + re.sub(r"[^a-z0-9_.-]", "-", last.lower(), flags=re.ASCII).lstrip(".-")
    try:
        client.create(stored, files={path.name: client.create_blob(path) for path in files})
    except ollama.ResponseError as error:
        raise ValueError(
            f"the stand-in cannot serve {name!r}: {error.error}. Serve it with vLLM or a real "
            "Ollama, and give http://host:port/v1#model or ollama:tag."
        ) from error
    parameters = sizing.parameters(read_config(folder))
    return stored, f"{parameters / 1e9:.2g} B parameters"
