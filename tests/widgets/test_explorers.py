"""The explorers of words and tables, and the figures of chapter 1."""

import re

import pytest

from openmodels import catalog, doctor, licences, plots, sizing
from openmodels.widgets import controls, explorers

GB = sizing.GB


def machine(memory: float, gpu: float = 0) -> doctor.Machine:
    """A machine with this much free memory, in GB."""
    return doctor.Machine(
        "Linux x86_64", "3.11", 2, 2, int(64 * GB), int(memory * GB), 0, "none", int(gpu * GB)
    )


@pytest.fixture
def ships():
    def look_up(ship: str, at_sea: bool, crew: int):
        if not at_sea:
            return f"The {ship} is <here>.", []
        return f"The {ship} sails with {crew}.", [("ship", "log"), (ship, "https://a.example/x/y")]

    return explorers.Explorer(
        look_up,
        explorers.choice("ship", ["Heron", "Tern"]),
        explorers.checkbox("at sea"),
        explorers.choice("crew", {"few": 3, "many": 30}),
    )


def test_a_choice_changes_the_answer(ships):
    ship, at_sea, crew = ships.controls
    assert ships.text == "The Heron is <here>."
    assert ships.words.value == '<div role="status">The Heron is &lt;here&gt;.</div>'
    assert ships.table.value == ""
    ship.value, at_sea.value, crew.value = "Tern", True, 30
    assert ships.text == ("The Tern sails with 30.\n\nship  log\nTern  https://a.example/x/y")
    assert '<a href="https://a.example/x/y">a.example/…/y</a>' in ships.table.value


def test_the_stored_output_is_the_answer(ships):
    stored = ships._repr_mimebundle_()
    assert stored["text/plain"] == "The Heron is <here>."
    assert "application/vnd.jupyter.widget-view+json" in stored


def test_every_choice_is_labelled_and_reached_by_the_keyboard(ships):
    for one in [*ships.controls, *explorers.models(machine(16)).controls]:
        assert one.description
        assert one.tabbable is not False
    assert list(ships.children) == [*ships.controls, ships.words, ships.table]


def test_a_wide_table_becomes_blocks():
    rows = [("clause", "words"), ("a", "x" * explorers.WIDEST), ("b", "y")]
    assert explorers.as_text(rows).splitlines()[0::2] == ["a", "b"]
    assert explorers.as_text([]) == explorers.as_html([]) == ""


# --- Models ---------------------------------------------------------------------------------------


def test_runs_says_why():
    small = machine(8)
    assert explorers.runs(catalog.get("llama-4-behemoth"), small) == ("no", "announced, no weights")
    assert explorers.runs(catalog.get("muse-spark"), small) == ("no", "weights not published")
    assert explorers.runs(catalog.get("gemma-4-e2b"), small) == ("not known", "size not published")
    verdict, reason = explorers.runs(catalog.get("qwen2.5-7b"), small)
    assert verdict == "yes, 4 bits" and "of 8.0 GB" in reason
    assert explorers.runs(catalog.get("qwen2.5-0.5b"), small)[0] == "yes, bf16"
    assert explorers.runs(catalog.get("kimi-k3"), small)[0] == "no"


def test_filters_narrow_the_shelf():
    here = machine(24)
    everything = explorers.filter_models(here)
    assert len(everything) == len(catalog.models())
    dates = [model.release_date for model, _, _ in everything]
    assert dates == sorted(dates, reverse=True)

    def names(**filters):
        return {model.id for model, _, _ in explorers.filter_models(here, **filters)}

    assert {"qwen2.5-3b", "mistral-large-2-2407"} <= names(licence="research only")
    assert "llama-4-scout" in names(size="over 100 B", takes="image")
    assert "llama-4-scout" not in names(runs_here="yes")
    assert "gemma-4-e2b" not in names(size="up to 10 B")  # its size is not published
    split = [names(runs_here=answer) for answer in ("yes", "no")]
    assert not split[0] & split[1]
    assert names(licence="closed", runs_here="yes") == set()


