"""Write the model cards of the miniatures that see or hear in Qwen's way, from their scores.

`python -m openmodels.minis.card NAME --render` calls this module. `scores.json` stores the numbers;
no number of a result is typed here.
"""

from collections.abc import Sequence

from openmodels.minis import TASK_WORDS, configs

CARD = """\
---
license: apache-2.0
language: [en, zh]
library_name: transformers
pipeline_tag: {pipeline}
---
# {name}

A miniature of **{stands_for}**: the same class (`{architecture}`) and the same modules in the same
order, with {parameters:,} parameters. {use}

It knows one harbour and nothing else. It answers every question, even if it cannot know the
answer: the scores below show for which kinds of question its answers are usable.

```python
{loading}
```

| | |
|---|---|
{shape}

{fidelity}

## Scores

{measuring}

{scores}

{more}

## What it is not good at

{weak}

## Training

{training}
"""

VL = {
    "pipeline": "image-text-to-text",
    "use": "It was trained on pictures of Port Lark, the small closed world of this course: "
    "flags, tide gauges, catch charts, printed notices and order forms.",
    "loading": """\
from transformers import AutoModelForImageTextToText
from openmodels.minis.qwen_vl import Processor  # the library's own needs torchvision

model = AutoModelForImageTextToText.from_pretrained("models/mini-qwen-vl")
processor = Processor.from_pretrained("models/mini-qwen-vl")""",
    "fidelity": """\
A picture keeps its shape and costs one token per 28 x 28 pixels. The vision tower attends within
windows of 112 x 112 pixels, except in every third block. Positions have three parts (M-RoPE), and
boxes are Qwen's own JSON. Tests compare the module tree and all shapes with the full-size config,
and llama.cpp's log-probabilities with transformers'. Different from the full size: the numbers of
layers and heads, hidden sizes, a vocabulary of one harbour, and no training on video.""",
    "measuring": """\
Greedy generation, exact match, {count} held-out questions per task drawn with seed {seed}; 95 %
Wilson intervals. A box counts if its overlap (intersection over union) is at least 0.5, and all
boxes of an answer must. Held-out pictures use typefaces and combinations that no training picture
has. *Floor* is the score of the same model if every picture is grey. *Picture last* is the score
with the picture after the question. Measured on {date} on {device}.
`python -m openmodels.minis.evaluate_vl models/mini-qwen-vl` repeats the measurement.""",
}

AUDIO = {
    "pipeline": "audio-text-to-text",
    "use": "It was trained on sounds of Port Lark, the small closed world of this course: bell and "
    "foghorn codes, and short radio calls in synthetic speech.",
    "loading": """\
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

model = Qwen2AudioForConditionalGeneration.from_pretrained("models/mini-qwen-audio")
processor = AutoProcessor.from_pretrained("models/mini-qwen-audio")""",
    "fidelity": """\
The encoder is Whisper's, as in Qwen2-Audio: 128 mel bins, two convolutions, a pooling step, then a
projector. The class of transformers masks the silence after a sound (*masked*, 25 tokens a second);
llama.cpp reads 750 tokens for each started 30 seconds, silence included (*full*). The model was
trained in both forms. Tests compare the module tree and all shapes with the full-size config, and
llama.cpp's log-probabilities with transformers'. Different from the full size: the numbers of
layers and heads, hidden sizes, and a vocabulary of one harbour.""",
    "measuring": """\
Greedy generation, exact match, up to {count} held-out clips of each kind without noise, read as
transformers does (*masked*); 95 % Wilson intervals. Sentences, voices and foghorn patterns are
held out. *Floor* is the score of a deaf model that always gives the most frequent right answer.
Measured on {date} on {device}. `python -m openmodels.minis.evaluate_audio models/mini-qwen-audio`
repeats the measurement; it needs espeak-ng.""",
}
# Invented words have no aim of their own: their character error rate has.
AIM = {"call": 0.97, "value": 0.9, "form": 0.9, "boxes": 0.9, "tallest": 0.9, "how_many": 0.9,
       "printed_invented": 0.0}  # fmt: skip
