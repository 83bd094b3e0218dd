"""Score mini-qwen-audio by what it generates: `python -m openmodels.minis.evaluate_audio FOLDER`.

Greedy generation, held-out clips only: sentences, voices and blast patterns that no training clip
has. espeak-ng speaks new calls for the scores in the card; `evaluate` uses the shipped clips.
Sounds are read in one of two ways: `masked` as in transformers, `full` as in llama.cpp (see
`audio`).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedTokenizerBase
from transformers import Qwen2AudioForConditionalGeneration as Model

from openmodels.harbour import sounds
from openmodels.minis import audio, evaluate
from openmodels.minis.audio_data import (
    SHORT,
    Bank,
    Mixer,
    Prompts,
    code_item,
    draw_codes,
    make_bank,
    speak_some,
)
from openmodels.minis.evaluate import Score, score

CLEAN = float("inf")
LONGEST = 32  # new tokens
NOISE = (None, 20, 10, 5, 0)  # dB; None: no surf
SLOW = 170  # words a minute
CODES = ("foghorn", "signal", "bell")
TASKS = ("call", "call_intent", *CODES, "nothing")  # the card adds `call_chinese`
FORMS = ("masked", "full")
QUESTIONS = (sounds.HEAR, sounds.WANT, sounds.MEANING)


class Listener:
    """A model that answers questions about windows of sound, many at a time.

    batch: windows at a time. Each score draws its noise anew from `seed`, in any order of scores.
    """

    def __init__(self, model: Model, tokenizer: PreTrainedTokenizerBase, device: str,
                 batch: int = 50, seed: int = 1):  # fmt: skip
        self.model, self.tokenizer, self.device, self.batch = model, tokenizer, device, batch
        self.parts = audio.Parts.of(model)
        self.mel = audio.LogMel().to(device)
        self.mixer, self.seed = Mixer(device, seed), seed
        self.prompts = Prompts(tokenizer)

    def chunks(self, count: int) -> list[torch.Tensor]:
        """Return the numbers from 0 to count - 1 in batches."""
        return list(torch.arange(count, device=self.device).split(self.batch))

    @torch.no_grad()
    def answer_bank(self, bank: Bank, numbers: Sequence[int], questions: Sequence[str],
                    masked: bool, snr: float | None = None) -> list[str]:  # fmt: skip
        """Return the greedy answer to one question about each chosen clip of a bank."""
        answers = []
        self.mixer.rng.manual_seed(self.seed)
        for part in self.chunks(len(numbers)) if numbers else ():
            chosen = torch.tensor([numbers[n] for n in part.tolist()], device=self.device)
            frames = holding(bank, chosen) if masked else audio.WINDOW
            wave, valid = self.mixer.cut(bank, chosen, frames, augment=False, snr=snr)
            answers += self.answer(wave, valid, [questions[n] for n in part.tolist()], masked)
        return answers

    @torch.no_grad()
    def answer(self, wave: torch.Tensor, valid: torch.Tensor, questions: Sequence[str],
               masked: bool) -> list[str]:  # fmt: skip
        """Return greedy answers to one question about each window.

        wave: (rows, samples). valid: (rows,), mel frames that hold sound.
        """
        counts = audio.token_count(valid) if masked else torch.full_like(valid, audio.FULL)
        floor = audio.LIBRARY_FLOOR if masked else audio.LLAMA_FLOOR
        vectors, _ = audio.encode(self.parts, self.mel(wave, floor), valid if masked else None)
        prompts = [self.prompts.of(question) for question in questions]
        ids, _ = audio.rows(prompts, counts.tolist(), self.prompts.audio, 0)
        lengths = torch.tensor([len(before) + len(after) for before, after, _ in prompts])
        last = counts + lengths.to(counts) - 1
        inputs = audio.embed(self.parts, ids.to(self.device), vectors, counts, self.prompts.audio)
        return self.continue_rows(inputs, last)

    def continue_rows(self, inputs: torch.Tensor, last: torch.Tensor) -> list[str]:
        """Return greedy continuations of rows (batch, seq, hidden) that end at position `last`."""
        length = int(last.max()) + 1
        positions = torch.arange(length, device=self.device) - (length - 1 - last)[:, None]
        mask, positions = (positions >= 0).long(), positions.clamp(min=0)
        # padding moves from the end to the beginning
        vectors = inputs.gather(1, positions[..., None].expand(-1, -1, inputs.shape[2]))
        cache, done = DynamicCache(), torch.zeros(len(inputs), dtype=torch.bool)
        written: list[list[int]] = [[] for _ in inputs]
        for _ in range(LONGEST):
            output = self.parts.text(
                inputs_embeds=vectors, attention_mask=mask, position_ids=positions,
                past_key_values=cache, use_cache=True,
            )  # fmt: skip
            token = self.parts.head(output.last_hidden_state[:, -1]).argmax(-1)
            done |= (token == self.tokenizer.eos_token_id).cpu()
            for row, value in enumerate(token.tolist()):
                if not done[row]:
                    written[row].append(value)
            if done.all():
                break
            vectors = self.parts.text.embed_tokens(token)[:, None]
            mask, positions = torch.cat([mask, mask[:, -1:]], 1), positions[:, -1:] + 1
        return [self.tokenizer.decode(ids) for ids in written]

    # ------------------------------------------------------------------ held-out clips
    def word_errors(self, bank: Bank, masked: bool, snr: float | None, count: int) -> list[dict]:
        """Return each call's errors, words, speed and whether its whole transcript is right."""
        count = min(count, len(bank))
        texts = self.answer_bank(bank, range(count), [sounds.HEAR] * count, masked, snr)
        results = []
        for text, right, details in zip(texts, bank.answers, bank.details, strict=False):
            errors, words = edit_errors(words_of(right), words_of(text))
            results.append({"errors": errors, "words": words, "exact": text == right} | details)
        return results

    def codes_right(self, bank: Bank, masked: bool, snr: float | None,
                    count: int) -> dict[str, list[bool]]:  # fmt: skip
        """Return for each kind of code which of its first `count` answers are right."""
        results: dict[str, list[bool]] = {}
        for task in CODES:
            numbers = [n for n, d in enumerate(bank.details) if d["task"] == task][:count]
            questions = [bank.questions[n] for n in numbers]
            texts = self.answer_bank(bank, numbers, questions, masked, snr)
            results[task] = [t == bank.answers[n] for t, n in zip(texts, numbers, strict=True)]
        return results

    def nothing_right(self, masked: bool, count: int) -> list[bool]:
        """Return for windows of silence or surf whether the answer is that there is nothing."""
        results: list[bool] = []
        self.mixer.rng.manual_seed(self.seed)
        while len(results) < count:
            rows = min(self.batch, count - len(results))
            wave, valid = self.mixer.nothing(rows, SHORT if masked else audio.WINDOW)
            questions = [QUESTIONS[n % 3] for n in range(rows)]
            texts = self.answer(wave, valid, questions, masked)
            results += [text == sounds.NOTHING for text in texts]
        return results

    def intents_right(self, bank: Bank, masked: bool, count: int) -> list[bool]:
        """Return for each call whether the model's answer is what the caller wants."""
        count = min(count, len(bank))
        texts = self.answer_bank(bank, range(count), [sounds.WANT] * count, masked)
        return [text == d["intent"] for text, d in zip(texts, bank.details, strict=False)]


