"""The adapter of the sandbox gateway: HTTP and JSON, shaped like the real ones."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from payments.gateways.base import (
    Approved,
    ChargeAnswer,
    ChargePage,
    ChargeRequest,
    ConflictingCharge,
    Declined,
    LookupAnswer,
    News,
    NotAuthentic,
    NotFound,
    OutcomeUnknown,
    RefundAnswer,
    RefundLookupAnswer,
    RefundRequest,
    RequestRejected,
    Unavailable,
    WebhookEvent,
)
from payments.gateways.sandbox_documents import error_of, parse, read_moment, text_in, text_of
from payments.gateways.sandbox_refunds import fetch_page, find_refund, send_refund
from payments.gateways.transport import Answer, NoAnswer, NotSent, shared_transport

#: HTTP status codes by which the sandbox says, in its own error format, that it did not take the request.
#: Neither 409 nor 422 are among them: there an earlier request under the same key is at work, or was.
REFUSALS: Final = frozenset({401, 403, 404, 429, 503})
#: Past 18 digits it is no time any more.
DELTA_SECONDS: Final = re.compile(r"[0-9]{1,18}")
#: Seconds. A gateway that asks for more is asked again after this long, so that a slip of its hand does not hold
#: a payment for days.
MAX_RETRY_AFTER: Final = 3600.0


@dataclass(frozen=True, slots=True)
class SandboxGateway:
    """Talks to `python -m sandbox`."""

    url: str
    key_window: timedelta = timedelta(hours=24)
    webhook_secrets: Sequence[str] = field(default=(), repr=False)
    grace_period: timedelta = timedelta(seconds=1)

    async def charge(self, request: ChargeRequest, *, deadline: float) -> ChargeAnswer:
        """POST /v1/charges."""
        try:
            answer = await shared_transport().send(
                "POST",
                f"{self.url}/v1/charges",
                deadline=deadline,
                headers={"Idempotency-Key": request.key, "X-Request-ID": request.request_id},
                json={
                    "payment_id": str(request.payment_id),
                    "merchant": request.merchant,
                    "order_id": request.order_id or None,
                    "amount": request.amount,
                    "currency": request.currency,
                    "payment_method": request.payment_method,
                },
            )
        except NotSent as error:
            return Unavailable(detail=str(error))
        except NoAnswer as error:
            return OutcomeUnknown(detail=str(error))
        return read_answer(answer, request)

    async def look_up(self, request: ChargeRequest, *, deadline: float) -> LookupAnswer:
        """GET /v1/charges?idempotency_key=."""
        try:
            answer = await shared_transport().send(
                "GET",
                f"{self.url}/v1/charges",
                deadline=deadline,
                headers={"X-Request-ID": request.request_id},
                params={"idempotency_key": request.key},
            )
        except (NotSent, NoAnswer) as error:
            return OutcomeUnknown(detail=str(error))
        if answer.status_code == 404 and error_of(answer).get("code") == "charge_not_found":
            return NotFound()
        return read_decision(answer, request)

    async def list_charges(
        self, *, since: datetime, until: datetime, cursor: str | None, deadline: float
    ) -> ChargePage:
        """GET /v1/charges?created_since=&created_until=&cursor=."""
        return await fetch_page(self.url, since=since, until=until, cursor=cursor, deadline=deadline)

    async def refund_charge(self, request: RefundRequest, *, deadline: float) -> RefundAnswer:
        """POST /v1/refunds."""
        return await send_refund(self.url, request, deadline=deadline)

    async def look_up_refund(self, request: RefundRequest, *, deadline: float) -> RefundLookupAnswer:
        """GET /v1/refunds?idempotency_key=."""
        return await find_refund(self.url, request, deadline=deadline)

    def verify_webhook(self, *, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Signed by Standard Webhooks 1.0, with one of our secrets; there are two while one is replaced."""
        for secret in self.webhook_secrets:
            try:
                Webhook(secret).verify(body, dict(headers))
            except (WebhookVerificationError, ValueError, RecursionError):
                continue
            document = parse(body)
            if (event_id := text_in(document, "id")) and (kind := text_in(document, "type")):
                return WebhookEvent(id=event_id[:255], type=kind[:100], body=document)
        raise NotAuthentic

    def read_event(self, body: Mapping[str, Any]) -> News | None:
        """`charge.succeeded` and `charge.failed`."""
        charge = body.get("data")
        if body.get("type") not in {"charge.succeeded", "charge.failed"} or not isinstance(charge, dict):
            return None
        try:
            payment_id = UUID(text_in(charge, "payment_id"))
        except ValueError:
            return None
        amount, currency = charge.get("amount"), text_in(charge, "currency")
        reference = text_in(charge, "charge")[:255]
        if type(amount) is not int or not (currency and reference):  # 10.9 must not be taken for 10
            return None
        answer: Approved | Declined = Approved(reference=reference)
        if body["type"] == "charge.failed":
            code = text_in(charge, "decline_code")[:50] or "declined"
            answer = Declined(decline_code=code, detail="", reference=reference)
        return News(
            payment_id=payment_id,
            amount=amount,
            currency=currency,
            answer=answer,
            key=text_of(charge, "idempotency_key"),
            merchant=text_of(charge, "merchant"),
            order_id=text_of(charge, "order_id"),
            charged_at=read_moment(body.get("created_at")),
        )


