"""Sound on its way into Qwen2-Audio: players, spectrograms, shapes, token counts, error rates.

The steps themselves are the library's: `WhisperFeatureExtractor` and the model's own modules.
"""

from __future__ import annotations

import base64
import html
import io
import math
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from transformers import BatchFeature, PreTrainedModel
from transformers.audio_utils import hertz_to_mel

from openmodels import plots
from openmodels.harbour import sounds, speech
from openmodels.harbour.sounds import RATE
from openmodels.minis import evaluate_audio
from openmodels.minis.audio import FULL, HOP, WINDOW, Parts, token_count
from openmodels.minis.audio_data import Bank

FRAMES_PER_SECOND = RATE // HOP  # 100
WINDOW_SECONDS = WINDOW // FRAMES_PER_SECOND  # 30
LONGEST_ANSWERED = 6.0  # seconds of a sound that `answers` takes
LONGEST_PLAYED = 30.0  # seconds of a player
TICKS = (100, 500, 1000, 2000, 4000, 8000)  # Hz


# --- Players --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Player:
    """A sound that a notebook shows as controls with a caption, and as text where it has none.

    samples: from -1 to 1, shape (samples,), 16 kHz. The notebook stores them as 8-bit WAV, so a
    second takes 21 KB. JupyterLab removes the sound, and leaves the caption, from a notebook that
    is not trusted yet; running the cell brings it back.
    """

    samples: np.ndarray
    caption: str

    @property
    def seconds(self) -> float:
        """Return the length in seconds."""
        return len(self.samples) / RATE

    def _repr_html_(self) -> str:
        data = base64.b64encode(wav_8_bit(self.samples)).decode()
        caption = html.escape(self.caption)
        return (
            '<figure class="openmodels-player" style="margin:0.4em 0;max-width:34em">'
            f'<audio controls preload="metadata" aria-label="{caption}" '
            'style="display:block;width:100%;max-width:26em" '
            f'src="data:audio/wav;base64,{data}"></audio>'
            '<figcaption style="margin-top:0.3em;color:var(--jp-content-font-color1,inherit)">'
            f"{caption}</figcaption></figure>"
        )

    def __repr__(self) -> str:
        return f"Sound of {self.seconds:.1f} s. {self.caption}"


def player(samples: np.ndarray, caption: str) -> Player:
    """Return a player of a sound, with its caption.

    samples: from -1 to 1, shape (samples,), 16 kHz. caption: what is heard, for readers who do not
    hear it. Raises ValueError for another shape, no or too many samples, or an empty caption.
    """
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or not 0 < len(samples) <= LONGEST_PLAYED * RATE:
        raise ValueError(
            f"a player takes mono samples, at most {LONGEST_PLAYED:g} s of them; "
            f"the shape is {samples.shape}"
        )
    if not np.isfinite(samples).all():
        raise ValueError("a sound's samples must be finite numbers")
    if not caption.strip():
        raise ValueError("a player needs a caption for readers who do not hear it")
    return Player(samples, caption)


