"""Exercise 2.1: draw the next token, with temperature and top-p.

The checker draws thousands of tokens and compares how often each came with what is right and
with what known mistakes give.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from openmodels.check import NotYet, WrongAnswer, exercise, expect_close, expect_type
from openmodels.exercises.lab2.fixtures import load_miniature

PROBABILITIES = torch.tensor([0.08, 0.42, 0.05, 0.27, 0.18])  # at temperature 1, not sorted
DRAWS = 2000
TOLERANCE = 0.055  # five standard deviations of a share in 2,000 draws

# A sampler takes logits (vocabulary,), temperature, top_p and a generator; it returns a token.
Sampler = Callable[[Tensor, float, float, Generator], int]
Shares = tuple[Tensor, str]  # how often each token comes by a mistake, and its message


# --- Known mistakes -------------------------------------------------------------------------------


def _sort(logits: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return probabilities from high to low, and the tokens in that order."""
    return (logits / temperature).softmax(-1).sort(descending=True)


def _draw(weights: Tensor, ids: Tensor, generator: Generator | None) -> int:
    return ids[torch.multinomial(weights, 1, generator=generator)].item()


def _in_nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Return a mask of the tokens before which the probabilities sum to less than top_p."""
    return probabilities.cumsum(-1) - probabilities < top_p


def top_p_before_temperature(
    logits: Tensor, temperature: float, top_p: float, generator: Generator
) -> int:
    if temperature == 0:
        return logits.argmax().item()
    probabilities, ids = _sort(logits)
    nucleus = ids[_in_nucleus(probabilities, top_p)]
    return _draw((logits[nucleus] / temperature).softmax(-1), ids, generator)


def crossing_token_cut(
    logits: Tensor, temperature: float, top_p: float, generator: Generator
) -> int:
    if temperature == 0:
        return logits.argmax().item()
    probabilities, ids = _sort(logits, temperature)
    return _draw(probabilities * (probabilities.cumsum(-1) <= top_p + 1e-6), ids, generator)


def one_token_too_many(
    logits: Tensor, temperature: float, top_p: float, generator: Generator
) -> int:
    if temperature == 0:
        return logits.argmax().item()
    probabilities, ids = _sort(logits, temperature)
    size = int((probabilities.cumsum(-1) < top_p).sum()) + 2
    return _draw(probabilities[:size], ids, generator)


def not_renormalised(logits: Tensor, temperature: float, top_p: float, generator: Generator) -> int:
    if temperature == 0:
        return logits.argmax().item()
    probabilities, ids = _sort(logits, temperature)
    probabilities = probabilities * _in_nucleus(probabilities, top_p)
    place = torch.searchsorted(probabilities.cumsum(-1), torch.rand(1, generator=generator))
    return ids[place.clamp(max=len(ids) - 1)].item()


def divided_by_zero(logits: Tensor, temperature: float, top_p: float, generator: Generator) -> int:
    probabilities, ids = _sort(logits, temperature)
    return _draw(probabilities * _in_nucleus(probabilities, top_p), ids, generator)


def multiplied_by_temperature(
    logits: Tensor, temperature: float, top_p: float, generator: Generator
) -> int:
    probabilities, ids = _sort(logits * temperature)
    return _draw(probabilities * _in_nucleus(probabilities, top_p), ids, generator)


def not_sorted(logits: Tensor, temperature: float, top_p: float, generator: Generator) -> int:
    if temperature == 0:
        return logits.argmax().item()
    probabilities = (logits / temperature).softmax(-1)
    weights = probabilities * _in_nucleus(probabilities, top_p)
    return torch.multinomial(weights, 1, generator=generator).item()


def place_instead_of_token(
    logits: Tensor, temperature: float, top_p: float, generator: Generator
) -> int:
    probabilities, _ = _sort(logits, temperature)
    return _draw(probabilities, torch.arange(len(probabilities)), generator)


def generator_unused(logits: Tensor, temperature: float, top_p: float, generator: Generator) -> int:
    probabilities, ids = _sort(logits, temperature)
    return _draw(probabilities, ids, None)


def logits_changed_in_place(
    logits: Tensor, temperature: float, top_p: float, generator: Generator
) -> int:
    if temperature == 0:
        return logits.argmax().item()
    logits /= temperature
    return divided_by_zero(logits, 1, top_p, generator)


def tensor_returned(
    logits: Tensor, temperature: float, top_p: float, generator: Generator
) -> Tensor:
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)


# --- The checker ----------------------------------------------------------------------------------


def _at_temperature(temperature: float) -> Tensor:
    """Return PROBABILITIES at another temperature."""
    return (PROBABILITIES.log() / temperature).softmax(-1)


def _only(probabilities: Tensor, *tokens: int) -> Tensor:
    """Return the probabilities of some tokens, renormalised; 0 for the other tokens."""
    selected = torch.zeros_like(probabilities)
    selected[list(tokens)] = probabilities[list(tokens)]
    return selected / selected.sum()


def _draw_shares(sample: Sampler, temperature: float, top_p: float, draws: int) -> Tensor:
    """Return how often each token came, as a share of the draws. Raises NotYet for a non-token."""
    generator = Generator().manual_seed(21)
    counts = torch.zeros(len(PROBABILITIES))
    for _ in range(draws):
        token = sample(PROBABILITIES.log(), temperature, top_p, generator)
        expect_type(token, int, "what `sample` returned", "`.item()` turns a tensor into a number.")
        if not 0 <= token < len(PROBABILITIES):
            raise NotYet(f"`sample` returned token {token}; the ids go from 0 to 4.")
        counts[token] += 1
    return counts / draws


def _expect_shares(
    sample: Sampler,
    settings: tuple[float, float],
    expected: Tensor,
    mistakes: list[Shares],
    otherwise: str = "",
    draws: int = DRAWS,
) -> None:
    """Raise NotYet unless tokens come as often as expected.

    settings: temperature and top_p. mistakes: explain known shares; nan in them fits any share.
    otherwise: the explanation of all other shares.
    """
    shares = _draw_shares(sample, *settings, draws)
    if (shares - expected).abs().max() < TOLERANCE:
        return
    worst = int((shares - expected).abs().argmax())
    for known, message in mistakes:
        if (shares - known).abs().nan_to_num(0).max() < TOLERANCE:
            otherwise = message
            break
    raise NotYet(
        f"tokens 0 to 4 have the probabilities 0.08, 0.42, 0.05, 0.27 and 0.18; at temperature "
        f"{settings[0]} and top_p {settings[1]}, token {worst} came in {shares[worst]:.0%} of "
        f"{draws:,} draws, expected {expected[worst]:.0%}. {otherwise}".strip()
    )


@exercise(
    "2.1",
    wrong=[
        WrongAnswer(
            "top-p before temperature",
            top_p_before_temperature,
            "top_p 0.65 ... after the temperature",
        ),
        WrongAnswer("crossing token cut", crossing_token_cut, "that crosses top_p belongs"),
        WrongAnswer("one token too many", one_token_too_many, "ends with the token that crosses"),
        WrongAnswer("not renormalised", not_renormalised, "divide by their sum"),
        WrongAnswer(
            "division by zero", divided_by_zero, "temperature 0 ... makes every logit infinite"
        ),
        WrongAnswer(
            "multiplied by temperature", multiplied_by_temperature, "divided by the temperature"
        ),
        WrongAnswer("unsorted", not_sorted, "summed in the order of the vocabulary"),
        WrongAnswer(
            "place in the sorted list", place_instead_of_token, "places in the sorted list"
        ),
        WrongAnswer("generator unused", generator_unused, "the same seed drew"),
        WrongAnswer(
            "logits changed in place", logits_changed_in_place, "changed the logits it was given"
        ),
        WrongAnswer("a tensor", tensor_returned, "Tensor of shape ... expected int"),
        WrongAnswer("always greedy", lambda logits, *_: logits.argmax().item(), "likeliest token"),
    ],
)
def check_sample(sample: Sampler) -> str:
    """Judge `sample(logits, temperature, top_p, generator)`."""
    _expect_temperature(sample)
    _expect_nucleus(sample)
    _expect_greedy_at_zero(sample)
    logits = PROBABILITIES.log()
    sample(logits, 2, 0.65, Generator().manual_seed(3))
    expect_close(
        logits, PROBABILITIES.log(), "after the call, the logit",
        "`sample` changed the logits it was given; compute new ones.",
    )  # fmt: skip
    return _compare_with_transformers(sample)


def _expect_temperature(sample: Sampler) -> None:
    """Raise NotYet unless draws without top-p follow the temperature, and the generator."""
    greedy = (_only(PROBABILITIES, 1), "That is always the likeliest token.")
    in_order = PROBABILITIES.sort(descending=True).values
    places = "Those are the places in the sorted list; which token stands at each place?"
    _expect_shares(sample, (1, 1), PROBABILITIES, [greedy, (in_order, places)])
    first, again = (
        [sample(PROBABILITIES.log(), 1, 1, generator) for _ in range(20)]
        for generator in (Generator().manual_seed(seed) for seed in (5, 5))
    )
    if first != again:
        raise NotYet(
            f"the same seed drew {first[:6]} and then {again[:6]}. Does the draw use `generator`?"
        )
    divided = "Logits are divided by the temperature: a high one makes them more alike."
    ignored = (PROBABILITIES, "The temperature had no effect.")
    mistakes = [(_at_temperature(0.5), divided), ignored]
    _expect_shares(sample, (2, 1), _at_temperature(2), mistakes)


def _expect_nucleus(sample: Sampler) -> None:
    """Raise NotYet unless draws stay in the nucleus, which the temperature changes."""
    crossing = "The token that crosses top_p belongs to the nucleus: without it the sum is too low."
    too_many = "The nucleus ends with the token that crosses top_p; yours has one more."
    unsorted = "Are the probabilities summed in the order of the vocabulary? Sort them first."
    unchanged = "top_p had no effect. Does the sum begin with the likeliest token?"
    scale = "Draws fall outside the nucleus: its probabilities sum to 0.69, so divide by their sum."
    loose = PROBABILITIES.where(_only(PROBABILITIES, 1, 3) > 0, torch.nan)
    mistakes = [
        (_only(PROBABILITIES, 1), crossing),
        (_only(PROBABILITIES, 1, 3, 4), too_many),
        (_only(PROBABILITIES, 0, 1, 2, 3), unsorted),
        (_only(PROBABILITIES, 0, 1, 2), unsorted),
        (PROBABILITIES, unchanged),
        (loose, scale),
    ]
    nucleus = "The nucleus there is tokens 1 and 3."
    _expect_shares(sample, (1, 0.65), _only(PROBABILITIES, 1, 3), mistakes, nucleus)
    smallest = "The likeliest token is always in the nucleus."
    _expect_shares(sample, (1, 0.1), _only(PROBABILITIES, 1), [], smallest, draws=100)
    too_early = (
        "The nucleus is found after the temperature has changed the probabilities: there it is "
        "tokens 1, 3 and 4."
    )
    warm = _at_temperature(2)
    _expect_shares(sample, (2, 0.65), _only(warm, 1, 3, 4), [(_only(warm, 1, 3), too_early)])


def _expect_greedy_at_zero(sample: Sampler) -> None:
    """Raise NotYet unless temperature 0 takes the likeliest token."""
    likeliest = _only(PROBABILITIES, 1)
    try:
        _expect_shares(sample, (0, 0.65), likeliest, [], "Temperature 0 is greedy.", draws=100)
    except (RuntimeError, ZeroDivisionError, IndexError, ValueError) as error:
        raise NotYet(
            f"at temperature 0 your code stopped with {type(error).__name__}: {error}. Dividing by "
            "0 makes every logit infinite: return the likeliest token before you divide."
        ) from error


def _compare_with_transformers(sample: Sampler) -> str:
    """Draw from mini-qwen's own logits, compare with transformers' warpers; return the praise."""
    model, tokenizer = load_miniature()
    text = "<|im_start|>system\nYou are the clerk of Port Lark.<|im_end|>\n<|im_start|>user\n"
    with torch.no_grad():
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0, -1]
    # Slightly more than 0.9: a token at the edge may fall on either side.
    scores = TopPLogitsWarper(0.9 + 1e-4)(None, TemperatureLogitsWarper(0.8)(None, logits[None]))[0]
    nucleus = set(scores.isfinite().nonzero().flatten().tolist())
    generator = Generator().manual_seed(4)
    for _ in range(200):
        token = sample(logits.clone(), 0.8, 0.9, generator)
        if token not in nucleus:
            raise NotYet(
                f"from mini-qwen's logits, at temperature 0.8 and top_p 0.9, `sample` drew token "
                f"{token}, which is not among the {len(nucleus)} that transformers keeps."
            )
    return (
        f"200 draws from mini-qwen's logits stayed in the nucleus that transformers keeps: "
        f"{len(nucleus)} of {len(logits):,} tokens."
    )