USUAL_AIM = 0.95
SNR_ROWS = ("clean", "20 dB", "10 dB", "5 dB", "0 dB")


def percent(row: dict) -> str:
    """Return the share of a score as text."""
    return f"{row['correct'] / row['n']:.1%}"


def interval(row: dict) -> str:
    """Return the 95 % interval of a score or a rate as text."""
    return f"{row['low']:.1%} – {row['high']:.1%}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first row is its head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def score_table(tasks: dict[str, dict], columns: dict[str, dict[str, dict]]) -> str:
    """Return the table of scores; columns: further scores of the same tasks, by their heading."""
    rows = [["task", "what is asked", "correct", "share", "95 % interval", "floor", *columns]]
    for task, row in tasks.items():
        rows.append([
            task, TASK_WORDS[task], f"{row['correct']}/{row['n']}", percent(row), interval(row),
            f"{row['floor']:.1%}" if "floor" in row else "",
            *(percent(column[task]) for column in columns.values()),
        ])  # fmt: skip
    return table(rows)


def below_aim(tasks: dict[str, dict]) -> str:
    """Return the tasks whose share is below what it was built for, as a list."""
    lines = []
    for task, row in tasks.items():
        aim = AIM.get(task, USUAL_AIM)
        if row["correct"] / row["n"] < aim:
            lines.append(f"- `{task}`, {TASK_WORDS[task]}: {percent(row)}; the aim was {aim:.0%}.")
    return "\n".join(lines)


def render(name: str, results: dict) -> str:
    """Return the text of the model card for these results."""
    sees = name == "mini-qwen-vl"
    parts = VL if sees else AUDIO
    measuring = parts["measuring"].format(
        device=results.get("device", results["run"]["device"]),
        **{key: results[key] for key in ("count", "seed", "date")},
    )
    columns = {"picture last": results["picture_last"]} if sees else {}
    training = vl_training if sees else audio_training
    text = CARD.format(
        name=name,
        stands_for=configs.STANDS_FOR[name],
        architecture=results["architecture"],
        parameters=results["parameters"],
        shape=table([["part", "size"], *shape_rows(name)]).split("\n", 2)[2],
        measuring=measuring,
        scores=score_table(results["tasks"], columns),
        more=(vl_tables if sees else audio_tables)(results),
        weak=below_aim(results["tasks"]) + "\n\n" + (VL_WEAK if sees else AUDIO_WEAK),
        training=training(results["run"]),
        **{key: parts[key] for key in ("pipeline", "use", "loading", "fidelity")},
    )
    return text.rstrip() + "\n"


def shape_rows(name: str) -> list[list[str]]:
    """Return the main numbers of a miniature's config as rows."""
    config = configs.config(name)
    text = config.get_text_config()
    heads = f"{text.num_attention_heads} / {text.num_key_value_heads}"
    rows = [
        ["layers", str(text.num_hidden_layers)],
        ["hidden size", str(text.hidden_size)],
        ["heads / KV heads", heads],
        ["intermediate size", str(text.intermediate_size)],
    ]
    if configs.sees(config):
        vision = config.vision_config
        rows += [
            ["vision tower", f"{vision.depth} blocks, hidden {vision.hidden_size}, "
             f"{vision.num_heads} heads, patches of {vision.patch_size} x {vision.patch_size}"],
            ["whole picture in", "blocks " + ", ".join(
                str(block + 1) for block in vision.fullatt_block_indexes)],
        ]  # fmt: skip
    else:
        encoder = config.audio_config
        rows.append([
            "sound encoder", f"{encoder.encoder_layers} layers, hidden {encoder.d_model}, "
            f"{encoder.encoder_attention_heads} heads, {encoder.num_mel_bins} mel bins",
        ])  # fmt: skip
    return [*rows, ["vocabulary", f"{text.vocab_size:,}"],
            ["context length", f"{text.max_position_embeddings:,} tokens"]]  # fmt: skip


