"""What a stranger's server may do to a call of ours: nothing that outlives its deadline or reaches another call."""

import asyncio
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from structlog.testing import capture_logs

from notifications.outcomes import Delivered, Failed
from notifications.webhooks.answers import retry_after
from notifications.webhooks.caller import MAX_ADDRESSES, Caller, shared_caller
from tests.strangers import Authority, Detour, Names, Stranger, answering, read_request, reset

PUBLIC = "93.184.215.14"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
#: Far above what is read, far below what would fill a machine; the rest lies in buffers of both ends' kernels.
BUFFERED = 40 * 1024 * 1024


@pytest.fixture
def serve():
    """Starts strangers, and ends them."""
    strangers = []

    def serve(behave=None, **options):
        strangers.append(Stranger(behave, **options))
        return strangers[-1]

    yield serve
    for stranger in strangers:
        stranger.close()


@pytest.fixture
def make_caller():
    """Makes callers by a developer's rules, unless told otherwise, and ends them."""
    callers = []

    def make_caller(**options):
        callers.append(Caller(**{"private": True, **options}))
        return callers[-1]

    yield make_caller
    for caller in callers:
        caller.close()


@pytest.fixture
def caller(make_caller):
    return make_caller()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def status(code, *headers):
    lines = [f"HTTP/1.1 {code} Whatever", "Content-Length: 0", *headers, "", ""]
    return answering("\r\n".join(lines).encode())


def call(caller, stranger, **options):
    return caller.call_now(stranger.url, headers={"webhook-id": "e-1"}, body=b'{"a":1}', **options)


# --- What is sent -----------------------------------------------------------------------


def test_nothing_of_the_request_is_lost_or_added(caller, serve):
    stranger = serve()
    result = caller.call_now(f"{stranger.url}?a=%20b&c", headers={"webhook-id": "e-1"}, body=b'{"a":1}')
    assert result == Delivered(status_code=200, excerpt="ok")
    head, body = stranger.requests.get(timeout=10)
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /hook?a=%20b&c http/1.1"
    assert sorted(lines[1:]) == sorted(
        [
            f"host: 127.0.0.1:{stranger.port}",
            "webhook-id: e-1",
            "accept-encoding: identity",
            "connection: close",
            "content-length: 7",
        ]
    )
    assert body == b'{"a":1}'


def test_the_address_does_not_stand_in_for_the_name(make_caller, serve, authority):
    asked = []
    context = authority.server("hooks.example.com")
    context.sni_callback = lambda _, name, __: asked.append(name)
    stranger = serve(context=context)
    detour = Detour(stranger.port)
    caller = make_caller(private=False, resolve=Names([PUBLIC]), network=detour, context=authority.client())
    result = caller.call_now("https://Hooks.Example.com/hook", headers={}, body=b"{}")
    assert isinstance(result, Delivered)
    head, _ = stranger.requests.get(timeout=10)
    assert b"\r\nHost: hooks.example.com\r\n" in head
    assert asked == ["hooks.example.com"]
    assert detour.asked == [(PUBLIC, 443)]


def test_no_connection_is_kept_for_another_host_of_the_same_address(make_caller, serve):
    def keep_alive(connection, stranger):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\nSet-Cookie: a=b\r\n\r\n")
        stranger.requests.put(read_request(connection))  # a second one, if it came

    stranger = serve(keep_alive)
    caller = make_caller(resolve=Names(["127.0.0.1"]))
    for name in ("one.example.com", "two.example.com", "one.example.com"):
        result = caller.call_now(f"http://{name}:{stranger.port}/", headers={}, body=b"{}")
        assert isinstance(result, Delivered)
    assert stranger.connections == 3
    heads = [stranger.requests.get(timeout=10)[0] for _ in range(3)]
    assert [name in head for name, head in zip([b"one.", b"two.", b"one."], heads, strict=True)] == [True] * 3
    assert not any(b"cookie" in head.lower() for head in heads)
    stranger.close()
    assert stranger.requests.empty()


def test_no_proxy_of_the_environment_is_heeded(monkeypatch, make_caller, serve):
    proxy, stranger = serve(), serve()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{proxy.port}")
    assert isinstance(call(make_caller(), stranger), Delivered)
    assert (proxy.connections, stranger.connections) == (0, 1)


