"""Helpers of the server's tests: uploads, images, adapters, and checks of the server's health."""

import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path

import gguf
import httpx
import numpy as np
import ollama
from hypothesis import HealthCheck, settings
from PIL import Image

GREEDY = {"temperature": 0, "seed": 1}
MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition. The limit of a minute is generous: the time is not tested."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("the condition did not become true")


def upload(http: httpx.Client, content: bytes) -> str:
    """Upload a blob and return its digest."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert http.post(f"/api/blobs/{digest}", content=content).status_code in (200, 201)
    return digest


def check_alive(client: ollama.Client) -> None:
    """Check that the server still answers correctly."""
    assert client.chat("mini-qwen", MESSAGES, options=GREEDY).message.content == "2 + 2 = 4"


def check_refused(response: httpx.Response) -> None:
    """Check that a request was refused with an error message."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text[:300])
    assert response.json()["error"]


def picture(colour: tuple[int, int, int]) -> bytes:
    """Return a PNG of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def adapter(file: Path, strength: float) -> Path:
    """Write a LoRA for mini-qwen in GGUF, on the first layer's queries."""
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    rng = np.random.default_rng(0)
    for part, shape in (("lora_a", (4, 256)), ("lora_b", (256, 4))):
        values = (strength * rng.standard_normal(shape)).astype(np.float32)
        writer.add_tensor(f"blk.0.attn_q.weight.{part}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def examples(count: int) -> settings:
    """Return hypothesis settings for a number of reproducible examples without a time limit."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
