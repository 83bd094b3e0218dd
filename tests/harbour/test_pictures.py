"""What the window shows: right answers, splits that share nothing, the same pixels from a seed."""

import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from openmodels.harbour import pictures
from openmodels.harbour.text import held_out

COUNT = 300


def drawn(task: str, split: str, seed: int = 1) -> list[pictures.Sighting]:
    return list(pictures.sightings(task, COUNT, seed, split))


def digest(task: str, seed: int = 4) -> str:
    found = hashlib.sha256()
    for one in pictures.sightings(task, 20, seed):
        found.update(one.image.tobytes() + one.key.encode() + str(one.messages).encode())
    return found.hexdigest()


def colours(image) -> np.ndarray:
    """(SIZE, SIZE): for each pixel the number of the nearest colour of a flag, -1 where none is."""
    pixels = np.asarray(image, dtype=int)[:, :, None]
    known = np.array(list(pictures.COLOURS.values()))
    away = np.abs(pixels - known).max(-1)
    return np.where(away.min(-1) <= 14, away.argmin(-1), -1)


@pytest.mark.parametrize("task", pictures.TASKS)
def test_splits_share_no_key_and_no_picture(task):
    train, test = drawn(task, "train"), drawn(task, "test", seed=2)
    assert {one.key for one in train} & {one.key for one in test} == set()
    assert {one.image.tobytes() for one in train} & {one.image.tobytes() for one in test} == set()


@pytest.mark.parametrize("task", pictures.TASKS)
def test_a_picture_is_small_and_its_answer_short(task):
    for one in drawn(task, "train")[:50]:
        assert one.task == task
        assert (one.image.mode, one.image.size) == ("RGB", (pictures.SIZE, pictures.SIZE))
        kinds = [part["type"] for part in one.messages[0]["content"]]
        assert kinds == ["image", "text"]
        assert len(one.answer["content"].split()) <= 2


@pytest.mark.parametrize("task", pictures.TASKS)
def test_no_answer_is_much_more_frequent_than_its_rivals(task):
    shares = Counter(one.answer["content"] for one in drawn(task, "test"))
    assert max(shares.values()) / COUNT < {"gauge": 0.2}.get(task, 0.4)
    if task != "gauge":
        assert len(shares) >= 5


def test_a_seed_gives_the_same_pixels_in_every_process():
    code = (
        "import sys; sys.path.insert(0, 'tests/harbour'); "
        "from test_pictures import digest, pictures; "
        "print([digest(task) for task in pictures.TASKS])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str([digest(task) for task in pictures.TASKS])
    assert digest("chart") != digest("chart", seed=5)


def test_held_out_numbers_are_never_trained():
    for split, expected in (("train", False), ("test", True)):
        numbers = {int(one.answer["content"]) for one in drawn("gauge", split)}
        assert all(held_out(number) is expected for number in numbers)
    assert len(numbers) > 5


def test_the_tallest_bar_has_the_colour_said():
    for one in drawn("chart", "test")[:100]:
        seen = colours(one.image)
        names = list(pictures.COLOURS)
        heights = {}
        for column in seen.T:  # the most frequent flag colour of each column of pixels
            found = Counter(n for n in column.tolist() if n >= 0).most_common(1)
            if found and found[0][1] > 5:
                name = names[found[0][0]]
                heights[name] = max(heights.get(name, 0), found[0][1])
        most = max if "tallest" in one.messages[0]["content"][1]["text"] else min
        assert most(heights, key=heights.get) == one.answer["content"], (one.key, heights)


def test_the_colour_said_is_in_the_picture():
    names = list(pictures.COLOURS)
    for task in ("flag_colour", "flag_pattern"):
        for one in drawn(task, "test")[:100]:
            shown = {names[n] for n in np.unique(colours(one.image)) if n >= 0}
            asked = one.messages[0]["content"][1]["text"].split()
            named = {one.answer["content"], *asked} & set(names)
            assert named and named <= shown, one.key


def test_as_many_flags_as_said():
    for one in drawn("flag_count", "test")[:100]:
        outline = np.abs(np.asarray(one.image, dtype=int) - 60).max(-1) == 0
        assert components(outline) == int(one.answer["content"]), one.key


def components(mask: np.ndarray) -> int:
    """Number of connected groups (sides and corners) of true cells."""
    left = {tuple(place) for place in np.argwhere(mask)}
    count = 0
    while left:
        count += 1
        group = [left.pop()]
        while group:
            y, x = group.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            group += near
    return count


def test_unknown_tasks_and_splits_are_named():
    with pytest.raises(ValueError, match="unknown task 'flag'; the tasks are flag_colour"):
        next(pictures.sightings("flag", 1))
    with pytest.raises(ValueError, match="'train' or 'test', not 'dev'"):
        pictures.Window(1, "dev")


def test_a_picture_put_last_follows_the_same_question():
    first = next(pictures.sightings("gauge", 1))
    last = pictures.put_last(first)
    parts = last.messages[0]["content"]
    assert [part["type"] for part in parts] == ["text", "image"]
    assert parts[::-1] == first.messages[0]["content"]
    assert (last.image, last.key, last.answer) == (first.image, first.key, first.answer)
    assert first.messages[0]["content"][0]["type"] == "image"  # the original is unchanged
    assert pictures.put_last(last) == last