def test_the_next_address_is_not_left_out_when_one_is_dead(make_caller, serve):
    stranger = serve()
    detour = Detour(stranger.port, unreachable={"8.8.8.8", "8.8.4.4"})
    caller = make_caller(resolve=Names(["8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1"]), network=detour)
    assert isinstance(caller.call_now("http://hooks.example.com/", headers={}, body=b""), Delivered)
    assert [host for host, _ in detour.asked] == ["8.8.8.8", "8.8.4.4", "1.1.1.1"]


def test_a_host_of_many_dead_addresses_is_not_tried_for_ever(make_caller):
    addresses = [f"8.8.8.{last}" for last in range(1, 99)]
    detour = Detour(1, unreachable=set(addresses))
    caller = make_caller(resolve=Names(addresses), network=detour)
    result = caller.call_now("http://hooks.example.com/", headers={}, body=b"")
    assert result == Failed(detail="it could not be reached")
    assert len(detour.asked) == MAX_ADDRESSES


def test_an_answer_that_was_not_understood_is_not_asked_for_again_elsewhere(make_caller, serve):
    stranger = serve(reset)
    detour = Detour(stranger.port)
    caller = make_caller(resolve=Names(["8.8.8.8", "1.1.1.1"]), network=detour)
    assert isinstance(caller.call_now("http://hooks.example.com/", headers={}, body=b""), Failed)
    assert len(detour.asked) == 1


def test_the_systems_resolver_is_not_forgotten(caller, serve):
    stranger = serve()
    assert isinstance(caller.call_now(f"http://localhost:{stranger.port}/", headers={}, body=b""), Delivered)


def test_a_name_without_an_address_is_no_defect(caller):
    result = caller.call_now("https://no-such-host.invalid/", headers={}, body=b"")
    assert result == Failed(detail="the name of its host could not be resolved")


# --- What comes back --------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 201, 202, 204, 226, 299])
def test_no_success_is_taken_for_a_failure(caller, serve, code):
    assert call(caller, serve(status(code))) == Delivered(status_code=code)


@pytest.mark.parametrize("code", [300, 304, 400, 401, 404, 409, 418, 500, 502, 504, 599, 600, 999])
def test_no_other_status_is_taken_for_success(caller, serve, code):
    result = call(caller, serve(status(code)))
    assert isinstance(result, Failed)
    assert (result.status_code, result.final, result.gone, result.retry_after) == (code, False, False, None)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(caller, serve, code):
    elsewhere = serve()
    result = call(caller, serve(status(code, f"Location: {elsewhere.url}")))
    assert isinstance(result, Failed)
    assert "redirect, which is never followed" in result.detail
    assert elsewhere.connections == 0


def test_who_is_gone_is_not_called_again(caller, serve):
    result = call(caller, serve(status(410)))
    assert isinstance(result, Failed)
    assert (result.final, result.gone) == (True, True)


@pytest.mark.parametrize("code", [429, 503])
def test_a_wish_for_patience_is_not_overlooked(caller, serve, code):
    assert call(caller, serve(status(code, "Retry-After: 120"))).retry_after == 120.0
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3000 < call(caller, serve(status(code, f"Retry-After: {later}"))).retry_after <= 3600


def test_a_wish_for_patience_counts_for_nothing_with_other_statuses(caller, serve):
    assert call(caller, serve(status(500, "Retry-After: 120"))).retry_after is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 7 ", 7.0),
        ("86400", 86400.0),
        ("86401", 86400.0),
        ("9" * 20, 86400.0),
        ("9" * 21, None),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Saturday, 21-Nov-26 12:00:30 GMT", 30.0),
        ("Sat Nov 21 12:00:30 2026", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("Sat, 21 Nov 2099 12:00:00 GMT", 86400.0),
        ("Sat, 99 Nov 2026 12:00:00 GMT", None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("NaN", None),
        ("inf", None),
        ("٣", None),
        ("soon", None),
    ],
    ids=repr,
)
def test_no_nonsense_sets_the_time_of_the_next_attempt(value, seconds):
    assert retry_after(value, now=datetime(2026, 11, 21, 12, tzinfo=UTC)) == seconds


