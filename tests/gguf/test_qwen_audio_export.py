"""Qwen2-Audio through llama.cpp against transformers, on random weights.

A sound is 750 vectors for each started 30 seconds, none masked. The prompts are the same; the
differences that remain are measured here.
"""

import base64
import struct

import gguf
import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    Qwen2AudioForConditionalGeneration,
    WhisperFeatureExtractor,
)

from openmodels import minis
from openmodels.gguf import export, qwen_audio
from openmodels.harbour import sounds
from openmodels.minis import audio, evaluate
from openmodels.serving.engine import Engine, EngineError

RATE, WINDOW = 16_000, 480_000  # samples of a second and of 30 seconds
FLOOR = 2.0**-24  # of a mel bin's power in llama.cpp
QUESTION = "What do you hear?"


def random_model() -> Qwen2AudioForConditionalGeneration:
    """Return a model with mini-qwen-s as its text part and an encoder of large random weights."""
    torch.manual_seed(0)
    parent, _ = evaluate.load(minis.weights_dir("mini-qwen-s"))
    model = audio.new_model(parent.float())
    parts = audio.Parts.of(model)
    for module in (parts.encoder, parts.projector):
        for name, weights in module.named_parameters():
            if "embed_positions" in name:
                continue
            if "norm" in name:
                weights.data += 0.2 * torch.randn_like(weights)
            elif weights.ndim > 1:
                weights.data.normal_(0, 1.5 / weights[0].numel() ** 0.5)
            else:
                weights.data.normal_(0, 0.2)
    # the library's class has a head of its own, and saves no shared tensors
    parts.head.weight = torch.nn.Parameter(parts.text.embed_tokens.weight.detach().clone())
    return model.eval()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio") / "random-audio"
    random_model().save_pretrained(folder)
    audio.load_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(home):
    text = export.export(home, home / "text.gguf", "f32")
    mmproj = export.export_vision(home, home / "mmproj.gguf", "f32")
    with Engine(text, mmproj, exact=True, threads=1, context=2048) as engine:
        yield engine


