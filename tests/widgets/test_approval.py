"""The approval widget shows a call in full, and a person's decision comes before a policy's."""

import pytest

from openmodels.widgets import Approval
from openmodels.widgets.approval import call_text
from openmodels.workflows.tools import Call

BOOK = Call("c1", "book_berth", '{"ship": "Heron", "nights": 3}', "k1")
PAY = Call("c2", "pay", '{"name": "Ada<b>", "coins": 9}', "k2")


def click(widget, row, name):
    button = next(b for b in widget.children[row].children[:2] if b.description == name)
    button.click()


def test_a_call_is_shown_in_full():
    assert call_text(BOOK) == 'book_berth(ship="Heron", nights=3)'
    assert call_text(Call("c", "pay", "[1", "k")) == "pay('[1')"
    assert call_text(Call("c", "pay", "[1]", "k")) == "pay('[1]')"


def test_what_a_model_generated_is_text_not_html():
    row = Approval([PAY]).children[0]
    assert "Ada&lt;b&gt;" in row.children[2].value


@pytest.mark.parametrize(("name", "decision"), [("Approve", True), ("Deny", False)])
def test_a_person_overrules_the_policy(name, decision):
    widget = Approval([BOOK, PAY])
    click(widget, 0, name)
    assert widget.decisions(lambda _: not decision) == {"c1": decision, "c2": not decision}


def test_silence_leaves_a_call_pending():
    assert Approval([BOOK]).decisions(lambda _: None) == {}


def test_a_decision_can_change_and_is_announced():
    widget = Approval([BOOK])
    assert "book_berth: waits for you" in widget.words.value
    click(widget, 0, "Approve")
    click(widget, 0, "Deny")
    assert "book_berth: denied" in widget.words.value
    assert 'role="status"' in widget.words.value
    assert widget.decisions(lambda _: True) == {"c1": False}


def test_without_a_kernel_the_calls_remain_as_text():
    text = Approval([BOOK])._repr_mimebundle_()["text/plain"]
    assert text == 'waits for approval: book_berth(ship="Heron", nights=3)'
    assert Approval([])._repr_mimebundle_()["text/plain"] == "no call waits"


def test_chinese_arguments_are_readable_and_hidden_characters_are_not_hidden():
    call = Call("c", "send_message", '{"to": "麦穗", "text": "a\\u202eb\\u200b\\nc"}', "k")
    assert call_text(call) == 'send_message(to="麦穗", text="a\\u202eb\\u200b\\nc")'


def test_a_decision_is_reported_at_once():
    decisions = []
    widget = Approval([BOOK, PAY], on_decision=lambda *decision: decisions.append(decision))
    click(widget, 1, "Deny")
    assert decisions == [(PAY, False)]
