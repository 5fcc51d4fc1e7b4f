"""Whether a gateway may be called: a breaker that opens by itself, and a switch for people.

The state is one row per gateway in PostgreSQL, shared by all workers; while all is well there is none to
look at. Failures are counted from the attempts that are stored anyway, so a call that goes well costs
nothing here, and no call waits for another. While calls do not flow, payments wait in `processing` (or
`unknown`), marked as held, and burn no retries; `release` stages them when calls flow again.

Closed, open and half open are Nygard's terms ("Release It!", Stability Patterns).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import structlog
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from merchants import audit
from merchants.audit import Who
from payments.models import GatewayCircuit

log = structlog.get_logger(__name__)

#: Answered calls, to all gateways, among which the failure rate is looked for: few enough to read in milliseconds. At
#: more calls per second than this divided by the window, the window is shorter.
MOST_CALLS: Final = 1000
#: How long (s) an open breaker waits at most before the next probe, when probe after probe fails.
LONGEST_OPEN: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a gateway's breaker opens (times in seconds).

    `failure_rate` of the calls of the last `window`, if there were at least `min_calls`: declines are answers,
    not failures. `open_for` is how long it stays open at first; each failed probe doubles it.
    """

    window: float
    min_calls: int
    failure_rate: float
    open_for: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Whether a call may be made now. If not: until when to wait (None: nobody knows), and why."""

    admitted: bool
    probe: bool = False
    until: datetime | None = None
    code: str = ""


FREE: Final = Admission(admitted=True)


#: Part of a statement on payments: whether the gateway is paused or its breaker not closed.
IN_TROUBLE: Final = """
    EXISTS (
        SELECT FROM payments_gatewaycircuit AS circuit
        WHERE circuit.gateway = payment.gateway AND (circuit.paused_at IS NOT NULL OR circuit.open_until IS NOT NULL)
    )
"""


def admit(gateway: str, *, lease: timedelta, now: datetime) -> Admission:
    """Ask for a call to a gateway in trouble; of those who ask while the breaker is half open, one may probe.

    The probe has a lease: should its worker die, another one probes.
    """
    circuit = GatewayCircuit.objects.filter(pk=gateway).first()
    state = state_of(circuit, now=now)
    if circuit is None or state is State.IN_ORDER:
        return FREE
    if state is State.PAUSED:
        return Admission(admitted=False, code="gateway_paused")
    if state is State.HALF_OPEN:
        idle = Q(probing_until=None) | Q(probing_until__lte=now)
        mine = GatewayCircuit.objects.filter(idle, pk=gateway, open_until=circuit.open_until, paused_at=None)
        if mine.update(probing_until=now + lease):
            return Admission(admitted=True, probe=True)
    ends = [moment for moment in (circuit.open_until, circuit.probing_until) if moment is not None]
    return Admission(admitted=False, until=max(ends), code="gateway_unavailable")


# --- what answers teach

OPEN: Final = """
    WITH recent AS (
        SELECT payment_id, outcome, finished_at FROM payments_attempt
        WHERE outcome NOT IN ('', 'abandoned')
            AND finished_at > statement_timestamp() - %(window)s * interval '1 second'
        ORDER BY finished_at DESC -- not by id: calls that hang, and quick ones that began later, hide no slow failures
        LIMIT %(most_calls)s
    ), calls AS (
        SELECT count(*) AS made, count(*) FILTER (WHERE outcome IN ('unavailable', 'unknown')) AS failed
        FROM recent JOIN payments_payment AS payment ON payment.id = recent.payment_id
        WHERE payment.gateway = %(gateway)s
            AND recent.finished_at > coalesce(
                (SELECT closed_at FROM payments_gatewaycircuit WHERE gateway = %(gateway)s), '-infinity')
    )
    INSERT INTO payments_gatewaycircuit AS circuit (gateway, open_until, openings, pause_reason, paused_by)
    SELECT %(gateway)s, statement_timestamp() + %(open_for)s * interval '1 second', 1, '', ''
    FROM calls WHERE made >= %(min_calls)s AND failed >= %(failure_rate)s * made
    ON CONFLICT (gateway) DO UPDATE
    SET open_until = excluded.open_until, openings = 1, probing_until = NULL
    WHERE circuit.open_until IS NULL