def test_an_excerpt_of_a_failure_is_kept_without_its_secrets(caller, serve):
    answer = b"HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\n\r\nbad key sk_live_abc\0 of joe@example.com"
    result = call(caller, serve(answering(answer)))
    assert result.excerpt == "bad key [redacted]� of ***@example.com"


def test_search_domains_of_ours_do_not_complete_the_names_of_strangers(monkeypatch, make_caller):
    asked = []

    def no_such_name(name, *_, **__):
        asked.append(name)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    make_caller(private=False).call_now("https://hooks.example.com/", headers={}, body=b"")
    assert asked == ["hooks.example.com."]


def test_a_compressed_answer_is_not_unpacked(caller, serve):
    answer = HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
    assert call(caller, serve(answering(answer))) == Delivered(status_code=200, excerpt="abc")


# --- Answers that never end, or are none --------------------------------------------------


def flooding(head, piece):
    """Behaviour: 10 GB of pieces, as long as somebody takes them."""

    def behave(connection, stranger):
        connection.sendall(head)
        block = piece * (1024 * 1024 // len(piece))
        stranger.sent = 0
        while stranger.sent < 10 * 1024**3:
            stranger.sent += connection.send(block)

    return behave


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (HEAD + b"Content-Length: 10737418240\r\n\r\n", b"x"),
        (HEAD + b"\r\n", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["with its length", "to the end of the connection", "in chunks", "in chunks of one byte"],
)
def test_an_answer_of_10_gb_has_been_taken_and_is_not_read(caller, serve, head, piece):
    stranger = serve(flooding(head, piece))
    result = call(caller, stranger, deadline=60)
    assert isinstance(result, Delivered)
    assert len(result.excerpt) <= 1000
    stranger.close()
    assert stranger.sent < BUFFERED


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (HEAD, b"X-Header: value\r\n"),
        (HEAD, b"x"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 1000 + b"\r\n\r\n"),
        (b"", b"x"),
        (b"", b"\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"extension"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"Trailer: value\r\n"),
    ],
    ids=["headers", "a header", "hints", "interims", "garbage", "empty lines", "an extension", "trailers"],
)
def test_no_flood_around_an_answer_is_read_for_long(caller, serve, head, piece):
    stranger = serve(flooding(head, piece))
    assert isinstance(call(caller, stranger, deadline=60), Failed)
    stranger.close()
    assert stranger.sent < BUFFERED


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\nX-Hea", HEAD + b"Content-Length: 99\r\n\r\n", HEAD + b"\r\n"],
    ids=["nothing", "half a head", "a body with its length", "a body without"],
)
def test_a_drip_does_not_hold_a_call_beyond_its_deadline(caller, serve, start):
    def drip(connection, stranger):
        connection.sendall(start)
        while start and not stranger.released.wait(0.01):
            connection.sendall(b"x")
        stranger.released.wait()

    result = call(caller, serve(drip), deadline=0.3)
    assert result == Failed(detail="no whole answer within 0.3 s")


def test_a_resolver_that_never_answers_does_not_hold_a_call_beyond_its_deadline(make_caller):
    async def never(host, port):
        await asyncio.Event().wait()

    result = make_caller(resolve=never).call_now("http://hooks.example.com/", headers={}, body=b"", deadline=0.1)
    assert result == Failed(detail="no whole answer within 0.1 s")


def test_silent_name_servers_do_not_hold_up_other_calls(make_caller, serve, monkeypatch, settings):
    ask, over = socket.getaddrinfo, threading.Event()

    def ask_some(name, *arguments, **options):
        if name == "silent.example":
            over.wait(60)
            raise socket.gaierror
        return ask("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", ask_some)
    caller, stranger = make_caller(), serve()
    for _ in range(settings.WEBHOOKS_IN_FLIGHT - 1):
        caller.submit("http://silent.example/", headers={}, body=b"")
    try:
        result = caller.call_now(f"http://quick.example:{stranger.port}/", headers={}, body=b"", deadline=10)
    finally:
        over.set()
    assert isinstance(result, Delivered)


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 2", HEAD + b"Content-Length: 99\r\n\r\nabc"], ids=["before", "head", "body"]
)
@pytest.mark.parametrize("end", [reset, lambda *_: None], ids=["reset", "closed"])
def test_a_broken_answer_is_not_taken_for_a_whole_one(caller, serve, start, end):
    def behave(connection, stranger):
        connection.sendall(start)
        end(connection, stranger)

    result = call(caller, serve(behave))
    assert isinstance(result, Failed)
    assert result.status_code is None
    assert "it broke off before its whole answer" in result.detail or "its body is cut short" in result.detail


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"220 mail.example.com ESMTP\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
    ],
    ids=["ssh", "mail", "tls", "switch", "word", "short", "negative", "two lengths", "chunk", "colon", "nul"],
)
def test_what_is_no_http_is_not_taken_for_an_answer(caller, serve, answer):
    result = call(caller, serve(answering(answer)))
    assert isinstance(result, Failed)
    assert result.detail.startswith("its answer is not HTTP/1.1")


