"""Rewards, worked examples, distillation and the runner, on a model of a few thousand weights."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from openmodels import minis
from openmodels.harbour import instances
from openmodels.minis import configs, evaluate, grpo, rl, tokenizer, train


@pytest.fixture(scope="module")
def words():
    return tokenizer.load()


def tiny() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(configs.qwen(2, 32, 48, 2, 1)).eval()


@pytest.fixture
def base(words, tmp_path):
    """A folder with the weights of a tiny model."""
    home = tmp_path / "base"
    train.publish(tiny(), words, home)
    return home


@pytest.fixture
def quick(monkeypatch):
    """A recipe that takes a second; its step rewards whatever holds a digit."""
    recipe = rl.Recipe(examples=4, epochs=2, minutes=5.0, each=2, answers=4, longest=6, rate=1e-2)
    monkeypatch.setitem(rl.RECIPES, "mini-r1", recipe)
    monkeypatch.setattr(rl, "reward", lambda _: lambda text: float(any(map(str.isdigit, text))))
    monkeypatch.setattr(evaluate, "LONGEST", 8)
    return recipe


SUM = next(instances("sums", 1))
THOUGHT, _, LINE = SUM.answer["content"].rpartition("\n")


@pytest.mark.parametrize(
    "text, expected",
    [
        (SUM.answer["content"], 1.0),
        (THOUGHT + "\n" + LINE + "0", rl.FORM),  # a wrong result, in form
        (THOUGHT + "\n" + LINE.rpartition(" ")[2], rl.FORM),  # the result alone
        (THOUGHT + "\n" + "9 + " + LINE, rl.FORM),  # the right result of another sum
        (LINE, rl.RIGHT),  # without thinking
        ("<think>\n</think>\n\n" + LINE, rl.RIGHT),  # thinking of nothing
        ("<think>\n<think>\n1\n</think>\n\n" + LINE, rl.RIGHT),  # twice begun
        (THOUGHT + "\n" + LINE + "\nand more", 0.0),
        ("<think>\n" + LINE, rl.RIGHT),  # never ended: the last line counts, the form not
        (LINE + "\n</think>\n\n", 0.0),  # nothing after the thinking
        ("", 0.0),
    ],
)
def test_a_reward_is_the_last_line_and_a_little_for_the_form(text, expected):
    assert rl.reward(SUM)(text) == pytest.approx(expected)


def test_questions_are_prompts_of_the_train_split(words):
    asked = rl.questions(words, 3)
    drawn = [next(asked) for _ in range(50)]
    held_out = {evaluate.prompt(words, i) for i in instances("sums", 300)}
    assert not {prompt for prompt, _ in drawn} & held_out
    assert all(prompt.endswith("<|im_start|>assistant\n") for prompt, _ in drawn)
    worked = rl.sums(3)
    assert all(scored(next(worked).answer["content"]) == 1 for _, scored in drawn)


def test_supervision_makes_its_answers_likelier(words):
    """Two worked sums, read often: the loss falls, and greedy writing begins like them."""
    model, source = tiny(), rl.sums(5)
    examples = [next(source), next(source)]
    losses = list(rl.supervise(model, words, examples, epochs=60, rate=1e-2, batch=2))
    assert len(losses) == 60
    assert losses[-1] < 0.3 * losses[0]
    written = evaluate.answer(model, words, [evaluate.prompt(words, examples[0])], longest=6)
    assert written[0].startswith("<think>\nunits")


def test_a_loss_counts_answers_only(words):
    """By hand, on one example: minus the mean log-probability of the answer's tokens."""
    model, example = tiny(), next(rl.sums(5))
    prompt = words(evaluate.prompt(words, example)).input_ids
    answer = words(example.answer["content"] + "<|im_end|>").input_ids
    ids = torch.tensor([prompt + answer])
    with torch.no_grad():
        chosen = model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        expected = -chosen.gather(1, torch.tensor(answer)[:, None]).mean().item()
    assert next(rl.supervise(model, words, [example])) == pytest.approx(expected, rel=1e-4)


def test_only_a_teachers_right_answers_are_kept(words, monkeypatch):
    def half_right(teacher, tokenizer, prompts, **_):
        asked = {evaluate.prompt(words, i): i.answer["content"] for i in known}
        return [asked[p] if n % 2 else "I do not know." for n, p in enumerate(prompts)]

    source = rl.sums("teacher/0")
    known = [next(source) for _ in range(200)]
    monkeypatch.setattr(evaluate, "answer", half_right)
    kept = rl.right_answers(None, words, 20)
    assert [one.key for one in kept] == [one.key for one in known[1:40:2]]
    assert all(rl.reward(one)(one.answer["content"]) == 1 for one in kept)
    with pytest.raises(ValueError, match="solved 10 of 20 sums, fewer than 20"):
        rl.right_answers(None, words, 20, attempts=1)


