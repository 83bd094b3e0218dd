"""Train a miniature: `python -m openmodels.minis.train mini-qwen [--minutes N]`.

One loop for every causal language model of transformers. On a CPU it runs one process per core
with one thread each and sums their gradients: on two cores that was faster than two threads in one
process, and other programs slow it down less.
"""

import argparse
import json
import os
import random
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.llama4.modeling_llama4 import Llama4Router
from transformers.utils import logging

from openmodels.harbour import Instance, assistant, code, pictures
from openmodels.minis import (
    build_dir,
    configs,
    data,
    evaluate,
    heads,
    images,
    shipped_dir,
    tokenizer,
    upcycle,
    weights_dir,
)
from openmodels.minis.muon import Muon


@dataclass(frozen=True)
class Recipe:
    """What a training run reads and how it steps. Lengths and counts are in tokens."""

    mix: dict[str, float] = field(
        default_factory=lambda: {
            "text_qa": 8, "tool": 1.3, "order": 1.5, "intent": 1.5, "sums": 2.2, "fact": 1.5,
            "words": 2.2, "sentences": 1.2,
        }
    )  # fmt: skip
    tokens: float = 25e6
    batch_tokens: int = 6144
    lengths: tuple[int, ...] = (256, 512)
    curriculum_tokens: float = 4e6  # until then, only `curriculum` is read, and texts grow
    curriculum: tuple[str, ...] = ("text_qa",)
    value_first_share: float = 0.5  # of texts with the same attributes, those with values first
    context_weight: float = 0.05  # loss weight of predicting the user's text
    verdict_weight: float = 1.0  # loss weight of answers of one word and of citations' numbers
    drill_share: float = 0.06  # of drills: `data.recall` and `binding`, or an agent's `pointing`
    drill_tokens: float = 0.0  # until then an agent's drills become harder, and are more frequent
    first_drill_share: float = 0.0  # of drills until then
    start: str = (
        "heads"  # "heads": see `heads.start_copying`, `heads.start_reading`; "": at random; or the
    )
    # name of a miniature whose weights it starts from (`upcycle`)
    frozen_tokens: float = 0.5e6  # the initialised heads and the embeddings are frozen until then
    thaw_tokens: float = 2.5e6  # over these, their rate then rises to the others'
    picture_last: float = 0.0  # share of pictures that follow their question
    invented: float = 0.2  # share of names made from syllables, after the curriculum
    matrix_rate: float = 0.015  # Muon, for the weight matrices of the blocks
    other_rate: float = 3e-3  # AdamW, for embeddings, norms and biases
    warmup: int = 100  # steps
    decay: float = 0.5  # the rate falls to zero over this last share of the run
    weight_decay: float = 0.05
    average: float = 1.0  # of a published weight, the run's share; the other share is its start's
    teacher: str = ""  # a miniature whose distribution is learned too ...
    distillation_weight: float = 0.5  # ... with this share of the loss
    seed: int = 1

    @property
    def writes_code(self) -> bool:
        """Return whether the mix contains only functions and gaps."""
        return set(self.mix) <= set(code.TASKS)

    @property
    def acts(self) -> bool:
        """Return whether the mix contains an agent's tasks."""
        return "chain" in self.mix


# What an agent does, and what mini-qwen already does, so that it is not forgotten.
AGENT_MIX = {
    "chain": 4, "parallel": 3, "tool_error": 2.5, "no_tool": 2.5, "mail": 1.5, "final_result": 1.5,
    "cited": 6, "standalone": 1.5, "decompose": 1.5, "judge": 3, "judge_json": 1.5, "prefer": 2,
    "relevant": 2, "repair": 1.2, "plan": 1.2,
    "varied_text_qa": 3, "varied_intent": 0.8, "varied_order": 1.2, "varied_tool": 1,
    "varied_fact": 0.6,
    "text_qa": 2, "tool": 0.6, "order": 0.4, "intent": 0.4, "sums": 2, "fact": 0.6,
    "words": 2, "sentences": 1,
}  # fmt: skip

