"""Train a miniature: `python -m openmodels.minis.train mini-qwen [--minutes N]`.

One loop for any causal language model of transformers. On a CPU it runs one process per core with
one thread each and adds up their gradients: on two cores that was faster than two threads in one
process, and it suffers less when the machine is busy.
"""

import argparse
import json
import os
import random
import shutil
import sys
import sysconfig
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.llama4.modeling_llama4 import Llama4Router
from transformers.utils import logging

from openmodels.harbour import Instance, code, instances, pictures, world
from openmodels.minis import (
    build_dir,
    configs,
    data,
    evaluate,
    images,
    tokenizer,
    upcycle,
    weights_dir,
)
from openmodels.minis.muon import Muon, orthogonalise  # noqa: F401


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
    lengths: tuple[int, int] = (256, 512)
    curriculum_tokens: float = 4e6  # over these, only `begin` is read, and its texts grow
    curriculum: tuple[str, ...] = ("text_qa",)
    value_first_share: float = 0.5  # share of the texts alike that say values before their subjects
    context_weight: float = 0.05  # of predicting what the user says
    drill_share: float = 0.06  # share of drills (`data.recall`, `data.binding`)
    start: str = "heads"  # "heads": see `start_copying`, `start_reading`; "": at random; or the
    # name of a miniature whose weights it starts from (`upcycle`)
    frozen_tokens: float = (
        0.5e6  # tokens over which the layers with written heads and the embeddings rest
    )
    thaw_tokens: float = 2.5e6  # tokens over which these then come up to the rate of the others
    invented: float = 0.2  # share of names made from syllables, at the end of the beginning
    matrix_rate: float = 0.015  # Muon, for the weight matrices of the blocks
    other_rate: float = 3e-3  # AdamW, for embeddings, norms and biases
    warmup: int = 100  # steps
    decay: float = 0.5  # last part of the run over which the rate falls to zero
    weight_decay: float = 0.05
    teacher: str = ""  # a miniature whose distribution is learned beside the right answer ...
    distillation_weight: float = 0.5  # ... with this share of the loss
    seed: int = 1

    @property
    def writes_code(self) -> bool:
        """Whether functions and gaps are read, and nothing else."""
        return set(self.mix) <= set(code.TASKS)


# From a trained parent: no beginning, no drills, a shorter run at a gentler rate.
GROWN = Recipe(
    start="mini-qwen-xs", tokens=6e6, curriculum_tokens=1.0, warmup=30, decay=0.7, drill_share=0.03,
    matrix_rate=0.01, other_rate=2e-3,
)  # fmt: skip
SEEN = {"flag_colour": 12, "flag_pattern": 12, "flag_count": 8, "gauge": 16, "chart": 12}
RECIPES = {
    "mini-qwen": Recipe(),
    "mini-qwen-s": Recipe(),
    "mini-qwen-xs": Recipe(),
    # the smallest rung stopped early, where sums come out right now and then
    "mini-r1-base": Recipe(tokens=11e6),
    "mini-mistral": GROWN,
    "mini-deepseek": GROWN,
    "mini-qwen-coder": Recipe(mix={"function": 1, "fim": 3}, tokens=6e6, start=""),
    "mini-scout": replace(GROWN, mix=GROWN.mix | SEEN, tokens=26e6, matrix_rate=0.015),
    "mini-behemoth": replace(GROWN, start="mini-qwen", tokens=3e6),
    "mini-maverick": replace(GROWN, tokens=4e6, teacher="mini-behemoth", distillation_weight=0.8),
}
WATCHED = ("text_qa", "tool", "order", "intent", "intent_phrasing", "sums", "fact", "words")


def precision(device: str) -> torch.dtype:
    """bfloat16 where it is the faster one here, measured on one matrix product; else float32."""
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


