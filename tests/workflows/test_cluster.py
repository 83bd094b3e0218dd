"""The commands of deploy/dask/cluster.md, run as they stand, on 127.0.0.1."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
from notebooks import ROOT

GUIDE = (ROOT / "deploy" / "dask" / "cluster.md").read_text(encoding="utf-8")
BLOCKS = [block.replace("\\\n", " ") for block in re.findall(r"```\n(.*?)```", GUIDE, re.DOTALL)]
CLEAR = ("DASK_", "OPENMODELS_")


def commands(start):
    """Return the commands of the guide that begin with `start`, without their comments."""
    lines = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
    return [line for line in lines if line.startswith(start)]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def words(command, port):
    """Return a command for this machine: its addresses are 127.0.0.1, its dask is this Python's."""
    command = command.replace("HEAD", "127.0.0.1").replace("8786", str(port))
    first, *arguments = command.replace("--nworkers 8", "--nworkers 2").split()
    program = {"dask": ["-m", "dask"], "python": []}[first]
    return [sys.executable, *program, *arguments]


@pytest.mark.skipif(not shutil.which("openssl"), reason="the guide's certificates need openssl")
def test_the_guide_starts_a_cluster_and_runs_the_script_on_it(tmp_path):
    for command in commands("openssl"):
        parts = re.sub(r'"(.*?)"', r"\1", command).split()
        subprocess.run(parts, cwd=tmp_path, check=True, capture_output=True)
    port = free_port()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(CLEAR)}
    exports = dict(line.removeprefix("export ").split("=") for line in commands("export"))
    [scheduler], [worker] = commands("dask scheduler"), commands("dask worker")
    _, script = commands("python -m openmodels.workflows.jobs")
    quiet = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ExitStack() as stack:
        for command in (scheduler, worker):
            process = subprocess.Popen(words(command, port), env=clean, **quiet)
            stack.enter_context(process)
            stack.callback(process.send_signal, signal.SIGTERM)
        result = subprocess.run(
            words(script.replace("5000", "40"), port),
            env=clean | exports, cwd=tmp_path, capture_output=True, text=True, timeout=200,
            check=False,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["documents"] == report["right"] + report["wrong"] == 40


def test_the_guide_names_the_command_and_what_was_not_run():
    assert "--scheduler tls://HEAD:8786" in GUIDE and "--plain" in GUIDE
    assert "several machines was not available" in " ".join(GUIDE.split())
