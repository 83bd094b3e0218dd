"""Exercise 2.5: read the head of a GGUF file."""

import contextlib
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from openmodels.check import NotYet, WrongAnswer, exercise, expect_type
from openmodels.exercises.known_mistakes import diagnose, pair_answers
from openmodels.exercises.lab2.fixtures import shorten
from openmodels.gguf import header
from openmodels.gguf.export import gguf_file

# Bytes of GGUF's plain types by number.
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
DATA_START = 24  # of the first metadata entry: after letters, version and both counts

Counts = tuple[int, int, int]  # version, tensors, metadata entries


# --- The reference solution -----------------------------------------------------------------------


def reference_counts(file: Path, *, start: int = 4, layout: str = "<IQQ") -> Counts:
    """Return version, tensors and metadata entries; another start or layout is a mistake."""
    data = Path(file).read_bytes()
    if data[:4] != b"GGUF":
        raise ValueError("no GGUF file")
    return struct.unpack_from(layout, data, start)


class HeadReader:
    """Reads the metadata of a GGUF file from entry to entry. Subclasses make mistakes."""

    def __init__(self, file: Path):
        self.data = Path(file).read_bytes()
        self.place = DATA_START

    def read_number(self, layout: str) -> int:
        """Return the number at the current place and move behind it."""
        (value,) = struct.unpack_from("<" + layout, self.data, self.place)
        self.place += struct.calcsize("<" + layout)
        return value

    def read_string(self) -> bytes:
        """Return the text at the current place and move behind it."""
        size = self.read_number("Q")
        self.place += size
        return self.data[self.place - size : self.place]

    def read_value(self, kind: int) -> bytes | None:
        """Move behind a value of this type; return it if it is a text."""
        if kind == STRING:
            return self.read_string()
        if kind == ARRAY:
            self.skip_array()
        else:
            self.skip_number(kind)
        return None

    def skip_array(self) -> None:
        """Move behind an array."""
        inner, count = self.read_number("I"), self.read_number("Q")
        for _ in range(count):
            self.read_value(inner)

    def skip_number(self, kind: int) -> None:
        """Move behind a value of a plain type."""
        self.place += WIDTHS.get(kind, 8)

    def find(self, key: str) -> bytes:
        """Return the text of an entry. Raises KeyError if there is no such text."""
        (entries,) = struct.unpack_from("<Q", self.data, 16)
        for _ in range(entries):
            name, kind = self.read_string(), self.read_number("I")
            value = self.read_value(kind)
            if name == key.encode() and value is not None:
                return value
        raise KeyError(key)


def reference_text(file: Path, key: str, reader: type[HeadReader] = HeadReader) -> str:
    """Return the text of a metadata entry; another reader makes a mistake."""
    return reader(file).find(key).decode()


# --- Known mistakes -------------------------------------------------------------------------------


def counts_swapped(file: Path) -> Counts:
    version, tensors, entries = reference_counts(file)
    return version, entries, tensors


def counts_of_any_file(file: Path) -> Counts:
    return struct.unpack_from("<IQQ", Path(file).read_bytes(), 4)


class ArraysAsNumbers(HeadReader):
    def skip_array(self) -> None:
        self.skip_number(ARRAY)


class TextsInArraysForgotten(HeadReader):
    def skip_array(self) -> None:
        inner, count = self.read_number("I"), self.read_number("Q")
        for _ in range(0 if inner == STRING else count):
            self.read_value(inner)


class LengthsOfFourBytes(HeadReader):
    def read_string(self) -> bytes:
        size = self.read_number("I")
        self.place += size
        return self.data[self.place - size : self.place]


class NumbersOfFourBytes(HeadReader):
    def skip_number(self, kind: int) -> None:
        self.place += 4


def text_by_search(file: Path, key: str) -> str:
    data = Path(file).read_bytes()
    place = data.index(key.encode()) + len(key.encode()) + 4
    (size,) = struct.unpack_from("<Q", data, place)
    return data[place + 8 : place + 8 + size].decode(errors="replace")


