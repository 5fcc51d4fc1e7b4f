"""Compare a gateway's list of charges with our payments, both ways.

The list is read in pages, oldest charge first, and payments are compared as far as the list has come: memory does not
grow with the period. Nothing is locked, and no page is read inside a transaction. A charge without its payment is
recorded for review; a payment with an unknown outcome whose charge is listed has its look-up brought forward.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final, TypeVar

import structlog
from django.db import transaction
from django.utils import timezone

from payments.gateways import loop, registry
from payments.gateways.base import Approved, ChargePage, ListedCharge, ListFailed, LookupAnswer, OutcomeUnknown
from payments.gateways.registry import ConfiguredGateway
from payments.models import Payment
from payments.operations.claims import charge_request
from payments.operations.listed_charges import Difference, DifferenceKind, Tally, compare_page

log = structlog.get_logger(__name__)

#: How far the clocks of the gateway and of the database may differ; charges are listed this much beyond the period.
CLOCK_MARGIN: Final = timedelta(minutes=5)
#: Seconds between two tries to read a page.
RETRY_DELAYS_SECONDS: Final = (0.5, 2.0, 5.0)
#: Payments per query and look-ups at the same time.
PAYMENTS_PER_QUERY: Final = 2_000
LOOK_UPS_AT_ONCE: Final = 20
#: Payments without a listed charge that are kept before they are looked up: a gateway that lists nothing must not fill
#: the memory.
MAX_MISSING: Final = 5_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The result: what the charges came to, how many payments with money were compared, and whether all agree."""

    tally: Tally
    payments: int

    @property
    def is_equal(self) -> bool:
        """Whether there was no difference."""
        return not self.tally.differences


def reconcile(
    *,
    gateway: str,
    since: datetime,
    until: datetime,
    found: Callable[[Difference], None] = lambda _difference: None,
    retry_delays: Sequence[float] | None = None,
) -> Reconciliation:
    """Compare the charges and payments made from `since` to before `until`; `found` is called with each difference.

    Raises:
        ListFailed: the gateway did not return its list, or did not answer a look-up.
    """
    configured = registry.get(gateway)
    comparison = _Comparison(gateway=configured, since=since, until=until, found=found)
    # Not into the future: the list would grow as fast as it is read.
    end = min(until + CLOCK_MARGIN, max(until, timezone.now()))
    delays = RETRY_DELAYS_SECONDS if retry_delays is None else retry_delays
    for page in _pages(configured, since - CLOCK_MARGIN, end, delays):
        comparison.take(page.charges)
    comparison.finish()
    result = Reconciliation(tally=comparison.tally, payments=comparison.payments)
    log.info(
        "reconciled",
        gateway=gateway,
        charges=result.tally.charges,
        payments=result.payments,
        differences=len(result.tally.differences),
    )
    return result


def _pages(
    gateway: ConfiguredGateway, since: datetime, until: datetime, retry_delays: Sequence[float]
) -> Iterator[ChargePage]:
    """Read the pages of the gateway's list. Raises ListFailed."""
    cursor: str | None = None
    while True:
        page = _read_page(gateway, since, until, cursor, retry_delays)
        yield page
        cursor = page.next_cursor
        if cursor is None:
            return


def _read_page(
    gateway: ConfiguredGateway, since: datetime, until: datetime, cursor: str | None, retry_delays: Sequence[float]
) -> ChargePage:
    """Read one page, again after each delay. Raises ListFailed."""
    for delay in (*retry_delays, None):
        try:
            return _run(
                gateway.adapter.list_charges(since=since, until=until, cursor=cursor, deadline=gateway.deadline)
            )
        except ListFailed:
            if delay is None:
                raise
            time.sleep(delay)
    raise AssertionError("the last try returns or raises")


def _run(calling: Coroutine[Any, Any, T]) -> T:
    """Run a call on the gateways' loop, and wait for it."""
    assert not transaction.get_connection().in_atomic_block, "no network inside a transaction"
    return asyncio.run_coroutine_threadsafe(calling, loop.shared_loop()).result()


