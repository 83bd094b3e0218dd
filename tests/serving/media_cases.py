"""Pictures and sounds that are damaged, unusual or too large, each with what must come of it."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from openmodels.harbour import scenes, sounds
from openmodels.harbour.sounds import RATE

CONVERTED = "converted"  # the answer is that to the original
ANSWERED = "answered"  # an answer, whatever it says


@dataclass(frozen=True)
class Case:
    """A medium. result: CONVERTED, ANSWERED, or what the refusal must say (a pattern)."""

    name: str
    content: Callable[[], bytes]
    result: str


def scene() -> tuple[Image.Image, scenes.Question]:
    """Return a picture and a question that the model answers."""
    [(picture, question)] = scenes.questions("count", 1, seed=5)
    return picture.image, question


def clip() -> sounds.Clip:
    """Return a shipped radio call that the model transcribes."""
    return sounds.clips()[0]


# Pictures


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return a picture in a format."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG with its checksum."""
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """Return a PNG whose header states a size, with compressed `data`, all grey."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(data, 9))
    return b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IEND", b"")


def plain(*size: int) -> Image.Image:
    """Return a picture of one colour."""
    return Image.new("RGB", size, (200, 30, 30))


def sixteen_bits() -> bytes:
    """Return the scene in grey with 16 bits."""
    grey = np.asarray(scene()[0].convert("L")).astype(np.uint16) * 257
    return saved(Image.fromarray(grey))


def with_alpha() -> bytes:
    """Return the scene with an opaque alpha channel."""
    image = scene()[0].copy()
    image.putalpha(255)
    return saved(image)


def see_through() -> bytes:
    """Return a fully transparent picture."""
    return saved(Image.new("RGBA", (112, 112), (0, 0, 0, 0)))


def animated(kind: str) -> bytes:
    """Return an animation whose first frame is the scene, and whose second is plain."""
    image = scene()[0]
    frames = {"save_all": True, "append_images": [plain(*image.size)], "duration": 100}
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return saved(image, kind, **frames, **lossless)


def rotated() -> bytes:
    """Return the scene on its side, with EXIF data that tell how to set it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(scene()[0].transpose(Image.Transpose.ROTATE_90), exif=exif)


