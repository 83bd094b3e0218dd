"""Write a miniature's model card from its scores: `python -m openmodels.minis.card NAME`.

`scores.json` stores the numbers and `README.md` shows them; no number in the card is typed by
hand. With `--render` the card is written from the stored scores, without measuring them again.
"""

import argparse
import json
import re
from collections import Counter
from dataclasses import asdict
from datetime import date
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from openmodels import sizing
from openmodels.harbour import Instance, code, pictures
from openmodels.minis import (
    ROOT,
    TASK_WORDS,
    build_dir,
    configs,
    embed_card,
    evaluate,
    evaluate_code,
    images,
    media_card,
    rl,
    shipped_dir,
    train,
    weights_dir,
)
from openmodels.minis.tokenizer import CODE_VOCABULARY

TYPED = ROOT / "tests" / "data" / "typed_by_hand.jsonl"
# Sixty other sentences, typed before the grammar of the agent's training texts was read.
TYPED_FOR_AGENT = TYPED.with_name("typed_for_agent.jsonl")

# Facts about a run that its recipe does not contain, and notes on a score.
HISTORY: dict[str, str] = {
    "mini-scout": """\
The first 14 M tokens were a separate run, with half as many pictures and two thirds of the learning
rate, which fell to zero. The recipe then continued from its weights at 14 M tokens.""",
    "mini-qwen-agent": """\
In the first stage, mix and rates were changed three times, at 2.1, 7.1 and 9.6 M tokens; the recipe
above is the last one, and its rate fell to zero over the last 2.7 M tokens. That stage never
learned which passage an answer came from. The second begins with drills in which a citation first
follows its words at once and then at a growing distance. It ran in one process until 5.4 M tokens
and in two from then on.""",
    "mini-maverick": """\
*Without the teacher* is the same recipe with right answers only
(`python -m openmodels.minis.train mini-maverick --untaught`).""",
}

# Settings of a recipe that change nothing at these values, so that a card leaves them out.
UNUSED = {
    "picture_last": 0.0, "average": 1.0, "verdict_weight": 1.0, "drill_tokens": 0.0,
    "first_drill_share": 0.0,
}  # fmt: skip

