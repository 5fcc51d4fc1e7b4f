"""Requests of the tests go where those of clients go: to the fast door, and past it into the house.

Modules with `BOTH_DOORS = True` are run again with all requests going into the house: what they say holds of both. A
module for which the fast door has answered must say whether it is one of them.
"""

from collections.abc import Coroutine
from io import BytesIO
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.test.client import ClientHandler

from config import fast_door
from config.fast_door import FastDoor

DOOR = FastDoor()
INTO_THE_HOUSE = ClientHandler.__call__


#: The paths that the fast door has answered for the running test.
answered: list[str] = []


class AtOnce:
    """A lane without a thread of its own: a test's transaction is this thread's."""

    async def ask(self, question: object) -> object:
        """The answer; whatever goes wrong is none."""
        try:
            return fast_door.accept_together([question])[0]
        except Exception:  # noqa: BLE001  # as the lane does
            return None


DOOR.lane = AtOnce()


def answer_of(environ: dict[str, Any]) -> tuple[int, dict[str, str], bytes] | None:
    """What the door answers; None where it leaves a request to the house, which finds all as it was."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = BytesIO(body)
    environ.setdefault("HTTP_HOST", environ["SERVER_NAME"])  # which clients always send, and Django's do not
    if not environ.get("HTTP_COOKIE"):  # which Django's always send, and clients do not
        environ.pop("HTTP_COOKIE", None)
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    if not at_once(DOOR.answer(environ, body, send)):
        assert not messages
        return None
    start, last = messages
    headers = {name.decode("latin-1").title(): value.decode("latin-1") for name, value in start["headers"]}
    return start["status"], headers, last["body"]


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")


def by_the_fast_door(handler: ClientHandler, environ: dict[str, Any]) -> HttpResponse:
    """In the place of Django's own: the door first."""
    answer = answer_of(environ)
    if answer is None:
        return INTO_THE_HOUSE(handler, environ)
    answered.append(environ["PATH_INFO"])
    status, headers, body = answer
    response = HttpResponse(body, status=status)
    response.headers = HttpResponse(headers=headers).headers
    response.wsgi_request = WSGIRequest(environ)
    return response
