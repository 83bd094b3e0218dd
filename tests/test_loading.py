"""One string chooses the model; what cannot be loaded is refused early, in words."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import AutoConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

import openmodels
from openmodels import loading, paths, sizing

REVISION = "0123456789abcdef0123456789abcdef01234567"
PIECES = ["<|endoftext|>", "Ġ", *"abehlortu"]  # Ġ is a space in byte-level vocabularies


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A directory in the standard layout: a random Qwen2 of a few thousand weights in bfloat16."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(PIECES),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    vocabulary = {piece: number for number, piece in enumerate(PIECES)}
    Qwen2Tokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return folder


@pytest.fixture
def shelf(tiny, tmp_path, monkeypatch) -> Path:
    """A models/ folder with one miniature, on a CPU, and no variable of the learner's set."""
    shutil.copytree(tiny, tmp_path / "models" / "mini-qwen")
    monkeypatch.setattr(paths, "shipped_dir", lambda name: tmp_path / "models" / name)
    monkeypatch.delenv("OPENMODELS_MODEL", raising=False)
    monkeypatch.setenv("OPENMODELS_DEVICE", "cpu")
    return tmp_path / "models"


@pytest.fixture
def hub_cache(tiny, tmp_path) -> Path:
    """The tiny model laid out as the hub's cache does: blobs, refs and a snapshot of links."""
    repo = tmp_path / "hub" / "models--lark--tiny"
    snapshot = repo / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(REVISION)
    for file in tiny.iterdir():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, repo / "blobs" / digest)
        (snapshot / file.name).symlink_to(Path("../../blobs") / digest)
    return tmp_path / "hub"


