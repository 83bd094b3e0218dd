"""Exercises 3.3 and 3.4 accept right answers written in other ways, and name other mistakes."""

import itertools
import math

import numpy as np
import pytest
import torch

from openmodels.check import find


def judge(number, *answers):
    return find(number).load_checker().judge(*answers)


def correct(number, *answers) -> bool:
    outcome = judge(number, *answers)
    assert outcome.state == "correct", outcome.message
    return True


# --- Right answers of other forms: positions ------------------------------------------------------


def positions_in_lists(ids, grids, image_token, merge=2):
    ids, grids = ids.tolist(), [(r // merge, c // merge) for _, r, c in grids.tolist()]
    if ids.count(image_token) != sum(r * c for r, c in grids):
        raise ValueError("count")
    result, following, waiting = ([], [], []), 0, []
    for number in ids:
        if number != image_token:
            cells, following = [(following,) * 3], following + 1
        else:
            if not waiting:
                rows, columns = grids.pop(0)
                cells = itertools.product([0], range(rows), range(columns))
                waiting = [tuple(following + place for place in cell) for cell in cells]
                following += max(rows, columns)
            cells = [waiting.pop(0)]
        for axis in range(3):
            result[axis].append(cells[0][axis])
    return list(result)


def positions_in_numpy(ids, grids, image_token, merge=2):
    """Text is a cumulative sum; each picture is written over it."""
    ids, grids = ids.numpy(), grids.numpy() // [1, merge, merge]
    is_image = ids == image_token
    if is_image.sum() != grids.prod(1).sum():
        raise ValueError("count")
    ends = np.cumsum(grids.prod(1))
    places = np.flatnonzero(is_image)
    steps = np.where(is_image, 0, 1)
    for end, (_, rows, columns) in zip(ends, grids, strict=True):
        steps[places[end - 1]] = max(rows, columns)
    starts = np.cumsum(steps) - steps
    positions = np.stack([starts] * 3).astype(np.int32)
    for end, (_, rows, columns) in zip(ends, grids, strict=True):
        tokens = places[end - rows * columns : end]
        positions[:, tokens] = starts[tokens[0]] + np.indices((1, rows, columns)).reshape(3, -1)
    return positions


def positions_by_meshgrid(ids, grids, image_token, merge=2):
    blocks, at, start = [], 0, 0
    sizes = [(int(r) // merge, int(c) // merge) for _, r, c in grids]
    if int((ids == image_token).sum()) != sum(r * c for r, c in sizes):
        raise ValueError("count")
    for rows, columns in [*sizes, (0, 0)]:
        text = 0
        while at + text < len(ids) and ids[at + text] != image_token:
            text += 1
        blocks.append((torch.arange(text) + start).repeat(3, 1))
        start += text
        axes = torch.meshgrid(
            torch.arange(1), torch.arange(rows), torch.arange(columns), indexing="ij"
        )
        blocks.append(torch.stack(axes).flatten(1) + start)
        at, start = at + text + rows * columns, start + max(rows, columns)
    return torch.cat(blocks, 1)


def positions_by_runs(ids, grids, image_token, merge=2):
    """Read the ids in runs; a run of image tokens may hold several pictures."""
    sizes = [(r // merge, c // merge) for _, r, c in grids.numpy()]
    points = []  # (time, height, width) of each token

    def following():
        return max(map(max, points), default=-1) + 1

    for is_picture, run in itertools.groupby(ids.tolist(), lambda number: number == image_token):
        length = len(list(run))
        while length > 0:
            start = following()
            if not is_picture:
                points.append((start, start, start))
                length -= 1
                continue
            if not sizes:
                raise ValueError("no grid")
            rows, columns = sizes.pop(0)
            points += [(start, start + r, start + c) for r in range(rows) for c in range(columns)]
            length -= rows * columns
        if length < 0:
            raise ValueError("tokens are missing")
    if sizes:
        raise ValueError("a grid remains")
    return np.array(points, dtype=int).reshape(-1, 3).T


@pytest.mark.parametrize(
    "answer",
    [positions_in_lists, positions_in_numpy, positions_by_meshgrid, positions_by_runs],
)
def test_positions_by_other_ways(answer):
    assert correct("3.3", answer)


def test_an_unknown_mistake_gets_the_rule_of_the_token():
    def answer(ids, grids, image_token, merge=2):
        positions = positions_by_meshgrid(ids, grids, image_token, merge)
        positions[:, -1] += 3 * (ids == image_token).any()
        return positions

    message = judge("3.3", answer).message
    assert "After a picture, the next position grows by its rows or columns" in message
    assert "before you count" not in message


def test_positions_of_another_type():
    assert correct("3.3", lambda *call: positions_in_numpy(*call).astype(np.uint8).tolist())
    assert correct("3.3", lambda *call: positions_by_meshgrid(*call).int())


# --- Right answers of other forms: filters --------------------------------------------------------


def filters_in_loops(n_mels, n_fft, rate, low=0.0, high=None):
    high = high if high is not None else rate / 2
    if low < 0 or high > rate / 2 or low >= high:
        raise ValueError((low, high))

    def mel(f):
        return 3 * f / 200 if f < 1000 else 15 + 27 * math.log(f / 1000, 6.4)

    def hertz(m):
        return 200 * m / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27)

    step = (mel(high) - mel(low)) / (n_mels + 1)
    edges = [hertz(mel(low) + i * step) for i in range(n_mels + 2)]
    rows = []
    for left, middle, right in zip(edges, edges[1:], edges[2:], strict=False):
        row = []
        for k in range(n_fft // 2 + 1):
            f = k * rate / n_fft
            height = 0.0
            if left < f <= middle:
                height = (f - left) / (middle - left)
            elif middle < f < right:
                height = (right - f) / (right - middle)
            row.append(height * 2 / (right - left))
        rows.append(row)
    return rows


def filters_in_torch(n_mels, n_fft, rate, low=0.0, high=None):
    high = rate / 2 if high is None else high
    if not 0 <= low < high <= rate / 2:
        raise ValueError((low, high))
    ends = torch.tensor([low, high], dtype=torch.float64)
    ends = torch.where(ends < 1000, ends * 0.015, 15 + 27 * (ends / 1000).log() / math.log(6.4))
    mels = torch.linspace(ends[0], ends[1], n_mels + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels / 0.015, 1000 * 6.4 ** ((mels - 15) / 27))
    slopes = torch.fft.rfftfreq(n_fft, 1 / rate, dtype=torch.float64)[:, None] - edges
    gaps = edges.diff()
    rise, fall = slopes[:, :-2] / gaps[:-1], -slopes[:, 2:] / gaps[1:]
    return (torch.minimum(rise, fall).relu() * 2 / (edges[2:] - edges[:-2])).T


def filters_by_interp(n_mels, n_fft, rate, low=0.0, high=None):
    high = rate / 2 if high is None else high
    if not 0 <= low < high <= rate / 2:
        raise ValueError((low, high))
    mels = np.linspace(0, 200, 200_001)
    hertz = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    ends = np.interp([low, high], hertz, mels)
    edges = np.interp(np.linspace(*ends, n_mels + 2), mels, hertz)  # by a table of the scale
    bins = np.fft.rfftfreq(n_fft, 1 / rate)
    unit = np.eye(n_mels + 2)[1:-1]
    heights = np.stack([np.interp(bins, edges, row, left=0, right=0) for row in unit])
    return heights / ((edges[2:] - edges[:-2]) / 2)[:, None]


def slaney_edges(n_mels, rate, low, high):
    high = rate / 2 if high is None else high
    if not 0 <= low < high <= rate / 2:
        raise ValueError((low, high))
    factor = math.log(6.4) / 27
    ends = [f * 0.015 if f < 1000 else 15 + math.log(f / 1000) / factor for f in (low, high)]
    mels = [ends[0] + (ends[1] - ends[0]) * i / (n_mels + 1) for i in range(n_mels + 2)]
    return [m / 0.015 if m < 15 else 1000 * math.exp((m - 15) * factor) for m in mels]


def filters_from_ramps(n_mels, n_fft, rate, low=0.0, high=None):
    """Add up three ramps: each changes the slope at one edge."""
    edges = np.array(slaney_edges(n_mels, rate, low, high))[:, None]
    a, b, c = edges[:-2], edges[1:-1], edges[2:]
    bins = np.linspace(0, rate / 2, n_fft // 2 + 1)[None]
    ramps = [np.clip(bins - corner, 0, None) for corner in (a, b, c)]
    rising, falling = 1 / (b - a), 1 / (c - b)
    heights = ramps[0] * rising - ramps[1] * (rising + falling) + ramps[2] * falling
    return np.where(bins < c, heights, 0) * (2 / (c - a))


@pytest.mark.parametrize(
    "answer",
    [filters_in_loops, filters_in_torch, filters_by_interp, filters_from_ramps],
)
def test_filters_by_other_ways(answer):
    assert correct("3.4", answer)


def test_filters_in_float32():
    assert correct("3.4", lambda *call: filters_in_torch(*call).float())


def filters_of_a_tutorial(rounding, scale=1):
    """Return the filters that tutorials compute in a loop over bins, on Slaney's scale."""

    def filters(n_mels, n_fft, rate, low=0.0, high=None):
        edges = slaney_edges(n_mels, rate, low, high)
        places = [int(rounding(edge * n_fft / rate)) for edge in edges]
        rows = np.zeros((n_mels, n_fft // 2 + 1))
        for i, (a, b, c) in enumerate(zip(places, places[1:], places[2:], strict=False)):
            for k in range(a, b):
                rows[i, k] = (k - a) / (b - a)
            for k in range(b, min(c, n_fft // 2 + 1)):
                rows[i, k] = (c - k) / (c - b)
            rows[i] *= 2 / (edges[i + 2] - edges[i])
        return rows

    return filters


@pytest.mark.parametrize("rounding", [round, math.floor, math.ceil])
def test_edges_of_a_tutorial_are_named(rounding):
    outcome = judge("3.4", filters_of_a_tutorial(rounding))
    assert "You move the edges to bins" in outcome.message, outcome.message