def test_more_memory_runs_more():
    counts = [
        sum(verdict.startswith("yes") for _, verdict, _ in explorers.filter_models(machine(memory)))
        for memory in (2, 8, 24, 80, 2000)
    ]
    assert counts == sorted(set(counts))


def test_the_explorer_of_models():
    explorer = explorers.models(machine(24), runs_here="yes")
    passing = explorers.filter_models(machine(24), runs_here="yes")
    assert explorer.text.startswith(f"{len(passing)} of {len(catalog.models())} models pass")
    licence, size, takes, here = explorer.controls
    assert here.value == "yes"
    licence.value, size.value = "research only", "over 100 B"
    assert explorer.text == f"0 of {len(catalog.models())} models pass; 0 of them run here."
    assert set(licence.options) > {(kind, kind) for kind in licences.KINDS}


# --- Licences -------------------------------------------------------------------------------------


def test_the_explorer_of_licences_says_what_the_rules_say():
    explorer = explorers.may_i("llama-4-scout", "product")
    model, use, in_eu, users = explorer.controls
    assert "llama-4-scout: yes, if" in explorer.words.value
    in_eu.value = True
    assert "llama-4-scout: no" in explorer.words.value
    assert "European Union" in explorer.table.value and "USE_POLICY.md" in explorer.table.value
    model.value, users.value = "qwen2.5-72b", 101
    assert "100 million" in explorer.text and "the text itself was not seen" in explorer.text
    model.value = "hy3-preview"
    assert explorer.table.value == "" and "not known" in explorer.text
    assert {value for _, value in use.options} == set(licences.USES)


def test_every_answer_shows_source_and_date():
    explorer = explorers.may_i()
    model, *_ = explorer.controls
    for row in catalog.models():
        model.value = row.id
        for clause in licences.may_i(row.id, "product").clauses:
            assert clause.source_urls[0] in explorer.text
            assert clause.date_checked in explorer.text


# --- The timeline ---------------------------------------------------------------------------------


def test_a_timeline_tells_groups_apart_by_marker():
    groups = {"old": [("2024-01", 7.0)], "new": [("2026-10-29", 1000.0), ("2026-02", 30.0)]}
    figure = plots.timeline(groups, "parameters", {"seven |": ("2024-01", 7.0)}, ("here", 20.0))
    [axes] = figure.axes
    assert axes.get_yscale() == "log" and axes.get_ylabel() == "parameters"
    drawn = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert [len(line.get_xdata()) for line in drawn] == [1, 2]
    assert len({look["marker"] for look in plots.POINTS}) == len(plots.POINTS)
    assert {text.get_text() for text in axes.texts} == {"seven", "here"}
    assert plots.png(figure) == plots.png(
        plots.timeline(groups, "parameters", {"seven |": ("2024-01", 7.0)}, ("here", 20.0))
    )
    with pytest.raises(ValueError, match="at most"):
        plots.timeline({str(n): [] for n in range(len(plots.POINTS) + 1)}, "x")


def test_a_grid_of_answers_shows_each_in_its_place():
    rows = {"a": {"q": "yes", "r": "no"}, "b": {"q": "no", "r": "not known"}}
    [axes] = plots.answers(rows).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn == {"yes": [[0, 0]], "yes, if": [], "no": [[1, 0], [0, 1]], "not known": [[1, 1]]}
    assert set(plots.ANSWERS) == set(licences.VERDICTS)
    looks = [(look["marker"], look.get("fillstyle")) for look in plots.ANSWERS.values()]
    assert len(set(looks)) == len(looks)


def test_the_licence_kinds_shown_are_those_of_the_catalogue():
    text = explorers.models(machine(16)).table.value
    assert re.search("Apache-2.0|MIT|not stated", text)


# --- Scores ---------------------------------------------------------------------------------------


def test_the_explorer_of_scores_keeps_reporters_apart():
    explorer = explorers.scores("gpt-4o-2024-05-13")
    model, reporter = explorer.controls
    found = catalog.benchmarks("gpt-4o-2024-05-13")
    assert explorer.text.startswith(f"gpt-4o-2024-05-13: {len(found)} scores: ")
    assert "OpenAI" in explorer.text and "DeepSeek" in explorer.text
    reporter.value = "vendor_own"
    assert "OpenAI" in explorer.text and "DeepSeek" not in explorer.text
    model.value = "deepseek-v3"
    reporter.value = "independent"
    assert explorer.text == "deepseek-v3: 0 scores: 0 vendor_own, 0 vendor_other, 0 independent."
    assert {name for name, _ in model.options} == {row.model for row in catalog.benchmarks()}


