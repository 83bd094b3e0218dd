"""Teach a trained miniature to reason: `python -m openmodels.minis.rl mini-r1-zero [--minutes N]`.

Three recipes on sums that a program checks, as DeepSeek-R1 had three models (Guo et al. 2025,
arXiv 2501.12948): rewards only (R1-Zero, section 2.2), a few worked examples and then rewards
(R1, section 2.3), and a smaller model that reads a reasoner's right answers (section 2.4).
"""

import argparse
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence
from transformers.utils import logging

from openmodels.harbour import Harbour, Instance
from openmodels.minis import build_dir, data, evaluate, grpo, train, weights_dir

RIGHT, FORM = 0.9, 0.1  # parts of the reward: the last line; <think>, a line break, one last line
FORMED = re.compile(r"<think>\n(?:(?!</?think>).)+\n</think>\n\n[^\n]+", re.S)
KEPT_EVERY = 60  # seconds of GRPO


@dataclass(frozen=True)
class Recipe:
    """What happens to the miniature `base`: examples first, then rewards; each may be none."""

    base: str = "mini-r1-base"
    layers: int = 0  # of the base's layers only the first so many; 0: all
    examples: int = 0  # sums to read with their answers
    teacher: str | None = None  # whose right answers these are; None: worked by the harbour
    epochs: int = 3  # times they are read
    example_rate: float = 3e-4
    minutes: float = 8.0  # of GRPO; for the rest see `grpo.train`
    each: int = 12
    answers: int = 8
    rate: float = 3e-4
    temperature: float = 1.0
    longest: int = 120
    seed: int = 1


RECIPES = {
    "mini-r1-zero": Recipe(rate=1e-4),
    "mini-r1": Recipe(examples=1500, minutes=13.0),
    "mini-r1-distill": Recipe(layers=3, examples=3000, teacher="mini-r1", minutes=0.0),
}


def result(text: str) -> int | None:
    """The last whole number of an answer after its reasoning. "<think>…</think> 3 + 4 = 7" -> 7."""
    numbers = re.findall(r"\d+", text.rpartition("</think>")[2])
    return int(numbers[-1]) if numbers else None


def reward(instance: Instance) -> grpo.Reward:
    """Scores an answer to a sum from 0 to 1: RIGHT for the last line, FORM for the form.

    The last line must name the two numbers too. A trial rewarded the result alone: after 8 minutes
    it came out right more often, under a sum nobody had asked for ("63 + 788 = 776").
    """

    def scored(text: str) -> float:
        formed = FORMED.fullmatch(text.strip()) is not None
        return RIGHT * evaluate.is_right(instance, text) + FORM * formed

    return scored


def sums(seed: int | str) -> Iterator[Instance]:
    """Endless sums of the train split, worked in <think>."""
    source = Harbour(seed, "train")
    while True:
        yield source.sums()


def questions(tokenizer, seed: int | str) -> Iterator[tuple[str, grpo.Reward]]:
    """Endless (prompt text, reward function) pairs for `grpo.train`."""
    for instance in sums(seed):
        yield evaluate.prompt(tokenizer, instance), reward(instance)


def supervise(
    model,
    tokenizer,
    examples: Iterable[Instance],
    epochs: int = 3,
    rate: float = 3e-4,
    batch: int = 16,
    seed: int = 0,
) -> Iterator[float]:
    """Train `model` in place on the answers of conversations; yields the loss of each step.

    The cold start of R1, and distillation. Only answers are targets; the rate falls to zero.
    """
    documents = [data.encode(tokenizer, one, context_weight=0.0) for one in examples]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    rng = random.Random(seed)
    batches = []
    for _ in range(epochs):
        rng.shuffle(documents)
        batches += [documents[at : at + batch] for at in range(0, len(documents), batch)]
    model.eval()  # no dropout
    for number, chosen in enumerate(batches):
        ids = [torch.tensor(d.ids) for d in chosen]
        labels = [torch.where(torch.tensor(d.weights) > 0, torch.tensor(d.ids), -100)
                  for d in chosen]  # fmt: skip
        # padded on the right, where a causal model needs no mask
        loss = model(
            input_ids=pad_sequence(ids, True, tokenizer.pad_token_id).to(model.device),
            labels=pad_sequence(labels, True, -100).to(model.device),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - number / len(batches))
        optimizer.step()
        yield loss.item()


