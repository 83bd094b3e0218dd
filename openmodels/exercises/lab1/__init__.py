"""Lab 1, the landscape: the numbers, titles and hints of its exercises.

Exercise 1.4 is in the module `ex_1_4_masks`, and so on.
"""

from openmodels.check import Exercise

EXERCISES = (
    Exercise(
        "1.1",
        "Count a mixture's parameters",
        hints=(
            "Five kinds of parts: attention, the experts with their router, dense layers, norms, "
            "and what lies outside the layers. Count each for one layer, then say how many layers "
            "have it.",
            "Attention has four matrices: queries and output on `num_attention_heads` heads, keys "
            "and values on `num_key_value_heads`. An expert has three: `hidden_size` times "
            "`intermediate_size` each.",
            "Only one term differs between the two numbers: `num_local_experts` experts in a "
            "mixture layer, or `num_experts_per_tok`. Compute the rest once.",
        ),
    ),
    Exercise(
        "1.2",
        "Count the cache of four kinds of attention",
        hints=(
            "Two questions, apart: how many tokens does each layer keep, and how many numbers "
            "does one layer keep of one token? Multiply at the end.",
            "A layer without a span keeps all tokens, one with a span W the last W - 1, or all if "
            "there are fewer. Sum that over `spans`.",
            "Of a token, latent attention keeps `kv_lora_rank + qk_rope_head_dim` numbers. The "
            'others keep a key and a value per KV head. `getattr(config, "kv_lora_rank", None)` '
            "tells which.",
        ),
    ),
    Exercise(
        "1.3",
        "Send each token to its experts",
        hints=(
            "Two rows of numbers from the start: `scores`, the sigmoid of the logits, and what "
            "you choose by, `scores + bias`. The weights come from the first.",
            "`view(tokens, n_groups, -1)` lays the experts out by group. `topk(2).values.sum(-1)` "
            "gives each group its strength; shut the others with `masked_fill(..., -inf)`.",
            "`choice.topk(top_k).indices` are the experts; `scores.gather(1, experts)` their "
            "weights. Divide by the row's sum, multiply by `scale`.",
        ),
    ),
    Exercise(
        "1.4",
        "Draw the masks of windows and chunks",
        hints=(
            "`place = torch.arange(tokens)`. Then `place[:, None]` is the token that looks and "
            "`place[None, :]` the one looked at; comparing them gives a square.",
            "Both masks share the condition that nobody looks ahead, `k <= q`. Join conditions "
            "with `&`, not with `and`.",
            "Window: the distance `q - k` is less than `window`. Chunk: `q // chunk` and `k // "
            "chunk` are the same number.",
        ),
    ),
    Exercise(
        "1.5",
        "Fit a power law and hold it to a point it has not seen",
        hints=(
            "Take the logarithm of both sides of y - offset = scale · x ** -exponent. Which two "
            "quantities now lie on a straight line?",
            "`numpy.polyfit(u, v, 1)` returns slope and start of the straight line v over u.",
            "The slope is minus the exponent, the start the logarithm of the scale. "
            "`numpy.asarray` turns lists into arrays that can be subtracted from.",
        ),
    ),
    Exercise(
        "1.6",
        "Say which of two models is better",
        hints=(
            "The middle is (p + z²/2n) / (1 + z²/n), and the half width is divided by the same. "
            "Squares are `z**2`; a root is `** 0.5`.",
            "A question that both answer, or that neither does, says nothing about who is better. "
            "Count the others: how often is only the first right, how often only the second?",
            "If the two were equally good, the first would win half of those. Is 1/2 inside the "
            "interval of its share? And what if there are none?",
        ),
    ),
    Exercise(
        "1.7",
        "Reward an answer for beating its siblings",
        hints=(
            "A row is one question. Mean and standard deviation go along dimension 1; with "
            "`keepdim=True` they can be subtracted from the row and divide it.",
            "`rewards.std(1, keepdim=True)` divides by n - 1, which is what is wanted.",
            "Where the spread is 0, so is every distance from the mean: 0 / 0 is nan. "
            "`torch.where` or `spread.clamp(min=1e-6)`, keeps it out.",
        ),
    ),
    Exercise(
        "1.8",
        "Ask the licences a question in code",
        hints=(
            "Four conditions, joined by `and`: it takes images, its context is long enough, it "
            "fits, and the licence allows it.",
            '`licences.may_i(row.id, use, in_eu=True).verdict` is "yes", "yes, if", "no" or "not '
            'known". Which two of them let the firm go on?',
            "`row.context_length` and `row.parameters` are None where nobody tells. Ask for that "
            'before you compare; then `sizing.fits(row.parameters, "q4_k_m", '
            "available=available)`.",
        ),
    ),
)