def text_as_bytes(file: Path, key: str) -> bytes:
    return HeadReader(file).find(key)


def text_or_none(file: Path, key: str) -> str | None:
    try:
        return reference_text(file, key)
    except KeyError:
        return None


COUNT_MISTAKES = [
    WrongAnswer(
        "four letters forgotten", partial(reference_counts, start=0),
        "The first four bytes are the letters GGUF; the version stands at byte 4.",
    ),
    WrongAnswer(
        "big endian", partial(reference_counts, layout=">IQQ"),
        "GGUF is little-endian: the format begins with `<`.",
    ),
    WrongAnswer(
        "swapped", counts_swapped,
        "The tensors are counted first, then the metadata entries.",
    ),
    WrongAnswer(
        "counts of four bytes", partial(reference_counts, layout="<III"),
        "The version has four bytes, both counts have eight: `Q`.",
    ),
    WrongAnswer(
        "aligned", partial(reference_counts, layout="@IQQ"),
        "Without `<`, struct pads the version to eight bytes, as C does.",
    ),
]  # fmt: skip
TEXT_MISTAKES = [
    WrongAnswer(
        "arrays as numbers", partial(reference_text, reader=ArraysAsNumbers),
        "an array holds the type",
    ),
    WrongAnswer(
        "texts in arrays", partial(reference_text, reader=TextsInArraysForgotten),
        "each text has a length of its own",
    ),
    WrongAnswer(
        "lengths of four bytes", partial(reference_text, reader=LengthsOfFourBytes),
        "length of a text has eight bytes",
    ),
    WrongAnswer("searched", text_by_search, "key may stand within a value"),
    WrongAnswer("bytes", text_as_bytes, "decode it"),
    WrongAnswer("None for a missing key", text_or_none, "no key ... KeyError"),
    WrongAnswer(
        "every number four bytes", partial(reference_text, reader=NumbersOfFourBytes),
        "a truth value has one byte",
    ),
]  # fmt: skip


# --- Files for the checker ------------------------------------------------------------------------


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _list(kind: int, *values: bytes) -> bytes:
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


# Each entry, and what a reader must know to get past it ("" if it is not hard).
ENTRIES = {
    "port.motto": (_entry("port.motto", STRING, _text("Ask for port.name")), ""),
    "port.open": (_entry("port.open", 7, b"\x01"), "a truth value has one byte, not four"),
    "port.depth": (_entry("port.depth", 12, struct.pack("<d", 7.5)), "type 12 has eight bytes"),
    "port.tides": (
        _entry("port.tides", ARRAY, _list(5, *(struct.pack("<i", n) for n in (3, 9, 15)))),
        "an array holds the type of its values, their number, and the values",
    ),
    "port.ships": (
        _entry("port.ships", ARRAY, _list(STRING, _text("Gull"), _text("Møwe"))),
        "in an array of texts each text has a length of its own",
    ),
    "port.name": (_entry("port.name", STRING, _text("Port Lark, 百灵港")), ""),
    "port.end": (_entry("port.end", STRING, _text("the quay")), "lengths count bytes"),
}  # fmt: skip