def can_compile(device: str) -> bool:
    """Whether torch.compile finds what it needs here: on a CPU, a C++ compiler and Python.h."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    compiler = os.environ.get("CXX") or "g++"
    return device == "cpu" and bool(shutil.which(compiler)) and header.exists()


def cast(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights but not the buffers: rotary frequencies rounded to bfloat16 would make
    the reloaded model differ from the trained one."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.to(dtype)
    for name, buffer in buffers.items():
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, buffer)


@torch.no_grad()
def start_copying(model: torch.nn.Module) -> None:
    """Begin with an induction head, the circuit of copying (Olsson et al. 2022), written by hand.

    Left to itself the loss on recalled random tokens had not moved after 2 M tokens. Layer 0,
    key-value head 0: each token looks one token back, and in the second query head at itself, by a
    bias that RoPE turns; the second keeps a copy that later writing leaves alone. Layer 1,
    key-value head 0: look where the token one back equals the present one, and write what stands
    there. Every other output starts at zero, and everything goes on being trained. Needs query and
    key biases, as Qwen2 has.
    """
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    hidden, width = model.config.hidden_size, first.head_dim
    half, fast, slow = width // 2, 6, width // 4
    angle = model.config.rope_parameters["rope_theta"] ** (-torch.arange(fast) / half)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    for attention in (first, second):  # quiet the content of the heads written below
        attention.q_proj.weight[: attention.num_key_value_groups * width] *= 0.1
        attention.k_proj.weight[:width] *= 0.1
    directions = torch.linalg.qr(torch.randn(hidden, hidden))[0].T  # orthonormal rows
    token, one_back, own = directions[: 3 * width - 4].split([width, width, width - 4])
    first.k_proj.bias[:fast] = 8.0
    for head, distance in ((0, 1), (1, 0)):
        bias = first.q_proj.bias[head * width : (head + 1) * width]
        bias[:fast] = 8.0 * torch.cos(distance * angle)
        bias[half : half + fast] = -8.0 * torch.sin(distance * angle)
    first.v_proj.weight[:width] = token
    first.o_proj.weight[:, :width] = 0.1 * one_back.T
    first.o_proj.weight[:, width : width + len(own)] = 0.1 * own.T
    # the slow rotary pairs hardly turn over a few hundred tokens: compare there
    still = torch.cat([torch.arange(slow, half), torch.arange(half + slow, width)])
    second.k_proj.weight[still] = 2.0 * one_back[: len(still)]
    second.q_proj.weight[still] = 2.0 * token[: len(still)]
    second.v_proj.weight[:width] = token
    second.o_proj.weight[:, :width] = token.T


@torch.no_grad()
def start_reading(model: torch.nn.Module, tokenizer) -> None:
    """After `start_copying`: begin with heads that know whom a sentence is about.

    With induction alone, 9 M tokens of texts did not teach the miniature to tell two shops of one
    text apart: it found a keeper, at random. Here the embeddings of things (people, shops, goods,
    ships, days) get a direction in common, those of stops another. Layer 1, key-value head 1: which
    thing or stop came last before this token? Layer 2, key-value head 0: look where the same thing
    came last ("The bakery is run by Tove"), and write what stands there. Layer 2, key-value head 1:
    look where that thing stands itself, and write what came before it ("Tove runs the bakery").
    Its constants are the best of some hundred sets tried: of two to four keepers, captains or
    sellers, four in five come out right before the first step. What is learned first, how often
    each token comes, would undo all this within 25 steps: so these layers and the embeddings rest
    at first, and then come up to speed slowly (`Recipe.frozen_tokens`, `Recipe.thaw_tokens`).
    """
    first, second, third = (layer.self_attn for layer in model.model.layers[:3])
    width, groups = first.head_dim, first.num_key_value_groups
    half, slow = width // 2, width // 4
    still = torch.cat([torch.arange(slow, half), torch.arange(half + slow, width)])
    token = first.v_proj.weight[:width].clone()
    one_back, own = first.o_proj.weight[:, : 2 * width - 4].T.div(0.1).split([width, width - 4])
    used = torch.cat([token, one_back, own])
    rest = torch.randn(model.config.hidden_size - len(used), used.shape[1])
    free = torch.linalg.qr(torch.cat([used, rest]).T)[0].T[len(used) :]  # orthonormal rows
    named, (thing, stop, every) = free[:width], free[width : width + 3]
    at_stop, at_thing = width - 6, width - 5  # where a copied token says which of them it is
    token[at_stop], token[at_thing] = stop, thing
    first.v_proj.weight[:width] = token
    table = model.model.embed_tokens.weight
    # how often a token comes is learned first, along what all share: keep that off the heads
    ends, stops = things_and_stops(tokenizer)
    for direction, ids in ((thing, ends), (stop, stops), (every, slice(None))):
        table -= torch.outer(table @ direction, direction)
        table[ids] += 0.5 * direction

    def head(attention, kv: int):
        query, key = kv * groups * width, kv * width  # the first row of each
        for projection, row, rows in (
            (attention.q_proj, query, groups * width), (attention.k_proj, key, width)
        ):  # fmt: skip
            projection.weight[row : row + rows] *= 0.1
        return query, key

    query, key = head(second, 1)
    near = torch.arange(3, 8)  # rotary pairs in which what is farther away counts less
    second.q_proj.bias[query + near] = 8.0
    second.k_proj.weight[key + near] += 0.4 * (one_back[at_thing] + one_back[at_stop])
    second.v_proj.weight[key : key + width] = one_back
    second.o_proj.weight[:, query : query + width] = 0.15 * named.T

    second.o_proj.weight[:, :width] *= 0.7  # copying shall not drown reading
    write = 0.3 * token.T
    write[:, at_stop] *= -1.0
    model.model.norm.weight.fill_(0.5)  # quiet guesses: loud wrong ones tear the heads down
    far = torch.arange(4, 9)  # not the sentence being written
    constant = torch.arange(slow - 4, slow)
    for kv, compared, value in ((0, named, own), (1, own, named)):
        query, key = head(third, kv)
        third.q_proj.weight[query + still] = 3.5 * named[: len(still)]
        third.k_proj.weight[key + still] = 3.5 * compared[: len(still)]
        third.q_proj.bias[query + far], third.k_proj.bias[key + far] = -4.0, 4.0
        third.v_proj.weight[key : key + width] = 0.0
        third.v_proj.weight[key : key + len(value)] = value
        third.o_proj.weight[:, query : query + width] = write
        if value is own:  # of the sentence's tokens, take a thing
            third.q_proj.bias[query + constant] = 2.0
            third.k_proj.weight[key + constant] += 6.0 * thing


def things_and_stops(tokenizer) -> tuple[list[int], list[int]]:
    """Ids of the tokens that end the name of a person, shop, good, ship or day; ids of stops."""
    plurals = [plural for plural, *_ in world.GOODS.values()]
    words = [*world.NAMES, *world.SHOPS, *world.SHIPS, *world.GOODS, *plurals, *world.DAYS]
    ends = {tokenizer(before + word).input_ids[-1] for word in words for before in ("", " ")}
    stops = {tokenizer(stop).input_ids[-1] for stop in (".", ".\n", "?", "<|im_end|>")}
    return sorted(ends), sorted(stops)


class Balance:
    """Keeps a mixture's experts equally busy, each family in its own way.

    Llama 4: a loss, experts × Σ share of tokens × mean probability (Fedus et al. 2021, eq. 4).
    DeepSeek-V3: no loss; after each step an expert's bias rises by `speed` where it had less than
    its share and falls where it had more (DeepSeek-AI 2024, section 2.1.2).
    """

    def __init__(self, model: torch.nn.Module, weight: float = 0.01, speed: float = 0.002):
        self.weight, self.speed = weight, speed
        self.losses: list[torch.Tensor] = []
        self.counts: dict[torch.nn.Module, torch.Tensor] = {}
        for module in model.modules():
            if isinstance(module, Llama4Router):
                module.register_forward_hook(self.see_llama)
            elif isinstance(module, DeepseekV3TopkRouter):
                module.register_forward_hook(self.see_deepseek)

    def see_llama(self, router, _inputs, outputs) -> None:
        if router.training:
            chances = outputs[1].float().softmax(-1)  # (tokens, experts)
            chosen = outputs[1].argmax(-1).bincount(minlength=router.num_experts) / len(chances)
            self.losses.append(router.num_experts * (chosen * chances.mean(0)).sum())

    def see_deepseek(self, router, _inputs, outputs) -> None:
        if router.training:
            self.counts[router] = outputs[2].flatten().bincount(minlength=router.num_experts)

    def loss(self) -> torch.Tensor | float:
        """What unequal experts add to the loss of the last forward pass."""
        found = self.weight * torch.stack(self.losses).mean() if self.losses else 0.0
        self.losses.clear()
        return found

    @torch.no_grad()
    def step(self, world: int) -> None:
        """Move DeepSeek's biases after an optimiser step."""
        for router, count in self.counts.items():
            count = count.float()
            if world > 1:
                dist.all_reduce(count)
            router.e_score_correction_bias += self.speed * (count.mean() - count).sign()
        self.counts.clear()


