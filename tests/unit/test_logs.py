"""Logs tell what happened, and nothing that people have written into a payment."""

import sys

import pytest
from django.test import RequestFactory

from config.logs import traceback_without_rows
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
