"""Lab 3, multimodal input: the numbers, titles and hints of its exercises.

Exercise 3.4 is in the module `ex_3_4_mel`, and so on.
"""

from openmodels.check import Exercise

EXERCISES = (
    Exercise(
        "3.1",
        "Cut a picture into patches and put it back",
        hints=(
            "One `reshape` splits both sides of the picture, one `transpose` reorders the axes, "
            "and a second `reshape` flattens each patch. Nothing is computed.",
            "Split the height into (squares, merge, patch) and the width in the same way. That "
            "gives seven axes: 0 square row, 1 patch row, 2 pixel row, 3 square column, 4 patch "
            "column, 5 pixel column, 6 channel.",
            "`transpose(0, 3, 1, 4, 6, 2, 5)` puts the axes into the right order. The way back "
            "reshapes to these seven axes and applies the inverse order, `transpose(0, 2, 5, 1, 3, "
            "6, 4)`.",
        ),
    ),
    Exercise(
        "3.2",
        "Count image tokens in two families",
        hints=(
            "Write Qwen's rule as three cases, in the order of the docstring. All three start from "
            "the original width and height, and the limits apply to the rounded sides.",
            "For Llama 4, list all pairs (rows, columns) with rows * columns <= max_tiles and "
            "compute each canvas's factor. Then select: `min` over the factors of at least 1, or "
            "`max` over all factors.",
            "`min(canvases, key=lambda c: (c.factor, c.rows * c.columns))` resolves ties. A canvas "
            "of several tiles adds rows * columns separators and one more tile.",
        ),
    ),
    Exercise(
        "3.3",
        "M-RoPE positions for text and a picture",
        hints=(
            "Walk through the ids with two variables: the place in `ids`, and the next position. "
            "Text moves both by 1. A picture moves the place by its number of tokens and the "
            "position by its longer side.",
            "Divide rows and columns by `merge` first: the grid counts patches, and a token is "
            "merge x merge of them.",
            "For token k of a picture with `columns` merged columns, `divmod(k, columns)` returns "
            "its row and its column. Compare the number of image tokens before the loop.",
        ),
    ),
    Exercise(
        "3.4",
        "Build a mel filterbank",
        hints=(
            "Write `to_mel` first, then its inverse `to_hz`. The edges are "
            "`to_hz(np.linspace(to_mel(low), to_mel(high), n_mels + 2))`.",
            "A triangle is the smaller of two lines: (f - lower) / (middle - lower) rises, "
            "(upper - f) / (upper - middle) falls. Below 0 it is 0.",
            "With edges[:-2, None], edges[1:-1, None] and edges[2:, None] as lower, middle and "
            "upper, broadcasting over the bins computes all filters at once. Multiply by "
            "2 / (upper - lower).",
        ),
    ),
)
