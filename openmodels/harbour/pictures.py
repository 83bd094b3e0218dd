"""Generate small pictures with a question: signal flags, tide gauges, catch charts.

Train and held-out splits work as in `text`: the content of a picture (these flags, this number,
these bars) is held out, and no training picture shows it. Position, size, shade and background
vary freely.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFont

from openmodels.harbour.text import Message, assistant, held_out, is_test

SIZE = 64  # pixels per side
COLOURS = {
    "red": (215, 45, 40), "blue": (45, 75, 205), "green": (40, 155, 65), "yellow": (240, 205, 45),
    "black": (25, 25, 28), "white": (250, 250, 250),
}  # fmt: skip
PATTERNS = ("plain", "cross", "stripes", "border", "disc")
SEA = ((205, 225, 240), (190, 215, 230), (220, 230, 235), (200, 210, 225))


@dataclass(frozen=True)
class Sighting:
    """A picture, a question about it, and the right answer.

    task: a name in `TASKS`. image: RGB, SIZE x SIZE pixels. messages: chat messages, the first with
    the picture and the question, the last the right answer. key: the content of the picture and the
    question; splits share no key.
    """

    task: str
    image: Image.Image
    messages: tuple[Message, ...]
    key: str

    @property
    def answer(self) -> Message:
        """Return the right answer, the last message."""
        return self.messages[-1]


def ask(question: str) -> Message:
    """Return a user message with a picture and a question."""
    return {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}


def put_last(sighting: Sighting) -> Sighting:
    """Return a sighting whose picture follows the question, as in Ollama's own prompts."""
    question, *others = sighting.messages
    content = question["content"]
    parts = [part for kind in ("text", "image") for part in content if part["type"] == kind]
    return replace(sighting, messages=(question | {"content": parts}, *others))


def draw_flag(
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    pattern: str,
    fill: tuple[int, ...],
    mark_fill: tuple[int, ...],
) -> None:
    """Draw a flag in a box of pixels (x0, y0, x1, y1): one colour with a mark in another on it."""
    x0, y0, x1, y1 = box
    draw.rectangle(box, fill=fill, outline=(60, 60, 60))
    step_x, step_y = (x1 - x0) / 5, (y1 - y0) / 5
    if pattern == "cross":
        draw.rectangle((x0 + 2 * step_x, y0 + 1, x1 - 2 * step_x, y1 - 1), fill=mark_fill)
        draw.rectangle((x0 + 1, y0 + 2 * step_y, x1 - 1, y1 - 2 * step_y), fill=mark_fill)
    elif pattern == "stripes":
        for stripe in (1, 3):
            line = (x0 + 1, y0 + stripe * step_y, x1 - 1, y0 + (stripe + 1) * step_y)
            draw.rectangle(line, fill=mark_fill)
    elif pattern == "border":
        draw.rectangle((x0 + step_x, y0 + step_y, x1 - step_x, y1 - step_y), fill=mark_fill)
    elif pattern == "disc":
        radius = 1.4 * min(step_x, step_y)
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=mark_fill)