def right_answers(
    teacher, tokenizer, count: int, seed: int = 0, temperature: float = 0.7, most: int = 4
) -> list[Instance]:
    """`count` sums with the answers `teacher` wrote itself, those that earn the full reward.

    Raises ValueError where `most` times as many questions do not bring so many.
    """
    source, kept = sums(f"teacher/{seed}"), []
    torch.manual_seed(seed)
    for asked in range(0, most * count, 100):
        some = [next(source) for _ in range(min(100, most * count - asked))]
        prompts = [evaluate.prompt(tokenizer, one) for one in some]
        written = evaluate.answer(teacher, tokenizer, prompts, temperature=temperature)
        for one, text in zip(some, written, strict=True):
            if reward(one)(text) > RIGHT:
                turn = one.answer | {"content": text.strip()}
                kept.append(replace(one, messages=(*one.messages[:-1], turn)))
        if len(kept) >= count:
            return kept[:count]
    raise ValueError(
        f"the teacher answered {len(kept)} of {most * count} sums rightly, too few for {count}"
    )


def keep_first(model, layers: int) -> None:
    """Drop all but the first layers of a Qwen2 model, in place.

    Raises ValueError where it has fewer.
    """
    config = model.config
    if layers > config.num_hidden_layers:
        raise ValueError(f"{config.num_hidden_layers} layers are fewer than {layers}")
    del model.model.layers[layers:]
    config.num_hidden_layers, config.layer_types = layers, config.layer_types[:layers]


