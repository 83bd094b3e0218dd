"""Token costs of pictures equal the library's, and the tower's operations equal torch's count."""

import random

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText

from openmodels import catalog, paths
from openmodels.inside import vision


def sizes(count, seed):
    """Sizes from 1 pixel to a large scan, with strips and squares."""
    rng = random.Random(seed)
    drawn = [(rng.randint(1, 5000), rng.randint(1, 5000)) for _ in range(count)]
    drawn += [(rng.randint(20, 200), rng.randint(20, 4000)) for _ in range(count // 4)]
    drawn += [(side, side) for side in (1, 27, 28, 336, 337, 672, 1344, 4096)]
    tiles = [336 * number for number in range(1, 17)]
    drawn += [(rng.choice(tiles), rng.choice(tiles)) for _ in range(count // 4)]
    return [pair for pair in drawn if max(pair) <= 200 * min(pair)]


@pytest.mark.parametrize("model", vision.RULES)
def test_tokens_equal_the_librarys(model):
    for width, height in sizes(120, seed=3):
        total = vision.cost(model, width, height).total
        assert total == vision.library_total(model, width, height), (width, height)


@pytest.mark.parametrize("budget", [70, 140, 560, 1120])
def test_gemmas_other_budgets_equal_the_librarys(budget):
    from transformers.models.gemma4 import image_processing_pil_gemma4 as library

    for width, height in [*sizes(40, seed=4), (3000, 4), (4, 3000)]:
        down, across = library.get_aspect_ratio_preserving_size(height, width, 16, 9 * budget, 3)
        cost = vision.cost("gemma-4-31b", width, height, budget)
        assert (cost.width, cost.height) == (across, down)
        assert cost.tokens <= budget


def test_the_librarys_processors_give_as_many_patches():
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    pixels = np.zeros((3, 300, 430), dtype=np.uint8)
    grid = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 12_845_056})
    read = grid(pixels, return_tensors="np")
    cost = vision.cost("qwen2.5-vl-7b", 430, 300)
    assert len(read["pixel_values"]) == cost.patches == 4 * cost.tokens
    assert read["image_grid_thw"].tolist() == [[1, cost.height // 14, cost.width // 14]]
    gemma = Gemma4ImageProcessorPil()(pixels, return_tensors="np")
    cost = vision.cost("gemma-4-31b", 430, 300)
    assert gemma["num_soft_tokens_per_image"].tolist() == [cost.tokens]


def test_known_costs():
    assert vision.cost("qwen2.5-vl-7b", 28, 28).tokens == 4  # enlarged to 56 x 56
    assert vision.cost("qwen2.5-vl-7b", 280, 560).tokens == 200
    assert vision.cost("qwen2.5-vl-7b", 9000, 9000).tokens <= 16_384
    assert vision.cost("qwen3.5-397b-a17b", 32, 32).tokens == 64
    scout = vision.cost("llama-4-scout", 336, 336)
    assert (scout.tokens, scout.markers, scout.patches) == (144, 3, 576)
    scout = vision.cost("llama-4-scout", 672, 336)
    assert (scout.tokens, scout.markers) == (3 * 144, 3 + 2)
    assert vision.RULES["llama-4-scout"].grid(300, 5000) == (1, 15)
    assert vision.cost("gemma-4-31b", 960, 672).tokens == 280
    assert all(model in {row.id for row in catalog.models()} for model in vision.RULES)
    assert all(rule.source for rule in vision.RULES.values())


def test_refused_sizes_and_models_say_why():
    for model in vision.RULES:
        with pytest.raises(ValueError, match="0 x 5"):
            vision.cost(model, 0, 5)
    with pytest.raises(ValueError, match="200 times"):
        vision.cost("qwen2.5-vl-7b", 10, 2001)
    with pytest.raises(LookupError, match="gemma-4-31b"):
        vision.cost("gemma-2", 10, 10)
    with pytest.raises(LookupError, match="no rule"):
        vision.library_total("gemma-2", 10, 10)
    with pytest.raises(ValueError, match="no budget of 100"):
        vision.cost("gemma-4-31b", 10, 10, budget=100)
    with pytest.raises(ValueError, match="no budget"):
        vision.cost("llama-4-scout", 10, 10, budget=280)


def test_a_page_in_pixels():
    assert vision.page_pixels(300) == (2480, 3508)
    assert vision.page_pixels(100, page=(254, 127)) == (1000, 500)


def loaded(name):
    folder = paths.weights_dir(name)
    options = dict(dtype=torch.float32, attn_implementation="eager")  # torch counts it whole
    return AutoModelForImageTextToText.from_pretrained(folder, **options).eval()


def counted(run):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


def test_windows_are_squares_of_112_pixels():
    config = catalog.config("qwen2.5-vl-7b").vision_config
    windows = vision.windows(12, 20, config)
    assert windows.shape == (12, 20)
    row, column = np.divmod(np.arange(12 * 20).reshape(12, 20), 20)
    assert (windows == row // 8 * 3 + column // 8).all()


@pytest.mark.parametrize("rows, columns", [(8, 8), (12, 20)])
def test_operations_of_qwens_tower_equal_torchs_count(rows, columns):
    model = loaded("mini-qwen-vl")
    picture = vision.Cost(14 * columns, 14 * rows, rows * columns, rows * columns // 4, 2)
    pixels, grid = torch.zeros(rows * columns, 1176), torch.tensor([[1, rows, columns]])
    ran = counted(lambda: model.model.visual(pixels, grid))
    assert vision.tower_flops(model.config, picture) == ran


def test_operations_of_llamas_tower_equal_torchs_count():
    model = loaded("mini-scout")
    picture = vision.Cost(64, 64, 3 * 64, 3 * 16, 5)  # three tiles
    pixels = torch.zeros(3, 3, 64, 64)
    ran = counted(lambda: model.multi_modal_projector(model.vision_model(pixels).last_hidden_state))
    assert vision.tower_flops(model.config, picture) == ran


def test_a_tower_without_a_formula_is_refused():
    with pytest.raises(ValueError, match="qwen2"):
        vision.tower_flops(_Other(), vision.Cost(1, 1, 1, 1, 1))


class _Other:
    model_type, vision_config = "qwen2", None
