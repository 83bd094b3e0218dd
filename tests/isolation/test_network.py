"""The watch and the sealed room: what each stops, and what each misses.

Nothing here reaches further than loopback. Names are looked up only in ways that ask nobody: with
AI_NUMERICHOST, by the audit event alone, or with a label that is too long to be sent.
"""

import http.client
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from openmodels.isolation import network

TOO_LONG = "x" * 70  # a label of a name has at most 63 characters
POST = """
import http.client
client = http.client.HTTPConnection({host!r}, {port})
client.request("POST", "/", "child")
client.getresponse()
"""


@pytest.fixture
def outside():
    with network.FakeRemote() as listener:
        yield listener


@pytest.fixture(scope="module")
def room():
    """Skips where this system has no sealed room, asked by another program than ours."""
    try:
        done = subprocess.run(["unshare", "--user", "--net", "true"], capture_output=True)
        allowed = done.returncode == 0
    except FileNotFoundError:
        allowed = False
    try:
        network.run_without_network(["true"])
    except network.CannotSeal as reason:
        if allowed:
            raise
        pytest.skip(str(reason))


def post(listener, message: str) -> None:
    """What a client of Python's own does."""
    client = http.client.HTTPConnection(listener.host, listener.port)
    client.request("POST", "/", message)
    client.getresponse().read()
    client.close()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def below(listener, message: str) -> str:
    told = (listener.host, listener.port, message.encode())
    return f"from openmodels.isolation import network; network.connect_with_ctypes(*{told})"


