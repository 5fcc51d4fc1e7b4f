"""Every SQLSTATE, raised where each user of the table meets it.

RETRY loses nothing: the work is done at a later try, and there is no dead letter. REFUSE and DEAD_LETTER do not loop:
they end as one dead letter, one failed attempt or one response with status 500.
"""

import json
import os
import uuid
from datetime import timedelta

import dramatiq
import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import InternalError, connection
from django.utils import timezone
from dramatiq import Message, MessageProxy

from messaging import collector, escapes
from messaging.clock import elapsed_seconds
from messaging.consumer import Consumer, Delivery
from messaging.database_errors import (
    DatabaseErrorKind,
    classify,
    close_unfit_session,
    retry_while_unavailable,
    sqlstate_of,
)
from messaging.escapes import LIMIT, Escaped, Escapes, handle_escape
from messaging.models import DeadLetter, OutboxMessage
from notifications import attempts, messages
from payments import intake
from payments.gateways import registry
from payments.gateways.base import Approved
from payments.models import IdempotencyKey, Payment
from payments.operations import process, process_payments
from payments.operations.process import settle_each
from payments.operations.settle import Answered
from tests.chaos.fake_gateway import open_new_book
from tests.claiming import claim_one
from tests.database_faults import SQLSTATES, fault
from tests.deliveries import OK, again, delivery_to
from tests.system import eventually

pytestmark = pytest.mark.django_db(transaction=True)
#: See tests/doors.py. The first door says yes or leaves a request to the second: the walk goes through both.
BOTH_DOORS = False

RETRY = DatabaseErrorKind.RETRY

#: A part of one statement of each user, in whose place the error is raised.
ACCEPT = "INSERT INTO payments_payment "
CLAIM = "FOR NO KEY UPDATE OF payment"
SETTLE = "UPDATE payments_attempt AS attempt"
RECORD_DELIVERY = 'INSERT INTO "notifications_deliveryattempt"'
READ_RECIPIENT = 'FROM "merchants_merchant"'
WRITE_DEAD_LETTER = "messaging_deadletter"


