"""Train mini-qwen-vl: `python -m openmodels.minis.train_vl --minutes 60`.

The text model starts from mini-qwen. First only the vision tower learns, from a helper's loss on
its patches before the merger: which letter is where, where each patch is, and which flag or bar
covers it. Rotary positions are relative, so without this loss the patches know little of where they
are. Then the whole model learns to answer, with the helper's loss beside the answers'. Pictures are
drawn during training, by processes that only draw. On a GPU 6 minutes suffice; on two cores, an
hour shows the same stages. `--start FOLDER` continues from a trained model.
"""

import argparse
import json
import mmap
import multiprocessing
import os
import queue
import random
import shutil
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration
from transformers.utils import logging

from openmodels import loading
from openmodels.harbour import instances, scenes
from openmodels.minis import (
    build_dir,
    configs,
    data,
    evaluate,
    evaluate_vl,
    qwen_vl,
    tokenizer,
    vl_forward,
    weights_dir,
)
from openmodels.minis.muon import Muon
from openmodels.minis.vl_data import (
    MIX,
    Batch,
    Encoder,
    Row,
    Source,
    collate,
    letter_labels,
    positions,
)
from openmodels.minis.vl_helper import Reader

NAME = "mini-qwen-vl"
TEXT_TASKS = ("text_qa", "tool", "order", "intent", "sums", "fact", "words", "sentences")
SLOTS = 3  # batches that a drawing process may be ahead


@dataclass(frozen=True)
class Recipe:
    """How a run steps. Shares are of the time for training."""

    start: str = "mini-qwen"  # a miniature, or the folder of a mini-qwen-vl to continue
    mix: dict[str, float] = field(default_factory=lambda: dict(MIX))
    reading: float = 0.22  # share in which only the helper's loss is learned
    growing: float = 0.25  # share after it over which printed words grow to full length
    helper: float = 0.3  # weight of the helper's loss beside the answers'
    letters: bool = True  # whether the helper learns letters, not places and objects only
    aside: int = 0  # first steps in which the helper learns and the tower does not learn from it
    micro: int = 3  # batches of different kinds in one step
    budget: int = 8192  # squares of 28 x 28 pixels in a batch
    vision_rate: float = 0.015  # Muon, for the matrices of the vision tower and the merger
    text_rate: float = 0.006  # Muon, for the matrices of the text model
    other_rate: float = 2e-3  # AdamW, for norms and biases of the vision tower and the helper
    text_other_rate: float = 7e-4  # AdamW, for embeddings, norms and biases of the text model
    warmup: int = 60  # steps
    text_warmup: int = 200  # steps, counted from the first in which the text model learns
    decay: float = 0.55  # last share, over which the rates fall to zero
    weight_decay: float = 0.05
    seed: int = 1


CONTINUED_MIX = {"flags": 36, "gauge": 6, "chart": 24, "notice": 14, "form": 10, "text": 10}
SMALL = Recipe(micro=2, budget=640, warmup=30, text_warmup=60)  # for a few cores


# ------------------------------------------------------------------ drawing processes


