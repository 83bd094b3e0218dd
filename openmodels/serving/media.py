"""Pictures and sounds from outside: recognised, checked, and converted to what an engine takes.

`images` of Ollama's API carries both; the leading bytes tell them apart. A request's media are
checked when it is parsed and converted before they reach the engine: a picture to a PNG of the
model's size, a sound to a WAV file of 16 kHz, mono. Bytes, pixels and seconds are limited before
anything is decoded, and no two are decoded at a time. Errors are ApiError(400).
"""

import base64
import binascii
import io
import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from openmodels.gguf.header import Header
from openmodels.minis import images, qwen_vl
from openmodels.serving import wav
from openmodels.serving.model_store import ApiError, Store, StoredModel, header_of

Message = dict[str, Any]
VISION, AUDIO = "vision", "audio"  # the capabilities' names
MAX_BYTES = 20_000_000  # of one picture or sound
MAX_PIXELS = 2**24  # of one picture
MAX_MEDIA = 64  # of one request
MAX_SCANS = 200  # of a JPEG: each is a pass over all pixels
LONGEST_SIDE = 2048  # pixels, of a picture for a model whose size is not known here
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM")
# Other formats, by (offset, bytes): recognised only to say how to convert them
OTHER_SOUNDS = (
    (0, b"ID3", "MP3"), (0, b"\xff\xfb", "MP3"), (0, b"\xff\xf3", "MP3"), (0, b"\xff\xf2", "MP3"),
    (0, b"\xff\xfa", "MP3"), (0, b"\xff\xf1", "AAC"), (0, b"\xff\xf9", "AAC"),
    (0, b"fLaC", "FLAC"), (0, b"OggS", "Ogg"), (0, b"\x1a\x45\xdf\xa3", "WebM"),
    (4, b"ftyp", "MP4"), (0, b"FORM", "AIFF"), (0, b"RIFX", "RIFX"), (0, b"RF64", "RF64"),
    (0, b".snd", "AU"), (0, b"#!AMR", "AMR"),
)  # fmt: skip
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QWEN_VL = "qwen2.5vl_merger"  # llama.cpp's name of the projector
_decoding = threading.Lock()  # so that the limits of one medium limit the memory of all


@dataclass(frozen=True)
class Encoder:
    """What a model's second file, the mmproj, reads.

    capabilities: VISION, AUDIO or both. shape: the sizes of pictures, for a Qwen2.5-VL.
    transposed: the model is a Llama 4 miniature; `export_vision` says why its rows and columns
    are swapped.
    """

    capabilities: frozenset[str]
    shape: qwen_vl.Shape | None = None
    transposed: bool = False


def encoder_of(store: Store, model: StoredModel) -> Encoder | None:
    """Return what a model's mmproj reads, None for a model without; raises ApiError(400)."""
    file = store.mmproj_path(model)
    if file is None:
        return None
    header = header_of(file)
    metadata = header.metadata
    capabilities = {name for name in (VISION, AUDIO) if metadata.get(f"clip.has_{name}_encoder")}
    shape = _qwen_shape(header) if metadata.get("clip.projector_type") == QWEN_VL else None
    transposed = model.miniature is not None and VISION in capabilities and shape is None
    return Encoder(frozenset(capabilities or {VISION}), shape, transposed)


def _qwen_shape(header: Header) -> qwen_vl.Shape:
    """Return the sizes of pictures that an mmproj states, by default those of the full model."""

    def limit(name: str, default: int) -> int:
        value = header.metadata.get(f"clip.vision.image_{name}_pixels")
        return value if type(value) is int and 0 < value <= MAX_PIXELS else default

    smallest = limit("min", 4 * qwen_vl.SQUARE**2)
    largest = limit("max", 1280 * qwen_vl.SQUARE**2)
    return qwen_vl.Shape(min_pixels=min(smallest, largest), max_pixels=largest)


# What a request contains


def check(data: str) -> str:
    """Return a picture or a sound in base64 without line breaks.

    Raises ApiError(400) if it is not base64, too large, or neither a picture nor a WAV file.
    """
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"an image or sound is not valid base64: {error}") from error
    check_size(len(content))
    capability_of(content)
    return base64.b64encode(content).decode()


def check_size(size: int) -> None:
    """Raise ApiError(400) for a picture or sound of more than MAX_BYTES bytes."""
    if size > MAX_BYTES:
        raise ApiError(
            400, f"an image or sound has {size:,} bytes, and at most {MAX_BYTES:,} are read"
        )


def capability_of(content: bytes) -> str:
    """Return VISION for a picture and AUDIO for a WAV file, by the leading bytes.

    Raises ApiError(400) for anything else; a sound in another format gets the advice to convert.
    """
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return AUDIO
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    if is_webp or content.startswith(PICTURES):
        return VISION
    for offset, signature, name in OTHER_SOUNDS:
        if content[offset:].startswith(signature):
            raise ApiError(
                400, f"the sound is {name}, and only WAV is read here. Convert it first, for "
                f"example with `{wav.FFMPEG}`",
            )  # fmt: skip
    raise ApiError(400, "an image must be PNG, JPEG, WebP, GIF or BMP, and a sound WAV, in base64")


