"""A gateway whose every answer the test chooses. It honours no idempotency keys: what is sent twice is taken twice."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from payments.gateways.base import (
    Approved,
    ChargeAnswer,
    ChargeRequest,
    Declined,
    LookupAnswer,
    NotFound,
    OutcomeUnknown,
    RequestRejected,
    Unavailable,
)


@dataclass
class Book:
    """What the gateway did and will do; one for all adapters, as there is one gateway."""

    charge_plan: str = "approve"
    look_up_plan: str = "truth"
    taken: list[tuple[str, ChargeRequest]] = field(default_factory=list)
    declined: set[str] = field(default_factory=set)
    #: Requests on the way: their sender has given up waiting, or died, and they arrive all the same.
    travelling: list[ChargeRequest] = field(default_factory=list)

    def take(self, request: ChargeRequest) -> str:
        reference = f"ch_{len(self.taken) + 1}"
        self.taken.append((reference, request))
        return reference

    def arrive(self, request: ChargeRequest) -> None:
        self.travelling.remove(request)
        self.take(request)

    def charges_of(self, payment_id: UUID) -> int:
        return sum(request.payment_id == payment_id for _, request in self.taken)

    def charges_per_order(self) -> Counter[str]:
        return Counter(request.order_id for _, request in self.taken if request.order_id)


book = Book()


def open_new_book() -> Book:
    """Forget everything, in place: the adapters hold on to the book."""
    book.__init__()
    return book


class FakeGateway:
    """The adapter, and the gateway behind it."""

    key_window = timedelta(hours=24)
    #: Long, so that a slow machine does not pass it by itself: time passes only when the test says so.
    grace_period = timedelta(seconds=60)

    async def charge(self, request: ChargeRequest, *, deadline: float) -> ChargeAnswer:
        match book.charge_plan:
            case "approve":
                return Approved(reference=book.take(request))
            case "decline":
                book.declined.add(request.key)
                return Declined(decline_code="card_declined", detail="no")
            case "refuse":
                return Unavailable(detail="503")
            case "reject":
                return RequestRejected(code="payment_method_unknown", detail="no such token")
            case "take_and_fall_silent":
                book.take(request)
            case "take_later":
                book.travelling.append(request)
        return OutcomeUnknown(detail="no answer")

    async def look_up(self, request: ChargeRequest, *, deadline: float) -> LookupAnswer:
        if book.look_up_plan == "unreachable":
            return OutcomeUnknown(detail="no answer")
        if book.look_up_plan == "refuse":
            return Unavailable(detail="429")
        known = [reference for reference, taken in book.taken if taken.key == request.key]
        if known:
            return Approved(reference=known[0])
        if request.key in book.declined:
            return Declined(decline_code="card_declined", detail="no")
        return NotFound()
