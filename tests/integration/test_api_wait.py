"""`Prefer: wait` on `POST /payments`: one synchronous call, and never a payment that is accepted less for it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from payments import transitions
from payments.models import Payment
from payments.states import Status
from payments.waiting import find_ended, room

#: See tests/doors.py.
BOTH_DOORS = True

URL = "/api/v1/payments"
#: As good as for ever (s): no test takes this long unless it fails.
LONG = 30

pytestmark = pytest.mark.django_db(transaction=True)


class Asking:
    """What the asking thread does, to be watched and disturbed."""

    def __init__(self):
        self.done = threading.Condition()
        self.rounds = []
        self.disturb = []

    def __call__(self, payment_ids):
        with self.done:
            self.rounds.append(set(payment_ids))
            self.done.notify_all()
        if self.disturb:
            self.disturb.pop()()
        return find_ended(payment_ids)

    def await_guests(self, count):
        """Until the thread asks for so many payments."""
        with self.done:
            assert self.done.wait_for(lambda: self.rounds and len(self.rounds[-1]) == count, LONG)


@pytest.fixture
def asking(monkeypatch):
    watched = Asking()
    monkeypatch.setattr(room, "ask", watched)
    monkeypatch.setattr(room, "linger", 0)
    yield watched
    if asker := room.asker:
        asker.join(LONG)


@pytest.fixture
def post_meanwhile(post, asking):
    """POST in a thread of its own, as the server would."""
    with ThreadPoolExecutor(8) as pool:

        def send(*arguments, **headers):
            try:
                return post(*arguments, **headers)
            finally:
                connections.close_all()

        yield lambda *arguments, **headers: pool.submit(send, *arguments, **headers)


def succeed(payment):
    with transaction.atomic():
        transitions.move(payment, Status.PROCESSING, now=timezone.now())
        transitions.move(payment, Status.SUCCEEDED, now=timezone.now(), amount_captured=payment.amount)


def fail(payment):
    with transaction.atomic():
        transitions.move(payment, Status.PROCESSING, now=timezone.now())
        transitions.move(payment, Status.FAILED, now=timezone.now(), holds_order=False, error_code="declined")


@pytest.mark.parametrize(("end", "status"), [(succeed, "succeeded"), (fail, "failed")])
def test_a_payment_that_ends_in_time_is_answered_with_its_end(client, post_meanwhile, asking, end, status):
    future = post_meanwhile({"amount": 1, "order_id": "o-1"}, Prefer="wait=30")
    asking.await_guests(1)
    assert not future.done()
    end(Payment.objects.get())
    response = future.result(LONG)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert response["Preference-Applied"] == "wait=30"
    assert "Idempotent-Replayed" not in response
    assert response.json()["status"] == status
    assert response.json() == client.get(response["Location"]).json()


def test_a_payment_that_does_not_end_in_time_is_answered_as_ever(post, asking):
    response = post({"amount": 1, "description": "Grüße"}, Prefer="wait=1")
    assert response.status_code == 202
    assert response["Preference-Applied"] == "wait=1"
    usual = post({"amount": 1, "description": "Grüße"})
    assert (response.content, response["Location"]) == (usual.content, usual["Location"])
    assert "Preference-Applied" not in usual


def test_a_repetition_waits_as_well(post, client, post_meanwhile, asking):
    first = post({"amount": 1})
    future = post_meanwhile({"amount": 1}, Prefer="wait=30")
    asking.await_guests(1)
    succeed(Payment.objects.get())
    again = future.result(LONG)
    assert (again.status_code, again["Location"]) == (200, first["Location"])
    assert (again["Idempotent-Replayed"], again["Preference-Applied"]) == ("true", "wait=30")
    assert again.json() == client.get(first["Location"]).json()


def test_a_repetition_after_the_end_is_answered_with_it_and_changes_no_stored_answer(post, asking):
    first = post({"amount": 1})
    succeed(Payment.objects.get())
    again = post({"amount": 1}, Prefer="wait=99")
    assert (again.status_code, again.json()["status"]) == (200, "succeeded")
    assert (again["Idempotent-Replayed"], again["Preference-Applied"]) == ("true", "wait=30")
    without = post({"amount": 1})
    assert (without.status_code, without.content) == (202, first.content)


@pytest.mark.parametrize("header", ["wait", "wait=soon", "wait=0", "respond-async", '"'])
def test_a_preference_that_is_not_understood_delays_nothing(post, asking, header):
    response = post({"amount": 1}, Prefer=header)
    assert response.status_code == 202
    assert "Preference-Applied" not in response
    assert asking.rounds == []


def test_a_refusal_is_never_waited_for(post, asking):
    post({"amount": 1})
    assert post({"amount": 2}, Prefer="wait=30").status_code == 422
    assert post({"amount": 0}, key="key-2", Prefer="wait=30").status_code == 400
    assert asking.rounds == []


def test_no_more_threads_wait_than_may(post, post_meanwhile, asking, settings):
    settings.WAITING_SLOTS = 1
    future = post_meanwhile({"amount": 1}, Prefer="wait=30")
    asking.await_guests(1)
    response = post({"amount": 2}, key="key-2", Prefer="wait=30")
    assert response.status_code == 202
    assert "Preference-Applied" not in response
    for payment in Payment.objects.all():
        succeed(payment)
    assert future.result(LONG).status_code == 200
    assert post({"amount": 2}, key="key-2", Prefer="wait=30").status_code == 200


def other_connections():
    """The processes of all connections to this database but our own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        return {pid for (pid,) in cursor.fetchall()}


def eventually(condition):
    """PostgreSQL takes a moment to notice that a connection was closed."""
    pause = threading.Event()
    for _ in range(LONG * 50):
        if condition():
            return True
        pause.wait(0.02)
    return False


def test_however_many_wait_one_connection_is_used_and_given_back(post_meanwhile, asking, settings):
    settings.WAITING_SLOTS = 4
    before = other_connections()
    futures = [post_meanwhile({"amount": 1}, key=f"key-{number}", Prefer="wait=30") for number in range(4)]
    asking.await_guests(4)
    assert eventually(lambda: len(other_connections() - before) == 1)
    for payment in Payment.objects.all():
        succeed(payment)
    assert {future.result(LONG).status_code for future in futures} == {200}
    assert eventually(lambda: room.asker is None and not other_connections() - before)


def test_one_query_asks_for_all(accept, django_assert_num_queries):
    payments = [accept(key=f"key-{number}") for number in range(3)]
    for payment in payments[:2]:
        succeed(payment)
    with django_assert_num_queries(1):
        ended = set(find_ended([payment.pk for payment in payments]))
    assert ended == set(payments[:2])


def lose_connection():
    """As when PostgreSQL is restarted."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def test_an_outage_that_passes_in_time_is_not_noticed(post_meanwhile, asking):
    asking.disturb = [lose_connection]
    future = post_meanwhile({"amount": 1}, Prefer="wait=30")
    asking.await_guests(1)
    succeed(Payment.objects.get())
    assert future.result(LONG).status_code == 200
    assert len(asking.rounds) >= 2


def test_an_outage_never_turns_an_accepted_payment_into_an_error(post, asking):
    asking.disturb = [lose_connection] * 100
    response = post({"amount": 1}, Prefer="wait=1")
    assert response.status_code == 202
    assert response["Preference-Applied"] == "wait=1"
    asking.disturb.clear()
    assert response.content == post({"amount": 1}).content
