"""Lab 2 accepts right answers written in other ways, and its worked examples are right."""

import mmap
import struct
import time
from types import SimpleNamespace

import numpy as np
import ollama
import pytest
import torch

from openmodels import sizing
from openmodels.check import find
from openmodels.exercises.lab2 import (
    ex_2_4_four_bits,
    ex_2_5_gguf,
    ex_2_7_measure,
    ex_2_8_leaks,
    ex_2_9_workshop,
)
from openmodels.gguf.export import gguf_file
from openmodels.isolation import network


def correct(number, *answers) -> bool:
    outcome = find(number).load_checker().judge(*answers)
    assert outcome.state == "correct", outcome.message
    return True


# --- The worked examples of the stubs -------------------------------------------------------------


def test_four_bits():
    block = torch.zeros(1, 32)
    block[0, :2] = torch.tensor([4.0, -3.9])
    codes, scales = ex_2_4_four_bits.reference_quantise(block)
    assert scales.tolist() == [[-0.5]]
    assert codes[0].tolist() == [0, 15] + [8] * 30
    assert ex_2_4_four_bits.reference_dequantise(codes, scales)[0, :3].tolist() == [4, -3.5, 0]


def test_head_of_a_file():
    file = gguf_file("mini-qwen-xs")
    assert ex_2_5_gguf.reference_counts(file) == (3, 50, 24)
    assert ex_2_5_gguf.reference_text(file, "general.architecture") == "qwen2"
    with ex_2_5_gguf.write_file("port.tides", "port.name") as file:
        assert ex_2_5_gguf.reference_text(file, "port.name") == "Port Lark, 百灵港"


def test_measures_of_a_script():
    script = ex_2_7_measure.SCRIPTS["a scripted answer"]
    result, client = ex_2_7_measure.run_script(ex_2_7_measure.reference_measure, script)
    assert result == pytest.approx(
        {"text": "The bakery is run by Mara.", "first": 1.25, "seen": 6, "told": 8, "read": 200}
    )
    assert client.clock.now == 100 + 2.25 + 0.5


def test_plan_of_the_example():
    config = SimpleNamespace(
        num_hidden_layers=1, num_key_value_heads=1, head_dim=250, num_attention_heads=1,
        hidden_size=250, max_position_embeddings=32_768,
    )  # fmt: skip
    plan = ex_2_9_workshop.reference_plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ex_2_9_workshop.sizing, "kv_cache_bytes_per_token", lambda _: 100_000)
        held = plan(config, 4_000_000_000, 10_000_000_000, 3, 512)
    assert held == (3, 16_896, 9_968_800_000)


def test_every_plan_fits_by_the_course_s_own_count():
    for room in ex_2_9_workshop.ROOMS.values():
        config, weights, budget, people, least = room.call
        slots, context, held = ex_2_9_workshop.reference_plan(*room.call)
        cache = slots * sizing.kv_cache_bytes(config, context)
        assert held == sizing.needed_bytes(weights, cache) <= budget
        assert context >= least and 1 <= slots <= people


# --- Right answers of another make ----------------------------------------------------------------


def test_codes_of_numpy_and_of_another_type():
    def quantise(matrix):
        blocks = matrix.numpy().reshape(len(matrix), -1, 32)
        place = np.abs(blocks).argmax(-1)[..., None]
        scales = np.take_along_axis(blocks, place, -1) / -8
        inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
        codes = np.minimum(15, np.floor(blocks * inverse + 8.5))
        return codes.reshape(matrix.shape), scales[..., 0]

    def dequantise(codes, scales):
        codes, scales = np.asarray(codes, dtype=np.float32), np.asarray(scales)
        return (codes - 8) * np.repeat(scales, 32, axis=1)

    assert correct("2.4", quantise, dequantise)
    assert correct("2.4", ex_2_4_four_bits.reference_quantise, dequantise)


