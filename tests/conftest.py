"""The figures of every notebook, printed after the tests and kept in build/test-report.json."""

import json

import notebooks

from openmodels.serving import connect

REPORT = notebooks.ROOT / "build" / "test-report.json"
COLUMNS = {
    "seconds": "seconds",
    "peak_mb": "peak MB",
    "cells": "cells",
    "code_lines": "lines of code",
    "text_words": "words of text",
}


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


def pytest_sessionfinish():
    """Notebooks share a stand-in for Ollama that outlives them; not the tests."""
    connect.stop()
