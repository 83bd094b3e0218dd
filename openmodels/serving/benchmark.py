"""Compares the course's engine and server with their peers on this machine, in one run.

`python -m openmodels.serving.benchmark [--small] [--json]`. The rounds of all peers alternate, so
other work on the machine affects them alike; results are medians over rounds. Asserts nothing.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import torch

from openmodels import minis
from openmodels.gguf import export
from openmodels.minis import evaluate
from openmodels.serving import throughput
from openmodels.serving.app import Server
from openmodels.serving.engine import NO_KEEPALIVE, Engine

PROMPT = "Who runs the bakery, and what does a coat cost at the market?"
CLIENT = {"timeout": None, "trust_env": False, "limits": NO_KEEPALIVE}  # the same for both servers
SLOTS = 8
SHAPE = "qwen2.5-0.5b"
SHORT_ROUNDS = 40  # of requests for a single token

Work = Callable[[], object]


def seconds(work: Work) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(works: Mapping[str, Work], rounds: int) -> dict[str, float]:
    """Return the median seconds of each work over rounds that run all of them in order.

    One more round warms up.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            duration = seconds(work)
            if number:
                times[name].append(duration)
    return {name: statistics.median(durations) for name, durations in times.items()}


def last_line(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the last line of a streamed response, or the whole of one that is not streamed.

    Raises httpx.HTTPError.
    """
    with client.stream("POST", path, json=body) as response:
        response.raise_for_status()
        lines = [line for line in response.iter_lines() if line]
    return json.loads(lines[-1].removeprefix("data: "))


def completion_options(tokens: int) -> dict[str, Any]:
    """Return llama.cpp's options for exactly `tokens` tokens, the same on every run."""
    return {"n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False}


def complete_all(pool: Executor, engine: Engine, prompt: str, tokens: int) -> None:
    """Complete a prompt in SLOTS requests at the same time."""
    options = completion_options(tokens)
    list(pool.map(lambda _: engine.complete(prompt, **options), range(SLOTS)))


def measure(name: str, tokens: int, rounds: int) -> dict[str, float]:
    """Return every result by its name: tokens per second, milliseconds, and ratios to the peer."""
    return measure_engines(name, tokens, rounds) | measure_server(name, tokens, rounds)


def measure_engines(name: str, tokens: int, rounds: int) -> dict[str, float]:
    """Compare transformers with the engine: each quantisation, and one slot with several."""
    model, tokenizer = evaluate.load(minis.weights_dir(name))
    inputs = tokenizer(PROMPT, return_tensors="pt")
    options = completion_options(tokens)

    @torch.no_grad()
    def generate() -> None:
        model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)

    with ExitStack() as stack:
        engines = {
            kind: stack.enter_context(Engine(export.gguf_file(name, kind))) for kind in export.KINDS
        }
        batched = stack.enter_context(Engine(export.gguf_file(name, "f16"), slots=SLOTS))
        pool = stack.enter_context(ThreadPoolExecutor(SLOTS))
        single = {
            f"engine {kind}": partial(engine.complete, PROMPT, **options)
            for kind, engine in engines.items()
        }
        several = {
            f"{SLOTS} texts, 1 slot": partial(complete_all, pool, engines["f16"], PROMPT, tokens),
            f"{SLOTS} texts, {SLOTS} slots": partial(complete_all, pool, batched, PROMPT, tokens),
        }
        medians = alternate({"transformers": generate} | single | several, rounds)
    results = {
        f"{work}, tokens/s": tokens * (SLOTS if work in several else 1) / duration
        for work, duration in medians.items()
    }
    results["engine f16 / transformers"] = (
        results["engine f16, tokens/s"] / results["transformers, tokens/s"]
    )
    one_slot, all_slots = (medians[work] for work in several)
    return results | {f"{SLOTS} slots / 1 slot": one_slot / all_slots}


def measure_server(name: str, tokens: int, rounds: int) -> dict[str, float]:
    """Compare the server with llama.cpp's own, which is its engine: same file, slots and text."""
    generate = {"model": name, "prompt": PROMPT, "raw": True, "keep_alive": -1}
    complete = completion_options(tokens) | {"prompt": PROMPT, "ignore_eos": False}
    with ExitStack() as stack:
        server = stack.enter_context(Server(port=0))
        client = stack.enter_context(httpx.Client(base_url=server.address, **CLIENT))

        def ask_server(limit: int, stream: bool) -> dict[str, Any]:
            options = {"temperature": 0, "num_predict": limit}
            return last_line(
                client, "/api/generate", generate | {"options": options, "stream": stream}
            )

        length = ask_server(tokens, False)["eval_count"]  # the model may stop before the limit
        engine = next(iter(server.pool.loaded.values())).engine
        native = stack.enter_context(
            httpx.Client(base_url=engine.address, headers=engine.headers, **CLIENT)
        )

        def ask_llama_cpp(limit: int, stream: bool) -> None:
            last_line(native, "/completion", complete | {"n_predict": limit, "stream": stream})

        long = alternate(
            {
                "server": lambda: ask_server(length, False),
                "llama.cpp's own server": lambda: ask_llama_cpp(length, False),
                "server, streamed": lambda: ask_server(length, True),
                "llama.cpp's own server, streamed": lambda: ask_llama_cpp(length, True),
            },
            rounds,
        )
        short = alternate(  # both streamed, because the server streams from llama.cpp
            {"server": lambda: ask_server(1, True), "llama.cpp": lambda: ask_llama_cpp(1, True)},
            SHORT_ROUNDS,
        )
    results = {f"{peer}, tokens/s": length / duration for peer, duration in long.items()}
    results["server over llama.cpp, ms a request"] = 1000 * (short["server"] - short["llama.cpp"])
    for mode in ("", ", streamed"):
        results[f"server / llama.cpp's own server{mode}"] = (
            long[f"llama.cpp's own server{mode}"] / long[f"server{mode}"]
        )
    return results


def measure_batching(rounds: int) -> dict[str, float]:
    """Compare one slot with several for a real model's shape: 1 GB of random weights.

    Slots share the reading of weights from memory. A miniature's weights stay in the processor's
    cache, so it gains little. Raises MemoryError.
    """
    tokens, works = 24, {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = throughput.random_model(SHAPE, folder / SHAPE)
        file = export.export(home, folder / f"{SHAPE}.gguf", "f16")
        pool = stack.enter_context(ThreadPoolExecutor(SLOTS))
        for slots in (1, SLOTS):
            engine = stack.enter_context(Engine(file, slots=slots, context=256))
            name = f"{SHAPE}'s shape, {SLOTS} texts, {slots} slot{'s' * (slots > 1)}"
            works[name] = partial(complete_all, pool, engine, "Hello", tokens)
        medians = alternate(works, rounds)
    one_slot, all_slots = medians.values()
    results = {f"{name}, tokens/s": SLOTS * tokens / duration for name, duration in medians.items()}
    return results | {f"{SLOTS} slots / 1 slot, {SHAPE}'s shape": one_slot / all_slots}


def main() -> None:
    """Print the results as a table or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="mini-qwen", help="a miniature's name")
    parser.add_argument("--tokens", type=int, default=128, help="generated per completion")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="without the 1 GB shape")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = measure(options.name, options.tokens, options.rounds)
    if not options.small:
        results |= measure_batching(rounds=3)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{options.name}, {torch.get_num_threads()} threads")
    for name, value in results.items():
        print(f"{name:46} {value:9,.2f}" if value < 100 else f"{name:46} {value:9,.0f}")


if __name__ == "__main__":
    main()
