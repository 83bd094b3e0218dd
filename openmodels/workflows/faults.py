"""Simulate an API on this machine: a local endpoint in front of a model's server, with faults.

with SimulatedAPI(client, "mini-qwen", Faults(rate=0.2)) as api:
    api.client().chat.completions.create(model="any name", ...)

    python -m openmodels.workflows.faults http://127.0.0.1:11434/v1 mini-qwen --port 8001

starts it as a program of its own, which a fault drill can kill. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import httpx
import openai

MAX_BODY = 1_000_000  # bytes of a request
KINDS = ("503", "429", "reset", "slow")


@dataclass
class Faults:
    """Which requests fail, and how: a seeded choice per request, in the order of arrival.

    rate: the share of requests with a fault. kinds: "503" an error of the server; "429" too many
    requests; "reset" a closed connection; "slow" an answer after `slow` seconds. retry_after:
    seconds that a 429 asks to wait. limit: requests per `period` seconds, beyond which every
    request gets a 429. Raises ValueError for an unknown kind and for a rate outside [0, 1].
    """

    rate: float = 0.0
    kinds: tuple[str, ...] = ("503", "429", "reset")
    seed: int = 0
    retry_after: float = 0.0
    slow: float = 2.0
    limit: int | None = None
    period: float = 1.0
    clock: Callable[[], float] = time.monotonic
    _recent: deque[float] = field(default_factory=deque, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        unknown = set(self.kinds) - set(KINDS)
        if unknown or not self.kinds:
            raise ValueError(f"unknown kinds {sorted(unknown)}; there are {', '.join(KINDS)}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"a rate of {self.rate}; it must be from 0 to 1")
        self._chance = random.Random(self.seed)

    def next(self) -> str | None:
        """Return the fault of the next request, or None."""
        with self._lock:
            if self.limit is not None and self._too_many():
                return "429"
            fails = self._chance.random() < self.rate
            kind = self._chance.choice(self.kinds)
            return kind if fails else None

    def _too_many(self) -> bool:
        now = self.clock()
        while self._recent and now - self._recent[0] >= self.period:
            self._recent.popleft()
        if len(self._recent) >= self.limit:
            return True
        self._recent.append(now)
        return False


class SimulatedAPI:
    """An OpenAI-compatible endpoint on 127.0.0.1 that stands for a provider's API.

    Every request is answered by `model` on the client's server, whatever model it names. faults:
    which requests fail. requests and counts: how many arrived, and how many got which fault.
    Use it as a context manager, or call `close`.
    """

    def __init__(
        self,
        client: openai.OpenAI,
        model: str,
        faults: Faults | None = None,
        port: int = 0,
    ) -> None:
        self.url, self.model = str(client.base_url).rstrip("/"), model
        self.faults, self.requests = faults or Faults(), 0
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.session = httpx.Client(trust_env=False, timeout=120)
        handler = type("Handler", (_Handler,), {"api": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}/v1"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> SimulatedAPI:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def client(self, timeout: float = 60.0, max_retries: int = 0) -> openai.OpenAI:
        """Return a client of the endpoint, which ignores proxies."""
        return local_client(self.address, timeout, max_retries)

    def close(self) -> None:
        """Stop the endpoint."""
        self.server.shutdown()
        self.server.server_close()
        self.session.close()


def local_client(address: str, timeout: float = 60.0, max_retries: int = 0) -> openai.OpenAI:
    """Return a client of an endpoint on this machine, which ignores proxies."""
    return openai.OpenAI(
        base_url=address,
        api_key="none",
        timeout=timeout,
        max_retries=max_retries,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )


class _Handler(BaseHTTPRequestHandler):
    """Answers a request of `SimulatedAPI`: with a fault, or with what the model's server says."""

    api: SimulatedAPI
    protocol_version = "HTTP/1.1"

    def log_message(self, *_values: object) -> None:
        """Log nothing: a notebook shows what its cells print."""

    def do_POST(self) -> None:
        """POST any path below /v1: pass the request on, unless it gets a fault."""
        length = int(self.headers.get("content-length") or 0)
        if not 0 < length <= MAX_BODY:
            self.close_connection = True
            return self._send(413, {"error": {"message": f"at most {MAX_BODY:,} bytes"}})
        body = self.rfile.read(length)
        fault = self.api.faults.next()
        with self.api.lock:
            self.api.requests += 1
            self.api.counts[fault or "none"] += 1
        if fault == "reset":
            self.close_connection = True
        elif fault == "503":
            self._send(503, {"error": {"message": "simulated: the server is overloaded"}})
        elif fault == "429":
            after = {"retry-after": f"{self.api.faults.retry_after:g}"}
            self._send(429, {"error": {"message": "simulated: too many requests"}}, after)
        else:
            if fault == "slow":
                time.sleep(self.api.faults.slow)
            self._pass_on(body)

    def _pass_on(self, body: bytes) -> None:
        try:
            request = {**json.loads(body), "model": self.api.model}
            path = self.path.removeprefix("/v1")
            response = self.api.session.post(f"{self.api.url}{path}", json=request)
        except (ValueError, TypeError):
            return self._send(400, {"error": {"message": "the body must be a JSON object"}})
        except httpx.HTTPError as error:
            return self._send(502, {"error": {"message": f"the model's server: {error}"}})
        self._send_bytes(response.status_code, response.content, response.headers["content-type"])

    def _send(self, code: int, body: dict, headers: dict[str, str] | None = None) -> None:
        self._send_bytes(code, json.dumps(body).encode(), "application/json", headers)

    def _send_bytes(
        self, code: int, content: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        try:
            self.send_response(code)
            for name, value in {"content-type": kind, **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the client stopped waiting
            self.close_connection = True


class APIProcess:
    """Run a simulated API as a program of its own, which can be killed and started again.

    It keeps its port. Raises RuntimeError with the program's output if it does not start.
    """

    def __init__(self, client: openai.OpenAI, model: str) -> None:
        self.command = [sys.executable, "-m", "openmodels.workflows.faults"]
        self.command += [str(client.base_url), model]
        self.port, self.process = 0, None
        self.start()

    def start(self) -> None:
        """Start the program and wait until it listens. Raises RuntimeError if it does not."""
        self.process = subprocess.Popen(
            [*self.command, "--port", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        line = self.process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:(\d+)/v1", line)
        if not address:
            self.kill()
            raise RuntimeError(f"the simulated API did not start: {line}")
        self.port, self.address = int(address[1]), address[0]

    def kill(self) -> None:
        """Kill the program, as `kill -9` does: it can finish nothing."""
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


def main() -> None:
    """Serve a simulated API until the program is ended; print its address."""
    parser = argparse.ArgumentParser(description="A local endpoint that stands for an API.")
    parser.add_argument("url", help="of the model's server, such as http://127.0.0.1:11434/v1")
    parser.add_argument("model", help="that answers every request")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0, help="share of requests with a fault")
    values = parser.parse_args()
    faults = Faults(values.rate)
    with SimulatedAPI(local_client(values.url), values.model, faults, values.port) as api:
        print(f"{api.model} at {api.address}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
