"""Exercise 1.8: choose the catalogue's models that a firm in the European Union may use."""

from collections.abc import Callable
from functools import partial
from typing import Any

from openmodels import catalog, licences, sizing
from openmodels.check import NotYet, WrongAnswer, exercise

REQUESTS = (  # use, tokens of context, bytes of memory
    ("product", 128_000, 24 * sizing.GB),
    ("share", 32_768, 8 * sizing.GB),
    ("product", 131_072, 2_000 * sizing.GB),
)


# --- The reference solution -----------------------------------------------------------------------


def takes_images(row: catalog.Model) -> bool:
    """Return whether a model takes images."""
    return "image" in row.modality_in


def is_long_enough(row: catalog.Model, context: int) -> bool:
    """Return whether a model is known to read this many tokens."""
    return row.context_length is not None and row.context_length >= context


def fits(row: catalog.Model, available: int, kind: str = "q4_k_m") -> bool:
    """Return whether the weights fit into the available bytes; False if the size is not known."""
    return row.parameters is not None and bool(
        sizing.fits(row.parameters, kind, available=available)
    )


def is_allowed(
    row: catalog.Model,
    use: str,
    *,
    in_eu: bool = True,
    verdicts: tuple[str, ...] = ("yes", "yes, if"),
) -> bool:
    """Return whether the licence allows a use; other arguments than the default are mistakes."""
    return licences.may_i(row.id, use, in_eu=in_eu).verdict in verdicts


def reference_suits(
    row: catalog.Model,
    use: str,
    context: int,
    available: int,
    *,
    images: Callable[..., bool] = takes_images,
    length: Callable[..., bool] = is_long_enough,
    size: Callable[..., bool] = fits,
    licence: Callable[..., bool] = is_allowed,
) -> bool:
    """Return whether a model suits. images, length, size, licence: a mistake replaces one."""
    if row.parameters is None or row.context_length is None:
        return False
    return licence(row, use) and length(row, context) and size(row, available) and images(row)


# --- Known mistakes -------------------------------------------------------------------------------


def is_permissive(row: catalog.Model, use: str) -> bool:
    return row.licence in licences.PERMISSIVE and row.status == "released"


def is_allowed_for(other_use: str, row: catalog.Model, use: str) -> bool:
    return is_allowed(row, other_use)


def is_longer(row: catalog.Model, context: int) -> bool:
    return row.context_length > context


def active_parameters_fit(row: catalog.Model, available: int) -> bool:
    if row.params_active_B is None:
        return False
    return bool(sizing.fits(round(row.params_active_B * 1e9), "q4_k_m", available=available))


def suits_comparing_none(row: catalog.Model, use: str, context: int, available: int) -> bool:
    return row.context_length >= context and reference_suits(row, use, context, available)


def suits_sizing_none(row: catalog.Model, use: str, context: int, available: int) -> bool:
    return sizing.fits(row.parameters, "q4_k_m", available=available) and reference_suits(
        row, use, context, available
    )


