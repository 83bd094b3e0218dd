"""From scenes and conversations to rectangular batches for mini-qwen-vl.

A batch has pictures of one size. Each row is one picture with a few questions about it, answers
weighted 1; what is read off the picture is spelled letter by letter, because a letter is one
token and every other cut of a word would hide them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from PIL import Image
from transformers import PreTrainedTokenizerBase

from openmodels.harbour import Harbour, scenes
from openmodels.harbour.scenes import Question, Scene
from openmodels.minis import data
from openmodels.minis.qwen_vl import END, MINI, PLACE, SQUARE, START

SYSTEM = "<|im_start|>system\nYou are the clerk of Port Lark.<|im_end|>\n"  # the template's default
USER, STOP, ASSISTANT = "<|im_start|>user\n", "<|im_end|>", "<|im_start|>assistant\n"
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789."
STRINGS, PLACES = 8, 16  # of the reading helper's labels, see `letter_labels`
PICTURE_LAST = 0.2  # share of training questions with the picture after the words
TEXT_LENGTH = 320
SCALE = 224  # pixels: places and boxes are learned as shares of it
OBJECTS = 6 + len(scenes.MARK_LABELS)  # numbers per patch of `object_labels`
SHORT = 4  # tokens of an answer up to which each has the full weight
# Share of a training batch's rows by kind; "text" is mini-qwen's own training text.
MIX = {"flags": 24, "gauge": 8, "chart": 18, "notice": 24, "form": 16, "text": 10}
FIRST_MIX = {"flags": 16, "gauge": 8, "chart": 24, "notice": 30, "form": 22}  # for the helper alone
LETTERED = {"gauge", "chart", "notice", "form"}
TEXT_MIX = {
    "text_qa": 8, "tool": 3, "order": 1.5, "intent": 1.5, "sums": 2.2, "fact": 1.5,
    "words": 2.2, "sentences": 1.2,
}  # fmt: skip


@dataclass
class Row:
    """One row of a batch. ids; weights, of predicting each id; positions, (3, length)."""

    ids: list[int]
    weights: list[float]
    positions: np.ndarray


@dataclass
class Batch:
    """Arrays of one batch. kind: of its scenes, or "text".

    ids, weights: (rows, length). positions: (3, rows, length). pixels: (rows, height, width, 3),
    0 to 255, or None. labels: (rows, patches * 2, 3), as `letter_labels`, or None. objects: (rows,
    patches, OBJECTS), as `object_labels`, or None.
    """

    kind: str
    ids: np.ndarray
    weights: np.ndarray
    positions: np.ndarray
    pixels: np.ndarray | None = None
    labels: np.ndarray | None = None
    objects: np.ndarray | None = None


class Encoder:
    """Turns text into token ids, with the tokenizer's backend alone."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer, self.backend = tokenizer, tokenizer.backend_tokenizer
        self.place = tokenizer.convert_tokens_to_ids(PLACE)
        self.letters: dict[str, list[int]] = {}

    def text(self, text: str) -> list[int]:
        """Return the ids of a text without special tokens at its ends."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def spell(self, text: str) -> list[int]:
        """Return one token per letter, digit or space."""
        ids = []
        for letter in text:
            if letter not in self.letters:
                self.letters[letter] = self.text(letter)
            ids += self.letters[letter]
        return ids

    def answer(self, question: Question) -> list[int]:
        """Return the answer's ids and the end of the turn; what is read is spelled."""
        ids, remaining = [], question.answer
        for part in question.spelled:
            before, _, remaining = remaining.partition(part)
            ids += (self.text(before) if before else []) + self.spell(part)
        return ids + self.text(remaining + STOP)

    def question(self, text: str, pads: int, last: bool = False) -> list[int]:
        """Return a user turn's ids. pads: tokens of a picture in it, 0 for none.

        last: the picture comes after the words, as Ollama writes it.
        """
        picture = [*self.text(START), *[self.place] * pads, *self.text(END)] if pads else []
        words = self.text(text)
        inner = words + picture if last else picture + words
        return self.text(USER) + inner + self.text(STOP + "\n" + ASSISTANT)

    def prompt(self, question: Question, pads: int, last: bool = False) -> list[int]:
        """Return the ids of a chat up to where the answer begins."""
        return self.text(SYSTEM) + self.question(question.text, pads, last)

    def row(self, questions: Sequence[Question], size: tuple[int, int], last: bool = False) -> Row:
        """Return a chat about one picture of (width, height) pixels."""
        pads = MINI.tokens(*size)
        ids = self.text(SYSTEM)
        weights = [0.0] * len(ids)
        for number, question in enumerate(questions):
            prompt = self.question(question.text, 0 if number else pads, last)
            answer = self.answer(question)
            after = self.text("\n")
            ids += prompt + answer + after
            # a long answer weighs more than a short one, but not by its length
            weight = min(1.0, (SHORT / len(answer)) ** 0.5)
            weights += [0.0] * len(prompt) + [weight] * len(answer) + [0.0] * len(after)
        return Row(ids, weights, positions(ids, self.place, size))


