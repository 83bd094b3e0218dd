"""llama.cpp as a Python object: it loads a GGUF file and serves it on a port of this machine.

xllamacpp runs llama.cpp's own server on threads of this process, listening on 127.0.0.1 only.
`Engine` starts it, sends it requests and stops it; every response comes from llama.cpp.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from openmodels.gguf.header import read

HOST = "127.0.0.1"
SMALL_FILE = 100 * 2**20  # bytes; one thread runs smaller files fastest
# llama.cpp closes a connection after a stream, so the next request on it would fail. An idle
# connection also occupies one of its threads.
NO_KEEPALIVE = httpx.Limits(max_connections=None, max_keepalive_connections=0)
QUIET, ERRORS_ONLY = -1, 1  # levels of llama.cpp's log
LOG_SECONDS = 20  # limit for the second attempt at a file that did not load
MAX_REASON = 300  # characters of a log line
_loading = threading.Lock()  # loading uses every core, so files load one after another

# Runs in a child process: load the files again, this time with the log on.
_LOAD_WITH_LOG = """
import json, sys, time
import xllamacpp
request = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path, params.mmproj.path = request["file"], request["mmproj"]
params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(request["adapter"], 1.0)] * bool(
    request["adapter"]
)
params.n_ctx, params.n_parallel = request["n_ctx"], request["n_parallel"]
params.api_keys, params.warmup, params.verbosity = [request["token"]], False, request["verbosity"]
try:
    xllamacpp.Server(params)
except RuntimeError:
    time.sleep(0.5)  # llama.cpp writes its log from a thread of its own
