"""Explorers that answer in words and a table: choices above, the answer below.

Tab reaches every choice, the arrow keys and the space bar change it. Where no kernel runs, the
answer to the first choices stays, as text.
"""

from __future__ import annotations

import difflib
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import ipywidgets

from openmodels import catalog, doctor, licences, sizing

ANY = "any"
SHOWN = 12  # rows of the table of models
WIDEST = 180  # characters of a line of text
LISTED = 20  # choices named in an error, all of them
SIZES = {"up to 10 B": (0, 10), "10 to 100 B": (10, 100), "over 100 B": (100, float("inf"))}
INPUTS = ("image", "audio", "video")
USERS = {"up to 100 million": 0, "100 to 700 million": 101, "over 700 million": 701}
Row = tuple[str, ...]


def choice(name: str, options: Sequence[str] | Mapping[str, object], value=None):
    """A labelled drop-down list; with a mapping, its values are passed on. First value: default.

    ValueError, with what is offered, for a value that is not.
    """
    pairs = list(options.items()) if isinstance(options, Mapping) else [(o, o) for o in options]
    if value is not None and value not in [offered for _, offered in pairs]:
        raise ValueError(_not_offered(name, value, [offered for _, offered in pairs]))
    return ipywidgets.Dropdown(
        options=pairs,
        value=pairs[0][1] if value is None else value,
        description=name,
        style={"description_width": "initial"},
        layout={"width": "max-content"},
    )


def _not_offered(name: str, value: object, offered: list) -> str:
    """What was given and what there is; of a long list, what comes closest."""
    given, *known = (str(getattr(one, "id", one)) for one in (value, *offered))
    if len(known) <= LISTED:
        return f"{name}: {given!r} is not among the choices: {', '.join(known)}"
    close = ", ".join(difflib.get_close_matches(given, known, 5, 0.3))
    return f"{name}: {given!r} is not among the {len(known)} choices; closest: {close or 'none'}"


def checkbox(name: str, value: bool = False):
    """A labelled box to tick."""
    return ipywidgets.Checkbox(value=value, description=name, indent=False)


class Explorer(ipywidgets.VBox):
    """Choices above the words and the table that `look_up` returns for them.

    look_up: gets each choice's value under its name, with _ for spaces; returns (words, rows),
    the first row the header, no rows for no table. Cells that begin with https:// become links.
    Example: `Explorer(lambda ship: (f"The {ship} sails.", []), choice("ship", ["Heron", "Tern"]))`.
    """

    def __init__(self, look_up: Callable[..., tuple[str, list[Row]]], *controls):
        self.look_up, self.controls = look_up, controls
        self.words, self.table = ipywidgets.HTML(), ipywidgets.HTML()
        for one in controls:
            one.observe(self._update, names="value")
        self._update()
        super().__init__([*controls, self.words, self.table])

    def _update(self, _change=None) -> None:
        words, rows = self.look_up(
            **{one.description.replace(" ", "_"): one.value for one in self.controls}
        )
        self.text = "\n\n".join(filter(None, [words, as_text(rows)]))
        self.table.value = as_html(rows)
        self.words.value = f'<div role="status">{html.escape(words)}</div>'

    def _repr_mimebundle_(self, **options):
        return super()._repr_mimebundle_(**options) | {"text/plain": self.text}


def as_text(rows: list[Row]) -> str:
    """A table as aligned text; one too wide for a screen as one block of lines per row."""
    if not rows:
        return ""
    if sum(max(map(len, column)) for column in zip(*rows, strict=True)) > WIDEST:
        blocks = (
            [
                row[0],
                *(f"  {name}: {cell}" for name, cell in zip(rows[0][1:], row[1:], strict=True)),
            ]
            for row in rows[1:]
        )
        return "\n".join("\n".join(block) for block in blocks)
    return doctor.aligned(rows)


def as_html(rows: list[Row]) -> str:
    """A table as HTML, everything escaped."""

    def line(row: Row, tag: str) -> str:
        style = 'style="text-align:left; vertical-align:top; padding:0 0.8em 0.3em 0"'
        return "".join(f"<{tag} {style}>{_linked(cell)}</{tag}>" for cell in row)

    if not rows:
        return ""
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows[1:])
    head = f"<thead><tr>{line(rows[0], 'th')}</tr></thead>"
    return f'<table style="line-height:1.3">{head}<tbody>{body}</tbody></table>'


def _linked(cell: str) -> str:
    parts = []
    for part in html.escape(cell).split(" "):
        link = part.startswith("https://")
        parts.append(f'<a href="{part}">{_short(part)}</a>' if link else part)
    return " ".join(parts)


