"""Train mini-qwen-audio: `python -m openmodels.minis.train_audio --minutes 30`.

Four phases, by share of the time: the encoder alone learns to spell what it hears (CTC; Graves et
al. 2006) in short windows; then text model and encoder learn together, mostly in short masked
windows; then half of the batches are full 30-second windows, as llama.cpp reads sound, while the
learning rate falls. The CTC head is thrown away. espeak-ng speaks the training calls first. With
`--start FOLDER` a trained model continues, without the first phase.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from datetime import date
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2AudioProcessor, WhisperFeatureExtractor

from openmodels.harbour import instances, sounds
from openmodels.minis import audio, evaluate, evaluate_audio, weights_dir
from openmodels.minis.audio_data import SHORT, Bank, Mixer, draw_codes, make_bank, speak_some

PARENT = "mini-qwen-s"
ALPHABET = " abcdefghijklmnopqrstuvwxyz"
RATE_PEAK = 1.5e-3
CALL_SHARE, CODE_SHARE = 0.55, 0.38  # of the windows; the others hear nothing
CALL_FRAMES, CODE_FRAMES = (320, 320, 480), (480, 640, 800)  # mel frames of short windows
INTENT_SHARE = 0.15  # of the calls
TEXT_TASKS = ("fact", "intent", "order", "text_qa", "sums", "words", "sentences")
TEXT_EVERY = 10  # every tenth step is a batch of text
SPELLING = 0.3  # share of the time in which only the encoder learns
CALLS_IN_A_JOB = 250
WARM_UP = 200  # steps to the peak learning rate; a trained model takes a fifth of them


class Run:
    """A training run: the model, its CTC head, banks of clips, and the clock."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.device = options, options.device
        torch.manual_seed(options.seed)
        self.minutes, self.began = options.minutes, time.monotonic()
        self.tokenizer = audio.load_tokenizer()
        if options.start:
            self.model, _ = evaluate.load(options.start)
        else:
            self.model = audio.new_model(evaluate.load(weights_dir(PARENT))[0])
        self.model = self.model.to(self.device).train()
        self.parts = audio.Parts.of(self.model)
        self.listener = evaluate_audio.Listener(
            self.model, self.tokenizer, self.device, options.score_batch, options.seed
        )
        self.mel, self.mixer = self.listener.mel, Mixer(self.device, options.seed)
        self.prompts = self.listener.prompts
        self.labels: dict[str, int] = {c: n for n, c in enumerate(ALPHABET, start=1)}
        self.build_banks()
        width = self.parts.encoder.conv1.out_channels
        self.ctc_head = torch.nn.Linear(width, len(self.labels) + 1).to(self.device)
        self.texts = self.text_rows()
        self.rng = random.Random(options.seed)
        weights = [*self.model.parameters(), *self.ctc_head.parameters()]
        self.weights = [weight for weight in weights if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.weights, options.rate, (0.9, 0.95), weight_decay=0.02
        )
        self.steps = self.heard = 0
        self.log: list[dict] = []

    def build_banks(self) -> None:
        """Draw training and held-out clips; put them on the device."""
        options, began = self.options, time.monotonic()
        each = CALLS_IN_A_JOB
        chinese = options.chinese
        calls = [(n, each, False, chinese) for n in range(max(1, options.clips // each))]
        drawn = [(n, 60, "train", float("inf")) for n in range(max(1, options.codes // 60))]
        self.calls = make_bank(speak_some, calls, options.workers)
        self.codes = make_bank(draw_codes, drawn, options.workers)
        self.test_calls = evaluate_audio.held_out_calls(options.held_out, 0, options.workers)
        self.test_codes = evaluate_audio.held_out_codes(options.held_out, 0, options.workers)
        for bank in (self.calls, self.codes, self.test_calls, self.test_codes):
            bank.to(self.device)
            for spoken in bank.spoken:
                for letter in spoken:
                    self.labels.setdefault(letter, len(self.labels) + 1)
        is_foghorn = torch.tensor([d["task"] == "foghorn" for d in self.codes.details])
        weights = torch.where(is_foghorn, options.foghorn, (1 - options.foghorn) / 2)
        self.code_weights = weights.to(self.device)
        print(f"{len(self.calls):,} calls, {len(self.codes):,} codes, "
              f"{len(self.test_calls):,} + {len(self.test_codes):,} held out, "
              f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip

    def text_rows(self) -> list[tuple[list[int], list[int], list[int]]]:
        """Return old tasks as (prompt, nothing, answer): what the text model should not forget."""
        rows = []
        for task in TEXT_TASKS:
            for item in instances(task, self.options.texts, seed=3, split="train"):
                prompt = self.tokenizer.apply_chat_template(
                    list(item.messages[:-1]), tokenize=False, add_generation_prompt=True
                )
                ids = self.tokenizer(prompt, add_special_tokens=False).input_ids
                answer = self.prompts.ids(item.answer["content"] + "<|im_end|>")
                if len(ids) + len(answer) <= 400:
                    rows.append((ids, [], answer))
        return rows

    @property
    def progress(self) -> float:
        """Return the progress from 0 to 1: a share of the time, without spelling if started."""
        share = (time.monotonic() - self.began) / (60 * self.minutes)
        return min(1.0, SPELLING + (1 - SPELLING) * share if self.options.start else share)

    def choose(self, bank: Bank, count: int, frames: int) -> torch.Tensor:
        """Return the numbers of `count` random clips that fit a window, with repetition."""
        fitting = bank.fitting(frames)
        weights = self.code_weights[fitting] if bank is self.codes else torch.ones(len(fitting))
        weights = weights.to(self.device)
        chosen = torch.multinomial(weights, count, replacement=True, generator=self.mixer.rng)
        return fitting[chosen]

    def mixed(self, rows: int, frames: int, codes: float = CODE_SHARE) -> tuple:
        """Return windows, valid frames, prompts and spellings of calls, codes and nothing.

        rows: at least 3. codes: share of the rows, at most CALL_SHARE + CODE_SHARE.
        """
        n_codes = min(round(rows * codes), rows - 1)
        n_calls = min(round(rows * (CALL_SHARE + CODE_SHARE - codes)), rows - n_codes - 1)
        n_nothing = rows - n_codes - n_calls
        waves, valid, prompts, spelled = [], [], [], []
        for bank, count in ((self.calls, n_calls), (self.codes, n_codes)):
            if not count:
                continue
            chosen = self.choose(bank, count, frames)
            wave, length = self.mixer.cut(bank, chosen, frames, augment=True)
            waves.append(wave)
            valid.append(length)
            for n in chosen.tolist():
                question, answer = bank.questions[n], bank.answers[n]
                if bank is self.calls and self.rng.random() < INTENT_SHARE:
                    question, answer = sounds.WANT, bank.details[n]["intent"]
                prompts.append(self.prompts.of(question, answer))
                spelled.append(bank.spoken[n])
        wave, length = self.mixer.nothing(n_nothing, frames)
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

    def short_windows(self) -> tuple:
        """Return a batch of calls or of codes, both with nothing, in windows of random length."""
        kinds = CALL_SHARE + CODE_SHARE
        is_codes = self.rng.random() < CODE_SHARE / kinds
        frames = self.rng.choice(CODE_FRAMES if is_codes else CALL_FRAMES)
        rows = self.options.batch if frames <= SHORT else self.options.batch * SHORT // frames
        return self.mixed(max(3, rows), frames, kinds * is_codes)

    def full_windows(self) -> tuple:
        """Return a batch of calls, codes and nothing in windows of 30 seconds."""
        return self.mixed(max(3, self.options.batch // self.options.shrink), audio.WINDOW)

    def full_share(self, progress: float) -> float:
        """Return the share of steps with full windows; it grows in the last 30 % of the time."""
        return self.options.full * (0.4 if progress < 0.7 else 1.0)

    def loss(self, progress: float) -> tuple[torch.Tensor, float]:
        """Return this step's loss, and its CTC part."""
        if progress > SPELLING and self.steps % TEXT_EVERY == 0:
            return self.text_loss(), float("nan")
        full = progress > 0.35 and self.rng.random() < self.full_share(progress)
        masked = not full
        wave, valid, prompts, spelled = self.short_windows() if masked else self.full_windows()
        floor = self.rng.choice((audio.LIBRARY_FLOOR, audio.LLAMA_FLOOR))
        features = self.mel(wave, floor)
        with torch.set_grad_enabled(masked or not self.options.start):
            vectors, hidden = audio.encode(self.parts, features, valid if masked else None)
        if self.options.start and progress < SPELLING + 0.1:
            hidden = hidden.detach()  # the CTC head is new, the encoder is not
        spelling = self.ctc_loss(hidden, valid, spelled, masked)
        self.heard += len(prompts)
        if progress < SPELLING:
            return spelling, spelling.item()
        counts = audio.token_count(valid) if masked else torch.full_like(valid, audio.FULL)
        return self.answer_loss(vectors, counts, prompts) + 0.3 * spelling, spelling.item()

    def step(self) -> tuple[float, float]:
        """Take one step; return its loss and the CTC part."""
        progress = self.progress
        rate = (
            self.options.rate
            * min(1, (self.steps + 1) / (WARM_UP // 5 if self.options.start else WARM_UP))
            * min(1.0, max(0.02, 2 * (1 - progress)))
        )
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
        """Train until the time is over; score held-out clips and save from time to time."""
        self.began, looked = time.monotonic(), time.monotonic()
        while self.progress < 1:
            loss, spelling = self.step()
            if time.monotonic() - looked > 60 * self.options.every or self.progress >= 1:
                minutes = (time.monotonic() - self.began) / 60
                line = {"minutes": round(minutes, 2), "steps": self.steps}
                line |= {"heard": self.heard, "loss": round(loss, 4)}
                if spelling == spelling:  # a batch of text has no CTC loss
                    line["ctc"] = round(spelling, 4)
                if self.progress > SPELLING:
                    line |= self.check()
                self.log.append(line)
                print(json.dumps(line), flush=True)
                self.save(self.options.out, self.record())
                looked = time.monotonic()

    # ------------------------------------------------------------------ results
    def check(self) -> dict[str, float]:
        """Return a quick look at held-out clips."""
        self.model.eval()
        count = self.options.check
        scores = evaluate_audio.quick_scores(self.listener, self.test_calls, self.test_codes, count)
        self.model.train()
        return scores

    def final_scores(self) -> dict:
        """Return all scores of the card, and how the model was trained."""
        self.model.eval()
        clips = self.options.held_out
        counts = evaluate_audio.Counts((clips, clips), (clips, clips))
        scores = evaluate_audio.all_scores(
            self.listener, self.test_calls, self.test_codes, counts, 0
        )
        return evaluate_audio.card_results(scores, self.model, counts, 0) | self.record()

    def record(self) -> dict[str, dict]:
        """Return how the model was trained, as "run"; in it, as "start", the run it continues."""
        options = self.options
        run = {
            "steps": self.steps, "clips": self.heard, "minutes": self.minutes,
            "calls": len(self.calls), "codes": len(self.codes), "date": date.today().isoformat(),
            "chinese": options.chinese, "foghorn": options.foghorn, "rate": options.rate,
            "full": options.full, "shrink": options.shrink, "share": 1.0,
            "device": torch.cuda.get_device_name() if self.device.startswith("cuda") else "cpu",
        }  # fmt: skip
        file = options.start and options.start / "scores.json"
        if file and file.exists():
            run["start"] = json.loads(file.read_text(encoding="utf-8"))["run"]
        return {"run": run}

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


def publish(home: Path, target: Path, start: Path | None = None, share: float = 1.0) -> None:
    """Write a trained model in transformers' layout, from the `parts.safetensors` of a run.

    With `start`, the folder of the model that the run continued, each weight is `share` of the
    run's and the remaining share of that model's. Such an average forgets less of what was learned
    first (Wortsman et al. 2022, arXiv 2109.01903).
    """
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
    if start:
        first = evaluate.load(start)[0].state_dict()
        trained = model.state_dict()
        model.load_state_dict({name: first[name].lerp(trained[name], share) for name in first})
    text_tokenizer = audio.load_tokenizer()
    extractor = WhisperFeatureExtractor(feature_size=audio.MEL_BINS, sampling_rate=audio.RATE)
    model.generation_config.eos_token_id = text_tokenizer.eos_token_id
    model.generation_config.pad_token_id = text_tokenizer.pad_token_id
    model.to(torch.bfloat16).save_pretrained(target)
    Qwen2AudioProcessor(
        feature_extractor=extractor, tokenizer=text_tokenizer,
        chat_template=text_tokenizer.chat_template,
    ).save_pretrained(target)  # fmt: skip
    file = target / "tokenizer.json"  # a third of its size without line breaks and spaces
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(
        json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
    (target / "model.safetensors").chmod(0o644)
    (target / "log.jsonl").write_bytes((home / "log.jsonl").read_bytes())
    scores = json.loads((home / "scores.json").read_text(encoding="utf-8"))
    if start:
        scores["run"]["share"] = share
    (target / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


def build_parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="of training, data not counted")
    parser.add_argument("--start", type=Path, help="a folder with a trained model to continue")
    parser.add_argument("--rate", type=float, default=RATE_PEAK, help="peak learning rate")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("build/mini-qwen-audio"))
    parser.add_argument("--clips", type=int, default=24_000, help="spoken calls to train on")
    parser.add_argument("--codes", type=int, default=2400, help="codes of each kind to train on")
    parser.add_argument("--held-out", type=int, default=600, help="held-out clips of each kind")
    parser.add_argument(
        "--chinese", type=float, default=sounds.CHINESE_SHARE, help="share of calls"
    )
    parser.add_argument("--foghorn", type=float, default=1 / 3, help="share of codes")
    parser.add_argument("--full", type=float, default=0.5, help="share of full windows, at most")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--shrink", type=int, default=4, help="full windows: a batch this smaller")
    parser.add_argument("--texts", type=int, default=1000, help="old text tasks, of each")
    parser.add_argument("--check", type=int, default=64, help="clips of each quick look")
    parser.add_argument("--every", type=float, default=1, help="minutes between quick looks")
    parser.add_argument("--score-batch", type=int, default=50)
    parser.add_argument("--unscored", action="store_true", help="leave out the final scores")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main() -> None:
    """Run the command line."""
    options = build_parser().parse_args()
    run = Run(options)
    run.train()
    run.save(options.out, run.record())  # before the scores: they take a while
    if options.unscored:
        return
    scores = run.final_scores()
    run.save(options.out, scores)
    print(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
