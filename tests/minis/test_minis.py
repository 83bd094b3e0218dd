"""The miniatures' tokenizer, chat template and training loop, on models of a few thousand weights.

Nothing here measures how good a miniature is: its card does.
"""

import copy
import dataclasses
import json
import random
import unicodedata

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from openmodels.harbour import SCHEMAS, TASKS, Harbour
from openmodels.harbour.world import NAMES, SHOPS
from openmodels.minis import configs, data, heads, muon, tokenizer, train


@pytest.fixture(scope="module")
def shipped():
    return tokenizer.load()


def ids(shipped, text: str) -> list[int]:
    return shipped(text, add_special_tokens=False).input_ids


# --- Tokenizer ------------------------------------------------------------------------------------


def test_the_vocabulary_is_full(shipped):
    assert len(shipped) == tokenizer.VOCABULARY
    assert sorted(shipped.get_vocab().values()) == list(range(tokenizer.VOCABULARY))


def test_a_digit_is_one_token(shipped):
    assert all(len(ids(shipped, digit)) == 1 for digit in "0123456789")
    assert shipped.convert_ids_to_tokens(ids(shipped, "2048")) == list("2048")


@pytest.mark.parametrize(
    "frame",
    ["{}", "Ask {}.", "{}: 3 ropes", '{{"name": "{}"}}', "({})", "Is {}?", "\n{}\n", "-{},"],
)
def test_a_name_is_one_token_wherever_it_is_a_word(shipped, frame):
    split = [name for name in NAMES if name not in shipped.tokenize(frame.format(name))]
    assert split == []


def test_a_name_inside_a_word_is_not_that_name(shipped):
    assert "Mara" not in shipped.tokenize("Marathon")


def test_control_tokens_of_qwen(shipped):
    for token in tokenizer.SPECIAL + tokenizer.MARKERS:
        assert ids(shipped, token) == [shipped.convert_tokens_to_ids(token)], token
    framed = ids(shipped, "<|im_start|><think>7<|im_end|><|endoftext|>")
    assert shipped.decode(framed, skip_special_tokens=True) == "<think>7"


@pytest.mark.parametrize(
    "text",
    [
        "The teahouse opens at 10, and Lena knows why.",
        "我要买3把刀。苹果多少钱？",
        "  two spaces,\ttabs\r\n\r\nand lines   \n",
        "naïve café — Ελλάδα, Привет, العربية, हिन्दी, 日本語",
        "👩‍👩‍👧‍👦 🇮🇸 \u200b\u00a0 \x00 \U0010ffff",
        "don't Mara's I'll",
        "<|im_start|>user\nAda<|im_end|>",
        "",
    ],
)
def test_text_comes_back(shipped, text):
    assert unicodedata.is_normalized("NFC", text)
    assert shipped.decode(ids(shipped, text)) == text


def test_accents_are_composed_as_qwen_does(shipped):
    assert shipped.decode(ids(shipped, "cafe\u0301")) == "caf\u00e9"


def test_random_text_comes_back(shipped):
    """Any characters Unicode has assigned, in NFC."""
    rng = random.Random(1)
    assigned = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs")]
    for _ in range(200):
        drawn = (rng.choice((rng.choice(assigned), chr(rng.randrange(32, 127)))) for _ in range(12))
        text = unicodedata.normalize("NFC", "".join(drawn))
        assert shipped.decode(ids(shipped, text)) == text


def test_a_saved_tokenizer_is_the_same(shipped, tmp_path):
    shipped.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is type(shipped)
    source = Harbour(1, "train", invented=0.3)
    for task in TASKS:
        for _ in range(5):
            instance = getattr(source, task)()
            text = data.render(shipped, instance)
            assert data.render(again, instance) == text
            assert ids(again, text) == ids(shipped, text)
    assert (again.eos_token, again.pad_token) == ("<|im_end|>", "<|endoftext|>")


