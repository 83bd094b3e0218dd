"""The trace viewer: its lists, the bars, escaped texts, and what remains without a kernel."""

import re

import pytest

from openmodels.widgets import TraceViewer, trace_viewer
from openmodels.workflows import trace

NASTY = "<img src=x onerror=alert(1)>&"


def record(path, *names, **options):
    with trace.Recorder(path, **options) as recorder:
        for name in names:
            with recorder.chain(name, f"input of {name}") as chain:
                with recorder.tool("get_price", {"item": name}) as tool:
                    trace.set_output(tool, {"price": 3})
                trace.set_output(chain, f"output of {name}")


def styles(viewer):
    return [row.children[0].button_style for row in viewer.rows.children]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "traces.db"


def test_the_newest_trace_is_shown_first(path):
    record(path, "first", "second")
    viewer = TraceViewer(path)
    labels = [button.description for button in viewer.traces.children]
    assert [re.sub(r"[\d:.]+ m?s$|^[\d:]+ ", "", label) for label in labels] == [
        "· second · 2 spans · ",
        "· first · 2 spans · ",
    ]
    assert "second: 2 spans" in viewer.words.value and "no errors" in viewer.words.value
    assert [row.children[0].description for row in viewer.rows.children] == [
        "second",
        "execute_tool get_price",
    ]
    assert "output of second" in viewer.details.value


def test_clicks_select_a_trace_and_a_span(path):
    record(path, "first", "second")
    viewer = TraceViewer(path)
    viewer.traces.children[1].click()
    assert "input of first" in viewer.details.value
    assert [b.button_style for b in viewer.traces.children] == ["", "primary"]
    before = viewer.rows.children
    viewer.rows.children[1].children[0].click()
    assert styles(viewer) == ["", "primary"]
    assert "price" in viewer.details.value and "input of first" not in viewer.details.value
    assert viewer.rows.children is before  # the focus stays on the button
    with pytest.raises(LookupError, match="no trace 'other'"):
        viewer.show_trace("other")


def test_reload_shows_new_traces_and_stays_at_the_selected_trace(path):
    record(path, "first")
    viewer = TraceViewer(path)
    record(path, "second")
    viewer.reload.click()
    assert len(viewer.traces.children) == 2
    assert "first: 2 spans" in viewer.words.value


def test_an_error_is_selected_first(path):
    with trace.Recorder(path) as recorder, recorder.chain("letter"):
        with pytest.raises(TimeoutError), recorder.tool("send", {}):
            raise TimeoutError("no answer within 2 s")
    viewer = TraceViewer(path)
    assert styles(viewer) == ["", "primary"]
    assert "error: TimeoutError" in viewer.details.value
    assert "no answer within 2 s" in viewer.details.value
    bars = [row.children[1].value for row in viewer.rows.children]
    assert [("ERROR" in bar, "gradient" in bar) for bar in bars] == [(False, False), (True, True)]


def test_everything_stored_is_escaped(path):
    with trace.Recorder(path) as recorder:
        request = {"model": NASTY, "messages": [{"role": NASTY, "content": NASTY}]}
        span = recorder.tracer.start_span(
            NASTY, attributes={NASTY: NASTY, **trace.request_attributes(request)}
        )
        span.add_event(NASTY, {NASTY: NASTY})
        trace.fail(span, RuntimeError(NASTY))
        span.end()
    viewer = TraceViewer(path, unit=NASTY)
    pages = viewer.details.value + viewer.words.value + viewer.rows.children[0].children[1].value
    assert "<img" not in pages
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;" in pages


def test_bars_lie_inside_the_trace():
    def bar(start, end):
        node = trace.Node("a", "t", None, "x", start, end, "UNSET", "", {}, (), 0)
        page = trace_viewer.bar_html(node, 1_000, 2_000, "USD")
        return re.findall(r"left:min\(([\d.]+)%|max\(2px, ([\d.]+)%", page)

    assert bar(1_000, 2_000) == [("0.00", ""), ("", "100.00")]
    assert bar(1_500, 1_750) == [("50.00", ""), ("", "25.00")]
    node = trace.Node("a", "t", None, "x", 5, 5, "UNSET", "", {}, (), 0)
    assert "left:min(0.00%" in trace_viewer.bar_html(node, 5, 5, "USD")


def test_long_traces_are_listed_in_part(path, monkeypatch):
    monkeypatch.setattr(trace_viewer, "MAX_ROWS", 3)
    monkeypatch.setattr(trace_viewer, "MAX_TRACES", 2)
    record(path, "a", "b", "c")
    with trace.Recorder(path) as recorder, recorder.chain("long"):
        for _ in range(5):
            with recorder.chain("step"):
                pass
    viewer = TraceViewer(path)
    assert len(viewer.rows.children) == 3 and len(viewer.traces.children) == 2
    assert "6 spans" in viewer.words.value
    assert "The first 3 spans are listed." in viewer.words.value
    assert "2 older traces are not listed." in viewer.words.value


def test_cuts_events_and_unfinished_traces_are_reported(path):
    with trace.Recorder(path, text_limit=50) as recorder:
        parent = recorder.tracer.start_span("killed")
        with trace.use_span(parent), recorder.chain("child", "x" * 80) as span:
            span.add_event("retry", {"attempt": 2})
    viewer = TraceViewer(path)
    assert "30 characters were cut" in viewer.details.value
    assert "event: retry" in viewer.details.value and "attempt: 2" in viewer.details.value
    assert "not finished" in viewer.traces.children[0].description
    assert "The process ended before the first span did." in viewer.words.value


def test_an_empty_file_and_text_without_a_kernel(path):
    trace.Recorder(path).close()
    viewer = TraceViewer(path)
    assert "no trace yet" in viewer.words.value
    assert viewer._repr_mimebundle_()["text/plain"] == "the file has no trace"
    record(path, "letter")
    viewer.reload.click()
    lines = viewer._repr_mimebundle_()["text/plain"].splitlines()
    assert lines[0].split() == ["span", "kind", "ms", "tokens", "cost", "status"]
    assert [line.split()[0] for line in lines[1:]] == ["letter", "execute_tool"]