def test_intervals_show_every_row_in_per_cent():
    [axes] = plots.intervals({"one": (0.5, 0.4, 0.6), "two": (0.9, 0.8, 0.95)}, "share (%)").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    assert [text.get_text() for text in axes.texts] == ["50.0", "90.0"]
    assert axes.get_xlabel() == "share (%)"


# --- Will it fit ----------------------------------------------------------------------------------


def test_the_load_of_a_model_with_a_config_is_counted():
    load = explorers.load_of(catalog.get("qwen2.5-0.5b"), "float32", 1000)
    assert load.weights == 4 * 494_032_768 and load.cache == 1000 * 12_288
    assert load.read == load.weights  # one table at both ends
    apart = explorers.load_of(catalog.get("qwen2.5-7b"), "q4_k_m", 1000)
    parts = sizing.gguf_bytes(catalog.config("qwen2.5-7b"), "q4_k_m")
    assert apart.read == parts["layers"] + parts["head"] < apart.weights
    longest = explorers.load_of(catalog.get("qwen2.5-0.5b"), "q4_0", 10**6)
    assert longest.tokens == 32_768 and longest.cache == 32_768 * 12_288


def test_the_load_of_a_model_without_one_comes_from_its_row():
    row = catalog.get("qwen2.5-coder-0.5b")
    load, sibling = (
        explorers.load_of(one, "bfloat16", 4096) for one in (row, catalog.get("qwen2.5-0.5b"))
    )
    assert load.cache == sibling.cache and load.weights == 2 * row.parameters
    latent = explorers.load_of(catalog.get("deepseek-v3.1"), "q4_0", 4096)
    config = explorers.load_of(catalog.get("deepseek-v3"), "q4_0", 4096)
    assert latent.cache == config.cache and latent.read < latent.weights / 10


@pytest.mark.parametrize(
    "id, why",
    [
        ("deepseek-v3.2", "indexer"),
        ("qwen3.5-35b-a3b", "DeltaNet"),
        ("llama-3.2-11b-vision", "cross-attention"),
        ("glm-4.5", "attention not published"),
        ("deepseek-v2", "layers not published"),
        ("gpt-oss-20b", "heads not published"),
    ],
)
def test_a_cache_that_cannot_be_counted_says_why(id, why):
    load = explorers.load_of(catalog.get(id), "q4_0", 4096)
    assert load.cache is None and why in load.cache_from
    explorer = explorers.fit(machine(4000), model=id, weights="q4_0")
    assert "fits: needs" in explorer.text and "not counted: it needs more" in explorer.text
    assert why in explorer.text and "users that fit" not in explorer.text


@pytest.mark.parametrize("id", ["llama-4-behemoth", "muse-spark", "gemma-4-e2b"])
def test_a_model_that_no_machine_runs_says_why(id):
    reason = explorers.runs(catalog.get(id), machine(8))[1]
    with pytest.raises(LookupError, match=reason):
        explorers.load_of(catalog.get(id), "q4_0", 4096)
    assert explorers.fit(machine(8), model=id).text == f"{id}: {reason}."


def test_users_that_fit_do_fit_and_one_more_does_not():
    id, kind, tokens = "qwen2.5-7b", "q4_k_m", 8192
    explorer = explorers.fit(machine(12), 30 * GB, id, kind, tokens)
    room = int(re.search(r"users that fit +([\d,]+)", explorer.text)[1].replace(",", ""))
    load = explorers.load_of(catalog.get(id), kind, tokens)
    needed = [sizing.needed_bytes(load.weights, users * load.cache) for users in (room, room + 1)]
    assert needed[0] <= 12 * GB < needed[1]
    users = explorer.controls[-1]
    for crowd in explorers.CROWDS:
        users.value = crowd
        verdict = "fits" if crowd <= room else "does not fit"
        assert f"{crowd} × 8,192 tokens: {verdict}: needs" in explorer.text
        assert ("tokens a second" in explorer.text) == (crowd <= room)