@pytest.fixture
def gateway(settings):
    """A gateway in this process that approves every charge."""
    entry = {**settings.GATEWAYS["sandbox"], "OPTIONS": {}, "BACKEND": "tests.chaos.fake_gateway.FakeGateway"}
    settings.GATEWAYS = {"sandbox": entry}
    registry.get.cache_clear()
    yield open_new_book()
    registry.get.cache_clear()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(process, "SETTLE_PAUSE", 0.0)
    monkeypatch.setattr(escapes, "OUTAGE_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(attempts, "OUTAGE_PAUSES", (0.0, 0.0))


def kind_of(sqlstate):
    return classify(psycopg.errors.lookup(sqlstate)("made up"))


def fails(do, *given, **named):
    """What it raises, or None."""
    result = outcome_of(do, *given, **named)
    return result if isinstance(result, Exception) else None


def outcome_of(do, *given, **named):
    """What it returns, or raises."""
    try:
        return do(*given, **named)
    except Exception as error:  # noqa: BLE001  # which one it is, is what the tests are about
        return error


# --- accept


def test_accept_answers_503_to_what_may_succeed_later_and_500_once_to_all_else(post, client):
    wrong = {}
    for sqlstate in SQLSTATES:
        key = f"key-{sqlstate}"
        with fault(sqlstate, instead_of=ACCEPT) as met:
            refused = post({"amount": "10.00"}, key=key)
        expected = 503 if kind_of(sqlstate) is RETRY else 500
        left = IdempotencyKey.objects.filter(key=key).exists()
        accepted = post({"amount": "10.00"}, key=key)
        # One try by each door, and one alone: none of them loops.
        seen = (refused.status_code, left, 1 <= met.raised <= 3, accepted.status_code)
        if seen != (expected, False, True, 202) or accepted.has_header("Idempotent-Replayed"):
            wrong[sqlstate] = seen
    assert wrong == {}
    assert Payment.objects.count() == len(SQLSTATES)


def test_a_lock_timeout_of_one_try_is_no_error_at_all(post):
    with fault("55P03", instead_of=ACCEPT, times=1):
        assert post({"amount": "10.00"}).status_code == 202


# --- claim


def test_a_claim_that_may_succeed_later_makes_no_dead_letter_and_any_other_makes_one(accept, gateway):
    wrong = {}
    for sqlstate in SQLSTATES:
        payment = accept(f"key-{sqlstate}")
        OutboxMessage.objects.all().delete()
        with fault(sqlstate, instead_of=CLAIM):
            escaped = fails(process_payments, payment_ids=[payment.pk])
        last = message_to("process_payments", [str(payment.pk)], escapes=LIMIT - 1)
        for _ in range(2):  # delivered twice, as messages may be
            handle_escape(last, escaped, now=timezone.now())
        letters = DeadLetter.objects.filter(subject=f"payment:{payment.pk}").count()
        staged = OutboxMessage.objects.filter(actor="process_payments").exists()
        process_payments(payment_ids=[payment.pk])
        payment.refresh_from_db()
        seen = (isinstance(escaped, Escaped), letters, staged, payment.status)
        retry = kind_of(sqlstate) is RETRY
        if seen != (True, 0 if retry else 1, retry, "succeeded"):
            wrong[sqlstate] = seen
    assert wrong == {}
    assert len(gateway.taken) == len(SQLSTATES)


def message_to(actor, ids, **options):
    message = Message(queue_name="payments", actor_name=actor, args=(), kwargs={"ids": ids}, options=options)
    return MessageProxy(message)


def test_a_message_that_may_succeed_later_comes_again_for_ever_every_five_minutes():
    now = timezone.now()
    with fault("53300", instead_of="SELECT 1"), connection.cursor() as cursor:
        error = fails(cursor.execute, "SELECT 1")
    handle_escape(message_to("process_payments", ["1"], escapes=1000), error, now=now)
    assert list(OutboxMessage.objects.values_list("available_at", flat=True)) == [now + timedelta(minutes=5)]
    assert not DeadLetter.objects.exists()


def test_an_escape_is_stored_at_a_later_try_or_rejected_to_the_dead_letters_at_once():
    wrong = {}
    for sqlstate in SQLSTATES:
        OutboxMessage.objects.all().delete()
        waiting = message_to("process_payments", ["1"])
        with fault(sqlstate, instead_of='INSERT INTO "messaging_outboxmessage"', times=1) as met:
            error = fails(
                Escapes().after_process_message, dramatiq.get_broker(), waiting, exception=ValueError("a defect")
            )
        seen = (error is None, waiting.failed, OutboxMessage.objects.count(), met.raised)
        retry = kind_of(sqlstate) is RETRY
        if seen != ((True, False, 1, 1) if retry else (False, True, 0, 1)):
            wrong[sqlstate] = seen
    assert wrong == {}


# --- settle


def test_a_reply_is_stored_at_a_later_try_and_what_no_later_try_stores_is_tried_once(accept, gateway):
    wrong = {}
    for sqlstate in SQLSTATES:
        payment = accept(f"key-{sqlstate}")
        claim = claim_one(payment.pk)
        failures = {}
        with fault(sqlstate, instead_of=SETTLE, times=1) as met:
            settle_each([Answered(claim, Approved(reference="ch_1"))], failures, ends=elapsed_seconds() + 3600)
        payment.refresh_from_db()
        retry = kind_of(sqlstate) is RETRY
        seen = (payment.status, [sqlstate_of(error) for error in failures.values()], met.raised)
        if seen != (("succeeded", [], 1) if retry else ("processing", [sqlstate], 1)):
            wrong[sqlstate] = seen
    assert wrong == {}


def test_a_reply_survives_a_session_that_only_reads(accept, monkeypatch):
    """As in a failover to a standby that is not promoted yet."""
    payment = accept()
    claim = claim_one(payment.pk)
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    monkeypatch.setattr(process, "SETTLE_PAUSE", 0.1)
    failures = {}
    settle_each([Answered(claim, Approved(reference="ch_1"))], failures, ends=elapsed_seconds() + 30)
    payment.refresh_from_db()
    assert (failures, payment.status) == ({}, "succeeded")


def test_a_reply_survives_a_freeze_inside_the_settling_transaction(accept, gateway):
    """The machine stands still for longer than `idle_in_transaction_session_timeout`, in the middle of settling."""
    payment = accept()
    frozen = []

    def freeze(execute, sql, params, many, context):
        if SETTLE in sql and not frozen:
            frozen.append(connection.connection.info.backend_pid)
            execute("SET idle_in_transaction_session_timeout = '1ms'", None, False, context)
            with psycopg.connect(os.environ["DATABASE_URL"].rpartition("/")[0] + "/postgres", autocommit=True) as other:
                eventually(lambda: not is_alive(other, frozen[0]), within=60, what="the session ends")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(freeze):
        assert fails(process_payments, payment_ids=[payment.pk]) is None
    payment.refresh_from_db()
    assert payment.status == "succeeded"
    assert len(frozen) == len(gateway.taken) == 1


def is_alive(other, pid):
    return bool(other.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid]).rowcount)


