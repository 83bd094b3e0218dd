"""Run pydantic-ai, LangChain and LangGraph against a stand-in, and print what they did as JSON.

    LANGSMITH_TRACING=false python tests/serving/frameworks.py FOLDER

A weak model may answer badly, so a result says only what the protocol guarantees. FOLDER: for the
stand-in's store.
"""

import asyncio
import json
import os
import sys
import warnings
from typing import Annotated, Literal, TypedDict

import openai
import pydantic_ai
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import create_react_agent
from pydantic import BaseModel
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from openmodels.serving import routes
from openmodels.serving.app import Server
from openmodels.workflows.calls import count_usage

MODEL = "mini-qwen"
TIDE = "What is the tide on Tuesday?"
SETTINGS = {"temperature": 0, "max_tokens": 200}
DAYS = Literal["Monday", "Tuesday", "Wednesday"]


class Booking(BaseModel):
    """A berth for a ship."""

    ship: Literal["Lark", "Heron"]
    nights: Literal[1, 2, 3]


def tide(day: DAYS) -> str:
    """Times of high and low water on a day"""
    return json.dumps({"high": 4, "low": 11})


def record() -> list[tuple[str, dict]]:
    """Return a list to which the stand-in adds the path and the body of each request."""
    bodies, read = [], routes.read_fields

    async def read_fields(request):
        fields = await read(request)
        bodies.append((request.url.path, fields.body))
        return fields

    routes.read_fields = read_fields
    return bodies


async def run_pydantic_ai(address: str, bodies: list) -> dict:
    """Return what agents of pydantic-ai got, through both of OpenAI's interfaces."""
    client = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client))

    def agent(model=model, **fields) -> pydantic_ai.Agent:
        return pydantic_ai.Agent(model, model_settings=SETTINGS, retries=0, **fields)

    results = {}
    with count_usage(client) as usage:
        answer = await agent(tools=[tide]).run(TIDE)
    results["counted"] = [usage.calls, usage.prompt_tokens, usage.completion_tokens]
    results["reported"] = [
        answer.usage.requests, answer.usage.input_tokens, answer.usage.output_tokens,
    ]  # fmt: skip
    kinds = [part.part_kind for message in answer.all_messages() for part in message.parts]
    results["tools"] = {"parts": kinds, "output": answer.output}
    for name, output_type in {
        "typed": Booking,
        "native": pydantic_ai.NativeOutput(Booking),
        "prompted": pydantic_ai.PromptedOutput(Booking),
    }.items():
        try:
            answer = await agent(output_type=output_type).run("Book a berth for the Heron.")
            results[name] = answer.output.model_dump()
        except UnexpectedModelBehavior as error:
            results[name] = type(error).__name__
        results[name + " request"] = {
            key: bodies[-1][1].get(key) for key in ("tool_choice", "response_format")
        }
    async with agent().run_stream("Who runs the bakery?") as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True)]
        results["stream"] = {"text": "".join(pieces), "tokens": stream.usage.output_tokens}
    await client.close()
    os.environ |= {"OPENAI_BASE_URL": f"{address}/v1", "OPENAI_API_KEY": "none"}
    answer = await agent(f"openai:{MODEL}", tools=[tide]).run(TIDE)
    results["responses"] = {"path": bodies[-1][0], "output": answer.output}
    answer = await agent(f"openai:{MODEL}", output_type=Booking).run("Book a berth.")
    results["responses typed"] = answer.output.model_dump()
    return results


def run_langchain(address: str) -> dict:
    """Return what LangChain's model for OpenAI got."""
    model = chat_model(address)
    called = model.bind_tools([tide], tool_choice="tide").invoke(TIDE)
    results = {"named": called.tool_calls}
    for method in ("json_schema", "function_calling"):
        structured = model.with_structured_output(Booking, method=method)
        results[method] = structured.invoke("Book a berth for the Heron.").model_dump()
    with count_usage(model.root_client) as usage:
        chunks = list(model.stream("Who runs the bakery?", stream_usage=True))
    results["counted"] = [usage.calls, usage.completion_tokens]
    whole = sum(chunks[1:], chunks[0])
    results["stream"] = {"text": whole.content, "tokens": whole.usage_metadata["output_tokens"]}
    return results


def chat_model(address: str) -> ChatOpenAI:
    return ChatOpenAI(
        model=MODEL, base_url=f"{address}/v1", api_key="none", temperature=0, max_tokens=200,
        max_retries=0,
    )  # fmt: skip


class State(TypedDict):
    """The state of a graph: a conversation."""

    messages: Annotated[list, add_messages]


def run_langgraph(address: str) -> dict:
    """Return what LangGraph's agent did, and a graph that stops, is resumed, and remembers."""
    model = chat_model(address)
    agent = create_react_agent(model, [tide])
    state = agent.invoke({"messages": [HumanMessage(TIDE)]}, {"recursion_limit": 12})
    kinds = [type(message).__name__ for message in state["messages"]]

    def answer(state: State) -> dict:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(State)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    app = graph.compile(checkpointer=InMemorySaver(), interrupt_before=["answer"])
    thread = {"configurable": {"thread_id": "1"}}
    stopped = app.invoke({"messages": [HumanMessage("Who runs the bakery?")]}, thread)
    resumed = app.invoke(None, thread)
    return {
        "agent": kinds,
        "results": [m.content for m in state["messages"] if isinstance(m, ToolMessage)],
        "final": isinstance(state["messages"][-1], AIMessage),
        "stopped": len(stopped["messages"]),
        "resumed": resumed["messages"][-1].content,
        "remembered": len(app.get_state(thread).values["messages"]),
    }


def main(folder: str) -> None:
    """Print the results of all frameworks as one line of JSON."""
    warnings.simplefilter("ignore")  # create_react_agent moved to a package that is not needed
    bodies = record()
    with Server(port=0, root=folder, threads=1) as server:
        results = {
            "pydantic_ai": asyncio.run(run_pydantic_ai(server.address, bodies)),
            "langchain": run_langchain(server.address),
            "langgraph": run_langgraph(server.address),
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
