"""Serve the harbour office as an MCP server: tools, resources and a prompt.

    python -m openmodels.workflows.mcp_server              # over stdin and stdout
    python -m openmodels.workflows.mcp_server --http 8321  # over HTTP, on this machine only

Port 0 takes a free port; the program prints the address.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import io
import socket
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import ToolAnnotations
from pydantic import Field

from openmodels.harbour.office import LONGEST_STAY, Office
from openmodels.harbour.tools import OFFICE_SCHEMAS
from openmodels.harbour.world import a
from openmodels.workflows.tools import KEY, OnceStore

HOST = "127.0.0.1"
MAX_BODY = 100_000  # bytes of a request
NOTICE = (
    "The harbour office is open from 8 to 18. A berth is booked for 1 to "
    f"{LONGEST_STAY} nights. Prices are in coins."
)
READS = ToolAnnotations(read_only_hint=True)
WRITES = ToolAnnotations(read_only_hint=False, idempotent_hint=False)

Nights = Annotated[int, Field(ge=1, le=LONGEST_STAY)]
Positive = Annotated[int, Field(ge=1)]


class Price(TypedDict):
    price: int


class Stock(TypedDict):
    stock: int


class Times(TypedDict):
    times: list[int]


class Tide(TypedDict):
    high: int
    low: int


class Ship(TypedDict):
    berth: int
    captain: str


Mail = TypedDict("Mail", {"from": str, "text": str})


class Berth(TypedDict):
    berth: int


class Sent(TypedDict):
    sent: bool


class Order(TypedDict):
    order: int


class Receipt(TypedDict):
    receipt: int


def build(office: Office | None = None) -> MCPServer:
    """Return an MCP server for a harbour office: ten tools, two resources and a prompt.

    office: the state that the tools read and change; a new one if absent. A write that brings an
    idempotency key in its `_meta` runs once for this key.
    """
    office = office or Office()
    server = MCPServer("Port Lark", instructions=NOTICE, log_level="ERROR")
    _add_reads(server, office)
    _add_writes(server, office)
    _add_texts(server, office)
    return server


def _call(office: Office, name: str, arguments: dict[str, Any]) -> Any:
    """Return a function's result. Raises ToolError, which the model reads, for an error."""
    result = office.call(name, arguments)
    if "error" in result:
        raise ToolError(result["error"])
    return result


def _description(name: str) -> str:
    return OFFICE_SCHEMAS[name]["function"]["description"]


def _add_reads(server: MCPServer, office: Office) -> None:
    def get_price(item: str, shop: str) -> Price:
        return _call(office, "get_price", {"item": item, "shop": shop})

    def get_stock(item: str, shop: str) -> Stock:
        return _call(office, "get_stock", {"item": item, "shop": shop})

    def ferry_times(to: str, day: str) -> Times:
        return _call(office, "ferry_times", {"to": to, "day": day})

    def tide(day: str) -> Tide:
        return _call(office, "tide", {"day": day})

    def find_ship(ship: str) -> Ship:
        return _call(office, "find_ship", {"ship": ship})

    def read_mail(person: str) -> Mail:
        return _call(office, "read_mail", {"person": person})

    for function in (get_price, get_stock, ferry_times, tide, find_ship, read_mail):
        description = _description(function.__name__)
        server.add_tool(function, description=description, annotations=READS)


def _add_writes(server: MCPServer, office: Office) -> None:
    once = OnceStore()

    def write(context: Context, name: str, **arguments: Any) -> Any:
        key = (context.request_context.meta or {}).get(KEY)
        if not isinstance(key, str) or not key:  # a client that sends no keys
            return _call(office, name, arguments)
        return once.call(key, [name, arguments], lambda: _call(office, name, arguments))

    def book_berth(context: Context, ship: str, captain: str, nights: Nights) -> Berth:
        return write(context, "book_berth", ship=ship, captain=captain, nights=nights)

    def send_message(context: Context, to: str, text: str) -> Sent:
        return write(context, "send_message", to=to, text=text)

    def place_order(context: Context, name: str, item: str, quantity: Positive, shop: str) -> Order:
        return write(context, "place_order", name=name, item=item, quantity=quantity, shop=shop)

    def pay(context: Context, name: str, coins: Positive) -> Receipt:
        return write(context, "pay", name=name, coins=coins)

    for function in (book_berth, send_message, place_order, pay):
        description = _description(function.__name__)
        server.add_tool(function, description=description, annotations=WRITES)


def _add_texts(server: MCPServer, office: Office) -> None:
    title = "The price of each item in each shop"

    @server.resource("harbour://prices", description=title, mime_type="text/csv")
    def prices() -> str:
        file = io.StringIO()
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("shop", "item", "coins"))
        for shop, items in office.prices.items():
            rows.writerows((shop, item, coins) for item, coins in items.items())
        return file.getvalue()

    @server.resource("harbour://notice", description="The notice at the office's door")
    def notice() -> str:
        return NOTICE

    @server.prompt(description="Ask what an item costs in a shop")
    def ask_price(item: str, shop: str) -> str:
        return f"What is the price of {a(item)} at the {shop}?"


class _Server(uvicorn.Server):
    """A web server that leaves the program's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def serve_http(server: MCPServer, port: int = 0) -> AsyncIterator[str]:
    """Serve over streamable HTTP on this machine, and yield the address.

    port: 0 takes a free one. A request that names another host or comes from another web page is
    refused: without this check, any page in your browser could reach the server through a name
    that resolves to 127.0.0.1 (DNS rebinding). Raises OSError for a port in use, and RuntimeError
    if the server does not start.
    """
    listener = socket.create_server((HOST, port))
    name = f"{HOST}:{listener.getsockname()[1]}"
    security = TransportSecuritySettings(allowed_hosts=[name], allowed_origins=[f"http://{name}"])
    app = server.streamable_http_app(
        transport_security=security, max_request_body_size=MAX_BODY, host=HOST
    )
    config = uvicorn.Config(
        app, log_level="error", timeout_graceful_shutdown=1, server_header=False
    )
    http = _Server(config)
    task = asyncio.create_task(http.serve(sockets=[listener]))
    try:
        while not http.started and not task.done():
            await asyncio.sleep(0.01)
        if task.done():
            raise RuntimeError(f"the server did not start at {name}")
        yield f"http://{name}/mcp"
    finally:
        http.should_exit = True
        await task
        listener.close()


async def _serve_until_stopped(server: MCPServer, port: int) -> None:
    async with serve_http(server, port) as address:
        print(address, flush=True)
        await asyncio.Event().wait()


def main(arguments: list[str] | None = None) -> None:
    """Serve a new office until the client leaves (stdio) or the program is stopped (HTTP)."""
    parser = argparse.ArgumentParser(description="The harbour office as an MCP server.")
    parser.add_argument("--http", type=int, metavar="PORT", help="serve over HTTP; 0: a free port")
    parser.add_argument("--seed", type=int, default=0, help="of the office's state")
    options = parser.parse_args(arguments)
    server = build(Office(options.seed))
    if options.http is None:
        server.run("stdio")
        return
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve_until_stopped(server, options.http))


if __name__ == "__main__":
    main()
