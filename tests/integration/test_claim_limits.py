"""Which payments a claim leaves alone, which answers are stored together, and which keys are forgotten."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import transaction
from django.db.models.functions import Now

from messaging.escapes import Escaped, parts_of
from payments import idempotency
from payments.gateways.base import Approved, Declined, OutcomeUnknown
from payments.models import IdempotencyKey, Payment
from payments.operations.claims import lock_payment, lock_payments
from payments.operations.settle import Answered, settled_together
from tests.claiming import claim_one
from tests.locks import result_elsewhere

pytestmark = pytest.mark.django_db(transaction=True)

HOUR_AGO = Now() - timedelta(hours=1)


@pytest.mark.parametrize("skip_locked", [True, False])
def test_a_claim_neither_takes_nor_waits_for_a_payment_that_another_session_has_locked(accept, skip_locked):
    locked, free = accept("key-1"), accept("key-2")
    with transaction.atomic():
        lock_payment(locked.pk)
        found = result_elsewhere(lambda: lock_payments([locked.pk, free.pk], skip_locked=skip_locked))
    expected = [free.pk] if skip_locked else "waits"
    assert (found if found == "waits" else [one.payment.pk for one in found]) == expected


@pytest.mark.parametrize("status", ["processing", "unknown"])
def test_a_look_up_is_never_too_old(accept, status):
    """Only a charge is: what may have been charged has to be found out, however late."""
    payment = accept()
    change = Payment.objects.filter(pk=payment.pk).update
    change(status="processing", next_attempt_at=HOUR_AGO, revive_at=HOUR_AGO, look_up_first=True)
    change(status=status, charge_before=HOUR_AGO)
    assert claim_one(payment.pk).kind == "lookup"


def test_approvals_are_stored_together_and_every_other_answer_alone():
    approvals = [Answered(claim, Approved(reference="ch")) for claim in ("a", "b")]
    declined = Answered("c", Declined(decline_code="card_declined", detail="no"))
    unknown = Answered("d", OutcomeUnknown(detail="reset"))
    assert settled_together([approvals[0], declined, approvals[1], unknown]) == [approvals, [declined], [unknown]]
    assert settled_together([declined, unknown]) == [[declined], [unknown]]
    assert settled_together(approvals) == [approvals]
    assert settled_together([]) == []


def test_a_key_is_forgotten_only_if_it_is_older_than_the_given_time(accept):
    accept()
    Payment.objects.update(status="processing")
    Payment.objects.update(
        status="canceled", finished_at=Now(), revive_at=None, next_attempt_at=None, holds_order=False
    )
    stored_at = IdempotencyKey.objects.get().created_at
    assert idempotency.prune(before=stored_at, batch=10) == 0
    assert idempotency.prune(before=stored_at + timedelta(microseconds=1), batch=10) == 1


def test_each_part_of_a_message_that_failed_keeps_its_other_arguments():
    message = SimpleNamespace(
        args=(), kwargs={"ids": ["1", "2", "3"], "mode": "test"}, options={"request_id": "r"}, message_id="m"
    )
    failures = {"1": ValueError("first"), "3": KeyError("third")}
    parts = parts_of(message, Escaped(failures))
    assert [part.payload for part in parts] == [{"ids": ["1"], "mode": "test"}, {"ids": ["3"], "mode": "test"}]
    assert [part.failure for part in parts] == list(failures.values())
    assert [part.request_id for part in parts] == ["r", "r"]
    assert len({part.message_id for part in parts}) == 2