def damaged_exif() -> bytes:
    """Return the scene as a JPEG whose EXIF data are nonsense."""
    return saved(scene()[0], "JPEG", quality=95, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff\x00")


def many_scans() -> bytes:
    """Return a JPEG with its scan repeated many times."""
    content = saved(plain(8, 8), "JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * 300 + content[-2:]


def webp_header(width: int, height: int) -> bytes:
    """Return a WebP whose header states a size, without pixels."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_header(width: int, height: int) -> bytes:
    """Return a BMP whose header states a size, without pixels."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(info), 0, 0, 54) + info


def gif_bomb() -> bytes:
    """Return a GIF whose header states 65,535 x 65,535 pixels."""
    content = saved(plain(8, 8), "GIF")
    return content[:6] + b"\xff" * 4 + content[10:]


PICTURES = [
    Case("PNG", lambda: saved(scene()[0]), CONVERTED),
    Case("JPEG", lambda: saved(scene()[0], "JPEG", quality=95), CONVERTED),
    Case("WebP", lambda: saved(scene()[0], "WEBP", lossless=True), CONVERTED),
    Case("BMP", lambda: saved(scene()[0], "BMP"), CONVERTED),
    Case("palette", lambda: saved(scene()[0].quantize(256)), CONVERTED),
    Case("CMYK JPEG", lambda: saved(scene()[0].convert("CMYK"), "JPEG", quality=95), CONVERTED),
    Case("16-bit grey", sixteen_bits, ANSWERED),
    Case("opaque alpha", with_alpha, CONVERTED),
    Case("transparent", see_through, ANSWERED),
    Case("animated GIF", lambda: animated("GIF"), CONVERTED),
    Case("animated WebP", lambda: animated("WEBP"), CONVERTED),
    Case("animated PNG", lambda: animated("PNG"), CONVERTED),
    Case("EXIF rotation", rotated, CONVERTED),
    Case("damaged EXIF", damaged_exif, CONVERTED),
    Case("1 x 1", lambda: saved(plain(1, 1)), ANSWERED),
    Case("1 x 150", lambda: saved(plain(1, 150)), ANSWERED),
    Case("4,000 x 3,000", lambda: saved(plain(4000, 3000), "JPEG"), ANSWERED),
    Case("20,000 x 1", lambda: saved(plain(20_000, 1)), "more than 200 times the other"),
    Case("20,000 x 20,000", lambda: png_of(20_000, 20_000), "too large: at most 16,777,216 pix"),
    Case("PNG bomb", lambda: png_of(5000, 5000, bytes(5001 * 5000)), "too large"),
    Case("PNG of 2 ** 31", lambda: png_of(2**31 - 1, 2**31 - 1), "too large"),
    Case("PNG of 0 x 0", lambda: png_of(0, 0), "cannot be decoded"),
    Case("WebP bomb", lambda: webp_header(16_383, 16_383), "too large"),
    Case("BMP bomb", lambda: bmp_header(60_000, 60_000), "too large"),
    Case("GIF bomb", gif_bomb, "too large"),
    Case("JPEG of 300 scans", many_scans, "more than 200 scans"),
    Case("truncated PNG", lambda: saved(scene()[0])[:400], "cannot be decoded"),
    Case("truncated JPEG", lambda: saved(scene()[0], "JPEG")[:900], "cannot be decoded"),
    Case("truncated GIF", lambda: saved(scene()[0], "GIF")[:900], "cannot be decoded"),
    Case("truncated WebP", lambda: saved(scene()[0], "WEBP")[:300], "cannot be decoded"),
    Case("truncated BMP", lambda: saved(scene()[0], "BMP")[:900], "cannot be decoded"),
    Case("signature alone", lambda: b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
    Case("JPEG of noise", lambda: b"\xff\xd8\xff" + bytes(range(256)) * 4, "cannot be decoded"),
    Case("empty", lambda: b"", "must be PNG, JPEG, WebP, GIF or BMP, and a sound WAV"),
    Case("TIFF", lambda: saved(plain(28, 28), "TIFF"), "must be PNG, JPEG"),
    Case("SVG", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "must be PNG, JPEG"),
    Case("PDF", lambda: b"%PDF-1.7\n", "must be PNG, JPEG"),
    Case("21 MB", lambda: saved(plain(8, 8)) + bytes(21_000_000), "at most 20,000,000 are read"),
]


# Sounds


def wav_of(data: bytes, codec: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16,
           size: int | None = None, frame: int | None = None) -> bytes:  # fmt: skip
    """Return a WAV file of these bytes. size: what its header states."""
    frame = channels * bits // 8 if frame is None else frame
    layout = struct.pack("<HHIIHH", codec, channels, rate, rate * frame % 2**32, frame, bits)
    size = len(data) if size is None else size
    body = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", min(len(body), 2**32 - 1)) + body


def samples() -> np.ndarray:
    """Return the clip's samples, float32."""
    return clip().samples


def pcm(bits: int) -> bytes:
    """Return the clip with so many bits per sample."""
    if bits == 8:
        return wav_of(((samples() * 127).round() + 128).astype(np.uint8).tobytes(), bits=8)
    values = (samples().astype(np.float64) * (2 ** (bits - 1) - 1)).round()
    if bits == 24:
        data = values.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    else:
        data = values.astype(f"<i{bits // 8}").tobytes()
    return wav_of(data, bits=bits)


def floats(bits: int) -> bytes:
    """Return the clip as floats of so many bits."""
    return wav_of(samples().astype(f"<f{bits // 8}").tobytes(), codec=3, bits=bits)


def channels(count: int) -> bytes:
    """Return the clip on so many channels, interleaved."""
    data = np.repeat(sixteen(samples())[:, None], count, axis=1).tobytes()
    return wav_of(data, channels=count)


def sixteen(values: np.ndarray) -> np.ndarray:
    """Return samples as 16-bit integers."""
    return (values * 32767).round().clip(-32768, 32767).astype("<i2")


def at_rate(rate: int) -> bytes:
    """Return the clip at another rate, interpolated with a windowed sinc of our own."""
    values = samples()
    count = round(len(values) * rate / RATE)
    spectrum = np.fft.rfft(values, len(values))
    scaled = np.zeros(count // 2 + 1, complex)
    shared = min(len(scaled), len(spectrum))
    scaled[:shared] = spectrum[:shared]
    return wav_of(sixteen(np.fft.irfft(scaled, count) * (count / len(values))).tobytes(), rate=rate)


def extensible() -> bytes:
    """Return the clip with the long form of the header, and chunks that no reader knows."""
    data = sixteen(samples()).tobytes()
    guid = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    layout = struct.pack("<HHIIHH", 0xFFFE, 1, RATE, RATE * 2, 2, 16)
    layout += struct.pack("<HHI", 22, 16, 4) + guid
    chunks = b"LIST" + struct.pack("<I", 5) + b"abcde\0"  # padded to an even length
    chunks += b"fmt " + struct.pack("<I", 40) + layout
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def whole() -> bytes:
    """Return the clip as it is shipped."""
    return wav_of(sixteen(samples()).tobytes())


def second_of(value: float) -> bytes:
    """Return a second of floats with one value."""
    return wav_of(np.full(RATE, value, "<f4").tobytes(), codec=3, bits=32)


HOURS = wav_of(b"", size=2 * 3600 * 2 * RATE)
SOUNDS = [
    Case("16 bits", whole, CONVERTED),
    Case("8 bits", lambda: pcm(8), CONVERTED),
    Case("24 bits", lambda: pcm(24), CONVERTED),
    Case("32 bits", lambda: pcm(32), CONVERTED),
    Case("float32", lambda: floats(32), CONVERTED),
    Case("float64", lambda: floats(64), CONVERTED),
    Case("stereo", lambda: channels(2), CONVERTED),
    Case("six channels", lambda: channels(6), CONVERTED),
    Case("48 kHz", lambda: at_rate(48_000), CONVERTED),
    Case("44.1 kHz", lambda: at_rate(44_100), CONVERTED),
    Case("11.025 kHz", lambda: at_rate(11_025), CONVERTED),
    Case("8 kHz", lambda: at_rate(8_000), CONVERTED),
    Case("extensible", extensible, CONVERTED),
    Case("piped", lambda: wav_of(sixteen(samples()).tobytes(), size=2**32 - 1), CONVERTED),
    Case("an odd byte", lambda: wav_of(sixteen(samples()).tobytes() + b"\x01"), CONVERTED),
    Case("silence", lambda: wav_of(bytes(2 * RATE)), ANSWERED),
    Case("30 s", lambda: wav_of(bytes(2 * 30 * RATE)), ANSWERED),
    Case("float above 1", lambda: second_of(1e30), ANSWERED),
    Case("not a number", lambda: second_of(np.nan), "samples that are not finite"),
    Case("infinity", lambda: second_of(np.inf), "samples that are not finite"),
    Case("0 samples", lambda: wav_of(b""), "no samples"),
    Case("1 sample", lambda: wav_of(b"\x01\x02"), "shorter than 10 ms"),
    Case("1 byte", lambda: wav_of(b"\x01"), "no samples"),
    Case("9 ms", lambda: wav_of(bytes(2 * 144)), "shorter than 10 ms"),
    Case("31 s", lambda: wav_of(bytes(2 * 31 * RATE)), "lasts 31.0 s.* at most 30 s"),
    Case("two hours", lambda: wav_of(bytes(28_800_000), rate=4_000, bits=8), "28,800,044 bytes"),
    Case("2 kHz", lambda: wav_of(bytes(9000), rate=2_000), "states 2,000 samples a second"),
    Case("40 minutes", lambda: wav_of(bytes(19_200_000), rate=8_000, bits=8), "lasts 2,400.0 s"),
    Case("two hours in the header", lambda: HOURS, "truncated.* 230,400,000 bytes"),
    Case("truncated", lambda: whole()[:9000], "truncated"),
    Case("header cut", lambda: whole()[:30], "damaged or truncated"),
    Case("RIFF and WAVE alone", lambda: b"RIFF\0\0\0\0WAVE", "damaged or truncated"),
    Case("no format", lambda: b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd", "damaged or truncated"),
    Case("short format", lambda: b"RIFF\0\0\0\0WAVEfmt \2\0\0\0abdata\2\0\0\0ab", "too short"),
    Case("0 channels", lambda: wav_of(bytes(9000), channels=0), "0 channels"),
    Case("1,000 channels", lambda: wav_of(bytes(9000), channels=1000), "1000 channels"),
    Case("0 Hz", lambda: wav_of(bytes(9000), rate=0), "states 0 samples a second"),
    Case("4 GHz", lambda: wav_of(bytes(9000), rate=2**32 - 1, frame=2), "states 4,294,967,295"),
    Case("12 bits", lambda: wav_of(bytes(9000), bits=12), "12 bits"),
    Case("wrong frame", lambda: wav_of(bytes(9000), frame=3), "16 bits in 3 bytes"),
    Case("mu-law", lambda: wav_of(bytes(9000), codec=7, bits=8), "holds mu-law.*ffmpeg"),
    Case("unknown codec", lambda: wav_of(bytes(9000), codec=999), "codec 999"),
    Case("MP3 with ID3", lambda: b"ID3\x04" + bytes(900), "sound is MP3.*Convert.*ffmpeg"),
    Case("MP3", lambda: b"\xff\xfb\x90\x00" + bytes(900), "sound is MP3.*ffmpeg"),
    Case("FLAC", lambda: b"fLaC" + bytes(900), "sound is FLAC.*ffmpeg"),
    Case("Ogg", lambda: b"OggS" + bytes(900), "sound is Ogg.*ffmpeg"),
    Case("WebM", lambda: b"\x1a\x45\xdf\xa3" + bytes(900), "sound is WebM.*ffmpeg"),
    Case("MP4", lambda: b"\0\0\0\x20ftypM4A " + bytes(900), "sound is MP4.*ffmpeg"),
    Case("AVI", lambda: b"RIFF\0\0\0\0AVI " + bytes(900), "and a sound WAV"),
]  # fmt: skip