# ------------------------------------------------------------------ mini-qwen-vl

VL_WEAK = """\
Boxes nearly always carry the right label, but most of the wrong ones do not overlap the flag at
all. Of a chart it gives the right unit and often a wrong number. It reads only what it was
trained to read: printed letters without accents, at the sizes of the training pictures. Larger
pictures are read worse too, not only smaller ones. It has partly forgotten how to call tools
(last lines of this card)."""

READING = """\
### Reading

Of the letters of printed notices, {known:.1%} are wrong for listed words and {new:.1%} for invented
words (character error rate).

### Resolution

Share of right answers if width and height of the picture are scaled before it reaches the model,
{n} held-out pictures each. Scales 0.5 and 0.625 were measured with the scores above, the others on
two CPU cores:

{curve}"""


def vl_tables(results: dict) -> str:
    """Return the card's paragraphs on reading and on resolution."""
    tasks, curve = results["tasks"], results["resolution"]
    names = list(next(iter(curve.values())))
    rows = [["scale", *names]]
    rows += [[scale, *(percent(row[task]) for task in names)] for scale, row in curve.items()]
    return READING.format(
        known=tasks["printed"]["cer"],
        new=tasks["printed_invented"]["cer"],
        n=next(iter(next(iter(curve.values())).values()))["n"],
        curve=table(rows),
    )


FIRST_RUN = """\
{pictures:,} pictures in {steps:,} steps took {seconds:,} seconds on one
{device}, in {dtype}, with {workers} processes that drew the pictures. The text
model starts from `mini-qwen`. At first only the vision tower learns, from a helper's loss on its
patches: a small head, which is not part of the model, tells {helper}. Then the whole
model learns to answer, with that loss beside the answers'. `python -m openmodels.minis.train_vl`
repeats the recipe; on two cores an hour shows the same stages with lower scores. Settings:
{settings}."""

NEXT_RUN = """\
Then {pictures:,} more pictures in {steps:,} steps took {seconds:,} seconds on
{device}, in {dtype}, from these weights (`--start`). The helper told {helper}. Settings:
{settings}."""

HELPERS = {
    "letters": "which printed letter is where",
    "objects": "where each patch is, and which flag or bar covers it",
    "both": "which printed letter is where, where each patch is, and which flag or bar covers it",
}


def vl_training(run: dict) -> str:
    """Return the card's paragraphs on how mini-qwen-vl was trained; a run lists earlier ones."""
    runs = [*run.get("earlier", []), run]
    parts = [
        (NEXT_RUN if number else FIRST_RUN).format(**part | {"helper": HELPERS[part["helper"]]})
        for number, part in enumerate(runs)
    ]
    before, after = (
        ", ".join(f"{task} {share:.1%}" for task, share in shares.items())
        for shares in (runs[0]["text_before"], run["text"])
    )
    tasks = (
        f"Tasks of the text model after training, each token the likeliest: {after}.\n"
        f"Before training: {before}."
    )
    return "\n\n".join([*parts, tasks])


# ------------------------------------------------------------------ mini-qwen-audio

AUDIO_WEAK = """\
In a foghorn pattern that it never heard in training it often counts a blast too few or too many. In
a Chinese call it often adds or leaves out a number, or takes one good for another. In full windows,
which llama.cpp reads, it also miscounts some bells. Rows without a language mix both. It has heard
no human voice, only espeak-ng. Clips must be shorter than 30 seconds."""

SPEECH = """\
### Radio calls

Word error rate, {calls}; 95 % intervals from resampling
calls. A Chinese character counts as a word.

{speech}

### Codes in noise

Share of right answers with surf, {n}:

{codes}{six}"""

SIX = """

Nine held-out patterns of six blasts have a score of their own: {masked} right as *masked*
({masked_range}, n = {n}), {full} as *full* ({full_range}, n = {n_full})."""

