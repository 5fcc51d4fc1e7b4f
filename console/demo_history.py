"""A past for the demo: payments of many days, as they might have been, written by COPY.

They are history: nothing of it is staged, charged or told to anybody.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import JSONField, Model
from psycopg.types.json import Jsonb

from merchants.models import Merchant, Mode
from payments.events import SNAPSHOT_SCHEMA, EventType, entered
from payments.ids import uuid7_at
from payments.models import Attempt, Payment, PaymentEvent
from payments.money import EXPONENTS
from payments.reads import represent
from payments.states import AttemptKind, Outcome, Status

#: How their orders begin, and those of no other payment of the demo.
ORDERS: Final = "history-"
#: How many payments are written at once: what is held in memory.
BATCH: Final = 2_000
#: When people buy, hour by hour of their day: little at night, most at noon and after work.
HOURS: Final = (2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 12, 14, 15, 12, 11, 11, 12, 14, 17, 19, 20, 16, 10, 5)
#: And from Monday to Sunday.
WEEKDAYS: Final = (10, 10, 10, 11, 13, 15, 12)
#: Currency -> how often, and the amount that half of all payments stay below, in major units.
CURRENCIES: Final = {"EUR": (70, 32), "USD": (20, 38), "GBP": (8, 28), "JPY": (2, 4_500)}
#: Why cards are declined, and how often.
DECLINES: Final = {
    "insufficient_funds": 42,
    "card_declined": 26,
    "expired_card": 12,
    "do_not_honor": 12,
    "incorrect_cvc": 6,
    "stolen_card": 2,
}
#: The shares of payments that are declined, that meet a gateway which does not answer at once, and that are refunded.
DECLINED, DELAYED, REFUNDED = 0.07, 0.03, 0.02
#: In one hour of the past the gateway was out of order; of its payments so many failed for good.
OUTAGE_FAILED: Final = 0.4


@dataclass(slots=True)
class Life:
    """A payment, what was asked of the gateway for it, and what happened to it."""

    payment: Payment
    attempts: list[Attempt]
    events: list[PaymentEvent]


def write(merchant: Merchant, *, days: int, payments: int, now: datetime, seed: int = 1) -> Iterator[int]:
    """Write so many payments of the last so many days; tells after each batch how many it had."""
    rng = random.Random(seed)  # noqa: S311  # nothing secret, and the same past for the same seed  # nosec B311
    times = iter(sorted(moments(rng, days=days, count=payments, now=now)))
    outage = now - timedelta(days=rng.uniform(0.2, 0.8) * days)
    number = 0
    while batch := list(islice(times, BATCH)):
        lives = []
        for at in batch:
            number += 1
            lives.append(live(rng, merchant, number=number, at=at, troubled=outage <= at < outage + timedelta(hours=1)))
        keep(lives)
        yield len(lives)


def moments(rng: random.Random, *, days: int, count: int, now: datetime) -> Iterator[datetime]:
    """When people bought, by the hour and the weekday, and a little more each week."""
    starts = [now - timedelta(hours=back) for back in range(1, days * 24 + 1)]
    weights = [
        HOURS[start.hour] * WEEKDAYS[start.weekday()] * (1 + (len(starts) - place) / len(starts))
        for place, start in enumerate(starts)
    ]
    # The hours end now and a payment is made in the first 50 minutes of one: none ends in the future.
    for start in rng.choices(starts, weights, k=count):
        yield start + timedelta(seconds=rng.uniform(0, 3_000))


def live(rng: random.Random, merchant: Merchant, *, number: int, at: datetime, troubled: bool) -> Life:
    """One payment from its beginning to its end."""
    currency = pick(rng, {code: share for code, (share, _) in CURRENCIES.items()})
    life = Life(asked_for(rng, merchant, number=number, at=at, currency=currency), [], [])
    happen(life, EventType.CREATED, at)
    move(life, Status.PROCESSING, at + timedelta(seconds=rng.uniform(0.02, 0.2)))
    if troubled and rng.random() < OUTAGE_FAILED:
        return worn_out(rng, life)
    if troubled or rng.random() < DELAYED:
        ask(rng, life, Outcome.UNAVAILABLE, detail="503 from the gateway")
    if rng.random() < DECLINED:
        return declined(rng, life)
    return paid(rng, life)


def asked_for(rng: random.Random, merchant: Merchant, *, number: int, at: datetime, currency: str) -> Payment:
    """The payment as it was accepted."""
    median = CURRENCIES[currency][1]
    amount = max(1.0, median * rng.lognormvariate(0, 0.9))
    return Payment(
        id=uuid7_at(at),
        merchant=merchant,
        mode=Mode.TEST,
        gateway="sandbox",
        amount=round(amount * 10 ** EXPONENTS[currency]),
        currency=currency,
        order_id=f"{ORDERS}{number}",
        user_id=f"customer-{int(rng.paretovariate(0.6)) % 5_000}",
        description="",
        payment_method="pm_ok",
        request_id=f"{ORDERS}{number}",
        created_at=at,
    )


def paid(rng: random.Random, life: Life) -> Life:
    """The gateway said yes; a few were given back later."""
    payment = life.payment
    ends = ask(rng, life, Outcome.APPROVED, reference=f"ch_{payment.id.hex[-16:]}")
    payment.amount_captured = payment.amount
    payment.gateway_reference = life.attempts[-1].gateway_reference
    move(life, Status.SUCCEEDED, ends)
    if rng.random() < REFUNDED:
        payment.amount_refunded = payment.amount if rng.random() < 0.7 else max(1, payment.amount // 2)
    return life


def declined(rng: random.Random, life: Life) -> Life:
    """The bank said no."""
    code = pick(rng, DECLINES)
    ends = ask(rng, life, Outcome.DECLINED, code=code)
    life.payment.error_code, life.payment.decline_code = "declined", code
    move(life, Status.FAILED, ends)
    return life


def worn_out(rng: random.Random, life: Life) -> Life:
    """The gateway never answered as it should."""
    ends = [ask(rng, life, Outcome.UNAVAILABLE, detail="503 from the gateway") for _ in range(4)][-1]
    life.payment.error_code, life.payment.error_detail = "retries_exhausted", "503 from the gateway"
    move(life, Status.FAILED, ends)
    return life


def ask(
    rng: random.Random, life: Life, outcome: Outcome, *, code: str = "", detail: str = "", reference: str = ""
) -> datetime:
    """One call to the gateway; returns when it ended."""
    payment, last = life.payment, life.attempts[-1].finished_at if life.attempts else None
    wait = 2.0 ** (len(life.attempts) - 1) * rng.uniform(1, 2) if last else 0.0
    starts = (last or life.events[-1].created_at) + timedelta(seconds=wait)
    ends = starts + timedelta(seconds=rng.lognormvariate(-1.8, 0.6))
    payment.charge_attempts += 1
    payment.fence += 1
    payment.retries += outcome == Outcome.UNAVAILABLE
    life.attempts.append(
        Attempt(
            payment=payment,
            kind=AttemptKind.CHARGE,
            gateway_key=payment.gateway_key,
            fence=payment.fence,
            outcome=outcome,
            code=code,
            detail=detail,
            gateway_reference=reference,
            started_at=starts,
            finished_at=ends,
        )
    )
    return ends


def move(life: Life, status: Status, at: datetime) -> None:
    """Enter a state."""
    payment = life.payment
    payment.status = status
    payment.version += 1
    if status in {Status.SUCCEEDED, Status.FAILED}:
        payment.finished_at = at
        payment.holds_order = status == Status.SUCCEEDED
    happen(life, entered(status), at)


def happen(life: Life, event_type: EventType, at: datetime) -> None:
    """Note an event, with the payment as it now is."""
    payment = life.payment
    life.events.append(
        PaymentEvent(
            id=uuid7_at(at),
            payment=payment,
            merchant_id=payment.merchant_id,
            mode=payment.mode,
            type=event_type,
            version=payment.version,
            snapshot={"schema": SNAPSHOT_SCHEMA, **represent(payment)},
            request_id=payment.request_id,
            created_at=at,
        )
    )


def pick(rng: random.Random, shares: dict[str, int]) -> str:
    """One of them, by their shares."""
    return rng.choices(list(shares), list(shares.values()))[0]


@transaction.atomic
def keep(lives: Sequence[Life]) -> None:
    """Write a batch."""
    copy(Payment, (life.payment for life in lives))
    copy(Attempt, (attempt for life in lives for attempt in life.attempts))
    copy(PaymentEvent, (event for life in lives for event in life.events))


def copy(model: type[Model], rows: Iterable[Model]) -> None:
    """Write rows by COPY, which takes a tenth of an INSERT's time. Numbers that the database gives are left to it."""
    fields = [field for field in model._meta.concrete_fields if not field.get_internal_type().endswith("AutoField")]  # noqa: SLF001  # its public name in Django's documentation
    columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    with connection.cursor() as cursor:
        table = connection.ops.quote_name(str(model._meta.db_table))  # noqa: SLF001  # the same
        command = f"COPY {table} ({columns}) FROM STDIN"
        with cursor.copy(command) as out:
            for row in rows:
                out.write_row([value_of(field, row) for field in fields])


def value_of(field: Any, row: Model) -> Any:
    """A column's value, as psycopg writes it."""
    value = getattr(row, field.attname)
    return Jsonb(value) if isinstance(field, JSONField) else value
