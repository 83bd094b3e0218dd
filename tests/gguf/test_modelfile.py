"""Modelfiles: what they say, what is wrong in them, and what the client is told."""

import re

import pytest

from openmodels.gguf.modelfile import ModelfileError, parse

WHOLE = '''
# The clerk's brief sister
from mini-qwen
PARAMETER temperature 0.2
parameter stop "<|im_end|>"
PARAMETER stop User:
PARAMETER num_ctx 512
SYSTEM """
You are brief.
  Keep "quotes" and indents.
"""
TEMPLATE """{{ .System }} {{ .Prompt }}"""
LICENSE """MIT"""
LICENSE Apache-2.0
MESSAGE user Is the "ferry" late?
MESSAGE assistant """No.
It is not."""
ADAPTER ./dialect.gguf
'''


def test_every_instruction_is_read():
    made = parse(WHOLE)
    assert made.base == "mini-qwen"
    assert made.parameters == {
        "temperature": 0.2, "stop": ["<|im_end|>", "User:"], "num_ctx": 512,
    }  # fmt: skip
    assert made.system == 'You are brief.\n  Keep "quotes" and indents.\n'
    assert made.template == "{{ .System }} {{ .Prompt }}"
    assert made.licences == ["MIT", "Apache-2.0"]
    assert made.messages == [
        {"role": "user", "content": 'Is the "ferry" late?'},
        {"role": "assistant", "content": "No.\nIt is not."},
    ]
    assert made.adapters == ["./dialect.gguf"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "no FROM line"),
        ("SYSTEM hello", "no FROM line"),
        ("FROM a\nFROM b", "line 2: a second FROM"),
        ("FROM", "line 1: 'FROM'; write an instruction and its value"),
        ("FROM a\nCOLOUR red", "line 2: no instruction 'COLOUR'"),
        ("FROM a\nPARAMETER temprature 0", "line 2: no parameter 'temprature'; there are stop"),
        ("FROM a\nPARAMETER top_k many", "top_k is 'many', expected a whole number"),
        ("FROM a\nPARAMETER top_k 2.5", "expected a whole number"),
        ("FROM a\nPARAMETER top_p", "top_p is '', expected a number"),
        ("FROM a\nMESSAGE parrot hello", "role 'parrot'; there are system, user"),
        ('FROM a\nSYSTEM """never\nends', 'line 2: a block begins with """'),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, words):
    with pytest.raises(ModelfileError, match=re.escape(words)):
        parse(text)


class Client:
    """Notes what it is told."""

    def __init__(self):
        self.told, self.sent = {}, []

    def create_blob(self, file):
        self.sent.append(file.name)
        return "sha256:" + file.name

    def create(self, **told):
        self.told = told
        return "success"


def test_a_name_is_handed_on_and_nothing_empty_with_it():
    client = Client()
    assert parse("FROM mini-qwen\nSYSTEM Be brief.").create(client, "brief") == "success"
    assert client.told == {"model": "brief", "from_": "mini-qwen", "system": "Be brief."}


def test_files_are_uploaded_first(tmp_path):
    (tmp_path / "own.gguf").write_bytes(b"GGUF")
    (tmp_path / "lora.gguf").write_bytes(b"GGUF")
    client = Client()
    parse("FROM ./own.gguf\nADAPTER ./lora.gguf").create(client, "own", tmp_path)
    assert client.sent == ["own.gguf", "lora.gguf"]
    assert client.told["files"] == {"own.gguf": "sha256:own.gguf"}
    assert client.told["adapters"] == {"lora.gguf": "sha256:lora.gguf"}
    with pytest.raises(FileNotFoundError, match="no file ./missing.gguf"):
        parse("FROM ./missing.gguf").create(client, "own", tmp_path)
