"""llama.cpp as a Python object: a GGUF file in, slots that write, a port on this machine.

The engine is xllamacpp: llama.cpp's own server, running on threads of this process and listening on
127.0.0.1 alone. `Engine` starts and stops it and asks it; everything it answers is llama.cpp's.
"""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

HOST = "127.0.0.1"
SMALL = 100 * 2**20  # bytes of a file that one thread runs fastest
# for llama.cpp's clients: it closes a connection after a stream, so that a kept one would fail the
# next request, and an idle one holds a thread of its
NONE_KEPT = httpx.Limits(max_connections=None, max_keepalive_connections=0)
_starting = threading.Lock()  # loading takes every core: one at a time


class EngineError(RuntimeError):
    """llama.cpp refused a request or a file. `status`: the HTTP status it would answer."""

    def __init__(self, message: str, status: int = 500):
        super().__init__(message)
        self.status = status


class Engine:
    """One model, loaded: `with Engine(file) as engine: engine.complete("2 + 2 =")`.

    file: a GGUF. vision: its mmproj, for a model that reads pictures. context: tokens of each slot.
    slots: texts written side by side. threads: by default as `threads_for`, and all cores for
    prompts and texts side by side. embedding: the engine embeds texts instead of writing them.
    exact: attention and cache in float32, to compare with transformers. Raises FileNotFoundError,
    or EngineError for a file that llama.cpp does not load.
    """

    def __init__(self, file: Path | str, vision: Path | str | None = None, *, context: int = 1024,
                 slots: int = 1, threads: int | None = None, embedding: bool = False,
                 exact: bool = False, adapter: Path | str | None = None):  # fmt: skip
        import xllamacpp

        for one in (file, vision, adapter):
            if one is not None and not Path(one).is_file():
                raise FileNotFoundError(f"no file {one}")
        told = xllamacpp.CommonParams()
        told.model.path = str(file)
        told.hostnames = [HOST]
        told.n_ctx, told.n_parallel = context * slots, slots
        told.kv_unified = False  # each slot has `context` tokens of its own
        told.warmup = False
        told.verbosity = -1
        told.endpoint_metrics = True  # GET /metrics: tokens, passes, busy slots
        told.cpuparams.n_threads = threads or threads_for(file)
        told.cpuparams_batch.n_threads = threads or os.cpu_count() or 1
        if vision is not None:
            told.mmproj.path = str(vision)
        if adapter is not None:
            told.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
        if embedding:
            told.embedding = True
            told.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            told.n_batch = told.n_ubatch = told.n_ctx
        if exact:
            off = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
            told.flash_attn_type = off
            told.cache_type_k = told.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        self.file, self.slots, self.context = Path(file), slots, context
        with _starting:
            try:
                self._server = xllamacpp.Server(told)
            except Exception as error:
                raise EngineError(f"llama.cpp does not load {Path(file).name}: {error}") from error
        self.address = self._server.listening_address
        self._client = httpx.Client(
            base_url=self.address, timeout=None, trust_env=False, limits=NONE_KEPT
        )

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop; the memory is free afterwards. Closing twice does no harm."""
        self._client.close()
        self._server = None

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What llama.cpp answers to a request at `path`; EngineError where it refuses."""
        answer = self._client.post(path, json=body)
        if answer.status_code != 200:
            raise EngineError(problem(answer.content)[0], answer.status_code)
        return answer.json()

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The answer in pieces, as they are written. Leaving the loop frees the slot."""
        with self._client.stream("POST", path, json=body | {"stream": True}) as answer:
            if answer.status_code != 200:
                raise EngineError(problem(answer.read())[0], answer.status_code)
            for line in answer.iter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    piece = json.loads(line.removeprefix("data: "))
                    if "error" in piece:
                        raise EngineError(problem(line.removeprefix("data: ").encode())[0])
                    yield piece

    def complete(self, prompt: str | Sequence[int], **how: Any) -> dict[str, Any]:
        """Continue a text or token ids. how: llama.cpp's fields, such as n_predict, temperature."""
        return self.post("/completion", {"prompt": prompt, **how})

    def chat(self, messages: Sequence[dict], **how: Any) -> dict[str, Any]:
        """Answer messages in the model's template. how: OpenAI's fields and llama.cpp's."""
        return self.post("/v1/chat/completions", {"messages": list(messages), **how})

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of length 1 for each text; the engine must be an `embedding` one."""
        answer = self.post("/v1/embeddings", {"input": list(texts)})
        return [one["embedding"] for one in answer["data"]]

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, special tokens written in it included."""
        return self.post("/tokenize", {"content": text, "parse_special": True})["tokens"]


def threads_for(file: Path | str) -> int:
    """One thread for one text from a small file, else one for each core.

    A miniature's step is over sooner than two threads have met: on two cores mini-qwen in F16
    wrote 2,619 tokens/s on one thread and 795 on two. Eight texts in eight slots are worth two:
    2,568 and 3,589 on a quiet machine (with one core taken by another process, 2,361 and 1,456).
    """
    return 1 if Path(file).stat().st_size < SMALL else os.cpu_count() or 1


def problem(content: bytes) -> tuple[str, str | None]:
    """The message of an error that llama.cpp answers, and what type of error it calls it."""
    try:
        error = json.loads(content)["error"]
        if isinstance(error, dict):
            return str(error["message"]), error.get("type")
        return str(error), None
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:500] or "no answer", None