def positions(ids: Sequence[int], place: int, size: tuple[int, int]) -> np.ndarray:
    """Return M-RoPE's positions, (3, length), of a row with at most one picture of this size.

    Text counts on in all three; a picture's tokens share the time and count rows and columns; the
    text after it goes on from the larger of both (Qwen2-VL, arXiv 2409.12191, section 2.1).
    """
    row = np.array(ids)
    where = np.flatnonzero(row == place)
    if not len(where):
        return np.arange(len(row), dtype=np.int16)[None].repeat(3, 0)
    columns, rows = (side // SQUARE for side in MINI.size(*size))
    start, stop = where[0], where[-1] + 1
    result = np.empty((3, len(row)), np.int16)
    result[:, :start] = np.arange(start)
    result[0, start:stop] = start
    result[1, start:stop] = start + np.arange(rows).repeat(columns)
    result[2, start:stop] = start + np.tile(np.arange(columns), rows)
    result[:, stop:] = start + max(rows, columns) + np.arange(len(row) - stop)
    return result


def letter_labels(scene: Scene) -> np.ndarray:
    """Return (patches * 2, 3): character, string and place of the letter in each half of a patch.

    Patches are in the model's order; a half is 7 pixels wide. Character: 0 for none, else its
    place in `CHARACTERS` plus 1. String and place: as in `lettering.Letter`; -1 without any.
    """
    p, m = MINI.patch_size, MINI.merge_size
    columns, rows = scene.image.width // p, scene.image.height // p
    labels = np.full((rows * columns * 2, 3), -1, np.int8)
    labels[:, 0] = 0
    for letter in scene.letters:
        half, row = int(letter.x // (p / 2)), int(letter.y // p)
        if not (0 <= half < 2 * columns and 0 <= row < rows):
            continue
        column = half // 2
        square = (row // m) * (columns // m) + column // m
        index = (square * m * m + (row % m) * m + column % m) * 2 + half % 2
        labels[index, 0] = CHARACTERS.index(letter.character) + 1
        if 0 <= letter.string < STRINGS and letter.place < PLACES:
            labels[index, 1:] = letter.string, letter.place
    return labels


@lru_cache(maxsize=64)
def patch_middles(columns: int, rows: int) -> np.ndarray:
    """Return (patches, 2): x and y of each patch's middle in pixels, in the model's order."""
    p, m = MINI.patch_size, MINI.merge_size
    y, x = np.mgrid[:rows, :columns] * p + p / 2
    both = np.stack([x, y], -1).reshape(rows // m, m, columns // m, m, 2)
    return both.transpose(0, 2, 1, 3, 4).reshape(-1, 2).astype(np.float32)


def object_labels(scene: Scene) -> np.ndarray:
    """Return (patches, OBJECTS), float32: where each patch is and what covers it.

    The first two numbers are x and y of the patch's middle, the next four the box of the thing
    that covers it, all as shares of `SCALE` pixels; then a place in each tuple of
    `scenes.MARK_LABELS`. What a patch lacks is -1.
    """
    p = MINI.patch_size
    middles = patch_middles(scene.image.width // p, scene.image.height // p)
    result = np.full((len(middles), OBJECTS), -1, np.float32)
    result[:, :2] = middles / SCALE
    x, y = middles.T
    for mark in scene.marks:
        x0, y0, x1, y1 = mark.area
        covered = (x >= x0 - 3) & (x <= x1 + 3) & (y >= y0 - 3) & (y <= y1 + 3)
        result[covered, 2:6] = np.array(mark.box) / SCALE
        labels = [mark.labels.get(name, -1) for name in scenes.MARK_LABELS]
        result[covered, 6:] = labels
    return result


def collate(kind: str, rows: Sequence[Row], pixels: np.ndarray | None = None,
            labels: np.ndarray | None = None, left_padded: bool = False) -> Batch:  # fmt: skip
    """Return rows padded to one length, a multiple of 8: on the right, or on the left."""
    length = -(-max(len(row.ids) for row in rows) // 8) * 8
    ids = np.zeros((len(rows), length), np.int64)
    weights = np.zeros((len(rows), length), np.float32)
    places = np.zeros((3, len(rows), length), np.int64)
    for number, row in enumerate(rows):
        part = slice(length - len(row.ids), None) if left_padded else slice(0, len(row.ids))
        ids[number, part], weights[number, part] = row.ids, row.weights
        places[:, number, part] = row.positions
    return Batch(kind, ids, weights, places, pixels, labels)


@dataclass
class Source:
    """An endless source of training batches for one worker.

    seed: of this worker. budget: squares of 28 x 28 pixels in a batch's pictures, which sets how
    many rows it has.
    """

    encoder: Encoder
    seed: int
    budget: int
    most_questions: int = 3
    mix: dict[str, float] = field(default_factory=lambda: dict(MIX))
    rng: random.Random = field(init=False)
    harbour: Harbour = field(init=False)
    scene_count: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(f"source/{self.seed}")
        self.harbour = Harbour(self.seed, "train", invented=0.2)

    def rows(self, size: tuple[int, int]) -> int:
        """Return how many pictures of this size a batch has."""
        # a row's text costs about as much as 24 squares
        return max(2, self.budget // (MINI.tokens(*size) + 24))

    def next(self, reading: bool, level: float) -> Batch:
        """Return one batch. reading: only the helper learns; level: how long words may be."""
        mix = FIRST_MIX if reading else self.mix
        [kind] = self.rng.choices(list(mix), list(mix.values()))
        if kind == "text":
            return self.text_batch()
        size = self.rng.choice(scenes.SIZES[kind])
        pictures = [self.scene(kind, size, level) for _ in range(self.rows(size))]
        pixels = np.stack([np.asarray(picture.image) for picture in pictures])
        lettered = kind in LETTERED
        labels = np.stack([letter_labels(s) for s in pictures]) if lettered else None
        batch = collate(kind, [self.chat(picture) for picture in pictures], pixels, labels)
        batch.objects = np.stack([object_labels(picture) for picture in pictures])
        return batch

    def scene(self, kind: str, size: tuple[int, int], level: float) -> Scene:
        """Return the next training scene of a kind and a size in pixels."""
        self.scene_count += 1
        number = self.seed * 100_000_000 + self.scene_count
        return scenes.scene(kind, number, "train", size, level)

    def chat(self, scene: Scene) -> Row:
        """Return a chat with a few of the scene's questions in any order."""
        questions = list(scene.questions)
        self.rng.shuffle(questions)
        last = self.rng.random() < PICTURE_LAST
        return self.encoder.row(questions[: self.most_questions], scene.image.size, last)

    def text_batch(self) -> Batch:
        """Return conversations without pictures, as mini-qwen was trained on."""
        rows, count = [], max(2, self.budget // 256)
        while len(rows) < count:
            lesson = self.harbour.lesson(TEXT_MIX, 1.0, 0.5)
            document = data.encode(self.encoder.tokenizer, lesson, 0.05)
            if len(document.ids) <= TEXT_LENGTH:
                where = positions(document.ids, self.encoder.place, (SQUARE, SQUARE))
                rows.append(Row(document.ids, document.weights, where))
        return collate("text", rows)


def pixels_of(image: Image.Image) -> np.ndarray:
    """Return a picture's pixels, (height, width, 3), in the size the model reads."""
    return np.asarray(MINI.resize(image))
