"""Count what a picture costs: tokens in the prompt and operations in the vision tower.

Each model family has a rule that maps a picture's size to tokens. `RULES` holds four of them, and
`library_total` computes the same number with the library's own code. Widths and heights are in
pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedConfig

A4 = (210, 297)  # millimetres, ISO 216
MM_PER_INCH = 25.4
POINTS_PER_INCH = 72
LONGEST_RATIO = 200  # of the longer to the shorter side, in Qwen's processors


@dataclass(frozen=True)
class Cost:
    """What a picture becomes in one model.

    width, height: pixels that the tower reads, padding included. patches: all patches in the tower,
    a global tile included. tokens: vectors that the text model gets. markers: tokens of text around
    and between them.
    """

    width: int
    height: int
    patches: int
    tokens: int
    markers: int

    @property
    def total(self) -> int:
        """Return all tokens that the picture adds to a prompt."""
        return self.tokens + self.markers


class Rule(Protocol):
    """How one family counts the tokens of a picture. source: where the numbers come from."""

    source: str

    def cost(self, width: int, height: int) -> Cost:
        """Return the cost of a picture. Raises ValueError for a size that the model refuses."""
        ...


@dataclass(frozen=True)
class PixelLimits:
    """Qwen's rule: keep the shape, round each side to whole tokens, stay within limits of pixels.

    unit: pixels a side of one token, the patch size times the merge size. Formula: `smart_resize`
    in transformers 5.23, models/qwen2_vl; two markers surround the picture.
    """

    patch_size: int
    merge_size: int
    min_pixels: int
    max_pixels: int
    source: str

    @property
    def unit(self) -> int:
        """Return the pixels a side of what becomes one token."""
        return self.patch_size * self.merge_size

    def cost(self, width: int, height: int) -> Cost:
        """Return the cost of a picture.

        Raises ValueError for a size below 1 and for a picture more than 200 times as long as wide.
        """
        _check_size(width, height)
        if max(width, height) > LONGEST_RATIO * min(width, height):
            raise ValueError(
                f"a picture of {width} x {height} pixels: one side is more than {LONGEST_RATIO} "
                "times the other"
            )
        unit = self.unit
        columns, rows = round(width / unit), round(height / unit)
        if columns * rows * unit**2 > self.max_pixels:
            shrink = math.sqrt(width * height / self.max_pixels)
            columns = max(1, math.floor(width / shrink / unit))
            rows = max(1, math.floor(height / shrink / unit))
        elif columns * rows * unit**2 < self.min_pixels:
            enlarge = math.sqrt(self.min_pixels / (width * height))
            columns = math.ceil(width * enlarge / unit)
            rows = math.ceil(height * enlarge / unit)
        tokens = columns * rows
        return Cost(columns * unit, rows * unit, tokens * self.merge_size**2, tokens, 2)


@dataclass(frozen=True)
class Tiles:
    """Llama 4's rule: cut the picture into square tiles, and add one tile with all of it.

    tile: pixels a side. most: tiles of the largest grid. A tile becomes (tile / patch / merge)^2
    tokens. Of all grids of at most `most` tiles, the processor takes the one that enlarges the
    picture least, or shrinks it least if no grid is large enough, and of equal ones the smallest.
    Each row of n tiles has n separators. Formula: `get_best_fit` and `_prompt_split_image` in
    transformers 5.23, models/llama4.
    """

    tile: int
    patch_size: int
    merge_size: int
    most: int
    source: str

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Return (columns, rows) of tiles, without the global tile."""
        scales = {
            (columns, rows): min(self.tile * columns / width, self.tile * rows / height)
            for columns in range(1, self.most + 1)
            for rows in range(1, self.most // columns + 1)
        }
        enlarging = [scale for scale in scales.values() if scale >= 1]
        best = min(enlarging) if enlarging else max(scales.values())
        return min(
            (grid for grid, scale in scales.items() if scale == best), key=lambda g: g[0] * g[1]
        )

    def cost(self, width: int, height: int) -> Cost:
        """Return the cost of a picture. Raises ValueError for a size below 1."""
        _check_size(width, height)
        columns, rows = self.grid(width, height)
        n_tiles = columns * rows
        separators = n_tiles if n_tiles > 1 else 0
        all_tiles = n_tiles + 1 if n_tiles > 1 else 1  # the global tile
        patches = (self.tile // self.patch_size) ** 2
        tokens = all_tiles * patches // self.merge_size**2
        markers = separators + 3  # start, the name of the global tile, end
        return Cost(columns * self.tile, rows * self.tile, all_tiles * patches, tokens, markers)


@dataclass(frozen=True)
class Budget:
    """Gemma 4's rule: scale any picture, up or down, so that it fills a budget of tokens.

    budget: the most tokens of a picture: 70, 140, 280, 560 or 1,120. A token is the mean of
    pool x pool patches. Formula: `get_aspect_ratio_preserving_size` in transformers 5.23,
    models/gemma4; two markers surround the picture.
    """

    patch_size: int
    pool: int
    budget: int
    source: str

    def cost(self, width: int, height: int) -> Cost:
        """Return the cost of a picture. Raises ValueError for a size below 1."""
        _check_size(width, height)
        unit = self.patch_size * self.pool
        scale = math.sqrt(self.budget * unit**2 / (width * height))
        columns, rows = math.floor(scale * width / unit), math.floor(scale * height / unit)
        if rows == 0:  # a strip: one row of tokens
            rows, columns = 1, min(width // height, self.budget)
        elif columns == 0:
            columns, rows = 1, min(height // width, self.budget)
        tokens = columns * rows
        return Cost(columns * unit, rows * unit, tokens * self.pool**2, tokens, 2)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ValueError(f"a picture of {width} x {height} pixels; both sides must be at least 1")


# By catalogue id. The limits are those of the checkpoints' preprocessor_config.json, read in copies
# of them on 2026-11-27; Llama 4's and Gemma 4's equal the library's defaults.
RULES: dict[str, Rule] = {
    "qwen2.5-vl-7b": PixelLimits(
        14, 2, 4 * 28**2, 16_384 * 28**2,
        "min_pixels 3,136 and max_pixels 12,845,056 of Qwen/Qwen2.5-VL-7B-Instruct",
    ),
    "llama-4-scout": Tiles(
        336, 14, 2, 16,
        "Llama4ImageProcessor of transformers 5.23: tiles of 336 pixels, max_patches 16",
    ),
    "qwen3.5-397b-a17b": PixelLimits(
        16, 2, 64 * 32**2, 16_384 * 32**2,
        "shortest_edge 65,536 and longest_edge 16,777,216 of the Qwen3.5 checkpoints (2026-02)",
    ),
    "gemma-4-31b": Budget(
        16, 3, 280,
        "max_soft_tokens 280 of Gemma 4 (2026-04); ai.google.dev/gemma/docs/capabilities/vision",
    ),
}  # fmt: skip


def cost(model: str, width: int, height: int, budget: int | None = None) -> Cost:
    """Return the cost of a picture for a model of `RULES`.

    budget: for Gemma 4, another of its five budgets of tokens. Raises LookupError for a model
    without a rule, ValueError for a size that the model refuses and for a budget it does not have.
    """
    rule = _rule(model)
    if budget is not None:
        if not isinstance(rule, Budget) or budget not in (70, 140, 280, 560, 1120):
            raise ValueError(f"{model} has no budget of {budget} tokens")
        rule = replace(rule, budget=budget)
    return rule.cost(width, height)


def _rule(model: str) -> Rule:
    if model not in RULES:
        raise LookupError(f"no rule for {model!r}; there are {', '.join(RULES)}")
    return RULES[model]


def page_pixels(dpi: float, page: tuple[float, float] = A4) -> tuple[int, int]:
    """Return (width, height) of a scanned page; page: its sides in millimetres."""
    across, down = (round(side / MM_PER_INCH * dpi) for side in page)
    return across, down


# --- The same numbers, from the library -----------------------------------------------------------


def library_total(model: str, width: int, height: int) -> int:
    """Return all tokens of a picture as the library's own processors count them.

    Raises LookupError for a model without a rule, and what the processor raises.
    """
    rule = _rule(model)
    if isinstance(rule, PixelLimits):
        return _qwen_total(rule, width, height)
    if isinstance(rule, Tiles):
        return _llama_total(rule, width, height)
    return _gemma_total(rule, width, height)


def _qwen_total(rule: PixelLimits, width: int, height: int) -> int:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = Qwen2VLImageProcessorPil(
        patch_size=rule.patch_size,
        merge_size=rule.merge_size,
        size={"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels},
    )
    return processor.get_number_of_image_patches(height, width) // rule.merge_size**2 + 2


def _gemma_total(rule: Budget, width: int, height: int) -> int:
    from transformers.models.gemma4 import image_processing_pil_gemma4 as library

    patches = rule.budget * rule.pool**2
    down, across = library.get_aspect_ratio_preserving_size(
        height, width, rule.patch_size, patches, rule.pool
    )
    return down * across // (rule.patch_size * rule.pool) ** 2 + 2


def _llama_total(rule: Tiles, width: int, height: int) -> int:
    import torch
    from transformers.image_utils import SizeDict
    from transformers.models.llama4.processing_llama4 import Llama4Processor

    library = _llama_functions()
    side = SizeDict(height=rule.tile, width=rule.tile)
    grids = torch.tensor(library["find_supported_resolutions"](rule.most, side))
    canvas = library["get_best_fit"]((height, width), grids)  # (height, width)
    ratio = (canvas // rule.tile).tolist()
    per_tile = (rule.tile // rule.patch_size // rule.merge_size) ** 2
    text = Llama4Processor._prompt_split_image(None, ratio, per_tile)
    return text.count("<|")


@cache
def _llama_functions() -> dict[str, Callable]:
    """Return the functions of the library's image processor that need no torchvision.

    The module imports torchvision, so its plain functions are compiled from its source.
    """
    import ast
    import importlib.util
    from collections import defaultdict
    from functools import lru_cache
    from pathlib import Path

    import torch
    from transformers.image_utils import SizeDict

    folder = Path(importlib.util.find_spec("transformers").origin).parent
    path = folder / "models" / "llama4" / "image_processing_llama4.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {"get_factors", "find_supported_resolutions", "get_best_fit"}
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in names]
    scope = {"lru_cache": lru_cache, "defaultdict": defaultdict, "torch": torch}
    scope["SizeDict"] = SizeDict
    exec(compile(tree, str(path), "exec"), scope)
    return {name: scope[name] for name in names}


# --- The vision tower -----------------------------------------------------------------------------


def windows(rows: int, columns: int, config: PreTrainedConfig) -> np.ndarray:
    """Return (rows, columns): the number of the window that each patch of a picture belongs to.

    rows, columns: of patches, multiples of the merge size. config: Qwen2.5-VL's vision_config.
    Windows are numbered in the order in which the library processes them.
    """
    import numpy as np
    import torch
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as library

    merge = config.spatial_merge_size
    order, ends = library.get_vision_window_index(
        torch.tensor([[1, rows, columns]]),
        spatial_merge_size=merge,
        window_size=config.window_size,
        patch_size=config.patch_size,
        kwargs={},
    )
    patches = np.diff(np.unique(ends.numpy()))  # per window
    numbers = np.empty(len(order), dtype=int)
    numbers[order.numpy()] = np.repeat(np.arange(len(patches)), patches // merge**2)
    by_token = numbers.reshape(rows // merge, columns // merge)
    return by_token.repeat(merge, 0).repeat(merge, 1)  # (rows, columns)


def tower_flops(config: PreTrainedConfig, picture: Cost) -> int:
    """Return the floating-point operations of the vision tower and projector for one picture.

    config: of Qwen2.5-VL or Llama 4. 2 per weight and vector, and 2 per component of a query's key
    and value for each pair of patches that attend to each other (Kaplan et al. 2020, arXiv
    2001.08361, section 2.1). Norms and softmax are ignored. Raises ValueError for other models.
    """
    vision = config.vision_config
    if config.model_type == "qwen2_5_vl":
        return _qwen_flops(vision, picture)
    if config.model_type == "llama4":
        return _llama_flops(config, picture)
    raise ValueError(f"there is no formula for the tower of {config.model_type}")


def _qwen_flops(vision: PreTrainedConfig, picture: Cost) -> int:
    import numpy as np
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as library

    tower = _on_meta(library.Qwen2_5_VisionTransformerPretrainedModel, vision)
    rows, columns = picture.height // vision.patch_size, picture.width // vision.patch_size
    sizes = np.unique(windows(rows, columns, vision), return_counts=True)[1]
    full = len(vision.fullatt_block_indexes)
    pairs = full * picture.patches**2 + (vision.depth - full) * int((sizes**2).sum())
    multiplied = picture.patches * (_matrices(tower.patch_embed) + _matrices(tower.blocks))
    multiplied += picture.tokens * _matrices(tower.merger)
    return 2 * multiplied + 4 * pairs * vision.hidden_size


def _llama_flops(config: PreTrainedConfig, picture: Cost) -> int:
    from transformers.models.llama4.modeling_llama4 import Llama4VisionModel

    vision = config.vision_config
    tower = _on_meta(Llama4VisionModel, vision)
    per_tile = (vision.image_size // vision.patch_size) ** 2
    tiles = picture.patches // per_tile
    vectors = picture.patches + tiles  # each tile has a class vector
    pairs = vision.num_hidden_layers * tiles * (per_tile + 1) ** 2
    projector = vision.vision_output_dim * config.text_config.hidden_size
    multiplied = picture.patches * _matrices(tower.patch_embedding)
    multiplied += vectors * _matrices(tower.model)
    multiplied += picture.tokens * (_matrices(tower.vision_adapter) + projector)
    return 2 * multiplied + 4 * pairs * vision.hidden_size


def _on_meta(kind: Callable, config: PreTrainedConfig) -> object:
    import torch

    with torch.device("meta"):
        return kind(config)


def _matrices(module: object) -> int:
    return sum(weight.numel() for weight in module.parameters() if weight.ndim > 1)
