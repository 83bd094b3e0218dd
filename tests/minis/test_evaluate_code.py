"""The coder: its tokenizer, what it is trained on, and how its code is judged."""

import dataclasses
import random
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen2ForCausalLM

from openmodels.harbour import Harbour, code
from openmodels.minis import configs, data, evaluate, evaluate_code, tokenizer, train

NAME = "mini-qwen-coder"


@pytest.fixture(scope="module")
def words():
    return tokenizer.load(NAME)


def ids(words, text: str) -> list[int]:
    return words(text, add_special_tokens=False).input_ids


# --- Tokenizer ------------------------------------------------------------------------------------


def test_code_comes_back(words):
    assert len(words) == tokenizer.CODE_VOCABULARY == configs.config(NAME).vocab_size
    for function in code.functions(200, 4):
        assert words.decode(ids(words, function.source)) == function.source
    for text in (
        "",
        "\tif x:\r\n\n\n        y = {1: 'ä'}  # 苹果 👍\n",
        "lambda *a, **k: (a, k)\n",
    ):
        assert words.decode(ids(words, text)) == text


def test_the_coders_tokenizer_needs_half_the_tokens(words):
    sources = [function.source for function in code.functions(100, 4)]
    own, shared = (
        sum(len(ids(other, source)) for source in sources) for other in (words, tokenizer.load())
    )
    assert own < 0.55 * shared
    assert own / len(sources) < 45


def test_markers_and_digits_are_single_tokens(words):
    for token in (*tokenizer.SPECIAL, *tokenizer.FIM, *"0123456789"):
        assert len(ids(words, token)) == 1, token
    assert words.tokenize("2048") == list("2048")
    assert (words.eos_token, words.pad_token) == ("<|endoftext|>",) * 2


def test_a_coders_tokenizer_can_be_built_again():
    built = tokenizer.build_coder(count=300)
    assert len(built) == tokenizer.CODE_VOCABULARY
    assert len(built("<|fim_middle|>").input_ids) == 1
    assert built.decode(ids(built, "return max(é)")) == "return max(é)"


# --- Training data --------------------------------------------------------------------------------


def test_documents_are_what_the_model_will_read(words):
    ledger = code.Ledger(3)
    for asked in (ledger.function(), ledger.gap(), ledger.gap()):
        document = data.encode_code(words, asked, 0.25)
        prompt = ids(words, data.code_prompt(asked))
        assert document.ids[: len(prompt)] == prompt
        assert document.weights[len(prompt) :] == [1.0] * (len(document.ids) - len(prompt))
        markers = {words.convert_tokens_to_ids(token) for token in tokenizer.FIM}
        for token, weight in zip(prompt, document.weights, strict=False):
            assert weight == (0 if token in markers else 0.25)
        assert document.ids[-1] == words.eos_token_id


def test_a_gap_is_written_as_qwen_coder_writes_it(words):
    gap = code.Ledger(3).gap()
    text = words.decode(data.encode_code(words, gap, 0.1).ids)
    assert text == (
        f"<|fim_prefix|>{gap.prefix}<|fim_suffix|>{gap.suffix}<|fim_middle|>{gap.middle}"
        "<|endoftext|>"
    )


def test_the_stream_mixes_functions_and_gaps_and_trains_nothing_held_out(words):
    recipe = train.RECIPES[NAME]
    stream = data.Stream(words, recipe, seed=1, batch_tokens=2048)
    read = "".join(words.decode(row) for _ in range(12) for row in stream.next(0).ids)
    documents = [text for text in read.split("<|endoftext|>") if text]
    gaps = sum(text.startswith("<|fim_prefix|>") for text in documents)
    share = recipe.mix["fim"] / sum(recipe.mix.values())
    assert gaps / len(documents) == pytest.approx(share, abs=0.12)
    assert stream.dropped == 0
    combinations = list(product(code.LISTS, code.AGGREGATES, code.CHOICES, code.CHANGES))
    held = [c for c in combinations if code.held_out(*c)]

    def shape(text: str) -> str:
        return "".join(c for c in text if not c.isdigit())

    asked = {shape(text.split('"""')[1]) for text in documents}
    never = {
        shape(f"{a} the {e}{choice}{change}.".format(n=1, m=1)) for e, a, choice, change in held
    }
    assert len(asked) > 300 and len(never) > 200
    assert not asked & never


