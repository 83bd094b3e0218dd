"""A viewer of recorded workflows: the traces of a file, a trace's spans in time, and one span."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import ipywidgets
from openinference.semconv.trace import SpanAttributes

from openmodels import tables
from openmodels.widgets.controls import status
from openmodels.workflows import trace

MAX_ROWS = 200  # spans of a trace that the viewer lists
MAX_TRACES = 50  # newest traces of the list
INDENT = 14  # pixels per level of the tree
LONGEST = 300  # characters of a value in the table of attributes
DEEPEST = 8  # levels that are indented
# Mid-tones, at least 3:1 on white and on JupyterLab's dark ground; the kind is also in the text.
COLOURS = {"LLM": "#3f83c8", "TOOL": "#c0692c", "RETRIEVER": "#2f9467", "CHAIN": "#808080"}
ERROR = "repeating-linear-gradient(45deg, #d64545 0 4px, #8f2424 4px 8px)"  # visible in grey too
ROW_CSS = """<style>
.openmodels-span, .openmodels-trace {text-align: left; padding: 0 6px}
.openmodels-span:focus-visible, .openmodels-trace:focus-visible {
    outline: 2px solid currentColor; outline-offset: -3px}
</style>"""
TEXT_STYLE = (
    "white-space:pre-wrap; overflow-wrap:anywhere; margin:0.2em 0 0.8em; padding:0.3em 0.8em; "
    "border-left:3px solid rgba(128,128,128,0.6); max-height:20em; overflow-y:auto; line-height:1.4"
)


class TraceViewer(ipywidgets.VBox):
    """Show a file of traces: a list, the selected trace's spans as bars, and the selected span.

    path: a file of `openmodels.workflows.trace`. unit: of the costs. Tab reaches each trace and
    each span, and Enter selects it. *Reload* reads the file again. The lists are buttons because
    JupyterLab takes the arrow keys of a list box. Where no kernel runs, the newest trace remains
    as a text table.
    """

    def __init__(self, path: Path | str, unit: str = "USD") -> None:
        self.path, self.unit = Path(path), unit
        self.summaries: list[trace.Summary] = []
        self.spans: list[trace.Node] = []
        self.trace_id: str | None = None
        self.traces = ipywidgets.VBox(layout={"max_height": "160px", "overflow": "hidden auto"})
        self.reload = ipywidgets.Button(
            description="Reload", tooltip="read the file again", layout={"width": "max-content"}
        )
        self.words, self.details = ipywidgets.HTML(), ipywidgets.HTML()
        self.rows = ipywidgets.VBox(layout={"overflow": "hidden"})
        self.reload.on_click(lambda _button: self.read())
        style = ipywidgets.HTML(ROW_CSS, layout={"display": "block", "height": "0", "margin": "0"})
        super().__init__(
            [style, self.reload, self.traces, self.words, self.rows, self.details],
            layout={"max_width": "860px"},
        )
        self.read()

    def read(self) -> None:
        """Read the file, list its traces, and show the selected trace, or else the newest."""
        everything = trace.summaries(self.path)
        self.hidden = len(everything[MAX_TRACES:])
        self.summaries = everything[:MAX_TRACES]
        self.traces.children = [self._trace_button(row) for row in self.summaries]
        known = [row.trace_id for row in self.summaries]
        if not known:
            self.words.value = status("The file has no trace yet.")
            return
        self.show_trace(self.trace_id if self.trace_id in known else known[0])

    def _trace_button(self, row: trace.Summary) -> ipywidgets.Button:
        button = ipywidgets.Button(
            description=_line(row),
            tooltip="show this trace",
            layout={"width": "auto", "flex": "0 0 auto", "margin": "1px 2px"},
        )
        button.add_class("openmodels-trace")
        button.on_click(lambda _button: self.show_trace(row.trace_id))
        return button

    def show_trace(self, trace_id: str) -> None:
        """Show the spans of a listed trace, and select the first with an error.

        Raises LookupError if the trace is not listed.
        """
        summaries = {row.trace_id: row for row in self.summaries}
        if trace_id not in summaries:
            raise LookupError(f"the viewer lists no trace {trace_id!r}")
        summary = summaries[trace_id]
        self.trace_id = trace_id
        for row, button in zip(self.summaries, self.traces.children, strict=True):
            button.button_style = "primary" if row is summary else ""
        listed = [pair for root in self._roots() for pair in root.walk()]
        text = _sentence(summary, len(listed), self.unit)
        text += f" {self.hidden} older traces are not listed." if self.hidden else ""
        self.words.value = status(text)
        listed = listed[:MAX_ROWS]
        self.spans = [node for _, node in listed]
        self.rows.children = [self._row(n, depth) for n, (depth, _) in enumerate(listed)]
        errors = [n for n, node in enumerate(self.spans) if node.status == "ERROR"]
        self.select(errors[0] if errors else 0)

    def _roots(self) -> list[trace.Node]:
        return trace.read(self.path, self.trace_id)

    def _row(self, number: int, depth: int) -> ipywidgets.HBox:
        """Return a button that selects a span, and next to it the span's bar and numbers."""
        node, indent = self.spans[number], min(depth, DEEPEST) * INDENT
        button = ipywidgets.Button(
            description=node.name,
            tooltip=f"{node.kind}, level {depth + 1}: show this span",
            layout={"width": f"calc(34% - {indent}px)", "margin": f"1px 2px 1px {indent}px"},
        )
        button.add_class("openmodels-span")
        button.on_click(lambda _button: self.select(number))
        start = min(span.start_ns for span in self.spans)
        end = max(span.end_ns for span in self.spans)
        bar = ipywidgets.HTML(bar_html(node, start, end, self.unit), layout={"flex": "1 1 0"})
        return ipywidgets.HBox([button, bar], layout={"align_items": "center"})

    def select(self, number: int) -> None:
        """Show one span of the trace, by its row from 0. Raises IndexError for another row."""
        self.details.value = span_html(self.spans[number], self.unit)
        for place, row in enumerate(self.rows.children):
            row.children[0].button_style = "primary" if place == number else ""

    def _repr_mimebundle_(self, **options: object) -> dict[str, object]:
        rows = trace.as_rows(self._roots()) if self.trace_id else [("the file has no trace",)]
        return super()._repr_mimebundle_(**options) | {"text/plain": tables.as_text(rows)}


