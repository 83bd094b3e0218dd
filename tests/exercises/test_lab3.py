"""Lab 3 accepts right answers written in other ways, and its references agree with the library."""

import ast
import importlib.util
import itertools
import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import Qwen2_5_VLModel, WhisperFeatureExtractor
from transformers.models.llama4.processing_llama4 import Llama4Processor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from openmodels.check import find
from openmodels.exercises.lab3 import (
    ex_3_1_patches,
    ex_3_2_image_tokens,
    ex_3_3_mrope,
    ex_3_4_mel,
    llama_tokens,
    qwen_tokens,
)
from openmodels.minis import qwen_vl


def judge(number, *answers):
    return find(number).load_checker().judge(*answers)


def correct(number, *answers) -> bool:
    outcome = judge(number, *answers)
    assert outcome.state == "correct", outcome.message
    return True


# --- The worked examples of the stubs -------------------------------------------------------------


def test_example_of_patches():
    pixels = np.arange(8).reshape(2, 4, 1)
    patches = ex_3_1_patches.reference_patchify(pixels, 2)
    assert patches.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert (ex_3_1_patches.reference_unpatchify(patches, 2, 4, 2) == pixels).all()


def test_examples_of_image_tokens():
    assert qwen_tokens.reference_qwen(1000, 700, 3_136, 1_003_520) == 36 * 25 + 2 == 902
    assert llama_tokens.reference_llama(500, 300) == 2 * (144 + 1) + 144 + 3 == 437


def test_example_of_positions():
    ids, grids = torch.tensor([5, 9, 9, 9, 9, 9, 9, 7]), torch.tensor([[1, 4, 6]])
    assert ex_3_3_mrope.reference_positions(ids, grids, 9).tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 4],
        [0, 1, 1, 1, 2, 2, 2, 4],
        [0, 1, 2, 3, 1, 2, 3, 4],
    ]


def test_example_of_filters():
    filters = ex_3_4_mel.reference_filterbank(3, 16, 1600)
    assert filters[0] == pytest.approx([0, 0.0025, 0.005, 0.0025, 0, 0, 0, 0, 0])


# --- The references against the library -----------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(56, 112), (140, 84)])
def test_patches_are_those_of_the_library_and_of_the_course(height, width):
    pixels = np.random.default_rng(31).integers(0, 256, (height, width, 3), np.uint8)
    patches = ex_3_1_patches.reference_patchify(pixels, 14, 2).reshape(-1, 3, 1, 14, 14)
    expected = np.broadcast_to(patches, (len(patches), 3, 2, 14, 14)).reshape(len(patches), -1)
    processor = Qwen2VLImageProcessorPil(do_resize=False, do_normalize=False, do_rescale=False)
    assert np.array_equal(processor(images=[pixels])["pixel_values"], expected)
    plain = qwen_vl.Shape(mean=(0.0,) * 3, std=(1 / 255,) * 3)
    course = plain.patches(torch.from_numpy(pixels)[None])
    assert np.allclose(course, expected, atol=1e-3)


@pytest.mark.parametrize("case", ex_3_2_image_tokens.QWEN_CASES, ids=lambda case: case.what)
def test_qwen_counts_as_the_library(case):
    width, height, low, high, *sizes = case.call
    unit = math.prod(sizes or (14, 2))
    down, across = smart_resize(height, width, unit, low, high)
    assert qwen_tokens.reference_qwen(*case.call) == down * across // unit**2 + 2


def test_qwen_counts_as_the_library_at_random():
    rng = np.random.default_rng(32)
    for width, height in rng.integers(5, 3000, (300, 2)).tolist():
        if max(width, height) > 200 * min(width, height):
            continue
        down, across = smart_resize(height, width, 28, 5_000, 900_000)
        count = qwen_tokens.reference_qwen(width, height, 5_000, 900_000)
        assert count == down * across // 784 + 2, (width, height)


def functions_of_llama4() -> dict:
    """Return Llama 4's rules, compiled from the library's file: importing it needs torchvision."""
    package = Path(importlib.util.find_spec("transformers").origin).parent
    source = (package / "models/llama4/image_processing_llama4.py").read_text(encoding="utf-8")
    wanted = ("get_factors", "find_supported_resolutions", "get_best_fit")
    tree = ast.parse(source)
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in wanted]
    for function in tree.body:
        function.decorator_list, function.returns = [], None
        for argument in function.args.args:
            argument.annotation = None
    names = {"torch": torch, "defaultdict": __import__("collections").defaultdict}
    exec(compile(tree, "llama4", "exec"), names)
    return names


