"""Requests as the front reads them: whole, within limits of time and number, and as WSGI has them."""

import asyncio

import pytest
from django.conf import settings

from config import front
from config.front import LARGE_AT_ONCE, Front, environ_of

DEADLINE = 60
SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "raw_path": b"/a",
    "query_string": b"b=%C3%A9",
    "headers": [],
    "server": ("127.0.0.1", 8000),
    "client": ("127.0.0.2", 5000),
}
LARGE = {**SCOPE, "headers": [(b"content-length", b"1000000")]}
CHUNKED = {**SCOPE, "headers": [(b"transfer-encoding", b"chunked")]}


class House:
    """Remembers whom it has answered; if it is shut, they wait."""

    def __init__(self, *, fault=None):
        self.seen, self.fault = [], fault
        self.entered, self.opened = asyncio.Semaphore(0), asyncio.Event()
        self.opened.set()

    async def __call__(self, environ, send):
        self.seen.append((environ["PATH_INFO"], environ["wsgi.input"].read()))
        self.entered.release()
        await self.opened.wait()
        if self.fault:
            raise self.fault
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Door:
    def __init__(self, *, answers):
        self.answers = answers

    async def answer(self, environ, body, send):
        return self.answers


class Client:
    """Sends a body in parts, and then nothing, or goes."""

    def __init__(self, *parts, goes=False, more=False):
        self.left = [
            {"type": "http.request", "body": part, "more_body": more or number < len(parts)}
            for number, part in enumerate(parts, 1)
        ]
        self.goes = goes
        self.heard = []
        self.silent = asyncio.Event()

    async def receive(self):
        if self.left:
            return self.left.pop(0)
        self.silent.set()
        if not self.goes:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.heard.append(message)

    @property
    def status(self):
        return [message["status"] for message in self.heard if message["type"] == "http.response.start"]


def run(scene):
    async def within():
        async with asyncio.timeout(DEADLINE):
            return await scene

    return asyncio.run(within())


def asked(client, house, *, scope=SCOPE, answers=False):
    run(Front(Door(answers=answers), house)(scope, client.receive, client.send))


def test_a_request_is_answered_as_a_whole():
    house, client = House(), Client(b"a", b"", b"bc")
    asked(client, house)
    assert house.seen == [("/a", b"abc")]
    assert client.status == [200]


def test_what_the_door_answers_never_comes_into_the_house():
    house = House()
    asked(Client(b""), house, answers=True)
    assert house.seen == []


def test_who_goes_before_the_end_has_asked_for_nothing():
    house = House()
    asked(Client(b"a", b"b", more=True, goes=True), house)
    assert house.seen == []


def test_a_body_that_does_not_come_to_its_end_in_time_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(front, "PATIENCE", 0.01)
    house, client = House(), Client(b"a", more=True)
    asked(client, house)
    assert (house.seen, client.status) == ([], [408])


def test_of_a_body_that_is_too_large_the_rest_is_read_and_not_kept(monkeypatch):
    monkeypatch.setattr(settings, "DATA_UPLOAD_MAX_MEMORY_SIZE", 3)
    house, client = House(), Client(b"ab", b"cd", b"ef", b"gh")
    asked(client, house)
    assert house.seen == [("/a", b"abcd")]
    assert client.left == []


def test_the_rest_of_a_body_is_waited_for_only_so_long(monkeypatch):
    monkeypatch.setattr(settings, "DATA_UPLOAD_MAX_MEMORY_SIZE", 3)
    monkeypatch.setattr(front, "PATIENCE_WITH_REST", 0.01)
    client = Client(b"ab", b"cd", b"ef", more=True)
    asked(client, House())
    assert client.status == [200]