def offline(code: str, cache: Path) -> subprocess.CompletedProcess:
    """Run code in a fresh Python that the hub's own variable keeps off the network."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
    env |= {"OPENMODELS_DEVICE": "cpu"}
    root = Path(openmodels.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=root, capture_output=True, text=True
    )


def threads() -> str:
    """Return torch's threads in words: the suite's workers have one each."""
    count = torch.get_num_threads()
    return f"{count} thread" if count == 1 else f"{count} threads"


def same_weights(model, folder: Path) -> bool:
    stored = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    return all(torch.equal(stored[key], value) for key, value in model.state_dict().items())


def test_the_default_is_mini_qwen_in_float32(shelf, capsys):
    model, tokenizer = openmodels.load()
    line = capsys.readouterr().out
    assert line.startswith("mini-qwen: 0.0 M parameters on cpu, ")
    assert line.count("\n") == 1
    assert (
        f"{threads()}, float32: OPENMODELS_DEVICE asks for it; a miniature keeps to float32" in line
    )
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    assert tokenizer.decode(tokenizer("the bell").input_ids) == "the bell"
    assert same_weights(model, shelf / "mini-qwen")


def test_the_variable_chooses_the_model(shelf, tiny, monkeypatch, capsys):
    monkeypatch.setenv("OPENMODELS_MODEL", str(tiny))
    loaded = openmodels.load()
    assert capsys.readouterr().out.startswith(f"{tiny}: ")
    assert same_weights(loaded.model, tiny)


def test_a_miniature_by_its_path_is_a_miniature(shelf, monkeypatch, capsys):
    monkeypatch.chdir(shelf.parent)
    openmodels.load("models/mini-qwen")
    assert "a miniature keeps to float32" in capsys.readouterr().out


def test_greedy_output_repeats(shelf, tiny):
    def answer() -> list[int]:
        model, tokenizer = openmodels.load("mini-qwen")
        ids = tokenizer("the harbour", return_tensors="pt").input_ids
        return model.generate(ids, max_new_tokens=8, do_sample=False).tolist()

    assert answer() == answer()


@pytest.mark.parametrize(
    "name", ["ollama:qwen2.5:0.5b", "http://localhost:8000/v1#m", "https://example.org/v1#m"]
)
def test_a_served_model_is_not_loaded(shelf, name):
    with pytest.raises(ValueError, match="reached by a client, not loaded"):
        openmodels.load(name)


def test_a_typo_names_the_closest(shelf):
    with pytest.raises(ValueError, match=r"no model 'mini-qwn'; did you mean 'mini-qwen'\?"):
        openmodels.load("mini-qwn")


def test_a_hub_name_needs_its_organisation(shelf):
    with pytest.raises(ValueError, match="written hf:org/name"):
        openmodels.load("hf:mini-qwen")


def test_a_directory_without_a_model(shelf, tmp_path):
    with pytest.raises(ValueError, match="without a config.json"):
        openmodels.load(str(tmp_path))


def test_pickled_weights_are_never_opened(shelf, tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has no model\.safetensors.*can run code"):
        openmodels.load(str(folder))


def test_headers_give_the_number_of_parameters(tiny):
    counted = loading._count_stored(tiny, "tiny")
    assert counted == sizing.parameters(AutoConfig.from_pretrained(tiny))


def test_headers_of_a_model_in_several_files(tiny, tmp_path):
    Qwen2ForCausalLM.from_pretrained(tiny).save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert loading._count_stored(tmp_path, "tiny") == loading._count_stored(tiny, "tiny")
    next(tmp_path.glob("*-00001-*")).unlink()
    with pytest.raises(ValueError, match="has no model-00001-of"):
        loading._count_stored(tmp_path, "tiny")


def test_what_does_not_fit_is_refused_before_loading(shelf, tiny, monkeypatch):
    monkeypatch.setattr(loading, "available_on", lambda where: 100_000_000)
    monkeypatch.setattr(Qwen2ForCausalLM, "from_pretrained", None)  # calling it would fail
    with pytest.raises(openmodels.loading.DoesNotFit) as refused:
        openmodels.load(str(tiny))
    counted = loading._count_stored(tiny, "tiny")
    assert refused.value.available_bytes == 100_000_000
    assert refused.value.needed_bytes == sizing.needed_bytes(2 * counted)
    text = str(refused.value)
    assert "does not fit on cpu" in text
    assert "need 0.5 GB" in text and "0.1 GB is available" in text
    assert "openmodels.doctor" in text and "Ollama" in text and "too much here as well" in text


def test_bfloat16_only_where_float32_would_not_fit(shelf, tiny, monkeypatch, capsys):
    counted = loading._count_stored(tiny, "tiny")
    monkeypatch.setattr(loading, "available_on", lambda where: sizing.needed_bytes(2 * counted))
    model, _ = openmodels.load(str(tiny))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert "float32 weights would not fit, half of that does" in capsys.readouterr().out


def test_a_hub_snapshot_loads_offline(tiny, hub_cache):
    done = offline(
        "import openmodels; model, tokenizer = openmodels.load('hf:lark/tiny');"
        f"model.save_pretrained({str(hub_cache / 'copy')!r});"
        "print(tokenizer.decode(tokenizer('the bell').input_ids))",
        hub_cache,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("hf:lark/tiny: 0.0 M parameters on cpu, ")
    assert done.stdout.endswith("the bell\n")
    copied = Qwen2ForCausalLM.from_pretrained(hub_cache / "copy", dtype=torch.float32)
    assert same_weights(copied, tiny)


def test_an_absent_hub_model_names_the_fix_offline(hub_cache):
    done = offline("import openmodels; openmodels.load('hf:Qwen/Qwen2.5-0.5B-Instruct')", hub_cache)
    assert done.returncode == 1
    assert "NotDownloaded: Qwen/Qwen2.5-0.5B-Instruct is not on this machine" in done.stderr
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert "hf download Qwen/Qwen2.5-0.5B-Instruct  (about 0.99 GB)" in done.stderr
    assert "copy the folder models--Qwen--Qwen2.5-0.5B-Instruct" in done.stderr
    assert 'openmodels.load("mini-qwen")' in done.stderr


def test_a_hub_that_does_not_answer_names_the_fix(shelf, tmp_path, monkeypatch):
    def no_network(repo, trust_remote_code):
        raise OSError("could not connect") from LocalEntryNotFoundError("not cached")

    monkeypatch.setattr(loading, "snapshot_download", no_snapshot)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(AutoConfig, "from_pretrained", no_network)
    with pytest.raises(loading.NotDownloaded, match="the hub does not answer"):
        openmodels.load("hf:lark/unknown")


def test_another_failure_of_the_hub_keeps_its_own_words(shelf, monkeypatch):
    def gated(repo, trust_remote_code):
        raise OSError("You are trying to access a gated repo.")

    monkeypatch.setattr(loading, "snapshot_download", no_snapshot)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(AutoConfig, "from_pretrained", gated)
    with pytest.raises(OSError, match="gated repo"):
        openmodels.load("hf:lark/gated")


def no_snapshot(repo, local_files_only):
    raise LocalEntryNotFoundError("not cached")


def test_device_says_why(monkeypatch):
    monkeypatch.delenv("OPENMODELS_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(loading, "cpu_has_bfloat16", lambda: False)
    where, dtype, reason = openmodels.device()
    assert (where, dtype) == (torch.device("cpu"), torch.float32)
    missing = "no MPS device" if sys.platform == "darwin" else "no CUDA device"
    assert reason == (
        f"cpu, {threads()}, float32: {missing}; no bfloat16 instructions found on this CPU"
    )


@pytest.mark.parametrize(
    "has_bfloat16, dtype, why",
    [
        (True, torch.bfloat16, "this GPU computes in bfloat16"),
        (False, torch.float16, "this GPU has no bfloat16"),
    ],
)
def test_device_on_cuda(monkeypatch, has_bfloat16, dtype, why):
    monkeypatch.delenv("OPENMODELS_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Lark 1")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    chosen = openmodels.device()
    assert chosen.dtype is dtype
    assert chosen.reason == f"cuda, {str(dtype)[6:]}: found Lark 1; {why}"


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setenv("OPENMODELS_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="OPENMODELS_DEVICE is 'cuda', but torch .* finds only"):
        openmodels.device()


def test_bfloat16_instructions_are_read_from_the_cpu_flags(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : fpu avx2 avx512f\n")
    assert not loading.cpu_has_bfloat16(cpuinfo)
    cpuinfo.write_text("flags : fpu avx2 avx512f avx512_bf16\n")
    assert loading.cpu_has_bfloat16(cpuinfo)
    assert not loading.cpu_has_bfloat16(tmp_path / "absent")


def test_importing_the_package_does_not_import_torch():
    code = "import sys, openmodels; sys.exit('torch' in sys.modules)"
    root = Path(openmodels.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


CUSTOM_CODE = """open({mark!r}, "w").close()
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer
class Config(Qwen2Config):
    model_type = "lark"