class Window:
    """A seeded source of pictures: the same seed and split give the same pixels everywhere.

    In "test", the content of every picture is held out.
    """

    def __init__(self, seed: int, split: str = "train"):
        self.test = is_test(split)
        self.rng = random.Random(f"flags/{split}/{seed}")

    # ------------------------------------------------------------------ drawing
    def draw(self, make: Callable[[], tuple]) -> tuple:
        """Call `make` until the content it returns belongs to this split."""
        while True:
            content = make()
            if held_out(*content) == self.test:
                return content

    def canvas(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """Return an empty picture with a sea-coloured background, and its drawing context."""
        image = Image.new("RGB", (SIZE, SIZE), self.shade(self.rng.choice(SEA), 6))
        return image, ImageDraw.Draw(image)

    def shade(self, colour: tuple[int, int, int], spread: int = 14) -> tuple[int, ...]:
        """Return the colour in another light: each channel up to `spread` of 255 off."""
        return tuple(max(0, min(255, c + self.rng.randint(-spread, spread))) for c in colour)

    def flag(
        self,
        draw: ImageDraw.ImageDraw,
        box: tuple[int, int, int, int],
        pattern: str,
        colour: str,
        mark: str,
    ) -> None:
        """Draw one flag in a box of pixels (x0, y0, x1, y1): `colour` with `mark` on it."""
        fill, mark_fill = self.shade(COLOURS[colour]), self.shade(COLOURS[mark])
        draw_flag(draw, box, pattern, fill, mark_fill)

    # ------------------------------------------------------------------ tasks
    def hoist(self, count: int) -> list[tuple[str, str, str]]:
        """Return (pattern, colour, colour of the mark) per flag; no two patterns are equal."""
        rng = self.rng
        flags = []
        for pattern in rng.sample(PATTERNS, count):
            colour, mark = rng.sample(list(COLOURS), 2)
            flags.append((pattern, colour, mark))
        return flags

    def show_hoist(self, flags: list[tuple[str, str, str]]) -> Image.Image:
        """Draw a mast with its flags one above the other."""
        rng = self.rng
        image, draw = self.canvas()
        mast = rng.randint(5, 14)
        draw.line((mast, 2, mast, SIZE - 3), fill=self.shade((90, 70, 50)), width=2)
        slot = (SIZE - 4) / max(2, len(flags))
        for row, flag in enumerate(flags):
            height = min(26, slot - 3) * rng.uniform(0.85, 1)
            width = height * rng.uniform(1.3, 1.7)
            top = 3 + row * slot + rng.uniform(0, slot - 2 - height)
            box = (mast + 2, round(top), round(mast + 2 + width), round(top + height))
            self.flag(draw, box, *flag)
        return image

    def flag_colour(self) -> Sighting:
        """Ask for the colour of the flag with a named pattern, among one to three flags."""
        flags = self.draw(lambda: tuple(self.hoist(self.rng.randint(1, 3))))
        pattern, colour, _ = self.rng.choice(flags)
        question = {
            "plain": "What colour is the plain flag?",
            "cross": "What colour is the flag behind the cross?",
            "stripes": "What colour is the flag behind the stripes?",
            "border": "What colour is the border of the flag?",
            "disc": "What colour is the flag behind the disc?",
        }[pattern]
        return self.sighting("flag_colour", self.show_hoist(list(flags)), question, colour, flags)

    def flag_pattern(self) -> Sighting:
        """Ask for the pattern of the flag of a named colour, among one to three flags."""
        rng = self.rng

        def hoist() -> tuple:
            colours = rng.sample(list(COLOURS), rng.randint(1, 3))
            patterns = rng.sample(PATTERNS, len(colours))
            pairs = zip(patterns, colours, strict=True)
            return tuple((p, c, rng.choice([m for m in COLOURS if m != c])) for p, c in pairs)

        flags = self.draw(hoist)
        pattern, colour, _ = rng.choice(flags)
        question = f"What is on the {colour} flag?"
        answer = "nothing" if pattern == "plain" else f"a {pattern}".replace("a stripes", "stripes")
        return self.sighting("flag_pattern", self.show_hoist(list(flags)), question, answer, flags)

    def flag_count(self) -> Sighting:
        """Ask how many flags, one to six, the picture shows."""
        rng = self.rng

        def places() -> tuple:
            count = rng.randint(1, 6)
            cells = rng.sample(range(9), count)
            return tuple((cell, rng.choice(list(COLOURS))) for cell in sorted(cells))

        flags = self.draw(places)
        image, draw = self.canvas()
        for cell, colour in flags:
            width, height = rng.uniform(11, 16), rng.uniform(9, 12)
            x = 3 + 20 * (cell % 3) + rng.uniform(0, 19 - width)
            y = 3 + 20 * (cell // 3) + rng.uniform(0, 18 - height)
            box = tuple(map(round, (x, y, x + width, y + height)))
            draw.rectangle(box, fill=self.shade(COLOURS[colour]), outline=(60, 60, 60))
        return self.sighting(
            "flag_count", image, "How many flags are there?", str(len(flags)), flags
        )

    def gauge(self) -> Sighting:
        """Ask for the number on a tide gauge, 0 to 99; test numbers never occur in training."""
        rng = self.rng
        (number,) = self.draw(lambda: (rng.randint(0, 99),))
        image, draw = self.canvas()
        ink, board = ((20, 20, 20), (250, 245, 225)) if rng.random() < 0.7 else (
            (250, 250, 245), (40, 60, 110))  # fmt: skip
        font = ImageFont.load_default(size=rng.randint(28, 36))
        x0, y0, x1, y1 = draw.textbbox((0, 0), str(number), font=font)
        x = rng.uniform(5, SIZE - 6 - (x1 - x0))
        y = rng.uniform(6, SIZE - 7 - (y1 - y0))
        frame = (x - 4, y - 5, x + x1 - x0 + 4, y + y1 - y0 + 5)
        draw.rectangle(frame, fill=self.shade(board), outline=(90, 90, 90))
        draw.text((x - x0, y - y0), str(number), font=font, fill=self.shade(ink))
        question = "What number does the gauge show?"
        return self.sighting("gauge", image, question, str(number), (number,))

    def chart(self) -> Sighting:
        """Ask for the colour of the tallest or shortest of three or four bars of the catch."""
        rng = self.rng

        def bars() -> tuple:
            count = rng.randint(3, 4)
            colours, heights = rng.sample(list(COLOURS), count), rng.sample(range(2, 11), count)
            return tuple(zip(colours, heights, strict=True))

        content = self.draw(bars)
        image, draw = self.canvas()
        draw.line((3, SIZE - 4, SIZE - 3, SIZE - 4), fill=(60, 60, 60))
        slot = (SIZE - 8) / len(content)
        unit = rng.uniform(4.8, 5.6)
        for position, (colour, height) in enumerate(content):
            x = 4 + position * slot + rng.uniform(1, 3)
            box = (x, SIZE - 4 - unit * height, x + slot - rng.uniform(4, 5), SIZE - 4)
            draw.rectangle(
                tuple(map(round, box)), fill=self.shade(COLOURS[colour]), outline=(60, 60, 60)
            )
        extreme, word = rng.choice(((max, "tallest"), (min, "shortest")))
        answer = extreme(content, key=lambda bar: bar[1])[0]
        return self.sighting("chart", image, f"Which bar is the {word}?", answer, content)

    def sighting(
        self, task: str, image: Image.Image, question: str, answer: str, content: tuple
    ) -> Sighting:
        """Return a sighting whose key is its question and content."""
        key = f"{question}|{content}"
        return Sighting(task, image, (ask(question), assistant(answer)), key)


TASKS = ("flag_colour", "flag_pattern", "flag_count", "gauge", "chart")


def sightings(task: str, count: int, seed: int = 0, split: str = "test") -> Iterator[Sighting]:
    """Yield `count` pictures of one task. Raises ValueError for an unknown task."""
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; the tasks are {', '.join(TASKS)}")
    source = Window(seed, split)
    for _ in range(count):
        yield getattr(source, task)()
