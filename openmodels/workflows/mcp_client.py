"""Use the tools of an MCP server that you do not trust: bounded, checked, and pinned.

An MCP server is someone else's program, and the texts of its tools go into your prompt.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import jsonschema
from mcp import Client, MCPError, StdioServerParameters, types
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

from openmodels.workflows import stdio_guard
from openmodels.workflows.tools import KEY, Arguments, Tool, ToolError

MAX_TOOLS, MAX_PAGES = 64, 8
MAX_DESCRIPTION, MAX_SCHEMA = 400, 8_000  # characters
MAX_REFERENCES = 10  # of one schema
MAX_BYTES = 1_000_000  # of one message from a server
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what the OpenAI interface accepts as a tool's name
# A pattern can keep the validator busy for hours, and a reference to elsewhere opens a connection.
REFUSED_KEYWORDS = ("pattern", "patternProperties", "$dynamicRef", "$recursiveRef")
NAMED_SCHEMAS = ("properties", "$defs", "definitions", "dependentSchemas")


class UntrustedServer(ValueError):
    """A server's tools break a rule; the message says which."""


# --- Connecting -----------------------------------------------------------------------------------


@asynccontextmanager
async def connect(
    server: MCPServer | StdioServerParameters | str, seconds: float = 30.0
) -> AsyncIterator[Client]:
    """Yield a client of the official SDK, with limits on what the server can send.

    server: a server of this process, a program to start, or a loopback address. seconds: time
    limit of each request. A program runs with limited memory, and a message of more than a
    megabyte ends the connection. Raises ValueError for an address of another machine, and MCPError
    if the server does not answer in MCP.
    """
    try:
        async with AsyncExitStack() as stack:
            if isinstance(server, StdioServerParameters):
                server = stdio_guard.guarded(server, MAX_BYTES)
            elif isinstance(server, str):
                server = await stack.enter_async_context(_bounded_http(server, seconds))
            client = Client(server, read_timeout_seconds=seconds, cache=None)
            yield await stack.enter_async_context(client)
    except ExceptionGroup as group:  # the SDK's task groups wrap what went wrong
        error: Exception = group
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


class _BoundedStream(httpx2.AsyncByteStream):
    """A response's body that fails after a number of bytes."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int) -> None:
        self.stream, self.limit = stream, limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self.stream:
            size += len(chunk)
            if size > self.limit:
                raise httpx2.StreamError(f"the server sent more than {self.limit:,} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self.stream.aclose()


class _BoundedTransport(httpx2.AsyncHTTPTransport):
    """A transport whose responses are bounded, and not compressed: few bytes can unpack to many."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["accept-encoding"] = "identity"
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.TransportError("the server compressed its response, unasked")
        response.stream = _BoundedStream(response.stream, MAX_BYTES)
        return response


@asynccontextmanager
async def _bounded_http(url: str, seconds: float) -> AsyncIterator[Any]:
    host = httpx2.URL(url).host
    if host != "localhost" and not _is_loopback(host):
        raise ValueError(f"{url} is not on this machine; use a loopback address")
    transport, timeout = _BoundedTransport(), httpx2.Timeout(seconds)
    async with httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as http:
        yield streamable_http_client(url, http_client=http, max_sse_event_size=MAX_BYTES)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# --- Tools ----------------------------------------------------------------------------------------


def to_openai(tool: types.Tool, description: str | None = None) -> dict[str, Any]:
    """Return an MCP tool as the entry of an OpenAI request's `tools`.

    description: replaces the server's. The schema loses its titles, which repeat the names and
    cost tokens.
    """
    function = {
        "name": tool.name,
        "description": tool.description or "" if description is None else description,
        "parameters": without_titles(tool.input_schema),
    }
    return {"type": "function", "function": function}


def without_titles(schema: Any) -> Any:
    """Return a JSON schema without its titles; an argument that is called "title" remains."""
    if isinstance(schema, list):
        return [without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: without_titles(item) for name, item in value.items()}
        if key in NAMED_SCHEMAS and isinstance(value, dict)
        else without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


def fingerprint(tools: Sequence[Tool]) -> str:
    """Return a hash of the tools' names, descriptions and schemas, in any order.

    Store it when a person has read the tools; another value later means that the server changed
    them.
    """
    schemas = sorted((tool.schema() for tool in tools), key=lambda s: s["function"]["name"])
    return hashlib.sha256(json.dumps(schemas, sort_keys=True).encode()).hexdigest()


