"""Clips, noise and prompts for mini-qwen-audio: what training and scoring read.

Codes are drawn with numpy; espeak-ng speaks the calls. Windows are cut, stretched and mixed with
surf on the device that trains.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from openmodels.harbour import sounds
from openmodels.minis import audio

SHORT = 480  # mel frames of a short window: 4.8 s
Item = tuple[np.ndarray, str, str, str, dict]  # samples, question, answer, spoken form, details


@dataclass
class Bank:
    """Clips in a row: int16 samples, where each begins, and its question and answers."""

    samples: torch.Tensor  # (all samples,), int16
    starts: torch.Tensor  # (clips + 1,)
    questions: list[str]
    answers: list[str]
    spoken: list[str]
    details: list[dict]

    def __len__(self) -> int:
        return len(self.questions)

    def fitting(self, frames: int) -> torch.Tensor:
        """Return the numbers of the clips that fit into so many mel frames, played 10 % slower."""
        lengths = (self.starts[1:] - self.starts[:-1]).float()
        return (lengths / 0.9 <= frames * audio.HOP - 1600).nonzero().flatten()

    def to(self, device: str) -> None:
        """Move the samples to a device."""
        self.samples, self.starts = self.samples.to(device), self.starts.to(device)

    @classmethod
    def of(cls, clips: list[Item]) -> Bank:
        """Return a bank of clips; their samples are float32, from -1 to 1."""
        arrays = [(np.clip(clip[0], -1, 1) * 32767).astype(np.int16) for clip in clips]
        starts = np.cumsum([0] + [len(array) for array in arrays])
        columns = list(zip(*(clip[1:] for clip in clips), strict=True))
        return cls(
            torch.from_numpy(np.concatenate(arrays)), torch.from_numpy(starts),
            *(list(column) for column in columns),
        )  # fmt: skip


def speak_some(job: tuple[int, int, bool, float]) -> list[Item]:
    """Return spoken calls of (seed, count, test split, share in Chinese) for a `Bank`."""
    from openmodels.harbour import speech

    seed, count, test, chinese = job
    rng = random.Random(f"calls/{seed}/{test}")
    calls = [sounds.draw_call(rng, test, chinese) for _ in range(count)]
    pairs = [(call, speech.draw_voice(rng, test, call.language)) for call in calls]
    clips = []
    for call, voice, samples in speech.speak_all(pairs, workers=1):
        details = {"intent": call.intent, "language": call.language}
        details |= {"speed": voice.speed, "voice": voice.name}
        clips.append((samples, sounds.HEAR, call.text, call.spoken, details))
    return clips


def code_spelling(answer: str) -> str:
    """Return what CTC spells for a code: its blasts as words, its strokes one by one."""
    kind, _, pattern = answer.partition(": ")
    if kind == "bell":
        return " ".join(["d"] * int(pattern.split()[0]))
    return pattern


def draw_codes(job: tuple[int, int, str, float]) -> list[Item]:
    """Return clips of codes for (seed, count of each, split, SNR in dB), as `speak_some` does."""
    seed, count, split, snr = job
    return [
        code_item(clip)
        for task in ("foghorn", "signal", "bell")
        for clip in sounds.codes(task, count, seed, split, snr)
    ]


def code_item(clip: sounds.Clip) -> Item:
    """Return a code for a `Bank`."""
    answer = clip.answer["content"]
    pattern = clip.description.removeprefix("A foghorn sounds: ").rstrip(".")
    spelled = pattern if clip.task == "signal" else code_spelling(answer)
    return clip.samples, clip.question, answer, spelled, {"task": clip.task}


def make_bank(function: Callable[[tuple], list[Item]], jobs: list[tuple], workers: int) -> Bank:
    """Return the clips of all jobs, made by worker processes; one worker is this process."""
    if workers == 1:
        return Bank.of([clip for job in jobs for clip in function(job)])
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return Bank.of([clip for part in pool.imap(function, jobs) for clip in part])


# --- Batches --------------------------------------------------------------------------------------


class Mixer:
    """Cuts clips, changes their speed and adds noise, on the device that trains."""

    def __init__(self, device: str, seed: int):
        self.device = device
        self.rng = torch.Generator(device).manual_seed(seed)

    def uniform(self, size: int, low: float, high: float) -> torch.Tensor:
        """Return random numbers between two bounds, shape (size,)."""
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
        0 dB to none. Without it a clip starts at 0.05 s. snr: the surf's level in dB, or None.
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

    def __init__(self, text_tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = text_tokenizer
        self.audio = text_tokenizer.convert_tokens_to_ids(audio.AUDIO)
        self.known: dict[str, list[int]] = {}
        self.frames: dict[str, tuple[list[int], list[int]]] = {}

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        if text not in self.known:
            self.known[text] = self.tokenizer(text, add_special_tokens=False).input_ids
        return self.known[text]

    def of(self, question: str, answer: str = "") -> tuple[list[int], list[int], list[int]]:
        """Return the ids before the sound, after it, and of the answer and its end."""
        if question not in self.frames:
            text = self.tokenizer.apply_chat_template(
                [sounds.ask(question)], tokenize=False, add_generation_prompt=True
            )
            before, after = text.split(audio.AUDIO)
            self.frames[question] = self.ids(before), self.ids(after)
        return *self.frames[question], self.ids(answer + "<|im_end|>") if answer else []