def test_llama_counts_as_the_library():
    library = functions_of_llama4()
    rng = np.random.default_rng(33)
    calls = [case.call for case in ex_3_2_image_tokens.LLAMA_CASES]
    calls += [tuple(size) for size in rng.integers(20, 6000, (100, 2)).tolist()]
    for call in calls:
        width, height, max_tiles, tile, patch, shuffle = llama_tokens.LlamaCall(*call)
        square = SimpleNamespace(height=tile, width=tile)
        sizes = torch.tensor(library["find_supported_resolutions"](max_tiles, square))
        canvas = library["get_best_fit"]((height, width), sizes)
        ratio = [int(side) // tile for side in canvas]
        text = Llama4Processor._prompt_split_image(None, ratio, (tile // patch) ** 2 // shuffle**2)
        assert text.count("<|") == llama_tokens.reference_llama(*call), call


@pytest.mark.parametrize("prompt", ex_3_3_mrope.PROMPTS, ids=lambda prompt: prompt.what)
def test_positions_are_those_of_the_library(prompt):
    ids, grids, image_token, *_ = prompt.call
    if "side by side" in prompt.what:  # the library needs a token between two pictures
        place = 2 + 8
        ids = torch.cat([ids[:place], torch.tensor([1]), ids[place:]])
    vision = SimpleNamespace(spatial_merge_size=prompt.merge, tokens_per_second=2)
    model = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
    model.get_vision_position_ids = lambda *call, **fields: Qwen2_5_VLModel.get_vision_position_ids(
        model, *call, **fields
    )
    kinds = (ids == image_token).int()[None]
    library, _ = Qwen2_5_VLModel.get_rope_index(model, ids[None], kinds, image_grid_thw=grids)
    positions = ex_3_3_mrope.reference_positions(ids, grids, image_token, prompt.merge)
    assert torch.equal(library[:, 0], positions)


@pytest.mark.parametrize("call", [call for call, _ in ex_3_4_mel.CASES.values()], ids=str)
@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_filters_are_those_of_the_library(call):
    if call[2] % 2:
        pytest.skip("the library places the bins of an odd rate by rate // 2")
    filters = ex_3_4_mel.reference_filterbank(*call)
    assert np.abs(filters - ex_3_4_mel.filters_of_the_library(*call)).max() < 1e-9


def test_filters_are_those_of_whisper():
    filters = WhisperFeatureExtractor(feature_size=80).mel_filters.T
    assert np.abs(ex_3_4_mel.reference_filterbank(80, 400, 16_000) - filters).max() < 1e-6


# --- A library's function is no answer ------------------------------------------------------------

IMPORTED = """
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

def sides(width, height, low, high):
    return smart_resize(height, width, 28, low, high)

def answer(width, height, low, high, patch=14, merge=2):
    down, across = sides(width, height, low, high)
    return down * across // 784 + 2
"""
INSIDE = """
def answer(n_mels, n_fft, rate, low=0.0, high=None):
    from transformers.audio_utils import mel_filter_bank as bank
    return bank(n_fft // 2 + 1, n_mels, low, high, rate, norm="slaney", mel_scale="slaney").T
"""
DOTTED = """
import openmodels.minis.qwen_vl

def answer(pixels, patch, merge=1):
    return [openmodels.minis.qwen_vl.MINI.patches(row) for row in pixels]
"""


@pytest.mark.parametrize(
    ("number", "source", "others", "name"),
    [
        ("3.2", IMPORTED, [llama_tokens.reference_llama], "`smart_resize` of transformers"),
        ("3.4", INSIDE, [], "`transformers.audio_utils` of transformers"),
        ("3.1", DOTTED, [ex_3_1_patches.reference_unpatchify], "`openmodels` of openmodels"),
    ],
)
def test_a_librarys_function_is_refused(number, source, others, name):
    names = {"__name__": "__main__"}
    exec(source, names)
    outcome = judge(number, names["answer"], *others)
    assert outcome.state == "not yet" and name in outcome.message, outcome.message


def test_a_model_of_the_notebook_is_refused():
    names = {"__name__": "__main__", "model": Qwen2_5_VLModel}
    exec("def answer(ids, *call):\n    return model.get_rope_index(ids, *call)", names)
    outcome = judge("3.3", names["answer"])
    assert outcome.state == "not yet" and "`model` of transformers" in outcome.message


# --- Right answers of other forms: patches --------------------------------------------------------


def loops(pixels, patch, merge=1):
    height, width, channels = pixels.shape
    side = patch * merge
    if height % side or width % side:
        raise ValueError((height, width))
    rows = []
    for top, left in itertools.product(range(0, height, side), range(0, width, side)):
        for down, across in itertools.product(range(merge), repeat=2):
            y, x = top + down * patch, left + across * patch
            block = pixels[y : y + patch, x : x + patch]
            rows.append(np.concatenate([block[..., c].ravel() for c in range(channels)]))
    return np.stack(rows)


def loops_back(patches, height, width, patch, merge=1):
    side = patch * merge
    if height % side or width % side or len(patches) != (height // patch) * (width // patch):
        raise ValueError((height, width))
    picture = np.empty((height, width, patches.shape[1] // patch**2), patches.dtype)
    rows = iter(patches)
    for top, left in itertools.product(range(0, height, side), range(0, width, side)):
        for down, across in itertools.product(range(0, side, patch), repeat=2):
            block = next(rows).reshape(-1, patch, patch)
            y, x = top + down, left + across
            picture[y : y + patch, x : x + patch] = np.moveaxis(block, 0, -1)
    return picture


def unfold(pixels, patch, merge=1):
    height, width, channels = pixels.shape
    if height % (patch * merge) or width % (patch * merge):
        raise ValueError((height, width))
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    rows = torch.nn.functional.unfold(batch, patch, stride=patch)[0].T  # row by row
    grid = rows.reshape(height // patch // merge, merge, width // patch // merge, merge, -1)
    return grid.transpose(1, 2).reshape(len(rows), -1).to(torch.from_numpy(pixels).dtype)


def two_steps(pixels, patch, merge=1):
    """Cut into squares first, then each square into patches."""

    def cut(array, size):
        height, width, channels = array.shape
        if height % size or width % size:
            raise ValueError(array.shape)
        split = array.reshape(height // size, size, width // size, size, channels)
        return split.swapaxes(1, 2).reshape(-1, size, size, channels)

    squares = cut(pixels, patch * merge)
    blocks = np.concatenate([cut(square, patch) for square in squares])
    return blocks.transpose(0, 3, 1, 2).reshape(len(blocks), -1)


def by_index(patches, height, width, patch, merge=1):
    """Invert the permutation that patchify applies to pixel numbers."""
    channels = patches.shape[1] // patch**2
    numbers = loops(np.arange(height * width * channels).reshape(height, width, -1), patch, merge)
    if numbers.shape != patches.shape:
        raise ValueError(patches.shape)
    picture = np.empty_like(patches).reshape(-1)
    picture[numbers.ravel()] = patches.ravel()
    return picture.reshape(height, width, channels)


def windows(pixels, patch, merge=1):
    side = patch * merge
    if pixels.shape[0] % side or pixels.shape[1] % side:
        raise ValueError(pixels.shape)
    view = np.lib.stride_tricks.sliding_window_view(pixels, (patch, patch), axis=(0, 1))
    grid = view[::patch, ::patch]  # (rows, columns, channels, patch, patch)
    rows, columns = grid.shape[:2]
    order = sorted(
        itertools.product(range(rows), range(columns)),
        key=lambda cell: (cell[0] // merge, cell[1] // merge, *cell),
    )
    return [grid[cell].ravel() for cell in order]  # a list of arrays


def blocks_back(patches, height, width, patch, merge=1):
    if height % (patch * merge) or width % (patch * merge):
        raise ValueError((height, width))
    if len(patches) * patch * patch != height * width:
        raise ValueError(len(patches))
    tiles = list(patches.reshape(len(patches), -1, patch, patch))

    def square():
        return np.block([[tiles.pop(0) for _ in range(merge)] for _ in range(merge)])

    squares = [
        [square() for _ in range(width // patch // merge)] for _ in range(height // patch // merge)
    ]
    return np.block(squares).transpose(1, 2, 0)


def fold_back(patches, height, width, patch, merge=1):
    channels = patches.shape[1] // patch**2
    shape = (height // patch // merge, width // patch // merge, merge, merge, -1)
    if height % (patch * merge) or width % (patch * merge):
        raise ValueError((height, width))
    if len(patches) * patch**2 != height * width:
        raise ValueError(len(patches))
    rows = torch.from_numpy(patches.astype(float)).reshape(shape).transpose(1, 2)
    columns = rows.reshape(len(patches), -1).T[None]
    picture = torch.nn.functional.fold(columns, (height, width), patch, stride=patch)[0]
    return picture.permute(1, 2, 0).numpy().astype(patches.dtype).reshape(height, width, channels)


@pytest.mark.parametrize("patchify", [loops, unfold, two_steps, windows])
@pytest.mark.parametrize("unpatchify", [loops_back, by_index, blocks_back, fold_back])
def test_patches_by_other_ways(patchify, unpatchify):
    assert correct("3.1", patchify, unpatchify)


def test_patches_in_lists_of_arrays():
    assert correct("3.1", lambda *call: tuple(loops(*call)), lambda *call: [*blocks_back(*call)])


def test_patches_as_tensors():
    def unpatchify(patches, height, width, patch, merge=1):
        return torch.from_numpy(loops_back(patches, height, width, patch, merge))

    assert correct("3.1", lambda *call: torch.from_numpy(loops(*call)), unpatchify)


# --- Right answers of other forms: tokens ---------------------------------------------------------


def qwen_in_pixels(width, height, min_pixels, max_pixels, patch=14, merge=2):
    unit = patch * merge
    if not 1 / 200 <= width / height <= 200:
        raise ValueError((width, height))
    sides = np.array([height, width])
    pixels = np.rint(sides / unit) * unit
    if pixels.prod() > max_pixels:
        beta = (sides.prod() / max_pixels) ** 0.5
        pixels = np.maximum(unit, sides / beta // unit * unit)
    elif pixels.prod() < min_pixels:
        beta = (min_pixels / sides.prod()) ** 0.5
        pixels = -(-(sides * beta) // unit) * unit
    return pixels.prod() / unit**2 + 2  # a float of a whole number


def qwen_with_inverse_scale(w, h, low, high, patch=14, merge=2):
    unit, area = patch * merge, w * h
    if w > 200 * h or h > 200 * w:
        raise ValueError
    tokens = round(w / unit) * round(h / unit)
    for limit in (low, high):
        f = math.sqrt(limit / area) / unit
        if limit == high and tokens * unit * unit > high:
            return np.int64(max(int(w * f), 1) * max(int(h * f), 1) + 2)
        if limit == low and tokens * unit * unit < low:
            return np.int64(math.ceil(w * f) * math.ceil(h * f) + 2)
    return np.int64(tokens + 2)


def qwen_in_integers(width, height, min_pixels, max_pixels, patch=14, merge=2):
    """Compare squares, so that no number is rounded."""
    sides, area, square = (width, height), width * height, (patch * merge) ** 2
    if max(sides) > 200 * min(sides):
        raise ValueError(sides)
    units = []
    for side in sides:
        whole, remaining = divmod(side, patch * merge)
        twice = 2 * remaining - patch * merge
        units.append(whole + (twice > 0 or (twice == 0 and whole % 2 == 1)))
    if units[0] * units[1] * square > max_pixels:
        units = [max(1, math.isqrt(side**2 * max_pixels // (area * square))) for side in sides]
    elif units[0] * units[1] * square < min_pixels:
        quotients = [-(-(side**2) * min_pixels // (area * square)) for side in sides]
        units = [math.isqrt(quotient - 1) + 1 for quotient in quotients]
    return units[0] * units[1] + 2


def qwen_in_torch(width, height, min_pixels, max_pixels, patch=14, merge=2):
    sides, unit = torch.tensor([width, height], dtype=torch.float64), patch * merge
    if sides.max() / sides.min() > 200:
        raise ValueError(sides)
    pixels = unit * (sides / unit).round()  # torch rounds halves to the even number, too
    if pixels.prod() > max_pixels:
        pixels = unit * (sides * (max_pixels / sides.prod()).sqrt() / unit).floor().clamp(min=1)
    elif pixels.prod() < min_pixels:
        pixels = unit * (sides * (min_pixels / sides.prod()).sqrt() / unit).ceil()
    return pixels.prod() / unit**2 + 2


def llama_in_fractions(width, height, max_tiles=16, tile=336, patch=14, shuffle=2):
    tiles_of = {}  # from a factor to the fewest tiles that have it
    for tiles in range(max_tiles, 0, -1):
        for rows in range(1, tiles + 1):
            if tiles % rows == 0:
                columns = tiles // rows
                factor = min(Fraction(columns * tile, width), Fraction(rows * tile, height))
                tiles_of[factor] = tiles
    large = [factor for factor in tiles_of if factor >= 1]
    tiles = tiles_of[min(large) if large else max(tiles_of)]
    each = (tile // patch) ** 2 // shuffle**2
    return sum([each + 1] * tiles * (tiles > 1)) + each + 3


def llama_by_sorting(width, height, max_tiles=16, tile=336, patch=14, shuffle=2):
    """Sort the canvases by (shrinks the picture, distance of the factor from 1, tiles)."""
    rows, columns = np.indices((max_tiles + 1, max_tiles + 1)).reshape(2, -1)
    tiles = rows * columns
    factors = np.minimum(columns * tile / width, rows * tile / height)
    order = np.lexsort((tiles, abs(factors - 1), factors < 1))
    best = next(int(tiles[i]) for i in order if 0 < tiles[i] <= max_tiles)
    each = (tile // patch) ** 2 // shuffle**2
    return np.float64(each + 3 if best == 1 else (best + 1) * (each + 1) + 2)


def llama_covering_first(width, height, max_tiles=16, tile=336, patch=14, shuffle=2):
    """The fewest tiles that cover the picture have the smallest factor of at least 1."""
    tiles = math.ceil(width / tile) * math.ceil(height / tile)
    if tiles > max_tiles:
        canvases = [(r, max_tiles // r) for r in range(1, max_tiles + 1)]
        largest = max(min(c / width, r / height) for r, c in canvases)
        tiles = min(
            r * c
            for r, c in itertools.product(range(1, max_tiles + 1), repeat=2)
            if r * c <= max_tiles and min(c / width, r / height) == largest
        )
    each = (tile // patch) ** 2 // shuffle**2
    return each + 3 if tiles == 1 else (tiles + 1) * each + tiles + 3


def llama_in_text(width, height, max_tiles=16, tile=336, patch=14, shuffle=2):
    """Count the tokens of the text that the processor writes."""
    rows, columns = llama_in_torch(width, height, max_tiles, tile)
    patches = ["patch"] * ((tile // patch) ** 2 // shuffle**2)
    text = ["start"]
    if rows * columns > 1:
        for _ in range(rows):
            text += patches
            for _ in range(columns - 1):
                text += ["x", *patches]
            text += ["y"]
    return len([*text, "image", *patches, "end"])


def llama_in_torch(width, height, max_tiles, tile):
    sizes = itertools.product(range(1, max_tiles + 1), repeat=2)
    grid = torch.tensor([(r, c) for r, c in sizes if r * c <= max_tiles])
    factors = torch.minimum(grid[:, 0] * tile / height, grid[:, 1] * tile / width)
    enlarged = factors[factors >= 1]
    factor = enlarged.min() if len(enlarged) else factors.max()
    fitting = grid[factors == factor]
    return fitting[fitting.prod(1).argmin()].tolist()


@pytest.mark.parametrize(
    ("qwen", "llama"),
    [
        (qwen_in_pixels, llama_covering_first),
        (qwen_with_inverse_scale, llama_in_text),
        (qwen_in_integers, llama_in_fractions),
        (qwen_in_torch, llama_by_sorting),
    ],
)
def test_tokens_by_other_ways(qwen, llama):
    assert correct("3.2", qwen, llama)


def qwen_with(rounded, shrunk, grown, scale_of_rounded=False):
    """Return a count as a learner writes it, with other roundings or an s of the rounded sides."""

    def count(width, height, min_pixels, max_pixels, patch=14, merge=2):
        if max(width, height) > 200 * min(width, height):
            raise ValueError((width, height))
        unit = patch * merge
        w, h = rounded(width / unit) * unit, rounded(height / unit) * unit
        area = w * h if scale_of_rounded else width * height
        if w * h > max_pixels:
            s = math.sqrt(area / max_pixels)
            w, h = (max(unit, shrunk(side / s / unit) * unit) for side in (width, height))
        elif w * h < min_pixels:
            s = math.sqrt(min_pixels / area)
            w, h = (grown(side * s / unit) * unit for side in (width, height))
        return w // unit * (h // unit) + 2

    return count


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((round, math.floor, math.ceil, True), "Your s uses the rounded sides"),
        ((math.ceil,) * 3, "You round up everywhere"),
        ((math.floor,) * 3, "You round down everywhere"),
        ((round,) * 3, "sides are not rounded to the nearest"),
    ],
)
def test_roundings_and_scales_are_named(arguments, message):
    outcome = judge("3.2", qwen_with(*arguments), llama_tokens.reference_llama)
    assert message in outcome.message, outcome.message


# --- Inputs and errors ----------------------------------------------------------------------------


def test_an_error_in_an_answer_names_the_input():
    def broken(pixels, patch, merge=1):
        return pixels[0, 0, 3]

    outcome = judge("3.1", broken, loops_back)
    assert "for the example" in outcome.message and "IndexError" in outcome.message


def test_the_second_stub_is_not_attempted():
    def stub(*call):
        raise NotImplementedError("replace this line with your code")

    assert judge("3.1", loops, stub).state == "not attempted"
    assert judge("3.2", qwen_tokens.reference_qwen, stub).state == "not attempted"