def test_the_ceiling_is_bandwidth_over_bytes():
    explorer = explorers.fit(machine(24), 30 * GB, "mistral-7b-v0.1", "float32", 4096, 2)
    assert "does not fit" in explorer.text
    here, model, weights, context, users = explorer.controls
    here.value, weights.value = "H100 80GB SXM", "bfloat16"
    load = explorers.load_of(catalog.get("mistral-7b-v0.1"), "bfloat16", 4096)
    assert f"at most {3350e9 / (load.read + 2 * load.cache):.1f} each" in explorer.text
    assert "of 80.0 GB available" in explorer.text
    unmeasured = explorers.fit(machine(24), None, "qwen2.5-0.5b")
    assert "fits: needs" in unmeasured.text and "tokens a second" not in unmeasured.text


@pytest.mark.parametrize("id", ["mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3", "llama-4-scout"])
def test_a_mixture_reads_the_experts_that_a_token_meets(id):
    read = explorers.load_of(catalog.get(id), "bfloat16", 1).read
    assert read == pytest.approx(sizing.decode_bytes(catalog.config(id), 0, "bfloat16"), rel=0.01)


def test_gpt_oss_comes_in_mxfp4_and_nothing_else_does():
    explorer = explorers.fit(machine(80), 3350 * GB, "gpt-oss-120b")
    file = sum(sizing.gguf_bytes(catalog.config("gpt-oss-120b"), "mxfp4_moe").values())
    needed = sizing.needed_bytes(file, sizing.kv_cache_bytes(catalog.config("gpt-oss-120b"), 8192))
    assert f"fits: needs {sizing.gigabytes(needed)} of 80.0 GB" in explorer.text
    _, model, weights, *_ = explorer.controls
    model.value = "qwen2.5-7b"
    assert weights.value == "q4_k_m"
    weights.value, model.value = "q8_0", "gpt-oss-20b"
    assert weights.value == "q8_0"  # a choice stays
    weights.value = "mxfp4"
    assert "× 4.25 bits" in explorer.text
    asked = explorers.fit(machine(80), None, "qwen2.5-7b", "mxfp4")
    assert asked.text == "qwen2.5-7b: not published in mxfp4, choose other weights."


@pytest.mark.parametrize(
    "chosen, said",
    [
        ({"users": 3}, "users: '3' is not among the choices: 1, 2, 4"),
        ({"context": 5000}, "context: '5000' is not among the choices: 1024, 2048"),
        ({"weights": "q2_k"}, "weights: 'q2_k' is not among the choices: float32"),
        ({"model": "qwen2.5-8b"}, r"model: 'qwen2.5-8b' .* \d+ choices; closest: qwen2.5-7b"),
    ],
)
def test_a_choice_that_is_not_offered_is_named_with_what_is(chosen, said):
    with pytest.raises(ValueError, match=said):
        explorers.fit(machine(24), **chosen)
    with pytest.raises(ValueError, match="card: 'RTX 4090' .* RTX 5060 Ti 16GB, RTX 5080"):
        controls.own_or_api("qwen2.5-7b", "Alibaba", "RTX 4090")


def test_the_explorer_of_fits_takes_every_model_and_keyboard():
    explorer = explorers.fit(machine(24))
    here, model, weights, context, users = explorer.controls
    assert set(value for _, value in model.options) == {row.id for row in catalog.models()}
    assert here.value == explorers.HERE and len(here.options) > 10
    assert set(explorers.WEIGHTS.values()) <= set(sizing.BITS_PER_WEIGHT)
    for one in explorer.controls:
        assert one.description and one.tabbable is not False
    context.value = 2**20
    assert "Its context ends at 32,768 tokens." in explorer.text
    assert "status" in explorer.words.value and "KV cache" in explorer.table.value
    for row in catalog.models():
        model.value = row.id
        assert explorer.text.startswith(row.id)
