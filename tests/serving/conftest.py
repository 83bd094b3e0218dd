"""A server for each test module, and its clients."""

import httpx
import ollama
import pytest

from openmodels.serving.app import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(port=0, root=tmp_path_factory.mktemp("store"), threads=1) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    return ollama.Client(server.address, trust_env=False)


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.address, trust_env=False, timeout=None) as http:
        yield http