def in_room(code: str, **how) -> network.RunResult:
    root = str(Path(network.__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    return network.run_without_network(
        python(code), environment=os.environ | {"PYTHONPATH": path}, **how
    )


# --- The watch ------------------------------------------------------------------------------------


def test_a_connection_is_noted_with_address_and_line(outside):
    with network.watch() as seen:
        post(outside, "hello")
    [attempt] = seen.attempts
    assert outside.heard == ["hello"]
    assert (attempt.kind, attempt.host, attempt.port) == ("connect", outside.host, outside.port)
    assert attempt.outside and not attempt.refused and attempt.through == ()
    line = post.__code__.co_firstlineno + 3
    assert attempt.where == f"isolation/test_network.py:{line}, in post"
    assert str(seen).splitlines() == ["1 noted, 1 to the outside", str(attempt)]
    assert attempt.address in str(attempt) and "refused" not in str(attempt)


def test_blocking_refuses_before_anything_is_sent(outside):
    with (
        network.watch(block=True) as seen,
        pytest.raises(network.ConnectionBlocked, match=outside.host),
    ):
        post(outside, "hello")
    assert outside.heard == []
    assert [attempt.refused for attempt in seen.attempts] == [True]
    assert issubclass(network.ConnectionBlocked, OSError)
    post(outside, "afterwards")
    assert outside.heard == ["afterwards"] and len(seen.attempts) == 1


def test_this_machine_passes_and_is_noted():
    with socket.create_server(("127.0.0.1", 0)) as server, network.watch(block=True) as seen:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
    assert [str(a).split(":")[0] for a in seen.attempts] == ["connect 127.0.0.1"]
    assert seen.outside == []


def test_the_list_can_be_changed(outside):
    with network.watch(block=True, allow=["127.0.0.1", outside.host]) as seen:
        post(outside, "let through")
    assert outside.heard == ["let through"] and seen.outside == []
    with network.watch(block=True, allow=[]), pytest.raises(network.ConnectionBlocked):
        socket.create_connection(("127.0.0.1", outside.port))


def test_a_client_of_localhost_is_let_through_once_the_name_is_allowed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = ("localhost", server.getsockname()[1])
        with (
            network.watch(block=True),
            pytest.raises(network.ConnectionBlocked, match="look-up localhost"),
        ):
            socket.create_connection(address)
        with network.watch(block=True, allow=["127.0.0.1", "::1", "localhost"]) as seen:
            socket.create_connection(address).close()
    assert seen.attempts and seen.outside == []


def test_a_swallowed_refusal_stays_noted(outside):
    with network.watch(block=True) as seen:
        with socket.socket() as quiet:
            try:
                quiet.connect_ex((outside.host, outside.port))
            except OSError:
                pass
    assert [attempt.refused for attempt in seen.outside] == [True]


def test_datagrams(outside):
    family = socket.AF_INET6 if ":" in outside.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as plain:
        with network.watch() as seen:
            plain.sendto(b"dropped a line", (outside.host, outside.port))
            assert plain.recv(100) == b"heard"  # the outside's own datagram is not ours
        with network.watch(block=True) as blocked, pytest.raises(network.ConnectionBlocked):
            plain.sendto(b"again", 0, (outside.host, outside.port))
        if hasattr(plain, "sendmsg"):
            with network.watch(block=True) as third, pytest.raises(network.ConnectionBlocked):
                plain.sendmsg([b"again"], [], 0, (outside.host, outside.port))
            assert [attempt.kind for attempt in third.attempts] == ["datagram"]
    assert outside.heard == ["dropped a line"]
    assert [attempt.kind for attempt in seen.attempts + blocked.attempts] == ["datagram"] * 2


def test_look_ups_are_refused():
    with network.watch(block=True) as seen:
        with pytest.raises(network.ConnectionBlocked, match="collector.invalid"):
            socket.getaddrinfo("collector.invalid", 443, flags=socket.AI_NUMERICHOST)
        for event, arguments in {
            "socket.gethostbyname": ("collector.invalid",),
            "socket.gethostbyaddr": ("192.0.2.7",),
            "socket.getnameinfo": (("192.0.2.7", 443),),
        }.items():
            with pytest.raises(network.ConnectionBlocked):
                sys.audit(event, *arguments)
    assert [attempt.address for attempt in seen.attempts] == ["collector.invalid"] * 2 + [
        "192.0.2.7"
    ] * 2
    assert {attempt.kind for attempt in seen.attempts} == {"look-up"}


def test_a_number_is_not_looked_up_and_localhost_is_a_name():
    with network.watch(block=True) as seen:
        assert socket.getaddrinfo("127.0.0.2", 80)
        assert socket.getaddrinfo(None, 80)
    assert seen.attempts == []
    with network.watch(block=True), pytest.raises(network.ConnectionBlocked):
        socket.getaddrinfo("localhost", 80, flags=socket.AI_NUMERICHOST)
    with network.watch(block=True, allow=["LocalHost"]) as seen, pytest.raises(socket.gaierror):
        socket.getaddrinfo("localhost", 80, flags=socket.AI_NUMERICHOST)
    assert seen.outside == []


@pytest.mark.parametrize("how", ["connect", "connect_ex", "bind"])
def test_a_name_in_an_address_is_refused_before_it_is_looked_up(how):
    with network.watch(block=True) as seen, socket.socket() as plain:
        with pytest.raises(
            network.ConnectionBlocked
        ):  # without the watch: UnicodeError, from the look-up
            getattr(plain, how)((TOO_LONG, 80))
    assert [(attempt.kind, attempt.host) for attempt in seen.attempts] == [("look-up", TOO_LONG)]


def test_a_name_in_the_address_of_a_datagram_too():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain, network.watch(block=True):
        with pytest.raises(network.ConnectionBlocked):
            plain.sendto(b"x", 0, (TOO_LONG, 80))
        if hasattr(plain, "sendmsg"):
            with pytest.raises(network.ConnectionBlocked):
                plain.sendmsg([b"x"], [], 0, (TOO_LONG, 80))


def test_listening_for_everybody_is_the_outside_and_for_this_machine_is_not():
    with network.watch(block=True) as seen, socket.socket() as plain:
        for everybody in ("", "0.0.0.0"):
            with pytest.raises(network.ConnectionBlocked):
                plain.bind((everybody, 0))
        plain.bind(("127.0.0.1", 0))
    assert [attempt.kind for attempt in seen.attempts] == ["listen"] * 3
    assert [attempt.outside for attempt in seen.attempts] == [True, True, False]


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("::ffff:127.0.0.1", True),
        ("127.0.0.2", False),
        ("", True),
        ("127.1", False),
        ("::1", False),
        ("0.0.0.0", False),
        ("fe80::1%eth0", False),
        ("127.0.0.1.collector.invalid", False),
        (b"127.0.0.1", True),
        (bytearray(b"192.0.2.7"), False),
    ],
)
def test_which_addresses_are_this_machine(host, here):
    with socket.socket() as plain, network.watch() as seen:
        sys.audit("socket.connect", plain, (host, 80))
    assert [attempt.outside for attempt in seen.attempts] == [not here]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_sockets_without_a_network_are_left_alone(tmp_path):
    with network.watch(block=True) as seen, socket.socket(socket.AF_UNIX) as plain:
        plain.bind(str(tmp_path / "s"))
        socket.socketpair()[0].close()
    assert seen.attempts == []


