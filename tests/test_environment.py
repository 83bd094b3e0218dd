"""Environment variables of other machines: the course's imports work with all of them."""

import os
import subprocess
import sys

import httpx
import openai
import pytest

import openmodels
from openmodels import environment

# (variable, value, value afterwards): "same" for no change, None for removed.
SAME = "same"
HTTPX = [
    ("ALL_PROXY", "socks5://127.0.0.1:1080", None),
    ("all_proxy", "socks5h://127.0.0.1:1080", None),
    ("ALL_PROXY", "socks://127.0.0.1:1080", None),
    ("ALL_PROXY", "socks4://127.0.0.1:1080", None),
    ("HTTPS_PROXY", "ftp://proxy:21", None),
    ("HTTP_PROXY", "http://proxy:abc", None),
    ("ALL_PROXY", "http://[::1", None),
    ("ALL_PROXY", "http://[::1]:3128", SAME),
    ("HTTP_PROXY", "http://proxy.example.org:3128", SAME),
    ("http_proxy", "proxy.example.org:3128", SAME),
    ("HTTPS_PROXY", "http://user:secret@proxy.example.org:3128/", SAME),
    ("HTTP_PROXY", "", SAME),
    ("NO_PROXY", "::1", SAME),
    ("NO_PROXY", "[::1]", "::1"),
    ("NO_PROXY", "localhost,127.0.0.1,[::1]", "localhost,127.0.0.1,::1"),
    ("no_proxy", "::1/128", "::1"),
    ("NO_PROXY", "fe80::/10", None),
    ("NO_PROXY", "localhost,fe80::/10,.example.org", "localhost,.example.org"),
    ("NO_PROXY", "example.org:abc", None),
    ("NO_PROXY", "[::1]:8080", None),
    ("NO_PROXY", "localhost,127.0.0.0/8,*.example.org,example.org:8080", SAME),
    ("NO_PROXY", "http://example.org", SAME),
    ("NO_PROXY", "*", SAME),
    ("NO_PROXY", "*,[::1]", SAME),
    ("NO_PROXY", "", SAME),
    ("SSL_CERT_FILE", "/no/such/file.pem", None),
    ("SSL_CERT_DIR", "/no/such/folder", SAME),
    ("SSLKEYLOGFILE", "/no/such/folder/keys", None),
]
OLLAMA = [
    ("OLLAMA_HOST", "::1", "[::1]"),
    ("OLLAMA_HOST", ":abc", None),
    ("OLLAMA_HOST", "[::1", None),
    ("OLLAMA_HOST", '"127.0.0.1:8080"', "127.0.0.1:8080"),
    ("OLLAMA_HOST", " 127.0.0.1:8080 ", "127.0.0.1:8080"),
    ("OLLAMA_HOST", '""', None),
    ("OLLAMA_HOST", "0.0.0.0", SAME),  # `ollama serve` from a notebook needs it as it is
    ("OLLAMA_HOST", "https://ollama.example.org/prefix", SAME),
    ("OLLAMA_HOST", "", SAME),
    ("OLLAMA_API_KEY", "schlüssel", None),
    ("OLLAMA_API_KEY", "secret", SAME),
]


@pytest.fixture
def plain(monkeypatch):
    """An environment in which none of the variables is set."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("SSL", "OLLAMA_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(("name", "value", "after"), HTTPX + OLLAMA)
def test_a_variable_is_repaired_with_a_reason_or_left_alone(name, value, after):
    values = {name: value, "OTHER": "socks5://x"}
    lines = environment.apply(values)
    assert values.get(name) == (value if after == SAME else after)
    assert values["OTHER"] == "socks5://x"
    assert len(lines) == (after != SAME)
    assert all(line.startswith(f"{name} is ") and ": " in line for line in lines)
    assert environment.apply(values) == []  # what is repaired stays as it is


@pytest.mark.parametrize(("name", "value", "after"), HTTPX)
def test_a_client_of_httpx_can_be_made_afterwards(plain, name, value, after):
    plain.setenv(name, value)
    if after != SAME:
        with pytest.raises((httpx.InvalidURL, ValueError, ImportError, OSError)):
            httpx.Client()
    environment.apply(os.environ)
    httpx.Client().close()
    openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="none").close()  # httpx2


@pytest.mark.parametrize(("name", "value", "after"), OLLAMA)
def test_a_client_of_ollama_can_be_made_afterwards(plain, name, value, after):
    import ollama

    plain.setenv(name, value)
    environment.apply(os.environ)
    ollama.Client()


def test_socks_stays_if_its_package_is_installed(monkeypatch):
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: object())
    values = {"ALL_PROXY": "socks5://127.0.0.1:1080"}
    assert environment.apply(values) == []
    assert values == {"ALL_PROXY": "socks5://127.0.0.1:1080"}


def test_importing_the_package_repairs_its_process():
    values = {
        **os.environ,
        "ALL_PROXY": "socks5://127.0.0.1:1080",
        "NO_PROXY": "[::1]",
        "SSL_CERT_FILE": "/no/such/file.pem",
        "OLLAMA_HOST": ":abc",
    }
    code = "import openmodels, ollama, openai, huggingface_hub; print('imported')"
    command = [sys.executable, "-c", code]
    run = subprocess.run(
        command, env=values, cwd=os.path.dirname(os.path.dirname(openmodels.__file__)),
        capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert run.stdout == "imported\n", run.stderr
    assert sorted(line.split()[0] for line in run.stderr.splitlines()) == [
        "ALL_PROXY", "NO_PROXY", "OLLAMA_HOST", "SSL_CERT_FILE",
    ]  # fmt: skip
