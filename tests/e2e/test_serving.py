"""Requests as gunicorn, with our settings and our front, takes them from the wire: whole or in halves, well or ill."""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http.client import parse_headers
from pathlib import Path

import pytest

from deploy.local.machine import free_port
from deploy.local.supervisor import Process
from tests.probe import LONG, THREADS
from tests.system import ROOT, eventually

CONFIG = str(ROOT / "deploy/gunicorn.conf.py")
DEADLINE = 60
#: Connections that the process may hold.
MOST = 40
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Web:
    """One process of gunicorn's, with few threads."""

    def __init__(self, folder, *options):
        self.folder, self.port = folder, free_port()
        gunicorn = [sys.executable, "-m", "gunicorn", "--config", CONFIG, *options]
        env = {"ENVIRONMENT": "development", "PYTHONPATH": str(ROOT), "WEB_PROCESSES": "1", "PROBE_FOLDER": str(folder)}
        argv = [*gunicorn, "--no-control-socket", "--bind", f"127.0.0.1:{self.port}", "tests.probe"]
        self.process = Process("web", argv, folder / "logs", env=env)

    def is_ready(self):
        try:
            return self.ask(GET % b"/").status == 200
        except OSError:
            return False

    def accepts(self):
        try:
            with self.connected():
                return True
        except OSError:
            return False

    @contextmanager
    def connected(self, *, buffer=None):
        with socket.socket() as client:
            if buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            client.settimeout(DEADLINE)
            client.connect(("127.0.0.1", self.port))
            yield client

    def ask(self, request):
        """What comes back over a connection of its own."""
        with self.connected() as client:
            client.sendall(request)
            return answer(client)

    def await_sign(self, name):
        eventually((self.folder / name).exists, within=DEADLINE, what=name)

    def said(self):
        return self.process.log.read_text()


@dataclass
class Answer:
    status: int
    headers: Message
    content: bytes


def answer(client, *, has_body=True):
    """The next answer, and nothing of what follows."""
    with client.makefile("rb", buffering=0) as wire:
        status = int(wire.readline().split()[1])
        headers = parse_headers(wire)
        length = int(headers.get("Content-Length", 0)) if has_body else 0
        content = b""
        while part := wire.read(length - len(content)):
            content += part
    assert "Transfer-Encoding" not in headers
    return Answer(status, headers, content)


def seen(response):
    """What a request came to be for the application."""
    assert response.status == 200, response.content
    return json.loads(response.content)


def posted(body, *headers, path=b"/"):
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s" % (path, b"".join(h + b"\r\n" for h in headers), body)


def run(folder, *options):
    web = Web(folder, *options)
    web.process.start()
    try:
        web.process.await_ready(web.is_ready)
        yield web
    finally:
        (folder / "go").touch()
        web.process.stop(10)


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    yield from run(tmp_path_factory.mktemp("web"), "--keep-alive", "3", "--worker-connections", str(MOST))


@pytest.fixture
def own_web(tmp_path):
    """One that a test may stop."""
    yield from run(tmp_path)


# --- what is read


def test_who_sends_slowly_keeps_nobody_waiting(web):
    with web.connected() as head, web.connected() as body, web.connected() as other:
        head.sendall(b"GET / HTTP/1.1\r\nHo")
        for slow in (body, other):
            slow.sendall(posted(b"ab", b"Content-Length: 4"))
        assert seen(web.ask(GET % b"/"))["body"] == 0
        body.sendall(b"cd")
        assert seen(answer(body))["body"] == 4
        head.sendall(b"st: localhost\r\n\r\n")
        assert answer(head).status == 200


def test_who_asks_nothing_is_not_kept(web):
    with web.connected() as silent, web.connected() as half, web.connected() as idle:
        half.sendall(b"GET / HTTP/1.1\r\nHo")
        idle.sendall(GET % b"/")
        assert answer(idle).status == 200
        assert [client.recv(1) for client in (silent, half, idle)] == [b""] * 3


def test_a_process_holds_so_many_connections_and_no_more(web):
    with ExitStack() as all_:
        clients = [all_.enter_context(web.connected()) for _ in range(MOST)]
        with web.connected() as one_too_many, suppress(ConnectionResetError):
            assert one_too_many.recv(1) == b""
        clients[0].sendall(GET % b"/")
        assert answer(clients[0]).status == 200
    eventually(web.is_ready, within=DEADLINE, what="there is room again")


def test_who_goes_in_the_middle_of_a_body_is_forgotten(web):
    before = web.said()
    for _ in range(THREADS * 20):
        with web.connected() as client:
            client.sendall(posted(b"ab", b"Content-Length: 2000000"))
    assert seen(web.ask(posted(b"ab", b"Content-Length: 2")))["body"] == 2
    assert web.said() == before