class Pupil:
    """A miniature being taught: its weights, and what must survive an interruption."""

    def __init__(self, base: str | Path, home: Path, new: bool = False, layers: int = 0):
        self.home, self.state = home, home / "checkpoint" / "state.safetensors"
        self.model, self.tokenizer = evaluate.load(weights_dir(base))
        if layers:
            keep_first(self.model, layers)
        self.steps, self.seconds, self.read = 0, 0.0, 0  # of GRPO; examples read
        self.resumed = self.state.exists() and not new
        if self.resumed:
            kept = load_file(self.state)
            with torch.no_grad():
                for name, weight in self.model.named_parameters():
                    weight.copy_(kept[name])
            with safe_open(self.state, "pt") as opened:
                counters = opened.metadata()
            self.steps, self.read = int(counters["steps"]), int(counters["read"])
            self.seconds = float(counters["seconds"])
        else:
            self.state.parent.mkdir(parents=True, exist_ok=True)
            (home / "log.jsonl").write_text("", encoding="utf-8")

    def save(self) -> None:
        """Write the float32 weights and the counters; AdamW's averages begin anew."""
        counters = {"steps": str(self.steps), "seconds": str(self.seconds), "read": str(self.read)}
        weights = {name: w.detach().contiguous() for name, w in self.model.named_parameters()}
        new = self.state.with_name("new.safetensors")
        save_file(weights, new, counters)
        new.replace(self.state)

    def log(self, **record) -> None:
        with (self.home / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")

    def study(self, recipe: Recipe, teacher: str | Path | None) -> None:
        """Read the examples of a recipe, once."""
        if not recipe.examples or self.read:
            return
        if teacher:
            model, tokenizer = evaluate.load(weights_dir(teacher))
            if tokenizer.get_vocab() != self.tokenizer.get_vocab():
                raise ValueError("teacher and pupil need the same tokenizer")
            examples = right_answers(model, tokenizer, recipe.examples, recipe.seed)
        else:
            source = sums(f"cold/{recipe.seed}")
            examples = [next(source) for _ in range(recipe.examples)]
        losses = supervise(
            self.model, self.tokenizer, examples, recipe.epochs, recipe.example_rate,
            seed=recipe.seed,
        )  # fmt: skip
        for number, loss in enumerate(losses, 1):
            self.log(stage="examples", number=number, loss=round(loss, 4))
        self.read = len(examples)
        self.save()

    def practise(
        self, recipe: Recipe, minutes: float, steps: int | None, say: Callable[[str], None]
    ) -> None:
        """GRPO until `minutes` or `steps` of it are reached, interrupted runs counted in."""
        before, first, kept = self.seconds, self.steps, self.seconds
        left = None if steps is None else max(0, steps - first)
        torch.manual_seed(recipe.seed + first)
        asked = questions(self.tokenizer, f"{recipe.seed}/{first}")
        taken = grpo.train(
            self.model, self.tokenizer, asked, minutes - before / 60, recipe.each, recipe.answers,
            recipe.rate, recipe.temperature, recipe.longest, left,
        )  # fmt: skip
        try:
            for step in taken:
                self.steps, self.seconds = first + step.number, before + step.seconds
                record = asdict(step) | {"number": self.steps, "seconds": self.seconds}
                self.log(stage="grpo", **{k: round(v, 4) for k, v in record.items()})
                if self.seconds - kept > KEPT_EVERY:
                    kept = self.seconds
                    self.save()
                    say(f"step {self.steps}: reward {step.reward:.3f}, {step.length:.0f} tokens "
                        f"an answer, {(minutes * 60 - kept) / 60:.0f} min left")  # fmt: skip
        finally:  # also where it is interrupted
            self.save()

    def score(self, stage: str, instances: int) -> evaluate.Score:
        """Held-out sums, greedily answered, exactly as `evaluate` counts them."""
        found = evaluate.evaluate(self.model, self.tokenizer, ["sums"], instances)["sums"]
        self.log(stage=stage, steps=self.steps, seconds=round(self.seconds), sums=vars(found))
        return found


def run(
    name: str,
    home: Path,
    base: str | Path | None = None,
    minutes: float | None = None,
    teacher: str | Path | None = None,
    instances: int = 200,
    new: bool = False,
    steps: int | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """The whole of a recipe, from the base to published weights with scores before and after.

    Goes on from the checkpoint in `home` unless `new`. Writes log.jsonl, the checkpoint and, in
    the layout `from_pretrained` reads, the weights (bfloat16) and the tokenizer.
    """
    recipe = RECIPES[name]
    base, teacher = base or recipe.base, teacher or recipe.teacher
    minutes = recipe.minutes if minutes is None else minutes
    pupil = Pupil(base, home, new, recipe.layers)
    if pupil.resumed:
        say(f"{name}: resumed at step {pupil.steps}")
    else:
        pupil.log(stage="begin", recipe=asdict(recipe) | {"minutes": minutes})
        say(f"{name}: {base} begins with {pupil.score('before', instances)}")
    pupil.study(recipe, teacher)
    if minutes and recipe.minutes:
        pupil.practise(recipe, minutes, steps, say)
    train.publish(pupil.model, pupil.tokenizer, home)
    pupil.model, pupil.tokenizer = evaluate.load(home)  # score what was published
    say(f"{name}: {pupil.score('after', instances)} after {pupil.steps} steps; written to {home}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--minutes", type=float, help="of GRPO, over all resumed runs")
    parser.add_argument("--base", help="a miniature's name, or a folder (default: the recipe's)")
    parser.add_argument("--teacher", help="the same, for distillation")
    parser.add_argument("--out", type=Path, help="folder for the weights (default: build/NAME)")
    parser.add_argument(
        "--instances", type=int, default=200, help="held-out sums, before and after"
    )
    parser.add_argument("--new", action="store_true", help="ignore the checkpoint in the folder")
    options = parser.parse_args()
    logging.set_verbosity_error()
    home = options.out or build_dir(options.name)
    run(options.name, home, options.base, options.minutes, options.teacher, options.instances,
        options.new)  # fmt: skip


if __name__ == "__main__":
    main()