@pytest.mark.parametrize("name", sorted(configs.CONFIGS))
def test_configs_name_the_tokenizers_ids(name):
    config, words = configs.config(name).get_text_config(), tokenizer.load(name)
    assert config.vocab_size == len(words)
    assert config.eos_token_id == words.eos_token_id
    assert config.pad_token_id == words.pad_token_id


def test_an_unknown_miniature_is_named():
    with pytest.raises(ValueError, match="unknown miniature 'mini-lark'; known: .*mini-qwen"):
        configs.config("mini-lark")


def test_a_tokenizer_can_be_built_again():
    built = tokenizer.build(each=60)
    assert [built.convert_tokens_to_ids(token) for token in tokenizer.SPECIAL] == [0, 1, 2]
    assert "Mara" in built.tokenize("Ask Mara.")
    assert built.decode(ids(built, "苹果 3")) == "苹果 3"


# --- Chat template --------------------------------------------------------------------------------

ASK = {"role": "user", "content": "When is high water on Monday?"}
BRIEF = {"role": "system", "content": "Be brief."}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"type": "function", "function": {"name": "tide", "arguments": {"day": "Monday"}}}
    ],
}
RESPONSE = {"role": "tool", "content": '{"high": 4, "low": 10}'}
TOOLS_TEXT = """

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{"type": "function", "function": {"name": "tide", "description": "High and low water on a day", \
"parameters": {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]}}}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""
ASKED = "<|im_start|>user\nWhen is high water on Monday?<|im_end|>\n"
CLERK = "<|im_start|>system\nYou are the clerk of Port Lark."
CONVERSATIONS = {
    "the default system message": (
        [ASK],
        None,
        CLERK + "<|im_end|>\n" + ASKED + "<|im_start|>assistant\n",
    ),
    "a system message and an answer": (
        [BRIEF, ASK, {"role": "assistant", "content": "At 4."}],
        None,
        "<|im_start|>system\nBe brief.<|im_end|>\n" + ASKED
        + "<|im_start|>assistant\nAt 4.<|im_end|>\n",
    ),
    "tools": (
        [ASK],
        [SCHEMAS["tide"]],
        CLERK + TOOLS_TEXT + "<|im_end|>\n" + ASKED + "<|im_start|>assistant\n",
    ),
    "a call and its response": (
        [ASK, CALL, RESPONSE],
        [SCHEMAS["tide"]],
        CLERK + TOOLS_TEXT + "<|im_end|>\n" + ASKED
        + '<|im_start|>assistant\n<tool_call>\n{"name": "tide", "arguments": {"day": "Monday"}}\n'
        + "</tool_call><|im_end|>\n"
        + '<|im_start|>user\n<tool_response>\n{"high": 4, "low": 10}\n</tool_response><|im_end|>\n'
        + "<|im_start|>assistant\n",
    ),
    "two responses in one turn": (
        [ASK, CALL, RESPONSE, RESPONSE],
        None,
        CLERK + "<|im_end|>\n" + ASKED
        + '<|im_start|>assistant\n<tool_call>\n{"name": "tide", "arguments": {"day": "Monday"}}\n'
        + "</tool_call><|im_end|>\n<|im_start|>user"
        + '\n<tool_response>\n{"high": 4, "low": 10}\n</tool_response>' * 2
        + "<|im_end|>\n<|im_start|>assistant\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_chat_template_writes_chatml(shipped, name):
    messages, tools, expected = CONVERSATIONS[name]
    text = shipped.apply_chat_template(
        messages,
        tools=tools,
        tokenize=False,
        add_generation_prompt=messages[-1]["role"] != "assistant",
    )
    assert text == expected


def test_the_template_keeps_chinese_readable(shipped):
    call = copy.deepcopy(CALL)
    call["tool_calls"][0]["function"]["arguments"] = {"day": "星期一"}
    assert '{"day": "星期一"}' in shipped.apply_chat_template([ASK, call], tokenize=False)


# --- From conversations to batches ----------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_a_training_document_is_what_the_model_will_read(shipped, task):
    source = Harbour(1, "train", invented=0.3)
    for _ in range(10):
        instance = getattr(source, task)()
        document = data.encode(shipped, instance, context_weight=0.25)
        assert document.ids == ids(shipped, data.render(shipped, instance))
        prompt = ids(shipped, data.render(shipped, instance, -1, ask=True))
        assert document.ids[: len(prompt)] == prompt
        assert document.weights[len(prompt)] == 1


def test_answers_weigh_one_and_headers_nothing(shipped):
    instance = Harbour(1, "train").tool()
    document = data.encode(shipped, instance, context_weight=0.25)

    def text(weight: float) -> str:
        pairs = zip(document.ids, document.weights, strict=True)
        return shipped.decode([token for token, weighs in pairs if weighs == weight])

    assert text(1.0).count("<|im_end|>") == 2
    assert text(1.0).endswith(instance.answer["content"] + "<|im_end|>")
    assert text(0.0) == "<|im_start|>assistant\n" * 2
    assert instance.messages[0]["content"] in text(0.25)


def test_recall_supervises_repeated_tokens_only():
    document = data.recall(random.Random(1), tokenizer.VOCABULARY, 100)
    assert len(document.ids) == len(document.weights) == 100
    targets = [place for place, weight in enumerate(document.weights) if weight]
    assert targets
    for place in targets:
        pair = document.ids[place - 1 : place + 1]
        earlier = document.ids[: place - 1]
        assert pair in [earlier[n : n + 2] for n in range(len(earlier))]


def test_a_drill_in_binding_has_one_value_for_a_row_and_a_column():
    for seed in range(20):
        document = data.binding(random.Random(seed), tokenizer.VOCABULARY, 120)
        assert len(document.ids) == len(document.weights) == 120
        targets = [place for place, weight in enumerate(document.weights) if weight]
        cells = {}
        for place in targets:
            pair = frozenset(document.ids[place - 2 : place])
            assert cells.setdefault(pair, document.ids[place]) == document.ids[place]
        first = document.ids[: targets[0] - 2]  # each cell is told before the first question
        assert set(cells.values()) <= set(first)
        rows, values = set().union(*cells), set(cells.values())
        assert not rows & values


def tiny_config(**changes) -> Qwen2Config:
    config = configs.qwen(2, 64, 96, 4, 2)
    for key, value in changes.items():
        setattr(config, key, value)
    return config


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Qwen2ForCausalLM._from_config(tiny_config(), attn_implementation="eager").eval()


def documents(lengths) -> list[data.Document]:
    rng = random.Random(2)
    return [data.Document([rng.randrange(20, 1500) for _ in range(n)], [1.0] * n) for n in lengths]


def test_packed_documents_do_not_see_each_other(model):
    originals = documents((20, 13, 25, 40))
    batch = data.pack(list(originals), rows=2, length=64)
    with torch.no_grad():
        packed = model(input_ids=batch.ids, position_ids=batch.positions, use_cache=False).logits
        alone = [model(input_ids=torch.tensor([d.ids])).logits[0] for d in originals]
    assert (batch.positions == 0).sum() >= 4
    for row, start, which in ((0, 0, 0), (0, 20, 1), (0, 33, 2), (1, 0, 3)):
        length = len(originals[which].ids)
        assert batch.ids[row, start : start + length].tolist() == originals[which].ids
        found = packed[row, start : start + length]
        torch.testing.assert_close(found, alone[which], rtol=0, atol=1e-5)
    with torch.no_grad():  # without the restarting positions they do: the test sees the difference
        joined = model(input_ids=batch.ids[:1], use_cache=False).logits[0, 20:33]
    assert (joined - alone[1]).abs().max() > 1e-3


def test_packing_shifts_targets_and_uses_every_document():
    pool = documents((10, 30, 5))
    first = pool[0]
    batch = data.pack(pool, rows=1, length=64)
    assert pool == []
    assert batch.targets[0, :9].tolist() == first.ids[1:]
    assert batch.targets[0, 9] == -100, "a document must not predict the next one's beginning"
    assert (batch.targets[0, 45:] == -100).all()
    assert (batch.targets != -100).sum() == 10 + 30 + 5 - 3


def test_a_stream_drops_what_is_too_long_and_counts_it(shipped):
    recipe = dataclasses.replace(train.Recipe(), lengths=(64, 96), curriculum_tokens=1.0)
    stream = data.Stream(shipped, recipe, seed=1, batch_tokens=384)
    batches = [stream.next(10**9) for _ in range(4)]
    assert {tuple(batch.ids.shape) for batch in batches} <= {(6, 64), (4, 96)}
    assert 0 < stream.dropped < stream.documents


# --- Training -------------------------------------------------------------------------------------


def test_cast_leaves_the_rotary_frequencies_alone(model):
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert before
    train.cast(model, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    for name, buffer in model.named_buffers():
        assert buffer.dtype == before[name].dtype == torch.float32
        assert torch.equal(buffer, before[name])


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 64, 16), (2, 16, 64)])
def test_orthogonalise(shape):
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(drawn, full_matrices=False)
    matrices = left * torch.linspace(0.2, 1, values.shape[-1]) @ right
    result = muon.orthogonalise(matrices)
    assert result.shape == matrices.shape
    after = left.mT @ result @ right.mT  # the same directions, other lengths
    lengths = after.diagonal(dim1=1, dim2=2)
    assert lengths.min() > 0.6 and lengths.max() < 1.4
    torch.testing.assert_close(after, torch.diag_embed(lengths), rtol=0, atol=1e-4)


def test_the_rate_rises_stays_and_falls():
    recipe = dataclasses.replace(train.Recipe(), warmup=10, decay=0.4)
    assert train.rate_at(0, 0, recipe) == pytest.approx(0.1)
    assert train.rate_at(0, 9, recipe) == train.rate_at(0.6, 500, recipe) == 1
    assert train.rate_at(0.8, 500, recipe) == pytest.approx(0.5)
    assert train.rate_at(1, 900, recipe) == train.rate_at(1.1, 999, recipe) == 0


@pytest.fixture
def make_run(monkeypatch, tmp_path):
    """Makes a single-process run of a tiny Qwen2 in tmp_path."""
    recipe = dataclasses.replace(
        train.Recipe(), batch_tokens=512, lengths=(64, 256), warmup=2, start=""
    )
    monkeypatch.setitem(configs.CONFIGS, "tiny", tiny_config)
    monkeypatch.setitem(train.RECIPES, "tiny", recipe)

    def make(dtype: torch.dtype = torch.float32) -> train.Run:
        return train.Run("tiny", 0, 1, "cpu", tmp_path, dtype)

    return make


def recall_batch(seed: int = 1) -> data.Batch:
    rng = random.Random(seed)
    return data.pack([data.recall(rng, 200, 64) for _ in range(8)], rows=8, length=64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_few_steps_lower_the_loss(make_run, dtype):
    run = make_run(dtype)
    batch = recall_batch()
    losses = [run.step(batch, rate=1) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    assert (run.steps, run.tokens) == (12, 12 * 8 * 64)


def test_a_model_can_start_with_copying():
    """A few of the repeated tokens come right by chance; with the induction head, most do."""
    torch.manual_seed(1)
    model = Qwen2ForCausalLM._from_config(configs.config("mini-qwen")).eval()
    document = data.recall(random.Random(3), tokenizer.VOCABULARY, 200)
    targets = [place for place, weight in enumerate(document.weights) if weight]

    @torch.no_grad()
    def share() -> float:
        guesses = model(input_ids=torch.tensor([document.ids])).logits[0, :-1].argmax(-1).tolist()
        return sum(guesses[p - 1] == document.ids[p] for p in targets) / len(targets)

    assert share() < 0.1
    heads.start_copying(model)
    assert share() > 0.8


@pytest.mark.parametrize(
    ("head", "sentence"), [(0, " The {} is run by {}."), (2, " {1} runs the {0}.")]
)
def test_a_model_can_start_with_reading(shipped, head, sentence):
    """Asked about one shop of three, each head of layer 2 looks at the sentences of its kind."""
    torch.manual_seed(1)
    config = configs.config("mini-qwen")
    model = Qwen2ForCausalLM._from_config(config, attn_implementation="eager").eval()
    rng = random.Random(5)

    @torch.no_grad()
    def share(texts: int = 30) -> float:
        right = 0
        for _ in range(texts):
            shops, names = rng.sample(list(SHOPS), 3), rng.sample(NAMES, 3)
            sentences = [sentence.format(*pair) for pair in zip(shops, names, strict=True)]
            asked = f" Who runs the {shops[1]}?<|im_end|>\nThe {shops[1]} is run by "
            pieces = [ids(shipped, part) for part in (*sentences, asked)]
            row = torch.tensor([sum(pieces, [])])
            looks = model(input_ids=row, output_attentions=True).attentions[2][0, head, -1]
            seen = [part.sum().item() for part in looks.split([len(piece) for piece in pieces])]
            right += max(seen[:3]) == seen[1]
        return right / texts

    heads.start_copying(model)
    assert share() < 0.6
    heads.start_reading(model, shipped)
    assert share() > 0.8


def tiny_mixture(kind: str) -> torch.nn.Module:
    """A mixture of one family, small enough to take a step in a moment."""
    config = configs.config("mini-deepseek") if kind == "deepseek" else configs.llama4(
        layers=2, hidden=64, experts=4, expert=32, dense=64, every=1, qk_norm=True
    )  # fmt: skip
    config.num_hidden_layers = 2
    torch.manual_seed(4)
    return AutoModelForCausalLM.from_config(config).train()


def test_the_balance_of_llama_4_is_a_loss():
    """1 when experts are equally busy and more otherwise, however sure the router is."""
    model = tiny_mixture("llama4")
    balance = train.Balance(model, weight=1.0)
    row = torch.randint(20, 1500, (1, 64))
    router = model.model.layers[0].feed_forward.router
    with torch.no_grad():
        for layer in model.model.layers:
            layer.feed_forward.router.weight.zero_()
            layer.feed_forward.router.weight[2] = 1e-3
    model(input_ids=row)
    even = balance.loss().item()
    with torch.no_grad():
        router.weight[2] = 0.5 * model.model.layers[0].post_attention_layernorm.weight
        router.weight[1] = -router.weight[2]
    model(input_ids=row)
    assert 0.9 < even < balance.loss().item()
    assert balance.loss() == 0.0  # one forward pass counts once


def test_the_balance_of_deepseek_moves_biases():
    model = tiny_mixture("deepseek")
    balance = train.Balance(model, speed=0.1)
    gate = model.model.layers[1].mlp.gate
    model(input_ids=torch.randint(20, 1500, (2, 64)))
    counts = balance.counts[gate].float()
    assert counts.sum() == 2 * 64 * 3
    balance.step(world=1)
    bias = gate.e_score_correction_bias
    assert (bias[counts > counts.mean()] == -0.1).all()
    assert (bias[counts < counts.mean()] == 0.1).all()
    model.eval()
    model(input_ids=torch.randint(20, 1500, (1, 8)))
    assert not balance.counts  # only training counts


def test_experts_of_a_stack_are_orthogonalised_apart():
    torch.manual_seed(5)
    stack = torch.randn(3, 8, 6)
    weights = [stack.clone(), *stack.clone().unbind()]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    weights[0].grad = torch.randn(3, 8, 6)
    for weight, grad in zip(weights[1:], weights[0].grad, strict=True):
        weight.grad = grad
    muon.Muon(weights, rank=0, world=1, decay=0.0).step(0.1)
    assert torch.allclose(weights[0], torch.stack(weights[1:]), atol=1e-6)
    assert not torch.allclose(weights[0], stack, atol=1e-3)


def test_a_teacher_pulls_the_student(make_run, monkeypatch):
    """The loss against the teacher's distribution falls towards the teacher's own entropy."""
    run = make_run()
    torch.manual_seed(9)
    run.teacher = Qwen2ForCausalLM(tiny_config()).eval()
    monkeypatch.setitem(
        vars(run), "recipe", dataclasses.replace(run.recipe, distillation_weight=1.0)
    )
    batch = recall_batch()
    first, *_, last = [run.step(batch, rate=1) for _ in range(12)]
    chosen = batch.targets.view(-1) != -100
    with torch.no_grad():
        soft = run.teacher(input_ids=batch.ids, position_ids=batch.positions).logits.softmax(-1)
    entropy = torch.distributions.Categorical(soft.flatten(0, 1)[chosen]).entropy().mean().item()
    assert entropy < last < first


def test_a_checkpoint_resumes_where_it_was(make_run):
    run = make_run()
    for seed in range(3):
        run.step(recall_batch(seed), rate=1)
    run.seconds = 12.5
    run.save()
    again = make_run()
    assert again.resume()
    assert (again.steps, again.tokens, again.seconds) == (run.steps, run.tokens, 12.5)
    run.step(recall_batch(9), rate=1)
    again.step(recall_batch(9), rate=1)
    for name, weight in run.weights.items():
        assert torch.equal(weight, again.weights[name]), name


def test_nothing_to_resume(make_run):
    assert not make_run().resume()


def test_a_published_model_reloads_to_the_same_logits(make_run, tmp_path):
    run = make_run()
    for seed in range(3):
        run.step(recall_batch(seed), rate=1)
    prompt = recall_batch(5).ids[:2]
    run.model.eval()
    with torch.no_grad():
        trained = run.model(input_ids=prompt).logits
        train.publish(run.model, run.tokenizer, tmp_path)
        published = run.model(input_ids=prompt).logits
        again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
        assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
        assert torch.equal(again(input_ids=prompt).logits, published)
        full = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
        rounded = full(input_ids=prompt).logits
    # bfloat16 keeps 8 bits of a weight: a relative error of 2**-9 each, some of it adding up
    assert (rounded - trained).abs().max() < 0.05 * trained.abs().max()
    assert json.loads((tmp_path / "config.json").read_text())["use_cache"] is True
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token_id == again.config.eos_token_id
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names


def test_a_whole_run_in_one_process(make_run, tmp_path, monkeypatch, capsys):
    make_run()  # registers the tiny miniature
    monkeypatch.setitem(
        train.RECIPES, "tiny", dataclasses.replace(train.RECIPES["tiny"], tokens=4096)
    )
    monkeypatch.setattr(train.Run, "watch", lambda run: {"order": 0.0})
    train.train(0, 1, "tiny", tmp_path, None, "cpu", True, 5, torch.float32)
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert record["tokens"] >= 4096
    assert record["steps"] * 512 >= record["tokens"] > (record["steps"] - 1) * 512 // 2
    assert "written to" in capsys.readouterr().out
    assert (tmp_path / "model.safetensors").is_file()
    assert (tmp_path / "checkpoint" / "state.safetensors").is_file()


def test_watching_scores_every_task_between_0_and_1(make_run):
    scores = make_run().watch(count=2)
    assert set(train.WATCHED) <= set(scores)
    assert {f"order.{field}" for field in ("name", "item", "quantity", "price", "day")} < set(
        scores
    )
    assert all(0 <= score <= 1 for score in scores.values())
