"""Prints a model's speed on this machine: `python tools/benchmark.py [NAME]`.

Time to first token and decoding speed are medians over `--runs`; peak memory is this process's.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import psutil
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import openmodels


def peak_memory() -> float:
    """Return the most memory that this process has used, in GB."""
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return memory.peak_wset / 1e9
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kibibytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


@torch.no_grad()
def measure(model: transformers.PreTrainedModel, tokens: int, runs: int) -> tuple[float, float]:
    """Return (seconds to the first token of a 64-token prompt, decoded tokens per second).

    Both are medians over `runs`; one more run warms up.
    """
    prompt = torch.randint(20, model.config.vocab_size, (1, 64), device=model.device)
    settings = dict(attention_mask=torch.ones_like(prompt), do_sample=False)
    first, rates = [], []
    for _ in range(runs + 1):  # the first run warms up and is dropped
        start = time.perf_counter()
        model.generate(prompt, max_new_tokens=1, min_new_tokens=1, **settings)
        middle = time.perf_counter()
        model.generate(prompt, max_new_tokens=tokens, min_new_tokens=tokens, **settings)
        first.append(middle - start)
        rates.append((tokens - 1) / (time.perf_counter() - middle - first[-1]))
    return statistics.median(first[1:]), statistics.median(rates[1:])


def main() -> None:
    """Print the results as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="as for openmodels.load (default: mini-qwen)")
    parser.add_argument("--tokens", type=int, default=128, help="decoded per run")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    start = time.perf_counter()
    model, _ = openmodels.load(options.name)
    loaded = time.perf_counter() - start
    first, rate = measure(model, options.tokens, options.runs)
    print(f"load, with imports       {loaded:8.1f} s")
    print(f"time to first token      {1000 * first:8.1f} ms")
    print(f"decoding, one row        {rate:8.0f} tokens/s")
    print(f"peak memory              {peak_memory():8.2f} GB")


if __name__ == "__main__":
    main()
