"""The sandbox gateway's list of charges, and its refunds."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from payments.gateways.base import (
    ChargePage,
    ListedCharge,
    ListFailed,
    NotFound,
    OutcomeUnknown,
    RefundAnswer,
    Refunded,
    RefundLookupAnswer,
    RefundRefused,
    RefundRequest,
    Unavailable,
)
from payments.gateways.sandbox_documents import error_of, parse, read_moment, text_of
from payments.gateways.transport import Answer, NoAnswer, NotSent, shared_transport

#: Charges per page: about 120 kB, half of what one answer may have.
PAGE_SIZE: Final = 300
#: HTTP statuses by which the sandbox says that it did not take the request. Not 409 and 422: there an earlier request
#: under the same key is at work, or was.
NOT_TAKEN: Final = frozenset({401, 403, 429, 503})
#: HTTP statuses by which it refuses this request for good.
REFUSED: Final = frozenset({400, 402, 404})


async def fetch_page(url: str, *, since: datetime, until: datetime, cursor: str | None, deadline: float) -> ChargePage:
    """Return one page of charges. Raises ListFailed."""
    params = {"created_since": written(since), "created_until": written(until), "limit": str(PAGE_SIZE)}
    try:
        answer = await shared_transport().send(
            "GET",
            f"{url}/v1/charges",
            deadline=deadline,
            headers={},
            params=params if cursor is None else {**params, "cursor": cursor},
        )
    except (NotSent, NoAnswer) as error:
        raise ListFailed(str(error)) from error
    return read_page(answer)


def written(moment: datetime) -> str:
    """Return the time in RFC 3339."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read_page(answer: Answer) -> ChargePage:
    """Read a page. One charge that cannot be read fails it: to leave it out would hide it. Raises ListFailed."""
    document = parse(answer.body)
    data, more, cursor = (document.get(name) for name in ("data", "has_more", "next_cursor"))
    if answer.status_code != 200 or not isinstance(data, list) or not isinstance(more, bool):
        code = error_of(answer).get("code", "no list of charges")
        raise ListFailed(f"HTTP {answer.status_code}: {code}"[:200])
    if more and not (isinstance(cursor, str) and cursor):
        raise ListFailed("the page says that there are more charges, and has no cursor")
    return ChargePage(charges=[read_listed(charge) for charge in data], next_cursor=cursor if more else None)


def read_listed(charge: Any) -> ListedCharge:
    """Read one charge of the list. Raises ListFailed."""
    if not isinstance(charge, dict):
        raise ListFailed("a charge of the list is not a JSON object")
    amount, status = charge.get("amount"), charge.get("status")
    reference, currency = text_of(charge, "id"), text_of(charge, "currency")
    if not reference or type(amount) is not int or len(currency) != 3 or status not in {"approved", "declined"}:
        raise ListFailed(f"charge {reference or 'without an id'} of the list cannot be read")
    return ListedCharge(
        reference=reference,
        approved=status == "approved",
        key=text_of(charge, "idempotency_key"),
        payment_id=text_of(charge, "payment_id"),
        merchant=text_of(charge, "merchant"),
        order_id=text_of(charge, "order_id"),
        amount=amount,
        currency=currency,
        charged_at=read_moment(charge.get("created_at")),
    )


async def send_refund(url: str, request: RefundRequest, *, deadline: float) -> RefundAnswer:
    """Send the refund and classify its answer."""
    try:
        answer = await shared_transport().send(
            "POST",
            f"{url}/v1/refunds",
            deadline=deadline,
            headers={"Idempotency-Key": request.key, "X-Request-ID": request.request_id},
            json={"charge": request.reference, "amount": request.amount, "currency": request.currency},
        )
    except NotSent as error:
        return Unavailable(detail=str(error))
    except NoAnswer as error:
        return OutcomeUnknown(detail=str(error))
    return read_refund_answer(answer, request)


def read_refund_answer(answer: Answer, request: RefundRequest) -> RefundAnswer:
    """Classify a whole answer to a refund."""
    error = error_of(answer)
    code = text_of(error, "code")[:50]
    if answer.status_code in NOT_TAKEN and code:
        return Unavailable(detail=f"HTTP {answer.status_code} {code}")
    if answer.status_code in REFUSED and code:
        return RefundRefused(code=code, detail=text_of(error, "message")[:400])
    return read_refund(answer, request)


async def find_refund(url: str, request: RefundRequest, *, deadline: float) -> RefundLookupAnswer:
    """Look up the refund under its key."""
    try:
        answer = await shared_transport().send(
            "GET",
            f"{url}/v1/refunds",
            deadline=deadline,
            headers={"X-Request-ID": request.request_id},
            params={"idempotency_key": request.key},
        )
    except (NotSent, NoAnswer) as error:
        return OutcomeUnknown(detail=str(error))
    if answer.status_code == 404 and error_of(answer).get("code") == "refund_not_found":
        return NotFound()
    return read_refund(answer, request)


def read_refund(answer: Answer, request: RefundRequest) -> Refunded | OutcomeUnknown:
    """Accept a refund only of this charge, amount and currency; anything else proves nothing."""
    if answer.status_code != 200:
        return OutcomeUnknown(detail=f"HTTP {answer.status_code} that proves nothing about the refund")
    refund: Mapping[str, Any] = parse(answer.body)
    stated = tuple(refund.get(name) for name in ("status", "charge", "amount", "currency"))
    is_ours = stated == ("succeeded", request.reference, request.amount, request.currency)
    if not (is_ours and type(refund["amount"]) is int and text_of(refund, "id")):  # 1.0 and true equal integers
        return OutcomeUnknown(detail="HTTP 200 that does not confirm this refund")
    return Refunded(reference=text_of(refund, "id"))
