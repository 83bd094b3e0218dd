"""Labelled controls for explorers: a drop-down list, a checkbox and a slider.

Tab reaches each of them. The arrow keys and the space bar change it.
"""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Mapping, Sequence

import ipywidgets

MAX_LISTED = 20  # an error message lists all choices up to this number
TRACK = 160  # pixels of a slider's track that no label may take
READOUT = 100  # pixels of a slider's number and of the gaps around the track
FULL_WIDTH = "640px"  # of a slider, where the page is wide enough


def choice(
    name: str, options: Sequence[str] | Mapping[str, object], value: object = None
) -> ipywidgets.Dropdown:
    """Return a labelled drop-down list.

    options: the choices, or a mapping from each choice to the value that it stands for.
    value: the first choice; without it, the first of the options.
    ValueError, with the options, for a value that is not among them.
    """
    pairs = list(options.items()) if isinstance(options, Mapping) else [(o, o) for o in options]
    values = [offered for _, offered in pairs]
    if value is not None and value not in values:
        raise ValueError(_not_offered(name, value, values))
    return ipywidgets.Dropdown(
        options=pairs,
        value=values[0] if value is None else value,
        description=name,
        style={"description_width": "initial"},
        layout={"width": "max-content", "max_width": "calc(100% - 4px)"},
    )


def _not_offered(name: str, value: object, options: Sequence[object]) -> str:
    """Return an error message with the value and the options, or the closest of many options."""
    text, *known = (str(getattr(option, "id", option)) for option in (value, *options))
    if len(known) <= MAX_LISTED:
        return f"{name}: {text!r} is not among the choices: {', '.join(known)}"
    close = ", ".join(difflib.get_close_matches(text, known, 5, 0.3))
    return f"{name}: {text!r} is not among the {len(known)} choices; closest: {close or 'none'}"


def checkbox(name: str, value: bool = False) -> ipywidgets.Checkbox:
    """Return a labelled checkbox."""
    return ipywidgets.Checkbox(
        value=value, description=name, indent=False, layout={"width": "max-content"}
    )


def slider(
    name: str, low: float, high: float, value: float, step: float = 0.1
) -> ipywidgets.FloatSlider:
    """Return a labelled slider from low to high. It reports a value when the mouse lets it go."""
    control = ipywidgets.FloatSlider(
        value=value,
        min=low,
        max=high,
        step=step,
        description=name,
        continuous_update=False,
        readout_format=".0f" if step >= 1 else ".2f",
        layout={"width": "auto", "max_width": FULL_WIDTH},
    )
    align([control])
    return control


def align(controls: Sequence[ipywidgets.DOMWidget]) -> None:
    """Set all labels to the same width, so that the controls stand below each other.

    Each slider becomes at least as wide as its label, TRACK and READOUT together.
    """
    labelled = [control for control in controls if not isinstance(control, ipywidgets.Checkbox)]
    width = max((len(control.description) for control in labelled), default=0)
    for control in labelled:
        control.style.description_width = f"{width}ch"
        if isinstance(control, ipywidgets.FloatSlider):
            control.layout.min_width = f"calc({width}ch + {TRACK + READOUT}px)"


def status(text: str) -> str:
    """Return words as HTML that a screen reader announces when they change."""
    return f'<div role="status" style="line-height:1.4">{html.escape(text)}</div>'


def argument_name(control: ipywidgets.DOMWidget) -> str:
    """Return a control's label as the name of an argument, e.g. top_p for "top-p"."""
    return re.sub(r"\W+", "_", control.description)
