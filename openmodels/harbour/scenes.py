"""The harbour in pictures of any shape: flags, tide gauges, catch charts, notices, order forms.

`pictures` has small squares with one question each; a scene here has its own size and several
questions, and its letters are known. Scenes are tilted, shaded and noisy as photographs are. A
scene depends on its kind, split and seed alone. What a test scene shows is held out, and what it
prints is printed in faces that no training scene has.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw

from openmodels.harbour import world
from openmodels.harbour.lettering import TEST_FACES, TRAIN_FACES, Letter, Pen, Tilt, fitting, width
from openmodels.harbour.light import photograph
from openmodels.harbour.pictures import COLOURS, PATTERNS, SEA, draw_flag
from openmodels.harbour.text import ENDINGS, MIDDLES, ONSETS, held_out, is_test

# kind: (width, height) in pixels that its scenes have
SIZES = {
    "flags": ((112, 112), (168, 112), (112, 168), (168, 168), (224, 168)),
    "gauge": ((112, 112), (168, 112), (112, 168)),
    "chart": ((196, 168), (224, 168), (224, 224), (280, 196)),
    "notice": ((224, 56), (224, 84), (224, 112), (280, 84)),
    "form": ((308, 224), (336, 224), (280, 252), (308, 280)),
}
KINDS = tuple(SIZES)
TASKS = {
    "colour": "flags", "pattern": "flags", "count": "flags", "position": "flags", "boxes": "flags",
    "gauge": "gauge", "tallest": "chart", "how_many": "chart", "value": "chart",
    "printed": "notice", "printed_invented": "notice", "form": "form",
}  # fmt: skip
CATCH = ("bass", "carp", "cod", "crab", "eel", "hake", "pike", "ray", "sole", "tuna")
UNITS = ("boxes", "crates", "barrels", "kg")
FIELDS = ("customer", "good", "quantity", "day", "price")
TOPS = (10, 20, 50, 100)  # of a chart's axis
# What a `Mark` says of a flag or a bar. step: a bar's height in tenths of the axis, minus 1.
MARK_LABELS = {"colour": tuple(COLOURS), "pattern": PATTERNS, "step": tuple(range(1, 11)),
               "top": TOPS}  # fmt: skip
WORDS = tuple(sorted({*world.WORDS, *world.NAMES, *world.SHIPS}))
NO_CASE = set("CcOoSsVvWwXxZz")  # letters whose small and capital forms look alike
PAPERS = ((250, 246, 235), (240, 240, 240), (252, 252, 250), (232, 222, 196), (222, 232, 240))
INKS = ((25, 25, 30), (30, 40, 110), (110, 25, 30), (20, 70, 45))
CRAYONS = {"red": (200, 60, 50), "blue": (60, 90, 200), "green": (60, 150, 80),
           "orange": (230, 140, 40), "grey": (120, 120, 125)}  # fmt: skip
SIDES = {
    "farthest to the left": (0, min), "farthest to the right": (0, max),
    "highest": (1, min), "lowest": (1, max),
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A question about a scene. task: a key of `TASKS`.

    spelled: the parts of the answer that are read off the picture letter by letter.
    """

    task: str
    text: str
    answer: str
    spelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mark:
    """Where a thing is and what it is: labels for training, finer than the questions.

    box: (left, top, right, bottom) in pixels. area: the same form, the part of the picture that
    the labels hold for. labels: of `MARK_LABELS`, each a place in its tuple.
    """

    box: tuple[int, ...]
    area: tuple[int, ...]
    labels: dict[str, int]


@dataclass(frozen=True)
class Scene:
    """A picture with its questions.

    image: RGB. letters: every printed letter. description: usable as alt text. key: what is
    shown and, if words are printed, in which face; splits share no key. marks: flags and bars.
    """

    kind: str
    image: Image.Image
    questions: tuple[Question, ...]
    letters: tuple[Letter, ...]
    description: str
    key: str
    marks: tuple[Mark, ...] = ()


Box = tuple[float, float, float, float]