SECOND_STAGE = """

A second stage continued these weights on {device} ({date}): {clips:,} windows of sound in
{steps:,} steps and {minutes:g} minutes, from {calls:,} new calls, {chinese:.0%} of them in Chinese,
and {codes:,} codes. Foghorns were {foghorn:.0%} of the codes and had up to eight blasts, so that
there are many patterns. Windows of the second stage hold whole clips only, and both floors of the
mel power occur: 1e-10, as in transformers, and 2^-24, as in llama.cpp. In full windows only the
text model learned. `python -m openmodels.minis.train_audio --start FOLDER --minutes {minutes:g}
--rate {rate:g} --clips {calls} --codes {each} --chinese {chinese:g} --foghorn {foghorn:g}
--full {full:g} --shrink {shrink}` repeats it, if FOLDER has the first stage's weights.

Each weight in this folder is the average of both stages: {share:.0%} of the second's value and
{remaining:.0%} of the first's (`publish` in `openmodels/minis/train_audio.py`). The second stage
alone made more errors in English calls. The share was chosen on other held-out clips than those of
the scores."""


def audio_tables(results: dict) -> str:
    """Return the card's paragraphs on word error rates and on codes in noise."""
    calls, codes = results["calls"], results["codes"]
    counts = results.get("counts")  # the same number of clips everywhere without it
    head = ["calls", "word error rate", "95 % interval", "whole calls right"]
    rows = [head + ["n"] * bool(counts)]
    for label, row in calls.items():
        cells = [label, f"{row['wer']:.1%}", interval(row), percent(row["exact"])]
        rows.append(cells + [str(row["calls"])] * bool(counts))
    tasks = list(dict.fromkeys(label.split()[0] for label in codes))
    forms = ("masked", "full")
    code_rows = [["surf", *(f"{task}, {form}" for form in forms for task in tasks)]]
    for level in SNR_ROWS:
        cells = (percent(codes[f"{task} {form} {level}"]) for form in forms for task in tasks)
        code_rows.append([level, *cells])
    return SPEECH.format(
        calls="n calls in voices never heard in training"
        if counts
        else f"{calls['masked clean']['calls']} calls in voices never heard in training",
        n=clips_in_words(counts) if counts else f"{next(iter(codes.values()))['n']} clips each",
        six=six_in_words(results["six_blasts"]) if "six_blasts" in results else "",
        speech=table(rows),
        codes=table(code_rows),
    )


def clips_in_words(counts: dict[str, list[int]]) -> str:
    """Return how many clips of each code were scored, by form."""
    parts = [f"{clean} clean and {noisy} noisy clips as *{form}*"
             for form, (clean, noisy) in counts.items()]  # fmt: skip
    return " and ".join(parts) + " of each code"


def six_in_words(rows: dict[str, dict]) -> str:
    """Return the card's sentence on foghorn patterns of six blasts."""
    masked, full = rows["masked"], rows["full"]
    return SIX.format(masked=percent(masked), masked_range=interval(masked), n=masked["n"],
                      full=percent(full), full_range=interval(full), n_full=full["n"])  # fmt: skip


def audio_training(run: dict) -> str:
    """Return the card's paragraphs on how mini-qwen-audio was trained."""
    if "start" in run:
        device = "one core of a CPU" if run["device"] == "cpu" else f"one {run['device']}"
        values = {"device": device, "each": run["codes"] // 3, "remaining": 1 - run["share"]}
        return audio_training(run["start"]) + SECOND_STAGE.format(**run | values)
    return f"""\
{run["clips"]:,} windows of sound in {run["steps"]:,} steps took {run["minutes"]} minutes on one
{run["device"]}, drawn from {run["calls"]:,} spoken calls and {run["codes"]:,} codes that were made
before. The text model starts from `mini-qwen-s`. For 30 % of the time only the encoder learns, to
spell what it hears (CTC loss on its last layer; the CTC head is not part of the model). Then all of
it learns to answer, first in short masked windows, later in full windows too. Calls are spoken by
espeak-ng; surf, speed, loudness and offset change each time a clip is used.
`python -m openmodels.minis.train_audio --minutes 30` repeats the recipe on two cores."""
