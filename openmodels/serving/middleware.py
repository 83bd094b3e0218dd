"""Protects the server: only this machine's own clients and pages are served, heads are bounded."""

import re
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from openmodels.serving.model_store import ApiError
from openmodels.serving.responses import OLLAMA

MAX_HEAD = 2**16  # bytes of a request before its body
HOSTS = ("127.0.0.1", "localhost", "[::1]")
ORIGIN = re.compile(rf"https?://(?:{'|'.join(map(re.escape, HOSTS))})(?::\d{{1,5}})?", re.ASCII)


class LimitedHeadProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on the head of a request, because httptools has none."""

    unread = 0  # bytes received since the last head or body that was complete

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; answer 400 and close if the head is larger than MAX_HEAD."""
        self.unread += len(data)
        super().data_received(data)
        if self.unread > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        """Reset the count at the end of a head."""
        self.unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Reset the count within a body, which has a limit of its own."""
        self.unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Reset the count at the end of a request."""
        self.unread = 0
        super().on_message_complete()


class LocalOnlyMiddleware:
    """Answers 403 unless a request is addressed to this machine and comes from it.

    A web page can make its visitor's browser send requests to 127.0.0.1. The browser then names
    the page in `Origin` and the relation in `Sec-Fetch-Site`; `Host` protects from DNS rebinding.
    `active_requests` and `last_request` (monotonic seconds) show whether the server is idle.
    """

    def __init__(self, app: ASGIApp):
        self.app, self.active_requests, self.last_request = app, 0, time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it with 403."""
        is_request = scope["type"] == "http"  # a lifespan scope lasts as long as the server
        self.active_requests += is_request
        try:
            if is_request and not is_local(Headers(scope=scope)):
                error = ApiError(403, "this server answers only clients and pages of its machine")
                await OLLAMA.error_response(error)(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        finally:
            self.active_requests -= is_request
            self.last_request = time.monotonic()


def is_local(headers: Headers) -> bool:
    """Return whether a request names this machine and does not come from a foreign page.

    `Origin` may be absent: command-line clients and libraries do not send it. If it is present, it
    must be http or https with an allowed host; "null", which a sandboxed frame of any page sends,
    is not.
    """
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    return (
        all(host in HOSTS or host.rpartition(":")[0] in HOSTS for host in hosts)
        and all(ORIGIN.fullmatch(origin.lower()) for origin in origins)
        and "cross-site" not in [site.lower() for site in headers.getlist("sec-fetch-site")]
    )
