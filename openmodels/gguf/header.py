"""Reads the header of a GGUF file and checks every length against the file's size.

For files of unknown origin: `read(file)` returns a `Header` or raises ValueError, whatever the
bytes are. It detects a truncated file before llama.cpp maps it.
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import gguf

MAX_COUNT = 1 << 16  # metadata fields, tensors, bytes of a name
# GGUF's value types by number, as struct formats; 8 is a string, 9 an array
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
STRING, ARRAY = 8, 9


@dataclass(frozen=True)
class Header:
    """A GGUF's metadata, with arrays as lists, and its parameters: elements of all tensors."""

    metadata: dict[str, Any]
    parameters: int

    @property
    def architecture(self) -> str:
        """Return llama.cpp's name of the architecture, "" if there is none."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def context(self) -> int:
        """Return the context length in tokens, 0 if the file has none."""
        length = self.metadata.get(f"{self.architecture}.context_length", 0)
        return length if isinstance(length, int) else 0

    @property
    def makes_vectors(self) -> bool:
        """Return whether the file says how hidden states become a text's vector."""
        return f"{self.architecture}.pooling_type" in self.metadata

    @property
    def kind(self) -> str:
        """Return the type of most matrices by Ollama's name, such as "Q4_0"."""
        try:
            name = gguf.LlamaFileType(self.metadata.get("general.file_type")).name
        except ValueError:
            return "unknown"
        return name.removeprefix("ALL_").removeprefix("MOSTLY_")

    def has_token(self, token: str) -> bool:
        """Return whether the vocabulary contains a token."""
        return token in (self.metadata.get("tokenizer.ggml.tokens") or [])


class _Reader:
    """Reads values from bytes in order. Raises ValueError instead of passing the end."""

    def __init__(self, data: mmap.mmap | bytes):
        self.data, self.position = data, 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if size > len(self.data) - self.position:
            raise ValueError("it ends too early")
        self.position += size
        return self.data[self.position - size : self.position]

    def scalar(self, form: str) -> Any:
        """Return the next number, in a format of `struct`."""
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def string(self, max_size: int | None = None) -> str:
        """Return the next string, of at most `max_size` bytes."""
        size = self.scalar("Q")
        if max_size is not None and size > max_size:
            raise ValueError(f"a name of {size} bytes")
        return self.take(size).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        """Return the next metadata value of a type of GGUF."""
        if kind in SCALARS:
            return self.scalar(SCALARS[kind])
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            raise ValueError(f"a value of type {kind}")
        inner, count = self.scalar("I"), self.scalar("Q")
        if inner in SCALARS:
            form = SCALARS[inner]
            size = struct.calcsize(form)
            if count > len(self.data) // size:
                raise ValueError("it ends too early")
            return list(struct.unpack(f"<{count}{form}", self.take(count * size)))
        if inner != STRING or count > len(self.data) // 8:
            raise ValueError(f"an array of {count} values of type {inner}")
        return [self.string() for _ in range(count)]


def read(file: Path | str) -> Header:
    """Return the header of a complete GGUF file. Raises ValueError with what is wrong with it."""
    with Path(file).open("rb") as opened:
        if not opened.seek(0, 2):
            raise ValueError("it is empty")
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(_Reader(data))


def _read(data: _Reader) -> Header:
    if data.take(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version, tensors, fields = data.scalar("I"), data.scalar("Q"), data.scalar("Q")
    if version not in (2, 3):
        raise ValueError(f"version {version}; 2 and 3 are known")
    if tensors > MAX_COUNT or fields > MAX_COUNT:
        raise ValueError(f"{tensors} tensors and {fields} fields are too many")
    metadata: dict[str, Any] = {}
    for _ in range(fields):
        key = data.string(MAX_COUNT)
        metadata[key] = data.value(data.scalar("I"))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment not in [1 << n for n in range(3, 17)]:
        raise ValueError(f"alignment {alignment!r}")
    ends, parameters = [0], 0
    for _ in range(tensors):
        elements, end = _read_tensor(data, alignment)
        ends.append(end)
        parameters += elements
    start = -(-data.position // alignment) * alignment
    if start + max(ends) > len(data.data) and tensors:
        raise ValueError(f"{start + max(ends):,} bytes are announced, {len(data.data):,} are here")
    if not isinstance(metadata.get("general.architecture"), str):
        raise ValueError("it names no architecture")
    return Header(metadata, parameters)


def _read_tensor(data: _Reader, alignment: int) -> tuple[int, int]:
    """Return a tensor's elements, and the byte of the data section at which it ends."""
    name, dimensions = data.string(MAX_COUNT), data.scalar("I")
    if dimensions > 4:
        raise ValueError(f"{name!r} has {dimensions} dimensions")
    shape = [data.scalar("Q") for _ in range(dimensions)]
    kind, offset = data.scalar("I"), data.scalar("Q")
    try:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise ValueError(f"{name!r} is of an unknown type, {kind}") from None
    if 0 in shape or (shape[0] if shape else 1) % block or offset % alignment:
        raise ValueError(f"{name!r} has shape {shape} at {offset}")
    elements = prod(shape)
    return elements, offset + elements // block * size
