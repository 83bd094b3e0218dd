"""Check files that a page sends: pictures and sounds. Nothing uses their bytes before."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_SIDE = 448  # pixels; a browser scales a loaded picture down to this
MAX_PNG_BYTES = 2_000_000
MAX_WAV_BYTES = 8_000_000  # a Jupyter server refuses messages above 10 MB
PNG = b"\x89PNG\r\n\x1a\n"
SIZE_END = 24  # bytes of a PNG after which its width and height are known


def decode_png(data: object) -> Image.Image:
    """Return the picture in a PNG file's bytes, in RGB; transparency becomes white.

    Raises ValueError, with what was wrong, for anything that is not a whole PNG of at most
    MAX_PNG_BYTES bytes and MAX_SIDE pixels a side. The size is checked before decoding.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ValueError(f"the picture is {type(data).__name__}, not the bytes of a PNG file")
    content = bytes(data)
    if len(content) > MAX_PNG_BYTES:
        raise ValueError(
            f"the picture has {len(content):,} bytes; at most {MAX_PNG_BYTES:,} are read"
        )
    if not content.startswith(PNG):
        raise ValueError("the picture is not a PNG file: its first bytes are not a PNG's")
    if len(content) < SIZE_END:
        raise ValueError("the picture cannot be decoded: the file ends in its header")
    width, height = struct.unpack(">II", content[SIZE_END - 8 : SIZE_END])
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError(
            f"the picture has {width:,} x {height:,} pixels; from 1 to {MAX_SIDE} a side are read"
        )
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as source:
            rgba = source.convert("RGBA")
    except UnidentifiedImageError as error:
        raise ValueError("the picture cannot be decoded: its header is damaged") from error
    # PIL raises one of these for a damaged file, depending on the place of the damage.
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, IndexError, KeyError,
            TypeError, OverflowError) as error:  # fmt: skip
        raise ValueError(f"the picture cannot be decoded: {str(error)[:120]}") from error
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def encode_png(image: Image.Image) -> bytes:
    """Return a picture as a PNG file, scaled down to at most MAX_SIDE pixels a side."""
    if max(image.size) > MAX_SIDE:
        image = image.copy()
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BICUBIC)
    output = io.BytesIO()
    image.convert("RGB").save(output, "PNG")
    return output.getvalue()


def decode_wav(content: bytes | memoryview) -> np.ndarray:
    """Return a WAV file's samples at 16 kHz, float32 from -1 to 1, shape (samples,).

    Channels are averaged. Raises ValueError for more than MAX_WAV_BYTES bytes, for anything but
    WAV, and for a damaged, empty or too long sound.
    """
    from openmodels.serving import media, wav  # they load torch
    from openmodels.serving.model_store import ApiError

    if (size := memoryview(content).nbytes) > MAX_WAV_BYTES:
        raise ValueError(f"it has {size / 1e6:.1f} MB, and at most {MAX_WAV_BYTES / 1e6:g} MB fit")
    content = bytes(content)
    try:
        if media.capability_of(content) != media.AUDIO:
            raise ValueError("it is a picture, and a WAV file is needed")
        return wav.decode(content)
    except ApiError as error:
        raise ValueError(str(error)) from error
