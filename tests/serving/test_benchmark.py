"""The benchmark prints every figure it promises; how large they are is the machine's affair."""

import json

import pytest

from openmodels import minis
from openmodels.serving import benchmark, throughput


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs the benchmark with few tokens and returns what it printed."""
    monkeypatch.setenv("OPENMODELS_CACHE", str(tmp_path))

    def main(*arguments: str) -> str:
        words = ["bench", "mini-qwen-xs", "--tokens", "8", "--rounds", "1", *arguments]
        monkeypatch.setattr("sys.argv", words)
        benchmark.main()
        return capsys.readouterr().out

    return main


def test_every_speed_stands_beside_its_peer(run):
    found = json.loads(run("--small", "--json"))
    assert min(value for name, value in found.items() if name.endswith("tokens/s")) > 0
    for ratio, one, other in (
        ("engine f16 / transformers", "engine f16", "transformers"),
        ("server / llama.cpp's own server", "server", "llama.cpp's own server"),
        ("server / llama.cpp's own server, streamed", "server, streamed",
         "llama.cpp's own server, streamed"),
        ("8 slots / 1 slot", "8 texts, 8 slots", "8 texts, 1 slot"),
    ):  # fmt: skip
        speeds = found[f"{one}, tokens/s"] / found[f"{other}, tokens/s"]
        assert found[ratio] == pytest.approx(speeds)
    assert "server over llama.cpp, ms a request" in found


def test_the_full_size_shape_is_measured_unless_left_out(run, monkeypatch):
    monkeypatch.setattr(
        throughput, "random_model", lambda id, home: minis.weights_dir("mini-qwen-xs")
    )
    rows = run().splitlines()
    assert rows[-1].startswith("8 slots / 1 slot, qwen2.5-0.5b's shape")
    assert not any("shape" in row for row in run("--small").splitlines())
