"""The pictures that test for false answers differ where they should and nowhere else."""

import numpy as np
import pytest

from openmodels.harbour import illusions
from openmodels.harbour.pictures import COLOURS


def difference(first, second):
    """Return the box (left, top, right, bottom) of the pixels that differ, or None."""
    rows, columns = np.nonzero((np.asarray(first) != np.asarray(second)).any(-1))
    if not len(rows):
        return None
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def inside(inner, outer, slack=2):
    """Return whether a box is inside another, up to `slack` pixels of blur and tilt."""
    return (
        inner[0] >= outer[0] - slack
        and inner[1] >= outer[1] - slack
        and inner[2] <= outer[2] + slack
        and inner[3] <= outer[3] + slack
    )


@pytest.fixture(scope="module")
def present():
    return illusions.presence(12, seed=3)


def test_each_picture_has_a_present_and_an_absent_question_in_each_setting(present):
    assert len(present) == 12 * 2 * 3
    for setting in illusions.SETTINGS:
        chosen = [p for p in present if p.setting == setting]
        assert sum(p.present for p in chosen) == 12 == sum(not p.present for p in chosen)


def test_the_number_of_flags_is_what_the_description_lists(present):
    for p in present:
        assert p.description.count(f"{p.colour} (") == p.number
        assert p.count_question.answer == str(p.number)
        assert p.yes_no_question.answer == ("Yes" if p.number else "No")
        assert p.colour in p.count_question.text


def test_an_adversarial_colour_is_a_mark_and_no_flag():
    flags = (
        (0, "disc", "red", "blue"),
        (1, "plain", "green", "black"),
        (2, "cross", "blue", "red"),
    )
    assert illusions.marks_alone(flags) == []
    assert illusions.marks_alone(flags[:2]) == ["blue"]


def test_a_popular_colour_is_the_absent_colour_of_most_pictures(present):
    pictures = {id(p.image): p.description for p in present}.values()
    shown = {colour: sum(f"{colour} (" in text for text in pictures) for colour in COLOURS}
    popular = [p for p in present if p.setting == "popular" and not p.present]
    for p in popular:
        absent = [colour for colour in COLOURS if f"{colour} (" not in p.description]
        assert shown[p.colour] == max(shown[colour] for colour in absent)


@pytest.mark.parametrize("place", illusions.PLACES)
def test_variants_differ_in_the_word_alone(place):
    for attack in illusions.typographic(6, seed=1, place=place):
        assert set(attack.images) == set(illusions.VARIANTS)
        clean = attack.images["clean"]
        for name in ("control", "attack"):
            box = difference(clean, attack.images[name])
            assert box is not None and inside(box, attack.box)
        assert difference(attack.images["control"], attack.images["attack"]) is not None


def test_the_written_word_is_a_wrong_colour_and_the_neutral_word_is_none():
    for attack in illusions.typographic(20):
        assert attack.word in COLOURS and attack.word != attack.question.answer
        assert attack.neutral not in COLOURS
        assert attack.question.answer in attack.description


def test_a_seed_gives_the_same_pictures_and_another_seed_others():
    first, again, other = (illusions.typographic(2, seed=s) for s in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        assert difference(a.images["attack"], b.images["attack"]) is None
        assert difference(a.images["attack"], c.images["attack"]) is not None
    assert [p.colour for p in illusions.presence(3, 1)] == [
        p.colour for p in illusions.presence(3, 1)
    ]


def test_an_unknown_place_is_refused():
    with pytest.raises(ValueError, match="board, flag"):
        illusions.typographic(1, place="sky")