def _short(address: str) -> str:
    site, _, rest = address.removeprefix("https://").partition("/")
    return f"{site}/…/{rest.rsplit('/', 1)[-1]}" if "/" in rest else f"{site}/{rest}"


# --- Which models are there, and which run here ---------------------------------------------------


def runs(model: catalog.Model, here: doctor.Machine) -> tuple[str, str]:
    """(verdict, reason): would this model run on this machine? As the doctor says it."""
    verdict, reason = runs_at_all(model)
    if verdict:
        return verdict, reason
    found = doctor.runs(model.id, here)
    return found.verdict, found.reason


def runs_at_all(model: catalog.Model) -> tuple[str, str]:
    """(verdict, reason) where no machine settles it; two empty texts where one does."""
    if model.status == "announced":
        return "no", "announced, no weights"
    if model.licence == "closed":
        return "no", "weights not published"
    if model.parameters is None:
        return "not known", "size not published"
    return "", ""


def filter_models(
    here: doctor.Machine,
    licence: str = ANY,
    size: str = ANY,
    takes: str = ANY,
    runs_here: str = ANY,
) -> list[tuple[catalog.Model, str, str]]:
    """(model, verdict, reason) of the catalogue's models that pass the filters, newest first.

    licence: one of licences.KINDS; size: a key of SIZES, in billions of parameters; takes: one of
    INPUTS; runs_here: "yes" or "no". ANY asks for nothing.
    """
    found = []
    for model in catalog.models():
        billions = (model.parameters or 0) / 1e9
        low, high = SIZES.get(size, (0, float("inf")))
        verdict, reason = runs(model, here)
        if (
            licence in (ANY, licences.kind(model))
            and (size == ANY or low < billions <= high)
            and (takes == ANY or takes in model.modality_in)
            and (runs_here == ANY or verdict.startswith(runs_here))
        ):
            found.append((model, verdict, reason))
    return sorted(found, key=lambda one: one[0].release_date, reverse=True)


def models(
    here: doctor.Machine | None = None,
    licence: str = ANY,
    size: str = ANY,
    takes: str = ANY,
    runs_here: str = ANY,
) -> Explorer:
    """Explore the catalogue: by licence, size, what a model takes, and whether it runs here.

    here: the machine to judge by; this one if left out. The others: the first choices, as for
    `filter_models`.
    """
    here = here or doctor.machine()

    def look_up(**filters: str) -> tuple[str, list[Row]]:
        found = filter_models(here, **filters)
        able = sum(verdict.startswith("yes") for _, verdict, _ in found)
        words = f"{len(found)} of {len(catalog.models())} models pass; {able} of them run here."
        rows = [("model", "maker", "released", "parameters", "licence", "runs here?", "why")]
        for model, verdict, reason in found[:SHOWN]:
            size = f"{model.parameters / 1e9:,.1f} B" if model.parameters else "–"
            licence = model.licence or "not stated"
            rows.append(
                (model.id, model.developer, model.release_date, size, licence, verdict, reason)
            )
        if len(found) > SHOWN:
            words += f" The newest {SHOWN}:"
        return words, rows if found else []

    return Explorer(
        look_up,
        choice("licence", [ANY, *licences.KINDS], licence),
        choice("size", [ANY, *SIZES], size),
        choice("takes", [ANY, *INPUTS], takes),
        choice("runs here", [ANY, "yes", "no"], runs_here),
    )


# --- May I …? -------------------------------------------------------------------------------------


def may_i(model: str = "llama-4-scout", use: str = "product", in_eu: bool = False) -> Explorer:
    """Ask the licences: a model, a use, where you are based, how many users you have."""

    def look_up(model: str, may_I: str, based_in_the_EU: bool, monthly_users: float):
        answer = licences.may_i(model, may_I, based_in_the_EU, monthly_users)
        rows = [("clause", "what it means", "in its words", "source", "checked")]
        for one in answer.clauses:
            where = f"{one.licence}, {one.section}" if one.section else one.licence
            checked = f"{one.date_checked}, {licences.SEEN[one.seen]}"
            rows.append((where, one.means, one.quote, " ".join(one.source_urls), checked))
        asked = f"May I {licences.USES[may_I]}? {model}: {answer.verdict}. {answer.because}"
        return asked.strip(), rows if answer.clauses else []

    uses = {text: key for key, text in licences.USES.items()}
    return Explorer(
        look_up,
        choice("model", [row.id for row in catalog.models()], model),
        choice("may I", uses, use),
        checkbox("based in the EU", in_eu),
        choice("monthly users", USERS),
    )


# --- Who reports which score ----------------------------------------------------------------------


