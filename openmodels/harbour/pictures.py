"""What the harbour office sees through its window: signal flags, tide gauges, catch charts.

A seeded generator of small pictures with a question and one right answer, with train and held-out
splits as in `text`: what is held out is what the picture shows (these flags, this number, these
bars), and no picture shows it in training. Position, size, shade and background vary freely.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from openmodels.harbour.text import Message, assistant, held_out, is_test

SIZE = 64  # pixels a side
COLOURS = {
    "red": (215, 45, 40), "blue": (45, 75, 205), "green": (40, 155, 65), "yellow": (240, 205, 45),
    "black": (25, 25, 28), "white": (250, 250, 250),
}  # fmt: skip
PATTERNS = ("plain", "cross", "stripes", "border", "disc")
SEA = ((205, 225, 240), (190, 215, 230), (220, 230, 235), (200, 210, 225))


@dataclass(frozen=True)
class Sighting:
    """A picture, a question about it, and the right answer.

    task: name in `TASKS`. image: RGB, SIZE x SIZE pixels. messages: chat messages, the first
    holding the picture and the question, the last the right answer. key: what the picture shows
    and what is asked; splits share no key.
    """

    task: str
    image: Image.Image
    messages: tuple[Message, ...]
    key: str

    @property
    def answer(self) -> Message:
        return self.messages[-1]


def ask(question: str) -> Message:
    return {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}


class Window:
    """A seeded source of pictures: the same seed and split give the same pixels everywhere.

    In "test", what a picture shows is held out.
    """

    def __init__(self, seed: int, split: str = "train"):
        self.test = is_test(split)
        self.rng = random.Random(f"flags/{split}/{seed}")

    # ------------------------------------------------------------------ drawing
    def draw(self, make: Callable[[], tuple]) -> tuple:
        """Draw until what is shown lies in this split."""
        while True:
            shown = make()
            if held_out(*shown) == self.test:
                return shown

    def canvas(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        image = Image.new("RGB", (SIZE, SIZE), self.shade(self.rng.choice(SEA), 6))
        return image, ImageDraw.Draw(image)

    def shade(self, colour: tuple[int, int, int], by: int = 14) -> tuple[int, ...]:
        """The colour in another light: each channel up to `by` of 255 off."""
        return tuple(max(0, min(255, c + self.rng.randint(-by, by))) for c in colour)

    def flag(self, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], pattern: str,
             colour: str, mark: str) -> None:  # fmt: skip
        """One flag in a box of pixels (left, top, right, bottom): `colour` with `mark` on it."""
        left, top, right, bottom = box
        fill, other = self.shade(COLOURS[colour]), self.shade(COLOURS[mark])
        draw.rectangle(box, fill=fill, outline=(60, 60, 60))
        across, down = (right - left) / 5, (bottom - top) / 5
        if pattern == "cross":
            draw.rectangle((left + 2 * across, top + 1, right - 2 * across, bottom - 1), fill=other)
            draw.rectangle((left + 1, top + 2 * down, right - 1, bottom - 2 * down), fill=other)
        elif pattern == "stripes":
            for place in (1, 3):
                line = (left + 1, top + place * down, right - 1, top + (place + 1) * down)
                draw.rectangle(line, fill=other)
        elif pattern == "border":
            draw.rectangle((left + across, top + down, right - across, bottom - down), fill=other)
        elif pattern == "disc":
            radius = 1.4 * min(across, down)
            x, y = (left + right) / 2, (top + bottom) / 2
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=other)

    # ------------------------------------------------------------------ tasks
    def hoist(self, count: int) -> list[tuple[str, str, str]]:
        """(pattern, colour, colour of the mark) of each flag; no two patterns are the same."""
        rng = self.rng
        flags = []
        for pattern in rng.sample(PATTERNS, count):
            colour, mark = rng.sample(list(COLOURS), 2)
            flags.append((pattern, colour, mark))
        return flags

    def show_hoist(self, flags: list[tuple[str, str, str]]) -> Image.Image:
        """A mast with its flags one above the other."""
        rng = self.rng
        image, draw = self.canvas()
        mast = rng.randint(5, 14)
        draw.line((mast, 2, mast, SIZE - 3), fill=self.shade((90, 70, 50)), width=2)
        room = (SIZE - 4) / max(2, len(flags))
        for place, flag in enumerate(flags):
            height = min(26, room - 3) * rng.uniform(0.85, 1)
            width = height * rng.uniform(1.3, 1.7)
            top = 3 + place * room + rng.uniform(0, room - 2 - height)
            box = (mast + 2, round(top), round(mast + 2 + width), round(top + height))
            self.flag(draw, box, *flag)
        return image

    def flag_colour(self) -> Sighting:
        """One to three flags on a mast; the colour of the one with a named pattern."""
        flags = self.draw(lambda: tuple(self.hoist(self.rng.randint(1, 3))))
        pattern, colour, _ = self.rng.choice(flags)
        asked = {
            "plain": "What colour is the plain flag?",
            "cross": "What colour is the flag behind the cross?",
            "stripes": "What colour is the flag behind the stripes?",
            "border": "What colour is the border of the flag?",
            "disc": "What colour is the flag behind the disc?",
        }[pattern]
        return self.sighting("flag_colour", self.show_hoist(list(flags)), asked, colour, flags)

    def flag_pattern(self) -> Sighting:
        """One to three flags on a mast, all of different colours; the pattern of a coloured one."""
        rng = self.rng

        def hoist() -> tuple:
            colours = rng.sample(list(COLOURS), rng.randint(1, 3))
            patterns = rng.sample(PATTERNS, len(colours))
            pairs = zip(patterns, colours, strict=True)
            return tuple((p, c, rng.choice([m for m in COLOURS if m != c])) for p, c in pairs)

        flags = self.draw(hoist)
        pattern, colour, _ = rng.choice(flags)
        asked = f"What is on the {colour} flag?"
        answer = "nothing" if pattern == "plain" else f"a {pattern}".replace("a stripes", "stripes")
        return self.sighting("flag_pattern", self.show_hoist(list(flags)), asked, answer, flags)

    def flag_count(self) -> Sighting:
        """One to six small flags anywhere in the picture; how many."""
        rng = self.rng

        def places() -> tuple:
            count = rng.randint(1, 6)
            cells = rng.sample(range(9), count)
            return tuple((cell, rng.choice(list(COLOURS))) for cell in sorted(cells))

        shown = self.draw(places)
        image, draw = self.canvas()
        for cell, colour in shown:
            width, height = rng.uniform(11, 16), rng.uniform(9, 12)
            left = 3 + 20 * (cell % 3) + rng.uniform(0, 19 - width)
            top = 3 + 20 * (cell // 3) + rng.uniform(0, 18 - height)
            box = tuple(map(round, (left, top, left + width, top + height)))
            draw.rectangle(box, fill=self.shade(COLOURS[colour]), outline=(60, 60, 60))
        return self.sighting(
            "flag_count", image, "How many flags are there?", str(len(shown)), shown
        )

    def gauge(self) -> Sighting:
        """The board of a tide gauge with a number from 0 to 99; the number, never seen before."""
        rng = self.rng
        (number,) = self.draw(lambda: (rng.randint(0, 99),))
        image, draw = self.canvas()
        ink, board = ((20, 20, 20), (250, 245, 225)) if rng.random() < 0.7 else (
            (250, 250, 245), (40, 60, 110))  # fmt: skip
        font = ImageFont.load_default(size=rng.randint(28, 36))
        left, top, right, bottom = draw.textbbox((0, 0), str(number), font=font)
        x = rng.uniform(5, SIZE - 6 - (right - left))
        y = rng.uniform(6, SIZE - 7 - (bottom - top))
        frame = (x - 4, y - 5, x + right - left + 4, y + bottom - top + 5)
        draw.rectangle(frame, fill=self.shade(board), outline=(90, 90, 90))
        draw.text((x - left, y - top), str(number), font=font, fill=self.shade(ink))
        asked = "What number does the gauge show?"
        return self.sighting("gauge", image, asked, str(number), (number,))

    def chart(self) -> Sighting:
        """A chart of the catch with three or four bars; the colour of the tallest or shortest."""
        rng = self.rng

        def bars() -> tuple:
            count = rng.randint(3, 4)
            colours, heights = rng.sample(list(COLOURS), count), rng.sample(range(2, 11), count)
            return tuple(zip(colours, heights, strict=True))

        shown = self.draw(bars)
        image, draw = self.canvas()
        draw.line((3, SIZE - 4, SIZE - 3, SIZE - 4), fill=(60, 60, 60))
        room = (SIZE - 8) / len(shown)
        unit = rng.uniform(4.8, 5.6)
        for place, (colour, height) in enumerate(shown):
            left = 4 + place * room + rng.uniform(1, 3)
            box = (left, SIZE - 4 - unit * height, left + room - rng.uniform(4, 5), SIZE - 4)
            draw.rectangle(
                tuple(map(round, box)), fill=self.shade(COLOURS[colour]), outline=(60, 60, 60)
            )
        most, which = rng.choice(((max, "tallest"), (min, "shortest")))
        answer = most(shown, key=lambda bar: bar[1])[0]
        return self.sighting("chart", image, f"Which bar is the {which}?", answer, shown)

    def sighting(self, task: str, image: Image.Image, question: str, answer: str,
                 shown: tuple) -> Sighting:  # fmt: skip
        key = f"{question}|{shown}"
        return Sighting(task, image, (ask(question), assistant(answer)), key)


TASKS = ("flag_colour", "flag_pattern", "flag_count", "gauge", "chart")


def sightings(task: str, count: int, seed: int = 0, split: str = "test") -> Iterator[Sighting]:
    """`count` pictures of one task. Raises ValueError for an unknown task."""
    if task not in TASKS:
        raise ValueError(f"no task {task!r}; there are {', '.join(TASKS)}")
    source = Window(seed, split)
    for _ in range(count):
        yield getattr(source, task)()
