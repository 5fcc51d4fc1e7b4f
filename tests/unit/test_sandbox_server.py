"""The sandbox over real connections: each method's answer on the wire, and nothing a client does can hurt it."""

import http.client
import json
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from sandbox.behaviours import BEHAVIOURS
from sandbox.journal import Journal

CHARGE = {"payment_id": "p-1", "merchant": "shop", "order_id": "o-1", "amount": 1000, "currency": "EUR"}
#: Decided at the first request, with the ordinary answer.
DECIDED = {"pm_ok": 200, "pm_declined": 402, "pm_insufficient_funds": 402, "pm_expired_card": 402, "pm_slow": 200}
CHARGED_IN_TROUBLE = ["pm_timeout_charged", "pm_reset", "pm_reset_within", "pm_error_500", "pm_garbage"]


@pytest.fixture
def at_once(sandbox):
    """No pause takes any time."""
    pauses = []
    sandbox.server.pause = pauses.append
    return pauses


@pytest.fixture(autouse=True)
def silent(sandbox, capfd):
    """Whatever a client does, it is no news."""
    yield
    sandbox.server.stopping.set()
    assert capfd.readouterr().err == ""


def head(method, path, *, length=None, key="k-1"):
    lines = [f"{method} {path} HTTP/1.1", "Host: sandbox", f"Idempotency-Key: {key}"]
    return "\r\n".join([*lines, *([] if length is None else [f"Content-Length: {length}"]), "", ""]).encode()


def charge_of(method="pm_ok", *, key="k-1", **changes):
    body = json.dumps({**CHARGE, "payment_method": method, **changes}).encode()
    return head("POST", "/v1/charges", length=len(body), key=key) + body


def connect(sandbox):
    return socket.create_connection(sandbox.server.server_address, timeout=10)


def read_all(connection):
    """All bytes until the end, and whether the end was a reset."""
    received = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return received, True
        if not part:
            return received, False
        received += part


def send(sandbox, request):
    """One request on a connection of its own: what came back, and whether it ended with a reset."""
    with closing(connect(sandbox)) as connection:
        connection.sendall(request)
        return read_all(connection)


def call(sandbox, request):
    """Status, headers and body of a whole answer."""
    with closing(connect(sandbox)) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.headers, response.read()


def look_up(sandbox, key="k-1"):
    status, _, body = call(sandbox, head("GET", f"/v1/charges?idempotency_key={key}"))
    return status, json.loads(body)


# --- each method on the wire


@pytest.mark.parametrize(("method", "status"), DECIDED.items())
def test_an_ordinary_decision_is_answered_and_found_alike(sandbox, at_once, method, status):
    answer = call(sandbox, charge_of(method))
    assert answer[0] == status
    assert (status, json.loads(answer[2])) == look_up(sandbox)
    assert len(sandbox.charges()) == (status == 200)
    assert json.loads(answer[2]).get("error", {}).get("decline_code") == BEHAVIOURS[method].decline_code


def test_a_slow_charge_is_decided_at_once_and_answered_after_three_seconds(sandbox):
    pauses = []
    sandbox.server.pause = lambda seconds: pauses.append((seconds, len(sandbox.charges())))
    assert call(sandbox, charge_of("pm_slow"))[0] == 200
    assert pauses[0] == (3.0, 1)


@pytest.mark.parametrize("method", ["pm_timeout_charged", "pm_timeout_not_charged"])
def test_a_silent_gateway_keeps_the_connection_open_and_says_nothing(sandbox, method):
    silent, released = threading.Event(), threading.Event()

    def pause(seconds):
        if seconds:
            silent.set()
            released.wait(10)

    sandbox.server.pause = pause
    with closing(connect(sandbox)) as connection:
        connection.sendall(charge_of(method))
        assert silent.wait(10)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        released.set()
        connection.settimeout(10)
        assert read_all(connection) == (b"", False)
    assert len(sandbox.charges()) == (method == "pm_timeout_charged")


@pytest.mark.parametrize("method", ["pm_reset", "pm_reset_before"])
def test_a_reset_comes_without_a_byte(sandbox, method):
    assert send(sandbox, charge_of(method)) == (b"", True)
    assert len(sandbox.charges()) == (method == "pm_reset")