def scores(model: str = "llama-4-maverick", reporter: str = ANY) -> Explorer:
    """Every score the catalogue holds of a model, and who reported it; nothing is averaged."""

    def look_up(model: str, reported_by: str) -> tuple[str, list[Row]]:
        found = catalog.benchmarks(model, None, None if reported_by == ANY else reported_by)
        rows = [("benchmark", "score", "reported by", "which is", "date", "setting", "source")]
        for row in sorted(found, key=lambda row: (row.benchmark.lower(), row.reporter_type)):
            source = row.source_urls[0] if row.source_urls else row.source
            score, setting = f"{row.score:g} {row.unit}", row.setting or "not stated"
            who = (row.reported_by, row.reporter_type)
            rows.append((row.benchmark, score, *who, row.date, setting, source))
        kinds = [row.reporter_type for row in found]
        words = ", ".join(f"{kinds.count(kind)} {kind}" for kind in catalog.REPORTER_TYPES)
        return f"{model}: {len(found)} scores: {words}.", rows if found else []

    names = sorted({row.model for row in catalog.benchmarks()})
    return Explorer(
        look_up,
        choice("model", names, model),
        choice("reported by", [ANY, *catalog.REPORTER_TYPES], reporter),
    )


# --- Will it fit ----------------------------------------------------------------------------------


WEIGHTS = {
    "32 bits (float32)": "float32",
    "16 bits (bfloat16)": "bfloat16",
    "8 bits (q8_0)": "q8_0",
    "6 bits (q6_k)": "q6_k",
    "5 bits (q5_k_m)": "q5_k_m",
    "4 bits (q4_k_m)": "q4_k_m",
    "4 bits, plain (q4_0)": "q4_0",
    "4 bits, as published (mxfp4)": "mxfp4",
}
# Trained with their experts in this format and published so, in the words of OpenAI's README:
# https://github.com/openai/gpt-oss/blob/7b58334/README.md
IN_MXFP4 = ("gpt-oss",)  # families
CONTEXTS = tuple(2**k for k in range(10, 21))  # tokens
CROWDS = (1, 2, 4, 8, 16, 32, 64, 128)  # users at a time
HERE = "this machine"


@dataclass(frozen=True)
class Load:
    """What a model puts into memory, in bytes, and how each figure was come by."""

    weights: int
    weights_from: str
    read: int | None  # weights read for one token; None: its active parameters are not known
    cache: int | None  # of one user's full context; None: the catalogue does not know its layers
    cache_from: str
    tokens: int  # of that context: as asked, or all that the model takes


def load_of(model: catalog.Model, kind: str, tokens: int) -> Load:
    """What a model's weights of this kind and one context of `tokens` take, and a token reads.

    From the config where the course has one, else from the catalogue's row. LookupError with the
    reason for a model whose size is not published or whose weights are not, or not in mxfp4.
    """
    verdict, reason = runs_at_all(model)
    if verdict:
        raise LookupError(reason)
    if kind == "mxfp4" and model.family not in IN_MXFP4:
        raise LookupError("not published in mxfp4, choose other weights")
    tokens = min(tokens, model.context_length or tokens)
    try:
        config = catalog.config(model.id)
    except LookupError:
        weights = sizing.weight_bytes(model.parameters, kind)
        bits = f"{model.parameters / 1e9:,.1f} B × {sizing.BITS_PER_WEIGHT[kind]:.3g} bits"
        active = model.params_active_B
        read = sizing.weight_bytes(round(active * 1e9), kind) if active else None
        return Load(weights, bits, read, *_row_cache(model, tokens), tokens)
    kept = sizing.kv_cache_bytes(config, tokens)
    return Load(*_file(model.id, kind), kept, "layer by layer", tokens)


