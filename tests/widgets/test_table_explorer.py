"""Controls above words and a table: changing a control looks the answer up again."""

import pytest
from machines import machine

from openmodels.widgets import controls, model_explorer
from openmodels.widgets.table_explorer import TableExplorer


@pytest.fixture
def ships():
    def look_up(ship: str, at_sea: bool, crew: int):
        if not at_sea:
            return f"The {ship} is <here>.", []
        return f"The {ship} sails with {crew}.", [("ship", "log"), (ship, "https://a.example/x/y")]

    return TableExplorer(
        look_up,
        controls.choice("ship", ["Heron", "Tern"]),
        controls.checkbox("at sea"),
        controls.choice("crew", {"few": 3, "many": 30}),
    )


def test_a_choice_changes_the_answer(ships):
    ship, at_sea, crew = ships.controls
    assert ships.text == "The Heron is <here>."
    assert ships.words.value == controls.status("The Heron is <here>.")
    assert ships.table.value == ""
    ship.value, at_sea.value, crew.value = "Tern", True, 30
    assert ships.text == ("The Tern sails with 30.\n\nship  log\nTern  https://a.example/x/y")
    assert '<a href="https://a.example/x/y">a.example/…/y</a>' in ships.table.value


def test_the_stored_output_is_the_answer(ships):
    stored = ships._repr_mimebundle_()
    assert stored["text/plain"] == "The Heron is <here>."
    assert "application/vnd.jupyter.widget-view+json" in stored


def test_every_choice_is_labelled_and_reached_by_the_keyboard(ships):
    for control in [*ships.controls, *model_explorer.models(machine(16)).controls]:
        assert control.description
        assert control.tabbable is not False
    assert list(ships.children) == [*ships.controls, ships.words, ships.table]