def held_out(task: str, count: int) -> list:
    """`count` test instances of a watched task: conversations, pictures, functions or gaps."""
    if task in code.TASKS:
        return list(code.gaps(count) if task == "fim" else code.functions(count))
    return list((pictures.sightings if task in pictures.TASKS else instances)(task, count))


class Run:
    """One worker's part of a training run: model, optimisers, data and counters."""

    def __init__(self, name: str, rank: int, world: int, device: str, home: Path,
                 dtype: torch.dtype, compiled: bool = False, taught: bool = True):  # fmt: skip
        self.name, self.rank, self.world, self.device = name, rank, world, device
        self.recipe = RECIPES[name]
        torch.manual_seed(self.recipe.seed)
        self.tokenizer = tokenizer.load(name)
        config = configs.config(name)
        self.sees = configs.sees(config)
        self.shape = images.Shape.of(config) if self.sees else images.MINI
        model_class = configs.model_class(config)
        self.model = model_class.from_config(config, attn_implementation="eager")
        if self.recipe.start == "heads":
            start_copying(self.model)
            start_reading(self.model, self.tokenizer)
        elif self.recipe.start:
            parent, words = evaluate.load(weights_dir(self.recipe.start))
            upcycle.start_from(self.model, upcycle.read(parent, words))
        self.model.to(device).train()
        self.model.config.use_cache = False
        cast(self.model, dtype)
        # compiled once for each of the two row lengths; watching, at any length, is not
        text_model = self.model.language_model if self.sees else self.model
        self.body, self.head = text_model.model, text_model.lm_head
        if compiled:
            self.body = torch.compile(self.body, dynamic=False)
        self.weights = dict(self.model.named_parameters())
        # float32 masters; where training is in float32 they are the weights themselves
        self.masters = {
            n: w if dtype == torch.float32 else w.detach().float().requires_grad_()
            for n, w in self.weights.items()
        }
        apart = ("embed", "lm_head", "router.", "mlp.gate.")
        matrices = [
            n for n, w in self.weights.items()
            if w.ndim > 1 and not any(part in n for part in apart)
        ]  # fmt: skip
        self.balance = Balance(self.model)
        self.teacher = None
        if self.recipe.teacher and taught:
            self.teacher = evaluate.load(weights_dir(self.recipe.teacher))[0].to(device)
            cast(self.teacher, dtype)
        self.muon = Muon(
            [self.masters[n] for n in matrices], rank, world, self.recipe.weight_decay, dtype
        )
        others = [w for n, w in self.masters.items() if n not in matrices]
        self.adamw = torch.optim.AdamW(
            [{"params": [w for w in others if w.ndim > 1], "weight_decay": 0.01},
             {"params": [w for w in others if w.ndim <= 1], "weight_decay": 0.0}],
            betas=(0.9, 0.98),
        )  # fmt: skip
        written = ("embed_tokens.", "layers.0.", "layers.1.", "layers.2.")
        self.written = {
            n: w for n, w in self.masters.items()
            if self.recipe.start == "heads" and any(part in n for part in written)
        }  # fmt: skip
        self.tokens = self.steps = 0
        self.seconds = 0.0
        self.checkpoint = home / "checkpoint"

    def loss(self, batch: data.Batch) -> torch.Tensor:
        ids = batch.ids.to(self.device)
        if self.sees:
            read = {"inputs_embeds": images.embed(self.model, ids, batch.pixels)}
        else:
            read = {"input_ids": ids}
        hidden = self.body(
            **read, position_ids=batch.positions.to(self.device), use_cache=False
        ).last_hidden_state
        chosen = batch.targets.view(-1) != -100
        logits = self.head(hidden.flatten(0, 1)[chosen.to(self.device)]).float()
        weights = batch.weights.view(-1)[chosen].to(self.device)
        losses = torch.nn.functional.cross_entropy(
            logits, batch.targets.view(-1)[chosen].to(self.device), reduction="none"
        )
        if self.teacher is not None:
            losses = losses.lerp(
                self.unlike(logits, batch, chosen), self.recipe.distillation_weight
            )
        return (losses * weights).sum() / weights.sum() + self.balance.loss()

    def unlike(self, logits: torch.Tensor, batch: data.Batch, chosen: torch.Tensor) -> torch.Tensor:
        """Cross-entropy against the teacher's distribution, per chosen token (Hinton et al. 2015).

        logits: (chosen tokens, vocabulary) of the student.
        """
        with torch.no_grad():
            hidden = self.teacher.model(
                input_ids=batch.ids, position_ids=batch.positions, use_cache=False
            ).last_hidden_state
            soft = self.teacher.lm_head(hidden.flatten(0, 1)[chosen]).softmax(-1)
        return torch.nn.functional.cross_entropy(logits, soft.to(logits.device), reduction="none")

    def step(self, batch: data.Batch, rate: float) -> float:
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
        moved = min(
            1.0, max(0.0, (self.tokens - self.recipe.frozen_tokens) / self.recipe.thaw_tokens)
        )
        before = {n: w.detach().clone() for n, w in self.written.items()} if moved < 1 else {}
        self.adamw.step()
        self.muon.step(rate * self.recipe.matrix_rate)
        with torch.no_grad():
            for name, weight in before.items():
                self.written[name].copy_(weight.lerp(self.written[name], moved))
            for name, weight in self.weights.items():
                if weight is not self.masters[name]:
                    weight.copy_(self.masters[name])
                weight.grad = None
        self.balance.step(self.world)
        self.steps += 1
        self.tokens += batch.ids.numel() * self.world
        return loss.item()

    # ------------------------------------------------------------------ watching
    @torch.no_grad()
    def watch(self, each: int = 64) -> dict[str, float]:
        """Share of held-out answers the model gives greedily, per task and per field of an order.

        Teacher-forced, so it costs one pass: an answer counts when each of its tokens is the
        likeliest one after the right beginning, which is what greedy generation would write.
        """
        self.model.eval()
        hits: dict[str, float] = {}
        tasks = WATCHED + pictures.TASKS if self.sees else WATCHED
        for task in code.TASKS if self.recipe.writes_code else tasks:
            hits[task] = 0
            for instance in held_out(task, each)[self.rank :: self.world]:
                right, text = self.predict(instance)
                hits[task] += all(right)
                if task != "order":
                    continue
                for name, value in json.loads(instance.answer["content"]).items():
                    start = text.index(json.dumps(value), text.index(f'"{name}": '))
                    span = right[start : start + len(json.dumps(value))]
                    hits[f"order.{name}"] = hits.get(f"order.{name}", 0) + all(span)
        values = torch.tensor(list(hits.values()))
        if self.world > 1:
            dist.all_reduce(values)
        self.model.train()
        return {k: round(v.item() / each, 3) for k, v in zip(hits, values, strict=True)}

    def predict(
        self, instance: Instance | pictures.Sighting | code.Function | code.Gap
    ) -> tuple[list[bool], str]:
        """The answer's text and, for each of its characters, whether its token was predicted."""
        if isinstance(instance, code.Function | code.Gap):
            document = data.encode_code(self.tokenizer, instance, 0.0)
        else:
            document = data.encode(self.tokenizer, instance, 0.0, self.shape)
        read = {"input_ids": torch.tensor([document.ids], device=self.device)}
        if document.images:
            pixels = torch.stack(document.images)
            read["pixel_values"] = pixels.to(self.device, self.model.dtype)
        guess = self.model(**read).logits[0, :-1].argmax(-1).tolist()
        right, text = [], ""
        for token, guessed, weight in zip(
            document.ids[1:], guess, document.weights[1:], strict=True
        ):
            if weight:
                piece = self.tokenizer.decode([token])
                text += piece
                right += [token == guessed] * len(piece)
        return right, text

    # ------------------------------------------------------------------ keeping
    def save(self) -> None:
        """Write what resuming needs: masters, both optimisers' state and the counters."""
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
        new = self.checkpoint / "new.safetensors"
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, new, counters)
        new.replace(self.checkpoint / "state.safetensors")

    def resume(self) -> bool:
        """Continue from the checkpoint where there is one."""
        file = self.checkpoint / "state.safetensors"
        if not file.exists():
            return False
        tensors = load_file(file, device=self.device)
        with safe_open(file, "pt") as opened:
            counters = opened.metadata()
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
    """Learning rate as a share of its peak: linear warm-up, flat, linear to zero."""
    return min(1, (step + 1) / recipe.warmup) * min(1, max(0.0, (1 - progress) / recipe.decay))


