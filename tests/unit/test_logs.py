"""Logs tell what happened, and nothing that people have written into a payment."""

import contextlib
import json
import logging
import os
import sys
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import uuid4

import pytest
import structlog
from django.test import RequestFactory
from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker

from config.logs import Stream, WithoutTwins, structlog_config, traceback_without_rows
from config.request_log import PathLoggingMiddleware


def test_a_traceback_has_no_local_variables_and_quotes_no_row():
    secret = "sk_test_canary-in-a-variable"
    try:
        raise ValueError(f"violates check\nDETAIL:  Failing row contains (canary-in-a-row). {len(secret)}")
    except ValueError:
        told = str(traceback_without_rows(sys.exc_info()))
    assert "violates check" in told
    assert "canary" not in told


@pytest.mark.parametrize(
    "address",
    ["canary7@example.com", '"canary7"@example.com', "+4915123456789", "https://shop.example/in?token=canary7"],
    ids=["mail", "quoted", "phone", "url"],
)
def test_a_traceback_quotes_no_address(address):
    try:
        raise ValueError(f"Invalid address <{address}>; is it one?")
    except ValueError:
        (stack,) = traceback_without_rows(sys.exc_info())
    assert stack["exc_value"].startswith("Invalid address <")
    assert stack["exc_value"].endswith(">; is it one?")
    assert "canary7" not in stack["exc_value"]
    assert "123456789" not in stack["exc_value"]


def test_a_request_is_logged_without_what_was_searched_for():
    request = RequestFactory().get("/api/v1/payments", {"user_id": "canary@example.com"})
    assert PathLoggingMiddleware.format_request(request) == "GET /api/v1/payments"


def test_a_worker_for_each_queue_is_no_reason_to_warn_operators(caplog):
    broker = StubBroker(middleware=[])
    workers = [Worker(broker, queues={name}, worker_threads=1) for name in ("one", "two")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.stop()
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings, "if dramatiq warns no more, the filter may go"
    assert not any(WithoutTwins().filter(record) for record in warnings)


class Mute:
    def __repr__(self):
        raise RuntimeError("it cannot say what it is")


@dataclass
class Credential:
    name: str
    secret: str = field(repr=False)


RING: list[object] = []
RING.append(RING)
ODD = [
    "\ud800",
    2**64,
    {1: object()},
    {(1, 2): "é"},
    {uuid4(): "é"},
    Decimal("1.10"),
    "naïve 🙂",
    float("nan"),
    RING,
    Mute(),
]


@pytest.mark.parametrize("value", ODD, ids=[str(number) for number in range(len(ODD))])
def test_there_is_no_value_that_cannot_be_told(value, told):
    line = told(value=value, beside="é")
    assert line.isascii()
    assert json.loads(line)["event"] == "told"
    assert json.loads(line)["beside"] == "é"


def test_what_a_class_does_not_show_is_not_told(told):
    assert "Credential(name='n')" in told(value=Credential("n", "canary"))
    assert "canary" not in told(value=[Credential("n", "canary")], other="é")


@pytest.fixture
def told(capsys):
    """A line of ours, as production writes it."""

    def say(**values):
        config = structlog_config(level="INFO", style="json")
        structlog.wrap_logger(Stream("tests"), processors=config["processors"]).info("told", **values)
        return capsys.readouterr().err

    return say


def test_nobody_fails_because_a_line_cannot_be_written(monkeypatch):
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", buffering=1) as pipe:
        os.close(reader)
        monkeypatch.setattr(sys, "stderr", pipe)
        Stream("tests").info("x" * 100_000)
        Stream("tests").info("and again")
        monkeypatch.undo()
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
    for nothing in (pipe, None):
        monkeypatch.setattr(sys, "stderr", nothing)
        Stream("tests").info("closed by now")