@contextlib.contextmanager
def write_file(*keys: str) -> Iterator[Path]:
    """Yield a GGUF file without tensors that has these entries in this order."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "port.gguf"
        entries = [ENTRIES[key][0] for key in keys]
        file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(entries))
        yield file


# --- The checker ----------------------------------------------------------------------------------


@exercise(
    "2.5",
    wrong=[
        *pair_answers(COUNT_MISTAKES, second=reference_text),
        WrongAnswer("any file", (counts_of_any_file, reference_text), "PNG ... ValueError"),
        WrongAnswer(
            "two numbers",
            (lambda file: reference_counts(file)[:2], reference_text),
            "three numbers",
        ),
        *pair_answers(TEXT_MISTAKES, first=reference_counts),
    ],
)
def check_gguf(gguf_counts: Callable[[Path], Counts], gguf_text: Callable[[Path, str], str]) -> str:
    """Judge `gguf_counts(file)` and `gguf_text(file, key)`."""
    file = gguf_file("mini-qwen-xs")
    counts = _expect_counts(gguf_counts, file)
    _expect_refusal(gguf_counts)
    _expect_written_texts(gguf_text)
    metadata = header.read(file).metadata
    texts = {key: value for key, value in metadata.items() if isinstance(value, str)}
    for key, value in texts.items():
        _expect_text(gguf_text, ("mini-qwen-xs", file), key, value)
    return (
        f"version {counts[0]}, {counts[1]} tensors, {counts[2]} entries; all {len(texts)} texts of "
        "mini-qwen-xs come out as the course's own reader gives them."
    )


def _expect_counts(gguf_counts: Callable, file: Path) -> Counts:
    """Return version, tensors and entries of a file; raise NotYet unless the answer has them."""
    expected = reference_counts(file)
    counts = gguf_counts(file)
    expect_type(counts, (tuple, list), "what `gguf_counts` returned")
    if len(counts) != 3:
        raise NotYet(f"`gguf_counts` returned {len(counts)} numbers, expected three numbers.")
    if tuple(counts) != expected:
        why = diagnose(gguf_counts, [(file,)], COUNT_MISTAKES)
        raise NotYet(
            f"of mini-qwen-xs you read {tuple(counts)}, expected {expected}: version, tensors, "
            f"metadata entries. {why}".strip()
        )
    return expected


def _expect_refusal(gguf_counts: Callable) -> None:
    """Raise NotYet unless a file of another format raises ValueError."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "quay.gguf"
        picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
        try:
            counts = gguf_counts(picture)
        except ValueError:
            return
        raise NotYet(
            f"a PNG picture that is named quay.gguf gives {counts}, expected a ValueError: look at "
            "the first four bytes."
        )


def _expect_written_texts(gguf_text: Callable) -> None:
    """Raise NotYet unless the texts of files with one, two and all entries are read."""
    with write_file("port.motto") as file:
        why = "The length of a text has eight bytes, `Q`, and counts them, not characters."
        place = ("a file of one entry", file)
        _expect_text(gguf_text, place, "port.motto", "Ask for port.name", why)
    for key, (_, trap) in ENTRIES.items():
        if key in ("port.motto", "port.name"):
            continue
        with write_file(*dict.fromkeys([key, "port.end"])) as file:
            why = f"{key!r} stands before it: {trap}." if trap else ""
            place = ("a file of two entries", file)
            _expect_text(gguf_text, place, "port.end", "the quay", why)
    with write_file(*ENTRIES) as file:
        why = "A key may stand within a value: walk from entry to entry."
        place = ("a file of seven entries", file)
        _expect_text(gguf_text, place, "port.name", "Port Lark, 百灵港", why)
        _expect_text(gguf_text, place, "port.end", "the quay", why)
        _expect_missing(gguf_text, file)


def _expect_text(
    gguf_text: Callable, place: tuple[str, Path], key: str, expected: str, why: str = ""
) -> None:
    """Raise NotYet unless a text is read. place: what the file is called, and the file."""
    what, file = place
    try:
        text = gguf_text(file, key)
    except (struct.error, UnicodeError, IndexError, KeyError, ValueError, MemoryError,
            OverflowError) as error:  # fmt: skip
        name = "struct.error" if isinstance(error, struct.error) else type(error).__name__
        stopped = f"your code stopped with {name}: {error}"
        raise NotYet(f"{what}: looking for {key!r}, {stopped}. {why}".strip()) from error
    if isinstance(text, bytes):
        raise NotYet(f"{what}: {key!r} came back as bytes, expected str: decode it.")
    if text != expected:
        text, expected = shorten(str(text)), shorten(expected)
        raise NotYet(f"{what}: {key!r} came back as {text}, expected {expected}. {why}".strip())


def _expect_missing(gguf_text: Callable, file: Path) -> None:
    """Raise NotYet unless a key that the file lacks raises KeyError."""
    try:
        text = gguf_text(file, "port.harbourmaster")
    except KeyError:
        return
    raise NotYet(f"there is no key 'port.harbourmaster', and you return {text!r}; raise KeyError.")
