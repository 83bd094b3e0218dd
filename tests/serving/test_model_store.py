"""The store of models: what a client learns about a file that llama.cpp does not load."""

import hashlib

import pytest

from openmodels import minis
from openmodels.gguf import export
from openmodels.serving.model_store import ApiError, Store


def test_a_file_that_does_not_load_is_refused_with_llama_cpps_reason(tmp_path):
    file = export.export(minis.weights_dir("mini-qwen-xs"), tmp_path / "model.gguf")
    data = file.read_bytes()
    place = data.index(b"qwen2", data.index(b"tokenizer.ggml.pre"))
    data = data[:place] + b"qwen9" + data[place + 5 :]
    store, digest = Store(tmp_path / "store"), f"sha256:{hashlib.sha256(data).hexdigest()}"
    incoming = store.incoming(digest)
    incoming.write(data)
    incoming.finish()
    with pytest.raises(ApiError) as refused:
        store.create("mine", files={"model.gguf": digest})
    reason = "llama.cpp does not load this model: unknown pre-tokenizer type: 'qwen9'"
    assert (refused.value.status, str(refused.value)) == (400, reason)
    with pytest.raises(ApiError, match="not found"):
        store.find("mine")