MISTAKES = [
    WrongAnswer(
        "Lyon forgotten", partial(reference_suits, licence=partial(is_allowed, in_eu=False)),
        "The firm is in the European Union: `in_eu`.",
    ),
    WrongAnswer(
        "only a plain yes",
        partial(reference_suits, licence=partial(is_allowed, verdicts=("yes",))),
        "'yes, if' is a yes with duties: the firm may, and keeps them.",
    ),
    WrongAnswer(
        "not known taken for yes",
        partial(
            reference_suits, licence=partial(is_allowed, verdicts=("yes", "yes, if", "not known"))
        ),
        "'not known' is no yes: nobody here has seen a clause that allows it.",
    ),
    WrongAnswer(
        "by the licence's name", partial(reference_suits, licence=is_permissive),
        "Ask `licences.may_i`: other licences than Apache and MIT say yes too.",
    ),
    WrongAnswer(
        "any input", partial(reference_suits, images=lambda row: True),
        "It must take images: look into `row.modality_in`.",
    ),
    WrongAnswer(
        "longer than asked", partial(reference_suits, length=is_longer),
        "At least `context` tokens: exactly as many are enough.",
    ),
    WrongAnswer(
        "active parameters", partial(reference_suits, size=active_parameters_fit),
        "All parameters must be in memory, not only the active ones.",
    ),
    WrongAnswer(
        "in 16 bits", partial(reference_suits, size=partial(fits, kind="bfloat16")),
        "The weights are stored in 4 bits: \"q4_k_m\".",
    ),
    WrongAnswer(
        "no memory asked", partial(reference_suits, size=lambda row, available: True),
        "It must fit into `available`: ask `sizing.fits`.",
    ),
    WrongAnswer(
        "another use", partial(reference_suits, licence=partial(is_allowed_for, "research")),
        "Ask for the use that is asked for: `use`.",
    ),
    WrongAnswer(
        "always for a product",
        partial(reference_suits, licence=partial(is_allowed_for, "product")),
        "The shelves are asked for more than one use: hand `use` on to `may_i`.",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


@exercise(
    "1.8",
    wrong=[
        *MISTAKES,
        WrongAnswer("context is None", suits_comparing_none, "no known `context_length`"),
        WrongAnswer("parameters is None", suits_sizing_none, "no known `parameters`"),
        WrongAnswer("nothing suits", lambda *_: False, "you leave out"),
        WrongAnswer("None", lambda *_: None, "Is a `return` missing"),
    ],
)
def check_suits(suits: Callable[..., bool]) -> str:
    """Judge `suits(row, use, context, available)` on every model of the catalogue."""
    for use, context, available in REQUESTS:
        for row in catalog.models():
            result = _judge_row(suits, row, use, context, available)
            if bool(result) == reference_suits(row, use, context, available):
                continue
            does = "you take in" if result else "you leave out"
            why = _explain(suits) or _conditions(row, use, available)
            raise NotYet(
                f"for {use!r}, {context:,} tokens and {sizing.gigabytes(available)}, {does} "
                f"{row.id}. {why}"
            )
    counts = [
        sum(reference_suits(row, *request) for row in catalog.models()) for request in REQUESTS
    ]
    return (
        f"of {len(catalog.models())} models {counts[0]} are left for {REQUESTS[0][1]:,} tokens in "
        f"{sizing.gigabytes(REQUESTS[0][2])}, {counts[2]} in {sizing.gigabytes(REQUESTS[2][2])}."
    )


def _judge_row(suits: Callable, row: catalog.Model, *request: Any) -> Any:
    """Return the answer for one row; raise NotYet if it fails on a value that is not known."""
    try:
        result = suits(row, *request)
    except TypeError as error:
        unknown = [f for f in ("context_length", "parameters") if getattr(row, f) is None]
        if unknown and "NoneType" in str(error):
            raise NotYet(
                f"{row.id} has no known {' and no known '.join(f'`{f}`' for f in unknown)}: None, "
                f"and your code stopped with TypeError: {error}. What is not known is no yes."
            ) from error
        raise
    # `row.parameters and ...` gives None for a row without parameters: that is as good as False.
    if result is None and row.parameters and row.context_length:
        raise NotYet(f"`suits` gives None for {row.id}. Is a `return` missing?")
    return result


def _explain(suits: Callable) -> str:
    """Return the message of the mistake that chooses the same models, "" for none."""
    for mistake in MISTAKES:
        if all(_choose_alike(suits, mistake.answer, *request) for request in REQUESTS):
            return mistake.message
    return ""


def _choose_alike(suits: Callable, mistake: Callable, *request: Any) -> bool:
    rows = catalog.models()
    try:
        return all(bool(suits(row, *request)) == mistake(row, *request) for row in rows)
    except Exception:  # a wrong answer may raise anything; then it is none of the known ones
        return False


def _conditions(row: catalog.Model, use: str, available: int) -> str:
    """Return a sentence with each condition and what this row has there."""
    verdict = licences.may_i(row.id, use, in_eu=True).verdict
    size = row.parameters and sizing.fits(row.parameters, "q4_k_m", available=available)
    return (
        f"It takes {', '.join(row.modality_in)}; context {row.context_length}; the licence "
        f"says {verdict}; in 4 bits: {size or 'size not known'}."
    )
