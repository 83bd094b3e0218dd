"""The routers that are read and redirected are the library's; kinds and counts are as described."""

import pytest
import torch

from openmodels import catalog, plots, sizing
from openmodels.harbour import instances, pictures
from openmodels.inside import experts
from openmodels.minis import configs, tokenizer

NAMES = ("mini-deepseek", "mini-scout")


@pytest.fixture(scope="module", params=NAMES)
def mixture(request):
    """An untrained miniature with routers that choose at random, and its tokenizer."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        config = configs.config(request.param)
        model = configs.model_class(config).from_config(config).eval()
        for router in experts.routers(model).values():
            router.weight.normal_()
            if hasattr(router, "e_score_correction_bias"):
                router.e_score_correction_bias.uniform_(-0.2, 0.2)
    return model, tokenizer.load(request.param)


def drawn(model) -> list:
    read = [*instances("order", 3), *instances("sums", 3)]
    return read + [*pictures.sightings("gauge", 2)] if configs.sees(model.config) else read


def in_order(router, output) -> tuple[torch.Tensor, torch.Tensor]:
    """The experts of each token, sorted, and the weights that belong to them."""
    chosen, places = experts.chosen(router, output).sort(dim=1)
    if len(output) == 2:  # Llama 4: a score for every expert
        return chosen, output[0].gather(1, chosen)
    return chosen, output[1].gather(1, places)


def test_nothing_off_is_the_library_itself(mixture):
    model, _ = mixture
    for router in experts.routers(model).values():
        hidden = torch.randn(200, router.weight.shape[1])
        output = router(hidden)
        logits = output[0] if len(output) == 3 else output[1]
        again = experts.route(router, logits)
        one, other = (in_order(router, result) for result in (output, again))
        assert torch.equal(one[0], other[0])
        assert torch.allclose(one[1], other[1], atol=1e-6)


def test_an_expert_that_is_off_gets_no_token_and_every_token_has_its_number(mixture):
    model, reader = mixture
    layer = max(experts.routers(model))
    router = experts.routers(model)[layer]
    before = experts.watch(model, reader, drawn(model))
    busiest = int(before.load(layer).argmax())
    with experts.without(model, (layer, busiest)):
        during = experts.watch(model, reader, drawn(model))
    assert before.load(layer)[busiest] > 0
    assert during.load(layer)[busiest] == 0
    assert during.experts[layer].shape == (len(during.tokens), router.top_k)
    if router.top_k == 1:  # DeepSeek's groups compete anew, so others may move too
        others = (before.experts[layer] != busiest).all(1)
        assert torch.equal(during.experts[layer][others], before.experts[layer][others])
    after = experts.watch(model, reader, drawn(model))
    assert torch.equal(after.experts[layer], before.experts[layer])


def test_too_many_off(mixture):
    model, _ = mixture
    layer, router = next(iter(experts.routers(model).items()))
    with pytest.raises(ValueError, match=f"layer {layer} needs {router.top_k}"):
        with experts.without(model, *((layer, e) for e in range(router.num_experts))):
            pass


def test_a_dense_model_has_no_router():
    config = configs.config("mini-qwen-xs")
    model = configs.model_class(config).from_config(config)
    with pytest.raises(LookupError, match="Qwen2ForCausalLM has no router"):
        experts.routers(model)


def test_the_trace(mixture):
    model, reader = mixture
    trace = experts.watch(model, reader, drawn(model))
    count = len(trace.tokens)
    assert len(trace.kinds) == len(trace.tasks) == len(trace.texts) == count
    for layer in experts.routers(model):
        assert trace.load(layer).sum() == pytest.approx(1)
        rows = trace.by(layer)
        assert set(rows) == set(trace.kinds)
        assert all(row.sum() == pytest.approx(1) for row in rows.values())
        assert 0 < experts.predictability(trace, layer, trace.tasks) <= 1
    assert ("picture" in trace.kinds) == configs.sees(model.config)


def test_what_can_be_told_from_a_key():
    chosen = torch.tensor([[0], [1], [0], [1], [0], [1], [1], [1]])
    texts = [0, 0, 0, 0, 1, 1, 1, 1]
    trace = experts.Trace([7, 8] * 4, [], [], texts, {1: chosen}, {1: torch.zeros(8, 2)})
    assert experts.predictability(trace, 1, trace.tokens) == 0.75
    assert experts.predictability(trace, 1, ["a"] * 8) in (0.25, 0.75)


def test_kinds_of_tokens():
    reader = tokenizer.load("mini-scout")
    text = '<|im_start|>user\nAda has 12 apples {"day": 锚} <tool_call>.<|patch|>'
    ids = reader(text)["input_ids"]
    found = dict(zip((reader.decode([i]) for i in ids), experts.kinds(reader, ids), strict=True))
    expected = {
        "<|im_start|>": "chat markup", "user": "chat markup", "\n": "chat markup", "Ada": "name",
        "1": "digit", " has": "other word", ' {"': "JSON sign", "<tool_call>": "chat markup",
        ".": "punctuation", "<|patch|>": "picture",
    }  # fmt: skip
    assert {piece: found[piece] for piece in expected} == expected
    assert "Chinese" in found.values() and "goods" in found.values()
    assert set(found.values()) <= set(experts.KINDS)


def test_experts_met_by_many_texts(mixture):
    model, reader = mixture
    trace = experts.watch(model, reader, drawn(model))
    layer, router = next(iter(experts.routers(model).items()))
    assert experts.distinct_experts(trace, layer, 1) == router.top_k
    assert router.top_k < experts.distinct_experts(trace, layer, 4) <= router.num_experts
    assert experts.expected(16, 1, 1) == pytest.approx(1)
    assert experts.expected(16, 1, 16) == pytest.approx(10.3, abs=0.05)
    assert experts.expected(256, 8, 10_000) == pytest.approx(256)


def test_bytes_of_a_step():
    config = catalog.config("llama-4-scout")
    one, most = experts.step_bytes(config, [1, 10_000])
    assert one == pytest.approx(sizing.decode_bytes(config, 1, "q4_0"), rel=1e-3)
    total = sizing.weight_bytes(sizing.parameters(config), "q4_0")
    assert 0.95 * total < most < total  # all but the embedding and the vision tower


def test_the_heat_map_has_a_panel_for_each_title():
    figure = plots.heat({"a": [[0.2, 0.8]], "b": [[1.0, 0.0]]}, ["row"], "expert", "share (%)")
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]
    assert figure.axes[0].get_yticklabels()[0].get_text() == "row"
    assert [text.get_text() for text in figure.axes[0].texts] == ["20", "80"]
