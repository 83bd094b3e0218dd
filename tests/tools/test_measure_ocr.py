"""The tool that measures RapidOCR, with a reader that knows the answers in its place."""

import csv
import importlib
import sys
from pathlib import Path

import pytest

from openmodels.harbour import scenes
from openmodels.workflows import ocr
from openmodels.workflows.documents import Line

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
measure_ocr = importlib.import_module("measure_ocr")


@pytest.fixture
def reader(monkeypatch):
    """Return a reader that knows the first two of four notices, of any size."""
    known = [question.answer for _, question in scenes.questions("printed", 2, 3)]
    answers = iter(known + ["?", "?"])

    def read_lines(image):
        return [Line(next(answers), [(0, 0), (60, 0), (60, 15), (0, 15)])]

    return read_lines


def test_a_row_counts_right_answers(reader):
    row = measure_ocr.measure(reader, "printed", 2.0, 4, 3)
    assert (row["correct"], row["n"], row["task"], row["scale"]) == (2, 4, "printed", 2.0)
    assert row["low"] < 0.5 < row["high"]


def test_the_table_has_versions_and_date(tmp_path, monkeypatch):
    monkeypatch.setattr(measure_ocr.metadata, "version", lambda package: f"9 of {package}")
    monkeypatch.setattr(measure_ocr, "CASES", (("gauge", 1.0),))
    monkeypatch.setattr(ocr, "reader", lambda: lambda image: [])
    measure_ocr.main(["--count", "2", "--out", str(tmp_path / "scores.csv")])
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as table:
        [row] = csv.DictReader(table)
    assert (row["correct"], row["n"]) == ("0", "2")
    assert row["rapidocr"] == "9 of rapidocr" and row["measured"] > "2026"


def test_the_shipped_table_has_the_tool_s_cases():
    shipped = [(row["task"], float(row["scale"])) for row in ocr.rows()]
    assert shipped == list(measure_ocr.CASES)
    assert {row["seed"] for row in ocr.rows()} == {str(measure_ocr.SEED)}
