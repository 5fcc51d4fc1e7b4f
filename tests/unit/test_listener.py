"""`manage.py sandbox listen` tells of whatever comes, and nothing that comes ends it."""

import pytest
from django.utils import timezone

from console.listener import Listener
from notifications.webhooks.signing import new_secret


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[" * 100_000, b"[]", b'{"type": [], "data": 1}'],
    ids=["no", "bytes", "deep", "list", "odd"],
)
def test_what_is_no_webhook_is_told_all_the_same(body):
    told = []
    listener = Listener(new_secret(), told.append)
    assert listener.receive({"webhook-timestamp": "inf"}, body, now=timezone.now()) == 401
    (received,) = told
    assert "SIGNATURE WRONG" in received.line()