"""
_ERROR_LINE = re.compile(r"^[\d.]+ E (?P<text>.+)$", re.MULTILINE)
_SOURCE = re.compile(r"^(\w+ +)?\w+: ")  # the function, sometimes after its component
# Lines that only pass on an error which an earlier line explains.
_CONSEQUENCE = re.compile(
    r"failed to (load|read|create|get|apply lora adapter: failed)|exiting due to", re.IGNORECASE
)


class EngineError(RuntimeError):
    """llama.cpp rejected a request or a file. `status`: the HTTP status of its response."""

    def __init__(self, message: str, status: int = 500):
        super().__init__(message)
        self.status = status


class Engine:
    """A loaded model: `with Engine(file) as engine: engine.complete("2 + 2 =")`.

    file: a GGUF file. mmproj: the GGUF file of its vision tower, for a model that reads pictures.
    context: tokens per slot. slots: sequences generated in one batch. threads: CPU threads; the
    default is `threads_for(file)` for decoding and all cores for prompts. embedding: the engine
    returns vectors instead of generating text. exact: attention and KV cache in float32, for
    comparisons with transformers. adapter: a LoRA in GGUF.

    The port answers only requests that carry `headers`, a random token; `/health` is open.
    Raises FileNotFoundError for a missing file, and EngineError with llama.cpp's reason for a file
    that does not load.
    """

    def __init__(self, file: Path | str, mmproj: Path | str | None = None, *, context: int = 1024,
                 slots: int = 1, threads: int | None = None, embedding: bool = False,
                 exact: bool = False, adapter: Path | str | None = None):  # fmt: skip
        import xllamacpp

        for path in (file, mmproj, adapter):
            if path is not None and not Path(path).is_file():
                raise FileNotFoundError(f"no file {path}")
        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx, params.n_parallel = context * slots, slots
        params.cpuparams.n_threads = threads or threads_for(file)
        params.cpuparams_batch.n_threads = threads or core_count()
        params.warmup = False
        params.verbosity = QUIET
        if mmproj is not None:
            params.mmproj.path = str(mmproj)
        if adapter is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
        if exact:
            off = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
            params.flash_attn_type = off
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        _set_cache(params, embedding and _pooling(Path(file)))
        self.file, self.slots, self.context = Path(file), slots, context
        self.token = secrets.token_urlsafe(32)
        _close_to_others(params, self.token)
        with _loading:
            try:
                self._server = xllamacpp.Server(params)
            except Exception as error:
                reason = _reason(params, adapter) or str(error)
                raise EngineError(f"llama.cpp does not load {self.file.name}: {reason}") from error
        self.address = self._server.listening_address
        self._client = httpx.Client(
            base_url=self.address,
            headers=self.headers,
            timeout=None,
            trust_env=False,
            limits=NO_KEEPALIVE,
        )

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that a request to `address` needs."""
        return {"Authorization": f"Bearer {self.token}"}

    def close(self) -> None:
        """Stop the server and free its memory. A second call does nothing."""
        self._client.close()
        self._server = None

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return llama.cpp's response to a request at `path`. Raises EngineError."""
        response = self._client.post(path, json=body)
        if response.status_code != 200:
            raise EngineError(problem(response.content)[0], response.status_code)
        return response.json()

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the response in chunks as they are generated. Leaving the loop frees the slot.

        Raises EngineError.
        """
        with self._client.stream("POST", path, json=body | {"stream": True}) as response:
            if response.status_code != 200:
                raise EngineError(problem(response.read())[0], response.status_code)
            for line in response.iter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                data = line.removeprefix("data: ")
                chunk = json.loads(data)
                if "error" in chunk:
                    raise EngineError(problem(data.encode())[0])
                yield chunk

    def complete(self, prompt: str | Sequence[int], **options: Any) -> dict[str, Any]:
        """Continue a text or token ids. Raises EngineError.

        options: fields of llama.cpp's `/completion`, such as n_predict and temperature.
        """
        return self.post("/completion", {"prompt": prompt, **options})

    def chat(self, messages: Sequence[dict], **options: Any) -> dict[str, Any]:
        """Answer messages, using the model's chat template. Raises EngineError.

        options: fields of OpenAI's chat completions, and llama.cpp's own.
        """
        return self.post("/v1/chat/completions", {"messages": list(messages), **options})

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector of length 1 per text, each of hidden_size floats.

        A vector does not depend on the other texts. Raises EngineError if the engine was not
        started with `embedding`, or if a text has more tokens than `context`.
        """
        response = self.post("/v1/embeddings", {"input": list(texts)})
        return [row["embedding"] for row in response["data"]]

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text; special tokens in it are recognised."""
        return self.post("/tokenize", {"content": text, "parse_special": True})["tokens"]


def _pooling(file: Path) -> str:
    """Return how llama.cpp makes a vector: as the file says ("UNSPECIFIED" here), else "MEAN"."""
    try:
        header = read(file)
    except ValueError:  # llama.cpp says what is wrong with the file
        return "MEAN"
    return "UNSPECIFIED" if header.makes_vectors else "MEAN"


def _set_cache(params: Any, pooling: str | bool) -> None:
    """Set the KV cache: a part per slot for generation, one shared part for embeddings.

    pooling: the end of llama.cpp's name of a pooling type, for embeddings; False for generation.
    With separate parts llama.cpp splits a batch of texts of unequal length, and pools each
    vector over only the last piece of its text. n_ubatch = n_ctx keeps every text in one piece.
    """
    params.kv_unified = bool(pooling)
    if pooling:
        import xllamacpp

        params.embedding = True
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling}")
        params.kv_unified_per_slot = params.n_ctx // params.n_parallel
        params.n_batch = params.n_ubatch = params.n_ctx


def _close_to_others(params: Any, token: str) -> None:
    """Let only holders of the token use the port, and no web page read from it."""
    params.hostnames = [HOST]
    params.api_keys = [token]
    params.endpoint_metrics = True  # GET /metrics: tokens, passes, busy slots
    params.endpoint_slots = False  # it would show other users' prompts
    params.ui = False
    # an empty origin matches no page; llama.cpp's default repeats whatever origin asks
    params.cors_origins, params.cors_origins_explicit = "", True
    params.cors_credentials = False


def _reason(params: Any, adapter: Path | str | None) -> str | None:
    """Return the log line that says why llama.cpp did not load the files, None if it is silent.

    llama.cpp has one log for the whole process, written to stderr, where other engines' lines and
    a notebook's output would mix with it. A child process has a log of its own.
    """
    request = {
        "file": params.model.path,
        "mmproj": params.mmproj.path,
        "adapter": str(adapter) if adapter else "",
        "n_ctx": params.n_ctx,
        "n_parallel": params.n_parallel,
        "token": secrets.token_urlsafe(32),
        "verbosity": ERRORS_ONLY,
    }
    try:
        child = subprocess.run(
            [sys.executable, "-c", _LOAD_WITH_LOG],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=LOG_SECONDS,
        )
    except OSError:
        return None
    except subprocess.TimeoutExpired as error:
        log = error.stderr or b""
    else:
        log = child.stderr
    return last_error(log.decode("utf-8", errors="replace"))


def last_error(log: str) -> str | None:
    """Return the last line of llama.cpp's log that names a cause, without its source.

    Example: last_error("0.1 E load: error loading model: bad magic\\n0.2 E init: exiting due to
    model loading error") -> "bad magic". None if the log has no error.
    """
    errors = [_SOURCE.sub("", match["text"]) for match in _ERROR_LINE.finditer(log)]
    causes = [error for error in errors if not _CONSEQUENCE.search(error)]
    if not errors:
        return None
    cause = (causes[-1] if causes else errors[0]).strip()
    return re.sub(r"^(error loading model[^:]*: )+", "", cause)[:MAX_REASON]


def core_count() -> int:
    """Return how many threads an engine may use: $OPENMODELS_THREADS, else one per core."""
    chosen = os.environ.get("OPENMODELS_THREADS", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) else os.cpu_count() or 1


def threads_for(file: Path | str) -> int:
    """Return the number of threads for one sequence: one for a small file, else one per core.

    A miniature's decoding step is shorter than the time in which two threads synchronise: on two
    cores mini-qwen in F16 generated 2,619 tokens/s with one thread and 795 with two. Eight
    sequences in eight slots gain from the second thread: 2,568 and 3,589 tokens/s on a quiet
    machine (2,361 and 1,456 when another process used one core).
    """
    return 1 if Path(file).stat().st_size < SMALL_FILE else core_count()


def problem(content: bytes) -> tuple[str, str | None]:
    """Return the message and the type of an error in a response body of llama.cpp."""
    try:
        error = json.loads(content)["error"]
        if isinstance(error, dict):
            return str(error["message"]), error.get("type")
        return str(error), None
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:500] or "no answer", None
