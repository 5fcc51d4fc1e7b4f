"""Dead letters for tests: of payments that failed, and of messages from outside."""

from datetime import timedelta
from uuid import uuid4

from django.db import transaction
from django.utils import timezone

from messaging import dead_letters
from messaging.models import DeadLetter
from payments import transitions
from payments.models import Payment
from payments.operations import schedule
from payments.states import Status


def fail(payment, *, code="retries_exhausted"):
    """Give a payment up, as the worker does after its last retry; its letter."""
    with transaction.atomic():
        locked = Payment.objects.select_for_update().get(pk=payment.pk)
        transitions.move(locked, Status.PROCESSING, now=timezone.now())
        schedule.give_up(locked, code=code, detail="connection refused", now=timezone.now())
    return DeadLetter.objects.get(subject=f"payment:{payment.pk}", state="open")


def letter(*, minutes_ago=0, **said):
    """A letter that is about no payment."""
    now = timezone.now() - timedelta(minutes=minutes_ago)
    given = {"queue": "payments", "actor": "process_payments", "cause": "ValueError", "detail": "", "attempts": 1}
    given["payload"] = {"ids": [str(uuid4())]}
    dead_letters.record(**{**given, "first_failed_at": now, "now": now, **said})
    return DeadLetter.objects.latest("id")


def foreign(body=b"{", **said):
    """A letter of a message from outside."""
    return letter(
        **{"queue": "payment_initiation", "actor": "", "payload": {}, "cause": "not_json", "body": body, **said}
    )
