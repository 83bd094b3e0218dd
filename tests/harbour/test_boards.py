"""Boards of notices and the tiles that pages are cut into."""

import numpy as np
import pytest

from openmodels.harbour import boards, scenes


def test_a_board_depends_on_its_seed_and_names_what_it_shows():
    board, again, other = (boards.board(seed) for seed in (3, 3, 4))
    assert board.texts == again.texts != other.texts
    assert np.array_equal(board.image, again.image)
    assert len(board.boxes) == len(board.texts) == 8
    assert all(text in board.description for text in board.texts)


def test_each_box_contains_its_notice():
    board = boards.board(1, rows=2, columns=1)
    for place, (box, text) in enumerate(zip(board.boxes, board.texts, strict=True)):
        notice = scenes.scene("notice", 2 + place, "test", boards.NOTICE)
        assert text == notice.questions[0].answer
        assert np.array_equal(board.image.crop(box), notice.image)


def test_the_split_decides_which_notices_a_board_has():
    test, train = (boards.board(2, split=split) for split in ("test", "train"))
    assert test.texts != train.texts
    with pytest.raises(ValueError, match="split"):
        boards.board(0, split="exam")
    with pytest.raises(ValueError, match="0 x 2"):
        boards.board(0, rows=0)


@pytest.mark.parametrize("size", [(532, 476), (224, 84), (100, 50), (449, 85)])
@pytest.mark.parametrize("overlap", [0, 20])
def test_tiles_cover_the_page(size, overlap):
    covered = np.zeros((size[1], size[0]), bool)
    for x0, y0, x1, y1 in boards.tile_boxes(size, (224, 84), overlap):
        assert 0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]
        assert (x1 - x0, y1 - y0) == (min(224, size[0]), min(84, size[1]))
        covered[y0:y1, x0:x1] = True
    assert covered.all()


def test_neighbouring_tiles_share_the_overlap():
    boxes = boards.tile_boxes((532, 84), (224, 84), overlap=40)
    assert [box[0] for box in boxes] == [0, 154, 308]
    assert all(a[2] - b[0] >= 40 for a, b in zip(boxes, boxes[1:], strict=False))
    assert len(boards.tile_boxes((448, 168), (224, 84))) == 4
    with pytest.raises(ValueError, match="overlap of 84"):
        boards.tile_boxes((532, 476), (224, 84), overlap=84)


def test_texts_count_as_whole_words_only():
    texts = ("Wei Wei", "a", "Mara net")
    assert boards.count_texts(texts, ["x Wei Wei y", "Mara", "nets"]) == 1
    assert boards.count_texts(texts, ["Wei Wei", "a ", "Mara net"]) == 3
    assert boards.count_texts(texts, []) == 0
