"""Which errors of an HTTP client prove that a gateway received nothing: a wrong proof charges a second time."""

import contextlib
import socket
import struct
import threading
import time

import httpx2
import pytest

from payments.gateways import loop, transport
from payments.gateways.transport import Answer, NoAnswer, NotSent, Transport
from tests.claiming import wait_for

#: Raised before a connection exists. A change of this set changes which charges are sent again.
NOTHING_SENT = {httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol}


def all_errors(base=httpx2.HTTPError):
    for each in base.__subclasses__():
        yield each
        yield from all_errors(each)


class Failing(httpx2.AsyncBaseTransport):
    """Raises an error where the library's own transport would."""

    def __init__(self, error):
        self.error = error

    async def handle_async_request(self, request):
        raise self.error


def error_of(kind):
    if issubclass(kind, httpx2.HTTPStatusError):
        return kind("failed", request=httpx2.Request("GET", "http://g"), response=httpx2.Response(500))
    return kind("failed")


def send(sender, url="http://gateway.test/", *, deadline=10.0, **request):
    async def sending():
        return await sender.send("POST", url, deadline=deadline, headers={"X-Test": "1"}, **request)

    return wait_for(sending())


def error_from(sender, *arguments, **request):
    """The exception with which sending ends: a test asserts its class, and so fails by that assertion."""
    with pytest.raises((NotSent, NoAnswer)) as raised:
        send(sender, *arguments, **request)
    return raised.value


@pytest.fixture
def sender():
    made = Transport()
    yield made
    wait_for(made._client.aclose())


@pytest.mark.parametrize("kind", sorted(set(all_errors()), key=lambda kind: kind.__name__))
def test_no_error_but_those_before_a_connection_counts_as_not_sent(sender, kind):
    sender._client = httpx2.AsyncClient(transport=Failing(error_of(kind)))
    error = error_from(sender)
    assert type(error) is (NotSent if kind in NOTHING_SENT else NoAnswer)
    assert str(error) == f"{kind.__name__}: failed"


@pytest.mark.parametrize("error", [OSError("failed"), ConnectionResetError("failed"), BrokenPipeError("failed")])
def test_an_error_of_the_operating_system_never_counts_as_not_sent(sender, error):
    sender._client = httpx2.AsyncClient(transport=Failing(error))
    assert type(error_from(sender)) is NoAnswer


def test_a_defect_is_neither(sender):
    """Neither NotSent nor NoAnswer: it is raised as it is, and its payment is looked up."""
    sender._client = httpx2.AsyncClient(transport=Failing(KeyError("defect")))
    with pytest.raises(KeyError):
        send(sender)


class Server:
    """A gateway that accepts connections and does as a test says with each."""

    def __init__(self, behave):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.behave = behave
        self.received = b""
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self.listener.accept()
                with connection, contextlib.suppress(OSError):
                    self.behave(self, connection)

    def read_some(self, connection):
        self.received += connection.recv(65536)

    def read_all(self, connection):
        while not self.received.endswith(b"}"):
            self.read_some(connection)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture
def serve():
    servers = []

    def start(behave):
        servers.append(Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def read_part_and_reset(server, connection):
    server.read_some(connection)
    reset(connection)


def read_part_and_close(server, connection):
    server.read_some(connection)


@pytest.mark.parametrize("behave", [read_part_and_reset, read_part_and_close])
def test_a_request_of_which_a_part_was_read_never_counts_as_not_sent(sender, serve, behave):
    """The body is larger than all buffers: the server has a part of it, and the client cannot write the rest."""
    server = serve(behave)
    assert type(error_from(sender, server.url, json={"amount": 1000, "padding": "x" * 16_000_000})) is NoAnswer
    assert b'"amount"' in server.received or b"POST / HTTP/1.1" in server.received


def answer_with(text):
    def behave(server, connection):
        server.read_all(connection)
        connection.sendall(text)

    return behave


def test_a_whole_request_without_an_answer_never_counts_as_not_sent(sender, serve):
    server = serve(answer_with(b""))
    assert type(error_from(sender, server.url, json={"amount": 1000})) is NoAnswer
    assert b'{"amount":1000}' in server.received


def test_half_an_answer_is_no_answer(sender, serve):
    server = serve(answer_with(b"HTTP/1.1 402 Payment Required\r\nContent-Length: 100\r\n\r\n{"))
    assert type(error_from(sender, server.url, json={})) is NoAnswer


def test_a_refused_connection_counts_as_not_sent(sender):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotSent, match="ConnectError"):
        send(sender, f"http://127.0.0.1:{port}/")