def test_requests_sent_at_once_are_answered_in_their_order(web):
    with web.connected() as client:
        client.sendall(posted(b"abc", b"Content-Length: 3", path=b"/one") + GET % b"/two")
        assert [seen(answer(client))["PATH_INFO"] for _ in range(2)] == ["/one", "/two"]


def test_who_has_said_all_and_says_so_is_answered(web):
    with web.connected() as client:
        client.sendall(posted(b"abc", b"Content-Length: 3", path=b"/one") + GET % b"/two")
        client.shutdown(socket.SHUT_WR)
        assert [seen(answer(client))["PATH_INFO"] for _ in range(2)] == ["/one", "/two"]
        assert client.recv(1) == b""


@pytest.mark.parametrize("said", [b"", b"GET / HT", posted(b"ab", b"Content-Length: 4")])
def test_who_ends_before_the_end_of_a_request_has_asked_for_nothing(web, said):
    with web.connected() as client:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(15) in {b"", b"HTTP/1.1 408 Re"}
        while client.recv(1000):
            pass


def test_a_body_in_chunks_is_read_whole(web):
    chunks = b"3\r\nabc\r\n" * 1000 + b"0\r\n\r\n"
    found = seen(web.ask(posted(chunks, b"Transfer-Encoding: chunked")))
    assert (found["body"], found["CONTENT_LENGTH"]) == (3000, "3000")


def test_a_client_that_asks_first_is_told_to_go_on(web):
    with web.connected() as client:
        client.sendall(posted(b"", b"Content-Length: 3", b"Expect: 100-continue"))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        assert seen(answer(client))["body"] == 3


@pytest.mark.parametrize(("headers", "least"), [((), 65_536), ((b"X-Merchant: shop",), 1_048_576)])
def test_of_a_body_too_large_for_all_the_sender_reads_the_answer_and_goes_on(web, headers, least):
    with web.connected() as client:
        client.sendall(posted(b"x" * 6_000_000, b"Content-Length: 6000000", *headers))
        assert least < seen(answer(client))["body"] < 2 * least
        client.sendall(GET % b"/next")
        assert seen(answer(client))["PATH_INFO"] == "/next"


@pytest.mark.parametrize(
    "headers",
    [
        [b"Content-Length: 2", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 2", b"Content-Length: 3"],
        [b"Content-Length: 2, 2"],
        [b"Content-Length: +2"],
        [b"Content-Length: " + b"9" * 5000],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Content-Length : 2"],
        [b"X-Long: " + b"x" * 10_000],
        [b"X-Many: x"] * 200,
        [b"X-Bare: a\nX-Other: b"],
    ],
)
def test_what_two_servers_might_read_differently_is_refused(web, headers):
    assert web.ask(posted(b"2\r\nab\r\n0\r\n\r\n", *headers)).status in {400, 431, 501}


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (GET % (b"/" + b"a" * 10_000), 414, "uri_too_long"),
        (posted(b"", b"X-Long: " + b"x" * 10_000), 431, "headers_too_large"),
        (posted(b"", b"Content-Length : 2"), 400, "invalid_request"),
        (posted(b"", b"Content-Length: " + b"9" * 5000), 400, "invalid_request"),
    ],
)
def test_what_the_server_itself_refuses_is_answered_by_a_problem(web, request_, status, code):
    refusal = web.ask(request_)
    problem = json.loads(refusal.content)
    assert (refusal.status, problem["status"], problem["code"]) == (status, status, code)
    assert refusal.headers["Content-Type"] == "application/problem+json"
    assert refusal.headers["Connection"] == "close"


def test_headers_with_an_underscore_pass_for_no_other(web):
    found = seen(web.ask(posted(b"", b"X_Forwarded_Proto: https", b"PATH_INFO: /admin", b"X-Two: a", b"X-Two: b")))
    assert "HTTP_X_FORWARDED_PROTO" not in found
    assert "HTTP_PATH_INFO" not in found
    assert (found["PATH_INFO"], found["HTTP_X_TWO"]) == ("/", "a,b")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"//api//v1", "//api//v1", ""),
        (b"/a%2Fb%C3%A9?c=%C3%A9", "/a/b\u00c3\u00a9", "c=%C3%A9"),
        (b"http://localhost/a?b", "/a", "b"),
        (b"http://localhost", "/", ""),
    ],
)
def test_paths_are_what_wsgi_makes_of_them(web, target, path, query):
    found = seen(web.ask(GET % target))
    assert (found["PATH_INFO"], found["QUERY_STRING"]) == (path, query)