@cache
def _file(id: str, kind: str) -> tuple[int, str, int]:
    """(bytes, how counted, bytes read for a token) of a model's file.

    Read is what is multiplied with: layers and head, without the experts that a token leaves out.
    Those are taken at the mean bits of the layers, which are experts for the most part; beside
    mxfp4 experts the other matrices keep 8 bits, so there at their own.
    """
    config = catalog.config(id)
    parts = sizing.gguf_bytes(config, "mxfp4_moe" if kind == "mxfp4" else kind)
    text, everything = config.get_text_config(), sizing.parameters(config)
    tables = text.vocab_size * text.hidden_size * (1 if text.tie_word_embeddings else 2)
    bits = 8 * parts["layers"] / (everything - tables - parts["tower"] // 2)  # a tower: 16 bits
    if kind == "mxfp4":
        bits = sizing.BITS_PER_WEIGHT[kind]
    left_out = bits / 8 * (everything - sizing.active_parameters(config))
    read = parts["layers"] + (parts["head"] or parts["embedding"]) - round(left_out)
    return sum(parts.values()), f"{kind}, tensor by tensor", read


def _row_cache(model: catalog.Model, tokens: int) -> tuple[int | None, str]:
    """(bytes, how counted) of the cache in 16 bits, every layer taken to keep every token."""
    kind = model.attention_kind
    if not kind.startswith(("GQA", "MHA", "MLA")) or "indexer" in kind or "cross" in kind:
        return None, f"not known: {kind or 'attention not published'}"
    if not model.n_layers:
        return None, "not known: layers not published"
    if model.kv_lora_rank:
        values = model.kv_lora_rank + model.qk_rope_head_dim
    elif model.n_kv_heads and model.head_dim:
        values = 2 * model.n_kv_heads * model.head_dim
    else:
        return None, "not known: heads not published"
    how = "at most: some layers look back less far" if "window" in kind else "every layer in full"
    return 2 * model.n_layers * values * tokens, how


def machines(here: doctor.Machine) -> dict[str, tuple[int, float | None]]:
    """Name to (free memory in bytes, bandwidth in bytes a second): this one, then known cards."""
    cards = {
        row.id: (round(row.memory_GB * sizing.GB), row.bandwidth_GBps * sizing.GB)
        for row in catalog.hardware()
        if row.memory_GB and row.bandwidth_GBps
    }
    return {HERE: (here.gpu_free + here.memory_free, None)} | cards


def fit(
    here: doctor.Machine | None = None,
    bandwidth: float | None = None,
    model: str = "qwen2.5-7b",
    weights: str | None = None,
    context: int = 8192,
    users: int = 1,
) -> Explorer:
    """Will it fit, and how fast can it be? A machine, a model, its weights, a context, users.

    here: this machine if left out. bandwidth: its memory's, in bytes a second; without it this
    machine has no ceiling. weights: a value of WEIGHTS; left out, q4_k_m, or mxfp4 for a model that
    is published so. The other arguments are the first choices too.
    """
    known = machines(here or doctor.machine())
    known[HERE] = known[HERE][0], bandwidth

    def look_up(machine: str, model: str, weights: str, context: int, users: int):
        available, speed = known[machine]
        try:
            load = load_of(catalog.get(model), weights, context)
        except LookupError as reason:
            return f"{model}: {reason.args[0]}.", []
        found = sizing.Fit(sizing.needed_bytes(load.weights, users * (load.cache or 0)), available)
        words = f"{model} on {machine}, {users} × {load.tokens:,} tokens: {found}."
        if load.cache is None:
            words += " Its cache is not counted: it needs more."
        if load.tokens < context:
            words += f" Its context ends at {load.tokens:,} tokens."
        return words, _bill(load, users, found, speed)

    named = choice("model", [row.id for row in catalog.models()], model)
    kinds = choice("weights", WEIGHTS, weights or _four_bits(model))

    def follow(change) -> None:
        if kinds.value in (_four_bits(change.old), "mxfp4"):
            kinds.value = _four_bits(change.new)

    named.observe(follow, names="value")
    return Explorer(
        look_up,
        choice("machine", list(known)),
        named,
        kinds,
        choice("context", {f"{n:,} tokens": n for n in CONTEXTS}, context),
        choice("users", {str(n): n for n in CROWDS}, users),
    )


def _four_bits(model: str) -> str:
    """The weights to begin with: mxfp4 where a model is published so."""
    return "mxfp4" if catalog.get(model).family in IN_MXFP4 else "q4_k_m"


def _bill(load: Load, users: int, found: sizing.Fit, speed: float | None) -> list[Row]:
    """The table below the verdict: what takes the memory, what would still fit, how fast."""
    gb = sizing.gigabytes
    alone = sizing.needed_bytes(load.weights)
    rows = [
        ("what", "takes", "how counted"),
        ("weights", gb(load.weights), load.weights_from),
        ("working space", gb(alone - load.weights), "a tenth of the weights, and 0.5 GB"),
    ]
    if load.cache is None:
        return [*rows, ("KV cache", "–", load.cache_from)]
    each = f"{users} × {gb(load.cache)}, in 16 bits, {load.cache_from}"
    room = max(0, (found.available - alone) // load.cache)
    rows += [
        ("KV cache", gb(users * load.cache), each),
        ("users that fit", f"{room:,}", "each with a full context"),
    ]
    if speed and load.read and found:
        each = sizing.decode_bound(load.read + users * load.cache, speed)
        limit = f"{gb(round(speed))} a second ÷ bytes read for a token of each"
        rows.append(("tokens a second", f"at most {each:,.1f} each", limit))
    return rows
