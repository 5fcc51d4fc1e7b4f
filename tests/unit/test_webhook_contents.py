"""What webhooks say and how they are signed, and what may be kept of the answers."""

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
import standardwebhooks
from hypothesis import example, given
from hypothesis import strategies as st

from config.environment import is_webhook_secret
from notifications.webhooks.documents import MAX_BYTES, DocumentTooLarge, document_of
from notifications.webhooks.excerpts import MAX_CHARACTERS, excerpt
from notifications.webhooks.signing import headers_of, new_secret
from payments.cards import has_card_number

THEN = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
PAYMENT = {"id": "p-1", "amount": "10.00", "description": "Größe", "metadata": {"b": "2", "a": "1"}}
#: Secrets of every kind, and how much of one may be seen by chance.
SECRETS = {
    "webhook": "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "api key": "sk_live_" + "Zq3-x9_TtB7wLmN0",
    "short api key": "sk_test_Zq3x9TtB7",
    "bearer": "Bearer zq3x9ttb7wlmn0pq",
    "basic": "Authorization: Basic zq3x9ttb7wlm",
    "password": '"password": "zq3x9ttb7wlm"',
    "token": "api_key=zq3x9ttb7wlm",
    "url": "amqp://zq3x9ttb7:wlmn0pq8@",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.zq3x9ttb7wlmn0pq",
    "short jwt": "eyJhbGci.zq3x9ttb7.wlm",
    "hex": "9f86d081884c7d659a2feaa0c55ad015",
    "base64": "zq3x9TtB7+wLmN0/pQ8rS5uV2yA4bC6dE==",
    "base64url": "zq3x9TtB7-wLmN0_pQ8rS5uV2yA4bC6dE",
    "card": "4242 4242 4242 4242",
    "card in one run": "5555555555554444",
    "mail": "zq3x9ttb7.wlm@example.com",
}
PART = 7


def pieces(secret):
    """All neighbouring characters of a secret that would be too many to be seen."""
    core = secret.rpartition(" ")[2].strip('"') if "card" not in secret and "4242" not in secret else secret
    core = core.removeprefix("api_key=").removeprefix("whsec_").removeprefix("sk_live_").removeprefix("sk_test_")
    core = core.removeprefix("amqp://").removesuffix("@example.com")
    return [core[start : start + PART] for start in range(len(core) - PART + 1)]


# --- Signatures -------------------------------------------------------------------------


def test_every_secret_of_a_rotation_verifies_with_the_unmodified_package():
    secrets, body = [new_secret(), new_secret()], document_of(type="payment.succeeded", occurred_at=THEN, data=PAYMENT)
    headers = headers_of(event_id="e-1", body=body, secrets=secrets, now=datetime.now(UTC))
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in secrets:
        assert standardwebhooks.Webhook(secret).verify(body, headers)["data"] == PAYMENT
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(new_secret()).verify(body, headers)


@pytest.mark.parametrize("changed", ["body", "webhook-id", "webhook-timestamp", "webhook-signature"])
def test_nothing_that_is_signed_can_be_changed(changed):
    secret, body, now = new_secret(), b'{"a":1}', datetime.now(UTC)
    headers = headers_of(event_id="e-1", body=body, secrets=[secret], now=now)
    other = headers_of(event_id="e-2", body=b'{"a":2}', secrets=[secret], now=now + timedelta(seconds=1))
    if changed == "body":
        body = b'{"a":2}'
    else:
        headers[changed] = other[changed]
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secret).verify(body, headers)


def test_an_old_signature_cannot_be_sent_again():
    secret = new_secret()
    headers = headers_of(event_id="e-1", body=b"{}", secrets=[secret], now=datetime.now(UTC) - timedelta(minutes=6))
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secret).verify(b"{}", headers)


def test_another_time_zone_does_not_spoil_a_signature():
    secret, zone = new_secret(), timezone(timedelta(hours=5, minutes=30))
    headers = headers_of(event_id="e-1", body=b"{}", secrets=[secret], now=datetime.now(zone))
    assert standardwebhooks.Webhook(secret).verify(b"{}", headers) == {}


def test_no_header_is_missing():
    headers = headers_of(event_id="e-1", body=b"{}", secrets=[new_secret()], now=THEN)
    assert headers.pop("webhook-signature").startswith("v1,")
    assert headers == {
        "Content-Type": "application/json",
        "User-Agent": "payments-webhooks/1",
        "webhook-id": "e-1",
        "webhook-timestamp": "1795262400",
    }


def test_no_two_secrets_are_the_same_or_weak():
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(is_webhook_secret(secret) for secret in secrets)
    assert {len(base64.b64decode(secret.removeprefix("whsec_"))) for secret in secrets} == {32}


# --- Documents --------------------------------------------------------------------------


def test_no_two_attempts_say_the_same_differently():
    backwards = {name: PAYMENT[name] for name in reversed(PAYMENT)} | {"metadata": {"a": "1", "b": "2"}}
    one = document_of(type="payment.succeeded", occurred_at=THEN, data=PAYMENT, version=3)
    two = document_of(
        type="payment.succeeded", occurred_at=THEN.astimezone(timezone(timedelta(hours=2))), data=backwards, version=3
    )
    assert one == two
    assert json.loads(one) == {
        "type": "payment.succeeded",
        "timestamp": "2026-11-21T12:00:00.123Z",
        "data": {**PAYMENT, "version": 3},
    }


def test_what_is_told_is_not_changed_by_telling_it():
    data = {**PAYMENT, "metadata": {"x": "y" * MAX_BYTES}}
    before = json.dumps(data)
    document_of(type="payment.succeeded", occurred_at=THEN, data=data, version=1)
    assert json.dumps(data) == before