class Model(Qwen2ForCausalLM):
    config_class = Config
class Tokenizer(Qwen2Tokenizer):
    pass
"""


@pytest.fixture(params=["config.json", "tokenizer_config.json"])
def custom(request, tiny, tmp_path, monkeypatch):
    """A copy of the tiny model whose config or tokenizer needs code of its own; (folder, mark)."""
    folder = shutil.copytree(tiny, tmp_path / "custom")
    mark = tmp_path / "code-ran"
    (folder / "lark.py").write_text(CUSTOM_CODE.format(mark=str(mark)), encoding="utf-8")
    changes = {
        "config.json": {
            "model_type": "lark",
            "auto_map": {"AutoConfig": "lark.Config", "AutoModelForCausalLM": "lark.Model"},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "Lark",
            "auto_map": {"AutoTokenizer": ["lark.Tokenizer", "lark.Tokenizer"]},
        },
    }
    file = folder / request.param
    content = json.loads(file.read_text(encoding="utf-8")) | changes[request.param]
    file.write_text(json.dumps(content), encoding="utf-8")
    return folder, mark


def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(custom, monkeypatch):
    folder, mark = custom
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    if json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "lark":
        with pytest.raises(ValueError, match="load.. never runs such code"):
            openmodels.load(str(folder))
    else:  # transformers has a tokenizer for this architecture, and takes that
        assert type(openmodels.load(str(folder)).tokenizer).__module__.startswith("transformers.")
    assert not mark.exists()


def test_no_model_is_loaded_with_its_code():
    tree = ast.parse(Path(loading.__file__).read_text(encoding="utf-8"))
    calls = [
        call
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("from_pretrained")
    ]
    passed = [ast.unparse(keyword) for call in calls for keyword in call.keywords]
    assert len(calls) == 4
    assert passed.count("trust_remote_code=False") + passed.count("**options") == len(calls)
