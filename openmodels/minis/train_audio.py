"""Train mini-qwen-audio: `python -m openmodels.minis.train_audio --minutes 30`.

Four phases, by share of the time: the encoder alone learns to spell what it hears (CTC; Graves et
al. 2006) in short windows; then text model and encoder learn together, mostly in short masked
windows; then half of the batches are full 30-second windows, as llama.cpp reads sound, while the
learning rate falls. The CTC head is thrown away. espeak-ng speaks the training calls first.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from openmodels.harbour import instances, sounds
from openmodels.minis import audio, evaluate, weights_dir

PARENT = "mini-qwen-s"
ALPHABET = " abcdefghijklmnopqrstuvwxyz"
RATE_PEAK = 1.5e-3
SHORT = 480  # mel frames of a short window: 4.8 s
CALL_SHARE, CODE_SHARE = 0.55, 0.38  # of a batch; the others hear nothing
INTENT_SHARE = 0.15  # of the calls
TEXT_TASKS = ("fact", "intent", "order", "text_qa", "sums", "words", "sentences")
TEXT_EVERY = 10  # every tenth step is a batch of text
CHECK_EVERY = 60.0  # seconds between looks at held-out clips


# --- Data -----------------------------------------------------------------------------------------


@dataclass
class Bank:
    """Clips one after the other: int16 samples, where each begins, and what is asked of it."""

    samples: torch.Tensor  # (all samples,), int16
    starts: torch.Tensor  # (clips + 1,)
    questions: list[str]
    answers: list[str]
    spoken: list[str]
    details: list[dict]

    def __len__(self) -> int:
        return len(self.questions)

    @classmethod
    def of(cls, clips: list[tuple[np.ndarray, str, str, str, dict]]) -> Bank:
        """Return a bank of (samples as float32, question, answer, spoken form, details)."""
        arrays = [(np.clip(clip[0], -1, 1) * 32767).astype(np.int16) for clip in clips]
        starts = np.cumsum([0] + [len(array) for array in arrays])
        columns = list(zip(*(clip[1:] for clip in clips), strict=True))
        return cls(
            torch.from_numpy(np.concatenate(arrays)), torch.from_numpy(starts),
            *(list(column) for column in columns),
        )  # fmt: skip


def speak_some(job: tuple[int, int, bool]) -> list[tuple]:
    """Return spoken calls of (seed, count, test split) as rows of a `Bank`."""
    from openmodels.harbour import speech

    seed, count, test = job
    rng = random.Random(f"calls/{seed}/{test}")
    calls = [sounds.draw_call(rng, test) for _ in range(count)]
    pairs = [(call, speech.draw_voice(rng, test, call.language)) for call in calls]
    made = []
    for call, voice, samples in speech.speak_all(pairs, workers=1):
        details = {"intent": call.intent, "language": call.language}
        details |= {"speed": voice.speed, "voice": voice.name}
        made.append((samples, sounds.HEAR, call.text, call.spoken, details))
    return made


def code_spelling(answer: str) -> str:
    """Return what CTC spells for a code: its blasts as words, its strokes one by one."""
    kind, _, pattern = answer.partition(": ")
    if kind == "bell":
        return " ".join(["d"] * int(pattern.split()[0]))
    return pattern


def draw_codes(job: tuple[int, int, str, float]) -> list[tuple]:
    """Return clips of codes for (seed, count of each, split, SNR in dB), as `speak_some` does."""
    seed, count, split, snr = job
    made = []
    for task in ("foghorn", "signal", "bell"):
        for clip in sounds.codes(task, count, seed, split, snr):
            answer = clip.answer["content"]
            pattern = clip.description.removeprefix("A foghorn sounds: ").rstrip(".")
            spelled = pattern if task == "signal" else code_spelling(answer)
            made.append((clip.samples, clip.question, answer, spelled, {"task": task}))
    return made


def make_bank(function, jobs: list[tuple], workers: int) -> Bank:
    """Return the clips of all jobs, made by worker processes."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return Bank.of([clip for part in pool.imap(function, jobs) for clip in part])


# --- Batches --------------------------------------------------------------------------------------


