"""Logs tell what happened, and nothing that people have written into a payment."""

import sys

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


def test_a_request_is_logged_without_what_was_searched_for():
    request = RequestFactory().get("/api/v1/payments", {"user_id": "canary@example.com"})
    assert PathLoggingMiddleware.format_request(request) == "GET /api/v1/payments"
