"""Score mini-qwen-vl by what it generates: `python -m openmodels.minis.evaluate_vl FOLDER`.

Greedy generation, held-out scenes only. Exact match, except that a box needs an overlap (IoU) of
one half with the right one. Intervals are Wilson's 95 % score intervals.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers import Qwen2_5_VLForConditionalGeneration as Model

from openmodels.harbour import scenes
from openmodels.minis import vl_forward
from openmodels.minis.evaluate import Score, score
from openmodels.minis.qwen_vl import MINI
from openmodels.minis.vl_data import Encoder, Row, collate, pixels_of, positions

TASKS = tuple(scenes.TASKS)
LONGEST = 112  # new tokens; three boxes take about 100
OVERLAP = 0.5
CURVE = ("printed", "form", "value", "gauge")  # tasks whose scores depend most on resolution
SCALES = (0.5, 0.625, 0.75, 1.0, 1.5)
EACH = 50  # scenes of one job, see `jobs`


@dataclass(frozen=True)
class Item:
    """A held-out question. pixels: (height, width, 3), 0 to 255, as the model reads them."""

    question: scenes.Question
    pixels: np.ndarray


def items(task: str, count: int, seed: int, scale: float = 1.0) -> list[Item]:
    """Return held-out questions of a task. scale: of width and height, before the model's sizes."""
    drawn = []
    for scene, question in scenes.questions(task, count, seed):
        drawn.append(Item(question, pixels_of(rescale(scene.image, scale))))
    return drawn


def rescale(image: Image.Image, scale: float) -> Image.Image:
    """Return a picture with width and height multiplied by a scale (bicubic)."""
    if scale == 1:
        return image
    size = round(image.width * scale), round(image.height * scale)
    return image.resize(size, Image.Resampling.BICUBIC)


def jobs(tasks: Iterable[str], count: int, seed: int,
         scale: float = 1.0) -> list[tuple[str, int, int, float]]:  # fmt: skip
    """Return arguments of `items`, in parts that several processes can share."""
    parts = -(-count // EACH)
    sizes = [min(EACH, count - EACH * part) for part in range(parts)]
    return [(t, size, seed * 1000 + n, scale) for t in tasks for n, size in enumerate(sizes)]


def rendered(work: list[tuple[str, int, int, float]], pool: Pool | None = None) -> list[Item]:
    """Return the items of jobs, drawn by a pool of processes if there is one."""
    parts = pool.starmap(items, work, chunksize=1) if pool else [items(*job) for job in work]
    return [item for part in parts for item in part]


def answers(model: Model, encoder: Encoder, drawn: Sequence[Item], rows: int = 256,
            blind: bool = False, last: bool = False) -> list[str]:  # fmt: skip
    """Return what the model answers to each item.

    rows: of one batch. blind: the model sees a grey picture. last: the picture comes after the
    question.
    """
    device = next(model.parameters()).device
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, item in enumerate(drawn):
        long = item.question.task in ("form", "boxes")
        groups[*item.pixels.shape, long].append(number)
    written = [""] * len(drawn)
    for numbers in groups.values():
        for start in range(0, len(numbers), rows):
            chosen = numbers[start : start + rows]
            part = [drawn[n] for n in chosen]
            for n, text in zip(chosen, answer_batch(model, encoder, part, device, blind, last),
                               strict=True):  # fmt: skip
                written[n] = text
    return written


def answer_batch(model: Model, encoder: Encoder, part: Sequence[Item], device: torch.device,
                 blind: bool, last: bool) -> list[str]:  # fmt: skip
    """Return the answers to items whose pictures have one size."""
    height, width, _ = part[0].pixels.shape
    rows = []
    for item in part:
        ids = encoder.prompt(item.question, MINI.tokens(width, height), last)
        where = positions(ids, encoder.place, (width, height))
        rows.append(Row(ids, [1.0] * len(ids), where))
    pixels = np.stack([item.pixels for item in part])
    batch = collate("", rows, np.full_like(pixels, 128) if blind else pixels, left_padded=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        written = vl_forward.generate(
            model, torch.from_numpy(batch.pixels).to(device),
            torch.from_numpy(batch.ids).to(device),
            torch.from_numpy(batch.weights > 0).to(device),
            torch.from_numpy(batch.positions).to(device),
            LONGEST, encoder.tokenizer.eos_token_id,
        )  # fmt: skip
    return [encoder.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]


def is_right(question: scenes.Question, written: str) -> bool:
    """Return whether an answer is right: the same JSON, boxes that overlap, or the same text."""
    if question.task == "boxes":
        return boxes_match(question.answer, written)
    if question.task == "form":
        return parsed(written) == json.loads(question.answer)
    return written.strip() == question.answer


def parsed(written: str) -> object:
    """Return the JSON in an answer, or None if it is none."""
    try:
        return json.loads(written)
    except (json.JSONDecodeError, RecursionError):
        return None


def boxes_match(right: str, written: str) -> bool:
    """Return whether each right box has one of the same label with an IoU of at least one half."""
    boxes = parsed(written)
    if not isinstance(boxes, list) or not all(isinstance(box, dict) for box in boxes):
        return False
    expected = json.loads(right)
    if len(boxes) != len(expected):
        return False
    remaining = list(boxes)
    for box in expected:
        match = next(
            (b for b in remaining if b.get("label") == box["label"]
             and overlap(b.get("bbox_2d"), box["bbox_2d"]) >= OVERLAP), None,
        )  # fmt: skip
        if match is None:
            return False
        remaining.remove(match)
    return True


def overlap(box: object, target: Sequence[float]) -> float:
    """Return intersection over union of two boxes, (left, top, right, bottom); 0 for no box."""
    if not isinstance(box, list) or len(box) != 4:
        return 0.0
    if not all(isinstance(side, (int, float)) for side in box):
        return 0.0
    across = min(box[2], target[2]) - max(box[0], target[0])
    down = min(box[3], target[3]) - max(box[1], target[1])
    both = max(0.0, across) * max(0.0, down)
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, target))
    return both / (areas - both) if areas > both else 0.0


