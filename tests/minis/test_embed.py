"""Vectors of texts: pooling, the stored form, the loss, and how often a search finds a passage."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2Model

from openmodels import paths
from openmodels.harbour import documents
from openmodels.harbour.documents import Reader
from openmodels.harbour.wordings import FACT_KINDS
from openmodels.minis import configs, embed, evaluate_embed, train_embed
from openmodels.minis.evaluate_embed import Collection

HOME = paths.shipped_dir("mini-qwen-xs")
TEXTS = ["The Heron lies at berth 7.", "A rope.", "Ada has 12 ropes and 3 lamps on her table."]


def tiny(seed: int = 0) -> Qwen2Model:
    """Return a model of two layers with random weights."""
    torch.manual_seed(seed)
    config = configs.qwen(2, 64, 96, 4, 2).to_dict() | {"initializer_range": 0.2}
    return Qwen2Model(Qwen2Config(**config)).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(HOME, trust_remote_code=False)


@pytest.mark.parametrize("mean", [False, True])
def test_pooling_does_not_depend_on_the_other_texts(tokenizer, mean):
    model, rows = tiny(), [embed.token_ids(tokenizer, text) for text in TEXTS]
    with torch.no_grad():
        together = embed.pool(model, rows, mean=mean)
        for row, vector in zip(rows, together, strict=True):
            states = model(input_ids=row[None]).last_hidden_state[0]
            expected = states.mean(0) if mean else states[-1]
            torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(embed.pool(model, rows, 12, mean), together, atol=1e-5, rtol=0)


def test_vectors_have_length_one_and_can_be_cut(tokenizer):
    model = tiny()
    vectors = embed.encode(model, tokenizer, TEXTS, 64)
    short = embed.encode(model, tokenizer, TEXTS, 16)
    assert vectors.shape == (3, 64) and short.shape == (3, 16)
    for rows in (vectors, short):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(embed.cut(vectors, 16), short)
    assert embed.encode(model, tokenizer, []).shape == (0, 64)
    with pytest.raises(ValueError, match="1 to 64 dimensions, not 65"):
        embed.encode(model, tokenizer, TEXTS, 65)


def test_a_query_has_the_instruction_in_qwens_form():
    text = embed.query("Where is Ada?")
    assert text == (
        "Instruct: Given a question, find the passage that answers it.\nQuery:Where is Ada?"
    )


def test_the_stored_model_says_how_it_makes_vectors(tokenizer, tmp_path):
    embed.save(tiny(), HOME, tmp_path)
    model, stored = embed.load(tmp_path)
    expected = tiny()
    for weight in expected.parameters():
        weight.data = weight.data.bfloat16().float()
    torch.testing.assert_close(
        embed.encode(model, stored, TEXTS, 64), embed.encode(expected, tokenizer, TEXTS, 64)
    )
    for text in TEXTS:  # the tokenizer itself appends the last token
        assert stored(text).input_ids == embed.token_ids(tokenizer, text).tolist()
    assert (stored.eos_token, stored.eos_token_id) == ("<|endoftext|>", 0)
    read = {file: json.loads((tmp_path / file).read_text())
            for file in ("config.json", "modules.json", "1_Pooling/config.json",
                         "config_sentence_transformers.json")}  # fmt: skip
    assert read["config.json"]["architectures"] == ["Qwen2Model"]
    assert [module["path"] for module in read["modules.json"]] == ["", "1_Pooling", "2_Normalize"]
    assert [key for key, value in read["1_Pooling/config.json"].items() if value is True] == [
        "pooling_mode_lasttoken", "include_prompt",
    ]  # fmt: skip
    assert read["config_sentence_transformers.json"]["prompts"]["query"] == embed.PROMPT


def test_the_loss_is_small_if_each_question_is_closest_to_its_passage():
    torch.manual_seed(0)
    passages = torch.randn(12, 128)
    right = train_embed.contrastive_loss(passages[:6], passages, 0.05)
    wrong = train_embed.contrastive_loss(passages[6:], passages, 0.05)
    assert right < 0.05 < 2 < wrong
    # only the first 32 numbers differ from those of another passage
    cut = passages.clone()
    cut[6:, :32] = passages[:6, :32]
    assert train_embed.contrastive_loss(passages[:6], cut, 0.05) > right + 0.1


def test_training_lowers_the_loss(tokenizer):
    recipe = replace(train_embed.Recipe(), batch=8, negatives=1)
    reader, model = Reader(0, "train"), tiny().train()
    batch = train_embed.draw_batch(reader, tokenizer, recipe)
    assert (len(batch[0]), len(batch[1])) == (8, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = [train_embed.step(model, optimizer, batch, recipe) for _ in range(8)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_batch_is_about_few_kinds_of_facts(tokenizer, monkeypatch):
    reader, drawn = Reader(0, "train"), []
    pairs = reader.passage_pairs
    monkeypatch.setattr(reader, "passage_pairs", lambda kinds: drawn.append(kinds) or pairs(kinds))
    for kinds in (2, 0):
        train_embed.draw_batch(reader, tokenizer, train_embed.Recipe(batch=4, kinds=kinds))
    assert {len(set(kinds)) for kinds in drawn} == {2, len(FACT_KINDS)}


def test_the_rate_rises_then_falls_to_zero():
    recipe = train_embed.Recipe()
    rates = [train_embed.learning_rate(done, recipe) for done in (0, 0.01, 0.03, 0.5, 1, 1.2)]
    assert 0 < rates[0] < rates[1] < rates[2] <= recipe.rate
    assert rates[2] > rates[3] > rates[4] == pytest.approx(0) == rates[5]


def test_questions_are_about_passages_that_answer_them():
    data = evaluate_embed.collection(60, 300)
    assert data == evaluate_embed.collection(60, 300)
    assert (len(data.passages), len(data.questions)) == (300, 60)
    assert len(set(data.answers)) > 40 and max(data.answers) < 300
    pairs = documents.passage_questions(100, size=300)
    for question, passage in pairs:
        assert all(value.lower() in passage.lower() for value in question.values)
    with pytest.raises(ValueError, match="no more questions"):
        evaluate_embed.collection(500, 50)


def test_a_tie_counts_as_the_worst_rank():
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.2, 0.1], [0.3, 0.2, 0.1]])
    assert evaluate_embed.ranks(similarity, [0, 0, 2]) == [1, 2, 3]
    assert evaluate_embed.recall([1, 2, 3], 2).correct == 2


@pytest.mark.parametrize("search", [evaluate_embed.bm25, evaluate_embed.fts5])
def test_keyword_search_ranks_the_passage_with_the_rare_word_first(search):
    passages = ("The Heron lies at berth 7.", "The Petrel lies at berth 9.", "It rained.")
    data = Collection(passages, ("Where does the Petrel lie?", 'the "heron" (7)'), (1, 0))
    assert evaluate_embed.ranks(search(data), data.answers) == [1, 1]


def test_the_shipped_model_reaches_its_card():
    """Other questions about other passages: the two intervals overlap."""
    home = paths.shipped_dir("mini-embed")
    stored = json.loads((home / "scores.json").read_text(encoding="utf-8"))
    model, tokenizer = embed.load(home)
    data = evaluate_embed.collection(150, 2000, seed=7)
    for dimensions, scores in evaluate_embed.similarities(model, tokenizer, data).items():
        now = evaluate_embed.recall(evaluate_embed.ranks(scores, data.answers), 5)
        then = stored["recalls"][f"mini-embed, {dimensions} numbers"]["recall@5"]
        assert now.high >= then["low"] and now.low <= then["high"]


def test_a_continued_run_keeps_the_record_of_the_first(tmp_path):
    results = json.loads((paths.shipped_dir("mini-embed") / "scores.json").read_text("utf-8"))
    run = results.pop("run")
    first = run.pop("first_run")
    assert (first["recipe"]["start"], run["recipe"]["start"]) == ("mini-qwen-xs", "mini-embed")
    for record in (first, run):  # as two runs of training leave them
        (tmp_path / "train.json").write_text(json.dumps(record), encoding="utf-8")
        evaluate_embed.write(tmp_path, dict(results))
    stored = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert stored["run"] == run | {"first_run": first}
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "start from `mini-qwen-xs`" in card and "--start mini-embed" in card
