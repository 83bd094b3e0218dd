"""Printed words for pictures: typefaces that packages ship, and where each letter stands.

Some faces are held out: they appear in test pictures alone.
"""

import importlib.util
import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

DEFAULT = "Aileron"  # the face that PIL itself contains
TRAIN_FACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono",
    "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip
TEST_FACES = (
    "DejaVuSerif", "DejaVuSans-BoldOblique", "DejaVuSansMono-BoldOblique", "STIXGeneralBol",
    "cmb10", DEFAULT,
)  # fmt: skip
X_HEIGHT = 0.27  # of the size: how far a small letter's middle is above the baseline


@lru_cache(maxsize=1)
def folder() -> Path:
    """Return the folder of matplotlib's typefaces, without importing matplotlib.

    Raises FileNotFoundError if matplotlib is not installed.
    """
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("printed words need matplotlib, which ships the typefaces")
    return Path(next(iter(spec.submodule_search_locations))) / "mpl-data" / "fonts" / "ttf"


@lru_cache(maxsize=4096)
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a face in a size in pixels."""
    if face == DEFAULT:
        return ImageFont.load_default(size)
    return ImageFont.truetype(
        str(folder() / f"{face}.ttf"), size, layout_engine=ImageFont.Layout.BASIC
    )


@lru_cache(maxsize=200_000)
def advance(face: str, size: int, letter: str) -> float:
    """Return how many pixels a letter takes on its line."""
    return font(face, size).getlength(letter)


def width(face: str, size: int, text: str) -> float:
    """Return how many pixels wide a text is, kerning aside."""
    return sum(advance(face, size, letter) for letter in text)


def fitting(face: str, size: int, text: str, room: float, smallest: int = 9) -> int:
    """Return the largest size up to `size` in which the text fits into `room` pixels."""
    needed = width(face, size, text)
    if needed > room:
        size = max(smallest, int(size * room / needed))
    return size


@dataclass(frozen=True)
class Letter:
    """A printed letter. x, y: its middle, in pixels of the picture.

    string: which of the picture's answers it belongs to, counted from 0, or -1 if to none.
    place: its place in that answer, counted from 0.
    """

    character: str
    x: float
    y: float
    string: int = -1
    place: int = 0


@dataclass(frozen=True)
class Tilt:
    """A turn about the middle of a picture and a stretch of its width.

    size: (width, height) of the picture in pixels; degrees: positive is anticlockwise.
    """

    size: tuple[int, int]
    degrees: float = 0.0
    stretch: float = 1.0

    def matrix(self) -> tuple[float, float, float, float]:
        """Return (a, b, c, d): where a step to the right and a step down lead."""
        angle = math.radians(self.degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        return cos * self.stretch, sin, -sin * self.stretch, cos

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the upright picture is afterwards."""
        (a, b, c, d), (cx, cy) = self.matrix(), (self.size[0] / 2, self.size[1] / 2)
        x, y = x - cx, y - cy
        return cx + a * x + b * y, cy + c * x + d * y

    def box(self, box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
        """Return the upright box (left, top, right, bottom) around a tilted one."""
        x0, y0, x1, y1 = box
        corners = [self.point(x, y) for x in (x0, x1) for y in (y0, y1)]
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        width, height = self.size
        return (
            max(0, round(min(xs))), max(0, round(min(ys))),
            min(width, round(max(xs))), min(height, round(max(ys))),
        )  # fmt: skip

    def inside(self) -> float:
        """Return the share of width and height that stays in the picture however it is filled."""
        (a, b, c, d), (w, h) = self.matrix(), self.size
        across, down = abs(a) * w + abs(b) * h, abs(c) * w + abs(d) * h
        return min(1.0, w / across, h / down)

    def apply(self, image: Image.Image, fill: tuple[int, ...]) -> Image.Image:
        """Return the picture tilted; what comes in at its corners has the colour `fill`."""
        if self.degrees == 0 and self.stretch == 1:
            return image
        a, b, c, d = self.matrix()
        scale = a * d - b * c
        a, b, c, d = d / scale, -b / scale, -c / scale, a / scale  # from the result to the source
        cx, cy = self.size[0] / 2, self.size[1] / 2
        back = (a, b, cx - a * cx - b * cy, c, d, cy - c * cx - d * cy)
        return image.transform(
            self.size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR, fillcolor=fill
        )


@dataclass
class Pen:
    """Writes on a picture and notes where each letter stands."""

    draw: ImageDraw.ImageDraw
    letters: list[Letter] = field(default_factory=list)

    def write(self, x: float, y: float, text: str, face: str, size: int, fill: tuple[int, ...],
              string: int = -1, place: int = 0) -> float:  # fmt: skip
        """Write from x on the baseline y; return where the next letter would stand.

        string, place: as in `Letter`, for the first letter of the text.
        """
        self.draw.text((x, y), text, font=font(face, size), fill=fill, anchor="ls")
        for number, letter in enumerate(text):
            step = advance(face, size, letter)
            if letter != " ":
                middle = y - X_HEIGHT * size
                self.letters.append(Letter(letter, x + step / 2, middle, string, place + number))
            x += step
        return x
