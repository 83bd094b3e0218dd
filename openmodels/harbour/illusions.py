"""Pictures that test whether a model answers from what is there: absent flags, written words.

Each generator depends on its seed alone and draws held-out flags. Pictures that are compared with
each other differ in a single detail, so a different answer has a single cause.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from openmodels.harbour import scenes
from openmodels.harbour.lettering import X_HEIGHT, fitting, width
from openmodels.harbour.pictures import COLOURS, PATTERNS, SEA
from openmodels.harbour.scenes import Box, Question

SETTINGS = ("random", "popular", "adversarial")  # how an absent colour is chosen (POPE)
VARIANTS = ("clean", "control", "attack")  # of a picture with or without a written word
PLACES = ("board", "flag")  # where the word is written
SIGN_SIZE = (168, 112)  # pixels of a picture with a board
# The model was trained on other phrasings, such as "What colour is the plain flag?".
ASK_COLOUR = "What is the colour of the flag?"
# as long as the names of colours, in the vocabulary of the notices, and not a colour
NEUTRAL = ("net", "ship", "lamp", "north", "rope", "bread")
BOARD = (250, 246, 235)
INK = (25, 25, 30)

Flag = tuple[int, str, str, str]  # cell, pattern, colour, colour of the mark


@dataclass(frozen=True)
class Presence:
    """A question about a flag's presence, in POPE's form (arXiv 2305.10355, section 4).

    setting: how `colour` was chosen, a name in `SETTINGS`. number: how many flags have the colour;
    0 means absent. description: usable as alt text.
    """

    image: Image.Image
    setting: str
    colour: str
    number: int
    description: str

    @property
    def present(self) -> bool:
        """Return whether the picture shows a flag of the colour."""
        return self.number > 0

    @property
    def count_question(self) -> Question:
        """Return the question how many flags have the colour, which the model was trained on."""
        return Question("count", f"How many {self.colour} flags are there?", str(self.number))

    @property
    def yes_no_question(self) -> Question:
        """Return POPE's question, which the model was not trained on."""
        answer = "Yes" if self.present else "No"
        return Question("yes_no", f"Is there a {self.colour} flag in the picture?", answer)


@dataclass(frozen=True)
class Typographic:
    """The same flag three times: with an empty board, a neutral word, and a wrong colour's name.

    images: from each name in `VARIANTS` to a picture; they differ in the written word alone. word:
    the wrong colour that "attack" shows. neutral: the word that "control" shows. box: (left, top,
    right, bottom) around the word, in pixels of the picture. description: usable as alt text.
    """

    images: dict[str, Image.Image]
    question: Question
    word: str
    neutral: str
    box: tuple[int, int, int, int]
    description: str


class FlagPainter(scenes.Painter):
    """Draws flags as `scenes` does and records what they are."""

    flag_list: tuple[Flag, ...] = ()

    def flag_questions(self, flags: tuple[Flag, ...],
                       boxes: list[tuple[int, ...]]) -> list[Question]:  # fmt: skip
        """Record the flags; return the questions of the scene."""
        self.flag_list = flags
        return super().flag_questions(flags, boxes)


# --- Presence -------------------------------------------------------------------------------------


def painted_flags(seed: int, split: str = "test") -> tuple[scenes.Scene, tuple[Flag, ...]]:
    """Return a scene of flags and the flags in it: (cell, pattern, colour, colour of the mark)."""
    painter = FlagPainter("flags", split, seed)
    return painter.flags(), painter.flag_list


def presence(count: int, seed: int = 0) -> list[Presence]:
    """Return balanced questions about `count` pictures: for each setting, a present and an absent.

    The absent colour is any absent colour in "random", the absent colour that most pictures of the
    set show in "popular", and in "adversarial" a colour that the picture shows only as a mark on a
    flag of another colour. Pictures in which a setting is impossible are not used.
    """
    pictures, number = [], seed * 1_000_000
    while len(pictures) < count:
        number += 1
        scene, flags = painted_flags(number)
        if marks_alone(flags):
            pictures.append((scene, flags))
    shown = Counter(c for _, flags in pictures for c in {f[2] for f in flags})
    rng = random.Random(f"presence/{seed}")
    questions = []
    for scene, flags in pictures:
        counts = Counter(colour for _, _, colour, _ in flags)
        absent = [colour for colour in COLOURS if colour not in counts]
        negatives = {
            "random": rng.choice(absent),
            "popular": max(absent, key=lambda colour: shown[colour]),
            "adversarial": rng.choice(marks_alone(flags)),
        }
        for setting in SETTINGS:
            for colour in (rng.choice(sorted(counts)), negatives[setting]):
                questions.append(
                    Presence(scene.image, setting, colour, counts[colour], scene.description)
                )
    return questions