def test_a_reset_within_comes_after_half_of_the_answer(sandbox):
    received, was_reset = send(sandbox, charge_of("pm_reset_within"))
    assert was_reset
    answer_head, _, body = received.partition(b"\r\n\r\n")
    assert answer_head.startswith(b"HTTP/1.1 200")
    whole = json.dumps(look_up(sandbox)[1]).encode()
    assert f"Content-Length: {len(whole)}".encode() in answer_head
    assert body == whole[: len(whole) // 2]


def test_an_error_page_is_html_and_the_charge_was_made(sandbox):
    status, headers, body = call(sandbox, charge_of("pm_error_500"))
    assert (status, headers["Content-Type"]) == (500, "text/html")
    assert body.startswith(b"<!doctype html>")
    assert len(sandbox.charges()) == 1


def test_garbage_is_no_json_and_the_charge_was_made(sandbox):
    status, _, body = call(sandbox, charge_of("pm_garbage"))
    assert status == 200
    with pytest.raises(ValueError, match=r"."):
        json.loads(body)
    assert len(sandbox.charges()) == 1


@pytest.mark.parametrize("method", CHARGED_IN_TROUBLE)
def test_whatever_the_trouble_was_a_look_up_tells_the_truth(sandbox, at_once, method):
    for _ in range(2):
        send_and_forget(sandbox, charge_of(method))
    status, document = look_up(sandbox)
    assert (status, document["status"], document["amount"]) == (200, "approved", 1000)
    assert len(sandbox.charges()) == 1


@pytest.mark.parametrize(
    ("method", "times"),
    [("pm_flaky_2", 2), ("pm_rate_limited", 1), ("pm_timeout_not_charged", 1), ("pm_reset_before", 1)],
)
def test_a_charge_that_was_not_taken_is_not_there_until_it_is_sent_again(sandbox, at_once, method, times):
    for _ in range(times):
        send_and_forget(sandbox, charge_of(method))
        assert look_up(sandbox)[0] == 404
    assert call(sandbox, charge_of(method))[0] == 200
    assert look_up(sandbox)[0] == 200
    assert len(sandbox.charges()) == 1


def send_and_forget(sandbox, request):
    """Send, and wait until the gateway has dealt with it."""
    with closing(connect(sandbox)) as connection:
        connection.sendall(request)
        with suppress(ConnectionResetError):
            connection.recv(65536)


def test_a_limited_rate_is_a_429_that_says_when_to_come_back(sandbox):
    status, headers, body = call(sandbox, charge_of("pm_rate_limited"))
    assert (status, headers["Retry-After"]) == (429, "1")
    assert json.loads(body)["error"]["code"] == "rate_limited"


def test_a_key_that_comes_again_with_another_charge_is_refused(sandbox):
    call(sandbox, charge_of())
    status, _, body = call(sandbox, charge_of(amount=1001))
    assert (status, json.loads(body)["error"]["code"]) == (422, "idempotency_key_reused")


def test_a_charge_that_cannot_be_written_down_is_not_taken(sandbox):
    sandbox.server.journal.close()
    status, _, body = call(sandbox, charge_of())
    assert (status, json.loads(body)["error"]["code"]) == (503, "journal_unwritable")
    assert sandbox.charges() == []


# --- strange clients


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n", b"\x00\xff" * 100 + b"\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", b"X" * 70_000 + b"\r\n", b"BREW / HTTP/1.1\r\n\r\n",
        b"GET //[ HTTP/1.1\r\n\r\n", b"GET /v1/charges?%ff=%fe HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"PUT /settings HTTP/1.1\r\n\r\n",
        head("POST", "/v1/charges"), head("POST", "/v1/charges", length="-1"), head("POST", "/v1/charges", length="x"),
        head("POST", "/v1/charges", length="9" * 5000), head("POST", "/v1/charges", length=65537),
        head("POST", "/v1/charges", length="²"), head("POST", "/nothing", length=2) + b"{}",
        head("POST", "/v1/charges", length=100) + b"{}", head("PATCH", "/settings"),
        b"POST /v1/charges HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /journal HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)  # fmt: skip
def test_no_garbage_hurts_the_gateway(sandbox, request_bytes):
    with closing(connect(sandbox)) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    assert call(sandbox, charge_of())[0] == 200
    assert len(sandbox.charges()) == 1


def test_a_body_that_nobody_asked_for_is_not_taken_for_the_next_request(sandbox):
    two = head("GET", "/livez", length=7) + b"GARBAGE" + head("DELETE", "/settings", length=2) + b"{}" + charge_of()
    with closing(connect(sandbox)) as connection:
        connection.sendall(two)
        connection.shutdown(socket.SHUT_WR)
        received, _ = read_all(connection)
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert len(sandbox.charges()) == 1


def leave(connection):
    """Go away with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("part", [0, 10, 100, -1, None])
@pytest.mark.parametrize("method", ["pm_ok", "pm_reset", "pm_reset_within", "pm_error_500", "pm_down"])
def test_a_client_may_go_away_at_any_time(sandbox, at_once, part, method):
    request = charge_of(method)
    for _ in range(5):
        connection = connect(sandbox)
        connection.sendall(request[:part])
        leave(connection)
    assert call(sandbox, head("GET", "/livez"))[0] == 200
    assert len(sandbox.charges()) <= 1


def test_a_client_that_does_not_wait_for_a_late_answer_is_no_news(sandbox):
    entered, released, done = threading.Event(), threading.Event(), threading.Event()

    def pause(seconds):
        if seconds:
            entered.set()
            released.wait(10)

    sandbox.server.pause = pause
    close = sandbox.server.shutdown_request
    sandbox.server.shutdown_request = lambda request: (close(request), done.set())
    connection = connect(sandbox)
    connection.sendall(charge_of("pm_slow"))
    assert entered.wait(10)
    leave(connection)
    released.set()
    assert done.wait(10)
    assert len(sandbox.charges()) == 1  # the answer had nobody to go to; the charge was made


def test_sixty_four_clients_at_once_are_all_served(sandbox):
    together = threading.Barrier(64)

    def one(number):
        with closing(connect(sandbox)) as connection:
            together.wait(30)
            for repetition in range(4):
                connection.sendall(charge_of(key=f"k-{number}-{repetition}"))
                response = http.client.HTTPResponse(connection)
                response.begin()
                response.read()
                if response.status != 200:
                    return response.status
        return 200

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(one, range(64))) == {200}
    assert len(sandbox.charges()) == 256
    assert len({charge["seq"] for charge in sandbox.charges()}) == 256


def test_sixty_four_troubled_clients_leave_a_journal_that_can_be_read_again(sandbox, at_once, tmp_path):
    methods = [*BEHAVIOURS] * 4

    def one(number):
        send_and_forget(sandbox, charge_of(methods[number], key=f"k-{number}"))

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(one, range(64)))
    with closing(Journal(tmp_path / "journal.jsonl")) as journal:
        assert journal.effects() == sandbox.charges()
        assert len(journal.effects()) == 4 * (
            len(CHARGED_IN_TROUBLE) + len(["pm_ok", "pm_slow", "pm_duplicate_webhook"])
        )