def needed_capabilities(media: Iterable[str]) -> dict[str, bool]:
    """Return whether checked media in base64 need VISION and AUDIO."""
    needed = {capability_of(base64.b64decode(data[:32])) for data in media}
    return {name: name in needed for name in (VISION, AUDIO)}


# What an engine takes


def prepare(messages: Sequence[Message], encoder: Encoder | None) -> list[Message]:
    """Return messages with their media as llama.cpp's content parts, under "parts".

    Raises ApiError(400) for media that the model does not read or that cannot be decoded.
    """
    if sum(len(message.get("images") or ()) for message in messages) > MAX_MEDIA:
        raise ApiError(400, f"a request has more than {MAX_MEDIA} images and sounds")
    return [
        message | {"parts": [_part(data, encoder) for data in message.get("images") or ()]}
        for message in messages
    ]


def parts_data(messages: Sequence[Message]) -> list[str]:
    """Return the media of messages from `prepare` in base64, in the order of a prompt."""
    parts = [part for message in messages for part in message.get("parts", ())]
    return [
        part["input_audio"]["data"]
        if part["type"] == "input_audio"
        else part["image_url"]["url"].partition(",")[2]
        for part in parts
    ]


def _part(data: str, encoder: Encoder | None) -> dict[str, Any]:
    content = base64.b64decode(data)
    capability = capability_of(content)
    if encoder is None or capability not in encoder.capabilities:
        raise ApiError(400, f"this model does not support {capability}")
    with _decoding:
        if capability == AUDIO:
            sound = base64.b64encode(wav.convert(content)).decode()
            return {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}
        picture = base64.b64encode(convert_picture(content, encoder)).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}


def convert_picture(content: bytes, encoder: Encoder) -> bytes:
    """Return a picture as a PNG in RGB, upright, on white, in the size that a model reads.

    The first frame of an animation counts. Raises ApiError(400) for a picture that cannot be
    decoded, has more than MAX_PIXELS pixels, or is too long and narrow for the model.
    """
    output = io.BytesIO()
    try:
        _fitted(_decoded(content), encoder).save(output, "PNG", compress_level=1)
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except UnidentifiedImageError as error:
        raise ApiError(400, "an image cannot be decoded: its header is damaged") from error
    # PIL raises one of these for a damaged file, depending on the format and the place.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError,
            TypeError, OverflowError, MemoryError) as error:  # fmt: skip
        raise ApiError(400, f"an image cannot be decoded: {str(error)[:200]}") from error
    return output.getvalue()


def _decoded(content: bytes) -> Image.Image:
    """Return a picture's first frame in RGB and upright; its size is checked before decoding."""
    if content.startswith(b"RIFF"):
        _check_pixels(*_webp_size(content))  # PIL reserves the memory when it opens the file
    if content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > MAX_SCANS:
        raise ApiError(400, f"an image is a JPEG of more than {MAX_SCANS} scans")
    with Image.open(io.BytesIO(content), formats=FORMATS) as source:
        _check_pixels(*source.size)
        orientation = _orientation(source)
        source.load()
        picture = _eight_bits(source)
        if orientation in UPRIGHT:
            picture = picture.transpose(UPRIGHT[orientation])
        return images.as_rgb(picture)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _too_large(f" of {width:,} x {height:,} pixels")


def _too_large(size: str = "") -> ApiError:
    return ApiError(400, f"an image{size} is too large: at most {MAX_PIXELS:,} pixels are read")


def _webp_size(content: bytes) -> tuple[int, int]:
    """Return (width, height) of a WebP; raises ApiError(400) if its header is damaged."""
    kind, header = content[12:16], content[20:30]
    if len(header) == 10 and kind == b"VP8X":
        fields = int.from_bytes(header[4:7], "little"), int.from_bytes(header[7:10], "little")
        return fields[0] + 1, fields[1] + 1
    if len(header) == 10 and kind == b"VP8L":
        bits = int.from_bytes(header[1:5], "little")
        return bits % 2**14 + 1, (bits >> 14) % 2**14 + 1
    if len(header) == 10 and kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", header, 6)
        return width % 2**14, height % 2**14
    raise ApiError(400, "an image cannot be decoded: its header is damaged")


def _orientation(picture: Image.Image) -> int | None:
    """Return the orientation in a picture's EXIF data, None if there is none to be read."""
    try:
        orientation = picture.getexif().get(ORIENTATION)
        return orientation if isinstance(orientation, int) else None
    except Exception:  # damaged EXIF data may raise anything, and the picture is still there
        return None


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Return a grey picture of 16 bits in 8 bits, any other as it is."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype("u1"))


def _fitted(picture: Image.Image, encoder: Encoder) -> Image.Image:
    """Return a picture in the size that the model reads; ValueError if it is too narrow."""
    if encoder.transposed:
        square = images.fit(picture, images.MINI.size)
        return square.transpose(Image.Transpose.TRANSPOSE)
    if encoder.shape is not None:  # llama.cpp would add black borders instead of scaling
        return encoder.shape.resize(picture)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BICUBIC)
    return picture


def all_media(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the media of messages, in base64."""
    return [data for message in messages for data in message.get("images") or ()]