"""
REOPEN: Final = """
    UPDATE payments_gatewaycircuit
    SET open_until = statement_timestamp()
            + least(%(open_for)s * 2 ^ least(openings, 20), %(longest)s) * interval '1 second',
        openings = openings + 1, probing_until = NULL
    WHERE gateway = %(gateway)s AND open_until IS NOT NULL
"""


def note_failure(gateway: str, limits: Limits, *, probe: bool) -> None:
    """A call found the gateway out of order: open the breaker if too many did, or again if this was the probe."""
    parameters: dict[str, str | float] = {
        "gateway": gateway,
        "most_calls": MOST_CALLS,
        "window": limits.window,
        "min_calls": limits.min_calls,
        "failure_rate": limits.failure_rate,
        "open_for": limits.open_for,
        "longest": max(LONGEST_OPEN, limits.open_for),
    }
    with connection.cursor() as cursor:
        cursor.execute(REOPEN if probe else OPEN, parameters)
        if cursor.rowcount and probe:
            log.warning("breaker_stays_open", gateway=gateway)
        elif cursor.rowcount:
            log.error("breaker_opened", gateway=gateway)


def note_success(gateway: str) -> None:
    """The probe found the gateway in order: close the breaker."""
    opened = GatewayCircuit.objects.filter(pk=gateway, open_until__isnull=False)
    if opened.update(open_until=None, openings=0, probing_until=None, closed_at=Now()):
        log.info("breaker_closed", gateway=gateway)


# --- the switch


@transaction.atomic(durable=True)
def pause(gateway: str, *, reason: str, who: Who) -> None:
    """Let no call through from now on; those under way finish. Pausing again changes the reason."""
    before = switch_of(gateway)
    values = {"paused_at": Now(), "pause_reason": reason, "paused_by": who.name}
    GatewayCircuit.objects.update_or_create(pk=gateway, defaults=values)
    after = {"paused_by": who.name, "pause_reason": reason}
    audit.record(who, "gateway.paused", subject=f"gateway:{gateway}", reason=reason, before=before, after=after)
    log.warning("gateway_paused", gateway=gateway, reason=reason, by=who.actor)


@transaction.atomic(durable=True)
def resume(gateway: str, *, who: Who, reason: str = "") -> bool:
    """Let calls through again; False if they were not paused. What waited is released within seconds."""
    before = switch_of(gateway)
    paused = GatewayCircuit.objects.filter(pk=gateway, paused_at__isnull=False)
    resumed = bool(paused.update(paused_at=None, pause_reason="", paused_by=""))
    if resumed:
        audit.record(who, "gateway.resumed", subject=f"gateway:{gateway}", reason=reason, before=before)
        log.warning("gateway_resumed", gateway=gateway, by=who.actor)
    return resumed


def switch_of(gateway: str) -> dict[str, str] | None:
    """Who paused a gateway, and why, for the audit; locked until the end of the transaction."""
    paused = GatewayCircuit.objects.select_for_update(no_key=True).filter(pk=gateway, paused_at__isnull=False)
    found = paused.first()
    return None if found is None else {"paused_by": found.paused_by, "pause_reason": found.pause_reason}


# --- for people


class State(StrEnum):
    """How a gateway does."""

    IN_ORDER = "in order"
    PAUSED = "paused"
    OPEN = "out of order; the breaker is open"
    HALF_OPEN = "out of order; the breaker is half open, and the next call is the probe"


def state_of(circuit: GatewayCircuit | None, *, now: datetime) -> State:
    """The state that a gateway's row says, if there is one."""
    if circuit is None or (circuit.paused_at is None and circuit.open_until is None):
        return State.IN_ORDER
    if circuit.paused_at is not None:
        return State.PAUSED
    assert circuit.open_until is not None
    return State.OPEN if circuit.open_until > now else State.HALF_OPEN


def troubles(*, now: datetime) -> dict[str, State]:
    """Gateway -> how it does, for those whose calls are held up."""
    states = {circuit.pk: state_of(circuit, now=now) for circuit in GatewayCircuit.objects.order_by("pk")}
    return {gateway: state for gateway, state in states.items() if state is not State.IN_ORDER}
