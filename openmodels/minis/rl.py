"""Train a miniature to reason: `python -m openmodels.minis.rl mini-r1-zero [--minutes N]`.

Three recipes on sums that a program checks, after DeepSeek-R1's three models (Guo et al. 2025,
arXiv 2501.12948): only rewards (R1-Zero, section 2.2), a few worked examples and then rewards
(R1, section 2.3), and a smaller model that learns from a reasoner's right answers (section 2.4).
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
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from openmodels.harbour import Harbour, Instance
from openmodels.minis import build_dir, data, evaluate, grpo, train, weights_dir

RIGHT, FORM = 0.9, 0.1  # parts of the reward: the last line; <think>, a line break, one last line
FORMED = re.compile(r"<think>\n(?:(?!</?think>).)+\n</think>\n\n[^\n]+", re.S)
SAVE_INTERVAL = 60  # seconds of GRPO


@dataclass(frozen=True)
class Recipe:
    """What happens to the miniature `base`: first examples, then rewards; either can be absent."""

    base: str = "mini-r1-base"
    layers: int = 0  # use only the first layers of the base; 0: all
    examples: int = 0  # sums to read with their answers
    teacher: str | None = None  # the model that answers them; None: the harbour's worked answers
    epochs: int = 3  # passes over the examples
    example_rate: float = 3e-4
    minutes: float = 8.0  # of GRPO; the following fields are those of `grpo.train`
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
    """Return the last whole number after the reasoning. "<think>…</think> 3 + 4 = 7" -> 7."""
    numbers = re.findall(r"\d+", text.rpartition("</think>")[2])
    return int(numbers[-1]) if numbers else None


def reward(instance: Instance) -> grpo.Reward:
    """Return a function that scores an answer to a sum from 0 to 1: RIGHT plus FORM.

    The last line must also contain the two numbers. A trial rewarded only the result: after 8
    minutes the result was right more often, but for a sum that was not the question ("63 + 788 =
    776").
    """

    def scored(text: str) -> float:
        formed = FORMED.fullmatch(text.strip()) is not None
        return RIGHT * evaluate.is_right(instance, text) + FORM * formed

    return scored


def sums(seed: int | str) -> Iterator[Instance]:
    """Yield endless sums of the train split, worked in <think>."""
    source = Harbour(seed, "train")
    while True:
        yield source.sums()


def questions(
    tokenizer: PreTrainedTokenizerBase, seed: int | str
) -> Iterator[tuple[str, grpo.Reward]]:
    """Yield endless (prompt text, reward function) pairs for `grpo.train`."""
    for instance in sums(seed):
        yield evaluate.prompt(tokenizer, instance), reward(instance)


def supervise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Instance],
    epochs: int = 3,
    rate: float = 3e-4,
    batch: int = 16,
    seed: int = 0,
) -> Iterator[float]:
    """Train `model` in place on the answers of conversations; yield the loss of each step.

    R1's cold start, and distillation. Only answers are targets; the rate falls to zero.
    """
    documents = [data.encode(tokenizer, instance, context_weight=0.0) for instance in examples]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    rng = random.Random(seed)
    batches = []
    for _ in range(epochs):
        rng.shuffle(documents)
        batches += [documents[start : start + batch] for start in range(0, len(documents), batch)]
    model.eval()  # no dropout
    for number, group in enumerate(batches):
        ids = [torch.tensor(d.ids) for d in group]
        labels = [torch.where(torch.tensor(d.weights) > 0, torch.tensor(d.ids), -100)
                  for d in group]  # fmt: skip
        # padded on the right, so a causal model needs no mask
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
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    count: int,
    seed: int = 0,
    temperature: float = 0.7,
    attempts: int = 4,
) -> list[Instance]:
    """Return `count` sums with the answers that `teacher` generated and that earn the full reward.

    Raises ValueError if `attempts` times as many questions give fewer.
    """
    source, examples = sums(f"teacher/{seed}"), []
    torch.manual_seed(seed)
    for start in range(0, attempts * count, 100):
        group = [next(source) for _ in range(min(100, attempts * count - start))]
        prompts = [evaluate.prompt(tokenizer, instance) for instance in group]
        texts = evaluate.answer(teacher, tokenizer, prompts, temperature=temperature)
        for instance, text in zip(group, texts, strict=True):
            if reward(instance)(text) > RIGHT:
                answer = instance.answer | {"content": text.strip()}
                examples.append(replace(instance, messages=(*instance.messages[:-1], answer)))
        if len(examples) >= count:
            return examples[:count]
    raise ValueError(
        f"the teacher solved {len(examples)} of {attempts * count} sums, fewer than {count}"
    )


def keep_first(model: PreTrainedModel, layers: int) -> None:
    """Remove all but the first layers of a Qwen2 model, in place.

    Raises ValueError if it has fewer.
    """
    config = model.config
    if layers > config.num_hidden_layers:
        raise ValueError(f"the model has only {config.num_hidden_layers} layers, not {layers}")
    del model.model.layers[layers:]
    config.num_hidden_layers, config.layer_types = layers, config.layer_types[:layers]


class Pupil:
    """A miniature in training: its weights, and the state that survives an interruption."""

    def __init__(self, base: str | Path, home: Path, new: bool = False, layers: int = 0):
        self.home, self.state = home, home / "checkpoint" / "state.safetensors"
        self.model, self.tokenizer = evaluate.load(weights_dir(base))
        if layers:
            keep_first(self.model, layers)
        self.steps, self.seconds, self.read = 0, 0.0, 0  # steps and seconds of GRPO; examples read
        self.resumed = self.state.exists() and not new
        if self.resumed:
            tensors = load_file(self.state)
            with torch.no_grad():
                for name, weight in self.model.named_parameters():
                    weight.copy_(tensors[name])
            with safe_open(self.state, "pt") as checkpoint:
                counters = checkpoint.metadata()
            self.steps, self.read = int(counters["steps"]), int(counters["read"])
            self.seconds = float(counters["seconds"])
        else:
            self.state.parent.mkdir(parents=True, exist_ok=True)
            (home / "log.jsonl").write_text("", encoding="utf-8")

    def save(self) -> None:
        """Write the float32 weights and the counters; AdamW's averages restart."""
        counters = {"steps": str(self.steps), "seconds": str(self.seconds), "read": str(self.read)}
        weights = {name: w.detach().contiguous() for name, w in self.model.named_parameters()}
        part_file = self.state.with_name("new.safetensors")
        save_file(weights, part_file, counters)
        part_file.replace(self.state)

    def log(self, **record: object) -> None:
        """Append a record to log.jsonl."""
        with (self.home / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")

    def study(self, recipe: Recipe, teacher: str | Path | None) -> None:
        """Train on the examples of a recipe, once.

        Raises ValueError if the teacher has another tokenizer.
        """
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
        self, recipe: Recipe, minutes: float, steps: int | None, report: Callable[[str], None]
    ) -> None:
        """Run GRPO until `minutes` or `steps` are reached, counting interrupted runs."""
        seconds_before, steps_before, last_saved = self.seconds, self.steps, self.seconds
        remaining = None if steps is None else max(0, steps - steps_before)
        torch.manual_seed(recipe.seed + steps_before)
        pairs = questions(self.tokenizer, f"{recipe.seed}/{steps_before}")
        steps_taken = grpo.train(
            self.model,
            self.tokenizer,
            pairs,
            minutes - seconds_before / 60,
            recipe.each,
            recipe.answers,
            recipe.rate,
            recipe.temperature,
            recipe.longest,
            remaining,
        )
        try:
            for step in steps_taken:
                self.steps, self.seconds = steps_before + step.number, seconds_before + step.seconds
                record = asdict(step) | {"number": self.steps, "seconds": self.seconds}
                self.log(stage="grpo", **{k: round(v, 4) for k, v in record.items()})
                if self.seconds - last_saved > SAVE_INTERVAL:
                    last_saved = self.seconds
                    self.save()
                    report(f"step {self.steps}: reward {step.reward:.3f}, {step.length:.0f} tokens "
                        f"an answer, {(minutes * 60 - last_saved) / 60:.0f} min left")  # fmt: skip
        finally:  # also after an interruption
            self.save()

    def score(self, stage: str, instances: int) -> evaluate.Score:
        """Return the score on held-out sums, greedily answered, exactly as `evaluate` counts."""
        score = evaluate.evaluate(self.model, self.tokenizer, ["sums"], instances)["sums"]
        self.log(stage=stage, steps=self.steps, seconds=round(self.seconds), sums=vars(score))
        return score


def run(
    name: str,
    home: Path,
    base: str | Path | None = None,
    minutes: float | None = None,
    teacher: str | Path | None = None,
    instances: int = 200,
    new: bool = False,
    steps: int | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Run a whole recipe, from the base to published weights with scores before and after.

    Continues from the checkpoint in `home` unless `new`. Writes log.jsonl, the checkpoint and, in
    the layout that `from_pretrained` reads, the weights (bfloat16) and the tokenizer.
    """
    recipe = RECIPES[name]
    base, teacher = base or recipe.base, teacher or recipe.teacher
    minutes = recipe.minutes if minutes is None else minutes
    pupil = Pupil(base, home, new, recipe.layers)
    if pupil.resumed:
        report(f"{name}: resumed at step {pupil.steps}")
    else:
        pupil.log(stage="begin", recipe=asdict(recipe) | {"minutes": minutes})
        report(f"{name}: {base} begins with {pupil.score('before', instances)}")
    pupil.study(recipe, teacher)
    if minutes and recipe.minutes:
        pupil.practise(recipe, minutes, steps, report)
    train.publish(pupil.model, pupil.tokenizer, home)
    pupil.model, pupil.tokenizer = evaluate.load(home)  # score what was published
    report(
        f"{name}: {pupil.score('after', instances)} after {pupil.steps} steps; written to {home}"
    )


def main() -> None:
    """Run the command line."""
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