class Reference:
    """The same model in transformers, with llama.cpp's 750 unmasked vectors a window."""

    def __init__(self, home, half: bool):
        self.model = Qwen2AudioForConditionalGeneration.from_pretrained(home, dtype=torch.float32)
        self.parts = audio.Parts.of(self.model.eval())
        self.tokenizer = AutoTokenizer.from_pretrained(home)
        self.marker = self.tokenizer.convert_tokens_to_ids(audio.AUDIO)
        convolutions = (self.parts.encoder.conv1, self.parts.encoder.conv2)
        for convolution in convolutions if half else ():
            convolution.weight.data = convolution.weight.data.half().float()
            convolution.register_forward_pre_hook(lambda _, inputs: (inputs[0].half().float(),))

    @torch.no_grad()
    def log_probabilities(self, messages, *windows: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return log-probabilities (vocabulary,) of the answer's first token and prompt tokens."""
        vectors = torch.cat([audio.encode(self.parts, window)[0] for window in windows], 1)
        prompt = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        before, *after = prompt.split(audio.AUDIO)
        count = vectors.shape[1] // len(after)
        ids = self.tokenizer(before).input_ids
        for text in after:
            ids += [self.marker] * count + self.tokenizer(text).input_ids
        row = torch.tensor([ids])
        inputs = audio.embed(
            self.parts, row, vectors, torch.tensor([vectors.shape[1]]), self.marker
        )
        hidden = self.parts.text(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return self.parts.head(hidden[0, -1]).log_softmax(-1), len(ids)


@pytest.fixture(scope="module")
def reference(home):
    return Reference(home, half=False)


@pytest.fixture(scope="module")
def half_reference(home):
    return Reference(home, half=True)


def wav(samples, rate=RATE, width=2, channels=1, floats=False) -> bytes:
    """Return a WAV file; samples from -1 to 1, interleaved where there are several channels."""
    samples = np.clip(np.asarray(samples, np.float64), -1, 1)
    if floats:
        raw, width = samples.astype("<f4").tobytes(), 4
    elif width == 1:
        raw = (np.round(samples * 127) + 128).astype(np.uint8).tobytes()
    elif width == 3:
        raw = (samples * 8388607).astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    else:
        raw = (samples * (2 ** (8 * width - 1) - 1)).astype(f"<i{width}").tobytes()
    layout = (3 if floats else 1, channels, rate, rate * channels * width, channels * width)
    head = struct.pack("<IHHIIHH", 16, *layout, 8 * width)
    data = b"WAVEfmt " + head + b"data" + struct.pack("<I", len(raw)) + raw
    return b"RIFF" + struct.pack("<I", len(data)) + data


def message(*files: bytes, question=QUESTION) -> list[dict]:
    parts = [
        {
            "type": "input_audio",
            "input_audio": {"data": base64.b64encode(file).decode(), "format": "wav"},
        }
        for file in files
    ]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


def hear(engine: Engine, *files: bytes) -> tuple[torch.Tensor, int]:
    """Return llama.cpp's log-probabilities (vocabulary,) of the first token and prompt tokens."""
    answer = engine.chat(
        message(*files), temperature=0, max_tokens=1, logprobs=True, top_logprobs=1539,
        cache_prompt=False,
    )  # fmt: skip
    row = torch.full((1539,), float("nan"))
    for token in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        row[token["id"]] = token["logprob"]
    return row, answer["usage"]["prompt_tokens"]


def as_read(samples: np.ndarray) -> np.ndarray:
    """Return samples as they come back from a 16-bit file."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").astype(np.float32) / 32768


def features(samples: np.ndarray, floor: float = FLOOR) -> torch.Tensor:
    """Return log-mel features of one sound in as many windows of 30 s as hold it.

    Shape (1, 128, frames); `floor`: the least power of a mel bin, 1e-10 in the library.
    """
    read = as_read(samples)
    padded = np.zeros((len(read) // WINDOW + 1) * WINDOW, np.float32)
    padded[: len(read)] = read
    mel = audio.LogMel()
    spectrum = torch.stft(
        torch.tensor(padded), 400, audio.HOP, window=mel.window, return_complex=True
    )
    power = (mel.filters @ spectrum[:, :-1].abs() ** 2).clamp(min=floor).log10()
    return ((torch.maximum(power, power.max() - 8.0) + 4.0) / 4.0)[None]


def sweep(seconds: float, rate: int = RATE) -> np.ndarray:
    """Return a tone that rises from 300 Hz, shape (samples,)."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.4 * np.sin(2 * np.pi * (300 + 40 * time) * time)


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the largest difference in nats; nan if a token is missing."""
    return float((first - second).abs().max())


SOUNDS = {
    "foghorn": next(sounds.codes("foghorn", 1, seed=3)).samples,
    "bell in surf": next(sounds.codes("bell", 1, seed=1, snr=10)).samples,
    "silence": np.zeros(RATE, np.float32),
    "ten milliseconds": sweep(0.01),
    "nearly 30 s": sweep(29.9),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_llama_cpp_computes_what_transformers_computes(engine, reference, half_reference, name):
    """llama.cpp rounds the convolutions' inputs and weights to float16: 0.004 nats at most.

    With the same rounding in transformers 1e-3 remain at most, and 1e-4 for most sounds.
    """
    samples = SOUNDS[name]
    row, tokens = hear(engine, wav(samples))
    exact, expected_tokens = half_reference.log_probabilities(message(b""), features(samples))
    assert tokens == expected_tokens
    assert distance(row, exact) <= 0.002
    plain, _ = reference.log_probabilities(message(b""), features(samples))
    assert distance(row, plain) <= 0.02


def test_quiet_sounds_have_another_floor(engine, half_reference):
    """Below a floor of 2**-24 llama.cpp does not compute; the library goes down to 1e-10.

    Silence differs by 5 nats, a sound of full loudness by nothing.
    """
    for gain, apart in ((0, 1), (0.01, 1), (1, None)):
        samples = gain * sweep(1.5)
        row, _ = hear(engine, wav(samples))
        expected, _ = half_reference.log_probabilities(message(b""), features(samples))
        assert distance(row, expected) <= 0.002, gain
        library = features(samples, floor=1e-10)
        extractor = WhisperFeatureExtractor(feature_size=audio.MEL_BINS)
        read = extractor(as_read(samples), sampling_rate=RATE, return_tensors="np")
        assert np.abs(library.numpy() - read.input_features).max() <= 1e-4
        far, _ = half_reference.log_probabilities(message(b""), library)
        assert distance(row, far) > apart if apart else distance(row, far) <= 0.002


def test_the_sound_matters(engine):
    rows = [hear(engine, wav(SOUNDS[name]))[0] for name in ("foghorn", "bell in surf", "silence")]
    assert distance(rows[0], rows[2]) > 1
    assert distance(rows[0], rows[1]) > 0.1


@pytest.mark.parametrize("count", (0, 1, 2))
def test_the_prompt_is_that_of_transformers(engine, home, count):
    messages = message(*[wav(sweep(0.1))] * count)
    prompt = engine.post("/apply-template", {"messages": messages})["prompt"]
    tokenizer = AutoTokenizer.from_pretrained(home)
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert expected.count(audio.AUDIO) == count
    for _ in range(count):  # llama.cpp encloses its markers in the same two tokens
        marker = prompt[(start := prompt.index("<__media_")) : prompt.index("__>", start) + 3]
        prompt = prompt.replace(marker, "".join(audio.TOKENS), 1)
    assert prompt == expected


def test_two_sounds_are_two_windows(engine, half_reference):
    pair = [SOUNDS["foghorn"], SOUNDS["bell in surf"]]
    row, tokens = hear(engine, *map(wav, pair))
    expected, expected_tokens = half_reference.log_probabilities(
        message(b"", b""), *map(features, pair)
    )
    assert tokens == expected_tokens
    assert distance(row, expected) <= 0.002


@pytest.mark.parametrize("seconds", (30, 45))
def test_a_long_sound_is_windows_of_30_s_normalised_as_a_whole(engine, half_reference, seconds):
    """A sound of exactly 30 s already has a second window, of padding alone."""
    samples = sweep(seconds)
    samples[:WINDOW] *= 0.05
    row, tokens = hear(engine, wav(samples))
    whole = features(samples)
    assert whole.shape[-1] == 6000
    expected, expected_tokens = half_reference.log_probabilities(
        message(b""), whole[..., :3000], whole[..., 3000:]
    )
    assert tokens == expected_tokens > 1500
    assert distance(row, expected) <= 0.002
    if seconds > 30:
        apart = [features(part)[..., :3000] for part in (samples[:WINDOW], samples[WINDOW:])]
        assert distance(row, half_reference.log_probabilities(message(b""), *apart)[0]) > 0.005


def test_formats_of_wav(engine):
    samples = sweep(1.5)
    row, _ = hear(engine, wav(samples))
    both = np.stack([samples, samples], 1).ravel()
    assert distance(row, hear(engine, wav(both, channels=2))[0]) <= 1e-5
    for options in ({"width": 3}, {"width": 4}, {"floats": True}):
        assert distance(row, hear(engine, wav(samples, **options))[0]) <= 0.002
    assert distance(row, hear(engine, wav(samples, width=1))[0]) <= 2  # quantisation noise
    for rate in (44_100, 48_000):  # 0.02 measured
        assert distance(row, hear(engine, wav(sweep(1.5, rate), rate=rate))[0]) <= 0.1


NO_SOUND = {
    "nothing": b"",
    "no samples": wav([]),
    "half a header": wav(sweep(0.1))[:20],
    "letters": b"x" * 1000,
}


@pytest.mark.parametrize("file", NO_SOUND.values(), ids=NO_SOUND)
def test_what_is_no_sound_is_refused(engine, file):
    with pytest.raises(EngineError):
        hear(engine, file)
    assert hear(engine, wav(sweep(0.1)))[1] > 750


def test_a_sound_of_a_minute_does_not_fit_the_context(engine):
    with pytest.raises(EngineError, match="exceeds the available context size") as refusal:
        hear(engine, wav(sweep(60.5)))
    assert refusal.value.status == 400


@pytest.mark.parametrize("kind", export.KINDS)
def test_the_file_of_the_encoder(home, tmp_path, kind):
    file = gguf.GGUFReader(export.export_vision(home, tmp_path / "mmproj.gguf", kind))
    tensors = {tensor.name: tensor for tensor in file.tensors}
    types = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert {types[f"a.conv1d.{number}.weight"] for number in (1, 2)} == {"F16"}
    assert types["a.position_embd.weight"] == types["a.conv1d.1.bias"] == "F32"
    assert types["a.blk.0.ffn_up.weight"] == kind.upper()
    assert tensors["a.conv1d.1.bias"].shape.tolist() == [1, 192]  # ggml's order
    assert "a.blk.0.attn_k.bias" not in tensors
    assert file.fields["clip.projector_type"].contents() == "qwen2a"
    text = gguf.GGUFReader(export.export(home, tmp_path / "text.gguf", kind))
    assert not [tensor.name for tensor in text.tensors if tensor.name.startswith(("a.", "mm."))]
    assert text.fields["general.architecture"].contents() == "qwen2"


def test_an_encoder_that_llama_cpp_cannot_compute_is_refused(home, tmp_path):
    config = audio.config()
    config.audio_config.max_source_positions = 200
    with pytest.raises(ValueError, match="1500 positions, .*200"):
        qwen_audio.describe_audio(gguf.GGUFWriter(None, "clip"), config)
    with pytest.raises(ValueError, match="no name for the tensor audio_tower.extra.weight"):
        list(qwen_audio.audio_tensors(iter([("audio_tower.extra.weight", np.zeros(2))]), 4))


def test_gguf_file_makes_both_files_of_a_folder(home, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENMODELS_CACHE", str(tmp_path))
    text, mmproj = export.gguf_file(home), export.gguf_file(home, vision=True)
    assert mmproj.name.startswith("mmproj-") and text != mmproj
    assert gguf.GGUFReader(mmproj).fields["clip.has_audio_encoder"].contents() is True
    assert export.gguf_file(home, vision=True) == mmproj