def test_other_threads_are_watched(outside):
    with network.watch() as seen:
        thread = threading.Thread(target=post, args=(outside, "from a thread"))
        thread.start()
        thread.join()
    assert [attempt.where.split(", ")[1] for attempt in seen.outside] == ["in post"]


def test_watches_within_watches(outside):
    with network.watch(allow=["127.0.0.1", outside.host]) as wide:
        with network.watch(block=True) as strict, pytest.raises(network.ConnectionBlocked):
            post(outside, "x")
    assert [attempt.outside for attempt in wide.attempts + strict.attempts] == [False, True]
    assert [attempt.refused for attempt in wide.attempts + strict.attempts] == [False, True]


def test_the_packages_in_between_are_named(outside):
    httpx = pytest.importorskip("httpx")
    with network.watch() as seen, httpx.Client(trust_env=False) as client:
        client.post(outside.url, content="through httpx")
    [attempt] = seen.outside
    assert attempt.through[0] == "httpx" and "httpcore" in attempt.through
    assert "test_network.py" in attempt.where and "through httpx" in str(attempt)


def test_where_there_is_no_code_of_ones_own_the_package_is_named(outside, tmp_path):
    package = tmp_path / "site-packages" / "telemetry" / "ping.py"
    package.parent.mkdir(parents=True)
    package.write_text(
        "import socket\n\ndef ping(address):\n    socket.create_connection(address)\n"
    )
    code = compile(package.read_text(), str(package), "exec")
    names: dict = {}
    exec(code, names)
    with network.watch() as seen:
        thread = threading.Thread(target=names["ping"], args=[(outside.host, outside.port)])
        thread.start()
        thread.join()
    [attempt] = seen.attempts
    assert attempt.through == ("telemetry",)
    assert attempt.where == "telemetry, telemetry/ping.py:4, in ping"


def test_a_sites_own_wrapper_is_not_the_caller(outside):
    source = "def checked(call, *arguments):\n    call(*arguments)\n"
    names: dict = {}
    exec(compile(source, os.path.join("offline", "sitecustomize.py"), "exec"), names)
    with network.watch() as seen:
        names["checked"](post, outside, "wrapped")
        with socket.create_connection((outside.host, outside.port)) as plain:
            names["checked"](plain.sendall, b"GET / HTTP/1.0\r\n\r\n")
            plain.recv(100)
        with pytest.raises(OSError), socket.socket() as plain:
            names["checked"](plain.connect, (outside.host, 1))
    assert "in post" in seen.attempts[0].where
    assert all(one.where.startswith("isolation/test_network.py") for one in seen.attempts)


def test_an_engine_and_transformers_stay_on_this_machine():
    import openmodels
    from openmodels.gguf.export import gguf_file
    from openmodels.serving.engine import Engine

    with network.watch(block=True) as seen:
        model, tokenizer = openmodels.load("mini-qwen")
        prompt = tokenizer("Who runs the bakery?", return_tensors="pt")
        model.generate(**prompt, max_new_tokens=2, do_sample=False)
        assert seen.attempts == []
        with Engine(gguf_file("mini-qwen"), threads=1) as engine:
            assert engine.complete("Who runs", n_predict=2)["content"]
    assert {(attempt.kind, attempt.host) for attempt in seen.attempts} == {("connect", "127.0.0.1")}


# --- What the watch misses ------------------------------------------------------------------------


