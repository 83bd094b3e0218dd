"""An engine beside transformers: same rows, same marks, and the ways in which rows can be wrong."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from openmodels import minis
from openmodels.gguf.export import gguf_file
from openmodels.inside import logprobs
from openmodels.minis import evaluate
from openmodels.serving.engine import Engine

NAME = "mini-qwen-xs"
TEXT = "<|im_start|>user\n椅子要33个硬币。<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(minis.weights_dir(NAME))


@pytest.fixture(scope="module")
def plain(tokenizer) -> int:
    [token] = tokenizer("a").input_ids
    return token


@pytest.fixture(scope="module")
def engine():
    with Engine(gguf_file(NAME, "f32"), exact=True, slots=2, threads=1) as running:
        yield running


@pytest.fixture(scope="module")
def ids(tokenizer):
    return tokenizer(TEXT).input_ids


@pytest.fixture(scope="module")
def right(ids):
    return logprobs.model_rows(evaluate.load(minis.weights_dir(NAME))[0], ids)


def test_the_engine_computes_what_transformers_computes(engine, plain, ids, right):
    rows = logprobs.engine_logprobs(engine, ids, plain, right.shape[1])
    assert rows.shape == right.shape == (len(ids), 1536)
    assert np.abs(rows - right).max() < 1e-3
    assert logprobs.kl_divergence(right, rows).max() < 1e-6


def test_rows_of_some_places_are_those_of_all(engine, plain, ids, right):
    rows = logprobs.engine_logprobs(engine, ids, plain, right.shape[1], places=(7, 2))
    assert np.abs(rows - right[[7, 2]]).max() < 1e-3
    assert np.abs(rows - right[[2, 7]]).max() > 0.1


def test_a_row_is_held_back_where_its_token_ends_inside_a_character(engine, tokenizer, plain, ids):
    """The reason for `plain`: 椅 is three tokens of one byte each."""
    first, *rest = tokenizer("椅").input_ids
    assert len(rest) == 2
    how = {"n_predict": 1, "n_probs": 3, "temperature": 0}
    given = {
        token: engine.complete(ids, logit_bias=[[token, logprobs.FORCED]], **how)
        for token in (first, plain)
    }
    assert "completion_probabilities" not in given[first]
    assert len(given[plain]["completion_probabilities"][0]["top_logprobs"]) == 3


def test_rows_that_lack_tokens_are_refused(engine, plain, ids, right):
    with pytest.raises(ValueError, match="3 log-probabilities of 4611 are missing"):
        logprobs.engine_logprobs(engine, ids, plain, right.shape[1] + 1, places=(1, 2, 3))


def test_four_bits_are_further_away_than_eight(plain, ids, right):
    apart = {}
    for kind in ("q8_0", "q4_0"):
        with Engine(gguf_file(NAME, kind), threads=1) as rounded:
            rows = logprobs.engine_logprobs(rounded, ids, plain, right.shape[1])
        apart[kind] = logprobs.kl_divergence(right, rows).mean()
    assert 0 < 10 * apart["q8_0"] < apart["q4_0"]


def test_divergence_by_hand():
    right, other = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert logprobs.kl_divergence(right, other) == pytest.approx([expected, 0])
    assert logprobs.kl_divergence(other, right)[0] != pytest.approx(expected)


def test_answers_come_in_the_order_of_their_prompts(engine, tokenizer):
    drawn = evaluate.draw("words", 12, seed=0)
    prompts = [evaluate.prompt(tokenizer, one) for one in drawn]
    together = logprobs.answers(engine, tokenizer, prompts)
    assert together[::-1] == logprobs.answers(engine, tokenizer, prompts[::-1])
    assert len(set(together)) > 6
    marks = logprobs.marked(engine, tokenizer, drawn)
    assert [text for text, _ in marks] == together
    assert sum(ok for _, ok in marks) >= 10


def test_an_answer_is_cut_at_its_longest(engine, tokenizer):
    prompts = [evaluate.prompt(tokenizer, one) for one in evaluate.draw("sums", 1, seed=0)]
    [short], [whole] = (logprobs.answers(engine, tokenizer, prompts, n) for n in (5, 140))
    assert whole.startswith(short)
    assert len(tokenizer(short).input_ids) <= 5 < len(tokenizer(whole).input_ids)


def test_a_name_inside_a_word_is_cut_as_the_tokenizer_cuts_it(engine, tokenizer):
    """Frida is a trader, and llama.cpp would find her in Friday."""
    fridays = [one for one in evaluate.draw("order", 200, seed=0) if "Friday" in str(one.messages)]
    prompts = [evaluate.prompt(tokenizer, one) for one in fridays]
    assert len(prompts) > 10
    assert all(engine.tokenize(text) == tokenizer(text).input_ids for text in prompts)
    right = sum(ok for _, ok in logprobs.marked(engine, tokenizer, fridays))
    as_text = [engine.complete(text, n_predict=60, temperature=0)["content"] for text in prompts]
    assert right == sum(map(evaluate.is_right, fridays, as_text)) > len(fridays) * 0.9
