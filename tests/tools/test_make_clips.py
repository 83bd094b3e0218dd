"""The tool that speaks the shipped radio calls; it needs the program espeak-ng."""

import csv
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openmodels.harbour import sounds, speech

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
make_clips = importlib.import_module("make_clips")


def test_written_clips_are_read_with_their_table(tmp_path, monkeypatch):
    tone = np.sin(np.arange(16_000) / 20).astype(np.float32)
    voice = speech.Voice("en", "m2", 150, 50)
    calls = [
        sounds.Call("Gull waits near Skarholm.", "gull waits near skarholm", "wait"),
        sounds.Call("苹果价格", "苹果价格", "price", "zh"),
    ]
    (tmp_path / "call-99.wav").write_bytes(b"old")
    size = make_clips.write(tmp_path, [(call, voice, tone) for call in calls])
    assert size == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert not (tmp_path / "call-99.wav").exists()
    monkeypatch.setattr(sounds, "CLIPS", tmp_path)
    first, second = sounds.clips()
    assert [clip.answer["content"] for clip in (first, second)] == [call.text for call in calls]
    details = {"voice": "en+m2", "speed": 150, "intent": "wait", "language": "en"}
    assert first.details == details
    assert np.abs(first.samples - tone).max() <= 2 / 32768


@pytest.mark.skipif(shutil.which(speech.PROGRAM) is None, reason="espeak-ng is not installed")
def test_the_shipped_table_comes_from_the_seed(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["make_clips.py", "--folder", str(tmp_path)])
    make_clips.main()
    with (tmp_path / "clips.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    with (sounds.CLIPS / "clips.csv").open(encoding="utf-8", newline="") as table:
        shipped = list(csv.DictReader(table))
    assert len(rows) == len(shipped)
    version = subprocess.run(
        [speech.PROGRAM, "--version"], capture_output=True, text=True, check=True
    )
    if " 1.51 " in version.stdout:  # another version speaks at another length
        assert rows == shipped