def train(rank: int, world: int, name: str, home: Path, minutes: float | None, device: str,
          resume: bool, watch_minutes: float, dtype: torch.dtype,
          compiled: bool = False, taught: bool = True) -> None:  # fmt: skip
    """One worker's whole run; worker 0 prints, logs and saves."""
    logging.set_verbosity_error()
    if world > 1:
        dist.init_process_group("gloo", rank=rank, world_size=world)
    if device == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    run = Run(name, rank, world, device, home, dtype, compiled, taught)
    recipe = run.recipe
    resumed = resume and run.resume()
    seed = random.Random(f"{recipe.seed}/{rank}/{run.tokens}").randrange(2**31)
    stream = data.Stream(run.tokenizer, recipe, seed, recipe.batch_tokens // world, run.shape)
    say = print if rank == 0 else lambda *_, **__: None
    count = sum(w.numel() for w in run.weights.values())
    how = f"{dtype}, {'compiled' if compiled else 'not compiled'}"
    say(f"{name}: {count:,} parameters, {world} worker(s) on {device}, {how}")
    say(f"{'resumed' if resumed else 'new'} at {run.tokens / 1e6:.1f} M tokens", flush=True)
    before, start, watched, shown, smooth = run.seconds, time.time(), time.time(), 0.0, None
    while True:
        run.seconds = before + time.time() - start
        progress = run.tokens / recipe.tokens
        if minutes:
            progress = max(progress, run.seconds / 60 / minutes)
        clock = torch.tensor([progress, float(time.time() - watched > 60 * watch_minutes)])
        if world > 1:
            dist.broadcast(clock, 0)  # worker 0's clock decides for all
        progress, due = clock.tolist()
        if due or progress >= 1:
            scores = run.watch()
            record = {"tokens": run.tokens, "seconds": round(run.seconds), "steps": run.steps,
                      "loss": round(smooth or 0, 4), "on": [world, device, str(dtype)[6:]],
                      **scores}  # fmt: skip
            say("\n" + json.dumps(record), flush=True)
            if rank == 0:
                with (home / "log.jsonl").open("a") as log:
                    log.write(json.dumps(record) + "\n")
            run.save()
            watched = time.time()
        if progress >= 1:
            break
        loss = run.step(stream.next(run.tokens), rate_at(progress, run.steps, recipe))
        smooth = loss if smooth is None else 0.97 * smooth + 0.03 * loss
        if time.time() - shown > (1 if sys.stdout.isatty() else 30):
            shown = time.time()
            speed = run.tokens / max(run.seconds, 1)
            left = run.seconds * (1 / max(progress, 1e-9) - 1)
            say(f"\r{run.tokens / 1e6:6.2f} M tokens  loss {smooth:.3f}  {speed:,.0f} tokens/s  "
                f"{left / 60:.0f} min left", end="" if sys.stdout.isatty() else "\n",
                flush=True)  # fmt: skip
    if rank == 0:
        words = images.Processor(run.tokenizer, run.shape) if run.sees else run.tokenizer
        publish(run.model, words, home)
        say(f"written to {home}; {stream.dropped} of {stream.documents} conversations too long")
    if world > 1:
        dist.destroy_process_group()


def publish(model: torch.nn.Module, words, home: Path) -> None:
    """Write the weights (bfloat16) in the layout `from_pretrained` reads.

    words: the tokenizer, or the processor of a model that sees; it is written beside them.
    """
    model.config.use_cache = True
    model.eval()
    cast(model, torch.bfloat16)
    model.save_pretrained(home)
    words.save_pretrained(home)
    file = home / "tokenizer.json"  # a third of its size without line breaks and spaces
    words = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(words, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument(
        "--minutes", type=float, help="stop after this time; the rate falls with it"
    )
    parser.add_argument("--out", type=Path, help="folder for the weights (default: build/NAME)")
    parser.add_argument("--workers", type=int, help="processes (default: one per core, 1 on a GPU)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--new", action="store_true", help="ignore the folder's checkpoint and log")
    parser.add_argument("--eager", action="store_true", help="do not compile the model")
    parser.add_argument("--untaught", action="store_true", help="leave the teacher out, to compare")
    parser.add_argument("--watch", type=float, default=5, help="minutes between held-out checks")
    options = parser.parse_args()
    home = options.out or build_dir(options.name + ("-untaught" if options.untaught else ""))
    home.mkdir(parents=True, exist_ok=True)
    if options.new:
        (home / "log.jsonl").unlink(missing_ok=True)
    world = options.workers or (os.cpu_count() or 1 if options.device == "cpu" else 1)
    compiled = can_compile(options.device) and not options.eager
    arguments = (world, options.name, home, options.minutes, options.device, not options.new,
                 options.watch, precision(options.device), compiled,
                 not options.untaught)  # fmt: skip
    if world == 1:
        return train(0, *arguments)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29531")
    mp.spawn(train, arguments, nprocs=world)


if __name__ == "__main__":
    main()