def test_the_authority_of_an_absolute_target_replaces_the_host(web):
    assert seen(web.ask(GET % b"http://elsewhere.example:81/a"))["HTTP_HOST"] == "elsewhere.example:81"


# --- what is answered


def test_answers_without_a_body_have_none_and_nobody_complains(web):
    with web.connected() as client:
        client.sendall((GET % b"/").replace(b"GET", b"HEAD"))
        head = answer(client, has_body=False)
        assert int(head.headers["Content-Length"]) > 0
        client.sendall(GET % b"/none")
        assert (answer(client).status, head.content) == (204, b"")
        client.sendall(GET % b"/")
        assert answer(client).status == 200
    assert "no-body" not in web.said()


def test_an_error_is_one_answer_and_not_the_end(web):
    assert web.ask(GET % b"/broken").status == 500
    with web.connected() as client:
        client.sendall(GET % b"/half")
        parts = b""
        while part := client.recv(65536):
            parts += part
    assert parts.startswith(b"HTTP/1.1 200")
    assert not parts.endswith(b"0\r\n\r\n"), "half an answer passed for a whole one"
    assert web.ask(GET % b"/").status == 200


def test_a_thread_is_free_again_when_its_client_has_gone_without_reading(web):
    for number in range(THREADS):
        with web.connected(buffer=4096) as client:
            client.sendall(GET % b"/endless?%d" % number)
            assert client.recv(10)
    for number in range(THREADS):
        web.await_sign(f"ended-{number}")
    assert web.ask(GET % b"/").status == 200


def test_who_reads_nothing_is_cut_off_by_the_system():
    config = runpy.run_path(CONFIG)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        config["cut_off_the_deaf"](listener)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            limit = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert limit == config["DEAF_AFTER"] * 1000


def test_processes_inherit_that_what_requests_leave_is_collected_soon_and_what_is_loaded_never():
    """Only so does a process that lists payments stay below 120 MB (`make bench`)."""
    code = f"""
import gc, runpy, socket, types
listener = socket.create_server(("127.0.0.1", 0))
runpy.run_path({CONFIG!r})["when_ready"](types.SimpleNamespace(LISTENERS=[types.SimpleNamespace(sock=listener)]))
print(gc.get_freeze_count(), len(gc.get_objects()), gc.get_threshold()[2])
print(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    frozen, left, oldest, patience = map(int, done.stdout.split())
    assert (frozen > 10_000, left < 1_000, oldest) == (True, True, 2)
    assert patience == 60_000, "what connections inherit is set up as well"


def test_a_websocket_is_refused(web):
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    assert web.ask((GET % b"/")[:-2] + upgrade + key).status == 403


# --- how it ends


def test_a_process_that_is_stopped_answers_those_it_has_and_waits_for_no_others(own_web):
    with own_web.connected() as gone:
        gone.sendall(posted(b"ab", b"Content-Length: 4"))
    with own_web.connected() as busy, own_web.connected() as idle, own_web.connected() as silent:
        idle.sendall(GET % b"/")
        assert answer(idle).status == 200
        busy.sendall(GET % b"/hold")
        own_web.await_sign("held")
        own_web.process.child.send_signal(signal.SIGTERM)
        eventually(lambda: not own_web.accepts(), within=DEADLINE, what="it stops")
        idle.sendall(GET % b"/")
        last = answer(idle)
        assert (last.status, last.headers["Connection"]) == (200, "close")
        assert silent.recv(1) == b""
        assert own_web.process.child.poll() is None
        (own_web.folder / "go").touch()
        assert answer(busy).status == 200
        own_web.process.child.wait(DEADLINE)


def test_a_process_that_is_stopped_sends_a_long_answer_to_its_end(own_web):
    with own_web.connected(buffer=4096) as client:
        client.sendall(GET % b"/long")
        own_web.await_sign("long")
        own_web.process.child.send_signal(signal.SIGTERM)
        assert len(answer(client).content) == LONG
    own_web.process.child.wait(DEADLINE)


def test_a_process_that_is_to_end_at_once_waits_for_no_connection(own_web):
    with own_web.connected() as idle, own_web.connected() as reading:
        idle.sendall(GET % b"/")
        assert answer(idle).status == 200
        reading.sendall(posted(b"ab", b"Content-Length: 4"))
        own_web.process.child.send_signal(signal.SIGINT)
        own_web.process.child.wait(DEADLINE)


def test_a_process_that_is_killed_is_replaced(own_web):
    children = Path(f"/proc/{own_web.process.pid}/task/{own_web.process.pid}/children")
    (worker,) = children.read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    eventually(own_web.is_ready, within=DEADLINE, what="another one")
    assert children.read_text().split() != [worker]