# --- intake, and the dead letters


def reader(queue, handle):
    """What reads a queue, without one."""
    return Consumer(url="", name="test", declare=[queue], read=[queue], handle=handle)


def test_a_message_is_kept_while_it_may_succeed_later_and_becomes_one_dead_letter_else(merchant, settings):
    settings.INTAKE_DEFAULT_MERCHANT = merchant.slug
    queue = django_settings.INTAKE_QUEUE
    wrong = {}
    for sqlstate in SQLSTATES:
        key = f"key-{sqlstate}"
        delivery = Delivery(queue=queue, body=json.dumps({"idempotency_key": key, "amount": "10.00"}).encode())
        before = DeadLetter.objects.count()
        with fault(sqlstate, instead_of=ACCEPT):
            tried = [reader(queue, intake.receive).try_once(delivery) for _ in range(2)]
        letters = DeadLetter.objects.count() - before
        retry = kind_of(sqlstate) is RETRY
        if (tried, letters) != (([False, False], 0) if retry else ([True, True], 1)):
            wrong[sqlstate] = (tried, letters)
        reader(queue, intake.receive).try_once(delivery)
        assert IdempotencyKey.objects.filter(key=key).exists()
    assert wrong == {}


def test_a_list_of_messages_that_fails_is_left_to_the_tries_one_by_one(merchant, settings):
    settings.INTAKE_DEFAULT_MERCHANT = merchant.slug
    queue = django_settings.INTAKE_QUEUE
    bodies = [json.dumps({"idempotency_key": f"key-{number}", "amount": "10.00"}).encode() for number in range(2)]
    deliveries = [Delivery(queue=queue, body=body, tag=number) for number, body in enumerate(bodies)]
    wrong = {}
    for sqlstate in SQLSTATES:
        with fault(sqlstate, instead_of=ACCEPT):
            error = fails(intake.receive_together, deliveries)
        raised = None if error is None else sqlstate_of(error)
        expected = sqlstate if kind_of(sqlstate) is RETRY and sqlstate not in {"40001", "40P01", "55P03"} else None
        if raised != expected:
            wrong[sqlstate] = raised
    assert wrong == {}
    assert not DeadLetter.objects.exists()
    assert intake.receive_together(deliveries) == {0, 1}


def test_a_dead_letter_that_cannot_be_written_is_kept_and_ends_no_process():
    """Whatever the error is: there is nowhere else to put the message."""
    queue = "payments.XQ"
    wrong = {}
    for sqlstate in SQLSTATES:
        delivery = Delivery(queue=queue, body=f"garbage {sqlstate}".encode())
        with fault(sqlstate, instead_of=WRITE_DEAD_LETTER):
            handled = outcome_of(reader(queue, collector.collect).try_once, delivery)
        before = DeadLetter.objects.count()
        collected = reader(queue, collector.collect).try_once(delivery)
        if (handled, before, collected) != (False, len(seen_so_far(sqlstate)), True):
            wrong[sqlstate] = (handled, before, collected)
    assert wrong == {}
    assert DeadLetter.objects.count() == len(SQLSTATES)