def test_it_misses_c_code(outside):
    with network.watch(block=True) as seen:
        network.connect_with_ctypes(outside.host, outside.port, b"unheard")
    assert outside.heard == ["unheard"] and seen.attempts == []


def test_it_misses_other_processes(outside):
    code = POST.format(host=outside.host, port=outside.port)
    with network.watch(block=True) as seen:
        subprocess.run(python(code), check=True)
    assert outside.heard == ["child"] and seen.attempts == []


def test_it_misses_what_was_connected_before(outside):
    family = socket.AF_INET6 if ":" in outside.host else socket.AF_INET
    with socket.socket(family) as plain:
        plain.connect((outside.host, outside.port))
        with network.watch(block=True) as seen:
            plain.sendall(b"GET /an-old-friend HTTP/1.0\r\n\r\n")
        plain.recv(100)
    assert outside.heard == ["/an-old-friend"] and seen.attempts == []


def test_the_way_below_python_leads_to_loopback_only():
    with pytest.raises(ValueError, match="no loopback"):
        network.connect_with_ctypes("192.0.2.7", 80, b"x")


def test_below_python_says_that_nobody_listens(outside):
    outside.close()
    with pytest.raises(ConnectionRefusedError):
        network.connect_with_ctypes(outside.host, outside.port, b"x")


# --- The sealed room ------------------------------------------------------------------------------


def test_a_command_runs_and_its_end_is_told(room):
    assert network.run_without_network(python("print('done')")) == network.RunResult("ok", "done\n")
    failed = network.run_without_network(python("raise SystemExit('no ' + input())"))
    assert failed.state == "error" and "EOFError" in failed.output and not failed.ok


def test_only_loopback_is_there_and_it_works(room):
    code = "import socket; print(socket.if_nameindex())"
    assert network.run_without_network(python(code)).output == "[(1, 'lo')]\n"
    own = "from openmodels.isolation import network\nwith network.FakeRemote() as o:\n"
    own += "    network.connect_with_ctypes(o.host, o.port, b'inside')\n    print(o.heard)"
    assert in_room(own).output == "['inside']\n"


def test_it_stops_python_c_code_and_children(room, outside):
    child = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {below(outside, 'c')!r}])"
    )
    for code in (POST.format(host=outside.host, port=outside.port), below(outside, "b"), child):
        assert "ConnectionRefusedError" in in_room(code).output  # another loopback, and it is empty
    assert outside.heard == []
    subprocess.run(python(below(outside, "b")), check=True)
    assert outside.heard == ["b"]


def test_this_machines_own_ports_are_out_of_reach_too(room):
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection({server.getsockname()})"
        assert "ConnectionRefusedError" in network.run_without_network(python(code)).output


def test_it_has_none_of_roots_powers_and_the_same_name(room):
    code = "import os; print(os.getuid(), [l.split()[1] for l in open('/proc/self/status')"
    code += " if l.startswith(('CapEff', 'CapPrm', 'NoNewPrivs'))])"
    zeros = "0" * 16
    assert (
        network.run_without_network(python(code)).output == f"{os.getuid()} {[zeros, zeros, '1']}\n"
    )


def test_a_command_cannot_get_out_by_entering_the_old_namespace(room):
    code = "import ctypes, os; c = ctypes.CDLL(None, use_errno=True)\n"
    code += f"print(c.setns(os.open('/proc/{os.getpid()}/ns/net', os.O_RDONLY), 0))"
    ran = network.run_without_network(python(code))
    assert ran.output == "-1\n" or "PermissionError" in ran.output


def test_limits(room):
    slow = network.run_without_network(
        python("import time; print('began', flush=True); time.sleep(60)"), 0.5
    )
    assert slow == network.RunResult("time limit", "began\n")
    full = network.run_without_network(python("bytearray(2_000_000_000)"), memory_mb=1000)
    assert full.state == "error" and "MemoryError" in full.output
    long = network.run_without_network(python("print('x' * 50_000 + 'end')"))
    assert len(long.output) == network.LONGEST_OUTPUT and long.output.endswith("xend\n")


