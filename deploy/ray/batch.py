"""Evaluate documents with Ray Data, through a model server that speaks OpenAI's protocol.

    python deploy/ray/batch.py --url http://127.0.0.1:8000/v1 --model qwen2.5-7b --count 5000

It asks the questions of `openmodels.workflows.jobs` and writes into the same kind of store, with
the document as key: run it again after a failure, and it sends what is missing. Without --address
it starts Ray on this machine. Ray is not a dependency of the course: install it with
`pip install "ray[data]==2.60.*"` into an environment of its own, with the course on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from openmodels.workflows import jobs

MAX_TOKENS = 48  # of an answer
BATCH = 64  # documents per task, and results per transaction


def to_request(row: dict[str, Any], model: str) -> dict[str, Any]:
    """Return the row with the request for its document, as Ray's HTTP stage expects it."""
    message = {"role": "user", "content": jobs.document(int(row["document"])).key}
    payload = {"model": model, "messages": [message], "temperature": 0, "max_tokens": MAX_TOKENS}
    return {"document": row["document"], "payload": payload}


def to_outcome(row: dict[str, Any]) -> dict[str, Any]:
    """Return whether the response is the right answer."""
    answer = row["http_response"]["choices"][0]["message"]["content"].strip()
    is_right = answer == jobs.document(int(row["document"])).answer["content"]
    return {"document": row["document"], "state": "right" if is_right else "wrong"}


def http_config(url: str, concurrency: int) -> Any:
    """Return the settings of Ray Data's HTTP stage."""
    from ray.data.llm import HttpRequestProcessorConfig

    return HttpRequestProcessorConfig(
        url=f"{url}/chat/completions",
        headers={"Authorization": f"Bearer {os.environ.get('VLLM_API_KEY', 'none')}"},
        batch_size=BATCH,
        concurrency=concurrency,
    )


def build(url: str, model: str, concurrency: int) -> Any:
    """Return Ray Data's processor: request, HTTP call, comparison."""
    from ray.data.llm import build_processor

    return build_processor(
        http_config(url, concurrency),
        preprocess=lambda row: to_request(row, model),
        postprocess=to_outcome,
    )


def main() -> None:
    """Evaluate the documents that the store lacks."""
    import ray

    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=1, help="tasks that send requests")
    parser.add_argument("--store", type=Path, default=Path("results.sqlite"))
    parser.add_argument("--address", help="of a running Ray cluster; without it, Ray starts here")
    options = parser.parse_args()
    here = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    ray.init(options.address, **({} if options.address else here))
    with jobs.Store(options.store, f"ask {options.model}") as store:
        missing = store.missing(range(options.count))
        print(f"{len(missing):,} of {options.count:,} documents have no result yet")
        if missing:
            dataset = ray.data.from_items([{"document": number} for number in missing])
            outcomes = build(options.url, options.model, options.concurrency)(dataset)
            for batch in outcomes.iter_batches(batch_size=BATCH, batch_format="pydict"):
                pairs = zip(batch["document"], batch["state"], strict=True)
                store.save([jobs.Outcome(int(n), str(s), "", "ray", 1) for n, s in pairs])
        print(store.counts())


if __name__ == "__main__":
    main()