@dataclass
class Studio:
    """Processes that draw batches into shared memory, and a thread that moves them to the device.

    Memory is shared before the processes start, without a size limit of the system's own.
    """

    workers: int
    recipe: Recipe
    device: str

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self.state = context.Array("d", [1.0, 0.0])  # reading?, level
        size = self.recipe.budget * qwen_vl.SQUARE**2 * 3 + 2**16
        self.memory = [mmap.mmap(-1, size * SLOTS) for _ in range(self.workers)]
        self.size = size
        self.ready = context.Queue(self.workers * SLOTS)
        self.free = [context.Queue() for _ in range(self.workers)]
        self.processes = [
            context.Process(target=self.draw, args=(number,), daemon=True)
            for number in range(self.workers)
        ]
        self.batches: queue.Queue = queue.Queue(6)
        self.stopping = False
        self.waited = 0.0

    def start(self) -> None:
        """Start the processes; they wait for memory. Fork before there are threads."""
        for process in self.processes:
            process.start()

    def open(self) -> None:
        """Release the memory and start the thread that moves batches."""
        for number in range(self.workers):
            for slot in range(SLOTS):
                self.free[number].put(slot)
        self.thread = threading.Thread(target=self.move, daemon=True)
        self.thread.start()

    def draw(self, number: int) -> None:
        """Draw for ever; the body of a process."""
        torch.set_num_threads(1)
        encoder = Encoder(tokenizer.load(NAME))
        seed = random.Random(f"{self.recipe.seed}/{number}").randrange(2**20)
        source = Source(encoder, seed, self.recipe.budget, mix=self.recipe.mix)
        while True:
            slot = self.free[number].get()
            reading, level = self.state
            batch = source.next(bool(reading), level)
            pixels, batch.pixels = batch.pixels, None
            shape = None
            if pixels is not None:
                shape, start = pixels.shape, slot * self.size
                self.memory[number][start : start + pixels.nbytes] = pixels.tobytes()
            batch.ids, batch.positions = batch.ids.astype("i2"), batch.positions.astype("i2")
            self.ready.put((number, slot, shape, batch))

    def move(self) -> None:
        """Copy batches to the device; the body of the thread."""
        try:
            while not self.stopping:
                self.move_one()
        except Exception as error:  # the run waits for batches, so it must learn of it
            self.batches.put(error)

    def move_one(self) -> None:
        """Copy one batch to the device and free its memory."""
        try:
            number, slot, shape, batch = self.ready.get(timeout=1)
        except queue.Empty:
            return
        if shape is not None:
            count = int(np.prod(shape))
            flat = np.frombuffer(self.memory[number], np.uint8, count, slot * self.size)
            batch.pixels = flat.reshape(shape).copy()
        self.free[number].put(slot)
        self.batches.put(on_device(batch, self.device))

    def next(self) -> "Tensors":
        """Return a batch; `waited` counts the seconds without one.

        Raises RuntimeError if no process draws any more.
        """
        start = time.time()
        while True:
            try:
                batch = self.batches.get(timeout=5)
                break
            except queue.Empty:
                if not any(process.is_alive() for process in self.processes):
                    raise RuntimeError("every drawing process has ended") from None
        if isinstance(batch, Exception):
            raise batch
        self.waited += time.time() - start
        return batch

    def close(self) -> None:
        """Stop the processes and the thread."""
        self.stopping = True
        for process in self.processes:
            process.terminate()


@dataclass
class Tensors:
    """A batch on the device. chosen: where in (rows * length) the next id is predicted; targets,
    weights: of these."""

    kind: str
    ids: torch.Tensor
    positions: torch.Tensor
    chosen: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    pixels: torch.Tensor | None
    labels: torch.Tensor | None
    rows: int
    objects: torch.Tensor | None = None


def on_device(batch: Batch, device: str) -> Tensors:
    """Return a batch as tensors on the device."""
    weights = np.zeros_like(batch.weights)
    weights[:, :-1] = batch.weights[:, 1:]
    chosen = np.flatnonzero(weights)
    targets = np.roll(batch.ids, -1, 1).reshape(-1)[chosen]

    def send(array: np.ndarray | None) -> torch.Tensor | None:
        if array is None:
            return None
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if device.startswith("cuda"):
            return tensor.pin_memory().to(device, non_blocking=True)
        return tensor

    return Tensors(
        batch.kind, send(batch.ids).long(), send(batch.positions).long(), send(chosen),
        send(targets).long(), send(weights.reshape(-1)[chosen]).float(), send(batch.pixels),
        send(batch.labels), len(batch.ids), send(batch.objects),
    )  # fmt: skip


# ------------------------------------------------------------------ the run


def build(recipe: Recipe) -> Qwen2_5_VLForConditionalGeneration:
    """Return the model to train: a folder's, or an untrained one around a trained text model.

    Raises ValueError for a text model of another shape.
    """
    if Path(recipe.start).is_dir():
        return evaluate_vl.load(Path(recipe.start))[0].float()
    parent, _ = evaluate.load(weights_dir(recipe.start))
    model = Qwen2_5_VLForConditionalGeneration(configs.config(NAME)).float()
    language = model.model.language_model
    weights = {
        name.removeprefix("model."): value
        for name, value in parent.state_dict().items() if name.startswith("model.")
    }  # fmt: skip
    table = weights.pop("embed_tokens.weight")
    missing, unexpected = language.load_state_dict(weights, strict=False)
    if unexpected or set(missing) != {"embed_tokens.weight"}:
        raise ValueError(f"{recipe.start} does not fit: {missing}, {unexpected}")
    with torch.no_grad():
        embeddings = language.embed_tokens.weight
        embeddings[: len(table)] = table
        embeddings[len(table) :] = table.mean(0)
    model.tie_weights()
    return model