@dataclass(kw_only=True)
class _Comparison:
    """The state of one comparison, as far as the list has come."""

    gateway: ConfiguredGateway
    since: datetime
    until: datetime
    found: Callable[[Difference], None]
    tally: Tally = field(default_factory=Tally)
    payments: int = 0
    #: Charges that were listed lately, in the order of the list, for payments that are compared after them.
    recent: deque[tuple[datetime, str]] = field(default_factory=deque)
    listed: set[str] = field(default_factory=set)
    #: Payments whose charge was not listed yet: reference -> payment.
    missing: dict[str, Payment] = field(default_factory=dict)
    #: Payments that were created before this time are compared.
    compared_until: datetime | None = None

    def take(self, charges: Sequence[ListedCharge]) -> None:
        """Compare one page, and the payments up to its last charge."""
        inside = [charge for charge in charges if self._is_inside(charge)]
        for difference in compare_page(self.gateway.name, inside, self.tally):
            self.found(difference)
        for charge in charges:
            if charge.approved:
                self.recent.append((charge.charged_at or self.since, charge.reference))
                self.listed.add(charge.reference)
                self.missing.pop(charge.reference, None)
        if charges and (last := charges[-1].charged_at) is not None:
            self._compare_payments(min(last, self.until))

    def finish(self) -> None:
        """Compare the remaining payments, and look up those whose charge was not listed."""
        self._compare_payments(self.until)
        self._look_up(list(self.missing.values()))
        self.missing.clear()

    def _is_inside(self, charge: ListedCharge) -> bool:
        return charge.charged_at is None or self.since <= charge.charged_at < self.until

    def _compare_payments(self, before: datetime) -> None:
        """Compare the payments with money that were created before a time, and forget charges that are older."""
        after = self.compared_until or self.since
        if before <= after:
            return
        for payment in _captured(self.gateway.name, after, before):
            self.payments += 1
            if payment.gateway_reference not in self.listed:
                self.missing[payment.gateway_reference] = payment
            if len(self.missing) > MAX_MISSING:
                oldest = list(islice(self.missing, MAX_MISSING // 2))
                self._look_up([self.missing.pop(reference) for reference in oldest])
        self.compared_until = before
        while self.recent and self.recent[0][0] < before - CLOCK_MARGIN:
            self.listed.discard(self.recent.popleft()[1])

    def _look_up(self, payments: Sequence[Payment]) -> None:
        """Ask the gateway about payments whose charge is not in its list: it may have been made after the period."""
        for start in range(0, len(payments), LOOK_UPS_AT_ONCE):
            batch = payments[start : start + LOOK_UPS_AT_ONCE]
            for payment, answer in zip(batch, _run(_look_up_all(self.gateway, batch)), strict=True):
                detail = _disagreement(payment, answer)
                if detail:
                    self._differs(payment, detail)

    def _differs(self, payment: Payment, detail: str) -> None:
        difference = Difference(
            kind=DifferenceKind.NOT_AT_GATEWAY,
            reference=payment.gateway_reference,
            payment_id=str(payment.pk),
            amount=payment.amount_captured,
            currency=payment.currency,
            detail=detail,
        )
        self.tally.differences.append(difference)
        self.found(difference)
        log.error("payment_not_at_gateway", payment_id=str(payment.pk), reference=payment.gateway_reference)


def _captured(gateway: str, after: datetime, before: datetime) -> Iterator[Payment]:
    """Return the payments with money that were created in a period."""
    payments = Payment.objects.filter(
        gateway=gateway, created_at__gte=after, created_at__lt=before, amount_captured__gt=0
    )
    return payments.select_related("merchant").order_by("created_at").iterator(chunk_size=PAYMENTS_PER_QUERY)


async def _look_up_all(gateway: ConfiguredGateway, payments: Sequence[Payment]) -> list[LookupAnswer]:
    """Look up the charges of some payments at the same time."""
    calls = [gateway.adapter.look_up(charge_request(payment), deadline=gateway.deadline) for payment in payments]
    return await asyncio.gather(*calls)


def _disagreement(payment: Payment, answer: LookupAnswer) -> str:
    """Return what the gateway says instead of our charge, or "" where it confirms it. Raises ListFailed."""
    if isinstance(answer, Approved):
        same = answer.reference == payment.gateway_reference
        return "" if same else f"the gateway has charge {answer.reference} under the payment's key"
    if isinstance(answer, OutcomeUnknown) and answer.conflict is None:
        raise ListFailed(f"no answer about payment {payment.pk}: {answer.detail}")
    return "the gateway knows no such charge"