@pytest.mark.parametrize("scope", [LARGE, CHUNKED])
def test_so_many_large_bodies_are_held_at_once_and_small_ones_pass_them(scope):
    async def scene():
        house = House()
        house.opened.clear()
        door = Front(Door(answers=False), house)
        clients = [Client(b"large") for _ in range(LARGE_AT_ONCE + 1)]
        tasks = [asyncio.create_task(door(scope, client.receive, client.send)) for client in clients]
        for _ in range(LARGE_AT_ONCE):
            await house.entered.acquire()
        small = Client(b"small")
        tasks.append(asyncio.create_task(door(SCOPE, small.receive, small.send)))
        await house.entered.acquire()
        passed = [body for _, body in house.seen]
        house.opened.set()
        await asyncio.gather(*tasks)
        return passed, [client.status for client in clients]

    passed, statuses = run(scene())
    assert passed == [b"large"] * LARGE_AT_ONCE + [b"small"]
    assert statuses == [[200]] * (LARGE_AT_ONCE + 1)


@pytest.mark.parametrize("how", ["fails", "leaves", "goes"])
def test_a_place_for_a_large_body_is_given_back_however_it_ends(how):
    async def scene():
        house = House(fault=LookupError("broken") if how == "fails" else None)
        door = Front(Door(answers=False), house)
        for _ in range(LARGE_AT_ONCE + 1):
            client = Client(b"large", more=how != "fails", goes=how == "goes")
            task = asyncio.create_task(door(LARGE, client.receive, client.send))
            if how == "leaves":
                await client.silent.wait()
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() == (how == "leaves")
            assert how != "fails" or isinstance(task.exception(), LookupError)

    run(scene())


def test_a_websocket_is_closed():
    client = Client()
    asked(client, House(), scope={"type": "websocket"})
    assert client.heard == [{"type": "websocket.close"}]


# --- as WSGI has it


def environ(body=b"", **scope):
    return environ_of({**SCOPE, **scope}, body)


def test_a_request_is_as_wsgi_has_it():
    found = environ(b"abc", headers=[(b"content-type", b"text/plain"), (b"host", b"h\xe9"), (b"x-one", b"1")])
    wanted = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/a",
        "QUERY_STRING": "b=%C3%A9",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "REMOTE_ADDR": "127.0.0.2",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
        "HTTP_HOST": "h\xe9",
        "HTTP_X_ONE": "1",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert "HTTP_CONTENT_TYPE" not in found


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a%2Fb", "/a/b"),
        (b"/%C3%A9", "/\u00c3\u00a9"),
        (b"/%zz%", "/%zz%"),
        (b"//a//b/../c", "//a//b/../c"),
        (b"/a;b=c", "/a;b=c"),
        (b"/http://x/y", "/http://x/y"),
        (b"http://host/a/b", "/a/b"),
        (b"HTTP://host", "/"),
        (b"*", "*"),
        (b"", ""),
    ],
)
def test_the_path_is_decoded_once_and_nothing_of_it_is_lost(target, path):
    assert environ(raw_path=target)["PATH_INFO"] == path


def test_a_header_that_comes_twice_is_one_and_one_with_an_underscore_is_none():
    found = environ(headers=[(b"x-a", b"1"), (b"x_a", b"2"), (b"x-a", b"3"), (b"content_length", b"9")])
    assert (found["HTTP_X_A"], found["CONTENT_LENGTH"]) == ("1,3", "0")


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"/a", "one"),
        (b"/http://two/a", "one"),
        (b"*", "one"),
        (b"http://two/a", "two"),
        (b"HTTP://two:8000", "two:8000"),
        (b"https://a@two/b", "a@two"),
        (b"http:///a", ""),
    ],
)
def test_the_authority_of_the_target_replaces_the_host(target, host):
    """RFC 9112, section 3.2.2. Otherwise a proxy could let in what we are told is for another host."""
    assert environ(raw_path=target, headers=[(b"host", b"one")])["HTTP_HOST"] == host


def test_behind_a_socket_file_nobody_has_an_address():
    found = environ(server=None, client=None)
    assert (found["SERVER_NAME"], found["SERVER_PORT"], found["REMOTE_ADDR"]) == ("localhost", "80", "")