# From a trained parent: no curriculum, fewer drills, a shorter run at a lower rate.
GROWN = Recipe(
    start="mini-qwen-xs", tokens=6e6, curriculum_tokens=1.0, warmup=30, decay=0.7, drill_share=0.03,
    matrix_rate=0.01, other_rate=2e-3,
)  # fmt: skip
PICTURE_MIX = {"flag_colour": 12, "flag_pattern": 12, "flag_count": 8, "gauge": 16, "chart": 12}
RECIPES = {
    "mini-qwen": Recipe(),
    "mini-qwen-s": Recipe(),
    "mini-qwen-xs": Recipe(),
    # an early checkpoint of the smallest model, which solves some sums
    "mini-r1-base": Recipe(tokens=11e6),
    "mini-mistral": GROWN,
    "mini-deepseek": GROWN,
    "mini-qwen-coder": Recipe(mix={"function": 1, "fim": 3}, tokens=6e6, start=""),
    "mini-scout": replace(GROWN, mix=GROWN.mix | PICTURE_MIX, tokens=26e6, matrix_rate=0.015),
    "mini-behemoth": replace(GROWN, start="mini-qwen", tokens=3e6),
    "mini-qwen-agent": replace(
        GROWN,
        start="mini-qwen",
        mix=AGENT_MIX,
        tokens=16e6,
        lengths=(256, 512, 1024, 2048),
        drill_share=0.01,
        verdict_weight=4.0,
        matrix_rate=0.007,
        other_rate=1.4e-3,
    ),
    "mini-maverick": replace(GROWN, tokens=4e6, teacher="mini-behemoth", distillation_weight=0.8),
}
# A second stage from a miniature's shipped weights: `--continued`.
CONTINUED = {
    "mini-scout": replace(
        RECIPES["mini-scout"], start="mini-scout", picture_last=0.5, tokens=3e6, batch_tokens=3072,
        warmup=20, decay=1.0, matrix_rate=0.005, other_rate=7e-4, average=0.5,
    ),
    # The first run never learned which passage an answer came from: its drills were hard from the
    # start. See `data.pointing`.
    "mini-qwen-agent": replace(
        RECIPES["mini-qwen-agent"], start="mini-qwen-agent", drill_tokens=2.4e6,
        first_drill_share=0.75, drill_share=0.08,
        mix=AGENT_MIX | {
            "chain": 5, "parallel": 5, "no_tool": 4, "mail": 3, "cited": 10, "decompose": 3,
            "judge_json": 3, "prefer": 3, "relevant": 3, "text_qa": 4, "sums": 3, "words": 3,
        },
    ),
}  # fmt: skip
WATCHED = ("text_qa", "tool", "order", "intent", "intent_phrasing", "sums", "fact", "words")
WATCHED_AGENT = (*AGENT_MIX, "intent_phrasing")


def precision(device: str) -> torch.dtype:
    """Return bfloat16 if it is faster here, measured on one matrix product, else float32."""
    if device != "cpu":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32

    def seconds(dtype: torch.dtype) -> float:
        x, w = torch.randn(2048, 256, dtype=dtype), torch.randn(256, 768, dtype=dtype)
        x @ w
        start = time.perf_counter()
        for _ in range(5):
            x @ w
        return time.perf_counter() - start

    return torch.bfloat16 if seconds(torch.bfloat16) < seconds(torch.float32) else torch.float32


def usable_cores() -> int:
    """Return how many CPU cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def can_compile(device: str) -> bool:
    """Return whether torch.compile works here: on a CPU it needs a C++ compiler and Python.h."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    compiler = os.environ.get("CXX") or "g++"
    return device == "cpu" and bool(shutil.which(compiler)) and header.exists()


def cast(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights in place but not the buffers.

    Rotary frequencies rounded to bfloat16 would make the reloaded model differ from the trained
    one.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.to(dtype)
    for name, buffer in buffers.items():
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, buffer)


