"""Pictures and sounds through the server and the official clients, whole and damaged."""

import base64
import io
import random
import re
import struct
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import ollama
import openai
import pytest
import torch
from media_cases import (
    ANSWERED,
    CONVERTED,
    PICTURES,
    SOUNDS,
    clip,
    rotated,
    saved,
    scene,
    see_through,
    whole,
)
from PIL import Image, ImageFile
from server_helpers import GREEDY, check_alive, upload
from transformers import Qwen2_5_VLForConditionalGeneration

from openmodels import minis
from openmodels.gguf.export import gguf_file
from openmodels.harbour import scenes, sounds
from openmodels.minis import qwen_vl
from openmodels.serving import media, multipart, wav
from openmodels.serving.model_store import ApiError
from openmodels.serving.multipart import parse

VL, EARS = "mini-qwen-vl", "mini-qwen-audio"


@pytest.fixture(scope="module")
def openai_client(server):
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def encoder(server):
    return media.encoder_of(server.store, server.store.find(VL))


@pytest.fixture(scope="module")
def library():
    """mini-qwen-vl in transformers, and its processor."""
    home = minis.shipped_dir(VL)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(home, dtype=torch.float32)
    return model.eval(), qwen_vl.Processor.from_pretrained(home)


def transformers_answer(library, image: Image.Image, question: str) -> str:
    """Return the greedy answer of transformers."""
    model, processor = library
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    inputs = processor(text, image)
    output = model.generate(**inputs, max_new_tokens=160, do_sample=False)
    answer = output[0, inputs["input_ids"].shape[1] :]
    return processor.tokenizer.decode(answer, skip_special_tokens=True)


def question_about(text: str, content: bytes) -> dict:
    """Return a message of Ollama's API with a picture or sound."""
    return {"role": "user", "content": text, "images": [content]}


def ask(http, model: str, content: bytes, text: str):
    """Return the response of /api/generate to a question about a picture or sound."""
    body = {"model": model, "prompt": text, "images": [base64.b64encode(content).decode()]}
    return http.post("/api/generate", json=body | {"stream": False, "options": GREEDY})


# What the models see and hear


@pytest.mark.parametrize("task", ["colour", "count", "tallest", "printed", "form"])
def test_a_picture_gets_the_answer_of_transformers(task, client, openai_client, library):
    for picture, question in scenes.questions(task, 2, seed=5):
        content = saved(picture.image)
        expected = transformers_answer(library, picture.image, question.text)
        message = question_about(question.text, content)
        assert client.chat(VL, [message], options=GREEDY).message.content == expected
        generated = client.generate(VL, question.text, images=[content], options=GREEDY)
        assert generated.response == expected
        url = "data:image/png;base64," + base64.b64encode(content).decode()
        parts = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": question.text},
        ]
        completion = openai_client.chat.completions.create(
            model=VL, messages=[{"role": "user", "content": parts}], temperature=0
        )
        assert completion.choices[0].message.content == expected


def test_a_picture_of_any_size_is_resized_as_in_transformers(client, library):
    image, question = scene()
    for size in ((250, 190), (400, 170)):
        resized = image.resize(size, Image.Resampling.BICUBIC)
        expected = transformers_answer(library, resized, question.text)
        answer = client.chat(VL, [question_about(question.text, saved(resized))], options=GREEDY)
        assert answer.message.content == expected
        assert answer.prompt_eval_count > qwen_vl.MINI.tokens(*size)


