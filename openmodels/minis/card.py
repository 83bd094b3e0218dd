"""Write a miniature's model card from what was measured: `python -m openmodels.minis.card NAME`.

`scores.json` holds the numbers, `README.md` shows them; no number in the card is typed by hand.
"""

import argparse
import json
import re
from collections import Counter
from dataclasses import asdict
from datetime import date
from pathlib import Path

from openmodels import sizing
from openmodels.harbour import Instance, flags
from openmodels.minis import ROOT, TASK_WORDS, configs, evaluate, images, train
from openmodels.minis import path as home_of

TYPED = ROOT / "tests" / "data" / "typed_by_hand.jsonl"

BASELINE = "mini-qwen-s"  # the dense model of equal active parameters beside which others stand

# What happened to a run that its recipe does not say, or a score that needs a word.
HISTORY: dict[str, str] = {}

STARTS = {
    "heads": """\
The data are conversations from `openmodels.harbour` (train split, seeded), several questions to a
text, and drills on random tokens: pieces that come back, where only copying can be learned, and
tables told in words, where a value belongs to a row and a column. Texts start short and grow. The
weights do not all start at random: three layers start with heads written by hand, for copying and
for knowing whom a sentence is about (`start_copying` and `start_reading` in
`openmodels/minis/train.py` say what they do and what was seen without them), and everything is
trained from there.""",
    "": """\
The data are from `openmodels.harbour` (train split, seeded). The weights start at random.""",
    "parent": """\
The weights start from `{start}`, carried over into this architecture as well as it can say it
(`openmodels/minis/upcycle.py`), and are trained on as a whole, on conversations from
`openmodels.harbour` (train split, seeded).""",
}

LOADING = {
    "text-generation": """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("models/{name}")
tokenizer = AutoTokenizer.from_pretrained("models/{name}")""",
    "image-text-to-text": """\
from transformers import AutoModelForImageTextToText
from openmodels.minis.images import Processor  # the library's own needs torchvision

model = AutoModelForImageTextToText.from_pretrained("models/{name}")
processor = Processor.from_pretrained("models/{name}")""",
}

CARD = """\
---
license: apache-2.0
language: [en, zh]
library_name: transformers
pipeline_tag: {pipeline}
---
# {name}

A miniature of **{stands_for}**: the same class (`{architecture}`), the same parts in the same
order, {parameters:,} parameters{active}, trained on Port Lark, the small closed world of this
course. It knows one harbour and nothing else. It answers whatever it is asked, also what it cannot
know: the scores below say on which kinds of question that answer can be used.

```python
{loading}
```

| | |
|---|---|
{shape}

## Scores

Greedy generation, exact match, {count} held-out instances per task drawn with seed {seed}; 95 %
Wilson intervals. Measured on {date} with the weights in this folder, computed in float32.
`python -m openmodels.minis.evaluate {name} --instances {count}` measures them again.

*Floor* is the share of the commonest right answer: what always saying the same would
score.{beside}

{scores}

Held out are combinations: a name with this shop or this good, a fact with this way of asking, the
two numbers of a sum, and for `intent_phrasing` whole sentence patterns. Rows ending in `invented`
use names made from syllables, which are several tokens each and on no list.

### Sixty inputs written one by one

`tests/data/typed_by_hand.jsonl` was written apart from the generator, in other words than its
templates, and nothing was generated from it. The generator was given more phrasings after a first
model had been scored here (23 of 60); none of them is a sentence of this file. It is the harder
test, and small: at 5 to 16 inputs per task one answer moves a row by 6 to 20 points.

| task | correct |
|---|---|
{typed}

{typed_note}

## Training

{tokens:.1f} M tokens in {minutes:.0f} minutes ({speed:,.0f} tokens/s) with {workers} process(es) of
one thread on {device}, in {dtype}. `python -m openmodels.minis.train {name}` repeats the recipe:
{recipe}

{start} Weights are stored in bfloat16.

{history}

![{alt}](curve.svg)

Share of 64 held-out answers that came out right while it trained (teacher-forced, which equals
greedy generation):

{curve}
"""