class Balance:
    """Balances the load of a mixture's experts, by the method of each family.

    Llama 4: a loss, experts × Σ share of tokens × mean probability (Fedus et al. 2021, eq. 4).
    DeepSeek-V3: no loss; after each step an expert's bias rises by `speed` if its load was below
    average and falls if it was above (DeepSeek-AI 2024, section 2.1.2).
    """

    def __init__(self, model: torch.nn.Module, weight: float = 0.01, speed: float = 0.002):
        self.weight, self.speed = weight, speed
        self.losses: list[torch.Tensor] = []
        self.counts: dict[torch.nn.Module, torch.Tensor] = {}
        for module in model.modules():
            if isinstance(module, Llama4Router):
                module.register_forward_hook(self.record_llama)
            elif isinstance(module, DeepseekV3TopkRouter):
                module.register_forward_hook(self.record_deepseek)

    def record_llama(self, router: torch.nn.Module, _inputs: tuple, outputs: tuple) -> None:
        """Add the balancing loss of a Llama 4 router; a forward hook."""
        if router.training:
            probabilities = outputs[1].float().softmax(-1)  # (tokens, experts)
            selected = outputs[1].argmax(-1).bincount(minlength=router.num_experts) / len(
                probabilities
            )
            self.losses.append(router.num_experts * (selected * probabilities.mean(0)).sum())

    def record_deepseek(self, router: torch.nn.Module, _inputs: tuple, outputs: tuple) -> None:
        """Count the experts that a DeepSeek-V3 router selected; a forward hook."""
        if router.training:
            self.counts[router] = outputs[2].flatten().bincount(minlength=router.num_experts)

    def loss(self) -> torch.Tensor | float:
        """Return the balancing loss of the last forward pass."""
        loss = self.weight * torch.stack(self.losses).mean() if self.losses else 0.0
        self.losses.clear()
        return loss

    @torch.no_grad()
    def step(self, world: int) -> None:
        """Update DeepSeek's biases after an optimiser step."""
        for router, count in self.counts.items():
            count = count.float()
            if world > 1:
                dist.all_reduce(count)
            router.e_score_correction_bias += self.speed * (count.mean() - count).sign()
        self.counts.clear()


def held_out(task: str, count: int) -> list:
    """Return `count` test instances of a watched task: conversations, pictures or code."""
    if task in code.TASKS:
        return list(code.gaps(count) if task == "fim" else code.functions(count))
    return list(
        (pictures.sightings if task in pictures.TASKS else assistant.instances)(task, count)
    )