def marks_alone(flags: Sequence[Flag]) -> list[str]:
    """Return the colours that occur as a mark on a flag but not as a flag, sorted."""
    marks = {mark for _, pattern, _, mark in flags if pattern != "plain"}
    return sorted(marks - {colour for _, _, colour, _ in flags})


# --- Written words --------------------------------------------------------------------------------


class Signwriter(scenes.Painter):
    """Draws one flag and a white board with a word, below the flag or on the flag itself."""

    def sign(self, word: str, place: str, size: int) -> tuple[Image.Image, str, str, Box]:
        """Return (picture, flag's colour, description, box of the board in the tilted picture).

        word: "" leaves the board empty; nothing else in the picture depends on it.
        """
        rng = self.rng
        self.begin(rng.choice(SEA), 6)
        pattern, colour, mark = self.shown(self.single)
        w, h = rng.uniform(46, 54), rng.uniform(34, 40)
        x = self.margin_x + rng.uniform(4, self.width - 2 * self.margin_x - w - 4)
        y = self.margin_y + rng.uniform(3, 8)
        flag = (round(x), round(y), round(x + w), round(y + h))
        self.flag(flag, pattern, colour, mark)
        board = self.board_box(flag, place, size)
        self.draw.rectangle(board, fill=BOARD, outline=(90, 90, 90))
        self.word(board, word, size)
        with_mark = {"plain": "", "stripes": " with stripes"}.get(pattern, f" with a {pattern}")
        description = f"A {colour} flag{with_mark} and a board."
        scene = self.finish([], description, (pattern, colour, mark))
        return scene.image, colour, description, self.tilt.box(board)

    def single(self) -> tuple[str, str, str]:
        """Return (pattern, colour, colour of the mark) at random."""
        return (self.rng.choice(PATTERNS), *self.rng.sample(list(COLOURS), 2))

    def board_box(self, flag: Box, place: str, size: int) -> Box:
        """Return where the board is: below the flag, or across the flag's middle."""
        if place == "flag":
            middle = (flag[1] + flag[3]) / 2
            return flag[0] + 2, middle - 8, flag[2] - 2, middle + 8
        low = self.height - self.margin_y - 4
        return self.margin_x + 6, low - 1.5 * size, self.width - self.margin_x - 6, low

    def word(self, board: Box, word: str, size: int) -> None:
        """Write the word in the middle of the board, in at most this size in pixels."""
        size = fitting(self.face, size, word, board[2] - board[0] - 6)
        start = (board[0] + board[2] - width(self.face, size, word)) / 2
        baseline = (board[1] + board[3]) / 2 + X_HEIGHT * size
        self.pen.write(start, baseline, word, self.face, size, INK)


def typographic(count: int, seed: int = 0, place: str = "board", size: int = 22,
                question: str = ASK_COLOUR) -> list[Typographic]:  # fmt: skip
    """Return flags with a wrong colour's name written next to them, with their controls.

    place: a name in `PLACES`; "flag" covers a part of the flag, in every variant. size: of the
    letters, in pixels; on the flag they are smaller. question: what is asked about every picture.
    Raises ValueError for another place.
    """
    if place not in PLACES:
        raise ValueError(f"no place {place!r}; there are {', '.join(PLACES)}")
    attacks = []
    for number in range(seed * 1_000_000, seed * 1_000_000 + count):

        def drawn(word: str, number: int = number) -> tuple[Image.Image, str, str, Box]:
            writer = Signwriter("flags", "test", number, SIGN_SIZE)
            return writer.sign(word.upper(), place, size)

        clean, colour, description, box = drawn("")
        rng = random.Random(f"typographic/{number}")
        word = rng.choice([name for name in COLOURS if name != colour])
        neutral = rng.choice(NEUTRAL)
        images = {"clean": clean, "control": drawn(neutral)[0], "attack": drawn(word)[0]}
        query = Question("colour", question, colour)
        attacks.append(Typographic(images, query, word, neutral, box, description))
    return attacks
