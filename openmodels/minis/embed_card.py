"""Write the model card of mini-embed from its scores.

`python -m openmodels.minis.card mini-embed --render` calls this module. `scores.json` stores the
numbers; no number of a result is typed here.
"""

from openmodels.minis import configs, embed
from openmodels.minis.media_card import interval, percent, table

CARD = """\
---
license: apache-2.0
language: [en]
library_name: sentence-transformers
pipeline_tag: sentence-similarity
---
# {name}

A miniature in the form of **Qwen3-Embedding**: the last token's hidden state is the text's vector,
a question starts with an instruction, and the first {middle} or {small} of the {large} numbers are
a vector too. The class is `{architecture}`, with {parameters:,} parameters; Qwen3-Embedding is a
Qwen3, which also normalises queries and keys.

It knows the documents of one harbour, Port Lark, and nothing else.

```python
from openmodels import paths
from openmodels.minis import embed

model, tokenizer = embed.load(paths.shipped_dir("{name}"))
questions = embed.encode(model, tokenizer, [embed.query("Where does the Heron under Ada lie?")])
passages = embed.encode(model, tokenizer, ["Ada's Heron is moored at place 7."])
questions @ passages.T  # the cosine similarity
```

`{prompt}` precedes a question; a passage has no prompt. The tokenizer appends `{end}` to each text.
sentence-transformers reads the folder too, with `prompt_name="query"` for questions.

| | |
|---|---|
{shape}

## Scores

Recall@k is the share of questions whose passage is among the k most similar of all passages.
{questions} held-out questions over {passages:,} held-out passages, drawn with seed {seed}; 95 %
Wilson intervals in brackets. No person, ship, shop or good of a held-out fact occurs in this
combination in training. Measured on {date}.
`python -m openmodels.minis.evaluate_embed models/{name}` repeats the measurement.

{scores}

## What it is not good at

{weak}

## Training

{training}
"""

WEAK = """\
{misses} of {questions} questions have their passage outside the first five. It has seen the
sentence forms of Port Lark's documents; a text in other words, in another language or longer than
a paragraph gets a vector of little use. A vector does not say whether a passage answers the
question or only resembles it: questions without an answer also have a nearest passage. Of two
passages that state different values it does not know the newer."""

TRAINING = """\
The weights start from `{start}`. {steps:,} steps of {batch} questions took {minutes:.1f} minutes of
processor time on {device}. The loss is InfoNCE with temperature {temperature:g}: each question
must be closer to its passage than to the {others} other passages of the batch, of which {batch}
passages were chosen to be similar: the same subject with another attribute, or the same attribute
of a similar subject. The loss is the mean over {dimensions} dimensions. The mean loss of the last
{window} steps was {loss:.3f}. `python -m openmodels.minis.train_embed` repeats the recipe."""

CONTINUED = """

A second run continued from these weights with harder batches: the questions of one are about
{kinds} kinds of facts, so that all its passages are similar, and {negatives} passages per question
were chosen to be. {steps:,} steps of {batch} questions took {minutes:.1f} minutes of processor
time; the mean loss of the last {window} steps was {loss:.3f}.
`python -m openmodels.minis.train_embed --start mini-embed --seed {seed} --batch {batch} --kinds
{kinds} --negatives {negatives} --rate {rate:g} --seconds {spent:.0f}` repeats it from the first
run's weights."""


def render(name: str, results: dict) -> str:
    """Return the text of the model card for these results."""
    large, middle, small = embed.DIMENSIONS
    return CARD.format(
        name=name,
        large=large,
        middle=middle,
        small=small,
        architecture="Qwen2Model",
        prompt=embed.PROMPT.replace("\n", "\\n"),
        end=embed.END_OF_TEXT,
        shape=shape_rows(name),
        scores=score_table(results["recalls"]),
        weak=weak_in_words(results),
        training=training_in_words(results["run"]),
        **{key: results[key] for key in ("parameters", "questions", "passages", "seed", "date")},
    )


def shape_rows(name: str) -> str:
    """Return the main numbers of the config as rows of a table."""
    config = configs.config(name)
    rows = {
        "layers": config.num_hidden_layers,
        "hidden size": config.hidden_size,
        "heads / KV heads": f"{config.num_attention_heads} / {config.num_key_value_heads}",
        "intermediate size": config.intermediate_size,
        "vocabulary": f"{config.vocab_size:,}",
        "context length": f"{config.max_position_embeddings:,} tokens",
    }
    return "\n".join(f"| {key} | {value} |" for key, value in rows.items())


def score_table(recalls: dict[str, dict[str, dict]]) -> str:
    """Return the recall of each search at each k."""
    rows = [["search", *next(iter(recalls.values()))]]
    for search, scores in recalls.items():
        rows.append([search, *(f"{percent(row)} ({interval(row)})" for row in scores.values())])
    return table(rows)


def weak_in_words(results: dict) -> str:
    """Return what the model cannot do, with the number of misses."""
    row = results["tasks"]["recall_5"]
    return WEAK.format(misses=row["n"] - row["correct"], questions=row["n"])


def training_in_words(run: dict) -> str:
    """Return how the model was trained."""
    if "first_run" in run:
        return training_in_words(run["first_run"]) + CONTINUED.format(
            **length(run), **run["recipe"]
        )
    recipe = run["recipe"]
    dimensions = [str(n) for n in embed.DIMENSIONS]
    return TRAINING.format(
        **length(run),
        device="one CPU thread" if run["device"] == "cpu" else "a GPU",
        others=recipe["batch"] * (1 + recipe["negatives"]) - 1,
        dimensions=f"{', '.join(dimensions[:-1])} and {dimensions[-1]}",
        **{key: recipe[key] for key in ("start", "batch", "temperature")},
    )


def length(run: dict) -> dict:
    """Return a run's steps and minutes, and the last steps with their mean loss."""
    log = run["log"]
    return {
        "steps": log[-1]["step"],
        "minutes": log[-1]["seconds"] / 60,
        "spent": log[-1]["seconds"],
        "window": log[-1]["step"] - (log[-2]["step"] if len(log) > 1 else 0),
        "loss": log[-1]["loss"],
    }