class Run:
    """One worker's part of a training run: model, optimisers, data and counters."""

    def __init__(self, name: str, rank: int, world: int, device: str, home: Path,
                 dtype: torch.dtype, compiled: bool = False, taught: bool = True,
                 continued: bool = False):  # fmt: skip
        self.name, self.rank, self.world, self.device = name, rank, world, device
        self.recipe = (CONTINUED if continued else RECIPES)[name]
        torch.manual_seed(self.recipe.seed)
        self.tokenizer = tokenizer.load(name)
        config = configs.config(name)
        self.sees = configs.sees(config)
        self.shape = images.Shape.of(config) if self.sees else images.MINI
        model_class = configs.model_class(config)
        self.model = model_class.from_config(
            config, attn_implementation="eager", trust_remote_code=False
        )
        self.initialise()
        self.model.to(device).train()
        self.model.config.use_cache = False
        cast(self.model, dtype)
        # compiled once for each of the two row lengths; held-out checks are not compiled
        text_model = self.model.language_model if self.sees else self.model
        self.body, self.head = text_model.model, text_model.lm_head
        if compiled:
            self.body = torch.compile(self.body, dynamic=False)
        self.weights = dict(self.model.named_parameters())
        # float32 masters; if training is in float32 they are the weights themselves
        self.masters = {
            n: w if dtype == torch.float32 else w.detach().float().requires_grad_()
            for n, w in self.weights.items()
        }
        not_muon = ("embed", "lm_head", "router.", "mlp.gate.")
        matrices = [
            n for n, w in self.weights.items()
            if w.ndim > 1 and not any(part in n for part in not_muon)
        ]  # fmt: skip
        self.balance = Balance(self.model)
        self.teacher = None
        if self.recipe.teacher and taught:
            self.teacher = evaluate.load(weights_dir(self.recipe.teacher))[0].to(device)
            cast(self.teacher, dtype)
        self.muon = Muon(
            [self.masters[n] for n in matrices], rank, world, self.recipe.weight_decay, dtype
        )
        other_weights = [w for n, w in self.masters.items() if n not in matrices]
        self.adamw = torch.optim.AdamW(
            [{"params": [w for w in other_weights if w.ndim > 1], "weight_decay": 0.01},
             {"params": [w for w in other_weights if w.ndim <= 1], "weight_decay": 0.0}],
            betas=(0.9, 0.98),
        )  # fmt: skip
        initialised = ("embed_tokens.", "layers.0.", "layers.1.", "layers.2.")
        self.initialised = {
            n: w for n, w in self.masters.items()
            if self.recipe.start == "heads" and any(part in n for part in initialised)
        }  # fmt: skip
        self.tokens = self.steps = 0
        self.seconds = 0.0
        self.home, self.dtype, self.checkpoint = home, dtype, home / "checkpoint"

    def initialise(self) -> None:
        """Set the weights that the recipe starts from: heads, its own, or those of a parent."""
        if self.recipe.start == "heads":
            heads.start_copying(self.model)
            heads.start_reading(self.model, self.tokenizer)
        elif self.recipe.start == self.name:
            self.model.load_state_dict(evaluate.load(shipped_dir(self.name))[0].state_dict())
        elif self.recipe.start:
            parent, parent_tokenizer = evaluate.load(weights_dir(self.recipe.start))
            if type(parent) is type(self.model):
                self.model.load_state_dict(parent.state_dict())
            else:
                upcycle.start_from(self.model, upcycle.fold_biases(parent, parent_tokenizer))

    @torch.no_grad()
    def average(self) -> None:
        """Set each weight to the recipe's average of the run's and the shipped model's.

        A second stage forgets less that way (Wortsman et al. 2022, arXiv 2109.01903).
        """
        shipped = evaluate.load(shipped_dir(self.name))[0].state_dict()
        for name, weight in self.weights.items():
            weight.copy_(shipped[name].lerp(self.masters[name], self.recipe.average))

    def loss(self, batch: data.Batch) -> torch.Tensor:
        """Return the scalar loss of a batch: answers, balance and the teacher's distribution."""
        ids = batch.ids.to(self.device)
        if self.sees:
            inputs = {"inputs_embeds": images.embed(self.model, ids, batch.pixels)}
        else:
            inputs = {"input_ids": ids}
        hidden = self.body(
            **inputs, position_ids=batch.positions.to(self.device), use_cache=False
        ).last_hidden_state
        is_target = batch.targets.view(-1) != -100
        logits = self.head(hidden.flatten(0, 1)[is_target.to(self.device)]).float()
        weights = batch.weights.view(-1)[is_target].to(self.device)
        losses = torch.nn.functional.cross_entropy(
            logits, batch.targets.view(-1)[is_target].to(self.device), reduction="none"
        )
        if self.teacher is not None:
            losses = losses.lerp(
                self.distillation_loss(logits, batch, is_target), self.recipe.distillation_weight
            )
        return (losses * weights).sum() / weights.sum() + self.balance.loss()

    def distillation_loss(
        self, logits: torch.Tensor, batch: data.Batch, is_target: torch.Tensor
    ) -> torch.Tensor:
        """Return the cross-entropy to the teacher's distribution per target (Hinton et al. 2015).

        logits: (targets, vocabulary) of the student. is_target: (rows * length,), boolean. The
        result is (targets,).
        """
        with torch.no_grad():
            hidden = self.teacher.model(
                input_ids=batch.ids, position_ids=batch.positions, use_cache=False
            ).last_hidden_state
            teacher_probs = self.teacher.lm_head(hidden.flatten(0, 1)[is_target]).softmax(-1)
        return torch.nn.functional.cross_entropy(
            logits, teacher_probs.to(logits.device), reduction="none"
        )

    def step(self, batch: data.Batch, rate: float) -> float:
        """Take one optimiser step at a share `rate` of the peak learning rate; return the loss."""
        loss = self.loss(batch)
        loss.backward()
        grads = (torch.zeros_like(w) if w.grad is None else w.grad for w in self.weights.values())
        flat = torch.cat([grad.float().view(-1) for grad in grads])
        if self.world > 1:
            dist.all_reduce(flat)
            flat /= self.world
        flat *= (1 / (flat.norm() + 1e-6)).clamp(max=1)
        sizes = [w.numel() for w in self.weights.values()]
        for (name, weight), grad in zip(self.weights.items(), flat.split(sizes), strict=True):
            self.masters[name].grad = grad.view_as(weight)
        for group in self.adamw.param_groups:
            group["lr"] = rate * self.recipe.other_rate
        thawed = min(
            1.0, max(0.0, (self.tokens - self.recipe.frozen_tokens) / self.recipe.thaw_tokens)
        )
        frozen = {n: w.detach().clone() for n, w in self.initialised.items()} if thawed < 1 else {}
        self.adamw.step()
        self.muon.step(rate * self.recipe.matrix_rate)
        with torch.no_grad():
            for name, weight in frozen.items():
                self.initialised[name].copy_(weight.lerp(self.initialised[name], thawed))
            for name, weight in self.weights.items():
                if weight is not self.masters[name]:
                    weight.copy_(self.masters[name])
                weight.grad = None
        self.balance.step(self.world)
        self.steps += 1
        self.tokens += batch.ids.numel() * self.world
        return loss.item()

    # ------------------------------------------------------------------ held-out checks
    def watched(self) -> tuple[str, ...]:
        """Return the tasks that the run is checked on."""
        if self.recipe.writes_code:
            return code.TASKS
        if self.recipe.acts:
            return WATCHED_AGENT
        return WATCHED + pictures.TASKS if self.sees else WATCHED

    @torch.no_grad()
    def watch(self, count: int = 64) -> dict[str, float]:
        """Return the share of held-out answers that are right, per task and per field of an order.

        Teacher-forced, so it needs one pass: an answer is right if each of its tokens is the most
        likely one after the right prefix, which is what greedy generation would produce.
        """
        self.model.eval()
        hits: dict[str, float] = {}
        for task in self.watched():
            hits[task] = 0
            for instance in held_out(task, count)[self.rank :: self.world]:
                hits_per_character, text = self.predict(instance)
                hits[task] += all(hits_per_character)
                if task != "order":
                    continue
                for name, value in json.loads(instance.answer["content"]).items():
                    first = text.index(json.dumps(value), text.index(f'"{name}": '))
                    value_hits = hits_per_character[first : first + len(json.dumps(value))]
                    hits[f"order.{name}"] = hits.get(f"order.{name}", 0) + all(value_hits)
        values = torch.tensor(list(hits.values()))
        if self.world > 1:
            dist.all_reduce(values)
        self.model.train()
        return {k: round(v.item() / count, 3) for k, v in zip(hits, values, strict=True)}

    def predict(
        self, instance: Instance | pictures.Sighting | code.Function | code.Gap
    ) -> tuple[list[bool], str]:
        """Return, per character of the answer, whether its token was predicted; and the answer."""
        if isinstance(instance, code.Function | code.Gap):
            document = data.encode_code(self.tokenizer, instance, 0.0)
        else:
            document = data.encode(self.tokenizer, instance, 0.0, self.shape)
        inputs = {"input_ids": torch.tensor([document.ids], device=self.device)}
        if document.images:
            pixels = torch.stack(document.images)
            inputs["pixel_values"] = pixels.to(self.device, self.model.dtype)
        predictions = self.model(**inputs).logits[0, :-1].argmax(-1).tolist()
        hits, text = [], ""
        for token, predicted, weight in zip(
            document.ids[1:], predictions, document.weights[1:], strict=True
        ):
            if weight:
                characters = self.tokenizer.decode([token])
                text += characters
                hits += [token == predicted] * len(characters)
        return hits, text

    # ------------------------------------------------------------------ checkpoints
    def save(self) -> None:
        """Write the state that resuming needs: masters, both optimisers' state and the counters."""
        if self.rank:
            return
        tensors = {f"weight/{n}": w.detach() for n, w in self.masters.items()}
        for name, weight in self.masters.items():
            if weight in self.muon.momentum:
                tensors[f"momentum/{name}"] = self.muon.momentum[weight]
            for key, value in self.adamw.state.get(weight, {}).items():
                tensors[f"{key}/{name}"] = value
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        counters = {"tokens": str(self.tokens), "steps": str(self.steps),
                    "seconds": str(self.seconds)}  # fmt: skip
        part_file = self.checkpoint / "new.safetensors"
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, part_file, counters)
        part_file.replace(self.checkpoint / "state.safetensors")

    def resume(self) -> bool:
        """Continue from the checkpoint, if there is one; return whether there was."""
        file = self.checkpoint / "state.safetensors"
        if not file.exists():
            return False
        tensors = load_file(file, device=self.device)
        with safe_open(file, "pt") as checkpoint:
            counters = checkpoint.metadata()
        self.tokens, self.steps = int(counters["tokens"]), int(counters["steps"])
        self.seconds = float(counters["seconds"])
        with torch.no_grad():
            for name, weight in self.masters.items():
                weight.copy_(tensors[f"weight/{name}"])
                self.weights[name].copy_(weight)
                if weight in self.muon.momentum:
                    self.muon.momentum[weight].copy_(tensors[f"momentum/{name}"])
                else:
                    keys = ("step", "exp_avg", "exp_avg_sq")
                    self.adamw.state[weight] = {k: tensors[f"{k}/{name}"] for k in keys}
        return True


