"""A stand-in for Ollama: its HTTP API on this machine, over llama.cpp and the miniatures.

`python -m openmodels.serving.app` serves until it is stopped. `with Server(port=0) as server:`
serves within this process, at `server.address`. The server listens on 127.0.0.1 only, fetches
nothing from the network, and identifies itself in /api/version.
"""

import argparse
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from openmodels.serving import routes
from openmodels.serving.engine import HOST
from openmodels.serving.engine_pool import Pool
from openmodels.serving.middleware import LimitedHeadProtocol, LocalOnlyMiddleware
from openmodels.serving.model_store import MAX_BLOB, ApiError, Store

PORT = 11435  # next to Ollama's 11434, which stays free for a real Ollama


def build(store: Store, pool: Pool) -> Starlette:
    """Return the web application that serves a store's models with a pool's engines."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await pool.close()

    return Starlette(
        routes=routes.route_table(store, pool),
        exception_handlers={
            ApiError: routes.handle_api_error,
            ClientDisconnect: routes.handle_disconnect,
            HTTPException: routes.handle_server_error,
            Exception: routes.handle_server_error,
        },
        lifespan=lifespan,
    )


class Server:
    """The server within this process: `with Server(port=0) as server: server.address`.

    port: 0 takes a free port. root: the data folder (default: the cache of GGUF files). threads:
    CPU threads of each engine. max_blob: bytes that an uploaded file may have. idle: seconds
    without a request after which the server stops by itself. Raises OSError if the port is in use.
    """

    def __init__(
        self,
        port: int = PORT,
        root: Path | str | None = None,
        threads: int | None = None,
        max_blob: int = MAX_BLOB,
        idle: float | None = None,
    ):
        self.store = Store(root, max_blob)
        self.pool = Pool(self.store, threads=threads)
        self._socket = _listen(port)
        self.address = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self._middleware, self._idle = LocalOnlyMiddleware(build(self.store, self.pool)), idle
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                self._middleware,
                http=LimitedHeadProtocol,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve on the calling thread until the server is stopped."""
        if self._idle is not None:
            watcher = threading.Thread(target=self._stop_when_idle, args=(self._idle,), daemon=True)
            watcher.start()
        self._uvicorn.run(sockets=[self._socket])

    def _stop_when_idle(self, seconds: float) -> None:
        while (
            not self._uvicorn.started
            or self._middleware.active_requests
            or time.monotonic() - self._middleware.last_request < seconds
        ):
            time.sleep(min(1.0, seconds / 4))
        self._uvicorn.should_exit = True

    def __enter__(self) -> "Server":
        """Serve on a thread; RuntimeError if the server does not start."""
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        while not self._uvicorn.started and self._thread.is_alive():
            time.sleep(0.01)
        if not self._uvicorn.started:
            raise RuntimeError("the server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving and unload all models."""
        self._uvicorn.should_exit = True
        if self._thread:
            self._thread.join()
        self._socket.close()


def _listen(port: int) -> socket.socket:
    """Return a socket bound to a port of this machine; OSError if the port is in use."""
    # IPPROTO_TCP makes asyncio set TCP_NODELAY: without it, small responses wait for 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # on Windows, SO_REUSEADDR lets two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise OSError(f"port {port} on {HOST} is in use: choose another port, or 0") from error
    return listener


def main() -> None:
    """Serve from the command line until interrupted."""
    parser = argparse.ArgumentParser(description="The course's stand-in for Ollama.")
    parser.add_argument("--port", type=int, default=PORT, help="0 takes a free port")
    parser.add_argument(
        "--idle", type=float, metavar="MINUTES", help="stop after this time without a request"
    )
    arguments = parser.parse_args()
    server = Server(arguments.port, idle=arguments.idle and 60 * arguments.idle)
    print(f"{routes.VERSION['stand_in']} It listens on {server.address}", flush=True)
    print(f"For clients of Ollama: OLLAMA_HOST={server.address}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()


if __name__ == "__main__":
    main()
