"""Turn one string into an OpenAI client and the name of a model: a notebook's model is a setting.

client, MODEL = openmodels.client()  # OPENMODELS_MODEL, else the course's miniature
client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
"""

import os
from pathlib import Path
from urllib.parse import SplitResult, urldefrag, urlsplit

import openai

from openmodels import ollama_host
from openmodels.serving import connect, model_sources
from openmodels.serving.model_store import miniatures

PREFERRED = ("mini-qwen-agent", "mini-qwen")  # the default is the first that has weights
CONNECT_SECONDS, READ_SECONDS = 5.0, 120.0
LIST_SECONDS = 10.0  # limit for an endpoint's list of models
SHOWN = 8  # models that a message lists
FORMS = (
    "a miniature (mini-qwen), ollama:tag, http://host:port/v1#model, hf:org/name or a folder with "
    "a config.json"
)


def client(model: str | None = None) -> tuple[openai.OpenAI, str]:
    """Return an OpenAI client and the name of the model that it serves, and print which and where.

    model: by default OPENMODELS_MODEL, else mini-qwen-agent if it has weights, else mini-qwen.
    - a miniature's name: served by the stand-in, or by the server that `OLLAMA_HOST` names if that
      server has the miniature.
    - "ollama:tag": a model of the Ollama that responds, as for `connect`.
    - "http://host:port/v1#model": any OpenAI-compatible endpoint. "#model" may be left out if the
      endpoint lists one model. The API key is `OPENAI_API_KEY`, else "none".
    - "hf:org/name", a snapshot in the hub's cache, or the path of a folder in the standard layout:
      converted to GGUF and served by the stand-in, which may need twice its size on disk.

    The client waits 5 s for a connection and 120 s for data, ignores proxies for this machine's
    own addresses, and never retries: an error appears at once, and every request counts once.

    Raises ValueError for a name that stands for no model, `loading.DoesNotFit` with the sizes
    before anything is loaded, `loading.NotDownloaded` if the weights are missing, ConnectionError
    if a server does not respond, and PermissionError if an endpoint wants another API key.
    """
    setting = os.environ.get("OPENMODELS_MODEL", "").strip()
    name = model or setting or default_model()
    reason = "" if model else "OPENMODELS_MODEL names it" if setting else "the default"
    if name.startswith(("http://", "https://")):
        return _endpoint(name, reason)
    if name.startswith("ollama:"):
        return _pulled(name.removeprefix("ollama:"), reason)
    if name.startswith("hf:"):
        return _converted(name, model_sources.snapshot(name), reason)
    if name in miniatures():
        return _miniature(name, reason)
    if (Path(name).expanduser() / "config.json").is_file():
        return _converted(name, Path(name).expanduser(), reason)
    raise ValueError(f"no model {name!r}. Give {FORMS}. Miniatures here: {', '.join(miniatures())}")


def async_client(client: openai.OpenAI) -> openai.AsyncOpenAI:
    """Return an asynchronous client of the same server, with the same key and time limits."""
    url = str(client.base_url)
    return openai.AsyncOpenAI(
        base_url=url,
        api_key=client.api_key,
        timeout=client.timeout,
        max_retries=client.max_retries,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=not model_sources.is_local(url)),
    )


def default_model() -> str:
    """Return the first of PREFERRED that has weights, else mini-qwen."""
    return next((name for name in PREFERRED if name in miniatures()), PREFERRED[-1])


def _connected(url: str, api_key: str = "none") -> openai.OpenAI:
    """Return a client of an endpoint, such as "http://127.0.0.1:8000/v1"."""
    return openai.OpenAI(
        base_url=url,
        api_key=api_key,
        timeout=openai.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=not model_sources.is_local(url)),
    )


def _report(name: str, place: str, *reasons: str) -> None:
    """Print one line: the model, the server, and why."""
    text = "; ".join(filter(None, reasons))
    print(f"{name} on {place}" + (f": {text}" if text else ""))


# --- Ollama's servers -----------------------------------------------------------------------------


