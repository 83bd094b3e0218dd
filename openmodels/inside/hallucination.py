"""Measure false answers: confidences of answers, shares with intervals, a linear probe.

A confidence is a log-probability in nats: 0 is certain. It comes from the model that gives the
answer, so it shows how sure the model is, not whether it is right.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import PreTrainedTokenizerBase
from transformers import Qwen2_5_VLForConditionalGeneration as Model

from openmodels.harbour import sounds
from openmodels.harbour.illusions import Presence, Shapes
from openmodels.harbour.pictures import COLOURS, SEA
from openmodels.harbour.scenes import Question
from openmodels.minis import audio, evaluate_vl, vl_forward
from openmodels.minis.audio_data import Bank
from openmodels.minis.evaluate import score
from openmodels.minis.evaluate_audio import Listener, holding
from openmodels.minis.evaluate_vl import Item
from openmodels.minis.vl_data import Encoder, collate, pixels_of

ROWS = 32  # pictures or sounds of a batch


@dataclass(frozen=True)
class Answer:
    """What a model generated, and the mean log-probability of its tokens in nats."""

    text: str
    confidence: float


class Viewer:
    """A model that answers questions about pictures in batches, and how sure it is."""

    def __init__(self, model: Model, tokenizer: PreTrainedTokenizerBase):
        self.model, self.encoder = model, Encoder(tokenizer)

    def texts(self, images: Sequence[Image.Image], questions: Sequence[Question],
              last: bool = False) -> list[str]:  # fmt: skip
        """Return the greedy answers. last: the picture comes after the question."""
        items = [Item(q, pixels_of(i)) for i, q in zip(images, questions, strict=True)]
        return evaluate_vl.answers(self.model, self.encoder, items, ROWS, last=last)

    def answers(self, images: Sequence[Image.Image], questions: Sequence[Question]) -> list[Answer]:
        """Return the greedy answers with their confidences; one more pass than `texts`."""
        texts = self.texts(images, questions)
        generated = [
            replace(q, answer=t, spelled=()) for q, t in zip(questions, texts, strict=True)
        ]
        confidences = self.confidences(images, generated)
        return [Answer(t, c) for t, c in zip(texts, confidences, strict=True)]

    def confidences(
        self, images: Sequence[Image.Image], questions: Sequence[Question]
    ) -> list[float]:
        """Return the mean log-probability of each question's answer, its end included."""
        pixels = [pixels_of(image) for image in images]
        results = [0.0] * len(pixels)
        for numbers in batches([p.shape for p in pixels]):
            values = self.batch([pixels[n] for n in numbers], [questions[n] for n in numbers])
            for number, value in zip(numbers, values, strict=True):
                results[number] = value
        return results

    @torch.no_grad()
    def batch(self, pixels: Sequence[np.ndarray], questions: Sequence[Question]) -> list[float]:
        """Return the confidences for pictures of one size."""
        height, width, _ = pixels[0].shape
        rows = [self.encoder.row([question], (width, height)) for question in questions]
        batch = collate("", rows, np.stack(pixels))
        ids = torch.from_numpy(batch.ids)
        seen, _ = vl_forward.see(self.model.model.visual, torch.from_numpy(batch.pixels))
        x = vl_forward.embed(self.model, ids, seen)
        language = self.model.model.language_model
        hidden = vl_forward.read(language, x, torch.from_numpy(batch.positions))
        weights = torch.from_numpy(batch.weights)[:, 1:] > 0
        return means(vl_forward.logits(self.model, hidden), ids, weights)

    @torch.no_grad()
    def features(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return (pictures, tokens * width): what the text model receives. One size of picture."""
        parts = []
        for start in range(0, len(images), ROWS):
            pixels = np.stack([pixels_of(image) for image in images[start : start + ROWS]])
            seen, _ = vl_forward.see(self.model.model.visual, torch.from_numpy(pixels))
            parts.append(seen.flatten(1).numpy())
        return np.concatenate(parts)

    def tell_apart(self, train: Sequence[Shapes], test: Sequence[Shapes]) -> list[bool]:
        """Return for each test picture whether a linear probe on its tokens is right.

        The probe learns from `train` whether the shapes of a picture are apart.
        """
        features = [self.features([shape.image for shape in part]) for part in (train, test)]
        apart = probe(features[0], [shape.apart for shape in train], features[1])
        return [shape.apart == bool(guess) for shape, guess in zip(test, apart, strict=True)]

    def same_mirrored(self, questions: Sequence[Presence], answers: Sequence[Answer]) -> list[bool]:
        """Return for each answer to a count question whether it stays in the mirrored picture."""
        images = [ImageOps.mirror(question.image) for question in questions]
        again = self.texts(images, [question.count_question for question in questions])
        return equal(again, [answer.text for answer in answers])


def batches(keys: Sequence[object]) -> list[list[int]]:
    """Return the numbers of equal keys together, at most `ROWS` in a list."""
    groups: dict[object, list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        groups[key].append(number)
    return [
        numbers[start : start + ROWS]
        for numbers in groups.values()
        for start in range(0, len(numbers), ROWS)
    ]


def means(logits: torch.Tensor, ids: torch.Tensor, answers: torch.Tensor) -> list[float]:
    """Return the mean log-probability of each row's answer.

    logits: (rows, length, vocab). ids: (rows, length). answers: (rows, length - 1), whether the
    following token belongs to the answer.
    """
    logprobs = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    totals = (logprobs * answers).sum(1)
    return (totals / answers.sum(1)).tolist()


class Ear:
    """A model that answers questions about sounds in batches, and how sure it is."""

    def __init__(self, model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase):
        self.listener = Listener(model, tokenizer, "cpu", batch=ROWS)

    def answers(self, waves: Sequence[np.ndarray], question: str = sounds.HEAR) -> list[Answer]:
        """Return the greedy answer to each sound, (samples,) at 16 kHz, and its confidence."""
        results = []
        for start in range(0, len(waves), ROWS):
            results += self.batch(waves[start : start + ROWS], question)
        return results

    @torch.no_grad()
    def batch(self, waves: Sequence[np.ndarray], question: str) -> list[Answer]:
        """Return the answers to a few sounds, in a window that holds the longest of them."""
        listener = self.listener
        bank = Bank.of([(wave, question, "", "", {}) for wave in waves])
        chosen = torch.arange(len(bank))
        window = holding(bank, chosen)
        wave, frames = listener.mixer.cut(bank, chosen, window, augment=False)
        texts = listener.answer(wave, frames, [question] * len(waves), masked=True)
        counts = audio.token_count(frames)
        vectors, _ = audio.encode(listener.parts, listener.mel(wave), frames)
        prompts = [listener.prompts.of(question, text) for text in texts]
        ids, targets = audio.rows(prompts, counts.tolist(), listener.prompts.audio, 0)
        x = audio.embed(listener.parts, ids, vectors, counts, listener.prompts.audio)
        hidden = listener.parts.text(inputs_embeds=x).last_hidden_state
        values = means(listener.parts.head(hidden), ids, targets[:, 1:] >= 0)
        return [Answer(text, value) for text, value in zip(texts, values, strict=True)]

    def same_faster(self, waves: Sequence[np.ndarray], answers: Sequence[Answer],
                    speed: float = 1.06) -> list[bool]:  # fmt: skip
        """Return for each answer whether it stays if the sound is played faster by this factor."""
        faster = [wave[np.arange(0, len(wave) - 1, speed).astype(int)] for wave in waves]
        return equal([a.text for a in self.answers(faster)], [a.text for a in answers])


# --- Guards ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cases:
    """Answers to compare a guard's benefit with its cost.

    present: about inputs that hold what the question is about; right: which of them are right.
    absent: about inputs that do not hold it; false: which of them are false.
    """

    present: Sequence[Answer]
    right: Sequence[bool]
    absent: Sequence[Answer]
    false: Sequence[bool]

    def confidences(self) -> tuple[list[float], list[float]]:
        """Return the confidences of the right answers and of the false ones."""
        return confidences(self.present, self.right), confidences(self.absent, self.false)

    def sure(self) -> tuple[list[bool], list[bool]]:
        """Return which absent and which present answers a guard on the confidence accepts.

        Its threshold refuses 5 % of the right answers.
        """
        limit = threshold(self.confidences()[0])
        absent, present = (
            [answer.confidence >= limit for answer in answers]
            for answers in (self.absent, self.present)
        )
        return absent, present

    def row(self, guard: str, absent: Sequence[bool], present: Sequence[bool],
            calls: str = "none") -> tuple[str, ...]:  # fmt: skip
        """Return a guard's row of a table.

        absent, present: which answers the guard accepts. calls: of a model, that it adds.
        """
        accepted = both(self.false, absent), both(self.right, present)
        return guard_row(guard, self.false, accepted[0], self.right, accepted[1], calls)


def guard_row(guard: str, false: Sequence[bool], false_guarded: Sequence[bool],
              right: Sequence[bool], right_guarded: Sequence[bool],
              calls: str = "none") -> tuple[str, ...]:  # fmt: skip
    """Return a guard's name, four counts such as 3/48, and the model calls that it adds."""
    outcomes = (false, false_guarded, right, right_guarded)
    return (guard, *(f"{sum(map(bool, part))}/{len(part)}" for part in outcomes), calls)


# --- Shares and thresholds ------------------------------------------------------------------------


def share(outcomes: Sequence[bool]) -> str:
    """Return how many outcomes are true, of how many, with Wilson's 95 % interval."""
    result = score(sum(map(bool, outcomes)), len(outcomes))
    percent = result.correct / result.n
    return f"{result.correct}/{result.n} = {percent:.0%} ({result.low:.0%} – {result.high:.0%})"


def equal(texts: Sequence[str], expected: Sequence[str]) -> list[bool]:
    """Return for each text whether it is the expected one; case and outer spaces do not count."""
    return [a.strip().lower() == b.lower() for a, b in zip(texts, expected, strict=True)]


def both(first: Sequence[bool], second: Sequence[bool]) -> list[bool]:
    """Return where both are true, e.g. which false answers a guard lets pass."""
    return [bool(a and b) for a, b in zip(first, second, strict=True)]


def confidences(answers: Sequence[Answer], chosen: Sequence[bool]) -> list[float]:
    """Return the confidences of the chosen answers."""
    return [answer.confidence for answer, use in zip(answers, chosen, strict=True) if use]


def threshold(confidences: Sequence[float], kept: float = 0.95) -> float:
    """Return the confidence that this share of answers reaches.

    confidences: of right answers, so that a guard with this threshold refuses 1 - `kept` of them.
    """
    return float(np.quantile(confidences, 1 - kept))


def probe(train: np.ndarray, labels: Sequence[bool], test: np.ndarray,
          strength: float = 100.0) -> np.ndarray:  # fmt: skip
    """Return a linear classifier's decisions about `test`, (n,) of bool.

    train, test: (n, width) features. Ridge regression on the labels (Hoerl and Kennard 1970), in
    its dual form, as there are fewer pictures than features.
    """
    mean, spread = train.mean(0), train.std(0) + 1e-6
    x, z = (train - mean) / spread, (test - mean) / spread
    target = np.where(labels, 1.0, -1.0)
    weights = np.linalg.solve(x @ x.T + strength * np.eye(len(x)), target)
    return z @ (x.T @ weights) > 0


def separation(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Return the probability that a value of the first kind exceeds one of the second (AUC).

    0.5: no threshold separates the two. 1: some threshold separates all of them.
    """
    first, second = np.array(higher)[:, None], np.array(lower)[None]
    return float(((first > second) + 0.5 * (first == second)).mean())


def refusals(right: Sequence[float], false: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return what each threshold costs and prevents: percentages of right and false answers.

    right, false: confidences. One value for each 5 % of right answers that a guard refuses.
    """
    lost = [5.0 * step for step in range(21)]
    limits = [float(np.quantile(right, share / 100)) for share in lost]
    prevented = [100.0 * float(np.mean(np.array(false) < limit)) for limit in limits]
    return lost, prevented


def is_loud(wave: np.ndarray, least: float = 0.01) -> bool:
    """Return whether the root mean square of samples from -1 to 1 is above a limit."""
    return float(np.sqrt(np.mean(wave**2))) > least


def shows_colour(image: Image.Image, colour: str, least: float = 0.01) -> bool:
    """Return whether at least this share of the pixels is closer to the colour than to others.

    Others are the colours of flags, of the sea and of a staff. No model is involved.
    """
    names = list(COLOURS)
    palette = np.array([*COLOURS.values(), *SEA, (120, 160, 190), (90, 70, 50)], float)
    pixels = np.asarray(image, float).reshape(-1, 1, 3)
    nearest = ((pixels - palette) ** 2).sum(-1).argmin(1)
    return float((nearest == names.index(colour)).mean()) >= least
