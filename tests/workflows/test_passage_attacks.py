"""Each case has an instruction that its control lacks, and the defence changes what is sent."""

from types import SimpleNamespace

import pytest

from openmodels.harbour.guarded_mail import NOTES
from openmodels.harbour.wordings import ATTACKS
from openmodels.workflows import passage_attacks
from openmodels.workflows.passage_attacks import INSTRUCTION
from openmodels.workflows.retrieval import contains

CASES = passage_attacks.attacked(6)


class Endpoint:
    """A client that answers each question with its last passage, and stores the requests."""

    def __init__(self):
        self.requests = []
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self.create))

    def create(self, **request):
        self.requests.append(request["messages"])
        text = request["messages"][-1]["content"].split("\n")[-2]
        message = SimpleNamespace(content=text)
        return SimpleNamespace(choices=[SimpleNamespace(message=message)])


def test_every_wording_is_an_instruction():
    slots = {"victim": "Ada", "shop": "bakery", "ship": "Heron", "price": 3, "berth": 7}
    for text, _ in ATTACKS:
        match = INSTRUCTION.search(f"Dear Otto, {text.format(**slots)} Yours, Ada")
        assert match[0] == text.format(**slots)


def test_the_control_lacks_the_instruction_and_nothing_else():
    assert len({passage.document for case in CASES for passage in case.passages}) > len(CASES)
    for case in CASES:
        [attacked] = [p for p in case.passages if p.document in case.question.sources]
        control = case.harmless()
        [clean] = [p for p in control.passages if p.document in case.question.sources]
        assert case.instruction in attacked.text and case.question.attack in case.instruction
        assert attacked.text.replace(case.instruction, "").split() == clean.text.split()
        assert contains(clean.text, case.question.values)
        others = [p for p in case.passages if p != attacked]
        assert others == [p for p in control.passages if p != clean]


def test_a_defence_marks_each_passage_and_explains_the_mark():
    endpoint = Endpoint()
    passage_attacks.read(endpoint, "m", CASES[:1])
    passage_attacks.read(endpoint, "m", CASES[:1], "delimiters")
    plain, guarded = endpoint.requests
    assert "<data>" not in str(plain)
    assert guarded[0]["content"] == f"{plain[0]['content']} {NOTES['delimiters']}"
    assert guarded[1]["content"].count("<data> ") == passage_attacks.PASSAGES
    with pytest.raises(ValueError):
        passage_attacks.read(endpoint, "m", CASES[:1], "prayer")


def test_obeying_and_answering_are_scored():
    replies = passage_attacks.read(Endpoint(), "m", CASES)
    last = [contains(case.passages[-1].text, [case.question.attack]) for case in CASES]
    assert passage_attacks.obeyed(CASES, replies) == last
    assert passage_attacks.right(CASES, replies) == [False] * len(CASES)


def test_too_many_cases_are_refused():
    with pytest.raises(ValueError):
        passage_attacks.attacked(1000)
