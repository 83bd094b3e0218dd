"""The load generator and the queue: what they compute, what they refuse, what they see."""

import asyncio
import json
import random
from contextlib import asynccontextmanager

import pytest

from openmodels.gguf import export
from openmodels.serving import load_generator
from openmodels.serving.engine import Engine
from openmodels.serving.load_generator import LoadError, RequestTiming


def words(count: int, question: str = "Add 45 and 91.") -> dict:
    """A request for an answer of exactly `count` tokens."""
    asked = {"messages": [{"role": "user", "content": question}], "max_tokens": count}
    return asked | {"temperature": 0, "ignore_eos": True, "cache_prompt": False}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENMODELS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield export.gguf_file("mini-qwen")


@asynccontextmanager
async def answering(text: str, kind: bytes = b"200 OK"):
    """A server on this machine that says the same to everybody; yields address and requests."""
    seen = []

    async def answer(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 " + kind + b"\r\nconnection: close\r\n\r\n" + text.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


# --- The queue ------------------------------------------------------------------------------------


def test_a_queue_by_hand():
    assert load_generator.queued([0, 1], [3, 3]) == [0.0, 2.0]
    assert load_generator.queued([0, 1], [3, 3], slots=2) == [0.0, 0.0]
    assert load_generator.queued([0, 1, 2, 9], [3, 8, 1, 1], slots=2) == [0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("busy", [0.5, 0.8])
def test_the_queue_agrees_with_the_formulas(busy):
    # Pollaczek-Khinchine: answers of one length wait half as long as answers of random length
    n, drawn = 200_000, random.Random(1)
    moments = load_generator.arrivals(n, busy, seed=2)
    alike = sum(load_generator.queued(moments, [1.0] * n)) / n
    mixed = sum(load_generator.queued(moments, [drawn.expovariate(1) for _ in range(n)])) / n
    assert alike == pytest.approx(busy / (2 * (1 - busy)), rel=0.08)
    assert mixed == pytest.approx(busy / (1 - busy), rel=0.08)


def test_arrivals_are_random_and_come_at_their_rate():
    moments = load_generator.arrivals(20_000, rate=4.0, seed=3)
    pauses = [b - a for a, b in zip([0.0, *moments], moments, strict=False)]
    assert (
        moments
        == load_generator.arrivals(20_000, rate=4.0, seed=3)
        != load_generator.arrivals(20_000, 4.0, 4)
    )
    assert min(pauses) > 0 and moments[-1] / 20_000 == pytest.approx(1 / 4, rel=0.03)
    spread = sum((one - 0.25) ** 2 for one in pauses) / 20_000
    assert spread == pytest.approx(0.25**2, rel=0.06)  # as wide as the mean: exponential


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: load_generator.queued([0], [1, 2]),
        lambda: load_generator.queued([0], [1], slots=0),
        lambda: load_generator.arrivals(3, 0),
        lambda: load_generator.arrivals(3, float("inf")),
        lambda: load_generator.percentile([], 0.5),
        lambda: load_generator.percentile([1], 0),
        lambda: load_generator.percentile([1], 1.01),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError):
        wrong()


def test_what_a_reader_saw():
    one = RequestTiming(1.0, (1.5, 1.7, 2.1))
    assert (one.time_to_first_token, one.latency, one.inter_token_latency) == pytest.approx(
        (0.5, 1.1, 0.3)
    )
    assert RequestTiming(1.0, (1.5,)).inter_token_latency == 0
    assert load_generator.throughput([one, RequestTiming(0.1, (0.3,))]) == pytest.approx(4 / 2.0)
    assert [load_generator.percentile([4, 1, 3, 2], share) for share in (0.25, 0.5, 0.51, 1)] == [
        1,
        2,
        3,
        4,
    ]


# --- Who is asked ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "http://192.0.2.1:8000",
        "http://example.org",
        "https://127.0.0.1:8000",
        "http://127.0.0.1@192.0.2.1:80",
        "http://127.0.0.1.example.org",
        "127.0.0.1:8000",
    ],
)
def test_only_this_machine_is_put_under_load(address):
    with pytest.raises(ValueError, match="not on this machine"):
        asyncio.run(load_generator.crowd(address, [words(1)], 1))
    with pytest.raises(ValueError, match="not on this machine"):
        asyncio.run(load_generator.stream(address, [words(1)], [0.0]))
    with pytest.raises(ValueError, match="not on this machine"):
        load_generator.counters(address)


