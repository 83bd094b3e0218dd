"""Train mini-embed: contrastive learning on questions and passages of Port Lark.

`python -m openmodels.minis.train_embed` repeats the recipe: each question must be closer to its
passage than to similar passages and to all other passages of the batch (InfoNCE; van den Oord et
al. 2018, arXiv 1807.03748), with 128, 64 and 32 dimensions at once.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, Qwen2Model

from openmodels.harbour.documents import Reader
from openmodels.harbour.wordings import FACT_KINDS
from openmodels.minis import embed
from openmodels.paths import build_dir, shipped_dir


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run."""

    start: str = "mini-qwen-xs"
    seconds: float = 1200.0  # of processor time on a CPU, of wall time on a GPU
    wall_seconds: float = 7200.0  # the run ends then at the latest
    batch: int = 64  # questions
    kinds: int = 0  # of facts in one batch: the fewer, the more similar its passages; 0: all
    negatives: int = 1  # similar passages per question
    rate: float = 2e-3
    warmup: float = 0.03  # share of the seconds
    temperature: float = 0.05
    seed: int = 0


def contrastive_loss(
    queries: torch.Tensor, passages: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the mean InfoNCE loss over the numbers of dimensions.

    queries: (batch, hidden). passages: (batch * (1 + negatives), hidden), the first `batch` of
    them in the order of the queries.
    """
    targets = torch.arange(len(queries), device=queries.device)
    losses = []
    for dimensions in embed.DIMENSIONS:
        similarity = embed.cut(queries, dimensions) @ embed.cut(passages, dimensions).T
        losses.append(torch.nn.functional.cross_entropy(similarity / temperature, targets))
    return torch.stack(losses).mean()


def draw_batch(
    reader: Reader, tokenizer: PreTrainedTokenizerBase, recipe: Recipe
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the token ids of questions, and of their passages followed by similar ones."""
    questions, passages, similar = [], [], []
    kinds = reader.rng.sample(list(FACT_KINDS), recipe.kinds or len(FACT_KINDS))
    while len(questions) < recipe.batch:
        question, passage, negatives = reader.passage_pairs(kinds)
        if len(negatives) < recipe.negatives:
            continue
        questions.append(embed.token_ids(tokenizer, embed.query(question)))
        passages.append(embed.token_ids(tokenizer, passage))
        for text in negatives[: recipe.negatives]:
            similar.append(embed.token_ids(tokenizer, text))
    return questions, passages + similar


def learning_rate(done: float, recipe: Recipe) -> float:
    """Return the rate after a share of the run: a linear warm-up, then a cosine to zero."""
    if done < recipe.warmup:
        return recipe.rate * (done + 0.002) / (recipe.warmup + 0.002)
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def train(recipe: Recipe, device: str = "cpu") -> tuple[Qwen2Model, list[dict]]:
    """Return the trained model and a log: step, seconds and mean loss since the last entry."""
    torch.manual_seed(recipe.seed)
    home = shipped_dir(recipe.start)
    tokenizer = AutoTokenizer.from_pretrained(home, trust_remote_code=False)
    model = Qwen2Model.from_pretrained(home, dtype=torch.float32, trust_remote_code=False)
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
    reader, log, losses = Reader(recipe.seed, "train"), [], []
    clock = time.process_time if device == "cpu" else time.monotonic
    start, start_wall = clock(), time.monotonic()
    while (spent := clock() - start) < recipe.seconds:
        wall_share = (time.monotonic() - start_wall) / recipe.wall_seconds
        if wall_share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(max(spent / recipe.seconds, wall_share), recipe)
        losses.append(step(model, optimizer, draw_batch(reader, tokenizer, recipe), recipe))
        if len(losses) % 20 == 0:
            mean = sum(losses[-20:]) / 20
            log.append({"step": len(losses), "seconds": round(spent, 1), "loss": round(mean, 4)})
            print(json.dumps(log[-1]), flush=True)
    return model.eval(), log


def step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    batch: tuple[list[torch.Tensor], list[torch.Tensor]],
    recipe: Recipe,
) -> float:
    """Update the weights on one batch. Returns the loss."""
    queries, passages = (embed.pool(model, rows) for rows in batch)
    loss = contrastive_loss(queries, passages, recipe.temperature)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=Recipe.seconds)
    parser.add_argument("--wall-seconds", type=float, default=Recipe.wall_seconds)
    parser.add_argument("--rate", type=float, default=Recipe.rate)
    parser.add_argument("--batch", type=int, default=Recipe.batch)
    parser.add_argument("--kinds", type=int, default=Recipe.kinds)
    parser.add_argument("--negatives", type=int, default=Recipe.negatives)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--start", default=Recipe.start, help="mini-embed continues it")
    parser.add_argument("--out", type=Path, default=build_dir("mini-embed"))
    options = parser.parse_args()
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    recipe = Recipe(**settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, log = train(recipe, device)
    embed.save(model, shipped_dir(recipe.start), options.out)
    run = {"recipe": asdict(recipe), "device": device, "log": log}
    (options.out / "train.json").write_text(json.dumps(run) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
