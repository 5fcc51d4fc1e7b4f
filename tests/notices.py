"""Notices as the tests of mail and SMS want them: one of a payment of €1,234.50, changed where a test says so."""

from datetime import UTC, datetime
from uuid import UUID

from notifications.notices import FOR_MERCHANTS, FOR_PAYERS, Notice, OwnType

PAYMENT_ID = "0199f3a2-5b07-7e31-8a44-90d1c2b7e6f5"
#: All that mails are written about, and all that SMS are.
PAYMENT_KINDS = [*(("payer", kind.value) for kind in FOR_PAYERS), *(("merchant", kind.value) for kind in FOR_MERCHANTS)]
KINDS = [*PAYMENT_KINDS, ("merchant", OwnType.FAILING.value), ("merchant", OwnType.DISABLED.value)]
ERROR = {
    "code": "declined",
    "decline_code": "stolen_card",
    "advice": "Ask the payer for another payment method, and do not tell them the reason.",
    "detail": "The gateway's own words.",
}


def notice(kind="payment.succeeded", *, audience="payer", data=None, **changes):
    if kind.startswith("payment."):
        facts = payment(kind) | (data or {})
    else:
        facts = {"url": "https://shop.example/hooks", "since": "2026-11-20T09:00:00.000Z", "reason": "HTTP 500"}
        facts |= data or {}
    fields = {
        "event_id": UUID("0199f3a2-5c1e-7c0a-9d57-2f6b8e4a1c33"),
        "type": kind,
        "occurred_at": datetime(2026, 11, 21, 9, 4, 44, tzinfo=UTC),
        "mode": "live",
        "audience": audience,
        "language": "en",
        "merchant": "Shop",
        "reply_to": "help@shop.example",
    }
    return Notice(**{**fields, "data": facts, **changes})


def payment(kind):
    status = kind.partition(".")[2]
    return {
        "id": PAYMENT_ID,
        "mode": "live",
        "status": "unknown" if status == "needs_review" else status,
        "amount": "1234.50",
        "amount_captured": "1234.50" if status == "succeeded" else "0.00",
        "currency": "EUR",
        "order_id": "order-123",
        "user_id": "user-7",
        "description": "a description that is nobody's business",
        "metadata": {"note": "metadata that is nobody's business"},
        "payment_method": "pm_secret_token",
        "last_error": ERROR if status in {"failed", "needs_review"} else None,
    }
