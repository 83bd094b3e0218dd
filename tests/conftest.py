"""How the suite runs: a worker per core, one thread each, the longest work first; then its figures.

`python start.py test` starts the workers (`pytest -n 2 --dist loadgroup`, on two cores); given an
argument such as a path, it starts none. The tests of a file stay on one worker, so its fixtures
load a model once; each notebook is a unit of its own. The figures of every notebook are printed
after the tests and kept in build/test-report.json.
"""

import json
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: a worker per core
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENMODELS_THREADS", "1")

import notebooks
import pytest

from openmodels.serving import connect

REPORT = notebooks.ROOT / "build" / "test-report.json"
COLUMNS = {
    "seconds": "seconds",
    "peak_mb": "peak MB",
    "cells": "cells",
    "code_lines": "lines of code",
    "text_words": "words of text",
}


# Seconds of the longest units, measured alone on one thread: they start first, so that no worker
# is left with a long one at the end. What is not listed takes less.
LONG = {
    "chapters/2_local_deployment/8_adapt.ipynb": 170,
    "chapters/2_local_deployment/1_will_it_fit.ipynb": 110,
    "chapters/1_landscape/6_reasoning.ipynb": 90,
    "chapters/1_landscape/4_experts.ipynb": 80,
    "chapters/2_local_deployment/3_quantise.ipynb": 75,
    "chapters/3_multimodal/5_false_answers.ipynb": 75,
    "chapters/3_multimodal/3_documents.ipynb": 75,
    "chapters/3_multimodal/2_ask_pictures.ipynb": 75,
    "chapters/3_multimodal/4_listening.ipynb": 75,
    "solutions/3_multimodal.ipynb": 78,
    "solutions/4_workflows.ipynb": 70,
    "solutions/5_capstone.ipynb": 110,
    "chapters/4_workflows/1_workflows.ipynb": 170,
    "chapters/4_workflows/2_structured_output.ipynb": 90,
    "chapters/4_workflows/3_tools_mcp.ipynb": 80,
    "chapters/4_workflows/4_retrieval.ipynb": 90,
    "chapters/4_workflows/5_agents.ipynb": 220,
    "chapters/4_workflows/6_evaluate.ipynb": 90,
    "chapters/4_workflows/7_operate.ipynb": 90,
    "chapters/4_workflows/8_scale.ipynb": 90,
    "tests/minis/test_evaluate.py": 75,
    "tests/minis/test_images.py": 75,
    "tests/tools/test_grade.py": 130,
    "tests/serving/test_app.py": 60,
}


def unit(item) -> str:
    """Return what a test is scheduled with: its notebook if it runs one, else its file."""
    callspec = getattr(item, "callspec", None)
    path = callspec.params.get("path") if callspec else None
    if item.path.name == "test_notebooks.py" and path is not None:
        return notebooks.name(path)
    return item.path.relative_to(notebooks.ROOT).as_posix()


def pytest_collection_modifyitems(items):
    """Group tests by `unit` and put the longest units first; the order within a unit stays."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(unit(item).replace("@", "_")))
    items.sort(key=lambda item: -LONG.get(unit(item), 0))


def figures(terminalreporter) -> dict[str, dict]:
    """Notebook to its figures, gathered from what the tests recorded as "notebook"."""
    found: dict[str, dict] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key == "notebook":
                    found.setdefault(value["name"], {}).update(value)
    return dict(sorted(found.items()))


def pytest_terminal_summary(terminalreporter):
    found = figures(terminalreporter)
    if not found:
        return
    REPORT.parent.mkdir(exist_ok=True)
    report = {"offline": notebooks.proof(), "notebooks": found}
    REPORT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    rows = [["notebook", *COLUMNS.values()]]
    for name, values in found.items():
        rows.append([name, *(str(values.get(key, "")) for key in COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    terminalreporter.section("notebooks (of code and text: median / largest)")
    for row in rows:
        first, *others = [
            text.rjust(width) if place else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        terminalreporter.line("  ".join([first, *others]))
    terminalreporter.line(f"offline: {notebooks.proof()}")


def pytest_sessionfinish(session):
    """Stop the stand-in that the notebooks shared, once every worker is done."""
    if not hasattr(session.config, "workerinput"):
        connect.stop()