def _line(row: trace.Summary) -> str:
    """Return a trace as a line of the list."""
    when = datetime.fromtimestamp(row.start_ns / 1e9).strftime("%H:%M:%S")
    parts = [when, row.name[:60], f"{row.spans} spans", _duration(row.seconds)]
    parts += [f"{row.tokens:,} tokens"] if row.tokens else []
    parts += [_errors(row.errors)] if row.errors else []
    return " · ".join(parts + ([] if row.whole else ["not finished"]))


def _sentence(row: trace.Summary, spans: int, unit: str) -> str:
    cost = f", {row.cost:.6f} {unit}" if row.cost else ""
    text = f"{row.name}: {spans} spans in {_duration(row.seconds)}, {row.tokens:,} tokens{cost}, "
    text += f"{_errors(row.errors)}."
    if spans > MAX_ROWS:
        text += f" The first {MAX_ROWS} spans are listed."
    return text if row.whole else f"{text} The process ended before the first span did."


def _errors(count: int) -> str:
    return f"{count or 'no'} error{'s' * (count != 1)}"


def _duration(seconds: float) -> str:
    """Return a time with a suitable unit: "28.8 ms" or "3.20 s"."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _numbers(node: trace.Node, unit: str) -> str:
    tokens = node.attributes.get(SpanAttributes.LLM_TOKEN_COUNT_TOTAL)
    cost = node.attributes.get(SpanAttributes.LLM_COST_TOTAL)
    parts = [_duration(node.seconds)]
    parts += [] if tokens is None else [f"{tokens:,} tokens"]
    parts += [] if cost is None else [f"{cost:.6f} {unit}"]
    return " · ".join(parts + (["ERROR"] if node.status == "ERROR" else []))


def bar_html(node: trace.Node, start_ns: int, end_ns: int, unit: str) -> str:
    """Return a span as HTML: a bar at its place between two times, and its numbers."""
    whole = max(1, end_ns - start_ns)
    offset = (node.start_ns - start_ns) / whole
    width = (node.end_ns - node.start_ns) / whole
    colour = ERROR if node.status == "ERROR" else COLOURS.get(node.kind, COLOURS["CHAIN"])
    label = f"starts at {_duration((node.start_ns - start_ns) / 1e9)}"
    label += f", lasts {_duration(node.seconds)}"
    return (
        '<div style="display:flex; align-items:center; gap:0.6em; line-height:1.2">'
        f'<div role="img" aria-label="{label}" style="flex:1 1 0; min-width:60px; '
        'position:relative; height:12px; background:rgba(128,128,128,0.2)">'
        f'<div style="position:absolute; left:min({offset:.2%}, 100% - 2px); '
        f'width:max(2px, {width:.2%}); height:100%; background:{colour}"></div></div>'
        f'<div style="flex:0 0 19em; font-variant-numeric:tabular-nums">'
        f"{html.escape(_numbers(node, unit))}</div></div>"
    )


def span_html(node: trace.Node, unit: str) -> str:
    """Return a span's content as HTML, everything escaped: prompt, answer, events, attributes."""
    heading = f"<b>{html.escape(node.name)}</b> · {html.escape(node.kind)} · "
    parts = [f'<div role="status">{heading}{html.escape(_numbers(node, unit))}</div>']
    if node.status == "ERROR":
        kind = node.attributes.get("error.type", "error")
        parts.append(_text(f"error: {kind}", node.message))
    parts += [_text(f"{role} (prompt)", text) for role, text in node.messages("input")]
    parts += [_text(f"{role} (answer)", text) for role, text in node.messages("output")]
    for name in (SpanAttributes.INPUT_VALUE, SpanAttributes.OUTPUT_VALUE):
        if value := node.attributes.get(name):
            parts.append(_text(name.partition(".")[0], value))
    parts += [_text(f"event: {event['name']}", _event(event, node)) for event in node.events]
    if cut := node.attributes.get(trace.CUT):
        parts.append(f"<p><i>{cut:,} characters were cut when the span was stored.</i></p>")
    rows = [("attribute", "value"), *((k, _short(v)) for k, v in _remaining(node).items())]
    parts.append(
        f"<details><summary>{len(rows) - 1} attributes</summary>{tables.as_html(rows)}</details>"
    )
    return f'<div style="line-height:1.5; max-width:860px">{"".join(parts)}</div>'


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _text(label: str, text: str) -> str:
    """Return a labelled text that scrolls if it is long; the keyboard reaches it."""
    label = html.escape(label)
    return (
        f"<div><small>{label}</small>"
        f'<div tabindex="0" role="group" aria-label="{label}" style="{TEXT_STYLE}">'
        f"{html.escape(text)}</div></div>"
    )


def _event(event: Mapping, node: trace.Node) -> str:
    when = _duration((event["time_ns"] - node.start_ns) / 1e9)
    fields = [f"{name}: {value}" for name, value in event["attributes"].items()]
    return "; ".join([f"after {when}", *fields])


def _remaining(node: trace.Node) -> dict[str, object]:
    """Return the attributes that the details do not show as texts."""
    shown: Sequence[str] = ("llm.input_messages.", "llm.output_messages.", "input.", "output.")
    return {k: v for k, v in node.attributes.items() if not k.startswith(tuple(shown))}
