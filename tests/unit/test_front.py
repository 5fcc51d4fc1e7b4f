"""Requests as the front reads them: whole, within limits of time and number, and as WSGI has them."""

import asyncio

import pytest
from django.conf import settings

from config import front
from config.front import UNREAD_BODY, Front, environ_of
from config.large_bodies import MAX_LARGE_BODIES, MAX_LARGE_BODIES_PER_MERCHANT, LargeBodies

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
ANNOUNCED = {**SCOPE, "headers": [(b"content-length", b"1000000")]}
CHUNKED = {**SCOPE, "headers": [(b"transfer-encoding", b"chunked")]}
SMALL = b"x" * settings.MAX_BODY_BYTES
LARGE = b"x" * (settings.MAX_BODY_BYTES + 1)


class Senders(LargeBodies):
    """The real places; who sends is told by the test, in a header."""

    def __init__(self):
        super().__init__(None)
        self.asked = 0

    async def find_sender(self, environ):
        self.asked += 1
        return environ.get("HTTP_MERCHANT")


def sent_by(merchant, scope=CHUNKED):
    return {**scope, "headers": [*scope["headers"], (b"merchant", merchant.encode())]}


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
    run(Front(Door(answers=answers), house, Senders())(scope, client.receive, client.send))


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
    monkeypatch.setattr(front, "BODY_TIMEOUT_SECONDS", 0.01)
    house, client = House(), Client(b"a", more=True)
    asked(client, house)
    assert (house.seen, client.status) == ([], [408])


# --- bodies larger than usual


def test_a_large_body_without_a_credential_is_refused_before_its_rest_is_read():
    house, client = House(), Client(LARGE, LARGE, LARGE, more=True)
    left_when_answered = []
    send = client.send

    async def note(message):
        left_when_answered.append(len(client.left))
        await send(message)

    client.send = note
    client.left.append({"type": "http.disconnect"})
    asked(client, house, scope=CHUNKED)
    assert house.seen == [("/a", UNREAD_BODY)]
    assert left_when_answered[0] == 3, "only the first part was read"


def test_a_large_body_that_was_refused_is_read_to_its_end_and_not_kept():
    """Or the client would not come to read the answer."""
    house, client = House(), Client(LARGE, b"cd", b"ef")
    asked(client, house, scope=CHUNKED)
    assert house.seen == [("/a", UNREAD_BODY)]
    assert client.left == []


def test_the_rest_of_a_body_is_waited_for_only_so_long(monkeypatch):
    monkeypatch.setattr(front, "PATIENCE_WITH_REST", 0.01)
    client = Client(LARGE, b"cd", more=True)
    asked(client, House(), scope=CHUNKED)
    assert client.status == [200]


@pytest.mark.parametrize("scope", [ANNOUNCED, CHUNKED])
@pytest.mark.parametrize("parts", [(LARGE,), (SMALL, b"x"), (b"x", LARGE, b"", b"x")])
def test_a_large_body_of_a_known_sender_is_read_whole(scope, parts):
    house, client = House(), Client(*parts)
    asked(client, house, scope=sent_by("a", scope))
    assert house.seen == [("/a", b"".join(parts))]


@pytest.mark.parametrize("scope", [ANNOUNCED, CHUNKED])
def test_a_usual_body_needs_no_place_whatever_was_announced(scope):
    house, client, senders = House(), Client(SMALL), Senders()
    run(Front(Door(answers=False), house, senders)(scope, client.receive, client.send))
    assert house.seen == [("/a", SMALL)]
    assert senders.asked == 0


def test_of_a_body_that_is_too_large_for_a_batch_the_rest_is_not_kept(monkeypatch):
    monkeypatch.setattr(settings, "MAX_BATCH_BYTES", len(LARGE) + 2)
    house, client = House(), Client(LARGE, b"cd", b"ef", b"gh")
    asked(client, house, scope=sent_by("a"))
    assert house.seen == [("/a", LARGE + b"cdef")]
    assert client.left == []


def test_a_large_body_that_does_not_come_to_its_end_in_time_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(front, "LARGE_BODY_TIMEOUT_SECONDS", 0.01)
    house, client = House(), Client(LARGE, more=True)
    asked(client, house, scope=sent_by("a"))
    assert (house.seen, client.status) == ([], [408])


def test_who_announces_a_large_body_or_shows_no_credential_takes_no_place():
    async def scene():
        house = House()
        app = Front(Door(answers=False), house, Senders())
        idle = [Client(SMALL, more=True) for _ in range(2 * MAX_LARGE_BODIES)]
        unknown = [Client(LARGE, more=True) for _ in range(2 * MAX_LARGE_BODIES)]
        waiting = [asyncio.create_task(app(sent_by("a", ANNOUNCED), one.receive, one.send)) for one in idle]
        waiting += [asyncio.create_task(app(CHUNKED, one.receive, one.send)) for one in unknown]
        for one in [*idle, *unknown]:
            await one.silent.wait()
        client = Client(LARGE)
        await app(sent_by("b"), client.receive, client.send)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return client.status

    assert run(scene()) == [200]


def test_so_many_large_bodies_are_held_at_once_and_usual_ones_pass_them():
    async def scene():
        house = House()
        house.opened.clear()
        app = Front(Door(answers=False), house, Senders())
        clients = [Client(LARGE) for _ in range(MAX_LARGE_BODIES + 1)]
        tasks = [
            asyncio.create_task(app(sent_by(f"m{number}"), client.receive, client.send))
            for number, client in enumerate(clients)
        ]
        for _ in range(MAX_LARGE_BODIES):
            await house.entered.acquire()
        small = Client(b"small")
        tasks.append(asyncio.create_task(app(SCOPE, small.receive, small.send)))
        await house.entered.acquire()
        passed = [body for _, body in house.seen]
        house.opened.set()
        await asyncio.gather(*tasks)
        return passed, [client.status for client in clients]

    passed, statuses = run(scene())
    assert passed == [LARGE] * MAX_LARGE_BODIES + [b"small"]
    assert statuses == [[200]] * (MAX_LARGE_BODIES + 1)


def test_one_merchant_does_not_take_all_places():
    async def scene():
        app = Front(Door(answers=False), House(), Senders())
        slow = [Client(LARGE, more=True) for _ in range(2 * MAX_LARGE_BODIES)]
        waiting = [asyncio.create_task(app(sent_by("a"), one.receive, one.send)) for one in slow]
        for one in slow[:MAX_LARGE_BODIES_PER_MERCHANT]:
            await one.silent.wait()
        client = Client(LARGE)
        await app(sent_by("b"), client.receive, client.send)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return client.status

    assert run(scene()) == [200]


@pytest.mark.parametrize("how", ["fails", "leaves", "goes"])
def test_a_place_for_a_large_body_is_given_back_however_it_ends(how):
    async def scene():
        house = House(fault=LookupError("broken") if how == "fails" else None)
        app = Front(Door(answers=False), house, Senders())
        for _ in range(MAX_LARGE_BODIES + 1):
            client = Client(LARGE, more=how != "fails", goes=how == "goes")
            task = asyncio.create_task(app(sent_by("a"), client.receive, client.send))
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