def rate_at(progress: float, step: int, recipe: Recipe) -> float:
    """Return the learning rate as a share of its peak: linear warm-up, flat, linear to zero."""
    return min(1, (step + 1) / recipe.warmup) * min(1, max(0.0, (1 - progress) / recipe.decay))


def train(
    rank: int,
    world: int,
    name: str,
    home: Path,
    minutes: float | None,
    device: str,
    resume: bool,
    watch_minutes: float,
    dtype: torch.dtype,
    compiled: bool = False,
    taught: bool = True,
    continued: bool = False,
) -> None:
    """Run one worker of a training run; worker 0 prints, logs and saves."""
    logging.set_verbosity_error()
    if world > 1:
        dist.init_process_group("gloo", rank=rank, world_size=world)
    if device == "cpu":
        torch.set_num_threads(max(1, usable_cores() // world))
    run = Run(name, rank, world, device, home, dtype, compiled, taught, continued)
    recipe = run.recipe
    resumed = resume and run.resume()
    seed = random.Random(f"{recipe.seed}/{rank}/{run.tokens}").randrange(2**31)
    stream = data.Stream(run.tokenizer, recipe, seed, recipe.batch_tokens // world, run.shape)
    report = print if rank == 0 else lambda *_, **__: None
    count = sum(w.numel() for w in run.weights.values())
    settings = f"{dtype}, {'compiled' if compiled else 'not compiled'}"
    report(f"{name}: {count:,} parameters, {world} worker(s) on {device}, {settings}")
    report(f"{'resumed' if resumed else 'new'} at {run.tokens / 1e6:.1f} M tokens", flush=True)
    _train_until_done(run, stream, minutes, watch_minutes, report)
    if rank == 0:
        if recipe.start == name:
            run.average()
        processor = images.Processor(run.tokenizer, run.shape) if run.sees else run.tokenizer
        publish(run.model, processor, home)
        report(f"written to {home}; {stream.dropped} of {stream.documents} conversations too long")
    if world > 1:
        dist.destroy_process_group()


def _train_until_done(
    run: Run,
    stream: data.Stream,
    minutes: float | None,
    watch_minutes: float,
    report: Callable[..., None],
) -> None:
    """Train until the recipe's tokens or `minutes` are reached, with regular held-out checks."""
    recipe, mean_loss, seconds_before = run.recipe, None, run.seconds
    start = last_check = time.time()
    last_print, print_interval = 0.0, 1 if sys.stdout.isatty() else 30
    while True:
        run.seconds = seconds_before + time.time() - start
        progress = run.tokens / recipe.tokens
        if minutes:
            progress = max(progress, run.seconds / 60 / minutes)
        clock = torch.tensor([progress, float(time.time() - last_check > 60 * watch_minutes)])
        if run.world > 1:
            dist.broadcast(clock, 0)  # worker 0's clock decides for all
        progress, check_due = clock.tolist()
        if check_due or progress >= 1:
            _check(run, mean_loss, report)
            last_check = time.time()
        if progress >= 1:
            return
        loss = run.step(stream.next(run.tokens), rate_at(progress, run.steps, recipe))
        mean_loss = loss if mean_loss is None else 0.97 * mean_loss + 0.03 * loss
        if time.time() - last_print > print_interval:
            last_print = time.time()
            _report_progress(run, progress, mean_loss, report)


def _check(run: Run, mean_loss: float | None, report: Callable[..., None]) -> None:
    """Score held-out answers, append the record to log.jsonl and save the checkpoint."""
    scores = run.watch()
    record = {
        "tokens": run.tokens,
        "seconds": round(run.seconds),
        "steps": run.steps,
        "loss": round(mean_loss or 0, 4),
        "on": [run.world, run.device, str(run.dtype)[6:]],
        **scores,
    }
    if run.recipe.start == run.name:
        record |= {"continued": True, "date": date.today().isoformat()}
    report("\n" + json.dumps(record), flush=True)
    if run.rank == 0:
        with (run.home / "log.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")
    run.save()


def _report_progress(
    run: Run, progress: float, mean_loss: float, report: Callable[..., None]
) -> None:
    """Print tokens, loss, speed and remaining time on one line."""
    speed = run.tokens / max(run.seconds, 1)
    remaining = run.seconds * (1 / max(progress, 1e-9) - 1)
    report(
        f"\r{run.tokens / 1e6:6.2f} M tokens  loss {mean_loss:.3f}  {speed:,.0f} tokens/s  "
        f"{remaining / 60:.0f} min left",
        end="" if sys.stdout.isatty() else "\n",
        flush=True,
    )


def publish(
    model: torch.nn.Module, processor: PreTrainedTokenizerBase | images.Processor, home: Path
) -> None:
    """Write the weights (bfloat16) in the layout that `from_pretrained` reads.

    processor: the tokenizer, or the processor of a model with vision; it is written too.
    """
    model.config.use_cache = True
    model.eval()
    cast(model, torch.bfloat16)
    model.save_pretrained(home)
    processor.save_pretrained(home)
    file = home / "tokenizer.json"  # without line breaks and spaces it has a third of the size
    content = json.loads(file.read_text(encoding="utf-8"))
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    file.write_text(text, encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument(
        "--minutes", type=float, help="stop after this time; the rate falls with it"
    )
    parser.add_argument("--out", type=Path, help="folder for the weights (default: build/NAME)")
    parser.add_argument("--workers", type=int, help="processes (default: one per core, 1 on a GPU)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--new", action="store_true", help="ignore the folder's checkpoint and log")
    parser.add_argument("--continued", action="store_true", help="start from the shipped weights")
    parser.add_argument("--eager", action="store_true", help="do not compile the model")
    parser.add_argument("--untaught", action="store_true", help="leave the teacher out, to compare")
    parser.add_argument("--watch", type=float, default=5, help="minutes between held-out checks")
    options = parser.parse_args()
    if options.continued and options.name not in CONTINUED:
        parser.error(f"only {', '.join(CONTINUED)} can be continued")
    suffix = "-continued" * options.continued + "-untaught" * options.untaught
    home = options.out or build_dir(options.name + suffix)
    home.mkdir(parents=True, exist_ok=True)
    if options.new:
        (home / "log.jsonl").unlink(missing_ok=True)
    world = options.workers or (usable_cores() if options.device == "cpu" else 1)
    compiled = can_compile(options.device) and not options.eager
    arguments = (world, options.name, home, options.minutes, options.device, not options.new,
                 options.watch, precision(options.device), compiled,
                 not options.untaught, options.continued)  # fmt: skip
    if world == 1:
        return train(0, *arguments)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29531")
    mp.spawn(train, arguments, nprocs=world)


if __name__ == "__main__":
    main()
