"""The harbour's MCP server: the same tools over every transport, and only for this machine."""

import asyncio
import contextlib
import subprocess
import sys

import httpx
import pytest
from mcp import Client, StdioServerParameters
from notebooks import ROOT

from openmodels.harbour.office import Office
from openmodels.harbour.tools import OFFICE_SCHEMAS, WRITES
from openmodels.workflows import mcp_client, mcp_server
from openmodels.workflows.tools import KEY, Call, Toolbox

COMMAND = StdioServerParameters(
    command=sys.executable, args=["-m", "openmodels.workflows.mcp_server"], cwd=ROOT
)


def in_memory(use, office=None):
    async def run():
        async with Client(mcp_server.build(office or Office())) as client:
            return await use(client)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def over(transport, office):
    """Yield a client of a server with this office; a program has an office of its own."""
    async with contextlib.AsyncExitStack() as stack:
        server = mcp_server.build(office)
        if transport == "stdio":
            server = COMMAND
        elif transport == "http":
            server = await stack.enter_async_context(mcp_server.serve_http(server))
        yield await stack.enter_async_context(mcp_client.connect(server))


@pytest.mark.parametrize("transport", ["memory", "stdio", "http"])
def test_every_transport_serves_the_same(transport):
    office = Office()
    shop, items = next((shop, items) for shop, items in office.prices.items() if items)
    item, price = next(iter(items.items()))

    async def use():
        async with over(transport, office) as client:
            tools = await mcp_client.load_tools(client, seconds=30)
            prices = await client.read_resource("harbour://prices")
            notice = await client.read_resource("harbour://notice")
            prompt = await client.get_prompt("ask_price", {"item": "anchor", "shop": "smithy"})
            result = await client.call_tool("get_price", {"item": item, "shop": shop})
        return tools, prices, notice, prompt, result

    tools, prices, notice, prompt, result = asyncio.run(use())
    assert [tool.name for tool in tools].sort() == list(OFFICE_SCHEMAS).sort()
    assert f"{shop},{item},{price}\n" in prices.contents[0].text
    assert notice.contents[0].text == mcp_server.NOTICE
    text = prompt.messages[0].content.text
    assert text == "What is the price of an anchor at the smithy?"
    assert result.structured_content == {"price": price}


def test_the_tools_have_the_schemas_that_models_know():
    async def load(client):
        return await mcp_client.load_tools(client)

    for tool in in_memory(load):
        schema = tool.schema()["function"]
        for value in schema["parameters"]["properties"].values():
            value.pop("minimum", None), value.pop("maximum", None)
        assert schema == OFFICE_SCHEMAS[tool.name]["function"]


def test_hints_say_which_tools_write():
    async def hints(client):
        tools = (await client.list_tools()).tools
        return {tool.name for tool in tools if not tool.annotations.read_only_hint}

    assert in_memory(hints) == set(WRITES)


def test_an_error_is_a_result_that_names_the_reason():
    async def use(client):
        tools = await mcp_client.load_tools(client, reads=set(OFFICE_SCHEMAS))
        toolbox = Toolbox(tools)
        return [
            await toolbox.call(Call("c", name, arguments, "k"))
            for name, arguments in [
                ("get_price", '{"item": "rope", "shop": "bakry"}'),
                ("book_berth", '{"ship": "Heron", "captain": "Ada", "nights": 99}'),
            ]
        ]

    shop, nights = in_memory(use)
    assert shop.status == "failed"
    assert shop.text.startswith('{"error": "no shop bakry; ')
    assert nights.status == "invalid"  # the schema's limit: the call was not sent


def test_the_server_checks_arguments_too():
    async def use(client):
        arguments = {"ship": "Heron", "captain": "Ada", "nights": 99}
        return await client.call_tool("book_berth", arguments)

    result = in_memory(use)
    assert result.is_error
    assert "less than or equal to 30" in result.content[0].text


@pytest.mark.parametrize(("meta", "effects"), [({KEY: "k"}, 1), (None, 2), ({KEY: 7}, 2)])
def test_a_key_makes_a_repeated_write_one_write(meta, effects):
    office = Office()

    async def use(client):
        arguments = {"to": "Ada", "text": "the rope is ready"}
        return [await client.call_tool("send_message", arguments, meta=meta) for _ in range(2)]

    first, second = in_memory(use, office)
    assert first.structured_content == second.structured_content == {"sent": True}
    assert len(office.ledger) == effects


def test_a_key_with_other_arguments_is_refused():
    office = Office()

    async def use(client):
        for text in ("a", "b"):
            arguments = {"to": "Ada", "text": text}
            result = await client.call_tool("send_message", arguments, meta={KEY: "k"})
        return result

    assert in_memory(use, office).is_error
    assert len(office.ledger) == 1


def test_a_key_reaches_the_server_through_a_toolbox():
    office = Office()

    async def use(client):
        toolbox = Toolbox(await mcp_client.load_tools(client), approve=lambda _: True)
        call = Call("c", "send_message", '{"to": "Ada", "text": "x"}', "k")
        return [await toolbox.call(call) for _ in range(2)]

    assert [outcome.status for outcome in in_memory(use, office)] == ["ok", "ok"]
    assert len(office.ledger) == 1


# --- HTTP -----------------------------------------------------------------------------------------


def statuses(requests):
    """Return the status codes of requests, each a dictionary of headers and a body."""

    async def run():
        async with (
            mcp_server.serve_http(mcp_server.build(Office())) as url,
            httpx.AsyncClient(trust_env=False) as http,
        ):
            accept = {"accept": "application/json, text/event-stream"}
            accept |= {"content-type": "application/json"}
            return [
                (await http.post(url, content=body, headers=accept | headers)).status_code
                for headers, body in requests
            ]

    return asyncio.run(run())


def test_another_host_another_page_and_a_long_body_are_refused():
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
    requests = [
        ({"host": "evil.example"}, body),
        ({"host": "127.0.0.1:1"}, body),
        ({"origin": "http://evil.example"}, body),
        ({"origin": "null"}, body),
        ({}, b" " * (mcp_server.MAX_BODY + 1)),
    ]
    assert statuses(requests) == [421, 421, 403, 403, 413]


def test_the_program_prints_its_address_and_listens_here_only():
    process = subprocess.Popen(
        [*[COMMAND.command, *COMMAND.args], "--http", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")

        async def use():
            async with mcp_client.connect(address) as client:
                return len((await client.list_tools()).tools)

        assert asyncio.run(use()) == len(OFFICE_SCHEMAS)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
