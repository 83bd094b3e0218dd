"""What several checkers of lab 2 use: the miniature, a server of their own, shortened texts."""

import contextlib
import tempfile
from collections.abc import Iterator
from functools import cache

import ollama

from openmodels import loading
from openmodels.exercises import load_quietly
from openmodels.serving.app import Server

DESK = "desk"  # the model that a checker creates on its server


@cache
def load_miniature() -> loading.Loaded:
    """Return mini-qwen on the CPU.

    It stops and pads as full-size Qwen2.5 chat models do: the padding token is one of two stop
    tokens, so that `generate` cannot guess the attention mask.
    """
    loaded = model, tokenizer = load_quietly("mini-qwen")
    stops = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    model.generation_config.eos_token_id = stops
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return loaded


@contextlib.contextmanager
def serve() -> Iterator[ollama.Client]:
    """Start the course's server on a free loopback port with an empty store; yield a client."""
    with tempfile.TemporaryDirectory() as root, Server(port=0, root=root, threads=1) as server:
        yield ollama.Client(server.address, trust_env=False)


def shorten(text: str) -> str:
    """Return the text's repr; of a long text only its start and its end."""
    return repr(text if len(text) <= 90 else f"{text[:40]} … {text[-40:]}")