def read_answer(answer: Answer, request: ChargeRequest) -> ChargeAnswer:
    """Sort a whole answer to a charge."""
    error = error_of(answer)
    code = text_in(error, "code")
    if answer.status_code == 400 and code:
        return RequestRejected(code=code[:50], detail=text_in(error, "message")[:500])
    if answer.status_code in REFUSALS and code:
        detail = f"HTTP {answer.status_code} {code}"[:200]
        return Unavailable(detail=detail, retry_after=read_retry_after(answer))
    return read_decision(answer, request)


def read_decision(answer: Answer, request: ChargeRequest) -> Approved | Declined | OutcomeUnknown:
    """What became of a charge. Only what is well formed and speaks of our charge counts.

    Of a look-up nothing else does: that it was refused, or was wrong, says nothing of the charge.
    """
    error = error_of(answer)
    if answer.status_code == 200:
        return read_approval(answer, request)
    if answer.status_code == 402 and error.get("code") == "declined" and text_in(error, "decline_code"):
        return Declined(
            decline_code=text_in(error, "decline_code")[:50],
            detail=text_in(error, "message")[:500],
            reference=text_in(error, "charge")[:255],
        )
    return OutcomeUnknown(detail=f"HTTP {answer.status_code} that says nothing certain")


def read_approval(answer: Answer, request: ChargeRequest) -> Approved | OutcomeUnknown:
    """Read an approval. It counts if it is about our key, amount and currency."""
    charge = parse(answer.body)
    reference = charge.get("id")
    if charge.get("status") != "approved" or not isinstance(reference, str) or not reference:
        return OutcomeUnknown(detail="HTTP 200 without an approved charge")
    if _is_requested(charge, request):
        return Approved(reference=reference[:255])
    return OutcomeUnknown(detail="HTTP 200 with another charge than the requested one", conflict=_conflict(charge))


def _is_requested(charge: Mapping[str, Any], request: ChargeRequest) -> bool:
    """Return whether a charge is the requested one.

    The key identifies it. The payment id does not have to be ours: when the database has lost the commit of an
    accepted payment and the client repeated its request, the charge under the key names the lost payment.
    """
    key = charge.get("idempotency_key")
    is_ours = charge.get("payment_id") == str(request.payment_id) if key is None else key == request.key
    amount = charge.get("amount")
    return is_ours and type(amount) is int and (amount, charge.get("currency")) == (request.amount, request.currency)


def _conflict(charge: Mapping[str, Any]) -> ConflictingCharge | None:
    """Return the charge as evidence, if it says which charge of which amount it is."""
    amount, currency, payment_id = charge.get("amount"), charge.get("currency"), charge.get("payment_id")
    if type(amount) is not int or not isinstance(currency, str):
        return None
    return ConflictingCharge(
        reference=charge["id"][:255],
        amount=amount,
        currency=currency[:3],
        payment_id=payment_id[:64] if isinstance(payment_id, str) else "",
    )


def read_retry_after(answer: Answer) -> float | None:
    """The seconds that a 429 or 503 asks us to wait (RFC 9110, 10.2.3), or None.

    The other form, a date, would be only as good as two clocks are in step; it is ignored, as is nonsense.
    """
    text = answer.headers.get("retry-after", "").strip()
    if answer.status_code not in {429, 503} or not DELTA_SECONDS.fullmatch(text):
        return None
    return min(float(text), MAX_RETRY_AFTER)