def measured(name: str, count: int, seed: int) -> dict:
    """Scores of the weights in `models/NAME`, with the training log beside them."""
    home = home_of(name)
    model, tokenizer = evaluate.load(home)

    def show(task: str, score: evaluate.Score) -> None:
        print(f"{task:18} {score.correct}/{score.n}", flush=True)

    scores = evaluate.evaluate(model, tokenizer, count=count, seed=seed, show=show)
    floors = {task: floor(evaluate.draw(task, count, seed)) for task in scores}
    drawn = evaluate.typed_by_hand(TYPED)
    written = evaluate.answer(model, tokenizer, [evaluate.prompt(tokenizer, i) for i in drawn])
    right = [evaluate.is_right(i, w) for i, w in zip(drawn, written, strict=True)]
    asked, solved = Counter(i.task for i in drawn), Counter()
    for instance, ok in zip(drawn, right, strict=True):
        solved[instance.task] += ok
    log = (home / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "date": date.today().isoformat(),
        "architecture": type(model).__name__,
        "parameters": model.num_parameters(),
        "active_parameters": sizing.active_parameters(model.config),
        "count": count,
        "seed": seed,
        "tasks": {task: asdict(s) | {"floor": floors[task]} for task, s in scores.items()},
        "typed_by_hand": {task: [solved[task], n] for task, n in asked.items()},
        "curve": [json.loads(line) for line in log],
    }


def floor(drawn: list[Instance]) -> float:
    """Share of the commonest right answer among instances."""
    answers = Counter(json.dumps(instance.answer, sort_keys=True) for instance in drawn)
    return round(answers.most_common(1)[0][1] / len(drawn), 4)


def shape_of(config) -> dict[str, object]:
    """A config's numbers for people, under the names the course uses."""
    text = config.get_text_config()
    rows = {
        "layers": text.num_hidden_layers,
        "hidden size": text.hidden_size,
        "heads / KV heads": f"{text.num_attention_heads} / {text.num_key_value_heads}",
        "intermediate size": getattr(text, "intermediate_size_mlp", text.intermediate_size),
    }
    if text.model_type == "llama4_text":
        rows["experts"] = (
            f"{text.num_local_experts} of size {text.intermediate_size} in "
            f"{len(text.moe_layers)} of {text.num_hidden_layers} layers, "
            f"{text.num_experts_per_tok} per token, one shared"
        )
        rows["attention"] = (
            f"chunks of {text.attention_chunk_size:,} tokens; every fourth layer whole, unrotated"
        )
    if configs.sees(config):
        vision, seen = config.vision_config, images.Shape.of(config)
        rows["vision tower"] = f"{vision.num_hidden_layers} layers, hidden {vision.hidden_size}"
        rows["a picture"] = f"{seen.size} x {seen.size} pixels, {seen.tokens} tokens"
    if text.model_type == "deepseek_v3":
        rows["experts"] = (
            f"{text.n_routed_experts} of size {text.moe_intermediate_size} in all but the first "
            f"{text.first_k_dense_replace} layer, {text.num_experts_per_tok} per token, "
            f"{text.n_shared_experts} shared"
        )
        rows["latents"] = f"{text.kv_lora_rank} for keys and values, {text.q_lora_rank} for queries"
    rows |= {
        "vocabulary": f"{text.vocab_size:,} (byte-level BPE; digits and 243 names single tokens)",
        "context length": f"{text.max_position_embeddings:,} tokens",
        "rotary base": f"{text.rope_parameters['rope_theta']:,.0f}",
    }
    return rows


def score_rows(tasks: dict[str, dict], beside: dict[str, dict] | None) -> str:
    """The table of scores, with another model's share beside each where one is given."""
    head = ["task", "what is asked", "correct", "share", "95 % interval", "floor"]
    head += [f"`{BASELINE}`"] if beside else []
    rows = [head, ["---"] * len(head)]
    for task, s in tasks.items():
        row = [task, TASK_WORDS[task], f"{s['correct']}/{s['n']}", f"{s['correct'] / s['n']:.1%}",
               f"{s['low']:.1%} – {s['high']:.1%}", f"{s['floor']:.1%}"]  # fmt: skip
        if beside:
            other = beside.get(task)
            row.append(f"{other['correct'] / other['n']:.1%}" if other else "")
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def curve_in_words(curve: list[dict], watched: list[str]) -> str:
    """When each task was first half right, for those who do not see the figure."""
    when = {
        task: next((r["tokens"] / 1e6 for r in curve if r[task] >= 0.5), None) for task in watched
    }
    order = sorted((t for t in watched if when[t] is not None), key=lambda task: when[task])
    late = [task for task in watched if when[task] is None]
    text = "Held-out accuracy against tokens read. Half right: "
    text += ", ".join(f"{task} at {when[task]:.1f} M tokens" for task in order)
    return text + (f"; never {', '.join(late)}." if late else ".")