def records(home) -> list[dict]:
    return [json.loads(line) for line in (home / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_weights_a_log_and_scores(base, quick, tmp_path, words):
    home = tmp_path / "out"
    rl.run("mini-r1", home, base, instances=4, steps=3, report=lambda _: None)
    log = records(home)
    assert [r["stage"] for r in log] == [
        "begin", "before", "examples", "examples", "grpo", "grpo", "grpo", "after",
    ]  # fmt: skip
    steps = [r for r in log if r["stage"] == "grpo"]
    assert [r["number"] for r in steps] == [1, 2, 3]
    assert all(0 <= r["reward"] <= 1 and 1 <= r["length"] <= 6 for r in steps)
    assert all(r["sums"]["n"] == 4 for r in log if "sums" in r)
    model = AutoModelForCausalLM.from_pretrained(home)
    assert model.dtype == torch.bfloat16
    before = AutoModelForCausalLM.from_pretrained(base)
    pairs = zip(model.parameters(), before.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    assert AutoTokenizer.from_pretrained(home).get_vocab() == words.get_vocab()


def test_an_interrupted_run_goes_on(base, quick, tmp_path, monkeypatch):
    """Stopped in its third step, the first two are kept, and the examples are not read again."""
    home, taken = tmp_path / "out", grpo.train

    def stops(*arguments):
        for step in taken(*arguments):
            if step.number == 3:
                raise KeyboardInterrupt
            yield step

    with monkeypatch.context() as patched:
        patched.setattr(grpo, "train", stops)
        with pytest.raises(KeyboardInterrupt):
            rl.run("mini-r1", home, base, instances=2, report=lambda _: None)
    assert not (home / "model.safetensors").exists()
    kept = rl.Pupil(base, home)
    assert (kept.resumed, kept.steps, kept.read) == (True, 2, 4)
    fresh = rl.Pupil(base, tmp_path / "fresh")
    pairs = zip(kept.model.parameters(), fresh.model.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    rl.run("mini-r1", home, base, instances=2, steps=4, report=lambda _: None)
    log = records(home)
    assert [r["number"] for r in log if r["stage"] == "grpo"] == [1, 2, 3, 4]
    assert sum(r["stage"] == "examples" for r in log) == 2
    assert sum(r["stage"] == "before" for r in log) == 1
    assert (home / "model.safetensors").exists()


def test_a_pupil_learns_from_a_teacher(base, quick, tmp_path, monkeypatch, words):
    source = rl.sums(1)
    monkeypatch.setattr(rl, "right_answers", lambda *_: [next(source) for _ in range(4)])
    recipe = rl.Recipe(examples=4, teacher="of the test", epochs=1, minutes=0.0)
    monkeypatch.setitem(rl.RECIPES, "mini-r1-distill", recipe)
    home = tmp_path / "out"
    rl.run("mini-r1-distill", home, base, teacher=base, instances=2, report=lambda _: None)
    assert [r["stage"] for r in records(home)] == ["begin", "before", "examples", "after"]


def test_the_first_layers_are_a_model_of_their_own(words, tmp_path):
    model = tiny()
    ids = words("What is 3 + 4?", return_tensors="pt").input_ids
    with torch.no_grad():
        inside = model(ids, output_hidden_states=True).hidden_states[1]
        rl.keep_first(model, 1)
        # the last of all hidden states has been through the final norm
        assert torch.equal(model.model(ids).last_hidden_state, model.model.norm(inside))
    train.publish(model, words, tmp_path / "first")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "first").config.num_hidden_layers == 1
    with pytest.raises(ValueError, match="the model has only 1 layers, not 2"):
        rl.keep_first(model, 2)


def test_a_teacher_with_another_tokenizer_is_refused(base, tmp_path):
    other = tmp_path / "coder"
    coder = tokenizer.load("mini-qwen-coder")
    model = Qwen2ForCausalLM(configs.qwen(2, 32, 48, 2, 1, len(coder), end=0))
    train.publish(model, coder, other)
    pupil = rl.Pupil(base, tmp_path / "out")
    with pytest.raises(ValueError, match="same tokenizer"):
        pupil.study(rl.RECIPES["mini-r1-distill"], other)


def test_a_missing_base_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model.safetensors in .*nowhere"):
        minis.weights_dir(tmp_path / "nowhere")
