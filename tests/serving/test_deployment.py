"""The config files in deploy/: what can be checked of them where neither vLLM nor Ray is."""

import dataclasses
import re

import pytest
import yaml
from notebooks import ROOT

from openmodels import catalog, sizing
from openmodels.serving import deployment
from openmodels.serving.deployment import BadFile

COMPOSE = ROOT / "deploy" / "vllm" / "compose.yaml"
SERVE = ROOT / "deploy" / "ray" / "serve.yaml"
FILES = (COMPOSE, SERVE)


def changed(file, folder, *path, to):
    """A copy of a file with one value set to another, or taken out where `to` is None."""
    told = yaml.safe_load(file.read_text(encoding="utf-8"))
    place = told
    for step in path[:-1]:
        place = place[step]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    copied = folder / file.name
    copied.write_text(yaml.safe_dump(told), encoding="utf-8")
    return copied


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_the_files_have_no_problem(file):
    found = deployment.plans(file)
    assert found and [problem for plan in found for problem in deployment.problems(plan)] == []
    assert {plan.host for plan in found} == {"127.0.0.1"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_the_files_say_what_was_not_run_and_hold_no_secret(file):
    text = file.read_text(encoding="utf-8")
    assert re.search(r"on 2026-\d\d-\d\d", text) and "Not run by this" in " ".join(text.split())
    assert not re.search(r"hf_[A-Za-z0-9]{8}|sk-[A-Za-z0-9]{8}|0\.0\.0\.0", text)
    assert file.relative_to(ROOT / "deploy").as_posix() in (ROOT / "deploy/README.md").read_text()


def test_every_yaml_file_is_checked():
    store = ROOT / "deploy" / "pgvector" / "compose.yaml"  # checked by workflows/test_store.py
    assert sorted((ROOT / "deploy").rglob("*.y*ml")) == sorted([*FILES, store])


def test_what_they_ask_for():
    [small], [again, large] = map(deployment.plans, FILES)
    assert (small.model.id, large.model.id) == ("qwen2.5-7b", "qwen2.5-72b")
    assert (small.key, small.copies, again.copies, large.gpus) == (True, 1, 3, 4)
    row, config = catalog.get("qwen2.5-7b"), catalog.config("qwen2.5-7b")
    cache = 32 * 8192 * sizing.kv_cache_bytes_per_token(config)
    assert small.needed == sizing.needed_bytes(2 * row.parameters, cache)
    assert small.available == round(0.9 * 48e9)
    served = yaml.safe_load(SERVE.read_text())["applications"][0]["args"]["llm_configs"]
    for told, plan in zip(served, (again, large), strict=True):
        deployed = told["deployment_config"]
        assert told["model_loading_config"]["model_id"] == plan.model.id
        assert deployed["max_ongoing_requests"] >= plan.slots  # else slots stay empty
        target = deployed["autoscaling_config"]["target_ongoing_requests"]
        assert target < deployed["max_ongoing_requests"]  # a copy is added before one is full


COMMAND = ("services", "vllm", "command")
ENGINE = ("applications", 0, "args", "llm_configs", 1, "engine_kwargs")
SMALL = ("applications", 0, "args", "llm_configs", 0)


@pytest.mark.parametrize(
    ("file", "path", "to", "match"),
    [
        (COMPOSE, ("services", "vllm", "ports"), ["8000:8000"], "every network"),
        (COMPOSE, ("services", "vllm", "ports"), ["0.0.0.0:8000:8000"], "0.0.0.0"),
        (COMPOSE, ("services", "vllm", "ports"), ["127.0.0.1:1:1", "2:2"], "every network"),
        (COMPOSE, (*COMMAND, 0), "Qwen/Qwen9-7B", "no model Qwen/Qwen9-7B"),
        (COMPOSE, (*COMMAND, 0), "Qwen/Qwen2.5-Coder-7B-Instruct", "no shape of"),
        (COMPOSE, (*COMMAND, 2), "--max-model-len=65536", "reads 32,768"),
        (COMPOSE, (*COMMAND, 3), "--max-num-seqs=96", "does not fit"),
        (COMPOSE, (*COMMAND, 3), "--max-num-seqs=0", "out of range"),
        (COMPOSE, (*COMMAND, 4), "--gpu-memory-utilization=1.5", "out of range"),
        (COMPOSE, ("services", "vllm", "environment", "HF_HUB_OFFLINE"), "0", "fetch weights"),
        (COMPOSE, ("x-gpu",), "RTX 4090", "does not fit"),
        (COMPOSE, ("x-gpu",), "Abacus", "no GPU Abacus"),
        (SERVE, ("http_options", "host"), "0.0.0.0", "0.0.0.0"),
        (SERVE, (*ENGINE, "tensor_parallel_size"), 2, "does not fit"),
        (SERVE, (*ENGINE, "tensor_parallel_size"), 5, "64 heads"),
        (SERVE, (*ENGINE, "max_num_seqs"), 64, "does not fit"),
        (SERVE, (*SMALL, "runtime_env"), None, "fetch weights"),
    ],
)
def test_problems_are_found(file, path, to, match, tmp_path):
    plans = deployment.plans(changed(file, tmp_path, *path, to=to))
    assert match in "\n".join(line for plan in plans for line in deployment.problems(plan))


@pytest.mark.parametrize(
    ("file", "path", "to", "match"),
    [
        (COMPOSE, (*COMMAND, 0), "--model=Qwen/Qwen2.5-7B-Instruct", "must come first"),
        (COMPOSE, (*COMMAND, 1), "--trust-remote-code", "not known"),
        (COMPOSE, (*COMMAND, 1), "Qwen/Qwen2.5-72B-Instruct", "not known"),
        (COMPOSE, COMMAND, [], "no plan"),
        (COMPOSE, (*COMMAND, 3), "--max-num-seqs=many", "no plan"),
        (COMPOSE, (*COMMAND, 4), "--tensor-parallel-size=2", "reserved"),
        (COMPOSE, ("services", "vllm", "image"), "vllm/vllm-openai:latest", "no version"),
        (COMPOSE, ("services", "vllm", "image"), "vllm/vllm-openai", "no version"),
        (COMPOSE, ("x-gpu",), None, "x-gpu"),
        (SERVE, (*ENGINE, "trust_remote_code"), True, "not known"),
        (SERVE, (*SMALL, "accelerator_type"), "Abacus", "Abacus"),
        (SERVE, ("http_options",), None, "http_options"),
        (SERVE, ("applications",), "none", "no plan"),
    ],
)
def test_what_is_no_plan_is_refused(file, path, to, match, tmp_path):
    with pytest.raises(BadFile, match=match):
        deployment.plans(changed(file, tmp_path, *path, to=to))


@pytest.mark.parametrize(
    "content",
    ["", "3", "- a", "services: {a: [}", "services: 3", "a: !!python/object/apply:os.getcwd []"],
)
def test_nonsense_is_refused_and_builds_no_objects(content, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(content)
    with pytest.raises(BadFile, match="no plan"):
        deployment.plans(file)


def test_a_huge_file_is_refused(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("#" * (deployment.MAX_BYTES + 1))
    with pytest.raises(BadFile, match="more than"):
        deployment.plans(file)


def test_a_model_without_a_size_is_told():
    [small] = deployment.plans(COMPOSE)
    with pytest.raises(BadFile, match="no size for nobody/nothing"):
        _ = dataclasses.replace(small, repo="nobody/nothing").needed