def _miniature(name: str, reason: str) -> tuple[openai.OpenAI, str]:
    """Return a client of the server that has a miniature: the stand-in always does."""
    note = ""
    if ollama_host.clean(os.environ.get("OLLAMA_HOST")):
        server, _ = connect.find_server()
        if name in _model_names(_connected(f"{server.address}/v1")):
            _report(name, connect.describe(server), reason, "OLLAMA_HOST names this server")
            return _connected(f"{server.address}/v1"), name
        note = f"{server.address} does not have it"
    server = connect.shared()
    _report(name, connect.describe(server), reason, note)
    return _connected(f"{server.address}/v1"), name


def _pulled(tag: str, reason: str) -> tuple[openai.OpenAI, str]:
    """Return a client of the Ollama that responds, and the tag of a model that it has."""
    if not tag:
        raise ValueError("'ollama:' names no model; write ollama:tag, such as ollama:qwen2.5:0.5b")
    model_sources.refuse_tag_unless_fits(tag)
    server, why = connect.find_server()
    model_sources.show_pulled(connect.ollama_client(server), tag)
    _report(tag, connect.describe(server), reason, why)
    return _connected(f"{server.address}/v1"), tag


def _converted(name: str, folder: Path, reason: str) -> tuple[openai.OpenAI, str]:
    """Return a client of the stand-in, and the name under which it serves a folder's model."""
    model_sources.refuse_folder_unless_fits(name, folder)
    server = connect.shared()
    stored, size = model_sources.serve_folder(connect.ollama_client(server), name, folder)
    _report(name, connect.describe(server), reason, f"{size}, served as {stored}")
    return _connected(f"{server.address}/v1"), stored


# --- OpenAI-compatible endpoints ------------------------------------------------------------------


def _endpoint(string: str, reason: str) -> tuple[openai.OpenAI, str]:
    """Return a client of an endpoint, and the model that the string or the endpoint names."""
    url, model = urldefrag(string)
    parts = _checked_parts(url)
    url = url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
    client = _connected(url, os.environ.get("OPENAI_API_KEY") or "none")
    names = _model_names(client)
    if not model and len(names) != 1:
        known = f"it lists {_shown(names)}" if names else "it lists no models"
        raise ValueError(f"{url} does not determine the model: {known}. Write {url}#model")
    model = model or names[0]
    unlisted = names and model not in names
    note = f"the endpoint lists {_shown(names)} instead" if unlisted else ""
    _report(model, url, reason, note)
    return client, model


def _checked_parts(url: str) -> SplitResult:
    """Return the parts of an endpoint's address; raises ValueError for a malformed one."""
    example = "an endpoint is written http://host:port/v1#model"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is no address ({error}); {example}") from None
    if not parts.hostname or port == 0 or parts.query:
        raise ValueError(f"{url!r} is no address of an endpoint; {example}")
    if "@" in parts.netloc:
        raise ValueError("an endpoint's address must hold no password: set OPENAI_API_KEY instead")
    return parts


def _model_names(client: openai.OpenAI) -> list[str]:
    """Return the models that an endpoint lists, [] if it has no such list.

    Raises ConnectionError if it does not respond or fails, and PermissionError if it refuses the
    API key.
    """
    url = str(client.base_url).rstrip("/")
    try:
        page = client.with_options(timeout=LIST_SECONDS).models.list()
        return [entry.id for entry in page.data]
    except openai.APITimeoutError as error:
        raise ConnectionError(f"{url} does not answer within {LIST_SECONDS:.0f} s") from error
    except openai.APIConnectionError as error:
        raise ConnectionError(
            f"{url} does not answer: start the server, or check host and port"
        ) from error
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise PermissionError(
            f"{url} refuses the API key (status {error.status_code}): set OPENAI_API_KEY to a key "
            "of this endpoint"
        ) from error
    except (openai.NotFoundError, openai.APIResponseValidationError):
        return []
    except openai.APIStatusError as error:
        raise ConnectionError(f"{url} fails with status {error.status_code}") from error
    except (AttributeError, TypeError, ValueError) as error:  # a reply that is no list of models
        raise ConnectionError(
            f"{url} is no OpenAI-compatible endpoint: its list of models cannot be read"
        ) from error


def _shown(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