@dataclass(frozen=True)
class Counts:
    """How many clips of each kind are scored, by form: clean ones, and ones in each level of surf.

    A clip in the full form takes eight times as long.
    """

    masked: tuple[int, int] = (600, 600)
    full: tuple[int, int] = (600, 600)

    def of(self, form: str, snr: float | None) -> int:
        """Return the number of clips for a form and a level of surf; snr: in dB, or None."""
        clean, noisy = getattr(self, form)
        return clean if snr is None else noisy


def holding(bank: Bank, chosen: torch.Tensor) -> int:
    """Return the mel frames of a window that holds the longest of these clips, uncut."""
    longest = int((bank.starts[chosen + 1] - bank.starts[chosen]).max())
    return min(audio.WINDOW, 4 * -(-(longest // audio.HOP + 16) // 4))


def shares(right: Sequence[bool]) -> dict:
    """Return a score with its interval as a dictionary."""
    return asdict(score(sum(right), len(right)))


def speech_scores(
    listener: Listener, calls: Bank, counts: Counts, forms: Sequence[str] = FORMS
) -> dict[str, dict]:
    """Return word error rates of calls by form, noise, speed and language."""
    table = {}
    for name in forms:
        masked = name == "masked"
        for snr in NOISE:
            label = f"{name} {'clean' if snr is None else f'{snr} dB'}"
            errors = listener.word_errors(calls, masked, snr, counts.of(name, snr))
            table[label] = summary(errors)
            if snr is None:
                slow, fast = (
                    [e for e in errors if (e["speed"] < SLOW) == is_slow]
                    for is_slow in (True, False)
                )
                table[f"{label} below {SLOW} words a minute"] = summary(slow)
                table[f"{label} from {SLOW} words a minute"] = summary(fast)
            for language in ("en", "zh") if snr in (None, 10) else ():
                part = [e for e in errors if e["language"] == language]
                table[f"{label} {language}"] = summary(part)
    return table


def floors(calls: Bank, codes: Bank) -> dict[str, dict]:
    """Return scores of a deaf model: always the most frequent right answer to each question."""
    right = {task: [] for task in CODES}
    for answer, details in zip(codes.answers, codes.details, strict=True):
        right[details["task"]].append(answer)
    right["intent"] = [details["intent"] for details in calls.details]
    table = {}
    for task, answers in right.items():
        most = max(sorted(set(answers)), key=answers.count)
        table[task] = asdict(score(answers.count(most), len(answers)))
    return table


def all_scores(
    listener: Listener, calls: Bank, codes: Bank, counts: Counts, seed: int,
    forms: Sequence[str] = FORMS,
) -> dict:  # fmt: skip
    """Return all scores of the card: by form, noise and speed, and a deaf model's."""
    scores: dict = {"calls": speech_scores(listener, calls, counts, forms)}
    scores |= {"codes": {}, "nothing": {}, "intent": {}, "six_blasts": {}}
    six = Bank.of([code_item(c) for c in sounds.long_foghorns(max(counts.masked), seed, CLEAN)])
    six.to(listener.device)
    for name in forms:
        masked = name == "masked"
        for snr in NOISE:
            label = f"{name} {'clean' if snr is None else f'{snr} dB'}"
            for task, right in listener.codes_right(
                codes, masked, snr, counts.of(name, snr)
            ).items():
                scores["codes"][f"{task} {label}"] = shares(right)
        clean = counts.of(name, None)
        scores["nothing"][name] = shares(listener.nothing_right(masked, clean))
        scores["intent"][name] = shares(listener.intents_right(calls, masked, clean))
        long_right = listener.codes_right(six, masked, None, clean)["foghorn"]
        scores["six_blasts"][name] = shares(long_right)
    scores["deaf"] = floors(calls, codes)
    return scores


def tasks_of(scores: dict, form: str = "masked") -> dict[str, dict]:
    """Return the card's main rows from `all_scores`: clean clips, read in one form."""
    calls = scores["calls"]
    rows = {
        "call": calls[f"{form} clean en"]["exact"],
        "call_chinese": calls[f"{form} clean zh"]["exact"],
        "call_intent": scores["intent"][form],
        **{task: scores["codes"][f"{task} {form} clean"] for task in CODES},
        "nothing": scores["nothing"][form],
    }
    deaf = scores["deaf"]
    deaf = deaf | {"call_intent": deaf["intent"]}
    return {
        task: row | ({"floor": round(deaf[task]["correct"] / deaf[task]["n"], 4)}
                     if task in deaf else {})
        for task, row in rows.items()
    }  # fmt: skip


def card_results(scores: dict, model: Model, counts: Counts, seed: int) -> dict:
    """Return the content of scores.json: `all_scores` with what a card states first."""
    return {
        "date": date.today().isoformat(),
        "device": device_name(model.device),
        "architecture": type(model).__name__,
        "parameters": model.num_parameters(),
        "count": counts.of("masked", None),
        "counts": asdict(counts),
        "seed": seed,
        "tasks": tasks_of(scores),
        **scores,
    }


def device_name(device: torch.device) -> str:
    """Return a device as a card names it."""
    return torch.cuda.get_device_name() if device.type == "cuda" else "CPU"


def quick_scores(listener: Listener, calls: Bank, codes: Bank, count: int) -> dict[str, float]:
    """Return a quick look at held-out clips: word errors, codes, silence; in both forms."""
    results = {}
    for name, masked in (("masked", True), ("full", False)):
        results[f"wer {name}"] = round(rate_of(listener.word_errors(calls, masked, None, count)), 4)
    right = listener.codes_right(codes, True, None, count)
    results |= {task: round(sum(ok) / len(ok), 3) for task, ok in right.items()}
    silent = listener.nothing_right(True, count)
    return results | {"nothing": round(sum(silent) / len(silent), 3)}


def shipped_calls(language: str) -> Bank:
    """Return the shipped radio calls in a language as a bank."""
    return Bank.of([
        (clip.samples, clip.question, clip.answer["content"], "",
         {"language": language, "speed": clip.details["speed"], "intent": clip.details["intent"]})
        for clip in sounds.clips() if clip.details["language"] == language
    ])  # fmt: skip


def held_out_codes(count: int, seed: int, workers: int = 1) -> Bank:
    """Return about `count` clean held-out codes of each kind."""
    parts = max(1, count // 50)
    jobs = [(1000 * seed + n, -(-count // parts), "test", CLEAN) for n in range(parts)]
    return make_bank(draw_codes, jobs, workers)


def held_out_calls(count: int, seed: int, workers: int = 1) -> Bank:
    """Return up to `count` held-out calls in both languages, spoken by espeak-ng."""
    parts = max(1, count // 50)
    jobs = [(1000 * seed + n, -(-count // parts), True, sounds.CHINESE_SHARE) for n in range(parts)]
    return make_bank(speak_some, jobs, workers)


def evaluate_tasks(
    model: Model, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[str], count: int, seed: int,
    show: Callable[[str, Score], None] | None = None,
) -> dict[str, Score]:  # fmt: skip
    """Return the scores of tasks in `TASKS`, read as transformers does, without espeak-ng.

    count: clips of each task. The calls are the shipped ones in English, which are fewer; the nine
    in Chinese are too few for a score.
    """
    listener = Listener(model, tokenizer, str(model.device), seed=seed)
    scores = {}
    for task in tasks:
        if task in CODES:
            codes = draw_codes((seed, count, "test", CLEAN))
            bank = Bank.of([clip for clip in codes if clip[4]["task"] == task])
            right = listener.codes_right(bank, True, None, count)[task]
        elif task == "nothing":
            right = listener.nothing_right(True, count)
        elif task == "call_intent":
            right = listener.intents_right(shipped_calls("en"), True, count)
        else:
            errors = listener.word_errors(shipped_calls("en"), True, None, count)
            right = [e["exact"] for e in errors]
        scores[task] = score(sum(right), len(right))
        if show:
            show(task, scores[task])
    return scores


def words_of(text: str) -> list[str]:
    """Return a transcript's words; Chinese characters count one by one, punctuation not at all."""
    words = []
    for word in text.replace(",", " ").replace(".", " ").replace("?", " ").split():
        words += list(word) if any(ord(letter) > 0x2E80 for letter in word) else [word]
    return words


def edit_errors(right: list[str], written: list[str]) -> tuple[int, int]:
    """Return (insertions + deletions + substitutions, words of the right transcript)."""
    costs = list(range(len(written) + 1))
    for row, word in enumerate(right, start=1):
        before, costs[0] = costs[:], row
        for column, guess in enumerate(written, start=1):
            costs[column] = min(
                before[column] + 1, costs[column - 1] + 1, before[column - 1] + (word != guess)
            )
    return costs[-1], len(right)


def rate_of(errors: list[dict]) -> float:
    """Return the word error rate of scored calls."""
    return sum(e["errors"] for e in errors) / max(1, sum(e["words"] for e in errors))


def summary(errors: list[dict]) -> dict:
    """Return word error rate with a 95 % interval (bootstrap over calls), and whole calls right."""
    rng = np.random.default_rng(0)
    counts = np.array([(e["errors"], e["words"]) for e in errors], float).reshape(-1, 2)
    if not len(counts):
        return {"n": 0}
    drawn = counts[rng.integers(0, len(counts), (1000, len(counts)))].sum(1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    exact = score(sum(e["exact"] for e in errors), len(errors))
    return {"wer": round(rate_of(errors), 4), "low": round(float(low), 4),
            "high": round(float(high), 4), "calls": len(errors),
            "words": int(counts[:, 1].sum()), "exact": vars(exact)}  # fmt: skip


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path, help="the model's folder")
    parser.add_argument("--count", type=int, default=600, help="held-out clips of each kind")
    parser.add_argument(
        "--fewer", type=int, nargs=3, metavar="N", default=None,
        help="count instead for masked clips in surf, full clean clips, full clips in surf",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="write the scores here, for a model card")
    options = parser.parse_args()
    model, tokenizer = evaluate.load(options.home)
    listener = Listener(model.to(options.device), tokenizer, options.device, options.batch)
    calls = held_out_calls(options.count, options.seed, options.workers)
    codes = held_out_codes(options.count, options.seed, options.workers)
    for bank in (calls, codes):
        bank.to(options.device)
    noisy, full, full_noisy = options.fewer or [options.count] * 3
    counts = Counts((options.count, noisy), (full, full_noisy))
    scores = all_scores(listener, calls, codes, counts, options.seed)
    results = card_results(scores, model, counts, options.seed)
    if options.out and options.out.exists():  # how the model was trained stays
        stored = json.loads(options.out.read_text(encoding="utf-8"))
        results |= {key: stored[key] for key in ("run",) if key in stored}
    text = json.dumps(results, indent=1)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
