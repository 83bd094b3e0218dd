"""Measures the memory bandwidth of this machine, and how fast a model of a given shape decodes.

A token takes the same work for any weights, so a catalogue model's shape with random weights is as
fast as the model itself. The speeds are those of one core in CPU time, which stops while other
programs run; the fastest of several short measurements counts.
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

PIECE = 8 * 2**20  # bytes read at a time, in a fraction of a millisecond
READ = 512 * 2**20  # bytes in all, more than a cache holds
SHARD = "200MB"  # of one weights file; loading needs memory for one file at a time
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def bandwidth(size: int = READ, rounds: int = 3, cores: int = 1) -> float:
    """Return the bytes per second that `cores` cores read from memory together.

    This is the fastest of many short measurements, in which each core reads 8 MiB. size: bytes to
    read, `rounds` times, at least 8 MiB per core; a size within the processor's cache measures the
    cache. Raises ValueError below 8 MiB.
    """
    if size < PIECE:
        raise ValueError(f"{size} bytes are less than a piece of {PIECE}")
    measurements = max(1, size // (cores * PIECE))
    memory = np.ones((measurements, cores, PIECE // 4), np.float32)
    fastest = float("inf")
    with ThreadPoolExecutor(cores) as pool:
        for pieces in [*memory] * rounds:
            start = time.perf_counter()
            if cores == 1:
                pieces.max()
            else:
                list(pool.map(np.max, pieces))  # numpy releases the GIL
            fastest = min(fastest, time.perf_counter() - start)
    return cores * PIECE / fastest


def random_model(id: str, home: Path, seed: int = 0) -> Path:
    """Write a model with a catalogue model's shape and random weights; return its folder, `home`.

    The weights are bfloat16, initialised by transformers as for training. The tokenizer is
    mini-qwen's; ids beyond its vocabulary decode to meaningless text. Raises LookupError if the
    catalogue has no config for the model, MemoryError before building a model that does not fit.
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
    """Return the tokens per second that llama.cpp decodes, in CPU time of this process.

    engine: with one thread, because the times of several would add up. The prompt does not count:
    the result is from the difference between a long and a short completion, `tokens` apart, each
    the fastest of `times`.
    """

    def seconds(n: int) -> float:
        options = {"n_predict": n, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        start = time.process_time()
        engine.complete([1, 2, 3, 4], **options)
        return time.process_time() - start

    seconds(2)  # the first completion reads the weights from disk
    short, long = (min(seconds(n) for _ in range(times)) for n in (2, 2 + tokens))
    return tokens / (long - short)


@torch.no_grad()
def model_speed(model: transformers.PreTrainedModel, tokens: int = 8) -> float:
    """Return the tokens per second that transformers decodes, by its fastest token.

    In CPU time of this thread. Call `torch.set_num_threads(1)` first: other threads' time does not
    count.
    """
    cache = transformers.DynamicCache(config=model.config)
    ids = torch.tensor([[1, 2, 3, 4]])
    fastest = float("inf")
    for step in range(tokens + 1):
        start = time.thread_time()
        logits = model(input_ids=ids, past_key_values=cache, logits_to_keep=1).logits
        ids = logits[:, -1].argmax(-1, keepdim=True)  # (1, 1)
        if step:  # the first pass reads the prompt
            fastest = min(fastest, time.thread_time() - start)
    return 1 / fastest