def test_a_port_where_nobody_listens_is_no_defect(caller):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = caller.call_now(f"http://127.0.0.1:{port}/", headers={}, body=b"")
    assert result == Failed(detail="it could not be reached")


# --- TLS ----------------------------------------------------------------------------------


def call_tls(make_caller, stranger, context):
    """By the rules of production, to https://hooks.example.com."""
    caller = make_caller(private=False, resolve=Names([PUBLIC]), network=Detour(stranger.port), context=context)
    return caller.call_now("https://hooks.example.com/", headers={}, body=b"{}")


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"host": "other.example.com"}, "its certificate is for another host"),
        ({"host": "hooks.example.com", "days": -1}, "its certificate has expired"),
        ({"host": "hooks.example.com", "self_signed": True}, "its certificate is self-signed"),
    ],
    ids=["host", "expired", "self-signed"],
)
def test_no_certificate_is_trusted_that_is_not_the_hosts(make_caller, serve, authority, server, said):
    stranger = serve(context=authority.server(**server))
    assert call_tls(make_caller, stranger, authority.client()) == Failed(detail=said)
    assert stranger.requests.empty()


def test_no_authority_is_trusted_that_the_system_does_not_know(make_caller, serve, authority):
    stranger = serve(context=authority.server("hooks.example.com"))
    result = call_tls(make_caller, stranger, None)
    assert isinstance(result, Failed)
    assert result.detail.startswith("its certificate is of an authority that we do not know")
    assert stranger.requests.empty()


def test_a_server_of_the_past_is_not_spoken_to(make_caller, serve, authority):
    context = authority.server("hooks.example.com")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA256")
    stranger = serve(context=context)
    assert call_tls(make_caller, stranger, authority.client()) == Failed(
        detail="its port does not speak TLS 1.2 or newer"
    )


def test_nothing_is_sent_where_tls_was_asked_for_and_is_not_spoken(make_caller, serve, authority):
    stranger = serve()
    stranger.serve = lambda connection: (connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), connection.close())
    result = call_tls(make_caller, stranger, authority.client())
    assert isinstance(result, Failed)
    assert result.detail in {"its port does not speak TLS 1.2 or newer", "it broke off the TLS handshake"}


# --- Many calls, and our own defects --------------------------------------------------------


def test_two_hundred_that_hang_do_not_delay_another(caller, serve):
    hanging = serve(lambda _, stranger: stranger.released.wait())
    calls = [caller.submit(hanging.url, headers={}, body=b"{}", deadline=60) for _ in range(200)]
    hanging.wait_for(connections=200)
    assert isinstance(call(caller, serve()), Delivered)
    assert not any(each.done() for each in calls)
    hanging.close()
    assert all(isinstance(each.result(timeout=20), Failed) for each in calls)


def test_a_defect_of_ours_is_logged_and_lets_nobody_wait(caller, serve):
    stranger = serve()
    with capture_logs() as logs:
        result = caller.submit(stranger.url, headers={"bad\n": "x"}, body=b"").result(timeout=20)
    assert result == Failed(detail="a defect on our side, which is logged")
    assert [entry["event"] for entry in logs] == ["webhook_call_defect"]


def test_a_process_never_has_two_callers(settings):
    settings.WEBHOOK_PRIVATE_TARGETS = False
    shared_caller.cache_clear()
    caller = shared_caller()
    assert shared_caller() is caller
    assert isinstance(caller.call_now("https://127.0.0.1/", headers={}, body=b""), Failed)
    caller.close()
    shared_caller.cache_clear()
