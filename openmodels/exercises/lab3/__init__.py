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
            "Write Qwen's rule as three cases: the two rows of the table, and rounding within the "
            "limits. All three start from the original width and height, and the limits apply to "
            "the rounded sides.",
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
    Exercise(
        "3.5",
        "Measure the word error rate",
        hints=(
            "Three steps: split each text into words, count the errors of each pair, then add up "
            "and divide once. `re.findall` with two alternatives finds the words: one Chinese "
            "character, or a run of other letters and digits.",
            "The edit distance is a table. Cell (i, j) holds the fewest errors between the first i "
            "spoken and the first j heard words: the minimum of the cell above + 1 (a deletion), "
            "the cell to the left + 1 (an insertion), and the diagonal cell + 1 if the two words "
            "differ. Row 0 and column 0 count 0, 1, 2, ….",
            "Let each cell hold a tuple (errors, substitutions, deletions, insertions) and take "
            "the `min` of three tuples: the last cell then holds all counts. The divisor is the "
            "sum of the lengths of all references.",
        ),
    ),
    Exercise(
        "3.6",
        "Extract order forms within a token budget",
        hints=(
            "`read_order` has many reasons to return None and one way to return a record. Catch "
            "`ValueError` and `RecursionError` from `json.loads`, then ask for a dict, for exactly "
            "the five fields, and for each field's rule. `type(x) is int` refuses `True`, `12.0` "
            'and `"12"`.',
            "`extract` is one loop over the views with a list of the valid readings so far. If a "
            "new reading is in the list, return it. After the loop, return None.",
            "Before each question, subtract `cost(picture)` from the budget; below 0, return None "
            "without asking. Apply each view to `image`, not to the picture of the view before.",
        ),
    ),
    Exercise(
        "3.7",
        "Estimate a hallucination rate with its interval",
        hints=(
            "Write a small function that turns an answer into yes, no or unclear. Look at the "
            'first word only, in lower case, without the signs around it: `strip(".,;:!?")`. '
            "`isdecimal()` is true for digits alone.",
            "Split the verdicts into two lists, of absent and of present objects. `rate`, `low` "
            "and `high` come from the first list, `missed` from the second, `yes_ratio` and "
            "`unclear` from both.",
            "`NormalDist().inv_cdf((1 + confidence) / 2)` is z. Wilson's interval is the one of "
            "exercise 1.6, with the number of questions about absent objects as n.",
        ),
    ),
    Exercise(
        "3.8",
        "Defend against words in a picture",
        hints=(
            "Which of the three questions needs the word on the sign? Pass that one on unchanged. "
            "For the others, the model must get a picture in which the word cannot be read.",
            "Letters are thin strokes, flags are large patches: "
            "`image.filter(ImageFilter.MedianFilter(size))` with an odd size removes the first. No "
            "single size serves near and far ships: too small, and large letters stay; too large, "
            "and small flags vanish.",
            "You have four calls. Filter with 5 and ask `READ`: if the model still reads a word, "
            "filter the original with a larger size. As soon as it sees no word, ask the question "
            "about that picture.",
        ),
    ),
)
