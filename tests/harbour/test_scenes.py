"""Scenes: the same from a seed, right answers, splits and faces that share nothing."""

import hashlib
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from openmodels.harbour import lettering, scenes
from openmodels.harbour.text import held_out

COUNT = 60


def drawn(kind: str, split: str, first: int = 0, **how) -> list[scenes.Scene]:
    return [scenes.scene(kind, first + n, split, **how) for n in range(COUNT)]


def digest(kind: str, seed: int = 4) -> str:
    scene = scenes.scene(kind, seed)
    text = f"{scene.key}{scene.questions}{scene.letters}{scene.description}"
    return hashlib.sha256(scene.image.tobytes() + text.encode()).hexdigest()


def test_a_seed_gives_the_same_scene_in_every_process():
    code = (
        "import sys; sys.path.insert(0, 'tests/harbour'); "
        "from test_scenes import digest, scenes; print([digest(k) for k in scenes.KINDS])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str([digest(kind) for kind in scenes.KINDS])
    assert digest("chart") != digest("chart", seed=5)


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_splits_share_no_key_and_no_face(kind):
    train, test = drawn(kind, "train"), drawn(kind, "test")
    assert {s.key for s in train} & {s.key for s in test} == set()
    assert not set(lettering.TRAIN_FACES) & set(lettering.TEST_FACES)
    for split, faces in (("train", lettering.TRAIN_FACES), ("test", lettering.TEST_FACES)):
        found = {scenes.Painter(kind, split, seed).face for seed in range(COUNT)}
        assert found <= set(faces) and len(found) > 3


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_a_scene_has_one_of_its_sizes_in_whole_squares_and_a_description(kind):
    sizes = Counter(scene.image.size for scene in drawn(kind, "train"))
    assert set(sizes) <= set(scenes.SIZES[kind]) and len(sizes) == len(scenes.SIZES[kind])
    assert all(side % 28 == 0 for size in scenes.SIZES[kind] for side in size)
    for scene in drawn(kind, "test")[:20]:
        assert scene.image.mode == "RGB"
        assert scene.description.endswith(".")
        assert {scenes.TASKS[q.task] for q in scene.questions} == {kind}
        for question in scene.questions:
            position = 0
            for part in question.spelled:  # in the order in which they stand in the answer
                position = question.answer.index(part, position) + len(part)


def test_printed_letters_spell_the_answer_and_lie_on_ink():
    for kind in ("notice", "form"):
        for scene in drawn(kind, "test", strength=0.0):
            strings: dict[int, str] = {}
            for letter in scene.letters:
                if letter.string >= 0:
                    strings[letter.string] = strings.get(letter.string, "") + letter.character
            [question] = scene.questions
            if kind == "notice":
                expected = question.answer.split()
            else:
                expected = list(map(str, json.loads(question.answer).values()))
            assert [text for _, text in sorted(strings.items())] == expected
            grey = np.asarray(scene.image.convert("L"), dtype=int)
            ground = np.bincount(grey.ravel()).argmax()
            inked = 0
            for letter in scene.letters:
                x, y = round(letter.x), round(letter.y)
                near = grey[max(0, y - 8) : y + 9, max(0, x - 5) : x + 6]
                inked += near.size > 0 and abs(near - ground).max() > 60
            assert inked >= 0.97 * len(scene.letters)


def test_a_box_lies_around_its_flag():
    names = list(scenes.COLOURS)
    known = np.array(list(scenes.COLOURS.values()))
    for scene in drawn("flags", "test", strength=0.0):
        pixels = np.asarray(scene.image, dtype=int)
        for question in scene.questions:
            if question.task != "boxes":
                continue
            for box in json.loads(question.answer):
                left, top, right, bottom = box["bbox_2d"]
                assert 0 <= left < right <= scene.image.width
                assert 0 <= top < bottom <= scene.image.height
                inner = pixels[top + 1 : bottom - 1, left + 1 : right - 1].reshape(-1, 1, 3)
                off = np.abs(inner - known).max(-1)
                colour = box["label"].removesuffix(" flag")
                assert (off[:, names.index(colour)] <= 16).mean() > 0.2, scene.key


def test_a_tilted_box_holds_the_tilted_corners():
    tilt = lettering.Tilt((200, 100), 10.0, 1.1)
    left, top, right, bottom = tilt.box((60, 30, 90, 50))
    for x, y in ((60, 30), (90, 30), (60, 50), (90, 50)):
        x, y = tilt.point(x, y)
        assert left - 1 <= x <= right + 1 and top - 1 <= y <= bottom + 1
    assert tilt.point(100, 50) == (100, 50)
    x, y = tilt.point(110, 50)  # anticlockwise: what is on the right goes up
    assert x > 105 and y < 50


def test_answers_about_charts_agree_with_the_description():
    for scene in drawn("chart", "test"):
        listed = scene.description.split(": ")[1].rstrip(".").split(", ")
        bars = {kind: int(value) for kind, value in (entry.split() for entry in listed)}
        answers = {q.task: q for q in scene.questions}
        most = max if "tallest" in answers["tallest"].text else min
        assert answers["tallest"].answer == most(bars, key=bars.get)
        assert answers["how_many"].answer == str(len(bars))
        kind = answers["value"].text.split()[2]
        assert answers["value"].answer.split()[0] == str(bars[kind])


def test_what_a_test_scene_shows_is_held_out():
    for split, expected in (("train", False), ("test", True)):
        for seed in range(COUNT):
            painter = scenes.Painter("gauge", split, seed)
            values = painter.shown(lambda p=painter: ("board", p.rng.randint(0, 99)))
            assert held_out(*values) is expected


def colours(image) -> np.ndarray:
    """The different colours of a picture."""
    return np.unique(np.asarray(image).reshape(-1, 3), axis=0)


def test_words_grow_with_the_level_and_lights_can_be_off():
    short = [len(s.questions[0].answer) for s in drawn("notice", "train", level=0.15)]
    long = [len(s.questions[0].answer) for s in drawn("notice", "train", level=1.0)]
    assert max(short) <= 5 and np.mean(long) > 2 * np.mean(short)
    plain = scenes.scene("notice", 3, strength=0.0).image
    assert len(colours(plain)) < len(colours(scenes.scene("notice", 3).image))


@pytest.mark.parametrize("task", scenes.TASKS)
def test_no_answer_is_much_more_frequent_than_its_rivals(task):
    shares = Counter(question.answer for _, question in scenes.questions(task, 150, seed=3))
    assert max(shares.values()) / 150 < 0.5
    assert len(shares) >= 4


def test_unknown_kinds_and_tasks_are_named():
    with pytest.raises(ValueError, match="no kind 'ship'; there are flags"):
        scenes.scene("ship", 1)
    with pytest.raises(ValueError, match="no task 'ship'; there are colour"):
        next(scenes.questions("ship", 1))
    with pytest.raises(ValueError, match="'train' or 'test', not 'dev'"):
        scenes.scene("flags", 1, "dev")