def test_a_conversations_batches_do_not_know_of_the_coder():
    """Drawn step by step from their parts, with the same seed: byte for byte the stream's."""
    recipe = dataclasses.replace(train.Recipe(), value_first_share=0.0, curriculum_tokens=1.0)
    words, seed, tokens = tokenizer.load(), 7, 1024
    harbour, rng = Harbour(seed, "train"), random.Random(seed)
    harbour.invented = recipe.invented
    pools = {length: [] for length in recipe.lengths}
    stream = data.Stream(words, recipe, seed, tokens)
    for _ in range(6):
        while all(sum(len(d.ids) for d in pool) <= 1.25 * tokens for pool in pools.values()):
            if rng.random() < recipe.drill_share:
                length = rng.randint(32, recipe.lengths[0])
                document = rng.choice((data.recall, data.binding))(rng, len(words), length)
            else:
                lesson = harbour.lesson(recipe.mix, 1, 0.0)
                document = data.encode(words, lesson, recipe.context_weight)
            for length in recipe.lengths:
                if len(document.ids) <= length:
                    pools[length].append(document)
                    break
        length = next(n for n, p in pools.items() if sum(len(d.ids) for d in p) > 1.25 * tokens)
        expected = data.pack(pools[length], tokens // length, length)
        found = stream.next(10**9)
        for one, other in zip(vars(found).values(), vars(expected).values(), strict=True):
            assert one is other is None or torch.equal(one, other)


def test_watching_the_coder(monkeypatch, tmp_path):
    monkeypatch.setitem(configs.CONFIGS, NAME, lambda: configs.qwen(2, 64, 96, 4, 2, 512, 0))
    run = train.Run(NAME, 0, 1, "cpu", tmp_path, torch.float32)
    assert run.watch(count=2) == {"function": 0.0, "fim": 0.0}
    function = code.Ledger(1).function()
    assert run.predict(function)[1] == function.body + "<|endoftext|>"


# --- Judging --------------------------------------------------------------------------------------


def test_pass_at_k_against_counting():
    """Chen et al.'s estimator is the share of the subsets of size k that hold a right sample."""
    from itertools import combinations

    for n, right, k in ((5, 2, 1), (5, 2, 3), (5, 0, 5), (5, 1, 5), (6, 6, 2), (6, 4, 3)):
        subsets = list(combinations([True] * right + [False] * (n - right), k))
        share = sum(any(subset) for subset in subsets) / len(subsets)
        assert evaluate_code.pass_at(k, right, n) == pytest.approx(share)
    with pytest.raises(ValueError, match="pass@6 needs at least 6 samples, not 5"):
        evaluate_code.pass_at(6, 1, 5)


def test_right_code_counts_and_wrong_code_does_not():
    asked = [*evaluate_code.draw("function", 20, 1), *evaluate_code.draw("fim", 20, 1)]
    right = [one.middle if isinstance(one, code.Gap) else one.body for one in asked]
    assert evaluate_code.verdicts(asked, right) == [True] * 40
    assert evaluate_code.verdicts(asked, ["    return 0 0\n"] * 40) == [False] * 40
    neighbours = right[1:20] + right[:1]
    assert sum(evaluate_code.verdicts(asked[:20], neighbours)) < 3


def test_other_code_that_does_the_same_counts():
    [one] = code.functions(1, 1)
    longer = one.body.replace("return", "found =") + "    if True:\n        return found\n"
    assert evaluate_code.verdicts([one], [longer]) == [True]


@pytest.mark.parametrize(
    "written",
    [
        "    while True: pass\n",
        "    return (((\n",
        "    print('x' * 10**5)\n",
        "    return [0] * 10**10\n",
        "    raise SystemExit(0)\n",
        "    import os; os._exit(0)\n",
        "",
        "    pass\nraise SystemExit(0)\n",
    ],
)
def test_what_a_model_may_write_by_accident_is_wrong_and_hurts_nothing(written):
    one, other = code.functions(2, 1)
    assert evaluate_code.verdicts([one, other], [written, other.body]) == [False, True]


def test_the_floor_is_low_and_made_of_trained_code():
    functions = evaluate_code.draw("function", 150, 2)
    written = evaluate_code.floor(functions)
    assert all(text.startswith("    return ") for text in written)
    assert sum(evaluate_code.verdicts(functions, written)) < 15
    assert len(set(evaluate_code.floor(evaluate_code.draw("fim", 20, 2)))) == 1


def test_scores_of_a_coder(monkeypatch, words):
    """Of a stand-in that is right in every seventh sample: 0, 7, … of 10, and of 50 in fives."""
    asked = {data.code_prompt(one): one for task in ("function", "fim")
             for one in evaluate_code.draw(task, 10, 0)}  # fmt: skip

    def writes(model, tokenizer, prompts, longest, temperature, batch):
        texts = []
        for number, prompt in enumerate(prompts):
            one = asked[prompt]
            right = one.middle if isinstance(one, code.Gap) else one.body
            texts.append(right if number % 7 == 0 else "nonsense(")
        return texts

    monkeypatch.setattr(evaluate, "answer", writes)
    coder = SimpleNamespace(config=configs.config("mini-qwen-coder"))
    scores = evaluate.evaluate(coder, words, ["function", "function_5", "fim", "fim_5"], count=10)
    assert [s.correct for s in scores.values()] == [2, 8, 2, 8]
    assert all(s.n == 10 and 0 <= s.low <= s.correct / 10 <= s.high <= 1 for s in scores.values())
    config = configs.config("mini-qwen-coder")
    assert evaluate.scored(config, words) == evaluate_code.SCORED
    assert evaluate.scored(config, tokenizer.load()) == evaluate.SCORED


def test_an_untrained_coder_is_scored(words):
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(configs.qwen(2, 32, 48, 2, 1, len(words), 0)).eval()
    scores = evaluate.evaluate(model, words, count=8)
    assert set(scores) == set(evaluate_code.SCORED)
    assert scores["function"].correct == scores["fim_5"].correct == 0
