"""`OLLAMA_HOST` means to the course what it means to Ollama's official client."""

import pytest
from ollama._client import _parse_host

from openmodels import doctor, ollama_host

SAME = [
    *(None, "", ":11434", ":56789", "1.2.3.4", "1.2.3.4:56789", "127.0.0.1", "localhost"),
    *("LOCALHOST:1", "example.com", "example.com:56789", "example.com/", "example.com:56789/"),
    *("http://1.2.3.4", "https://1.2.3.4", "https://1.2.3.4:56789", "http://example.com"),
    *("https://example.com", "https://example.com:56789", "ftp://example.com", "HTTP://EXAMPLE"),
    *("example.com/path", "example.com:56789/path/", "https://example.com/prefix/", "h//a//b/"),
    *("[::1]", "[::1]:8080", "[::1]/", "[::1]:8080/path", "http://[::1]", "https://[::1]:1/p/"),
    *("[0001:002:003:0004::1]:56789", "[fe80::1%eth0]:1", "user:secret@example.com:1"),
    *("example.com:0", "example.com:", "example.com?x=1", "example.com#f", "//example.com:1"),
    *("http://", "://x"),
]
INVALID = [":abc", "example.com:99999", "[::1", "http://[::1", "example.com:-1", "http://h:1:2"]
# What Ollama's server accepts and its Python client does not, and what only a server can use.
DIFFERENT = {
    " 127.0.0.1 ": "http://127.0.0.1:11434",
    "http://127.0.0.1:8080 ": "http://127.0.0.1:8080",
    "'127.0.0.1'": "http://127.0.0.1:11434",
    '"http://1.2.3.4:5"': "http://1.2.3.4:5",
    '" :8080 "': "http://127.0.0.1:8080",
    "::1": "http://[::1]:11434",
    "fe80::1": "http://[fe80::1]:11434",
    "0.0.0.0": "http://127.0.0.1:11434",
    "0.0.0.0:8080": "http://127.0.0.1:8080",
    "https://0.0.0.0/prefix": "https://127.0.0.1:443/prefix",
    "[::]:8080": "http://[::1]:8080",
    "::": "http://[::1]:11434",
}


@pytest.mark.parametrize("host", SAME)
def test_it_is_read_as_the_official_client_reads_it(host):
    assert ollama_host.parse(host) == _parse_host(host)
    assert ollama_host.address(host) == _parse_host(host)


@pytest.mark.parametrize("host", INVALID)
def test_what_the_official_client_refuses_is_refused_with_examples(host):
    with pytest.raises(ValueError):
        _parse_host(host)
    with pytest.raises(ValueError, match="is not the address of a server .* Examples: 127"):
        ollama_host.address(host)
    with pytest.raises(ValueError):
        ollama_host.parse(host)


@pytest.mark.parametrize("host, address", DIFFERENT.items())
def test_where_the_course_reads_more_than_the_official_client(host, address):
    assert ollama_host.address(host) == address
    try:
        assert _parse_host(host) != address
    except ValueError:
        pass
    assert _parse_host(address) == address  # and the official client reads the result


@pytest.mark.parametrize("host", SAME + INVALID)
def test_parsing_alone_differs_nowhere(host):
    results = []
    for parse in (ollama_host.parse, _parse_host):
        try:
            results.append(parse(host))
        except ValueError:
            results.append(ValueError)
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "url, loopback",
    {
        "http://127.0.0.1:11434": True,
        "http://127.8.0.1:1": True,
        "http://localhost:1/prefix": True,
        "http://[::1]:1": True,
        "http://10.0.0.2:1": False,
        "http://[fe80::1]:1": False,
        "http://localhost.example.org:1": False,
        "http://127.0.0.1.example.org:1": False,
    }.items(),
)
def test_which_addresses_are_on_this_machine(url, loopback):
    assert ollama_host.is_loopback(url) is loopback


@pytest.mark.parametrize("host", [host for host in SAME if host] + list(DIFFERENT))
def test_the_doctor_looks_where_connect_looks_or_nowhere(host):
    address = ollama_host.address(host)
    expected = address.replace("localhost", "127.0.0.1")
    assert doctor.ollama_address(host) in (expected, None)
    assert (doctor.ollama_address(host) is None) == (not ollama_host.is_loopback(address))
