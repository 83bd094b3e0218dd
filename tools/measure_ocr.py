"""Measure RapidOCR on held-out pictures: `python tools/measure_ocr.py --count 100`.

It needs `pip install rapidocr onnxruntime` beside the course's packages, best in an environment of
its own. It writes openmodels/data/ocr_scores.csv: a row per task and scale, with n, the 95 %
interval, the processor's seconds per page and the versions.
"""

import argparse
import csv
import time
from collections.abc import Sequence
from datetime import date
from importlib import metadata
from pathlib import Path

from openmodels.harbour import scenes
from openmodels.minis.evaluate import score
from openmodels.workflows import documents, ocr

SEED = 31  # of the pictures in the chapter's notebook
CASES = (
    ("form", 1.0), ("form", 0.5), ("form", 2.0), ("printed", 1.0), ("printed_invented", 1.0),
    ("gauge", 1.0),
)  # fmt: skip


def measure(read_lines: ocr.Reader, task: str, scale: float, count: int, seed: int) -> dict:
    """Return a row of the table: right answers to `count` held-out questions, and the time."""
    questions = list(scenes.questions(task, count, seed))
    correct, seconds = 0, 0.0
    for scene, question in questions:
        picture = documents.rescale(scene, scale)
        start = time.process_time()
        text = ocr.answer(task, read_lines(picture))
        seconds += time.process_time() - start
        correct += ocr.is_right(question, text)
    result = score(correct, count)
    return {
        "task": task, "scale": scale, "seed": seed, "n": count, "correct": correct,
        "low": result.low, "high": result.high, "cpu_seconds_per_page": round(seconds / count, 2),
    }  # fmt: skip


def write(rows: Sequence[dict], path: Path) -> None:
    """Write the rows with the versions and the date."""
    versions = {package: metadata.version(package) for package in ocr.PACKAGES}
    rows = [row | versions | {"measured": date.today().isoformat()} for row in rows]
    with path.open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="held-out pictures per row")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=ocr.SCORES)
    options = parser.parse_args(arguments)
    read_lines, rows = ocr.reader(), []
    for task, scale in CASES:
        rows.append(measure(read_lines, task, scale, options.count, options.seed))
        print(rows[-1], flush=True)
    write(rows, options.out)


if __name__ == "__main__":
    main()