def test_a_reader_that_maps_the_file():
    def counts(file):
        with (
            open(file, "rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as m,
        ):
            if m[:4] != b"GGUF":
                raise ValueError(m[:4])
            return list(struct.unpack("<IQQ", m[4:24]))

    def text(file, key):
        data = file.read_bytes()

        def value(kind, at):
            """(what stands there, the place behind it)"""
            if kind == 8:
                (size,) = struct.unpack_from("<Q", data, at)
                return data[at + 8 : at + 8 + size].decode(), at + 8 + size
            if kind == 9:
                inner, count = struct.unpack_from("<IQ", data, at)
                at += 12
                for _ in range(count):
                    _, at = value(inner, at)
                return None, at
            return None, at + ex_2_5_gguf.WIDTHS[kind]

        at, texts = 24, {}
        for _ in range(counts(file)[2]):
            name, at = value(8, at)
            texts[name], at = value(*struct.unpack_from("<I", data, at), at + 4)
        if texts.get(key) is None:
            raise KeyError(key)
        return texts[key]

    assert correct("2.5", counts, text)


def test_a_modelfile_in_small_letters_with_a_block():
    lines = [
        "# the sorting desk",
        "from mini-qwen",
        "  parameter num_predict 6",
        "",
        "parameter temperature 0.0",
        'system """',
        'Name the intent: price, order, hours, tide, berth or complaint."""',
    ]
    quoted = "\n".join(lines)
    assert correct("2.6", lambda: quoted)


def test_scales_in_sixteen_bits_as_a_file_keeps_them():
    def quantise(matrix):
        codes, scales = ex_2_4_four_bits.reference_quantise(matrix)
        return codes, scales.half()

    def from_them(matrix):
        blocks = matrix.reshape(len(matrix), -1, 32)
        scales = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)) / -8
        scales = scales.half().float()
        codes = (blocks / torch.where(scales == 0, 1.0, scales) + 8.5).floor().clamp(0, 15)
        return codes.reshape(matrix.shape), scales[..., 0]

    assert correct("2.4", quantise, ex_2_4_four_bits.reference_dequantise)
    assert correct("2.4", from_them, ex_2_4_four_bits.reference_dequantise)


def test_measures_as_dicts_and_with_generators():
    def measure(client, model, messages, clock=None):
        clock = clock or time.perf_counter
        began, times, text = clock(), [], []
        for line in client.chat(model, messages, stream=True):
            if line["message"]["content"]:
                times.append(clock())
                text.append(line["message"]["content"])
        pace = (line["eval_count"] - 1) / (times[-1] - times[0])
        rate = line["eval_count"] / (line["eval_duration"] / 1e9)
        read = line["prompt_eval_count"] / (line["prompt_eval_duration"] / 1e9)
        return {"text": "".join(text), "first": times[0] - began, "seen": np.float64(pace),
                "told": rate, "read": read}  # fmt: skip

    assert correct("2.7", measure)


def test_the_scripted_client_answers_whole_as_the_server_would():
    client = ex_2_7_measure.ScriptedClient(
        ex_2_7_measure.SCRIPTS["a scripted answer"], ex_2_7_measure.Clock()
    )
    whole = client.chat("mini-qwen", ex_2_7_measure.MESSAGES)
    assert isinstance(whole, ollama.ChatResponse)
    assert (whole.message.content, whole.eval_count) == ("The bakery is run by Mara.", 7)


def test_leaks_by_one_watch_and_what_was_new_in_it():
    def leaks(clients, question):
        addresses, before = {}, 0
        with network.watch(block=True) as watch:
            for name, client in clients.items():
                try:
                    client(question)
                except PermissionError:
                    pass
                if new := watch.outside[before:]:
                    addresses[name] = new[-1].address
                before = len(watch.outside)
        return addresses

    assert correct("2.8", leaks)


def test_clients_tell_what_they_are_said_to_tell():
    with network.FakeRemote() as first, network.FakeRemote() as second:
        by_name = ex_2_8_leaks.clients(str.upper, first, second)
        assert {client("at 9") for client in by_name.values()} == {"AT 9"}
        assert (first.heard, second.heard) == (["at 9"] * 2, ["at 9"] * 3)
        assert by_name["finch"]("at noon") == "AT NOON"
        assert len(second.heard) == 3


def test_a_plan_as_a_list_of_numpy_integers():
    assert correct("2.9", lambda *call: list(np.array(ex_2_9_workshop.reference_plan(*call))))


def test_a_plan_in_floats():
    def plan(config, weights, budget, people, least):
        per_token = sizing.kv_cache_bytes_per_token(config)
        needed = weights * 1.1 + 0.5e9
        tokens = (budget - needed) // per_token
        if tokens < least:
            raise ValueError("none fits")
        slots = min(people, tokens // least)
        context = min(tokens // slots, config.max_position_embeddings) // 256 * 256
        return slots, context, needed + slots * context * per_token

    assert correct("2.9", plan)
