"""A WSGI application that shows what reaches it, behind our front: `gunicorn ... tests.probe`. Its folder has the signs
by which it and a test tell each other how far they are.
"""

import contextlib
import json
import os
import threading
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from config.front import Front  # noqa: E402
from config.threads import InThreads  # noqa: E402

FOLDER = Path(os.environ.get("PROBE_FOLDER", "."))
THREADS = 2
BLOCK = b"x" * 65536
LONG = 8_000_000


class NoDoor:
    async def answer(self, environ, body, send):
        return False


def echo(environ, start_response):
    seen = {name: value for name, value in environ.items() if isinstance(value, str)}
    seen["body"] = len(environ["wsgi.input"].read())
    body = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def hold(environ, start_response):
    """Answers when it is told to."""
    (FOLDER / "held").touch()
    while not (FOLDER / "go").exists():
        threading.Event().wait(0.01)
    return echo(environ, start_response)


def endless(environ, start_response):
    start_response("200 OK", [])
    try:
        while True:
            yield BLOCK
    finally:
        (FOLDER / f"ended-{environ['QUERY_STRING']}").touch()


def long(environ, start_response):
    start_response("200 OK", [("Content-Length", str(LONG))])
    (FOLDER / "long").touch()
    return [b"x" * LONG]


def none(environ, start_response):
    start_response("204 No Content", [])
    return [b""]


def broken(environ, start_response):
    raise LookupError("broken")


def half(environ, start_response):
    start_response("200 OK", [])
    for _ in range(8):
        yield BLOCK
    raise LookupError("half")


PAGES = {f"/{page.__name__}": page for page in (hold, endless, long, none, broken, half)}


def pages(environ, start_response):
    return PAGES.get(environ["PATH_INFO"], echo)(environ, start_response)


class LargeBodies:
    """Admits what a header says."""

    async def find_sender(self, environ):
        return environ.get("HTTP_X_MERCHANT")

    def place(self, merchant):
        return contextlib.nullcontext()


application = Front(NoDoor(), InThreads(pages, threads=THREADS), LargeBodies())