@pytest.mark.parametrize(
    "large",
    [{"metadata": {"x": "y" * MAX_BYTES}}, {"description": "ü" * MAX_BYTES}, {"metadata": {"x": "\x01" * 6000}}],
    ids=["metadata", "description", "escapes"],
)
def test_no_document_is_too_large(large):
    body = document_of(type="payment.succeeded", occurred_at=THEN, data={**PAYMENT, **large}, version=3)
    assert len(body) < MAX_BYTES
    data = json.loads(body)["data"]
    assert data == {"id": "p-1", "amount": "10.00", "version": 3, "left_out": ["description", "metadata"]}


def test_nothing_is_left_out_that_just_fits():
    room = MAX_BYTES - 1 - len(document_of(type="payment.succeeded", occurred_at=THEN, data={"metadata": {"x": ""}}))
    body = document_of(type="payment.succeeded", occurred_at=THEN, data={"metadata": {"x": "y" * room}})
    assert len(body) == MAX_BYTES - 1
    assert "left_out" not in json.loads(body)["data"]
    body = document_of(type="payment.succeeded", occurred_at=THEN, data={"metadata": {"x": "y" * (room + 1)}})
    assert json.loads(body)["data"] == {"left_out": ["metadata"]}


def test_what_cannot_be_made_small_enough_is_not_sent_in_part():
    with pytest.raises(DocumentTooLarge):
        document_of(type="x", occurred_at=THEN, data={"status": "y" * MAX_BYTES})


def test_no_ordinary_value_is_unspeakable():
    data = {"id": uuid.UUID(int=1), "at": THEN, "amount": Decimal("1.50"), "none": None}
    told = json.loads(document_of(type="x", occurred_at=THEN, data=data))["data"]
    assert told == {"id": str(uuid.UUID(int=1)), "at": "2026-11-21T12:00:00.123Z", "amount": "1.50", "none": None}


# --- Excerpts ---------------------------------------------------------------------------


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("filler", ["word ", "A", "ab@example.com ", "\0"])
def test_no_secret_survives_at_any_edge(secret, filler):
    for length in [*range(960, 1010, 7), *range(1780, 2060, 5)]:
        before = (filler * length).encode()[:length].decode(errors="ignore")
        kept = excerpt(f"{before}\n{secret}\n and more".encode() + b" etc." * 300, "text/plain")
        assert not [piece for piece in pieces(secret) if piece in kept], (length, kept[-60:])


@given(
    before=st.text(),
    length=st.integers(0, 2200),
    secret=st.sampled_from(list(SECRETS.values())),
    after=st.text(),
    more=st.integers(0, 3000),
)
@example(before="\ud800", length=0, secret=SECRETS["jwt"], after="", more=0)
def test_no_secret_survives_in_any_text(before, length, secret, after, more):
    body = f"{before}{'word ' * (length // 5)}\n{secret}\n{after}{'etc. ' * (more // 5)}".encode(errors="replace")
    kept = excerpt(body, "application/json")
    assert not [piece for piece in pieces(secret) if piece in kept and piece not in before + after]


@given(st.binary(max_size=5000), st.text(max_size=30))
def test_no_excerpt_is_too_long_or_cannot_be_stored_or_shown(body, content_type):
    kept = excerpt(body, content_type)
    assert len(kept) <= MAX_CHARACTERS
    assert not set(kept) & set("\0\x1b\x7f\u202e\u2066\u200b\u2028")
    kept.encode()
    assert not has_card_number(kept)


@given(st.text(alphabet="0123456789 -", max_size=3000))
def test_no_card_number_is_made_by_a_cut(text):
    assert not has_card_number(excerpt(text.encode(), "text/plain"))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"error": "no such order"}', '{"error": "no such order"}'),
        ("line\r\nline\ttab", "line\nline\ttab"),
        ("order 3f2504e0-4f89-41d3-9a0c-0305e82c3301 is paid", "order 3f2504e0-4f89-41d3-9a0c-0305e82c3301 is paid"),
        ("the secret: abc, of joe@example.com", "the secret: [redacted], of ***@example.com"),
        ("Authorization: Bearer abc.def", "Authorization: [redacted]"),
        ("got Bearer abc", "got Bearer [redacted]"),
        ("postgres://user:password@db/x", "postgres://[redacted]db/x"),
        ("card 4242-4242-4242-4242!", "card ****-****-****-****!"),
        ("\x1b[31mred\x07 \u202eevil\u202c\u2066 \u200b", "�[31mred� �evil�� �"),
        ("\ufeff日本語 ü 🎉", "�日本語 ü 🎉"),
        ("", ""),
    ],
    ids=range(11),
)
def test_no_more_is_hidden_than_needs_be(text, kept):
    assert excerpt(text.encode(), "text/plain; charset=utf-8") == kept


@pytest.mark.parametrize(
    "content_type", ["", "text/html", "application/json", "APPLICATION/JSON", "application/problem+json; a=b", "text/x"]
)
def test_no_text_is_taken_for_something_else(content_type):
    assert excerpt(b"hello", content_type) == "hello"


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "application/pdf", "nonsense"])
def test_nothing_is_shown_that_nobody_can_read(content_type):
    assert excerpt(b"\x89PNG", content_type) == "[4 bytes that are no text]"
    assert excerpt(b"", content_type) == ""


def test_bytes_in_another_encoding_are_no_error():
    assert excerpt("Größe".encode("latin-1"), "text/plain") == "Gr��e"