def wav_8_bit(samples: np.ndarray) -> bytes:
    """Return samples from -1 to 1, shape (samples,), 16 kHz, as a mono WAV file of 8 bits."""
    output = io.BytesIO()
    with wave.open(output, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(RATE)
        file.writeframes(np.rint(samples * 127 + 128).clip(0, 255).astype(np.uint8).tobytes())
    return output.getvalue()


# --- From samples to tokens -----------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What one module of a Qwen2-Audio returns for a sound.

    shape: of its output. steps: how many of its time steps hold sound and not padding.
    milliseconds: of sound from one step to the next.
    """

    module: str
    shape: tuple[int, ...]
    steps: int
    milliseconds: int


@torch.no_grad()
def trace(model: PreTrainedModel, inputs: BatchFeature) -> list[Step]:
    """Return what each module on the way from the spectrogram to the text model returns.

    inputs: of one sound, from the model's processor. The rows of one model call, in order: the
    features, both convolutions, the last encoder layer, pooling, projector.
    """
    parts = Parts.of(model)
    encoder = parts.encoder
    modules = {
        "conv1": encoder.conv1,
        "conv2": encoder.conv2,
        f"{len(encoder.layers)} layers": encoder.layers[-1],
        "avg_pooler": encoder.avg_pooler,
        "multi_modal_projector": parts.projector,
    }
    shapes: dict[str, tuple[int, ...]] = {}

    def record(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: object, _inputs: object, output: object) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            shapes[name] = tuple(tensor.shape)

        return modules[name].register_forward_hook(hook)

    hooks = [record(name) for name in modules]
    try:
        model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    frames = int(inputs["feature_attention_mask"].sum())
    strided, pooled = (frames - 1) // 2 + 1, int(token_count(torch.tensor(frames)))
    steps = (frames, strided, strided, pooled, pooled)
    rates = (10, 20, 20, 40, 40)  # milliseconds
    rows = [Step("input_features", tuple(inputs["input_features"].shape), frames, 10)]
    return rows + [
        Step(name, shapes[name], *pair)
        for name, pair in zip(modules, zip(steps, rates, strict=True), strict=True)
    ]


def audio_tokens(seconds: float) -> dict[str, int]:
    """Return how many tokens a sound takes in a Qwen2-Audio, by the library that reads it.

    transformers masks what is padding, so the count follows the length. llama.cpp reads 750 tokens
    for each started 30 seconds. Longer sounds are cut into windows of 30 seconds. Raises ValueError
    for a length that is not above 0.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"a sound's length must be above 0 seconds, not {seconds}")
    whole, remaining = divmod(math.ceil(seconds * FRAMES_PER_SECOND), WINDOW)
    frames = [WINDOW] * whole + [remaining] * (remaining > 0)
    masked = int(token_count(torch.tensor(frames)).clamp(min=1).sum())
    return {"transformers": masked, "llama.cpp": FULL * len(frames)}


# --- Figures --------------------------------------------------------------------------------------


@matplotlib.rc_context(plots.LOOK)
def plot_waveform(samples: np.ndarray) -> plots.DescribedFigure:
    """Plot samples from -1 to 1, shape (samples,), 16 kHz, over the time in seconds."""
    time = np.arange(len(samples)) / RATE
    figure, [axes] = plots.canvas(height=1.9)
    axes.plot(time, samples, color=plots.DARK, linewidth=0.5)
    axes.set(xlabel="time (s)", ylabel="amplitude", xlim=(0, len(samples) / RATE), ylim=(-1, 1))
    loudest = time[int(np.abs(samples).argmax())]
    figure.alt = (
        f"Waveform of {len(samples) / RATE:.2f} s. Amplitude from {samples.min():.2f} to "
        f"{samples.max():.2f}, loudest at {loudest:.2f} s."
    )
    return figure


@matplotlib.rc_context(plots.LOOK)
def plot_mel(features: np.ndarray) -> plots.DescribedFigure:
    """Plot a log-mel spectrogram, shape (mel bins, frames), over time in seconds and Hz.

    features: as `WhisperFeatureExtractor` scales them: (log10 of the power + 4) / 4, and at most 8
    powers of ten below the peak. A frame is 10 ms.
    """
    features = np.asarray(features)
    bins, frames = features.shape
    figure, [axes] = plots.canvas(height=3)
    seconds = frames / FRAMES_PER_SECOND
    picture = axes.imshow(
        features, origin="lower", aspect="auto", cmap="Greys", extent=(0, seconds, 0, bins),
        interpolation="nearest",
    )  # fmt: skip
    top = hertz_to_mel(RATE / 2, mel_scale="slaney")
    places = [bins * hertz_to_mel(hertz, mel_scale="slaney") / top for hertz in TICKS]
    axes.set_yticks(places, [f"{hertz:,}" for hertz in TICKS])
    axes.set(xlabel="time (s)", ylabel=f"frequency (Hz), {bins} mel bins")
    axes.grid(visible=False)
    figure.colorbar(picture, ax=axes, label="(log10 of power + 4) / 4", pad=0.02)
    strongest, quietest = (int(pick(features.mean(1))) for pick in (np.argmax, np.argmin))
    figure.alt = (
        f"Mel spectrogram: {bins} bins, {frames} frames, {seconds:.2f} s. Values from "
        f"{features.min():.2f} to {features.max():.2f}. On average bin {strongest} is the "
        f"strongest and bin {quietest} the weakest."
    )
    return figure