def test_an_answer_that_does_not_come_in_time_is_no_answer_and_never_not_sent(sender, serve):
    ended = threading.Event()

    def behave(server, connection):
        server.read_all(connection)
        ended.wait(60)

    server = serve(behave)
    began = time.monotonic()
    with pytest.raises(NoAnswer, match=r"no whole answer within 0\.2 s"):
        send(sender, server.url, json={}, deadline=0.2)
    assert time.monotonic() - began >= 0.2
    ended.set()


def test_the_deadline_bounds_the_body_of_an_answer_too(sender, serve):
    ended = threading.Event()

    def behave(server, connection):
        server.read_all(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
        ended.wait(60)

    server = serve(behave)
    with pytest.raises(NoAnswer, match="within"):
        send(sender, server.url, json={}, deadline=0.2)
    ended.set()


def answer_of(length):
    return answer_with(b"HTTP/1.1 200 OK\r\nX-Kind: Test\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length)


def test_an_answer_of_the_largest_size_is_read_whole_with_lower_cased_headers(sender, serve):
    server = serve(answer_of(transport.MAX_ANSWER_BYTES))
    answer = send(sender, server.url, json={}, params={"mode": "test"})
    assert answer.status_code == 200
    assert answer.body == b"x" * transport.MAX_ANSWER_BYTES
    assert answer.headers["x-kind"] == "Test"
    assert b"POST /?mode=test HTTP/1.1" in server.received
    assert b"x-test: 1" in server.received.lower()
    assert b"accept-encoding: identity\r\n" in server.received.lower()


def test_an_answer_that_is_one_byte_larger_is_no_answer(sender, serve):
    server = serve(answer_of(transport.MAX_ANSWER_BYTES + 1))
    with pytest.raises(NoAnswer, match=f"more than {256 * 1024} bytes"):
        send(sender, server.url, json={})


def test_a_redirect_is_never_followed(sender, serve):
    """It would send a charge to another address."""
    server = serve(answer_with(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"))
    assert send(sender, server.url, json={}).status_code == 307
    assert b"/other" not in server.received


def test_no_proxy_of_the_environment_sees_a_charge(monkeypatch, serve):
    proxy = serve(answer_of(1))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    made = Transport()
    with pytest.raises(NotSent):
        send(made, "http://localhost:9/", json={})
    assert not proxy.received
    wait_for(made._client.aclose())


def test_an_error_is_described_by_its_kind_and_a_short_message():
    assert transport.describe(ValueError("x" * 500)) == "ValueError: " + "x" * 188
    assert transport.describe(ValueError()) == "ValueError"


def test_an_answer_without_headers_has_none():
    assert Answer(200, b"").headers == {}


def test_connecting_has_a_time_limit_of_its_own_and_no_call_waits_for_a_connection(sender):
    """Reading and writing end with the deadline: a limit of theirs would end a call that still has time."""
    assert sender._client.timeout == httpx2.Timeout(None, connect=transport.CONNECT_TIMEOUT)
    assert 1 <= transport.CONNECT_TIMEOUT <= 10
    pool = sender._client._transport._pool
    assert pool._max_connections == transport.MAX_CONNECTIONS > loop.MOST_CALLS
    assert pool._max_keepalive_connections == transport.MAX_IDLE_CONNECTIONS > 0
