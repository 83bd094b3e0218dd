"""The files in deploy/ against the libraries that read them, where those are installed.

Neither Ray nor vLLM is a dependency of the course. Without them these tests are skipped, and
`test_deployment.py` checks what can be checked.
"""

import dataclasses
import importlib.util
import re

import pytest
import yaml
from notebooks import ROOT

from openmodels.serving import deployment
from openmodels.workflows import jobs

SERVE = ROOT / "deploy" / "ray" / "serve.yaml"
BATCH = ROOT / "deploy" / "ray" / "batch.py"


@pytest.fixture(scope="module")
def batch():
    spec = importlib.util.spec_from_file_location("batch", BATCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_batch_script_sends_the_documents_questions(batch):
    request = batch.to_request({"document": 3}, "mini-qwen")
    assert request["payload"]["messages"][0]["content"] == jobs.document(3).key
    assert (request["payload"]["model"], request["payload"]["temperature"]) == ("mini-qwen", 0)


@pytest.mark.parametrize(("suffix", "state"), [("", "right"), ("\n", "right"), (" No.", "wrong")])
def test_the_batch_script_compares_with_the_right_answer(suffix, state, batch):
    text = jobs.document(3).answer["content"] + suffix
    response = {"choices": [{"message": {"content": text}}]}
    outcome = batch.to_outcome({"document": 3, "http_response": response})
    assert outcome == {"document": 3, "state": state}


def test_the_batch_script_needs_no_ray_to_be_read(batch):
    assert "ray" not in vars(batch)
    assert '"include_dashboard": False, "_node_ip_address": "127.0.0.1"' in BATCH.read_text()


def test_ray_serve_accepts_the_config():
    schema = pytest.importorskip("ray.serve.schema")
    config = schema.ServeDeploySchema(**yaml.safe_load(SERVE.read_text(encoding="utf-8")))
    assert config.http_options.host == "127.0.0.1"
    assert [app.import_path for app in config.applications] == ["ray.serve.llm:build_openai_app"]
    with pytest.raises(ValueError, match="proxy_location"):
        schema.ServeDeploySchema(**{"applications": [], "proxy_location": "Everywhere"})


def test_ray_serve_accepts_each_deployment():
    config_module = pytest.importorskip("ray.serve.config")
    for model in yaml.safe_load(SERVE.read_text())["applications"][0]["args"]["llm_configs"]:
        scaling = dict(model["deployment_config"]["autoscaling_config"])
        assert config_module.AutoscalingConfig(**scaling).max_replicas == scaling["max_replicas"]


def test_ray_data_accepts_the_settings(batch):
    pytest.importorskip("ray.data.llm")
    config = batch.http_config("http://127.0.0.1:1/v1", 2)
    assert (config.url, config.concurrency) == ("http://127.0.0.1:1/v1/chat/completions", 2)


def test_vllm_knows_the_options():
    arguments = pytest.importorskip("vllm.engine.arg_utils").EngineArgs
    known = {field.name for field in dataclasses.fields(arguments)}
    assert {name.replace("-", "_") for name in deployment.OPTIONS} <= known


def test_the_readme_says_what_was_checked_and_what_was_not():
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    rows = dict(
        re.findall(r"^\| `(\S+)` \|(.*)\|$", text.partition("## What was checked")[2], re.M)
    )
    files = {"vllm/compose.yaml", "ray/serve.yaml", "ray/batch.py", "dask/cluster.md"}
    assert set(rows) == files | {"pgvector/compose.yaml"}
    assert all(re.search(r"\b(No|Not|not)\b", row.rpartition("|")[2]) for row in rows.values())
    assert re.search(r"Ray 2.60 on 2026-\d\d-\d\d", rows["ray/serve.yaml"])