async def load_tools(
    client: Client,
    reads: Collection[str] = (),
    descriptions: Mapping[str, str] | None = None,
    pinned: str | None = None,
    seconds: float = 5.0,
    max_chars: int = 2_000,
) -> list[Tool]:
    """Return a server's tools for a `Toolbox`.

    reads: the tools that a person knows to change nothing; all others count as writes, whatever
    the server's own hints say. descriptions: replace the server's texts. pinned: the expected
    `fingerprint`. Raises UntrustedServer for too many or too long tools, for names and schemas
    that are not safe to use, and for another fingerprint.
    """
    entries = await _list_tools(client)
    names = [entry.name for entry in entries]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UntrustedServer(f"repeated tools: {', '.join(repeated)[:200]}")
    tools = []
    for entry in entries:
        function = to_openai(entry, (descriptions or {}).get(entry.name))["function"]
        check_tool(function)
        if entry.output_schema is not None:  # the SDK validates results with it
            _check_keywords(entry.name, entry.output_schema)
        call = _caller(client, entry.name, seconds)
        writes = entry.name not in reads
        # the server's limit comes first, so its error is the one that is reported
        tools.append(Tool(**function, function=call, writes=writes, seconds=seconds + 1,
                          max_chars=max_chars))  # fmt: skip
    if pinned is not None and fingerprint(tools) != pinned:
        raise UntrustedServer("the tools differ from those that were pinned: read them again")
    return tools


async def _list_tools(client: Client) -> list[types.Tool]:
    entries: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        entries += page.tools
        cursor = page.next_cursor
        if len(entries) > MAX_TOOLS:
            raise UntrustedServer(f"more than {MAX_TOOLS} tools")
        if cursor is None:
            return entries
    raise UntrustedServer(f"more than {MAX_PAGES} pages of tools")


def check_tool(function: Mapping[str, Any]) -> None:
    """Check a tool's name, description and parameters, in OpenAI's form.

    Raises UntrustedServer with the tool's name and the rule that it breaks. No check can find
    every instruction in a description: replace descriptions that you did not read.
    """
    name, parameters = function["name"], function["parameters"]
    if not NAME.fullmatch(name):
        raise UntrustedServer(f"tool name {name[:80]!r}: letters, digits, _ and - only, at most 64")
    description = function["description"]
    if len(description) > MAX_DESCRIPTION:
        raise UntrustedServer(
            f"{name}: the description has {len(description):,} characters, "
            f"at most {MAX_DESCRIPTION}"
        )
    if any(not character.isprintable() and character != "\n" for character in description):
        raise UntrustedServer(f"{name}: the description has characters that do not show")
    if len(json.dumps(parameters)) > MAX_SCHEMA:
        raise UntrustedServer(f"{name}: the schema is longer than {MAX_SCHEMA:,} characters")
    _check_keywords(name, parameters)
    try:
        jsonschema.Draft202012Validator.check_schema(parameters)
    except jsonschema.SchemaError as error:
        raise UntrustedServer(f"{name}: no JSON schema: {error.message[:200]}") from error
    if parameters.get("type") != "object":
        raise UntrustedServer(f"{name}: the parameters are not an object")


def _check_keywords(name: str, schema: Any) -> None:
    references = 0
    for part in _subschemas(schema):
        for keyword in REFUSED_KEYWORDS:
            if keyword in part:
                raise UntrustedServer(f"{name}: the schema uses {keyword!r}")
        reference = part.get("$ref", "#/")
        if not (isinstance(reference, str) and reference.startswith("#/")):
            raise UntrustedServer(f"{name}: the schema refers to {str(reference)[:80]!r}")
        references += "$ref" in part
    if references > MAX_REFERENCES:  # each level of them can double the work
        raise UntrustedServer(f"{name}: the schema has more than {MAX_REFERENCES} references")


def _subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all objects in it, but not the mappings from names to schemas."""
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        elif isinstance(part, dict):
            yield part
            for key, value in part.items():
                named = key in NAMED_SCHEMAS and isinstance(value, dict)
                pending += value.values() if named else [value]


def _caller(client: Client, name: str, seconds: float) -> Any:
    async def call(arguments: Arguments, key: str) -> Any:
        try:
            result = await client.call_tool(
                name, arguments, read_timeout_seconds=seconds, meta={KEY: key}
            )
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                raise TimeoutError from error
            if error.code == CONNECTION_CLOSED:
                raise ConnectionError from error
            raise ToolError(f"the server refused the call: {error.message}") from error
        except (RuntimeError, ValueError) as error:  # a result that breaks the tool's own schema
            raise ToolError(f"{name} returned a result that breaks its schema") from error
        return _content(name, result)

    return call


def _content(name: str, result: types.CallToolResult) -> Any:
    """Return a result's structured content, else its text. Raises ToolError for an error."""
    texts = [
        block.text if isinstance(block, types.TextContent) else f"[{block.type} left out]"
        for block in result.content
    ]
    if result.is_error:
        prefix = f"Error executing tool {name}: "  # the SDK's servers add it
        raise ToolError("\n".join(texts).removeprefix(prefix))
    return "\n".join(texts) if result.structured_content is None else result.structured_content
