"""How fast memory is read here, and how fast a model of a given shape writes.

A token takes the same work whatever the weights are, so a shape of the catalogue, filled with
random numbers, is as fast as the model itself. Those speeds are of one core and counted in its own
time, which stops while other programs have it; of several short measurements the fastest counts.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import transformers

from openmodels import catalog, minis, sizing
from openmodels.serving.engine import Engine

PIECE = 8 * 2**20  # bytes read at a time, a fraction of a millisecond
READ = 512 * 2**20  # bytes in all: more than a cache holds
SHARD = "200MB"  # of the weights in a file: a reader holds one file at a time
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def bandwidth(size: int = READ, rounds: int = 3, cores: int = 1) -> float:
    """Bytes a second read from memory, by one core or by several at a time.

    The fastest of many short looks; in each, every core reads a piece of 8 MiB. size: bytes to read
    from, `rounds` times over, at least a piece for each core. ValueError below one piece. A size
    that the processor's cache holds measures the cache.
    """
    if size < PIECE:
        raise ValueError(f"{size} bytes are less than a piece of {PIECE}")
    looks = max(1, size // (cores * PIECE))
    memory = np.ones((looks, cores, PIECE // 4), np.float32)
    fastest = float("inf")
    with ThreadPoolExecutor(cores) as pool:
        for pieces in [*memory] * rounds:
            start = time.perf_counter()
            if cores == 1:
                pieces.max()
            else:
                list(pool.map(np.max, pieces))  # numpy lets other threads run meanwhile
            fastest = min(fastest, time.perf_counter() - start)
    return cores * PIECE / fastest


def random_model(id: str, home: Path, seed: int = 0) -> Path:
    """A folder with a catalogue model's shape, as transformers stores it, and random weights.

    The weights are bfloat16, as the library draws them for training. The tokenizer is mini-qwen's:
    ids above its own decode to nothing that means anything. Raises LookupError when the catalogue
    has no config for the model, MemoryError before building what does not fit.
    """
    config = catalog.config(id)
    fit = sizing.fits(sizing.parameters(config))
    if not fit:
        raise MemoryError(f"{id} in bfloat16 {fit}")
    torch.manual_seed(seed)
    model = sizing.model_class(config)._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(home, max_shard_size=SHARD)
    for name in TOKENIZER:
        shutil.copy(minis.weights_dir("mini-qwen") / name, home)
    return home


def engine_speed(engine: Engine, tokens: int = 8, times: int = 3) -> float:
    """Tokens a second that llama.cpp writes, in this process's own time.

    engine: of one thread; more would add up their times. The prompt is taken off: the time of a
    long answer less that of a short one, `tokens` apart, each the least of `times`.
    """

    def seconds(n: int) -> float:
        how = {"n_predict": n, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        start = time.process_time()
        engine.complete([1, 2, 3, 4], **how)
        return time.process_time() - start

    seconds(2)  # the first answer finds the weights on the disk
    short, long = (min(seconds(n) for _ in range(times)) for n in (2, 2 + tokens))
    return tokens / (long - short)


@torch.no_grad()
def model_speed(model: transformers.PreTrainedModel, tokens: int = 8) -> float:
    """Tokens a second that transformers writes, by its fastest token, in this thread's own time.

    Set `torch.set_num_threads(1)` before: what other threads compute is not seen.
    """
    cache = transformers.DynamicCache(config=model.config)
    ids = torch.tensor([[1, 2, 3, 4]])
    fastest = float("inf")
    for place in range(tokens + 1):
        start = time.thread_time()
        logits = model(input_ids=ids, past_key_values=cache, logits_to_keep=1).logits
        ids = logits[:, -1].argmax(-1, keepdim=True)  # (1, 1)
        if place:  # the first pass reads the prompt
            fastest = min(fastest, time.thread_time() - start)
    return 1 / fastest