def test_radio_calls_are_transcribed_the_same_in_every_way(client, openai_client):
    clips = sounds.clips()
    correct = 0
    for number in (0, 2, 4, 44):
        content = (sounds.CLIPS / f"call-{number + 1:02}.wav").read_bytes()
        message = question_about(sounds.HEAR, content)
        text = client.chat(EARS, [message], options=GREEDY).message.content
        correct += text == clips[number].answer["content"]
        generated = client.generate(EARS, sounds.HEAR, images=[content], options=GREEDY)
        data = base64.b64encode(content).decode()
        parts = [
            {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
            {"type": "text", "text": sounds.HEAR},
        ]
        completion = openai_client.chat.completions.create(
            model=EARS, messages=[{"role": "user", "content": parts}], temperature=0
        )
        create = openai_client.audio.transcriptions.create
        transcription = create(file=("call.wav", content), model=EARS)
        plain = create(file=io.BytesIO(content), model=EARS, response_format="text")
        texts = [generated.response, completion.choices[0].message.content]
        assert [*texts, transcription.text, plain] == [text] * 4
    assert correct == 4


def test_capabilities_are_shown_and_required(client, http, openai_client):
    expected = {VL: {"vision"}, EARS: {"audio"}, "mini-scout": {"vision"}, "mini-qwen": set()}
    tags = {row["name"]: row["capabilities"] for row in http.get("/api/tags").json()["models"]}
    for model, capabilities in expected.items():
        assert {"vision", "audio"} & set(client.show(model).capabilities) == capabilities
        assert {"vision", "audio"} & set(tags[f"{model}:latest"]) == capabilities
    for model, content, capability in (
        ("mini-qwen", saved(scene()[0]), "vision"), ("mini-qwen", whole(), "audio"),
        (VL, whole(), "audio"), (EARS, saved(scene()[0]), "vision"),
    ):  # fmt: skip
        with pytest.raises(ollama.ResponseError, match=f"{model}.*support {capability}") as error:
            client.chat(model, [question_about("?", content)])
        assert error.value.status_code == 400
    with pytest.raises(openai.BadRequestError, match="does not support audio"):
        openai_client.audio.transcriptions.create(file=("a.wav", whole()), model="mini-qwen")


def test_stored_messages_may_hold_pictures(client, http):
    image, question = scene()
    stored = question_about(question.text, base64.b64encode(saved(image)).decode())
    messages = [stored, {"role": "assistant", "content": question.answer}]
    for origin, status in ((VL, 200), ("mini-qwen", 400)):
        body = {"model": "shown", "from": origin, "messages": messages, "stream": False}
        assert http.post("/api/create", json=body).status_code == 200
        body = {"model": "shown", "prompt": question.text, "stream": False, "options": GREEDY}
        assert http.post("/api/generate", json=body).status_code == status
    client.delete("shown")


def test_uploaded_files_read_media_as_the_miniatures_do(client, http):
    image, question = scene()
    for name, content, text, expected in (
        (VL, saved(image.resize((250, 190))), question.text, None),
        (EARS, whole(), sounds.HEAR, clip().answer["content"]),
    ):
        files = {
            "model.gguf": upload(http, gguf_file(name).read_bytes()),
            "mmproj.gguf": upload(http, gguf_file(name, vision=True).read_bytes()),
        }
        client.create("uploaded", files=files)
        assert client.show("uploaded").capabilities == client.show(name).capabilities
        answers = [
            client.generate(model, text, images=[content], options=GREEDY | {"repeat_penalty": 1.0})
            for model in ("uploaded", name)
        ]
        assert answers[0].response == answers[1].response == (expected or answers[1].response)
        client.delete("uploaded")


def test_requests_at_the_same_time_get_their_own_answers(client):
    clips = sounds.clips()[:4]

    def transcribe(number: int) -> str:
        content = wav.encode(clips[number].samples)
        return client.generate(EARS, sounds.HEAR, images=[content], options=GREEDY).response

    numbers = [0, 2, 3] * 2
    with ThreadPoolExecutor(6) as threads:
        texts = list(threads.map(transcribe, numbers))
    assert texts == [clips[number].answer["content"] for number in numbers]


def test_a_sound_fits_into_any_context_and_two_at_most(client, http):
    message = question_about(sounds.HEAR, whole())
    answer = client.chat(EARS, [message], options=GREEDY | {"num_ctx": 256})
    assert answer.message.content == clip().answer["content"]
    message["images"] = [whole()] * 3
    with pytest.raises(ollama.ResponseError, match="longer than the context"):
        client.chat(EARS, [message])
    picture = base64.b64encode(saved(Image.new("RGB", (28, 28)))).decode()
    messages = [{"role": "user", "content": "?", "images": [picture] * 13}] * 5
    response = http.post("/api/chat", json={"model": VL, "messages": messages})
    assert response.status_code == 400 and "more than 64 images" in response.json()["error"]


def test_thirty_seconds_are_one_window(client):
    counts = []
    for seconds in (1, 30):
        content = wav.encode(np.zeros(seconds * sounds.RATE, np.float32))
        message = question_about(sounds.HEAR, content)
        counts.append(client.chat(EARS, [message], options=GREEDY).prompt_eval_count)
    assert counts[0] == counts[1] > 750


# Damaged, unusual and too large


def check_case(case, response, original: str) -> None:
    """Check a response against what a case must give."""
    if case.result in (CONVERTED, ANSWERED):
        assert response.status_code == 200, response.text[:300]
        text = response.json()["response"]
        assert text == original if case.result == CONVERTED else text
    else:
        assert response.status_code == 400, response.text[:300]
        assert re.search(case.result, response.json()["error"]), response.text[:300]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("case", PICTURES, ids=lambda case: case.name)
def test_pictures_are_converted_or_refused_with_a_reason(case, client, http):
    question = scene()[1]
    check_case(case, ask(http, VL, case.content(), question.text), question.answer)
    check_alive(client)


@pytest.mark.parametrize("case", SOUNDS, ids=lambda case: case.name)
def test_sounds_are_converted_or_refused_with_a_reason(case, client, http):
    check_case(case, ask(http, EARS, case.content(), sounds.HEAR), clip().answer["content"])
    check_alive(client)


def test_what_is_too_large_is_never_decoded(monkeypatch, encoder):
    def refuse(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    monkeypatch.setattr(wav, "_values", refuse)
    refused = 0
    for case in PICTURES:
        if "too large" in case.result or "scans" in case.result:
            with pytest.raises(ApiError, match=case.result):
                media.convert_picture(case.content(), encoder)
            refused += 1
    for case in SOUNDS:
        if case.result.startswith("lasts"):
            with pytest.raises(ApiError, match=case.result):
                wav.convert(case.content())
            refused += 1
    assert refused == 9


MEMORY = """
import resource, struct, zlib
import numpy as np
from openmodels.serving import media, wav
from media_cases import PICTURES, png_chunk, wav_of
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
encoder = media.Encoder(frozenset({"vision"}), media.qwen_vl.MINI)
def refuse(content):
    try:
        media.convert_picture(content, encoder)
    except media.ApiError:
        return
bombs = [c.content() for c in PICTURES if "too large" in c.result]
start = peak()
for content in bombs:
    refuse(content)
bombed = peak() - start
header = struct.pack(">IIBBBBB", 4096, 4096, 8, 6, 0, 0, 0)
data = zlib.compress(bytes((4 * 4096 + 1) * 4096), 1)
largest = b"\\x89PNG\\r\\n\\x1a\\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data)
media.convert_picture(largest + png_chunk(b"IEND", b""), encoder)
wav.convert(wav_of(bytes(19_200_000), rate=192_000, channels=4, bits=8))
print(bombed, peak() - start)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read by resource")
def test_memory_is_bounded():
    folders = [str(minis.ROOT), str(minis.ROOT / "tests" / "serving")]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {folders}\n{MEMORY}"]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    bombed, largest = map(int, child.stdout.split())  # MiB
    assert bombed < 50
    assert largest < 500


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's, about EXIF data
def test_changed_bytes_are_converted_or_refused(encoder):
    rng = random.Random(0)
    originals = [case.content() for case in PICTURES + SOUNDS if case.result == CONVERTED]
    outcomes = Counter()
    for _ in range(1500):
        content = bytearray(rng.choice(originals))
        for _ in range(rng.choice((1, 3, 20))):
            place = rng.randrange(min(len(content), rng.choice((60, 400, 10**9))))
            content[place] = rng.choice((0, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            del content[rng.randrange(len(content)) :]
        try:
            if media.capability_of(content) == "vision":
                assert media.convert_picture(bytes(content), encoder)
            else:
                assert wav.convert(bytes(content))
            outcomes["converted"] += 1
        except ApiError as error:
            assert error.status == 400 and " at 0x" not in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100 and len(outcomes) == 2


# Conversions, value by value


def pixels(content: bytes, encoder: media.Encoder) -> np.ndarray:
    """Return the pixels that the engine gets."""
    with Image.open(io.BytesIO(media.convert_picture(content, encoder))) as image:
        return np.asarray(image)


def test_pictures_keep_their_pixels(encoder):
    image = scene()[0]
    expected = np.asarray(qwen_vl.MINI.resize(image))
    assert (pixels(saved(image), encoder) == expected).all()
    assert (pixels(rotated(), encoder) == expected).all()
    assert (pixels(see_through(), encoder) == 255).all()
    ramp = np.tile(np.arange(0, 65536, 256, dtype=np.uint16)[:224], (112, 1))
    grey = pixels(saved(Image.fromarray(ramp)), encoder)
    assert (grey[:, :, 0] == ramp >> 8).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_set_upright(orientation, encoder):
    image = scene()[0]
    stored = {1: image} | {
        number: image.transpose(
            {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}.get(number, method)
        )
        for number, method in media.UPRIGHT.items()
    }
    exif = Image.Exif()
    exif[media.ORIENTATION] = orientation
    expected = np.asarray(qwen_vl.MINI.resize(image))
    assert (pixels(saved(stored[orientation], exif=exif), encoder) == expected).all()


def test_webp_sizes_are_read_without_decoding():
    for options in ({"lossless": True}, {"quality": 80}, {"lossless": True, "exif": b"Exif\0\0"}):
        content = saved(Image.new("RGB", (345, 67), "red"), "WEBP", **options)
        assert media._webp_size(content) == (345, 67)


def test_a_model_of_unknown_size_gets_a_bounded_picture():
    encoder = media.Encoder(frozenset({"vision"}))
    assert pixels(saved(Image.new("RGB", (4000, 1000))), encoder).shape == (512, 2048, 3)
    assert pixels(saved(Image.new("RGB", (30, 20))), encoder).shape == (20, 30, 3)


def test_sixteen_bit_mono_is_unchanged():
    assert wav.convert(whole()) == whole()


def tone(pitch: float, rate: int, seconds: float = 0.5) -> bytes:
    """Return a tone as a WAV file of float32."""
    time = np.arange(round(seconds * rate)) / rate
    data = (0.5 * np.sin(2 * np.pi * pitch * time)).astype("<f4").tobytes()
    layout = struct.pack("<HHIIHH", 3, 1, rate, 4 * rate, 4, 32)
    body = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body + data)) + body + data


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000])
def test_resampling_keeps_low_tones_and_removes_high_ones(rate):
    low = wav.decode(tone(1000, rate))
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(len(low)) / sounds.RATE)
    assert abs(len(low) - 8000) <= 1
    assert np.abs(low - expected)[200:-200].max() < 0.02
    if rate > 2 * 9000:  # 9 kHz would fold to 7 kHz
        assert np.abs(wav.decode(tone(9000, rate))[200:-200]).max() < 0.02


def test_channels_are_averaged():
    values = np.array([[8192, 0], [-8192, 8192]] * 400, "<i2")
    layout = struct.pack("<HHIIHH", 1, 2, sounds.RATE, 4 * sounds.RATE, 4, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", 3200)
    content = b"RIFF" + struct.pack("<I", 0) + body + values.tobytes()
    assert wav.decode(content).tolist() == [0.125, 0.0] * 400


# Forms


def form(parts: list[tuple[str, bytes]], boundary: str = "xyz") -> bytes:
    """Return a form's body. parts: (head, content)."""
    return b"".join(
        f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts
    ) + f"--{boundary}--\r\n".encode()  # fmt: skip


NAMED = 'Content-Disposition: form-data; name="{}"'
FILE = NAMED.format("file") + '; filename="a.wav"\r\nContent-Type: audio/wav'
TYPE = "multipart/form-data; boundary=xyz"


def test_a_form_is_parsed():
    content = b"\r\n--xy\r\n\r\nbinary \x00\xff--xyz\r\n"
    parsed = parse(form([(NAMED.format("model"), b"mini"), (FILE, content)]), TYPE)
    assert parsed.texts == {"model": "mini"} and parsed.files == {"file": content}


@pytest.mark.parametrize(
    ("content", "content_type", "message"),
    [
        (b"", TYPE, "closing boundary"),
        (form([])[:-5], TYPE, "closing boundary"),
        (form([(FILE, bytes(99))])[:-20], TYPE, "closing boundary"),
        (form([(FILE, b"")]), "application/json", "must be multipart"),
        (form([(FILE, b"")]), "multipart/form-data", "with a boundary"),
        (form([(FILE, b"")]), "multipart/form-data; boundary=", "boundary"),
        (form([(FILE, b"")]), "multipart/form-data; boundary=" + "x" * 71, "70 ASCII"),
        (form([(FILE, b"")]), "", "must be multipart"),
        (form([("Content-Type: text/plain", b"")]), TYPE, "no name"),
        (form([("Content-Disposition: attachment; name=a", b"")]), TYPE, "no name"),
        (form([(NAMED.format("a"), b"")] * 33), TYPE, "more than 32 parts"),
        (form([(NAMED.format("a"), b"")] * 9999), TYPE, "more than 32 parts"),
        (form([("X: " + "y" * 5000, b"")]), TYPE, "more than 4096 bytes"),
        (form([(NAMED.format("a"), bytes(70_000))]), TYPE, "more than 65,536 bytes"),
        (form([(NAMED.format("a"), b"\xff\xfe")]), TYPE, "not UTF-8"),
        (b"--xyz\r\nno head--xyz--", TYPE, "closing boundary"),
        (b"--xyz\r\nno head\r\n--xyz--", TYPE, "no head"),
    ],
)
def test_a_damaged_form_is_refused(content, content_type, message):
    with pytest.raises(ApiError, match=message) as error:
        parse(content, content_type)
    assert error.value.status == 400


def test_as_many_parts_as_allowed_are_read():
    parts = [(NAMED.format(f"a{number}"), b"x") for number in range(multipart.MAX_PARTS)]
    assert len(parse(form(parts), TYPE).texts) == multipart.MAX_PARTS


@pytest.mark.parametrize(
    ("fields", "file", "message"),
    [
        ({}, whole, "model is required"),
        ({"model": "none"}, whole, "not found"),
        ({"model": EARS}, None, '"file" is required'),
        ({"model": EARS}, lambda: saved(scene()[0]), "is an image"),
        ({"model": EARS}, lambda: b"fLaC" + bytes(99), "FLAC.*ffmpeg"),
        ({"model": EARS}, lambda: b"", "must be PNG"),
        ({"model": EARS}, lambda: bytes(21_000_000), "at most 20,000,000"),
        ({"model": EARS, "response_format": "srt"}, whole, "must be json or text"),
        ({"model": EARS, "temperature": "warm"}, whole, "must be a number"),
        ({"model": EARS, "temperature": "nan"}, whole, "between 0 and 2"),
        ({"model": EARS, "temperature": "3"}, whole, "between 0 and 2"),
        ({"model": EARS, "stream": "true"}, whole, '"stream" is not supported'),
        ({"model": EARS, "timestamp_granularities[]": "word"}, whole, "granularities.*supported"),
    ],
)
def test_a_wrong_transcription_is_refused(fields, file, message, http, client):
    files = {"file": ("a.wav", file())} if file else {"other": ("a.wav", b"")}
    response = http.post("/v1/audio/transcriptions", data=fields, files=files)
    assert 400 <= response.status_code < 500
    assert re.search(message, response.json()["error"]["message"]), response.text
    check_alive(client)


def test_a_body_above_the_limit_is_refused(http, client):
    files = {"file": ("a.wav", bytes(70_000_000))}
    response = http.post("/v1/audio/transcriptions", data={"model": EARS}, files=files)
    assert response.status_code == 413
    check_alive(client)


def test_an_input_audio_part_needs_data(http):
    for part in ({}, {"data": ""}, {"data": 3}, {"data": "%"}, {"data": "aGFyYm91cg=="},
                 {"data": base64.b64encode(whole()).decode(), "format": 3}):  # fmt: skip
        content = [{"type": "input_audio", "input_audio": part}]
        body = {"model": EARS, "messages": [{"role": "user", "content": content}]}
        assert http.post("/v1/chat/completions", json=body).status_code == 400