def test_the_environment_is_the_one_given(room):
    code = "import os; print(os.environ.get('TIDE'))"
    assert (
        network.run_without_network(python(code), environment={"TIDE": "high"}).output == "high\n"
    )
    assert network.run_without_network(python(code), environment={}).output == "None\n"


def test_a_command_that_is_not_there(room, tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-command"):
        network.run_without_network(["no-such-command"])
    (tmp_path / "text").write_text("no program")
    with pytest.raises(PermissionError):
        network.run_without_network([str(tmp_path / "text")])


@pytest.mark.parametrize("command", ["echo hello", [], ""])
def test_a_command_is_a_list(command):
    with pytest.raises(ValueError, match="list of words"):
        network.run_without_network(command)


def test_it_misses_unix_sockets_with_a_path(room, tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r})"
        assert network.run_without_network(python(code + "; s.sendall(b'out')")).ok
        assert server.accept()[0].recv(10) == b"out"


def test_elsewhere_than_on_linux_it_says_so_and_runs_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(network.CannotSeal, match="Linux.*Nothing was run"):
        network.run_without_network(["touch", str(tmp_path / "ran")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the room is Linux's")
def test_a_room_that_was_never_ready_is_no_room(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(network.CannotSeal, match="ended early.*Nothing was run"):
        network.run_without_network(["touch", str(tmp_path / "ran")])
    assert list(tmp_path.iterdir()) == []


FULL = """
import os, sys
from openmodels.isolation import network
user, group = os.getuid(), os.getgid()
assert network._libc().unshare(network.NEW_USER) == 0
network._keep_identity(user, group)
open("/proc/sys/user/max_user_namespaces", "w").write("0")
try:
    network.run_without_network(["touch", sys.argv[1]])
except network.CannotSeal as reason:
    print(reason)
"""


def test_where_namespaces_are_not_allowed_it_says_why_and_runs_nothing(room, tmp_path):
    ran = subprocess.run(
        [*python(FULL), str(tmp_path / "ran")], capture_output=True, text=True, check=True
    )
    assert "max_user_namespaces" in ran.stdout and "Nothing was run" in ran.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("step", "number", "says"),
    [
        ("namespace", 1, "container's rules"),
        ("identity", 1, "AppArmor"),
        ("identity", 39, r"eth0 is up \(identity\)"),
    ],
)
def test_reasons(step, number, says):
    with pytest.raises(network.CannotSeal, match=says):
        network._raise_failure(step, number, "eth0 is up")


# --- The outside world ----------------------------------------------------------------------------


def test_bad_callers_do_not_end_the_world(outside):
    family = socket.AF_INET6 if ":" in outside.host else socket.AF_INET
    for text in (b"", b"POST / HTTP/1.0\r\nContent-Length: many\r\n\r\n", b"\xff\r\n\r\n"):
        with socket.socket(family) as plain:
            plain.connect((outside.host, outside.port))
            plain.sendall(text)
            plain.shutdown(socket.SHUT_WR)
            plain.recv(100)
    post(outside, "still here")
    assert outside.heard[-1] == "still here"


def test_it_is_gone_after_closing(outside):
    outside.close()
    outside.close()
    with pytest.raises(ConnectionRefusedError):
        post(outside, "x")


def test_a_system_without_a_second_address(monkeypatch):
    monkeypatch.setattr(network, "SECOND_ADDRESSES", ("192.0.2.7",))  # bound to, never sent to
    with pytest.raises(OSError, match="no second loopback address"):
        network.FakeRemote()


def test_the_second_choice_works_as_the_first(monkeypatch):
    monkeypatch.setattr(network, "SECOND_ADDRESSES", ("192.0.2.7", "::1"))
    try:
        outside = network.FakeRemote()
    except OSError:
        pytest.skip("no IPv6 here")
    with outside:
        network.connect_with_ctypes(outside.host, outside.port, b"six")
        post(outside, "seven")
        assert outside.heard == ["six", "seven"] and outside.url.startswith("http://[::1]:")
        with network.watch(block=True), pytest.raises(network.ConnectionBlocked, match=r"\[::1\]"):
            post(outside, "eight")