# --- Listening and scoring ------------------------------------------------------------------------


def answers(
    listener: evaluate_audio.Listener, samples: Sequence[np.ndarray], question: str = sounds.HEAR
) -> list[str]:
    """Return the greedy answer to a question about each sound, as transformers reads sounds.

    samples: each from -1 to 1, shape (samples,), 16 kHz. A window holds the longest sound instead
    of 30 s, which is faster, and each sound is masked beyond its end. Raises ValueError for a sound
    longer than 6 s.
    """
    longest = max(map(len, samples), default=0) / RATE
    if longest > LONGEST_ANSWERED:
        raise ValueError(f"a sound lasts {longest:.1f} s, and at most {LONGEST_ANSWERED:g} s fit")
    if not samples:
        return []
    bank = Bank.of([(part, question, "", "", {}) for part in samples])
    return listener.answer_bank(bank, range(len(bank)), bank.questions, masked=True)


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Return a sound played `factor` times as fast, shape (samples / factor,), 16 kHz.

    It is resampled, as a tape that runs faster: pitch and timbre rise with the speed. Raises
    ValueError for a factor that is not from 0.25 to 4.
    """
    if not 0.25 <= factor <= 4:
        raise ValueError(f"a speed from 0.25 to 4, not {factor}")
    return speech.resample(np.asarray(samples, np.float32), round(RATE * factor)).clip(-1, 1)


@dataclass(frozen=True)
class ErrorRate:
    """A word error rate with its 95 % interval, and how many whole transcripts are right.

    rate, low, high: shares; a rate may be above 1. words: of the right transcripts.
    """

    rate: float
    low: float
    high: float
    words: int
    calls: int
    exact: int

    def __str__(self) -> str:
        return (
            f"{self.rate:6.1%}  ({self.low:.1%} to {self.high:.1%})  "
            f"{self.words} words in {self.calls} calls, {self.exact} calls without an error"
        )


def error_rate(transcripts: Sequence[str], texts: Sequence[str]) -> ErrorRate:
    """Return the word error rate of transcripts against the true texts.

    A Chinese character counts as a word; punctuation does not count. The interval comes from
    resampling whole calls, since errors within a call depend on each other. Without any error,
    resampling would return 0 to 0; then the upper end is Wilson's for 0 of `calls`, the share of
    calls that could have an error. Raises ValueError for no or unequally many texts.
    """
    if not texts:
        raise ValueError("an error rate needs at least one transcript")
    errors = []
    for transcript, text in zip(transcripts, texts, strict=True):
        words = evaluate_audio.words_of(text)
        wrong, count = evaluate_audio.edit_errors(words, evaluate_audio.words_of(transcript))
        errors.append({"errors": wrong, "words": count, "exact": wrong == 0})
    summary = evaluate_audio.summary(errors)
    high = summary["high"]
    if not summary["wer"]:
        high = evaluate_audio.score(0, summary["calls"]).high
    exact = summary["exact"]["correct"]
    return ErrorRate(
        summary["wer"], summary["low"], high, summary["words"], summary["calls"], exact
    )


def unsaid(arguments: Mapping[str, object], transcript: str) -> list[str]:
    """Return the names of the arguments that are empty or have a word which nobody said.

    Whole words are compared, without case: "1" does not occur in "berth 13", nor "net" in "nets".
    """
    spoken = set(evaluate_audio.words_of(transcript.lower()))
    words = {name: evaluate_audio.words_of(str(value).lower()) for name, value in arguments.items()}
    return [name for name, part in words.items() if not part or not spoken.issuperset(part)]
