"""The boundaries of a lease and of a schedule: at which instant each of them ends."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from payments.gateways.base import Approved
from payments.models import Payment
from payments.operations import process
from payments.operations.claims import is_too_old, next_call
from payments.states import AttemptKind, Status
from tests.claiming import wait_for

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.UNKNOWN])
@pytest.mark.parametrize(
    ("ends", "kind"), [(NOW + TICK, None), (NOW, AttemptKind.LOOKUP), (NOW - TICK, AttemptKind.LOOKUP)]
)
def test_a_lease_is_live_until_the_instant_at_which_it_expires(status, ends, kind):
    assert next_call(Payment(status=status, lease_expires_at=ends), now=NOW) == kind


@pytest.mark.parametrize(
    ("status", "kind"), [(Status.PROCESSING, AttemptKind.CHARGE), (Status.UNKNOWN, AttemptKind.LOOKUP)]
)
@pytest.mark.parametrize(("due", "is_due"), [(NOW + TICK, False), (NOW, True), (NOW - TICK, True), (None, False)])
def test_a_payment_is_due_from_the_instant_of_its_next_attempt(status, kind, due, is_due):
    assert next_call(Payment(status=status, next_attempt_at=due), now=NOW) == (kind if is_due else None)


@pytest.mark.parametrize(
    ("status", "kind"), [(Status.PENDING, AttemptKind.LOOKUP), (Status.PROCESSING, AttemptKind.LOOKUP)]
)
def test_a_replay_is_looked_up_before_it_is_charged(status, kind):
    assert next_call(Payment(status=status, next_attempt_at=NOW, look_up_first=True), now=NOW) == kind


@pytest.mark.parametrize("status", set(Status) - {Status.PENDING, Status.PROCESSING, Status.UNKNOWN})
def test_a_payment_that_is_not_in_work_is_never_called_about(status):
    payment = Payment(status=status, next_attempt_at=NOW - TICK, lease_expires_at=NOW - TICK)
    assert next_call(payment, now=NOW) is None


@pytest.mark.parametrize(("until", "expected"), [(NOW + TICK, False), (NOW, True), (NOW - TICK, True), (None, False)])
def test_no_charge_begins_from_the_instant_at_which_its_time_ends(until, expected):
    assert is_too_old(Payment(charge_before=until), now=NOW) is expected


class Adapter:
    def __init__(self):
        self.deadlines = []

    async def charge(self, request, *, deadline):
        self.deadlines.append(deadline)
        return Approved(reference="ch_1")


@pytest.mark.parametrize(("left", "calls"), [(10.0, 1), (10.001, 1), (9.999, 0)])
def test_a_call_begins_only_if_the_lease_outlasts_its_deadline(monkeypatch, left, calls):
    adapter = Adapter()
    claim = SimpleNamespace(
        lease_ends=1000.0 + left,
        kind=AttemptKind.CHARGE,
        request=SimpleNamespace(payment_id="p", request_id="r"),
        gateway=SimpleNamespace(name="test", deadline=10.0, adapter=adapter),
    )
    monkeypatch.setattr(process, "clock", SimpleNamespace(elapsed_seconds=lambda: 1000.0))
    answer = wait_for(process.ask(claim))
    assert adapter.deadlines == [10.0] * calls
    assert (answer == Approved(reference="ch_1")) == bool(calls)
