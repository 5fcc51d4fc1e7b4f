"""A WSGI application in threads: what it answers comes through as it is, and no client keeps a thread."""

import asyncio
import threading

import pytest

from config.threads import PIECE, InThreads

DEADLINE = 60
GET = {"REQUEST_METHOD": "GET"}
HEAD = {"REQUEST_METHOD": "HEAD"}
OK = ("200 OK", [("X-Name", "v\u00e9")])
START = {"type": "http.response.start", "status": 200, "headers": [(b"x-name", b"v\xe9")]}


class Client:
    """Keeps what it is sent; one that is deaf takes nothing beyond so many messages."""

    def __init__(self, *, takes=1000):
        self.sent, self.takes = [], takes
        self.deaf = asyncio.Event()

    async def send(self, message):
        if len(self.sent) >= self.takes:
            self.deaf.set()
            await asyncio.Event().wait()
        self.sent.append(message)


class Stream:
    """Parts of an answer, for ever or until one fails."""

    def __init__(self, *, size=PIECE, fault=None):
        self.size, self.fault = size, fault
        self.closed = threading.Event()

    def __call__(self, environ, start_response):
        start_response(*OK)
        return self

    def __iter__(self):
        yield b"x" * self.size
        yield b"x" * self.size
        if self.fault:
            raise self.fault
        while True:
            yield b"x" * self.size

    def close(self):
        self.closed.set()


def run(scene):
    async def within():
        async with asyncio.timeout(DEADLINE):
            return await scene

    return asyncio.run(within())


def sent(application, environ=GET, **options):
    async def scene():
        client = Client()
        await InThreads(application, threads=1, **options)(environ, client.send)
        return client.sent

    return run(scene())


def says(*parts):
    def application(environ, start_response):
        start_response(*OK)
        return parts

    return application


@pytest.mark.parametrize("parts", [[], [b""], [b"all"], [b"a", b"", b"ll"], [b"x" * 3 * PIECE]])
def test_an_answer_that_is_short_or_of_one_part_takes_no_thread_to_send(parts):
    async def scene():
        deaf, other = Client(takes=0), Client()
        house = InThreads(says(*parts), threads=1)
        waiting = asyncio.create_task(house(GET, deaf.send))
        await deaf.deaf.wait()
        await house(GET, other.send)
        waiting.cancel()
        return other.sent

    assert run(scene()) == [START, {"type": "http.response.body", "body": b"".join(parts)}]


def test_lines_are_sent_in_pieces_and_none_is_lost():
    lines = [b"%07d\n" % number for number in range(PIECE // 4)]
    start, *pieces = sent(says(*lines))
    assert start == START
    assert b"".join(piece["body"] for piece in pieces) == b"".join(lines)
    assert [piece.get("more_body", False) for piece in pieces] == [True, False]


def test_what_is_written_as_in_old_times_comes_first():
    def application(environ, start_response):
        start_response(*OK)(b"a")
        return [b"b"]

    assert [message.get("body") for message in sent(application)] == [None, b"a", b"b"]


@pytest.mark.parametrize(("environ", "status"), [(HEAD, 200), (GET, 204), (GET, 304)])
def test_where_http_allows_no_body_none_is_sent(environ, status):
    def application(environ, start_response):
        start_response(f"{status} Whatever", [])
        return [b"x" * PIECE] * 3

    start, body = sent(application, environ)
    assert (start["status"], body["body"]) == (status, b"")


def test_an_error_comes_out_and_the_answer_is_closed():
    stream = Stream(fault=LookupError("half"))
    with pytest.raises(LookupError, match="half"):
        sent(stream)
    assert stream.closed.is_set()


def test_an_error_page_takes_the_place_of_an_answer_only_before_it_has_begun():
    def application(environ, start_response):
        write = start_response(*OK)
        error = LookupError("broken")
        start_response("500 Broken", [], (LookupError, error, None))
        write(b"sorry")
        start_response("500 Broken", [], (LookupError, error, None))

    async def scene():
        client = Client()
        with pytest.raises(LookupError, match="broken"):
            await InThreads(application, threads=1)(GET, client.send)
        return [message.get("status") or message["body"] for message in client.sent]

    assert run(scene()) == [500, b"sorry"]


def test_a_client_that_goes_while_it_is_sent_an_answer_sets_the_thread_free():
    async def scene():
        stream, client = Stream(), Client(takes=2)
        request = asyncio.create_task(InThreads(stream, threads=1)(GET, client.send))
        await client.deaf.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        return await asyncio.to_thread(stream.closed.wait, DEADLINE)

    assert run(scene())


def test_a_client_that_has_gone_is_sent_nothing_more():
    async def scene():
        begun, went = threading.Event(), threading.Event()

        def application(environ, start_response):
            start_response(*OK)
            begun.set()
            went.wait(DEADLINE)
            return stream

        stream, client = Stream(), Client()
        request = asyncio.create_task(InThreads(application, threads=1)(GET, client.send))
        await asyncio.to_thread(begun.wait, DEADLINE)
        request.cancel()
        await asyncio.sleep(0)
        went.set()
        return await asyncio.to_thread(stream.closed.wait, DEADLINE), client.sent

    assert run(scene()) == (True, [])


def test_a_client_that_does_not_read_keeps_its_thread_no_longer_than_patience():
    async def scene():
        stream, deaf = Stream(), Client(takes=1)
        await InThreads(stream, threads=1, patience=0.01)(GET, deaf.send)
        return stream.closed.is_set(), len(deaf.sent)

    assert run(scene()) == (True, 1)
