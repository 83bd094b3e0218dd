"""Choose the model that reads the notebooks' pictures or sounds: one string, one client.

client, MODEL = connect_model("vision")  # OPENMODELS_MODEL, else mini-qwen-vl
client.chat(MODEL, [{"role": "user", "content": "How many flags?", "images": [png]}])
"""

import os
from pathlib import Path

import ollama

from openmodels import paths
from openmodels.serving import model_sources
from openmodels.serving.connect import connect, describe, ollama_client, shared

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
        return _converted(name, model_sources.snapshot(name), capability)
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
    server = shared()
    print(f"{name} on {describe(server)}")
    return ollama_client(server)


def _pulled(tag: str, capability: str) -> tuple[ollama.Client, str]:
    """Return a real Ollama's client and the tag of a model that it has and that fits."""
    model_sources.refuse_tag_unless_fits(tag)
    client = connect()
    shown = model_sources.show_pulled(client, tag)
    if capability not in (shown.capabilities or []):
        able = ", ".join(shown.capabilities or ["none listed"])
        raise ValueError(f"{tag!r} has no {capability}; its capabilities: {able}")
    print(f"{tag}: {shown.details.parameter_size} parameters, {shown.details.quantization_level}")
    return client, tag


def _converted(name: str, folder: Path, capability: str) -> tuple[ollama.Client, str]:
    """Return the stand-in's client and the name under which it serves a folder's model."""
    if getattr(model_sources.read_config(folder), ENCODERS[capability], None) is None:
        raise ValueError(f"{name!r} has no {capability}: its config has no {ENCODERS[capability]}")
    model_sources.refuse_folder_unless_fits(name, folder)
    client = _stand_in(name)
    stored, size = model_sources.serve_folder(client, name, folder)
    print(f"{name}: {size}, served as {stored}")
    return client, stored
