"""Speeds of the course's engine and server on this machine, each beside its peer, in one run.

`python -m openmodels.serving.benchmark [--small] [--json]`. Rounds of all peers alternate, so that
other work on the machine affects them alike; numbers are medians over rounds. Asserts nothing.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import torch

from openmodels import minis
from openmodels.gguf import export
from openmodels.minis import evaluate
from openmodels.serving import throughput
from openmodels.serving.app import Server
from openmodels.serving.engine import NONE_KEPT, Engine

PROMPT = "Who runs the bakery, and what does a coat cost at the market?"
CLIENT = {"timeout": None, "trust_env": False, "limits": NONE_KEPT}  # both of them, to be fair
SLOTS = 8
SHAPE = "qwen2.5-0.5b"


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each work over rounds in which all take their turn; one more warms up."""
    taken = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            took = seconds(work)
            if turn:
                taken[name].append(took)
    return {name: statistics.median(times) for name, times in taken.items()}


def last(client: httpx.Client, path: str, told: dict) -> dict:
    """An answer's last line, or the whole of it, if it comes as one."""
    with client.stream("POST", path, json=told) as answer:
        answer.raise_for_status()
        lines = [line for line in answer.iter_lines() if line]
    return json.loads(lines[-1].removeprefix("data: "))


def measure(name: str, tokens: int, rounds: int) -> dict[str, float]:
    """Every figure, by its name: tokens per second, milliseconds, and ratios to the peer."""
    model, tokenizer = evaluate.load(minis.weights_dir(name))
    asked = tokenizer(PROMPT, return_tensors="pt")
    how = {"n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
    same = {"model": name, "prompt": PROMPT, "raw": True, "stream": False, "keep_alive": -1}
    options = {"temperature": 0, "num_predict": tokens}
    found: dict[str, float] = {}
    with ExitStack() as stack:
        engines = {
            kind: stack.enter_context(Engine(export.gguf_file(name, kind))) for kind in export.KINDS
        }
        many = stack.enter_context(Engine(export.gguf_file(name, "f16"), slots=SLOTS))
        server = stack.enter_context(Server(port=0))
        client = stack.enter_context(httpx.Client(base_url=server.address, **CLIENT))
        pool = stack.enter_context(ThreadPoolExecutor(SLOTS))

        def served(limit: int, stream: bool = False) -> dict:
            told = same | {"options": options | {"num_predict": limit}, "stream": stream}
            return last(client, "/api/generate", told)

        def together(engine: Engine, texts: int) -> None:
            list(pool.map(lambda _: engine.complete(PROMPT, **how), range(texts)))

        @torch.no_grad()
        def plain() -> None:
            model.generate(**asked, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)

        written = served(tokens)["eval_count"]  # it ends where the model ends
        works: dict[str, Callable] = {"transformers": plain}
        works |= {f"engine {k}": lambda e=e: e.complete(PROMPT, **how) for k, e in engines.items()}
        works |= {
            f"{SLOTS} texts, 1 slot": lambda: together(engines["f16"], SLOTS),
            f"{SLOTS} texts, {SLOTS} slots": lambda: together(many, SLOTS),
        }
        taken = alternate(works, rounds)
        for work, took in taken.items():
            found[f"{work}, tokens/s"] = tokens * (SLOTS if "texts" in work else 1) / took
        # the server's own engine is the peer of the server: the same file, slots and answer
        under = next(iter(server.pool.loaded.values())).engine.address
        native = stack.enter_context(httpx.Client(base_url=under, **CLIENT))

        def direct(limit: int, stream: bool = False) -> None:
            told = how | {"n_predict": limit, "prompt": PROMPT, "stream": stream}
            last(native, "/completion", told | {"ignore_eos": False})

        long = alternate(
            {
                "server": lambda: served(written),
                "llama.cpp's own server": lambda: direct(written),
                "server, streamed": lambda: served(written, True),
                "llama.cpp's own server, streamed": lambda: direct(written, True),
            },
            rounds,
        )
        short = alternate(  # streamed by both: so the server asks llama.cpp
            {"server": lambda: served(1, True), "llama.cpp": lambda: direct(1, True)}, 40
        )
    found |= {f"{who}, tokens/s": written / took for who, took in long.items()}
    found["server over llama.cpp, ms a request"] = 1000 * (short["server"] - short["llama.cpp"])
    rate = "engine f16, tokens/s"
    found["engine f16 / transformers"] = found[rate] / found["transformers, tokens/s"]
    for how_sent in ("", ", streamed"):
        found[f"server / llama.cpp's own server{how_sent}"] = (
            long[f"llama.cpp's own server{how_sent}"] / long[f"server{how_sent}"]
        )
    found[f"{SLOTS} slots / 1 slot"] = (
        taken[f"{SLOTS} texts, 1 slot"] / taken[f"{SLOTS} texts, {SLOTS} slots"]
    )
    return found


def batching(rounds: int) -> dict[str, float]:
    """What slots bring where weights come from memory: a real shape's, 1 GB of random numbers.

    A miniature's weights stay in the processor's cache, so that eight slots share little there.
    Raises MemoryError.
    """
    how = {"n_predict": 24, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = throughput.random_model(SHAPE, folder / SHAPE)
        file = export.export(home, folder / f"{SHAPE}.gguf", "f16")
        pool = stack.enter_context(ThreadPoolExecutor(SLOTS))

        def together(engine: Engine) -> None:
            list(pool.map(lambda _: engine.complete("Hello", **how), range(SLOTS)))

        works = {}
        for slots in (1, SLOTS):
            engine = stack.enter_context(Engine(file, slots=slots, context=256))
            works[f"{SHAPE}'s shape, {SLOTS} texts, {slots} slot{'s' * (slots > 1)}"] = partial(
                together, engine
            )
        one, many = alternate(works, rounds).values()
    texts = SLOTS * how["n_predict"]
    found = {
        f"{name}, tokens/s": texts / took for name, took in zip(works, (one, many), strict=True)
    }
    return found | {f"{SLOTS} slots / 1 slot, {SHAPE}'s shape": one / many}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="mini-qwen", help="a miniature's name")
    parser.add_argument("--tokens", type=int, default=128, help="written in each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="without the shape of 1 GB")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    told = parser.parse_args()
    found = measure(told.name, told.tokens, told.rounds)
    if not told.small:
        found |= batching(rounds=3)
    if told.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{told.name}, {torch.get_num_threads()} threads")
    for name, value in found.items():
        print(f"{name:46} {value:9,.2f}" if value < 100 else f"{name:46} {value:9,.0f}")


if __name__ == "__main__":
    main()