STARTS = {
    "heads": """\
The data are conversations from `openmodels.harbour` (train split, seeded), several questions per
text, and drills on random tokens: repeated segments, which can be learned only by copying, and
tables, where a value belongs to a row and a column. Texts are short at first and then grow. Not all
weights start at random: three layers start with hand-initialised heads, for copying and for binding
a value to its subject (`start_copying` and `start_reading` in `openmodels/minis/heads.py` describe
them and the results without them). All weights are then trained.""",
    "": """\
The data are from `openmodels.harbour` (train split, seeded). The weights start at random.""",
    "parent": """\
The weights start from `{start}`, converted to this architecture as closely as it allows
(`openmodels/minis/upcycle.py`). All of them are then trained on conversations from
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

# Too large for the course's repository: only the card is shipped, and the recipe makes the weights.
NOT_SHIPPED = ("mini-behemoth",)
UNSHIPPED = """\
Its weights are not in this folder: like its namesake it is a teacher and was not released.
`python -m openmodels.minis.train {name}` makes them."""

# Scored by modules of their own, which write scores.json; their cards have other tables.
MEDIA = ("mini-qwen-vl", "mini-qwen-audio")

MEASURING = """\
Greedy generation, {judged}, {count} held-out instances per task drawn with seed {seed}; 95 %
Wilson intervals. Measured on {date} with the weights in this folder, computed in float32.
`python -m openmodels.minis.evaluate {name} --instances {count}` repeats the measurement."""

FLOOR = """
*Floor* is the share of the most frequent right answer: the score of always giving that answer."""

SAME = """\
A miniature of **{stands_for}**: the same class (`{architecture}`) and the same modules in the same
order, with {parameters:,} parameters{active}. It was trained on Port Lark, the small closed world
of this course."""
TAUGHT = """\
A miniature trained like **{taught_as}**, on sums of Port Lark, the small closed world of this
course. Its architecture is Qwen2.5's (`{architecture}`), with {parameters:,} parameters."""

CARD = """\
---
license: apache-2.0
language: [en, zh]
library_name: transformers
pipeline_tag: {pipeline}
---
# {name}

{what}

It knows one harbour and nothing else. It answers every question, even if it cannot know the answer:
the scores below show for which kinds of question its answers are usable.

{loading}

| | |
|---|---|
{shape}

## Scores

{measuring}

{scores}

{held_out}

{walls}

{orders}

{typed}

## Training

{training}

{history}

{second_stage}
"""

CONVERSATIONS = """\
Combinations are held out: a name with this shop or this good, a fact with this phrasing of its
question, the two numbers of a sum, and for `intent_phrasing` whole sentence patterns. Rows ending
in `invented` use names made from syllables, which are several tokens each and are on no list."""

WALLS = """\
### Chunked attention and tool calls

Three of four layers attend only to the start of their chunk of {chunk} tokens. In {n} of the tool
calls a chunk ends between the request and the end of the call: {right} of them are right
({share:.0%}), and {other} of the {others} others ({other_share:.0%})."""

ORDERS = """\
### Picture before or after the question

Ollama puts a picture after the question; the server of this course puts it before. The table has
{n} held-out pictures per task in each order, with 95 % Wilson intervals. *Before* is the share that
the first stage of training had reached with the picture after the question.

| task | picture first | 95 % interval | picture last | 95 % interval | before |
|---|---|---|---|---|---|
{rows}"""

SECOND_STAGE = """\
A second stage then trained these weights further, because in the first every picture preceded its
question: {tokens:.1f} M tokens in {minutes:.0f} minutes with {workers} process(es) of one thread on
{device} ({date}), with {share:.0%} of the pictures after the question.
`python -m openmodels.minis.train {name} --continued` repeats it from the first stage's weights:
{recipe}, and the same mix. Each weight in this folder is the average of both stages: {average:.0%}
of the second's value and the other share of the first's. The second stage alone lost more in the
text tasks; the share was chosen on other held-out instances than those of the scores. The column
*first stage* has the scores before it."""

CITING_STAGE = """\
A second stage then trained these weights further, because the first had not learned to cite:
{tokens:.1f} M tokens in {minutes:.0f} minutes with {workers} process(es) of one thread on {device}
({date}), the first {drills:.1f} M of them with {drill_share:.0%} drills in citing
(`pointing` and `quoting` in `openmodels/minis/data.py`).
`python -m openmodels.minis.train {name} --continued` repeats it from the first stage's weights:
{recipe}. The column *first stage* has the scores before it."""

FUNCTIONS = """\
The generated code is run, in a process with limits, on lists it has not seen; it is right if every
result is. Combinations are held out: what a function computes from the entries of a ledger, which
entries, and how they are changed first. Rows ending in `floor` are scores of a model that ignores
the prompt."""

AGENT_TYPED_TABLE = """\
### Sixty hand-written inputs

`tests/data/{file}` was typed by a person who had not read the grammar that makes the training
texts, and nothing was generated from it. It is the harder test, and small: with 2 to 10 inputs per
task, one answer changes a row by 10 to 50 points.

| task | correct |
|---|---|
{rows}

In total {solved} of {total}: {share:.0%} (95 % interval {low:.0%} – {high:.0%}).

On the sixty inputs that `mini-qwen` is scored on it has {old_solved} of {old_total}."""

TYPED_TABLE = """\
### Sixty hand-written inputs

`tests/data/typed_by_hand.jsonl` was written independently of the generator, with other words than
its templates, and nothing was generated from it. The generator got more phrasings after a first
model had been scored here (23 of 60); none of them is a sentence of this file. It is the harder
test, and small: with 5 to 16 inputs per task, one answer changes a row by 6 to 20 points.

| task | correct |
|---|---|
{rows}

In total {solved} of {total}: {share:.0%} (95 % interval {low:.0%} – {high:.0%})."""

PRETRAINED = """\
{tokens:.1f} M tokens in {minutes:.0f} minutes ({speed:,.0f} tokens/s) with {workers} process(es) of
one thread on {device}, in {dtype}. `python -m openmodels.minis.train {name}` repeats the recipe:
{recipe}

{start} Weights are stored in bfloat16.

{figure}Share of 64 held-out answers that were right during training (teacher-forced, which equals
greedy generation):

{curve}"""

REINFORCED = """\
It starts from `{base}`{layers}. {stages}
`python -m openmodels.minis.rl {name}` repeats the recipe: {recipe}.
Weights are stored in bfloat16.

| {instances} held-out sums, greedy | right | 95 % interval |
|---|---|---|
| before | {before} | {before_range} |
| after | {after} | {after_range} |
{curve}"""


def measured(name: str, count: int, seed: int, first_stage: Path | None = None) -> dict:
    """Return the scores of a miniature's weights, shipped or built here, with its training log.

    first_stage: a folder with the weights and scores before a second stage of training.
    """
    home = weights_dir(name)
    model, tokenizer = evaluate.load(home)

    def show(task: str, score: evaluate.Score) -> None:
        print(f"{task:18} {score.correct}/{score.n}", flush=True)

    scores = evaluate.evaluate(model, tokenizer, count=count, seed=seed, show=show)
    results = {
        "date": date.today().isoformat(),
        "architecture": type(model).__name__,
        "parameters": model.num_parameters(),
        "active_parameters": sizing.active_parameters(model.config),
        "count": count,
        "seed": seed,
        "tasks": {task: asdict(s) for task, s in scores.items()},
    }
    if not evaluate_code.is_coder(tokenizer):
        for task, row in results["tasks"].items():
            row["floor"] = floor(evaluate.draw_any(task, count, seed))
        results["typed_by_hand"] = typed(model, tokenizer)
        if configs.acts(model.config):
            results["typed_for_agent"] = typed(model, tokenizer, TYPED_FOR_AGENT)
        if chunk := getattr(model.config.get_text_config(), "attention_chunk_size", None):
            results["walls"] = {"chunk": chunk} | walls(model, tokenizer, chunk, count, seed)
    log = [json.loads(line) for line in (home / "log.jsonl").read_text("utf-8").splitlines()]
    if name in train.RECIPES and train.RECIPES[name].teacher:
        untaught, _ = evaluate.load(build_dir(f"{name}-untaught"))
        scores = evaluate.evaluate(untaught, tokenizer, count=count, seed=seed)
        results["untaught"] = {task: asdict(s) for task, s in scores.items()}
    if name in rl.RECIPES:
        return results | {"stages": thinned(log)}
    if configs.sees(model.config):
        results["picture_last"] = picture_last(model, tokenizer, count, seed)
    if first_stage:
        stored = json.loads((first_stage / "scores.json").read_text(encoding="utf-8"))
        results["first_stage"] = {"tasks": stored["tasks"]}
        if configs.sees(model.config):
            last = picture_last(*evaluate.load(first_stage), count, seed)
            results["first_stage"]["picture_last"] = last
    second = [record for record in log if record.get("continued")]
    results |= {"second_stage": second[-1]} if second else {}
    first = [record for record in log if record not in second]
    # a run whose tasks changed has a curve from then on
    return results | {"curve": [record for record in first if first[-1].keys() <= record.keys()]}


def picture_last(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int, seed: int
) -> dict[str, dict]:
    """Return the scores of the picture tasks with each picture after its question."""
    scores = evaluate.evaluate(
        model, tokenizer, pictures.TASKS, count=count, seed=seed, picture_last=True
    )
    return {task: asdict(s) for task, s in scores.items()}


def orders_in_words(results: dict) -> str:
    """Return the card's table of scores by the order of picture and question."""
    rows = []
    for task, after in results["picture_last"].items():
        cells = [task]
        for row in (results["tasks"][task], after):
            cells += [f"{row['correct'] / row['n']:.1%}", interval(row)]
        first = results.get("first_stage", {}).get("picture_last", {}).get(task)
        cells.append(f"{first['correct'] / first['n']:.1%}" if first else "")
        rows.append(f"| {' | '.join(cells)} |")
    return ORDERS.format(n=results["count"], rows="\n".join(rows))


def second_stage_in_words(name: str, record: dict) -> str:
    """Return the card's paragraph on a second stage of training, from its last log record."""
    recipe, (workers, device, _) = train.CONTINUED[name], record["on"]
    return (CITING_STAGE if recipe.acts else SECOND_STAGE).format(
        name=name,
        tokens=record["tokens"] / 1e6,
        minutes=record["seconds"] / 60,
        workers=workers,
        device=device.upper(),
        date=record["date"],
        share=recipe.picture_last,
        average=recipe.average,
        drills=recipe.drill_tokens / 1e6,
        drill_share=recipe.first_drill_share,
        recipe=recipe_in_words(recipe),
    )


def typed(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, file: Path = TYPED
) -> dict[str, list[int]]:
    """Return [right, total] per task of the hand-written inputs in a file."""
    samples = evaluate.typed_by_hand(file)
    totals, solved = Counter(i.task for i in samples), Counter()
    for instance, (_, ok) in zip(samples, evaluate.marked(model, tokenizer, samples), strict=True):
        solved[instance.task] += ok
    return {task: [solved[task], n] for task, n in totals.items()}


def walls(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chunk: int, count: int, seed: int
) -> dict[str, list[int]]:
    """Return [right, total] of tool calls with a chunk boundary before their end, and without."""
    samples, counts = evaluate.draw("tool_call", count, seed), {"walled": [0, 0], "whole": [0, 0]}
    for instance, (_, ok) in zip(samples, evaluate.marked(model, tokenizer, samples), strict=True):
        row = counts["walled" if evaluate.walled(tokenizer, instance, chunk) else "whole"]
        row[0], row[1] = row[0] + ok, row[1] + 1
    return counts


def walls_in_words(counts: dict) -> str:
    """Return the card's paragraph on chunked attention."""
    (right, n), (right_whole, n_whole) = counts["walled"], counts["whole"]
    return WALLS.format(chunk=counts["chunk"], right=right, n=n, share=right / n, other=right_whole,
                        others=n_whole, other_share=right_whole / n_whole)  # fmt: skip


def thinned(log: list[dict], group: int = 10) -> dict:
    """Return a log of `rl`: scores before and after, and the means of each `group` steps."""
    stages = {record["stage"]: record for record in log if record["stage"] in ("before", "after")}
    steps = [record for record in log if record["stage"] == "grpo"]
    groups = [steps[start : start + group] for start in range(0, len(steps), group)]
    keys = ("number", "reward", "length", "teaching", "seconds")
    stages["steps"] = [
        {key: round(sum(step[key] for step in group_steps) / len(group_steps), 4) for key in keys}
        for group_steps in groups
    ]
    return stages


def floor(samples: list[Instance]) -> float:
    """Return the share of the most frequent right answer among instances."""
    answers = Counter(json.dumps(instance.answer, sort_keys=True) for instance in samples)
    return round(answers.most_common(1)[0][1] / len(samples), 4)


def shape_of(config: PreTrainedConfig) -> dict[str, object]:
    """Return the main numbers of a config, under the names the course uses."""
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
        vision, shape = config.vision_config, images.Shape.of(config)
        rows["vision tower"] = f"{vision.num_hidden_layers} layers, hidden {vision.hidden_size}"
        rows["a picture"] = f"{shape.size} x {shape.size} pixels, {shape.tokens} tokens"
    if text.model_type == "deepseek_v3":
        rows["experts"] = (
            f"{text.n_routed_experts} of size {text.moe_intermediate_size} in all but the first "
            f"{text.first_k_dense_replace} layer, {text.num_experts_per_tok} per token, "
            f"{text.n_shared_experts} shared"
        )
        rows["latents"] = f"{text.kv_lora_rank} for keys and values, {text.q_lora_rank} for queries"
    rows |= {
        "vocabulary": f"{text.vocab_size:,} (byte-level BPE"
        + (")" if text.vocab_size == CODE_VOCABULARY else "; digits and 243 names single tokens)"),
        "context length": f"{text.max_position_embeddings:,} tokens",
        "rotary base": f"{text.rope_parameters['rope_theta']:,.0f}",
    }
    return rows


def score_rows(tasks: dict[str, dict], columns: dict[str, dict[str, dict]]) -> str:
    """Return the table of scores; `columns` are further scores, by their heading."""
    floors = any("floor" in s for s in tasks.values())
    head = ["task", "what is asked", "correct", "share", "95 % interval"]
    head += [*(["floor"] if floors else []), *columns]
    rows = [head, ["---"] * len(head)]
    for task, s in tasks.items():
        row = [task, TASK_WORDS[task], f"{s['correct']}/{s['n']}", f"{s['correct'] / s['n']:.1%}",
               interval(s)]  # fmt: skip
        row += [f"{s['floor']:.1%}"] if floors else []
        for column in columns.values():
            row.append(
                f"{column[task]['correct'] / column[task]['n']:.1%}" if task in column else ""
            )
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def interval(s: dict) -> str:
    """Return a 95 % interval as text."""
    return f"{s['low']:.1%} – {s['high']:.1%}"


def curve_in_words(curve: list[dict], watched: list[str]) -> str:
    """Describe when half of each task's answers were first right, as the figure's alt text."""
    half_right_at = {
        task: next((r["tokens"] / 1e6 for r in curve if r[task] >= 0.5), None) for task in watched
    }
    order = sorted(
        (t for t in watched if half_right_at[t] is not None), key=lambda task: half_right_at[task]
    )
    never = [task for task in watched if half_right_at[task] is None]
    text = "Held-out accuracy against training tokens. Half of the answers are right: "
    text += ", ".join(f"{task} at {half_right_at[task]:.1f} M tokens" for task in order)
    return text + (f"; never {', '.join(never)}." if never else ".")


def write(name: str, results: dict) -> None:
    """Write scores.json and README.md into the folder, and curve.svg for text models."""
    home = shipped_dir(name)
    home.mkdir(exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (home / "scores.json").write_text(text + "\n", encoding="utf-8")
    if name in configs.EMBEDDERS:
        (home / "README.md").write_text(embed_card.render(name, results), encoding="utf-8")
        return
    if name in MEDIA:
        (home / "README.md").write_text(media_card.render(name, results), encoding="utf-8")
        return
    (home / "README.md").write_text(render(name, results), encoding="utf-8")
    draw(results, home / "curve.svg")


def render(name: str, results: dict) -> str:
    """Return the text of the model card for these results."""
    config = configs.config(name)
    pipeline = "image-text-to-text" if configs.sees(config) else "text-generation"
    active = results["active_parameters"]
    parent = parent_of(name)
    converses, columns = "typed_by_hand" in results, {}
    measuring = MEASURING.format(
        name=name,
        judged="exact match" if converses else "judged by running it",
        **{key: results[key] for key in ("count", "seed", "date")},
    )
    if converses:
        measuring += FLOOR
    if parent:
        stored = json.loads((shipped_dir(parent) / "scores.json").read_text(encoding="utf-8"))
        columns[f"`{parent}`"] = stored["tasks"]
        measuring += f"\nThe scores of `{parent}`, from which it started, have a column too."
    if "first_stage" in results:
        columns["first stage"] = results["first_stage"]["tasks"]
    if "untaught" in results:
        columns["without the teacher"] = results["untaught"]
    card = CARD.format(
        name=name,
        what=(TAUGHT if name in configs.TAUGHT_AS else SAME).format(
            stands_for=configs.STANDS_FOR[name],
            taught_as=configs.TAUGHT_AS.get(name),
            architecture=results["architecture"],
            parameters=results["parameters"],
            active=f" ({active:,} of them per token)" if active != results["parameters"] else "",
        ),
        pipeline=pipeline,
        loading=UNSHIPPED.format(name=name) if name in NOT_SHIPPED
        else "```python\n" + LOADING[pipeline].format(name=name) + "\n```",
        shape="\n".join(f"| {key} | {value} |" for key, value in shape_of(config).items()),
        measuring=measuring,
        scores=score_rows(results["tasks"], columns),
        held_out=CONVERSATIONS if converses else FUNCTIONS,
        walls=walls_in_words(results["walls"]) if "walls" in results else "",
        orders=orders_in_words(results) if "picture_last" in results else "",
        typed=typed_table(results) if converses else "",
        training=reinforced(name, results) if "stages" in results else pretrained(name, results),
        history=HISTORY.get(name, ""),
        second_stage=second_stage_in_words(name, results["second_stage"])
        if "second_stage" in results
        else "",
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", card).rstrip() + "\n"


def parent_of(name: str) -> str:
    """Return the miniature whose weights this one started from, or ""."""
    if name in rl.RECIPES:
        return rl.RECIPES[name].base
    start = train.RECIPES[name].start
    return "" if start == "heads" else start


def typed_table(results: dict) -> str:
    """Return the card's table of the hand-written inputs."""
    counts = results.get("typed_for_agent", results["typed_by_hand"])
    solved, n_total = (sum(column) for column in zip(*counts.values(), strict=True))
    total = evaluate.score(solved, n_total)
    old_solved, old_total = (
        sum(column) for column in zip(*results["typed_by_hand"].values(), strict=True)
    )
    rows = "\n".join(f"| {task} | {right}/{n} |" for task, (right, n) in counts.items())
    table = AGENT_TYPED_TABLE if "typed_for_agent" in results else TYPED_TABLE
    return table.format(rows=rows, solved=solved, total=n_total, share=solved / n_total,
                        low=total.low, high=total.high, file=TYPED_FOR_AGENT.name,
                        old_solved=old_solved, old_total=old_total)  # fmt: skip


def recipe_in_words(recipe: train.Recipe | rl.Recipe) -> str:
    """Return a recipe's settings as text, without those that have no effect."""
    taught = getattr(recipe, "teacher", "") or ""
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in asdict(recipe).items()
        if key not in ("mix", "base")
        and value not in ("", None)
        and (taught or key != "distillation_weight")
        and (key not in UNUSED or value != UNUSED[key])
    )


def pretrained(name: str, results: dict) -> str:
    """Return the card's section on training with `train`."""
    recipe, final = train.RECIPES[name], results["curve"][-1]
    watched = watched_in(final)
    rows = [f"| M tokens | {' | '.join(watched)} |", "|---" * (len(watched) + 1) + "|"]
    rows += [
        f"| {r['tokens'] / 1e6:.1f} | " + " | ".join(f"{r[t]:.2f}" for t in watched) + " |"
        for r in results["curve"]
    ]
    mix = ", ".join(f"{task} {share}" for task, share in recipe.mix.items())
    return PRETRAINED.format(
        name=name,
        tokens=final["tokens"] / 1e6,
        minutes=final["seconds"] / 60,
        speed=final["tokens"] / final["seconds"],
        workers=final["on"][0],
        device=final["on"][1].upper(),
        dtype=final["on"][2],
        recipe=f"{recipe_in_words(recipe)}. Mix: {mix}.",
        start=STARTS.get(recipe.start, STARTS["parent"]).format(start=recipe.start),
        figure=f"![{curve_in_words(results['curve'], watched)}](curve.svg)\n\n"
        if len(results["curve"]) > 1
        else "",
        curve="\n".join(rows),
    )


def reinforced(name: str, results: dict) -> str:
    """Return the card's section on training with `rl`."""
    recipe, stages = rl.RECIPES[name], results["stages"]
    sentences = []
    if recipe.examples:
        source = f"generated by `{recipe.teacher}`" if recipe.teacher else "worked digit by digit"
        sentences.append(
            f"It read {recipe.examples:,} right answers, {source}, {recipe.epochs} times."
        )
    curve = ""
    if stages["steps"]:
        first, final = stages["steps"][0], stages["steps"][-1]
        sentences.append(
            f"Then {stages['after']['steps']} steps of GRPO took {final['seconds'] / 60:.0f} "
            "minutes, each on its own sampled answers: nine tenths of the reward are for a right "
            "last line, one tenth is for the form."
        )
        alt = f"The mean reward rose from {first['reward']:.2f} to {final['reward']:.2f}."
        curve = f"\n![{alt}](curve.svg)\n\n{alt}"
    before, after = stages["before"]["sums"], stages["after"]["sums"]
    return REINFORCED.format(
        name=name,
        base=recipe.base,
        layers=f", with only its first {recipe.layers} layers" if recipe.layers else "",
        stages=" ".join(sentences),
        recipe=recipe_in_words(recipe),
        instances=before["n"],
        before=f"{before['correct']}/{before['n']}",
        before_range=interval(before),
        after=f"{after['correct']}/{after['n']}",
        after_range=interval(after),
        curve=curve,
    )


def watched_in(record: dict) -> list[str]:
    """Return the tasks in a record of the training log."""
    tasks = dict.fromkeys((*train.WATCHED, *train.WATCHED_AGENT, *pictures.TASKS, *code.TASKS))
    return [task for task in tasks if task in record]


def draw(results: dict, file: Path) -> None:
    """Plot held-out accuracy against tokens, or reward against steps, into an SVG file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "curve"  # the same file from the same numbers
    matplotlib.rcParams["svg.fonttype"] = "none"  # text as text: a quarter of the size
    from matplotlib import pyplot as plt

    fig, ax = plt.subplots(figsize=(7, 4))
    if "curve" in results:
        curve = results["curve"]
        tokens = [record["tokens"] / 1e6 for record in curve]
        styles = ((line, mark) for line in ("-", "--", ":", "-.") for mark in "osv^")
        for task, (line, mark) in zip(watched_in(curve[-1]), styles, strict=False):
            shares = [100 * record[task] for record in curve]
            ax.plot(tokens, shares, line, marker=mark, markersize=4, label=task, color="0.2")
        ax.set(xlabel="tokens read (millions)", ylabel="held-out answers right (%)")
        ax.set_ylim(-2, 102)
        ax.legend(fontsize=8, ncols=2)
    else:
        steps = results["stages"]["steps"]
        ax.plot([s["number"] for s in steps], [s["reward"] for s in steps], color="0.2")
        ax.set(xlabel="step", ylabel="mean reward", ylim=(0, 1.02))
    if ax.lines and len(ax.lines[0].get_xdata()) > 1:
        fig.savefig(file, metadata={"Date": None}, bbox_inches="tight")
    plt.close(fig)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(configs.CONFIGS | configs.EMBEDDERS))
    parser.add_argument("--instances", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first-stage", type=Path, help="weights before a second stage")
    parser.add_argument("--render", action="store_true", help="use the stored scores")
    options = parser.parse_args()
    if options.name in MEDIA and not options.render:
        parser.error(f"{options.name} is scored by openmodels.minis.evaluate_vl or _audio")
    if options.name in configs.EMBEDDERS and not options.render:
        parser.error(f"{options.name} is scored by openmodels.minis.evaluate_embed")
    if options.render:
        text = (shipped_dir(options.name) / "scores.json").read_text(encoding="utf-8")
        results = json.loads(text)
    else:
        results = measured(options.name, options.instances, options.seed, options.first_stage)
    write(options.name, results)


if __name__ == "__main__":
    main()