def seen_so_far(sqlstate):
    return SQLSTATES[: SQLSTATES.index(sqlstate)]


# --- deliveries


def test_what_was_sent_is_recorded_at_a_later_try_and_what_no_later_try_records_is_tried_once(merchant):
    wrong = {}
    for sqlstate in SQLSTATES:
        row = delivery_to(merchant=merchant, channel="email", recipient=f"{uuid.uuid4()}@example.org")
        claim = attempts.claim(row.pk, now=attempts.reckoned_now())
        with fault(sqlstate, instead_of=RECORD_DELIVERY, times=1) as met:
            error = fails(attempts.settle_patiently, claim, OK, latency=timedelta(0))
        seen = (again(row).state, None if error is None else sqlstate_of(error), met.raised)
        if seen != (("delivered", None, 1) if kind_of(sqlstate) is RETRY else ("pending", sqlstate, 1)):
            wrong[sqlstate] = seen
    assert wrong == {}


def test_what_cannot_be_read_to_be_sent_is_no_failed_attempt_unless_it_is_a_defect(merchant):
    wrong = {}
    for sqlstate in SQLSTATES:
        row = delivery_to(merchant=merchant, channel="email", recipient=f"{uuid.uuid4()}@example.org")
        with fault(sqlstate, instead_of=READ_RECIPIENT):
            error = fails(messages.deliver, row.pk)
        seen = (None if error is None else sqlstate_of(error), row.attempts.filter(outcome="failed").count())
        if seen != ((sqlstate, 0) if kind_of(sqlstate) is RETRY else (None, 1)):
            wrong[sqlstate] = seen
    assert wrong == {}


# --- the loop that they share


def test_the_loop_waits_between_tries_and_raises_once_no_wait_is_left():
    slept, retried = [], []

    def fail():
        raise InternalError("no session")

    error = fails(
        retry_while_unavailable, fail, pauses=[1.0, 2.0], on_retry=lambda: retried.append(1), sleep=slept.append
    )
    assert isinstance(error, InternalError)
    assert (slept, len(retried)) == ([1.0, 2.0], 2)


@pytest.mark.parametrize("error", [ValueError("no"), ConnectionResetError("no")])
def test_the_loop_retries_nothing_but_the_database(error):
    slept = []

    def fail():
        raise error

    assert fails(retry_while_unavailable, fail, pauses=[1.0], on_retry=int, sleep=slept.append) is error
    assert slept == []


@pytest.mark.parametrize("sqlstate", ["0A000", "25006", "26000", "42P05"])
def test_the_web_process_keeps_no_session_over_which_an_error_would_come_again(post, sqlstate):
    post({"amount": "10.00"}, key="first")
    before = connection.connection
    assert before is not None
    with fault(sqlstate, instead_of=ACCEPT):
        assert post({"amount": "10.00"}).status_code == 503
    assert connection.connection is not before
    assert post({"amount": "10.00"}).status_code == 202


def test_a_column_that_a_migration_has_changed_is_read_over_a_new_session():
    """PostgreSQL refuses the prepared statement for as long as the session lasts."""

    def read():
        with connection.cursor() as cursor:
            cursor.execute("SELECT changed FROM only_here")

    with psycopg.connect(**connection_parameters(), autocommit=True) as other:
        other.execute("CREATE TABLE only_here (changed varchar(5))")
        try:
            for _ in range(8):
                read()
            other.execute("ALTER TABLE only_here ALTER COLUMN changed TYPE varchar(9)")
            for _ in range(2):
                error = fails(read)
                assert (sqlstate_of(error), classify(error)) == ("0A000", RETRY)
            close_unfit_session(error)
            read()
        finally:
            other.execute("DROP TABLE only_here")


def connection_parameters():
    """Those of the tests' database."""
    parameters = connection.get_connection_params()
    return {name: parameters[name] for name in ("host", "port", "user", "password", "dbname")}