def test_a_run_is_bounded():
    many = [words(1)] * (load_generator.MAX_REQUESTS + 1)
    for wrong in (many, []):
        with pytest.raises(ValueError, match="requests in a run"):
            asyncio.run(load_generator.crowd("http://127.0.0.1:1", wrong, 1))
    for readers in (0, load_generator.MAX_READERS + 1):
        with pytest.raises(ValueError, match="readers"):
            asyncio.run(load_generator.crowd("http://127.0.0.1:1", [words(1)], readers))
    for moments in ([], [-1.0], [float("nan")], [float("inf")]):
        with pytest.raises(ValueError, match="moment"):
            asyncio.run(load_generator.stream("http://127.0.0.1:1", [words(1)], moments))


def test_a_redirect_is_not_followed():
    async def run():
        moved = b"307 Moved\r\nlocation: http://127.0.0.1:1/elsewhere"
        async with answering("", moved) as (address, seen):
            with pytest.raises(LoadError, match="307"):
                await load_generator.crowd(address, [words(1)], 1)
            return len(seen)

    assert asyncio.run(run()) == 1


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ("", "without text"),
        ("data: [DONE]\n\n", "without text"),
        ("data: nonsense\n\n", "not a chunk"),
        ("data: 7\n\n", "not a chunk"),
        ('data: {"choices": [3]}\n\n', "not a chunk"),
        ('data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
        ('data: {"choices": [{"text": "a"}]}\n\n' * (load_generator.MAX_CHUNKS + 1), "more than"),
    ],
)
def test_an_answer_that_is_none(said, match):
    async def run():
        async with answering(said) as (address, _):
            await load_generator.crowd(address, [words(1)], 1)

    with pytest.raises(LoadError, match=match):
        asyncio.run(run())


def test_nobody_listens():
    with pytest.raises(LoadError, match="ConnectError"):
        asyncio.run(load_generator.crowd("http://127.0.0.1:1", [words(1)], 1))


def test_the_first_error_ends_the_others():
    said = "data: " + json.dumps({"choices": [{"text": "a"}]}) + "\n\n"

    async def run():
        async with answering(said, b"503 Busy") as (address, seen):
            with pytest.raises(LoadError, match="503"):
                await load_generator.crowd(address, [words(1)] * 50, 2)
            return len(seen), len(asyncio.all_tasks())

    asked, tasks = asyncio.run(run())
    assert asked < 50 and tasks <= 3  # this test, the fake server's connections; no reader


# --- A real engine --------------------------------------------------------------------------------


def test_slots_share_a_pass(file):
    bodies, passes = [words(32, f"Add {n} and 7.") for n in range(20, 28)], {}
    for slots in (1, 4):
        with Engine(file, slots=slots, threads=1, context=256) as engine:
            seen = asyncio.run(load_generator.crowd(engine, bodies, readers=8))
            passes[slots] = load_generator.counters(engine)["n_decode_total"]
            busy = load_generator.counters(engine)["n_busy_slots_per_decode"]
        assert len(seen) == 8 and all(30 <= len(one.chunk_times) <= 32 for one in seen)
        assert all(
            list(one.chunk_times) == sorted(one.chunk_times) and one.time_to_first_token > 0
            for one in seen
        )
    assert 0.95 * 8 * 32 <= passes[1] <= 8 * 32 and passes[4] < 0.6 * passes[1]
    assert 1 < busy <= 4


def test_readers_come_at_their_moments(file):
    moments = [0.0, 0.2, 0.1]
    bodies = [words(4), {"prompt": "Add 45 and 91."} | words(4), words(4)]
    del bodies[1]["messages"]
    with Engine(file, slots=2, threads=1, context=256) as engine:
        seen = asyncio.run(load_generator.stream(engine, bodies, moments))
    assert all(one.sent_at >= moment for one, moment in zip(seen, moments, strict=True))


def test_a_late_reader_does_not_wait_for_the_long_answer(file):
    with Engine(file, slots=2, threads=1, context=512) as engine:
        bodies = [words(300), words(8), words(8), words(8)]
        long, *short = asyncio.run(load_generator.crowd(engine, bodies, readers=4))
    assert max(one.chunk_times[-1] for one in short) < long.chunk_times[-1]


def test_a_refusal_has_llama_cpps_words(file):
    with Engine(file, threads=1, context=256) as engine:
        with pytest.raises(LoadError, match="status 4"):
            asyncio.run(load_generator.crowd(engine, [words(1, "Who? " * 400)], 1))
