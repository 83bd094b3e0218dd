"""Labelled controls: what they offer, refuse and leave for a slider's track."""

import re

import pytest

from openmodels.widgets import controls


def test_a_choice_offers_options_or_the_values_they_stand_for():
    assert controls.choice("ship", ["Heron", "Tern"]).value == "Heron"
    crew = controls.choice("crew", {"few": 3, "many": 30}, 30)
    assert (crew.value, crew.label) == (30, "many")


def test_a_refused_value_is_named_with_the_options():
    with pytest.raises(ValueError, match="ship: 'Ternn' is not among the choices: Heron, Tern"):
        controls.choice("ship", ["Heron", "Tern"], "Ternn")
    many = [f"ship {number}" for number in range(50)]
    with pytest.raises(ValueError, match="'ship 77' is not among the 50 choices; closest: ship 7,"):
        controls.choice("ship", many, "ship 77")


def test_labels_become_names_of_arguments():
    assert controls.argument_name(controls.slider("top-p", 0, 1, 0.5)) == "top_p"
    assert controls.argument_name(controls.checkbox("at sea")) == "at_sea"
    ratio = controls.slider("prompt / answer tokens", 0, 20, 3)
    assert controls.argument_name(ratio) == "prompt_answer_tokens"


def test_a_status_is_escaped_and_announced():
    assert controls.status("<b>") == '<div role="status" style="line-height:1.4">&lt;b&gt;</div>'


def pixels(control) -> tuple[int, int]:
    """Return the label's width in characters, and the pixels that a slider has besides."""
    label = int(control.style.description_width.removesuffix("ch"))
    width, beside = re.fullmatch(r"calc\((\d+)ch \+ (\d+)px\)", control.layout.min_width).groups()
    assert int(width) == label
    return label, int(beside)


def test_a_label_takes_no_room_from_the_track():
    name = "prompt tokens per answer token"
    label, beside = pixels(controls.slider(name, 0, 20, 3, 1))
    assert label == len(name)
    assert beside >= controls.TRACK + controls.READOUT >= 250


def test_aligned_controls_share_the_widest_label():
    short, long = controls.slider("years", 1, 8, 4), controls.slider("dollars per kWh", 0, 1, 0.3)
    listed, box = controls.choice("ship", ["Heron"]), controls.checkbox("a very long label, beside")
    controls.align([short, listed, box, long])
    assert pixels(short) == pixels(long) == (15, controls.TRACK + controls.READOUT)
    assert listed.style.description_width == "15ch"
    controls.align([])
