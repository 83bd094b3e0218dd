"""The doctor tells what this machine can run and why, and how to mend what is wrong."""

import contextlib
import io
import json
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from openmodels import doctor, paths

GB = 10**9


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A models/ folder with two miniatures; nothing of the learner's own."""
    for name in ("mini-qwen", "mini-mistral"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.setattr(paths, "shipped_dir", lambda name: tmp_path / name)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")  # no service listens on port 1
    return tmp_path


def a_machine(memory: float, gpu: float = 0) -> doctor.Machine:
    """A machine with this much free memory and free GPU memory, in GB."""
    return doctor.Machine(
        system="Linux x86_64",
        python="3.11.7",
        cores=2,
        cores_in_machine=8,
        memory_total=round(memory * GB),
        memory_free=round(memory * GB),
        disk_free=9 * GB,
        gpu="none found",
        gpu_free=round(gpu * GB),
    )


@contextlib.contextmanager
def a_server(answer: bytes):
    """An HTTP server on loopback that gives this answer; yields its host:port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/api/version" else 404)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_report_of_this_machine(shelf):
    found = doctor.report()
    assert found.miniatures == ["mini-mistral", "mini-qwen"]
    assert found.machine.cores >= 1
    assert found.machine.memory_free > 0
    assert [model.name for model in found.models] == list(doctor.CATALOGUE)
    assert found.broken == []


def test_the_command_prints_aligned_text_and_succeeds(shelf, capsys):
    assert doctor.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Machine"
    header = next(line for line in lines if line.startswith("model "))
    for name in ("mini-qwen", "qwen2.5-0.5b", "deepseek-r1 "):
        row = next(line for line in lines if line.startswith(name))
        assert row[header.index("runs here?") - 1] == " "
        assert row[header.index("runs here?") :].startswith(("yes", "no"))


def test_no_path_or_user_is_printed(shelf, monkeypatch):
    monkeypatch.setenv("USER", "learner-name")
    text = repr(doctor.table())
    assert str(shelf) not in text
    assert str(doctor.PINS.parent) not in text
    assert "learner-name" not in text


def test_a_clone_without_mini_qwen_is_broken(shelf, capsys):
    (shelf / "mini-qwen" / "config.json").unlink()
    assert doctor.main() == 1
    assert "models/mini-qwen is missing" in capsys.readouterr().out


def test_no_memory_at_all_is_broken():
    found = doctor.Report(a_machine(0.2), [], "", ["mini-qwen"], [])
    assert found.broken == [
        "only 0.2 GB of memory is free, a miniature needs 0.5 GB. Fix: close other programs."
    ]


@pytest.mark.parametrize(
    "id, verdict, reason",
    [
        ("qwen2.5-0.5b", "yes, bf16", "needs 1.6 GB of 8.0 GB"),
        (
            "qwen2.5-7b",
            "yes, 4 bits",
            "bf16 needs 17.3 GB of 8.0 GB, 4 bits need 5.6 GB; ollama run qwen2.5:7b",
        ),
        ("llama-4-scout", "no", "4 bits need 73.6 GB, there is 8.0 GB"),
    ],
)
def test_what_runs_in_8_gigabytes(id, verdict, reason):
    runs = doctor.runs(id, a_machine(memory=8))
    assert (runs.verdict, runs.reason) == (verdict, reason)


def test_bf16_needs_the_gpu_alone_and_4_bits_may_share():
    here = a_machine(memory=60, gpu=20)
    assert doctor.runs("qwen2.5-7b", here).verdict == "yes, bf16"
    assert "of 20.0 GB" in doctor.runs("qwen2.5-7b", here).reason
    assert doctor.runs("llama-4-scout", here).verdict == "yes, 4 bits"


def test_packages_against_pins(tmp_path):
    pins = tmp_path / "constraints.txt"
    pins.write_text("# pins\npsutil==0.0.1\nnumpy==1.0 ; python_version > '3'\nother\n")
    found = {package.name: package for package in doctor.packages(pins)}
    assert found["psutil"].pinned == "0.0.1"
    assert found["psutil"].fix == "pip install -c constraints.txt psutil"
    assert found["numpy"].pinned == "1.0"
    assert (found["transformers"].pinned, found["transformers"].fix) == ("", "")


def test_a_missing_package_is_a_warning_with_its_fix(shelf, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "NEEDED", ("no-such-package-here",))
    assert doctor.main() == 0
    text = capsys.readouterr().out
    assert "missing" in text
    assert "pip install -c constraints.txt no-such-package-here" in text


def test_a_local_build_counts_as_its_version(tmp_path, monkeypatch):
    pins = tmp_path / "constraints.txt"
    pins.write_text("torch==2.13.0\n")
    monkeypatch.setattr(doctor, "NEEDED", ("torch",))
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "2.13.0+cpu")
    assert doctor.packages(pins)[0].fix == ""


@pytest.mark.parametrize(
    "host, address",
    [
        ("", "http://127.0.0.1:11434"),
        ("localhost:8080", "http://127.0.0.1:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://127.0.0.2:99", "http://127.0.0.2:99"),
        ("[::1]:99", "http://[::1]:99"),
        ("::1", "http://[::1]:11434"),
        (" '127.0.0.1' ", "http://127.0.0.1:11434"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),
        ("https://localhost/prefix/", "https://127.0.0.1:443/prefix"),
        ("localhost.example.org", None),
        ("192.0.2.7", None),
        ("ollama.example.org:11434", None),
    ],
)
def test_ollama_is_looked_for_on_this_machine_only(host, address):
    assert doctor.ollama_address(host) == address


def test_a_remote_ollama_is_not_contacted(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "192.0.2.7")
    monkeypatch.setattr(doctor.urllib.request, "build_opener", None)  # calling it would fail
    assert doctor.ollama() == "OLLAMA_HOST names another machine; it was not contacted"


def test_an_address_that_cannot_be_read_is_explained(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", ":abc")
    assert doctor.ollama().startswith("OLLAMA_HOST cannot be read: ':abc' is not the address")


def test_a_pipe_of_windows_is_no_error(shelf, monkeypatch):
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(doctor.sys, "stdout", pipe)
    monkeypatch.setattr(doctor, "packages", lambda: [doctor.Package("\u0142", "1", "1", "")])
    assert doctor.main() == 0
    pipe.flush()
    assert re.search(rb"\?\s+1\s+1", pipe.buffer.getvalue())


def test_ollama_that_answers(monkeypatch):
    with a_server(json.dumps({"version": "0.32.0"}).encode()) as host:
        monkeypatch.setenv("OLLAMA_HOST", host)
        assert doctor.ollama(timeout=5) == "answers, version 0.32.0"


def test_something_else_on_that_port(monkeypatch):
    with a_server(b"hello") as host:
        monkeypatch.setenv("OLLAMA_HOST", host)
        assert "answers" not in doctor.ollama(timeout=5).replace("does not answer", "")


@pytest.mark.parametrize("found, says", [("/x/ollama", "run `ollama serve`"), (None, "To get it")])
def test_ollama_that_does_not_answer(shelf, monkeypatch, found, says):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: found)
    assert says in doctor.ollama()


@pytest.mark.parametrize(
    "version, cure", [("2.13.0+cpu", "; python start.py --cuda"), ("2.13.0", "")]
)
def test_a_driver_without_a_torch_for_it(monkeypatch, version, cure):
    import torch

    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch, "__version__", version)
    text = f"a driver is here, but torch {version} cannot use it{cure}"
    assert doctor._gpu() == (text, 0)


def test_cores_of_a_container(tmp_path):
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    assert doctor._usable_cores(quota) == 1
    quota.write_text("max 100000\n")
    assert doctor._usable_cores(quota) == doctor._usable_cores(tmp_path / "absent")


def test_html_is_escaped():
    here = replace(a_machine(8), gpu="<b>Lark</b> & Co")
    table = doctor.Table(doctor.Report(here, [], "no", ["mini-qwen"], []))
    shown = table._repr_html_()
    assert "&lt;b&gt;Lark&lt;/b&gt; &amp; Co" in shown
    assert shown.count("<table ") == shown.count("</table>") == 3
    assert "<b>Lark</b> & Co" in repr(table)
