"""What `docs/webhooks.md` tells the developers of merchants is so."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from django.conf import settings
from django.utils import timezone

from notifications import endpoint_health, endpoints, schedule
from notifications.notices import OwnType
from notifications.webhooks import documents
from notifications.webhooks.signing import headers_of, new_secret
from payments.events import EventType
from payments.models import PaymentEvent
from tests.system import eventually

ROOT = Path(settings.BASE_DIR)
DOCUMENTATION = (ROOT / "docs/webhooks.md").read_text()
EXAMPLE = ROOT / "docs/examples/receive_webhooks.py"
HOURS = re.compile(r"([0-9]+) (s|min|h)\b")
UNITS = {"s": schedule.SECOND, "min": schedule.MINUTE, "h": schedule.HOUR}


def test_the_documentation_shows_the_example_as_it_is():
    assert f"```python\n{EXAMPLE.read_text()}```" in DOCUMENTATION


@pytest.mark.parametrize("kind", [*EventType, OwnType.TEST])
def test_the_documentation_knows_every_type(kind):
    assert f"| `{kind}` |" in DOCUMENTATION


def test_the_documentation_has_the_waits_between_attempts():
    rows = re.findall(r"^\| ([0-9]+) \| ([^|]+) \| \| ([0-9]+) \| ([^|]+) \|$", DOCUMENTATION, re.MULTILINE)
    waits = {int(number): wait for row in rows for number, wait in (row[:2], row[2:])}
    assert waits.pop(1) == "at once"
    read = [HOURS.fullmatch(wait.strip()) for _, wait in sorted(waits.items())]
    assert tuple(int(it[1]) * UNITS[it[2]] for it in read) == schedule.WEBHOOK


def test_the_documentation_has_our_numbers():
    assert f"at most {endpoints.MOST_ENDPOINTS} endpoints" in DOCUMENTATION
    assert f"For {endpoints.ROTATION // schedule.HOUR} hours everything is signed with both" in DOCUMENTATION
    assert f"After {endpoint_health.DISABLE_AFTER // schedule.HOUR} hours without a success" in DOCUMENTATION
    assert (endpoint_health.WARN_AFTER, schedule.JITTER, documents.MAX_BYTES) == (4, 0.1, 20_000)
    assert f"At most {settings.WEBHOOKS_PER_ENDPOINT} calls" in DOCUMENTATION


@pytest.mark.django_db
def test_the_document_in_the_documentation_has_what_ours_have(accept):
    accept()
    event = PaymentEvent.objects.get()
    ours = json.loads(
        documents.document_of(
            type=event.type, occurred_at=event.created_at, data={**event.snapshot, "version": event.version}
        )
    )
    shown = json.loads(DOCUMENTATION.partition("```json\n")[2].partition("```")[0])
    assert set(shown) == set(ours)
    assert set(shown["data"]) == set(ours["data"])


# --- the example, as it is


@pytest.fixture
def receiver(tmp_path):
    """The example with a secret: its URL, its secret and what it prints."""
    secret, printed = new_secret(), tmp_path / "printed"
    with printed.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLE), "0"],
            stdout=output,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "WEBHOOK_SECRET": secret},
        )
    try:
        eventually(lambda: "listening" in printed.read_text(), within=30, what="the example listens")
        yield f"http://127.0.0.1:{printed.read_text().split()[-1]}", secret, printed
    finally:
        process.kill()
        process.wait()


def send(url, secrets, *, event_id=None, sign=None):
    """What we send, and the receiver's status; `sign`: other bytes than are sent."""
    now = timezone.now()
    body = documents.document_of(type="payment.succeeded", occurred_at=now, data={"id": "p-1", "amount": "10.00"})
    headers = headers_of(event_id=event_id or str(uuid4()), body=sign or body, secrets=secrets, now=now)
    return httpx2.post(url, content=body, headers=headers, trust_env=False).status_code


def test_the_example_verifies_what_we_send_also_during_a_rotation_and_takes_it_once(receiver):
    url, secret, printed = receiver
    event_id = str(uuid4())
    assert send(url, [secret], event_id=event_id) == 204
    assert send(url, [new_secret(), secret], event_id=event_id) == 204
    assert printed.read_text().splitlines()[1:] == ["payment.succeeded p-1 10.00"]


def test_the_example_takes_nothing_that_is_not_ours(receiver):
    url, secret, printed = receiver
    assert send(url, [new_secret()]) == 400
    assert send(url, [secret], sign=b"{}") == 400
    assert httpx2.post(url, content=b"{}", trust_env=False).status_code == 400
    assert httpx2.post(url, content=b"{}", headers={"webhook-id": "1"}, trust_env=False).status_code == 400
    assert len(printed.read_text().splitlines()) == 1