class Mixer:
    """Cuts, stretches and drowns clips in noise, on the device that trains."""

    def __init__(self, device: str, seed: int):
        self.device = device
        self.rng = torch.Generator(device).manual_seed(seed)

    def uniform(self, size: int, low: float, high: float) -> torch.Tensor:
        return torch.rand(size, device=self.device, generator=self.rng) * (high - low) + low

    def surf(self, rows: int, size: int) -> torch.Tensor:
        """Return noise of power 1, (rows, size): between white and the low rumble of the sea."""
        noise = torch.randn(rows, size, device=self.device, generator=self.rng)
        spectrum = torch.fft.rfft(noise)
        scale = torch.linspace(0, sounds.RATE / 2, spectrum.shape[1], device=self.device)
        corner, power = self.uniform(rows, 300, 4000), self.uniform(rows, 0, 1.5)
        spectrum = spectrum / (1 + (scale[None] / corner[:, None]) ** power[:, None])
        noise = torch.fft.irfft(spectrum, size)
        return noise / noise.pow(2).mean(1, keepdim=True).sqrt().clamp(min=1e-6)

    def cut(self, bank: Bank, chosen: torch.Tensor, frames: int, augment: bool,
            snr: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return windows (rows, frames * 160) with the chosen clips, and their valid mel frames.

        augment: start anywhere, play up to 10 % faster or slower, change loudness, add surf from
        0 dB to none. Without it a clip starts at 0.05 s; snr: the surf's level in dB, None for none.
        """
        size, rows = frames * audio.HOP, len(chosen)
        begin, end = bank.starts[chosen], bank.starts[chosen + 1]
        length = (end - begin).float()
        speed = self.uniform(rows, 0.9, 1.1) if augment else torch.ones(rows, device=self.device)
        played = length / speed
        slack = (size - played - 1600).clamp(min=0)
        offset = self.uniform(rows, 0, 1) * slack.clamp(max=16_000) if augment else 800.0
        offset = offset if augment else torch.full((rows,), 800.0, device=self.device)
        time_axis = torch.arange(size, device=self.device)[None] - offset[:, None]
        source = time_axis * speed[:, None]
        inside = (source >= 0) & (source < (length - 1)[:, None])
        low = source.clamp(min=0).floor()
        place = (begin[:, None] + low.long()).clamp(max=len(bank.samples) - 2)
        before, after = (bank.samples[place + step].float() / 32768 for step in (0, 1))
        wave = before.lerp(after, (source - low).clamp(0, 1)) * inside
        valid = ((offset + played) / audio.HOP).ceil().long() + 8
        valid = valid.clamp(max=frames)
        if augment:
            wave = self.drown(wave, inside)
        elif snr is not None:
            loud = wave.abs() > 0.02 * wave.abs().amax(1, keepdim=True)
            power = (wave.pow(2) * loud).sum(1) / loud.sum(1).clamp(min=1)
            wave = wave + self.surf(rows, size) * (power / 10 ** (snr / 10)).sqrt()[:, None]
            wave = wave / wave.abs().amax(1, keepdim=True).clamp(min=1.0)
        return wave, valid

    def drown(self, wave: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Return windows at random loudness, two thirds of them in surf from 0 to 40 dB."""
        rows = len(wave)
        loud = inside & (wave.abs() > 0.02 * wave.abs().amax(1, keepdim=True))
        power = (wave.pow(2) * loud).sum(1) / loud.sum(1).clamp(min=1)
        level = self.uniform(rows, 0, 40)
        noise = self.surf(rows, wave.shape[1]) * (power / 10 ** (level / 10)).sqrt()[:, None]
        noisy = self.uniform(rows, 0, 1) < 0.67
        # the surf of half of them ends with the clip, that of the others fills the window
        filled = self.uniform(rows, 0, 1) < 0.5
        wave = wave + noise * noisy[:, None] * (filled[:, None] | inside)
        gain = 10 ** self.uniform(rows, -0.7, 0.1)
        return (wave * gain[:, None]).clamp(-1, 1)

    def nothing(self, rows: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return windows of silence or surf alone, and their valid mel frames."""
        size = frames * audio.HOP
        level = 10 ** self.uniform(rows, -4, -0.7) * (self.uniform(rows, 0, 1) > 0.3)
        wave = (self.surf(rows, size) * level[:, None]).clamp(-1, 1)
        valid = self.uniform(rows, 50, min(frames, 600)).long()
        inside = torch.arange(size, device=self.device)[None] < valid[:, None] * audio.HOP
        filled = self.uniform(rows, 0, 1) < 0.5
        return wave * (filled[:, None] | inside), valid


class Prompts:
    """Token ids before the sound, after it, and of answers; each text is encoded once."""

    def __init__(self, text_tokenizer):
        self.tokenizer = text_tokenizer
        self.audio = text_tokenizer.convert_tokens_to_ids(audio.AUDIO)
        self.known: dict[str, list[int]] = {}
        self.frames: dict[str, tuple[list[int], list[int]]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = self.tokenizer(text, add_special_tokens=False).input_ids
        return self.known[text]

    def of(self, question: str, answer: str = "") -> tuple[list[int], list[int], list[int]]:
        if question not in self.frames:
            text = self.tokenizer.apply_chat_template(
                [sounds.ask(question)], tokenize=False, add_generation_prompt=True
            )
            before, after = text.split(audio.AUDIO)
            self.frames[question] = self.ids(before), self.ids(after)
        return *self.frames[question], self.ids(answer + "<|im_end|>") if answer else []


# --- Training -------------------------------------------------------------------------------------


class Run:
    """A training run: the model, its CTC head, banks of clips, and the clock."""

    def __init__(self, options: argparse.Namespace, began: float):
        self.options, self.device = options, options.device
        torch.manual_seed(options.seed)
        self.minutes, self.began = options.minutes, began
        parent, _ = evaluate.load(weights_dir(PARENT))
        self.tokenizer = audio.load_tokenizer()
        self.model = audio.new_model(parent).to(self.device).train()
        self.parts = audio.Parts.of(self.model)
        self.mel = audio.LogMel().to(self.device)
        self.mixer = Mixer(self.device, options.seed)
        self.prompts = Prompts(self.tokenizer)
        self.labels: dict[str, int] = {c: n for n, c in enumerate(ALPHABET, start=1)}
        self.build_banks()
        width = self.parts.encoder.conv1.out_channels
        self.ctc_head = torch.nn.Linear(width, len(self.labels) + 1).to(self.device)
        self.texts = self.text_rows()
        self.rng = random.Random(options.seed)
        weights = [*self.model.parameters(), *self.ctc_head.parameters()]
        self.weights = [weight for weight in weights if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, RATE_PEAK, (0.9, 0.95), weight_decay=0.02)
        self.steps = self.heard = 0
        self.log: list[dict] = []

    def build_banks(self) -> None:
        """Make training and held-out clips; put them on the device."""
        options, began = self.options, time.monotonic()
        each = 250
        calls = [(n, each, False) for n in range(max(1, options.clips // each))]
        drawn = [(n, 60, "train", float("inf")) for n in range(max(1, options.clips // 600))]
        self.calls = make_bank(speak_some, calls, options.workers)
        self.codes = make_bank(draw_codes, drawn, options.workers)
        count = options.held_out
        held = [(n, -(-count // 8), True) for n in range(8)]
        self.test_calls = make_bank(speak_some, held, options.workers)
        tests = [(n, -(-count // 8), "test", float("inf")) for n in range(8)]
        self.test_codes = make_bank(draw_codes, tests, options.workers)
        for bank in (self.calls, self.codes, self.test_calls, self.test_codes):
            bank.samples, bank.starts = bank.samples.to(self.device), bank.starts.to(self.device)
            for spoken in bank.spoken:
                for letter in spoken:
                    self.labels.setdefault(letter, len(self.labels) + 1)
        print(f"{len(self.calls):,} calls, {len(self.codes):,} codes, "
              f"{len(self.test_calls):,} + {len(self.test_codes):,} held out, "
              f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip

    def text_rows(self) -> list[tuple[list[int], list[int], list[int]]]:
        """Return old tasks as (prompt, nothing, answer): what the text model should not forget."""
        found = []
        for task in TEXT_TASKS:
            for item in instances(task, self.options.texts, seed=3, split="train"):
                prompt = self.tokenizer.apply_chat_template(
                    list(item.messages[:-1]), tokenize=False, add_generation_prompt=True
                )
                ids = self.tokenizer(prompt, add_special_tokens=False).input_ids
                answer = self.prompts.ids(item.answer["content"] + "<|im_end|>")
                if len(ids) + len(answer) <= 400:
                    found.append((ids, [], answer))
        return found

    @property
    def progress(self) -> float:
        """Return the share of the training time that has passed, from 0 to 1."""
        return min(1.0, (time.monotonic() - self.began) / (60 * self.minutes))

    def choose(self, bank: Bank, count: int) -> torch.Tensor:
        return torch.randint(len(bank), (count,), device=self.device, generator=self.mixer.rng)

    def mixed(self, rows: int, frames: int) -> tuple:
        """Return windows, valid frames, prompts and spellings of calls, codes and nothing."""
        n_calls, n_codes = round(rows * CALL_SHARE), round(rows * CODE_SHARE)
        waves, valid, prompts, spelled = [], [], [], []
        for bank, count in ((self.calls, n_calls), (self.codes, n_codes)):
            chosen = self.choose(bank, count)
            wave, length = self.mixer.cut(bank, chosen, frames, augment=True)
            waves.append(wave)
            valid.append(length)
            for n in chosen.tolist():
                question, answer = bank.questions[n], bank.answers[n]
                if bank is self.calls and self.rng.random() < INTENT_SHARE:
                    question, answer = sounds.WANT, bank.details[n]["intent"]
                prompts.append(self.prompts.of(question, answer))
                spelled.append(bank.spoken[n])
        wave, length = self.mixer.nothing(rows - n_calls - n_codes, frames)
        for _ in range(len(wave)):
            question = self.rng.choice((sounds.HEAR, sounds.WANT, sounds.MEANING))
            prompts.append(self.prompts.of(question, sounds.NOTHING))
            spelled.append("")
        return torch.cat([*waves, wave]), torch.cat([*valid, length]), prompts, spelled

    def ctc_loss(self, hidden: torch.Tensor, valid: torch.Tensor, spelled: list[str],
                 masked: bool) -> torch.Tensor:  # fmt: skip
        """Return the CTC loss of the encoder's last layer, per letter."""
        scores = self.ctc_head(hidden).float().log_softmax(-1).transpose(0, 1)
        targets = [self.labels[letter] for text in spelled for letter in text]
        lengths = torch.tensor([len(text) for text in spelled], device=self.device)
        frames = torch.full((len(spelled),), scores.shape[0], device=self.device)
        if masked:
            frames = ((valid - 1) // 2 + 1).clamp(max=scores.shape[0])
        target = torch.tensor(targets, device=self.device)
        return torch.nn.functional.ctc_loss(scores, target, frames, lengths, zero_infinity=True)

    def answer_loss(
        self, vectors: torch.Tensor, counts: torch.Tensor, prompts: list
    ) -> torch.Tensor:
        """Return the cross-entropy of the answers' tokens."""
        ids, targets = audio.rows(prompts, counts.tolist(), self.prompts.audio, 0)
        ids, targets = ids.to(self.device), targets.to(self.device)
        inputs = audio.embed(self.parts, ids, vectors, counts, self.prompts.audio)
        hidden = self.parts.text(inputs_embeds=inputs, use_cache=False).last_hidden_state
        chosen = targets[:, 1:] != -100
        logits = self.parts.head(hidden[:, :-1][chosen]).float()
        return torch.nn.functional.cross_entropy(logits, targets[:, 1:][chosen])

    def text_loss(self) -> torch.Tensor:
        """Return the loss of a batch of the text model's old tasks."""
        chosen = self.rng.sample(self.texts, min(self.options.batch, len(self.texts)))
        counts = torch.zeros(len(chosen), dtype=torch.long, device=self.device)
        empty = torch.zeros(len(chosen), 1, self.parts.text.config.hidden_size, device=self.device)
        return self.answer_loss(empty, counts, chosen)

    def loss(self, progress: float) -> tuple[torch.Tensor, float]:
        """Return this step's loss, and its CTC part."""
        if progress > 0.3 and self.steps % TEXT_EVERY == 0:
            return self.text_loss(), float("nan")
        full = progress > 0.35 and self.rng.random() < (0.2 if progress < 0.7 else 0.5)
        masked = not full
        rows = self.options.batch if masked else max(2, self.options.batch // self.options.shrink)
        frames = SHORT if masked else audio.WINDOW
        wave, valid, prompts, spelled = self.mixed(rows, frames)
        features = self.mel(wave)
        vectors, hidden = audio.encode(self.parts, features, valid if masked else None)
        spelling = self.ctc_loss(hidden, valid, spelled, masked)
        self.heard += rows
        if progress < 0.3:
            return spelling, spelling.item()
        counts = audio.token_count(valid) if masked else torch.full_like(valid, audio.FULL)
        return self.answer_loss(vectors, counts, prompts) + 0.3 * spelling, spelling.item()

    def step(self) -> tuple[float, float]:
        """Take one step; returns its loss and the CTC part."""
        progress = self.progress
        rate = RATE_PEAK * min(1, (self.steps + 1) / 200) * min(1.0, max(0.02, 2 * (1 - progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        kind = torch.bfloat16 if self.device == "cuda" else torch.float32
        with torch.autocast(self.device, kind, enabled=self.device == "cuda"):
            loss, spelling = self.loss(progress)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        return loss.item(), spelling

    def train(self) -> None:
        """Train until the time is over, with a look at held-out clips every minute."""
        self.began, looked = time.monotonic(), time.monotonic()
        while self.progress < 1:
            loss, spelling = self.step()
            if time.monotonic() - looked > CHECK_EVERY or self.progress >= 1:
                looked = time.monotonic()
                line = {"minutes": round((looked - self.began) / 60, 2), "steps": self.steps}
                line |= {"heard": self.heard, "loss": round(loss, 4), "ctc": round(spelling, 4)}
                if self.progress > 0.3:
                    line |= self.check(self.options.check)
                self.log.append(line)
                print(json.dumps(line), flush=True)

    # ------------------------------------------------------------------ scoring
    @torch.no_grad()
    def answers(self, bank: Bank | None, chosen: torch.Tensor, questions: list[str], masked: bool,
                snr: float | None = None, wave: torch.Tensor | None = None,
                valid: torch.Tensor | None = None) -> list[str]:  # fmt: skip
        """Return greedy answers to one question of each chosen clip, or of given windows."""
        frames = SHORT + 160 if masked else audio.WINDOW
        if wave is None:
            wave, valid = self.mixer.cut(bank, chosen, frames, augment=False, snr=snr)
        counts = audio.token_count(valid) if masked else torch.full_like(valid, audio.FULL)
        vectors, _ = audio.encode(self.parts, self.mel(wave), valid if masked else None)
        prompts = [self.prompts.of(question) for question in questions]
        ids, _ = audio.rows(prompts, counts.tolist(), self.prompts.audio, 0)
        last = (counts + torch.tensor([len(b) + len(a) for b, a, _ in prompts]).to(counts)) - 1
        ids = ids.to(self.device)
        inputs = audio.embed(self.parts, ids, vectors, counts, self.prompts.audio)
        return self.continue_rows(inputs, last)

    def continue_rows(
        self, inputs: torch.Tensor, last: torch.Tensor, longest: int = 32
    ) -> list[str]:
        """Return greedy continuations of rows (batch, seq, hidden) that end at place `last`."""
        rows = torch.arange(len(inputs), device=self.device)
        written: list[list[int]] = [[] for _ in rows]
        done = torch.zeros(len(inputs), dtype=torch.bool, device=self.device)
        space = torch.zeros(len(inputs), longest, inputs.shape[2], device=self.device)
        inputs = torch.cat([inputs.float(), space], 1)
        for _ in range(longest):
            size = int(last.max()) + 1
            hidden = self.parts.text(inputs_embeds=inputs[:, :size], use_cache=False)
            token = self.parts.head(hidden.last_hidden_state[rows, last]).argmax(-1)
            done |= token == self.tokenizer.eos_token_id
            for row, value in enumerate(token.tolist()):
                if not done[row]:
                    written[row].append(value)
            if done.all():
                break
            last = last + 1
            inputs[rows, last] = self.parts.text.embed_tokens(token).float()
        return [self.tokenizer.decode(ids) for ids in written]

    def batches(self, count: int, size: int) -> list[torch.Tensor]:
        return list(torch.arange(count, device=self.device).split(size))

    def word_errors(self, masked: bool, snr: float | None, count: int) -> list[dict]:
        """Return each held-out call's errors, words, speed and whether all of it is right."""
        found = []
        for chosen in self.batches(min(count, len(self.test_calls)), self.options.score_batch):
            questions = [sounds.HEAR] * len(chosen)
            texts = self.answers(self.test_calls, chosen, questions, masked, snr)
            for n, text in zip(chosen.tolist(), texts, strict=True):
                right, details = self.test_calls.answers[n], self.test_calls.details[n]
                errors, words = edit_errors(words_of(right), words_of(text))
                found.append({"errors": errors, "words": words, "exact": text == right} | details)
        return found

    def codes_right(self, masked: bool, snr: float | None, count: int) -> dict[str, list[bool]]:
        """Return for each kind of code which held-out answers are right."""
        found: dict[str, list[bool]] = {"foghorn": [], "signal": [], "bell": []}
        bank = self.test_codes
        for chosen in self.batches(len(bank), self.options.score_batch):
            chosen = torch.tensor(
                [n for n in chosen.tolist() if len(found[bank.details[n]["task"]]) < count],
                device=self.device, dtype=torch.long,
            )  # fmt: skip
            if not len(chosen):
                continue
            questions = [bank.questions[n] for n in chosen.tolist()]
            texts = self.answers(bank, chosen, questions, masked, snr)
            for n, text in zip(chosen.tolist(), texts, strict=True):
                found[bank.details[n]["task"]].append(text == bank.answers[n])
        return found

    def nothing_right(self, masked: bool, count: int) -> list[bool]:
        """Return for silence and surf alone whether the answer is that there is nothing."""
        found: list[bool] = []
        while len(found) < count:
            frames = SHORT if masked else audio.WINDOW
            rows = min(self.options.score_batch, count - len(found))
            wave, valid = self.mixer.nothing(rows, frames)
            questions = [(sounds.HEAR, sounds.WANT, sounds.MEANING)[n % 3] for n in range(rows)]
            texts = self.answers(None, valid, questions, masked, wave=wave, valid=valid)
            found += [text == sounds.NOTHING for text in texts]
        return found

    def check(self, count: int) -> dict[str, float]:
        """Return a quick look at held-out clips: word errors, codes, silence; in both forms."""
        self.model.eval()
        found = {}
        for name, masked in (("masked", True), ("full", False)):
            errors = self.word_errors(masked, None, count)
            found[f"wer {name}"] = round(rate_of(errors), 4)
        codes = self.codes_right(True, None, count)
        found |= {task: round(sum(ok) / len(ok), 3) for task, ok in codes.items()}
        silent = self.nothing_right(True, count)
        found["nothing"] = round(sum(silent) / len(silent), 3)
        self.model.train()
        return found

    def final_scores(self, count: int) -> dict:
        """Return all scores of the card: by form, noise and speed, with the numbers behind them."""
        self.model.eval()
        scores: dict = {"calls": {}, "codes": {}, "nothing": {}}
        for name, masked in (("masked", True), ("full", False)):
            for snr in (None, 20, 10, 5, 0):
                label = f"{name} {'clean' if snr is None else f'{snr} dB'}"
                errors = self.word_errors(masked, snr, count)
                scores["calls"][label] = summary(errors)
                if snr is None:
                    slow, fast = (
                        [e for e in errors if (e["speed"] < 170) == is_slow]
                        for is_slow in (True, False)
                    )
                    scores["calls"][f"{label} below 170 words a minute"] = summary(slow)
                    scores["calls"][f"{label} from 170 words a minute"] = summary(fast)
                    for language in ("en", "zh"):
                        part = [e for e in errors if e["language"] == language]
                        scores["calls"][f"{label} {language}"] = summary(part)
                for task, ok in self.codes_right(masked, snr, count).items():
                    scores["codes"][f"{task} {label}"] = vars(evaluate.score(sum(ok), len(ok)))
            silent = self.nothing_right(masked, count)
            scores["nothing"][name] = vars(evaluate.score(sum(silent), len(silent)))
        scores["intent"] = self.intent_scores(count)
        scores["deaf"] = self.deaf_scores(count)
        return scores

    def intent_scores(self, count: int) -> dict:
        right = []
        for chosen in self.batches(min(count, len(self.test_calls)), self.options.score_batch):
            texts = self.answers(self.test_calls, chosen, [sounds.WANT] * len(chosen), True)
            places = chosen.tolist()
            wanted = [self.test_calls.details[n]["intent"] for n in places]
            right += [text == want for text, want in zip(texts, wanted, strict=True)]
        return vars(evaluate.score(sum(right), len(right)))

    def deaf_scores(self, count: int) -> dict:
        """Return the floor: the most frequent held-out answer to each question, without hearing."""
        floors = {}
        bank = self.test_codes
        for task in ("foghorn", "signal", "bell"):
            answers = [
                a for a, d in zip(bank.answers, bank.details, strict=True) if d["task"] == task
            ][:count]
            most = max(set(answers), key=answers.count)
            floors[task] = vars(evaluate.score(answers.count(most), len(answers)))
        intents = [details["intent"] for details in self.test_calls.details][:count]
        most = max(set(intents), key=intents.count)
        floors["intent"] = vars(evaluate.score(intents.count(most), len(intents)))
        return floors

    def save(self, home: Path, scores: dict) -> None:
        """Write weights by module (bfloat16), the log and the scores."""
        home.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{name}.{key}": value.detach().to(torch.bfloat16).contiguous().cpu()
            for name, module in (
                ("audio_tower", self.parts.encoder),
                ("multi_modal_projector", self.parts.projector),
                ("text", self.parts.text),
                ("head", self.parts.head),
            )
            for key, value in module.state_dict().items()
        }
        save_file(tensors, home / "parts.safetensors")
        (home / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        lines = "".join(json.dumps(line) + "\n" for line in self.log)
        (home / "log.jsonl").write_text(lines, encoding="utf-8")


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
    exact = evaluate.score(sum(e["exact"] for e in errors), len(errors))
    return {"wer": round(rate_of(errors), 4), "low": round(float(low), 4),
            "high": round(float(high), 4), "calls": len(errors),
            "words": int(counts[:, 1].sum()), "exact": vars(exact)}  # fmt: skip


def publish(home: Path, target: Path) -> None:
    """Assemble a trained folder in transformers' layout from `parts.safetensors` of a run."""
    from safetensors.torch import load_file
    from transformers import Qwen2AudioProcessor, WhisperFeatureExtractor

    tensors = load_file(home / "parts.safetensors")
    parent, _ = evaluate.load(weights_dir(PARENT))
    model = audio.new_model(parent)
    parts = audio.Parts.of(model)
    modules = {"audio_tower": parts.encoder, "multi_modal_projector": parts.projector}
    for name, module in (modules | {"text": parts.text, "head": parts.head}).items():
        prefix = f"{name}."
        module.load_state_dict(
            {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}
        )
    text_tokenizer = audio.load_tokenizer()
    extractor = WhisperFeatureExtractor(feature_size=audio.MEL_BINS, sampling_rate=audio.RATE)
    model.generation_config.eos_token_id = text_tokenizer.eos_token_id
    model.generation_config.pad_token_id = text_tokenizer.pad_token_id
    model.to(torch.bfloat16).save_pretrained(target)
    Qwen2AudioProcessor(
        feature_extractor=extractor, tokenizer=text_tokenizer,
        chat_template=text_tokenizer.chat_template,
    ).save_pretrained(target)  # fmt: skip
    for name in ("scores.json", "log.jsonl"):
        (target / name).write_bytes((home / name).read_bytes())


def build_parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="of training, data not counted")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("build/mini-qwen-audio"))
    parser.add_argument("--clips", type=int, default=24_000, help="spoken calls to train on")
    parser.add_argument("--held-out", type=int, default=600, help="held-out clips of each kind")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--shrink", type=int, default=4, help="full windows: a batch this smaller")
    parser.add_argument("--texts", type=int, default=1000, help="old text tasks, of each")
    parser.add_argument("--check", type=int, default=64, help="clips of each quick look")
    parser.add_argument("--score-batch", type=int, default=50)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main() -> None:
    options = build_parser().parse_args()
    run = Run(options, time.monotonic())
    run.train()
    run.save(options.out, {})  # before the scores: they take a while
    scores = run.final_scores(options.held_out)
    run.save(options.out, scores)
    print(json.dumps(scores["calls"], indent=1), json.dumps(scores["codes"], indent=1))
    print(json.dumps(scores["nothing"]), json.dumps(scores["intent"]), json.dumps(scores["deaf"]))


if __name__ == "__main__":
    main()