class Painter:
    """Draws one scene. level: from 0, the shortest words, to 1, all that a kind can show."""

    def __init__(self, kind: str, split: str, seed: int, size: tuple[int, int] | None = None,
                 level: float = 1.0, strength: float = 1.0):  # fmt: skip
        self.test, self.kind, self.level, self.strength = is_test(split), kind, level, strength
        self.rng = random.Random(f"scenes/{kind}/{split}/{seed}")
        self.width, self.height = self.size = size or self.rng.choice(SIZES[kind])
        self.face = self.rng.choice(TEST_FACES if self.test else TRAIN_FACES)

    # ------------------------------------------------------------------ parts
    def shown(self, draw: Callable[[], tuple]) -> tuple:
        """Draw values until they lie in this split; return them."""
        while True:
            values = draw()
            if held_out(*values) == self.test:
                return values

    def shade(self, colour: tuple[int, ...], by: int = 14) -> tuple[int, ...]:
        """Return the colour in another light: each channel up to `by` of 255 away."""
        return tuple(max(0, min(255, c + self.rng.randint(-by, by))) for c in colour)

    def begin(self, ground: tuple[int, ...], degrees: float, stretch: float = 0.0) -> None:
        """Start a picture that will be tilted by up to `degrees` and stretched by up to a share."""
        rng, strength = self.rng, self.strength
        self.ground = self.shade(ground, 8)
        self.image = Image.new("RGB", self.size, self.ground)
        self.draw = ImageDraw.Draw(self.image)
        self.pen = Pen(self.draw)
        self.marks: list[Mark] = []
        angle = rng.uniform(-degrees, degrees) * strength if rng.random() < 0.8 else 0.0
        self.tilt = Tilt(self.size, angle, 1 + rng.uniform(-stretch, stretch) * strength)
        share = self.tilt.inside()
        self.margin_x = (1 - share) * self.width / 2
        self.margin_y = (1 - share) * self.height / 2

    def finish(self, questions: list[Question], description: str, shown: tuple) -> Scene:
        """Return the scene: the picture tilted and photographed."""
        image = photograph(self.tilt.apply(self.image, self.ground), self.rng, self.strength)
        letters = tuple(
            Letter(mark.character, *self.tilt.point(mark.x, mark.y), mark.string, mark.place)
            for mark in self.pen.letters
        )
        key = f"{self.kind}|{shown}" + (f"|{self.face}" if letters else "")
        marks = tuple(self.marks)
        return Scene(self.kind, image, tuple(questions), letters, description, key, marks)

    def invented(self, longest: int) -> str:
        """Return a word that is on no list: syllables, or letters at random."""
        rng = self.rng
        while True:
            if rng.random() < 0.5:
                word = rng.choice(ONSETS) + rng.choice(MIDDLES) + rng.choice(("", *ENDINGS))
            else:
                letters = "abcdefghijklmnopqrstuvwxyz"
                word = "".join(rng.choices(letters, k=rng.randint(1, longest)))
            word = word[:longest]
            word = word.capitalize() if rng.random() < 0.5 else word.lower()
            if word not in WORDS and word[0] not in NO_CASE:
                return word

    # ------------------------------------------------------------------ flags
    def flag(self, box: Box, pattern: str, colour: str, mark: str) -> None:
        """Draw a flag into a box: `colour` with `mark` on it."""
        fill, mark_fill = self.shade(COLOURS[colour]), self.shade(COLOURS[mark])
        draw_flag(self.draw, box, pattern, fill, mark_fill)

    def flags(self) -> Scene:
        """Draw one to six flags in front of the sea; colour, pattern, count, place and boxes."""
        rng = self.rng
        self.begin(rng.choice(SEA), 10)
        columns, rows = max(2, self.width // 56), max(2, self.height // 56)
        names = list(COLOURS)

        def draw() -> tuple:
            count = rng.randint(1, min(6, columns * rows))
            cells = sorted(rng.sample(range(columns * rows), count))
            return tuple((cell, rng.choice(PATTERNS), *rng.sample(names, 2)) for cell in cells)

        flags = self.shown(draw)
        if rng.random() < 0.5:  # a horizon
            line = self.height * rng.uniform(0.3, 0.8)
            water = self.shade((120, 160, 190), 20)
            self.draw.rectangle((0, line, self.width, self.height), fill=water)
        room_x = (self.width - 2 * self.margin_x) / columns
        room_y = (self.height - 2 * self.margin_y) / rows
        boxes = []
        for cell, pattern, colour, mark in flags:
            w = min(room_x - 4, rng.uniform(24, 50))
            h = min(room_y - 4, w * rng.uniform(0.65, 0.9))
            x = self.margin_x + room_x * (cell % columns) + rng.uniform(2, room_x - w - 1)
            y = self.margin_y + room_y * (cell // columns) + rng.uniform(2, room_y - h - 1)
            box = (round(x), round(y), round(x + w), round(y + h))
            if rng.random() < 0.5:  # its staff
                self.draw.line((x, y - 2, x, y + h * 1.5), fill=(90, 70, 50), width=2)
            self.flag(box, pattern, colour, mark)
            boxes.append(self.tilt.box(box))
            labels = {"colour": names.index(colour), "pattern": PATTERNS.index(pattern)}
            self.marks.append(Mark(boxes[-1], boxes[-1], labels))
        questions = self.flag_questions(flags, boxes)
        listed = ", ".join(f"{c} ({p})" for _, p, c, _ in flags)
        return self.finish(questions, f"{len(flags)} signal flags: {listed}.", flags)

    def flag_questions(self, flags: tuple, boxes: list[tuple[int, ...]]) -> list[Question]:
        """Return one question of each task that these flags allow."""
        rng = self.rng
        patterns, colours = [f[1] for f in flags], [f[2] for f in flags]
        questions = [Question("count", "How many flags are there?", str(len(flags)))]
        if len(set(colours)) < len(colours) or rng.random() < 0.3:
            colour = rng.choice(colours)
            prompt = f"How many {colour} flags are there?"
            questions.append(Question("count", prompt, str(colours.count(colour))))
        if single := [p for p in patterns if patterns.count(p) == 1]:
            pattern = rng.choice(single)
            prompt = {
                "plain": "What colour is the plain flag?",
                "cross": "What colour is the flag behind the cross?",
                "stripes": "What colour is the flag behind the stripes?",
                "border": "What colour is the border of the flag?",
                "disc": "What colour is the flag behind the disc?",
            }[pattern]
            questions.append(Question("colour", prompt, colours[patterns.index(pattern)]))
        if single := [c for c in colours if colours.count(c) == 1]:
            colour = rng.choice(single)
            place = colours.index(colour)
            pattern = patterns[place]
            on = {"plain": "nothing", "stripes": "stripes"}.get(pattern, f"a {pattern}")
            questions.append(Question("pattern", f"What is on the {colour} flag?", on))
            answer = grounding([(boxes[place], f"{colour} flag")])
            questions.append(Question("boxes", f"Where is the {colour} flag?", answer))
        if len(flags) <= 3:
            answer = grounding([(b, f"{c} flag") for b, c in zip(boxes, colours, strict=True)])
            questions.append(Question("boxes", "Where are the flags?", answer))
        side, (axis, most) = rng.choice(list(SIDES.items()))
        middles = [(box[axis] + box[axis + 2]) / 2 for box in boxes]
        best = most(middles)
        if len(flags) > 1 and sum(abs(m - best) < 8 for m in middles) == 1:
            prompt = f"What colour is the flag {side}?"
            questions.append(Question("position", prompt, colours[middles.index(best)]))
        return questions

    # ------------------------------------------------------------------ tide gauges
    def gauge(self) -> Scene:
        """Draw a tide gauge: a number on a board, or water at a staff with marks."""
        rng = self.rng
        self.begin(rng.choice(SEA), 6)
        if rng.random() < 0.5:
            metres = self.shown(lambda: ("board", rng.randint(0, 99)))[1] / 10
            self.board(f"{metres:.1f}")
            what = "A board of a tide gauge"
        else:
            metres = self.shown(lambda: ("staff", rng.randint(1, 11), rng.randint(0, 9)))[1] / 2
            self.staff(metres)
            what = "A staff in the water"
        answer = f"{metres:.1f} m"
        prompt = rng.choice(("What does the tide gauge show?", "How high is the water?"))
        question = Question("gauge", prompt, answer)
        return self.finish([question], f"{what} that shows {answer}.", (what, metres))

    def board(self, number: str) -> None:
        """Draw a number on a board."""
        rng = self.rng
        dark = rng.random() < 0.3
        ink, ground = ((245, 245, 240), (40, 60, 110)) if dark else ((25, 25, 25), (250, 245, 225))
        room = self.width - 2 * self.margin_x - 16
        size = fitting(self.face, rng.randint(22, 44), number, room)
        wide = width(self.face, size, number)
        x = rng.uniform(self.margin_x + 7, self.width - self.margin_x - 7 - wide)
        low, high = self.margin_y + size + 4, self.height - self.margin_y - 7
        y = rng.uniform(min(low, high), high)
        frame = (x - 6, y - 0.85 * size - 3, x + wide + 6, y + 7)
        self.draw.rectangle(frame, fill=self.shade(ground), outline=(90, 90, 90))
        self.pen.write(x, y, number, self.face, size, self.shade(ink), string=0)

    def staff(self, metres: float) -> None:
        """Draw a staff numbered at each metre from 0 to 6, with water up to `metres`."""
        rng = self.rng
        bottom, top = self.height - self.margin_y - 10, self.margin_y + 10
        step = (bottom - top) / 6
        level = bottom - step * metres
        size = max(10, min(16, round(step * 0.85)))
        x = rng.uniform(self.margin_x + 20, self.width - self.margin_x - 42)
        right = x + rng.uniform(8, 14)
        self.draw.rectangle((x, top - 6, right, bottom + 6), fill=self.shade((250, 245, 225)))
        for number in range(7):
            y = bottom - step * number
            self.draw.line((x, y, right, y), fill=(150, 30, 30), width=2)
            if number < 6:
                middle = y - step / 2
                self.draw.line((x, middle, (x + right) / 2, middle), fill=(150, 30, 30))
            where = y + X_SHIFT * size
            self.pen.write(right + 4, where, str(number), self.face, size, (25, 25, 25))
        water = self.shade((70, 110, 170), 16)
        self.draw.rectangle((0, level, x - 1, self.height), fill=water)
        self.draw.rectangle((right + 18, level, self.width, self.height), fill=water)
        self.draw.line((0, level, self.width, level), fill=water, width=2)

    # ------------------------------------------------------------------ catch charts
    def chart(self) -> Scene:
        """Draw a chart of the catch with an axis and a unit; tallest, how many, one value."""
        rng = self.rng
        self.begin(rng.choice(PAPERS), 3)

        def draw() -> tuple:
            count = rng.randint(2, 5)
            return tuple(zip(rng.sample(CATCH, count), rng.sample(range(1, 11), count),
                             strict=True))  # fmt: skip

        bars = self.shown(draw)
        top, unit = rng.choice(TOPS), rng.choice(UNITS)
        self.axes(bars, top, unit)
        kinds = [kind for kind, _ in bars]
        steps = [step for _, step in bars]
        values = [step * top // 10 for step in steps]
        word, most = rng.choice((("tallest", max), ("shortest", min)))
        best = kinds[steps.index(most(steps))]
        place = rng.randrange(len(bars))
        value = f"{values[place]} {unit}"
        questions = [
            Question("tallest", f"Which bar is the {word}?", best, (best,)),
            Question("how_many", "How many bars does the chart have?", str(len(bars))),
            Question("value", f"How much {kinds[place]} was caught?", value),
        ]
        listed = ", ".join(f"{k} {v}" for k, v in zip(kinds, values, strict=True))
        return self.finish(questions, f"A chart of the catch in {unit}: {listed}.", bars)

    def axes(self, bars: tuple, top: int, unit: str) -> None:
        """Draw the bars with the names below, the axis on the left and the unit above it."""
        rng, draw, pen = self.rng, self.draw, self.pen
        ink = self.shade((40, 40, 45))
        scale = min(self.width / 196, self.height / 168)
        size = rng.randint(round(11 * scale), round(13 * scale))
        start, end = self.margin_x + 8 + 2.2 * size, self.width - self.margin_x - 3
        low = self.height - self.margin_y - 6 - size
        high = self.margin_y + 8 + 1.6 * size
        step = (low - high) / 10
        pen.write(self.margin_x + 4, self.margin_y + 2 + size, unit, self.face, size, ink)
        for tick in range(0, 11, 2):
            y = low - step * tick
            text = str(tick * top // 10)
            x = start - 4 - width(self.face, size, text)
            pen.write(x, y + X_SHIFT * size, text, self.face, size, ink)
            draw.line((start, y, end, y), fill=self.shade((200, 200, 205), 6))
        draw.line((start, high - 4, start, low), fill=ink)
        draw.line((start, low, end, low), fill=ink)
        room = (end - start) / len(bars)
        colours = list(CRAYONS.values())
        same = rng.choice(colours) if rng.random() < 0.4 else None
        printed = rng.random() < 0.3
        names = max((kind for kind, _ in bars), key=len)
        name_size = fitting(self.face, size, names, room - 3, smallest=8)
        for place, (kind, height) in enumerate(bars):
            x = start + place * room
            gap = room * rng.uniform(0.1, 0.22)
            bar = (round(x + gap), round(low - step * height), round(x + room - gap), round(low))
            draw.rectangle(bar, fill=self.shade(same or rng.choice(colours)), outline=(60, 60, 60))
            column = self.tilt.box((x, high, x + room, low + 3 + name_size))  # with its name
            labels = {"step": height - 1, "top": TOPS.index(top)}
            self.marks.append(Mark(self.tilt.box(bar), column, labels))
            middle = x + room / 2 - width(self.face, name_size, kind) / 2
            string = place if len(bars) <= 8 else -1
            pen.write(middle, low + 3 + 0.8 * name_size, kind, self.face, name_size, ink, string)
            if printed:
                text = str(height * top // 10)
                middle = x + room / 2 - width(self.face, size, text) / 2
                pen.write(middle, low - step * height - 2, text, self.face, size, ink)

    # ------------------------------------------------------------------ notices
    def notice(self) -> Scene:
        """Draw a printed notice of one to three words, known or invented."""
        rng = self.rng
        self.begin(rng.choice(PAPERS), 10 if self.height > 60 else 5, 0.1)
        longest = max(2, round(10 * min(1.0, self.level * 1.2)))
        most = 1 + round(2 * self.level)
        new = rng.random() < 0.5

        def draw() -> tuple[str, ...]:
            count = rng.randint(1, most)
            if new:
                return tuple(self.invented(longest) for _ in range(count))
            known = [w for w in rng.sample(WORDS, 40) if len(w) <= longest] or ["sea"]
            words = tuple(rng.choice(known) for _ in range(count))
            style = rng.choice((str, str, str.capitalize, str.upper))
            if all(letter in NO_CASE for word in words for letter in word):
                style = str.lower
            return tuple(map(style, words))

        words = draw()
        lines = self.lines(words)
        room_x = self.width - 2 * self.margin_x - 12
        room_y = (self.height - 2 * self.margin_y - 6) / len(lines)
        size = rng.randint(16, max(17, round(min(40, room_y * 0.85))))
        for line in lines:
            size = fitting(self.face, size, " ".join(line), room_x)
        ink = self.shade(rng.choice(INKS), 10)
        if rng.random() < 0.3:
            edge = (self.margin_x + 1, self.margin_y + 1,
                    self.width - self.margin_x - 2, self.height - self.margin_y - 2)  # fmt: skip
            self.draw.rectangle(edge, outline=ink)
        self.print_lines(lines, size, room_y, ink)
        text = " ".join(words)
        prompt = rng.choice(("What does the notice say?", "Read the notice."))
        question = Question("printed_invented" if new else "printed", prompt, text, (text,))
        return self.finish([question], f'A notice that says "{text}".', words)

    def lines(self, words: tuple[str, ...]) -> list[list[str]]:
        """Return the words in lines that are neither too many nor too long for the picture."""
        most = max(1, int((self.height - 2 * self.margin_y) / 30))
        letters = (self.width - 2 * self.margin_x) / 12
        lines: list[list[str]] = [[]]
        for word in words:
            long = len(" ".join([*lines[-1], word])) > letters
            if lines[-1] and len(lines) < most and (long or self.rng.random() < 0.5):
                lines.append([])
            lines[-1].append(word)
        return lines

    def print_lines(self, lines: list[list[str]], size: int, room: float,
                    ink: tuple[int, ...]) -> None:  # fmt: skip
        """Print lines below each other, all as far from the left or all in the middle."""
        rng, string = self.rng, 0
        wide = max(width(self.face, size, " ".join(line)) for line in lines)
        farthest = max(self.margin_x + 7, self.width - self.margin_x - 6 - wide)
        start = rng.uniform(self.margin_x + 6, farthest)
        middle = rng.random() < 0.5
        slack = max(0.0, room - size) * len(lines)
        y = self.margin_y + 3 + rng.uniform(0, slack)
        for line in lines:
            y += min(room, size * 1.35) if line is not lines[0] else 0.8 * size
            line_width = width(self.face, size, " ".join(line))
            x = start + (wide - line_width) / 2 if middle else start
            for word in line:
                x = self.pen.write(x, y, word + " ", self.face, size, ink, string)
                string += 1

    # ------------------------------------------------------------------ order forms
    def form(self) -> Scene:
        """Draw an order form with five fields; the answer is the order as JSON."""
        rng = self.rng
        self.begin(rng.choice(PAPERS), 10)

        def draw() -> tuple:
            names = world.NAMES
            longest = max(4, round(10 * self.level))
            customer = rng.choice(names) if rng.random() < 0.75 else self.customer(longest)
            good = rng.choice(list(world.GOODS))
            day = rng.choice(world.DAYS)
            return customer, good, rng.randint(1, 40), day, rng.randint(2, 99)

        values = self.shown(draw)
        room_x, room_y = self.width - 2 * self.margin_x, self.height - 2 * self.margin_y
        ink, head = self.shade((30, 30, 35)), self.shade(rng.choice(INKS))
        row = (room_y - 10) / 6
        size = min(rng.randint(13, 20), round(row * 0.62))
        size = fitting(self.face, size, "customer" + "Wednesday", room_x - 30)
        x, y = self.margin_x + 8, self.margin_y + 4 + row * 0.75
        title = rng.choice(("ORDER", "Order form", "PORT LARK", "Order"))
        self.pen.write(x, y, title, self.face, round(size * 1.15), head)
        column = x + width(self.face, size, "customer") + rng.uniform(12, 18)
        hand = rng.choice(INKS) if rng.random() < 0.5 else (30, 30, 35)
        order = list(range(5))
        if rng.random() < 0.3:
            rng.shuffle(order)
        ruled = rng.random() < 0.6
        for string in order:
            y += row
            self.pen.write(x, y, FIELDS[string], self.face, size, ink)
            text = str(values[string])
            self.pen.write(column, y, text, self.face, size, self.shade(hand, 8), string)
            if ruled:
                end = self.width - self.margin_x - 6
                self.draw.line((x, y + 0.3 * size, end, y + 0.3 * size), fill=(170, 170, 170))
        fields = dict(zip(FIELDS, values, strict=True))
        prompt = rng.choice(("Write the order as JSON.", "Read the form as JSON."))
        spelled = (values[0], values[1], values[3])
        question = Question("form", prompt, json.dumps(fields), spelled)
        listed = ", ".join(f"{name} {value}" for name, value in fields.items())
        return self.finish([question], f"An order form: {listed}.", values)

    def customer(self, longest: int) -> str:
        """Return an invented name."""
        while True:
            name = self.invented(longest).capitalize()
            if len(name) > 2 and name[0] not in NO_CASE:
                return name


X_SHIFT = 0.36  # of the size: how far the baseline is below the middle of a digit


def grounding(boxes: list[tuple[tuple[int, ...], str]]) -> str:
    """Return boxes with labels in the JSON that Qwen2.5-VL writes, in pixels of the picture."""
    return json.dumps([{"bbox_2d": list(box), "label": label} for box, label in boxes])


def scene(kind: str, seed: int, split: str = "test", size: tuple[int, int] | None = None,
          level: float = 1.0, strength: float = 1.0) -> Scene:  # fmt: skip
    """Return one scene. size: (width, height) in pixels, by default one of `SIZES`.

    level: how long the words may be, 0 to 1. strength: of tilt, shadow, blur and noise. Raises
    ValueError for an unknown kind or split.
    """
    if kind not in SIZES:
        raise ValueError(f"no kind {kind!r}; there are {', '.join(KINDS)}")
    return getattr(Painter(kind, split, seed, size, level, strength), kind)()


def questions(task: str, count: int, seed: int = 0,
              split: str = "test") -> Iterator[tuple[Scene, Question]]:  # fmt: skip
    """Yield `count` scenes with one question each of a task. Raises ValueError for another task."""
    if task not in TASKS:
        raise ValueError(f"no task {task!r}; there are {', '.join(TASKS)}")
    number = seed * 1_000_000
    while count > 0:
        number += 1
        picture = scene(TASKS[task], number, split)
        matching = [q for q in picture.questions if q.task == task]
        if matching:
            count -= 1
            yield picture, matching[0]