def write(name: str, found: dict) -> None:
    """Write scores.json, curve.svg and README.md into the miniature's folder."""
    home, recipe, config = home_of(name), train.RECIPES[name], configs.config(name)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (home / "scores.json").write_text(text + "\n", encoding="utf-8")
    draw(found["curve"], home / "curve.svg")
    last = found["curve"][-1]
    solved, asked = (sum(column) for column in zip(*found["typed_by_hand"].values(), strict=True))
    total = evaluate.score(solved, asked)
    pipeline = "image-text-to-text" if configs.sees(config) else "text-generation"
    watched = watched_in(last)
    rows = [f"| M tokens | {' | '.join(watched)} |", "|---" * (len(watched) + 1) + "|"]
    rows += [
        f"| {r['tokens'] / 1e6:.1f} | " + " | ".join(f"{r[t]:.2f}" for t in watched) + " |"
        for r in found["curve"]
    ]
    beside = None
    if recipe.start not in ("", "heads"):
        stored = (home_of(BASELINE) / "scores.json").read_text(encoding="utf-8")
        beside = json.loads(stored)["tasks"]
    used = found["active_parameters"]
    card = CARD.format(
        name=name,
        stands_for=configs.STANDS_FOR[name],
        architecture=found["architecture"],
        pipeline=pipeline,
        loading=LOADING[pipeline].format(name=name),
        parameters=found["parameters"],
        active="" if used == found["parameters"] else f" ({used:,} of them for one token)",
        shape="\n".join(f"| {key} | {value} |" for key, value in shape_of(config).items()),
        count=found["count"],
        seed=found["seed"],
        date=found["date"],
        scores=score_rows(found["tasks"], beside),
        beside=f" `{BASELINE}` is a dense model of about as many active parameters."
        if beside
        else "",
        typed="\n".join(f"| {t} | {c}/{n} |" for t, (c, n) in found["typed_by_hand"].items()),
        typed_note=f"All together {solved} of {asked}: {solved / asked:.0%} "
        f"(95 % interval {total.low:.0%} – {total.high:.0%}).",
        tokens=last["tokens"] / 1e6,
        minutes=last["seconds"] / 60,
        speed=last["tokens"] / last["seconds"],
        workers=last["on"][0],
        device=last["on"][1].upper(),
        dtype=last["on"][2],
        recipe=", ".join(
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in asdict(recipe).items()
            if key != "mix" and value != "" and (recipe.teacher or key != "taught")
        )
        + ". Mix: "
        + ", ".join(f"{task} {share}" for task, share in recipe.mix.items())
        + ".",
        start=STARTS.get(recipe.start, STARTS["parent"]).format(start=recipe.start),
        history=HISTORY.get(name, ""),
        alt=curve_in_words(found["curve"], watched),
        curve="\n".join(rows),
    )
    (home / "README.md").write_text(re.sub(r"\n{3,}", "\n\n", card), encoding="utf-8")


def watched_in(record: dict) -> list[str]:
    """The tasks of a line of the training log."""
    return [task for task in (*train.WATCHED, *flags.TASKS) if task in record]


def draw(curve: list[dict], file: Path) -> None:
    """Held-out accuracy per task against millions of tokens, readable in grey."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "curve"  # the same file from the same numbers
    matplotlib.rcParams["svg.fonttype"] = "none"  # letters as letters: a quarter of the size
    from matplotlib import pyplot as plt

    fig, ax = plt.subplots(figsize=(7, 4))
    tokens = [record["tokens"] / 1e6 for record in curve]
    styles = ((line, mark) for line in ("-", "--", ":", "-.") for mark in "osv^")
    for task, (line, mark) in zip(watched_in(curve[-1]), styles, strict=False):
        shares = [100 * record[task] for record in curve]
        ax.plot(tokens, shares, line, marker=mark, markersize=4, label=task, color="0.2")
    ax.set(xlabel="tokens read (millions)", ylabel="held-out answers right (%)", ylim=(-2, 102))
    ax.legend(fontsize=8, ncols=2)
    fig.savefig(file, metadata={"Date": None}, bbox_inches="tight")
    plt.close(fig)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(train.RECIPES))
    parser.add_argument("--instances", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write(options.name, measured(options.name, options.instances, options.seed))


if __name__ == "__main__":
    main()
