"""What a server sends beyond reason is not read, by any client alike. Webhooks: see test_webhook_caller.py."""

import asyncio
import gzip

import httpcore2
import pytest

from messaging import capped_http
from messaging.capped_http import MAX_HEAD_BYTES, MAX_HEAD_LINES, MAX_INFORMATIONAL_RESPONSES, CappedStream
from notifications import mail
from notifications.outcomes import Delivered, Failed
from notifications.sms.twilio import TwilioSms
from payments.gateways.transport import NoAnswer, Transport
from tests.notices import notice
from tests.strangers import Authority, Detour, Stranger, answering

#: Seconds; no call that is tested here uses it up.
DEADLINE = 60.0
#: Far above what is read; the rest lies in the buffers of both ends' kernels.
BUFFERED = 40 * 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
INFORMATIONAL = b"HTTP/1.1 103 Early Hints\r\n\r\n"


def flooding(head, piece):
    """Behaviour: 10 GB of pieces, as long as the client takes them."""

    def behave(connection, server):
        connection.sendall(head)
        block = piece * (1024 * 1024 // len(piece))
        server.sent = 0
        while server.sent < 10 * 1024**3:
            server.sent += connection.send(block)

    return behave


FLOODS = {
    "informational responses": (b"", INFORMATIONAL),
    "short informational responses": (b"", b"HTTP/1.1 100 \n\n"),
    "header lines": (HEAD, b"a:\r\n"),
    "one header": (HEAD + b"X: ", b"x"),
    "empty lines": (b"", b"\r\n"),
    "a body with its length": (HEAD + b"Content-Length: 10737418240\r\n\r\n", b"x"),
    "a body without": (HEAD + b"\r\n", b"x"),
    "chunks of one byte": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a chunk extension": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"extension"),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"Trailer: value\r\n"),
}


@pytest.fixture
def serve():
    """Start servers, and end them."""
    servers = []

    def serve(behave, **options):
        servers.append(Stranger(behave, **options))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


def call_gateway(port):
    """What becomes of a charge."""

    async def call():
        transport = Transport()
        try:
            sent = transport.send("POST", f"http://127.0.0.1:{port}/", deadline=DEADLINE, headers={}, json={})
            return await sent
        finally:
            await transport._client.aclose()

    try:
        return asyncio.run(call())
    except NoAnswer as error:
        return error


def send_sms(port):
    return TwilioSms(
        account_sid="AC1", auth_token="t", sender="Shop", url=f"http://127.0.0.1:{port}", deadline=DEADLINE
    ).send(to="+4915123456789", text="x")


def send_mail(port, settings):
    settings.EMAIL_BACKEND = "anymail.backends.postmark.EmailBackend"
    settings.ANYMAIL = {
        "POSTMARK_SERVER_TOKEN": "t", "POSTMARK_API_URL": f"http://127.0.0.1:{port}/", "REQUESTS_TIMEOUT": DEADLINE,
    }  # fmt: skip
    return mail.send(notice(), to="pat@payer.example")


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("client", ["gateway", "sms", "mail"])
def test_a_response_that_does_not_end_is_not_read_for_long(serve, settings, client, flood):
    server = serve(flooding(*FLOODS[flood]))
    result = {
        "gateway": lambda: call_gateway(server.port),
        "sms": lambda: send_sms(server.port),
        "mail": lambda: send_mail(server.port, settings),
    }[client]()
    assert isinstance(result, NoAnswer | Failed)
    assert "within" not in str(result), "the deadline ended it, and until then it occupied the loop"
    server.close()
    assert server.sent < BUFFERED


@pytest.mark.parametrize("flood", ["informational responses", "header lines", "a body without"])
def test_the_limits_hold_over_tls(serve, tmp_path, flood):
    authority = Authority(tmp_path)
    server = serve(flooding(*FLOODS[flood]), context=authority.server("gateway.example"))

    async def call():
        transport = Transport(network=Detour(server.port), ssl_context=authority.client())
        await transport.send("POST", "https://gateway.example/", deadline=DEADLINE, headers={}, json={})

    with pytest.raises(NoAnswer, match=r"more (than|pieces)"):
        asyncio.run(call())


@pytest.mark.parametrize("client", ["gateway", "sms", "mail"])
def test_a_compressed_body_is_not_unpacked(serve, settings, client):
    body = gzip.compress(b"[" * 50_000_000)
    server = serve(answering(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    result = {
        "gateway": lambda: call_gateway(server.port),
        "sms": lambda: send_sms(server.port),
        "mail": lambda: send_mail(server.port, settings),
    }[client]()
    assert isinstance(result, Failed) or result.body == body


def test_a_mail_provider_that_takes_a_message_has_taken_it(serve, settings):
    taken = b'{"ErrorCode": 0, "Message": "OK", "MessageID": "m-1", "To": "pat@payer.example"}'
    server = serve(answering(INFORMATIONAL + HEAD + b"Content-Length: %d\r\n\r\n" % len(taken) + taken))
    assert send_mail(server.port, settings) == Delivered(reference="m-1")
    head, body = server.requests.get(timeout=10)
    assert b"X-Postmark-Server-Token: t" in head
    assert b"pat@payer.example" in body


def test_as_many_informational_responses_as_the_limit_are_no_fault(serve):
    server = serve(answering(INFORMATIONAL * MAX_INFORMATIONAL_RESPONSES + HEAD + b"Content-Length: 2\r\n\r\n{}"))
    assert call_gateway(server.port).body == b"{}"


def test_each_response_over_one_connection_has_limits_of_its_own(serve):
    """Otherwise a gateway's connection would end after so many charges."""
    number = MAX_INFORMATIONAL_RESPONSES * 3

    def behave(connection, server):
        for _ in range(number):
            connection.sendall(INFORMATIONAL + HEAD + b"Content-Length: 2\r\n\r\n{}")
            data = b""
            while b"\r\n\r\n{}" not in data:
                data += connection.recv(65536) or b"\r\n\r\n{}"

    server = serve(behave)

    async def scene():
        transport = Transport()
        for _ in range(number):
            url = f"http://127.0.0.1:{server.port}/"
            await transport.send("POST", url, deadline=DEADLINE, headers={}, json={})
        await transport._client.aclose()

    asyncio.run(scene())
    assert server.connections == 1


# --- the counting


class Wire(httpcore2.AsyncNetworkStream):
    """Bytes that come in the pieces that a test chooses."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    async def read(self, max_bytes, timeout=None):  # noqa: ASYNC109 -- the interface's
        return self.pieces.pop(0) if self.pieces else b""


def read_all(*pieces, max_bytes=10**9):
    stream = CappedStream(Wire(*pieces), max_bytes=max_bytes)

    async def read():
        while await stream.read(65536):
            pass

    asyncio.run(read())


def in_bytes(data):
    return [data[place : place + 1] for place in range(len(data))]


@pytest.mark.parametrize("cut", [lambda data: [data], in_bytes], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(
    ("most", "one_more"),
    [
        (INFORMATIONAL * MAX_INFORMATIONAL_RESPONSES + HEAD + b"\r\n", INFORMATIONAL),
        (b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * (MAX_HEAD_LINES - 2) + b"\r\n", b"HTTP/1.1 100 \r\n"),
        (HEAD + b"X: " + b"x" * (MAX_HEAD_BYTES - len(HEAD) - 7) + b"\r\n\r\n", b"HTTP/1.1 1\n\n"),
    ],
    ids=["responses", "lines", "bytes"],
)
def test_heads_are_counted_wherever_the_wire_cuts_them(cut, most, one_more):
    body = b"HTTP/1.1 100 C\r\n\r\n" * 5000  # counts for nothing: it is a body
    read_all(*cut(most), body)
    with pytest.raises(capped_http.ResponseTooLarge):
        read_all(*cut(one_more + most), body)


def test_all_bytes_of_a_response_are_counted():
    read_all(HEAD + b"\r\n", b"x" * 10, max_bytes=len(HEAD) + 12)
    with pytest.raises(capped_http.ResponseTooLarge):
        read_all(HEAD + b"\r\n", b"x" * 11, max_bytes=len(HEAD) + 12)


def test_other_calls_get_their_turn_at_each_step_of_reading():
    """TLS returns what it has decrypted without a pause, and so does this wire."""
    pieces = 50
    turns = 0

    async def read():
        stream = CappedStream(Wire(*[b"x"] * pieces), max_bytes=10**9)
        while await stream.read(65536):
            pass

    async def scene():
        nonlocal turns
        reading = asyncio.ensure_future(read())
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)

    asyncio.run(scene())
    assert turns >= pieces
