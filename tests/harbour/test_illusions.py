"""The pictures that test for false answers differ where they should and nowhere else."""

import json

import numpy as np
import pytest
from PIL import ImageOps

from openmodels.harbour import illusions, sounds
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
        assert p.description.startswith(f"{p.description.count('(')} signal flag")
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


def test_only_an_adversarial_colour_occurs_as_a_mark(present):
    for p in present:
        if not p.present:
            assert (f"({p.colour} " in p.description) == (p.setting == "adversarial")
    flags = ((0, "disc", "red", "blue"), (1, "plain", "green", "black"))
    assert illusions.nowhere(flags) == [c for c in COLOURS if c not in ("red", "blue", "green")]
    assert illusions.describe(flags) == "2 signal flags: red (blue disc), green (plain)."


def test_a_popular_colour_is_the_absent_colour_of_most_pictures(present):
    pictures = {id(p.image): p.description for p in present}.values()
    shown = {colour: sum(f"{colour} (" in text for text in pictures) for colour in COLOURS}
    popular = [p for p in present if p.setting == "popular" and not p.present]
    for p in popular:
        absent = [colour for colour in COLOURS if colour not in p.description]
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


def test_a_notice_shows_the_given_words_and_asks_for_them():
    printed = illusions.notices(("low", "water"), 3, seed=1)
    assert [scene.questions[0].answer for scene in printed] == ["low water"] * 3
    assert all("low water" in scene.description for scene in printed)
    assert all(scene.letters[0].character == "l" for scene in printed)
    assert len({scene.image.tobytes() for scene in printed}) == 3


def test_a_note_changes_the_top_of_a_form_and_never_its_answer():
    for plain, noted in zip(illusions.forms(4), illusions.forms(4, note="day Sunday"), strict=True):
        assert plain.questions == noted.questions
        box = difference(plain.image, noted.image)
        assert box is not None and box[3] < plain.image.height / 2


def test_a_customer_stands_in_the_form_and_in_its_answer():
    for plain, filled in zip(
        illusions.forms(4), illusions.forms(4, customer="Sunday"), strict=True
    ):
        order = json.loads(filled.questions[0].answer)
        assert order["customer"] == "Sunday"
        assert order | {"customer": ""} == json.loads(plain.questions[0].answer) | {"customer": ""}


@pytest.mark.parametrize("kind", illusions.SHAPES)
def test_every_second_picture_shows_the_shapes_apart(kind):
    drawn = illusions.shapes(kind, 8, seed=1, gap=6)
    assert [shape.apart for shape in drawn] == [False, True] * 4
    for together, apart in zip(drawn[::2], drawn[1::2], strict=True):
        assert difference(together.image, apart.image) is not None
        assert together.description != apart.description


def test_a_pair_of_flags_differs_in_the_gap_alone():
    together, apart = illusions.shapes("flags", 2, seed=1, gap=6)
    box = difference(together.image, apart.image)
    assert box[2] - box[0] <= 6 + 4  # the gap and two outlines, slightly blurred


@pytest.mark.parametrize("change", illusions.CHANGES)
def test_a_change_has_its_effect_on_the_answer(change):
    pairs = illusions.counterfactuals(change, 8, seed=2)
    assert len(pairs) == 8
    for pair in pairs:
        first, second = pair.answers
        assert difference(*pair.images) is not None
        assert (first == second) == (change == "background")
        assert [q.answer for q in pair.questions] == [first, second]


def test_a_mirrored_question_is_about_left_or_right():
    for pair in illusions.counterfactuals("mirror", 6, seed=2):
        assert "left" in pair.text or "right" in pair.text
        assert difference(ImageOps.mirror(pair.images[0]), pair.images[1]) is None


def test_swapped_bars_swap_the_tallest_and_the_shortest():
    for pair in illusions.counterfactuals("bars", 6, seed=2):
        assert pair.text in ("Which bar is the tallest?", "Which bar is the shortest?")


@pytest.mark.parametrize("kind", illusions.NO_WORDS)
def test_sounds_without_words_are_seeded_and_within_range(kind):
    waves, again = illusions.no_words(kind, 3, seed=5), illusions.no_words(kind, 3, seed=5)
    for wave, same in zip(waves, again, strict=True):
        assert wave.dtype == np.float32 and wave.ndim == 1 and len(wave) > 4000
        assert np.abs(wave).max() <= 1
        assert np.array_equal(wave, same)
    assert (kind == "silence") == all(not wave.any() for wave in waves)


def test_a_call_backwards_is_a_shipped_call():
    [wave] = illusions.no_words("call backwards", 1)
    assert any(np.array_equal(wave[::-1], clip.samples) for clip in sounds.clips())


@pytest.mark.parametrize(
    "call",
    [
        lambda: illusions.shapes("squares", 2),
        lambda: illusions.counterfactuals("size", 2),
        lambda: illusions.no_words("talk", 2),
    ],
)
def test_an_unknown_kind_is_refused(call):
    with pytest.raises(ValueError, match="there are"):
        call()