def edits(right: str, written: str) -> int:
    """Return the fewest insertions, deletions and changes of letters between two texts."""
    row = list(range(len(written) + 1))
    for i, a in enumerate(right, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(written, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def marked(drawn: Sequence[Item], written: Sequence[str]) -> dict[str, dict]:
    """Return each task's score; for printed words also the character error rate."""
    right: dict[str, list[bool]] = defaultdict(list)
    wrong_letters: dict[str, int] = defaultdict(int)
    letters: dict[str, int] = defaultdict(int)
    for item, text in zip(drawn, written, strict=True):
        question = item.question
        right[question.task].append(is_right(question, text))
        wrong_letters[question.task] += edits(question.answer, text.strip())
        letters[question.task] += len(question.answer)
    table = {}
    for task in scenes.TASKS:
        if task in right:
            result: Score = score(sum(right[task]), len(right[task]))
            table[task] = asdict(result)
            if task in ("printed", "printed_invented"):
                table[task]["cer"] = round(wrong_letters[task] / letters[task], 4)
    return table


def evaluate(model: Model, tokenizer: PreTrainedTokenizerBase, count: int = 500, seed: int = 7,
             pool: Pool | None = None, rows: int = 256, deadline: float | None = None,
             save: Callable[[dict], None] | None = None, curve: int = 200) -> dict:  # fmt: skip
    """Return scores, the floor of a blind model, the picture put last, and curves over resolution.

    deadline: as of `time.time()`; parts that would begin after it are left out. save: called with
    what is there after each part. curve: scenes for each point of a curve.
    """
    encoder = Encoder(tokenizer)
    results: dict = {"count": count, "seed": seed}

    def due() -> bool:
        return deadline is not None and time.time() > deadline

    def store(name: str, value: dict) -> None:
        results[name] = value
        print(name, json.dumps(value), flush=True)
        if save:
            save(results)

    drawn = rendered(jobs(scenes.TASKS, count, seed), pool)
    written = answers(model, encoder, drawn, rows)
    store("tasks", marked(drawn, written))
    examples = [
        {"task": i.question.task, "question": i.question.text, "right": i.question.answer,
         "written": text}
        for i, text in list(zip(drawn, written, strict=True))[:: max(1, len(drawn) // 60)]
    ]  # fmt: skip
    results["examples"] = examples
    if not due():
        store("picture_last", marked(drawn, answers(model, encoder, drawn, rows, last=True)))
    if not due():
        store("blind", marked(drawn, answers(model, encoder, drawn, rows, blind=True)))
    table = {}
    for scale in SCALES:
        if due():
            break
        drawn = rendered(jobs(CURVE, curve, seed + 1, scale), pool)
        table[str(scale)] = marked(drawn, answers(model, encoder, drawn, rows))
        store("resolution", table)
    return results


def evaluate_tasks(
    model: Model, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[str], count: int, seed: int,
    show: Callable[[str, Score], None] | None = None,
) -> dict[str, Score]:  # fmt: skip
    """Return the scores of tasks in `TASKS`, each on `count` held-out questions."""
    encoder = Encoder(tokenizer)
    scores = {}
    for task in tasks:
        drawn = rendered(jobs([task], count, seed))
        pairs = zip(drawn, answers(model, encoder, drawn, rows=16), strict=True)
        scores[task] = score(sum(is_right(i.question, text) for i, text in pairs), count)
        if show:
            show(task, scores[task])
    return scores


def card_results(results: dict, model: Model) -> dict:
    """Return the content of scores.json: the results with what a card states first.

    The floor of a task is the share of a blind model's answers that are right.
    """
    tasks = {
        task: row | {"floor": round(blind["correct"] / blind["n"], 4)}
        if (blind := results.get("blind", {}).get(task)) else row
        for task, row in results["tasks"].items()
    }  # fmt: skip
    details = {
        "date": date.today().isoformat(),
        "architecture": type(model).__name__,
        "parameters": model.num_parameters(),
    }
    return details | without_examples(results) | {"tasks": tasks}


def without_examples(results: dict) -> dict:
    """Return the results without single answers."""
    return {key: value for key, value in results.items() if key != "examples"}


def load(home: Path) -> tuple[Model, PreTrainedTokenizerBase]:
    """Return the model (float32) and the tokenizer of a folder."""
    model = Model.from_pretrained(home, dtype=torch.float32, use_safetensors=True)
    return model.eval(), AutoTokenizer.from_pretrained(home, trust_remote_code=False)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path, help="the model's folder")
    parser.add_argument("--count", type=int, default=500, help="held-out questions per task")
    parser.add_argument("--rows", type=int, default=32, help="questions answered side by side")
    parser.add_argument("--curve", type=int, default=100, help="questions per point of a curve")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="write the scores here, for a model card")
    options = parser.parse_args()
    model, tokenizer = load(options.home)
    results = evaluate(
        model.to(options.device),
        tokenizer,
        options.count,
        options.seed,
        rows=options.rows,
        curve=options.curve,
    )
    for item in results["examples"]:
        print(json.dumps(item, ensure_ascii=False))
    if options.out:
        text = json.dumps(card_results(results, model), indent=1, ensure_ascii=False)
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
