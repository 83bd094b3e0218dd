"""Reads WAV files of unknown origin, and converts them to what an engine takes: 16 kHz mono.

Every length is checked against the file's size, and the duration before anything is decoded.
"""

import io
import math
import struct
import wave

import numpy as np

from openmodels.harbour.sounds import RATE
from openmodels.harbour.speech import resample
from openmodels.serving.model_store import ApiError

LONGEST = 30.0  # seconds: a Whisper encoder's window
WINDOW = 479_839  # samples: from one more on llama.cpp adds a second window, of silence
SHORTEST = 0.01  # seconds
RATES = (4_000, 192_000)  # samples a second
MAX_CHANNELS = 32
MAX_CHUNKS = 1_000
UNKNOWN_SIZE = 0x7FFF_F000  # a program that writes to a pipe states this size or a larger one
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
CODECS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "ADPCM", 85: "MP3"}
WIDTHS = {PCM: (8, 16, 24, 32), FLOAT: (32, 64)}  # bits per sample
FFMPEG = "ffmpeg -i INPUT -ar 16000 -ac 1 -c:a pcm_s16le OUTPUT.wav"


def convert(content: bytes) -> bytes:
    """Return a WAV file as 16 kHz, mono, 16 bits; channels are averaged.

    Raises ApiError(400) for a damaged file, another codec than PCM or float, no sound, a sound
    shorter than 10 ms or longer than 30 s.
    """
    return encode(decode(content))


def decode(content: bytes) -> np.ndarray:
    """Return a WAV file's samples at 16 kHz, float32 from -1 to 1, shape (samples,).

    Raises ApiError(400) as `convert` does.
    """
    header, data = _chunks(content)
    codec, channels, rate, bits = _layout(header)
    frame = channels * bits // 8  # bytes
    count = len(data) // frame
    if not count:
        raise ApiError(400, "the sound has no samples")
    if count / rate > LONGEST:
        raise ApiError(
            400, f"the sound lasts {count / rate:,.1f} s, and a model here hears at most "
            f"{LONGEST:g} s: send a part of it",
        )  # fmt: skip
    samples = _values(data[: count * frame], codec, bits)
    if not np.isfinite(samples).all():
        raise ApiError(400, "the sound has samples that are not finite numbers")
    samples = samples.reshape(count, channels).mean(axis=1).clip(-1, 1)
    samples = _at_16_khz(samples, rate)
    if len(samples) < SHORTEST * RATE:
        raise ApiError(400, f"the sound is shorter than {1000 * SHORTEST:g} ms")
    return samples[:WINDOW]


def encode(samples: np.ndarray) -> bytes:
    """Return samples at 16 kHz, from -1 to 1, shape (samples,), as a mono WAV file of 16 bits."""
    output = io.BytesIO()
    with wave.open(output, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        values = np.rint(samples * 32768).clip(-32768, 32767)
        file.writeframes(values.astype("<i2").tobytes())
    return output.getvalue()


def _chunks(content: bytes) -> tuple[bytes, memoryview]:
    """Return the contents of a file's chunks "fmt " and "data"."""
    position, header, whole = 12, None, memoryview(content)
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(content):
            break
        name, size = struct.unpack_from("<4sI", content, position)
        start, position = position + 8, position + 8 + size + size % 2
        if name == b"fmt ":
            header = content[start : start + min(size, 40)]
        if name != b"data":
            continue
        if header is None:
            break
        if start + size > len(content) and size < UNKNOWN_SIZE:
            raise ApiError(
                400, f"the WAV file is truncated: its header states {size:,} bytes of sound, and "
                f"{len(content) - start:,} are there",
            )  # fmt: skip
        return header, whole[start : start + size]
    raise ApiError(400, "the WAV file is damaged or truncated: no format or no sound in it")


def _layout(header: bytes) -> tuple[int, int, int, int]:
    """Return codec, channels, samples a second and bits per sample of the chunk "fmt "."""
    if len(header) < 16:
        raise ApiError(400, "the WAV file's header is too short")
    codec, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", header)
    if codec == EXTENSIBLE and len(header) >= 26:
        [codec] = struct.unpack_from("<H", header, 24)
    if codec not in WIDTHS:
        name = CODECS.get(codec, f"codec {codec}")
        raise ApiError(
            400, f"the WAV file holds {name}, and only PCM and float are read here. Convert it "
            f"first, for example with `{FFMPEG}`",
        )  # fmt: skip
    if bits not in WIDTHS[codec]:
        raise ApiError(400, f"the WAV file's header is wrong: {bits} bits per sample")
    if not 1 <= channels <= MAX_CHANNELS or frame != channels * bits // 8:
        raise ApiError(
            400, f"the WAV file's header is wrong: {channels} channels of {bits} bits in {frame} "
            "bytes",
        )  # fmt: skip
    if not RATES[0] <= rate <= RATES[1]:
        raise ApiError(
            400, f"the WAV file's header states {rate:,} samples a second, and {RATES[0]:,} to "
            f"{RATES[1]:,} are read here",
        )  # fmt: skip
    return codec, channels, rate, bits


def _values(data: memoryview, codec: int, bits: int) -> np.ndarray:
    """Return samples of all channels, float32 from -1 to 1, shape (samples * channels,)."""
    if codec == FLOAT:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.frombuffer(data, f"<f{bits // 8}").astype(np.float32)
    if bits == 8:  # unsigned, unlike the others
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if bits == 24:
        padded = np.zeros((len(data) // 3, 4), np.uint8)  # the lowest byte stays 0
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return padded.view("<i4")[:, 0].astype(np.float32) / 2**31
    return np.frombuffer(data, f"<i{bits // 8}").astype(np.float32) / 2 ** (bits - 1)


def _at_16_khz(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return samples at 16 kHz, band-limited.

    Zeros at the end separate the end from the beginning, which the Fourier transform would join.
    """
    if rate == RATE:
        return samples
    size = round(len(samples) * RATE / rate)
    unit = rate // math.gcd(rate, RATE)  # a multiple of it becomes a whole number of samples
    padded = np.zeros(-(-(len(samples) + rate // 50) // unit) * unit, np.float32)
    padded[: len(samples)] = samples
    return resample(padded, rate)[:size].clip(-1, 1)
