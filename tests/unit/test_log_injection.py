"""Nothing that strangers write forges a line of the log, or commands the terminal that shows it."""

import json
import logging
import re
import sys

import pytest
import structlog
from django.test import RequestFactory

from config.logs import Stream, structlog_config
from config.request_log import PathLoggingMiddleware
from messaging.correlation import choose_request_id
from tests.log_lines import formatter_of

#: What the console's own renderer puts around words.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FORGED = '{"event": "payment_succeeded", "level": "info"}'
HOSTILE = [f"x\n{FORGED}", f"x\r\n{FORGED}", f"x\u2028{FORGED}", f"x\x85{FORGED}", "x\x1b[2K\x1b[1A", "x\x1b]0;t\x07",
           "\u202egnp.exe", f'x", "event": "forged"\n{FORGED}', "x\x00y", "x\x0b\x0cy"]  # fmt: skip


@pytest.fixture(params=["json", "console"])
def written(request, capsys):
    """Say something in one format, through our own logger or a library's; what came of it."""
    style = request.param

    def say(event, *arguments, exc_info=None, **values):
        if values:
            config = structlog_config(level="INFO", style=style)
            fields = {"processors": config["processors"], "wrapper_class": config["wrapper_class"]}
            structlog.wrap_logger(Stream("tests"), **fields).info(event, exc_info=exc_info, **values)
        else:
            handler = logging.StreamHandler()
            handler.setFormatter(formatter_of(style))
            logger = logging.Logger("tests")  # noqa: LOG001  # its handler dies with it
            logger.addHandler(handler)
            logger.warning(event, *arguments, exc_info=exc_info)
        return style, COLOUR.sub("", capsys.readouterr().err)

    return say


def is_harmless(text):
    return not any(sign in text for sign in "\r\x1b\x07\x85\u2028\u202e\x00\x0b\x0c")


@pytest.mark.parametrize("hostile", HOSTILE, ids=[str(number) for number in range(len(HOSTILE))])
def test_no_value_of_a_line_begins_another_one(written, hostile):
    style, line = written("user_login", username=hostile, order_id=hostile, nested={"header": [hostile], hostile: 1})
    assert line.count("\n") == 1
    assert is_harmless(line)
    if style == "json":
        told = json.loads(line)
        assert (told["event"], told["username"]) == ("user_login", hostile)


@pytest.mark.parametrize("hostile", HOSTILE, ids=[str(number) for number in range(len(HOSTILE))])
def test_no_line_of_a_library_begins_another_one(written, hostile):
    for said in (("Not Found: %s", hostile), (hostile,)):
        _, line = written(*said)
        assert line.count("\n") == 1
        assert is_harmless(line)


@pytest.mark.parametrize("values", [{}, {"order_id": "o-1"}], ids=["library", "own"])
def test_an_exception_that_quotes_a_stranger_forges_no_line(written, values):
    try:
        raise ValueError(f"no such order: x\n{FORGED}\x1b[2K")
    except ValueError:
        style, told = written("failed", exc_info=sys.exc_info(), **values)
    assert is_harmless(told)
    lines = told.splitlines()
    if style == "json":
        assert len(lines) == 1
    assert all(line.startswith("    ") for line in lines[1:])


@pytest.mark.parametrize("hostile", HOSTILE, ids=[str(number) for number in range(len(HOSTILE))])
def test_no_header_and_no_path_gets_into_the_log_as_more_than_itself(written, hostile):
    assert choose_request_id({"HTTP_X_REQUEST_ID": hostile}) != hostile
    request = RequestFactory().get("/api/v1/payments")
    request.path = f"/api/v1/{hostile}"
    _, line = written("request_started", request=PathLoggingMiddleware.format_request(request))
    assert line.count("\n") == 1
    assert is_harmless(line)