class Run:
    """Model, helper, optimisers and counters of one run."""

    def __init__(self, recipe: Recipe, device: str, dtype: torch.dtype):
        torch.manual_seed(recipe.seed)
        self.recipe, self.device, self.dtype = recipe, device, dtype
        self.model = build(recipe).to(device).train()
        self.reader = Reader(self.model.config.vision_config.hidden_size).to(device)
        named = dict(self.model.named_parameters())
        matrices: dict[bool, list] = {True: [], False: []}  # of the vision tower or of the text
        others: dict[bool, list] = {True: list(self.reader.parameters()), False: []}
        for name, weight in named.items():
            single = weight.ndim != 2 or "embed" in name or "lm_head" in name
            (others if single else matrices)["visual" in name].append(weight)
        exact = dtype if device.startswith("cuda") else torch.float32
        self.muons = [
            (Muon(matrices[seeing], 0, 1, recipe.weight_decay, exact), matrices[seeing], seeing)
            for seeing in (True, False)
        ]
        groups = [{"params": others[seeing], "seeing": seeing} for seeing in (True, False)]
        self.adamw = torch.optim.AdamW(
            groups, betas=(0.9, 0.98), weight_decay=0.0, fused=device.startswith("cuda") or None
        )
        self.weights = [*named.values(), *self.reader.parameters()]
        self.steps = self.text_steps = self.pictures = 0
        self.text_before: dict[str, float] = {}

    def autocast(self) -> torch.autocast:
        """Return the context in which forward passes run."""
        kind = "cuda" if self.device.startswith("cuda") else "cpu"
        return torch.autocast(kind, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def loss(self, batch: Tensors, reading: bool) -> tuple[torch.Tensor, dict]:
        """Return the loss of one batch and its parts."""
        model, parts = self.model, {}
        with self.autocast():
            seen, total = None, 0.0
            if batch.pixels is not None:
                seen, patches = vl_forward.see(model.model.visual, batch.pixels)
                if self.steps < self.recipe.aside:
                    patches = patches.detach()
                if batch.labels is not None and self.recipe.letters:
                    helper, parts["letters"] = self.reader.loss(patches, batch.labels)
                    total = helper if reading else self.recipe.helper * helper
                if batch.objects is not None:
                    helper, parts[f"place_{batch.kind}"] = self.reader.object_loss(
                        patches, batch.objects
                    )
                    total = total + (helper if reading else self.recipe.helper * helper)
            if reading:
                return total, parts
            x = vl_forward.embed(model, batch.ids, seen)
            hidden = vl_forward.read(model.model.language_model, x, batch.positions)
            scores = vl_forward.logits(model, hidden.flatten(0, 1)[batch.chosen])
        each = F.cross_entropy(scores, batch.targets, reduction="none")
        parts[batch.kind] = (each * batch.weights).sum() / batch.weights.sum()
        total = total + parts[batch.kind]
        parts[batch.kind] = parts[batch.kind].detach()
        return total, parts

    def step(self, batches: list[Tensors], rate: float, reading: bool) -> dict:
        """Take one step over a few batches; return the parts of the loss."""
        every: dict[str, torch.Tensor] = {}
        for batch in batches:
            loss, parts = self.loss(batch, reading)
            (loss / len(batches)).backward()
            every |= parts
            self.pictures += batch.rows if batch.pixels is not None else 0
        nn.utils.clip_grad_norm_([w for w in self.weights if w.grad is not None], 1.0)
        recipe = self.recipe
        self.text_steps += not reading
        slowed = rate * min(1.0, self.text_steps / recipe.text_warmup)
        for group in self.adamw.param_groups:
            seeing = group["seeing"]
            group["lr"] = rate * recipe.other_rate if seeing else slowed * recipe.text_other_rate
        self.adamw.step()
        for muon, weights, seeing in self.muons:
            if any(weight.grad is not None for weight in weights):
                for weight in weights:  # the merger has no gradient while the helper learns alone
                    if weight.grad is None:
                        weight.grad = torch.zeros_like(weight)
                muon.step(rate * recipe.vision_rate if seeing else slowed * recipe.text_rate)
        for weight in self.weights:
            weight.grad = None
        self.steps += 1
        return every

    # ------------------------------------------------------------------ watching
    @torch.no_grad()
    def watch(self, held_out: dict[str, list[Tensors]]) -> dict[str, float]:
        """Return the share of held-out answers that greedy decoding would get right, per task.

        Computed in one pass: each token must be the likeliest after the right beginning.
        """
        shares = {}
        for task, batches in held_out.items():
            right = total = 0
            for batch in batches:
                with self.autocast():
                    seen = None
                    if batch.pixels is not None:
                        seen, _ = vl_forward.see(self.model.model.visual, batch.pixels)
                    x = vl_forward.embed(self.model, batch.ids, seen)
                    hidden = vl_forward.read(self.model.model.language_model, x, batch.positions)
                    scores = vl_forward.logits(self.model, hidden.flatten(0, 1)[batch.chosen])
                wrong = scores.argmax(-1) != batch.targets
                row = batch.chosen // batch.ids.shape[1]
                missed = torch.zeros(batch.rows, device=wrong.device)
                missed.index_add_(0, row, wrong.float())
                right += (missed == 0).sum().item()
                total += batch.rows
            shares[task] = round(right / total, 3)
        return shares

    @torch.no_grad()
    def letters(self, held_out: list[Tensors]) -> float:
        """Return the share of held-out printed letters that the helper reads."""
        right = total = 0.0
        for batch in held_out:
            with self.autocast():
                _, patches = vl_forward.see(self.model.model.visual, batch.pixels)
                letters = self.reader(patches)[0].argmax(-1)
            labels = batch.labels.view(-1, 3)[:, 0].long()
            right += ((letters == labels) & (labels > 0)).sum().item()
            total += (labels > 0).sum().item()
        return round(right / total, 4)


def picture_part(task: str, count: int, seed: int) -> list[tuple]:
    """Return held-out (task, question, pixels, labels) for watching."""
    return [
        (task, question, np.asarray(scene.image), letter_labels(scene))
        for scene, question in scenes.questions(task, count, seed)
    ]


def picture_batches(drawn: list[tuple], encoder: Encoder, device: str,
                    rows: int) -> dict[str, list[Tensors]]:  # fmt: skip
    """Return drawn questions in batches of one task and size each."""
    groups: dict[tuple, list[tuple]] = {}
    for item in drawn:
        groups.setdefault((item[0], item[2].shape), []).append(item)
    batches: dict[str, list[Tensors]] = {}
    for (task, (height, width, _)), members in groups.items():
        for start in range(0, len(members), rows):
            part = members[start : start + rows]
            chats = [encoder.row([question], (width, height)) for _, question, _, _ in part]
            pixels, labels = (np.stack([item[n] for item in part]) for n in (2, 3))
            batch = collate(scenes.TASKS[task], chats, pixels, labels)
            batches.setdefault(task, []).append(on_device(batch, device))
    return batches


def text_batches(encoder: Encoder, count: int, device: str) -> dict[str, list[Tensors]]:
    """Return held-out conversations of mini-qwen's tasks, one batch per task."""
    batches = {}
    for task in TEXT_TASKS:
        rows = []
        for instance in instances(task, count, 0, "test"):
            document = data.encode(encoder.tokenizer, instance, 0.0)
            where = positions(document.ids, encoder.place, (28, 28))
            rows.append(Row(document.ids, document.weights, where))
        batches[task] = [on_device(collate("text", rows), device)]
    return batches


def rate_at(progress: float, step: int, recipe: Recipe) -> float:
    """Return the learning rates' share of their peak: warm-up, flat, linear to zero."""
    return min(1, (step + 1) / recipe.warmup) * min(1, max(0.0, (1 - progress) / recipe.decay))


def stage(progress: float, recipe: Recipe) -> tuple[bool, float]:
    """Return whether only letters are learned now, and how long printed words may be."""
    if progress < recipe.reading:
        return True, 1.0
    if recipe.growing == 0:
        return False, 1.0
    return False, min(1.0, 0.15 + 0.85 * (progress - recipe.reading) / recipe.growing)


def publish(run: Run, words: PreTrainedTokenizerBase, home: Path) -> None:
    """Write the model (bfloat16) and its processor in the layout `from_pretrained` reads."""
    model = run.model
    tensors = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied to the embeddings
        name = name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")
        tensors[name] = value.detach().to("cpu", torch.bfloat16).contiguous()
    save_file(tensors, home / "model.safetensors", {"format": "pt"})
    config = configs.config(NAME)
    config.dtype = torch.bfloat16
    config.save_pretrained(home)
    qwen_vl.Processor(words).save_pretrained(home)
    file = home / "tokenizer.json"  # a third of its size without line breaks and spaces
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(
        json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )


@dataclass
class Schedule:
    """When a run stops, checks itself and scores. end: as of `time.time()`; the others: seconds.

    reserve: time before the end for the scores. watch: between checks on held-out questions.
    """

    start: float
    end: float
    reserve: float
    watch: float


class Log:
    """The run's log: JSON lines on the screen and in log.jsonl."""

    def __init__(self, home: Path, start: float):
        self.file, self.start = (home / "log.jsonl").open("w", encoding="utf-8"), start

    def record(self, **fields: object) -> None:
        """Write one line with the seconds since the start."""
        line = json.dumps({"seconds": round(time.time() - self.start, 1), **fields})
        print(line, flush=True)
        self.file.write(line + "\n")
        self.file.flush()


def train(home: Path, device: str, workers: int, recipe: Recipe, final: int,
          schedule: Schedule) -> None:  # fmt: skip
    """Train, save and score a model. final: held-out questions per task for the scores."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    studio = Studio(workers, recipe, device)
    studio.start()
    pool = multiprocessing.get_context("fork").Pool(workers)
    torch.zeros(1, device=device)  # starts CUDA once, before the thread uses it
    studio.open()
    words = tokenizer.load(NAME)
    dtype = precision(device)
    if device == "cpu":
        torch.set_num_threads(os.cpu_count() or 1)  # drawing takes a tenth of a core
    run = Run(recipe, device, dtype)
    log = Log(home, schedule.start)
    vision = sum(weight.numel() for weight in run.model.model.visual.parameters())
    log.record(parameters=run.model.num_parameters(), vision=vision, device=device,
               workers=workers, dtype=str(dtype), recipe=asdict(recipe))  # fmt: skip
    each, rows = (128, 256) if device.startswith("cuda") else (24, 8)
    work = [(task, each // 2, 900 + part) for task in scenes.TASKS for part in range(2)]
    drawn = [item for part in pool.starmap(picture_part, work, chunksize=1) for item in part]
    encoder = Encoder(words)
    pictures = picture_batches(drawn, encoder, device, rows)
    texts = text_batches(encoder, each, device)
    steps(run, studio, pictures, texts, schedule, log, words, home)
    studio.close()
    run.model.eval()
    publish(run, words, home)
    log.record(saved=True, steps=run.steps, pictures=run.pictures)
    if final:
        details = {"seconds": round(time.time() - schedule.start), "text": run.watch(texts),
                   "text_before": run.text_before, "workers": workers}  # fmt: skip
        score(run, words, pool, rows, home, final, schedule.end, details)
    pool.terminate()
    log.record(written=str(home))


def steps(run: Run, studio: Studio, pictures: dict[str, list[Tensors]],
          texts: dict[str, list[Tensors]], schedule: Schedule, log: Log,
          words: PreTrainedTokenizerBase, home: Path) -> None:  # fmt: skip
    """Train until the time for the scores begins, with checks on held-out questions."""
    recipe = run.recipe
    printed = pictures["printed"] + pictures["printed_invented"] + pictures["form"]
    run.text_before = run.watch(texts)
    log.record(text_before=run.text_before)
    begin = watched = shown = time.time()
    pictures_before = 0
    parts: dict[str, torch.Tensor] = {}
    while True:
        progress = (time.time() - begin) / max(1.0, schedule.end - schedule.reserve - begin)
        if time.time() - watched > schedule.watch or progress >= 1:
            scored: dict[str, object] = {"reads": run.letters(printed)}
            if progress > recipe.reading:
                scored |= run.watch(pictures) | {"text": run.watch(texts)}
            log.record(
                progress=round(progress, 3), steps=run.steps, pictures=run.pictures, **scored
            )
            publish(run, words, home)  # so that a run that is stopped leaves a model
            watched = time.time()
        if progress >= 1:
            return
        reading, level = stage(progress, recipe)
        studio.state[:] = [float(reading), level]
        batches = [studio.next() for _ in range(recipe.micro)]
        if reading:  # late batches of the other stage are no use
            batches = [batch for batch in batches if batch.objects is not None]
        if not batches:
            continue
        parts |= run.step(batches, rate_at(progress, run.steps, recipe), reading)
        if time.time() - shown > 10:
            speed = (run.pictures - pictures_before) / (time.time() - shown)
            shown, pictures_before = time.time(), run.pictures
            losses = {name: round(value.item(), 3) for name, value in parts.items()}
            log.record(steps=run.steps, pictures=run.pictures, per_second=round(speed),
                       waited=round(studio.waited, 1), level=round(level, 2),
                       loss=losses)  # fmt: skip


def score(run: Run, words: PreTrainedTokenizerBase, pool: Pool, rows: int, home: Path,
          final: int, deadline: float, details: dict) -> None:  # fmt: skip
    """Score the model with bfloat16 weights, as shipped, and write scores.json.

    deadline: as of `time.time()`. details: what else the file says about the run.
    """
    device = run.device
    recipe = run.recipe
    details = details | {
        "helper": "both" if recipe.letters else "objects",
        "settings": ", ".join(f"{key} {value}" for key, value in asdict(recipe).items()),
        "earlier": earlier_runs(Path(recipe.start) / "scores.json"),
        "steps": run.steps, "pictures": run.pictures, "dtype": str(run.dtype)[6:],
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
    }  # fmt: skip
    with torch.no_grad():
        for weight in run.model.parameters():
            weight.copy_(weight.to(torch.bfloat16))

    def save(results: dict) -> None:
        content = evaluate_vl.card_results(results, run.model) | {"run": details}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (home / "scores.json").write_text(text + "\n", encoding="utf-8")

    evaluate_vl.evaluate(run.model, words, final, pool=pool, rows=2 * rows, deadline=deadline,
                         save=save, curve=min(200, final))  # fmt: skip


def earlier_runs(scores: Path) -> list[dict]:
    """Return the runs that a trained model's scores.json describes, the first one first."""
    if not scores.is_file():
        return []
    last = json.loads(scores.read_text(encoding="utf-8"))["run"]
    return [*last.pop("earlier", []), last]


def precision(device: str) -> torch.dtype:
    """Return the type of forward passes: bfloat16 if the processor multiplies it, else float32."""
    fast = device.startswith("cuda") or loading.cpu_has_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def continued(recipe: Recipe, start: Path, rate: float) -> Recipe:
    """Return the recipe that continues from a folder: one stage, with a share of the peak rates.

    It draws more of what short runs are worst at, and more text.
    """
    return replace(
        recipe, start=str(start), mix=CONTINUED_MIX, letters=False, aside=recipe.warmup,
        reading=0.0, growing=0.0, decay=0.7, text_warmup=recipe.warmup,
        vision_rate=recipe.vision_rate * rate,
        text_rate=recipe.text_rate * rate, other_rate=recipe.other_rate * rate,
        text_other_rate=recipe.text_other_rate * rate,
    )  # fmt: skip


def main() -> None:
    """Run the command line."""
    start = time.time()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="for everything, scores included")
    parser.add_argument("--start", type=Path, help="folder of a trained model to continue")
    parser.add_argument("--rate", type=float, default=0.4, help="of the peak rates, with --start")
    parser.add_argument("--out", type=Path, help=f"folder for the model (default: build/{NAME})")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, help="processes that draw (default: cores - 2)")
    parser.add_argument("--watch", type=float, help="seconds between held-out checks")
    parser.add_argument("--final", type=int, help="held-out questions per task at the end")
    parser.add_argument("--reserve", type=float, help="seconds left for the scores at the end")
    options = parser.parse_args()
    home = options.out or build_dir(NAME)
    if home.exists():
        shutil.rmtree(home / "checkpoint", ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    gpu = options.device.startswith("cuda")
    workers = options.workers or max(1, (os.cpu_count() or 2) - 2)
    reserve = options.reserve
    if reserve is None:
        reserve = 75.0 if gpu else 12.0 * options.minutes
    final = (500 if gpu else 40) if options.final is None else options.final
    schedule = Schedule(
        start, start + 60 * options.minutes, reserve, options.watch or (50 if gpu else 120)
    )
    recipe = Recipe() if gpu else SMALL
    if options.start:
        recipe = continued(recipe, options.start, options.rate)
    train(home, options.device, workers, recipe, final, schedule)


if __name__ == "__main__":
    main()
