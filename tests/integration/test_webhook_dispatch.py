"""Webhooks on their way, to real servers: signed, in order, side by side, and nobody waits for a slow one."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import cache

import pytest
from django.conf import settings
from django.db import connection, connections
from django.utils import timezone
from dramatiq.brokers.stub import StubBroker
from standardwebhooks import Webhook, WebhookVerificationError

from merchants.models import Mode
from messaging import subscribers
from messaging.process import start_workers, stop_workers
from notifications import attempts, endpoints, vault
from notifications.models import Delivery, DeliveryAttempt
from notifications.webhooks.caller import Caller
from notifications.webhooks.dispatch import Dispatch, Drain, shared_dispatch
from payments.gateways.base import Approved
from tests.claiming import claim_one, settle_one
from tests.deliveries import OK, again, delivery_to, endpoint_of
from tests.receiver import Receiver
from tests.system import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_call_ends_by_its_deadline(monkeypatch):
    """However long a machine takes for a test: what hangs is let go by the test, and by nothing else."""
    monkeypatch.setattr("notifications.webhooks.dispatch.DEADLINE", 120.0)
    monkeypatch.setattr(attempts, "LEASE", timedelta(hours=1))


@pytest.fixture
def receiver():
    made = Receiver().start()
    yield made
    made.stop()


@pytest.fixture
def hanging():
    """Never answers, until it is let go."""
    let_go = threading.Event()
    made = Receiver(answer=lambda _call: let_go.wait(300) and 204).start()
    made.let_go = let_go
    yield made
    let_go.set()
    made.stop()


@pytest.fixture
def caller():
    made = Caller(private=True)
    yield made
    made.close()


@pytest.fixture
def dispatch(caller):
    made = Dispatch(caller, most=500)
    yield made
    assert made.drain(30), "a slot was lost"
    made.close()


def delivered(*rows):
    return lambda: all(again(row).state == "delivered" for row in rows)


def test_a_payments_events_arrive_signed_and_can_be_put_in_order(accept, merchant, receiver, dispatch):
    endpoint, secret = endpoints.create(merchant=merchant, mode=Mode.TEST, url=receiver.url)
    payment = accept(metadata={"cart": "7"}, order_id="order-1")
    settle_one(claim_one(payment.pk), Approved(reference="r"))
    subscribers.run_once("notifications")
    dispatch.work_off(endpoint.pk)
    eventually(delivered(*Delivery.objects.all()), within=20, what="all are delivered")
    documents = [Webhook(secret).verify(call.body, call.headers) for call in receiver.calls]
    assert sorted(receiver.ids()) == sorted(str(event.pk) for event in payment.events.all())
    documents.sort(key=lambda document: document["data"]["version"])
    assert [it["type"] for it in documents] == ["payment.created", "payment.processing", "payment.succeeded"]
    assert {it["data"]["metadata"]["cart"] for it in documents} == {"7"}
    assert all(set(it) == {"type", "timestamp", "data"} for it in documents)


def test_every_attempt_says_the_same_and_is_signed_anew(merchant, receiver, dispatch):
    endpoint, secret = endpoints.create(merchant=merchant, mode=Mode.TEST, url=receiver.url)
    receiver.answer = lambda _call: 204 if len(receiver.calls) > 2 else 500
    delivery = delivery_to(endpoint, recipient=receiver.url)
    for number in range(1, 4):
        Delivery.objects.filter(pk=delivery.pk).update(next_attempt_at=delivery.next_attempt_at)
        dispatch.work_off(endpoint.pk)
        eventually(lambda n=number: delivery.attempts.count() == n, within=20, what="the attempt is recorded")
    assert again(delivery).state == "delivered"
    assert len({call.body for call in receiver.calls}) == 1
    assert set(receiver.ids()) == {str(delivery.event_id)}
    for call in receiver.calls:
        Webhook(secret).verify(call.body, call.headers)


def test_during_a_rotation_both_secrets_verify_and_afterwards_only_the_new_one(merchant, receiver, dispatch, settings):
    endpoint, old = endpoints.create(merchant=merchant, mode=Mode.TEST, url=receiver.url)
    row = delivery_to(endpoint, recipient=receiver.url)
    endpoint, new = endpoints.rotate(endpoint=endpoint, now=row.next_attempt_at)
    dispatch.work_off(endpoint.pk)
    eventually(delivered(row), within=20, what="it is delivered")
    (call,) = receiver.calls
    for secret in (old, new):
        Webhook(secret).verify(call.body, call.headers)
    endpoint.previous_secret_until = row.created_at
    endpoint.save()
    row = delivery_to(endpoint, recipient=receiver.url)
    dispatch.work_off(endpoint.pk)
    eventually(delivered(row), within=20, what="it is delivered")
    Webhook(new).verify(receiver.calls[1].body, receiver.calls[1].headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(receiver.calls[1].body, receiver.calls[1].headers)


def test_a_hundred_receivers_that_hang_leave_room_for_others(settings):
    assert 100 * settings.WEBHOOKS_PER_ENDPOINT + 100 <= settings.WEBHOOKS_IN_FLIGHT <= 1_000


def test_a_hundred_calls_that_hang_do_not_hold_up_those_that_do_not(merchant, receiver, hanging, dispatch):
    """The fast one's are all delivered while every slow one still hangs."""
    slow = [endpoint_of(merchant, f"{hanging.url}/{number}", kind="payment") for number in range(100)]
    for endpoint in slow:
        for _ in range(5):
            delivery_to(endpoint, recipient=endpoint.url)
    for endpoint in slow:
        dispatch.work_off(endpoint.pk)
    hung = 250 + 50  # each has five calls until half of the slots are taken, and then one
    eventually(lambda: len(hanging.calls) == hung, within=30, what="a call to each hangs")
    fast = endpoint_of(merchant, receiver.url)
    rows = [delivery_to(fast, recipient=receiver.url) for _ in range(10)]
    dispatch.work_off(fast.pk)
    eventually(delivered(*rows), within=30, what="the fast one is told")
    assert Delivery.objects.filter(state="pending").count() == 500
    assert connection_count() < 20, "a call that waits holds no database connection"
    hanging.let_go.set()
    eventually(lambda: not Delivery.objects.filter(state="pending").exists(), within=30, what="all are told")


def test_a_merchant_with_any_number_of_origins_that_hang_leaves_room_for_others(
    merchant, other_merchant, receiver, hanging, caller
):
    dispatch = Dispatch(caller, most=8)
    for number in range(12):
        origin = endpoint_of(merchant, f"{hanging.url}/{number}", kind="payment")
        delivery_to(origin, recipient=origin.url)
        dispatch.work_off(origin.pk)
    eventually(lambda: len(hanging.calls) == 6, within=20, what="three quarters of the slots are taken")
    row = delivery_to(endpoint_of(other_merchant, receiver.url), recipient=receiver.url)
    dispatch.work_off(row.endpoint_id)
    eventually(delivered(row), within=20, what="the other merchant's is delivered")
    assert len(hanging.calls) == 6
    hanging.let_go.set()
    assert dispatch.drain(20)
    dispatch.close()


def connection_count():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return cursor.fetchone()[0]


def test_slow_ones_with_much_waiting_for_them_never_share_all_slots_among_themselves(
    merchant, receiver, hanging, caller
):
    dispatch = Dispatch(caller, most=10)
    slow = [endpoint_of(merchant, f"{hanging.url}/{number}", kind="payment") for number in range(2)]
    for endpoint in slow:
        for _ in range(10):
            delivery_to(endpoint, recipient=endpoint.url)
        dispatch.work_off(endpoint.pk)
    row = delivery_to(endpoint_of(merchant, receiver.url), recipient=receiver.url)
    beginning = threading.Thread(target=run_and_close, args=(dispatch, row.endpoint_id))
    beginning.start()
    try:
        eventually(delivered(row), within=30, what="the fast one is told")
        assert DeliveryAttempt.objects.get().delivery_id == row.pk, "it did not wait for a slow one"
    finally:
        hanging.let_go.set()
        beginning.join()
        assert dispatch.drain(30)
        dispatch.close()


def test_an_endpoint_with_much_waiting_for_it_never_keeps_the_thread_that_serves_all(merchant, caller, settings):
    settings.WEBHOOKS_PER_ENDPOINT = 3
    dispatch = Dispatch(caller, most=50)
    endpoint = endpoint_of(merchant)
    for _ in range(9):
        delivery_to(endpoint)
    begun = []

    def end_at_once(claim):
        """There is room again before the thread looks."""
        begun.append(claim)
        attempts.settle(claim, OK, latency=timedelta(), now=timezone.now())
        dispatch._slots.release()

    dispatch._begin = end_at_once
    dispatch.work_off(endpoint.pk)
    assert len(begun) == 3
    dispatch.close()


def test_one_endpoint_is_never_called_more_often_at_once_than_its_cap(merchant, hanging, dispatch, settings):
    settings.WEBHOOKS_PER_ENDPOINT = 3
    endpoint = endpoint_of(merchant, hanging.url)
    rows = [delivery_to(endpoint, recipient=hanging.url) for _ in range(8)]

    def work_off(_number):
        try:
            dispatch.work_off(endpoint.pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work_off, range(4)))
    eventually(lambda: len(hanging.calls) == 3, within=20, what="three calls hang")
    assert Delivery.objects.filter(lease_expires_at__isnull=False).count() == 3
    hanging.let_go.set()
    eventually(delivered(*rows), within=30, what="whoever ends a call takes what waits next")


def test_a_secret_that_cannot_be_read_stops_neither_the_others_nor_the_process(merchant, receiver, dispatch, settings):
    broken = endpoint_of(merchant, f"{receiver.url}/broken")
    broken.secret = "nonsense"
    broken.save()
    lost, row = delivery_to(broken), delivery_to(endpoint_of(merchant, receiver.url), recipient=receiver.url)
    dispatch.work_off(broken.pk)
    dispatch.work_off(row.endpoint_id)
    eventually(delivered(row), within=20, what="the other is delivered")
    eventually(lambda: "secret cannot be read" in again(lost).note, within=20, what="the defect is recorded")
    assert (lost.state, again(broken).failing_since) == ("pending", None)
    assert lost.attempts.get().outcome == "failed"


def test_secrets_are_never_in_the_clear_in_the_database(merchant, settings):
    endpoint, secret = endpoints.create(merchant=merchant, mode=Mode.TEST, url="https://shop.example/hooks")
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(e)::text FROM notifications_webhookendpoint AS e")
        (text,) = cursor.fetchone()
    assert secret not in text
    assert secret.removeprefix("whsec_") not in text
    settings.ENCRYPTION_KEYS = ["a new key that is at least 32 characters", *settings.ENCRYPTION_KEYS]
    assert vault.unlock(endpoint.secret) == secret, "the old key still opens it"
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    with pytest.raises(vault.Locked):
        vault.unlock(endpoint.secret)


def test_a_stopping_worker_ends_its_calls_and_begins_no_more(merchant, hanging, caller):
    dispatch = Dispatch(caller, most=1)
    endpoint = endpoint_of(merchant, hanging.url)
    first, second = (delivery_to(endpoint, recipient=hanging.url) for _ in range(2))
    dispatch.work_off_soon = threading.Thread(target=run_and_close, args=(dispatch, endpoint.pk))
    dispatch.work_off_soon.start()
    eventually(lambda: len(hanging.calls) == 1, within=20, what="a call hangs")
    assert not dispatch.drain(0.01), "it is still under way"
    hanging.let_go.set()
    assert dispatch.drain(20)
    dispatch.work_off_soon.join()
    assert (again(first).state, again(second).state) == ("delivered", "pending")
    assert len(hanging.calls) == 1
    dispatch.close()


def test_a_process_of_several_workers_lets_its_calls_end_and_then_stops_at_once(merchant, hanging, caller, monkeypatch):
    """Each of them is shut down; were each to wait for all slots, all but one would wait in vain."""
    dispatch, drained = Dispatch(caller, most=3), []
    drain = dispatch.drain
    dispatch.drain = lambda timeout: drained.append(drain(timeout))
    monkeypatch.setattr("notifications.webhooks.dispatch.make_dispatch", cache(lambda: dispatch))
    broker = StubBroker(middleware=[Drain()])
    for queue in settings.WORKER_THREADS:
        broker.declare_queue(queue)
    monkeypatch.setattr("dramatiq.get_broker", lambda: broker)
    workers = start_workers(dict.fromkeys(settings.WORKER_THREADS, 1))
    row = delivery_to(endpoint_of(merchant, hanging.url), recipient=hanging.url)
    shared_dispatch().work_off(row.endpoint_id)
    eventually(lambda: hanging.calls, within=20, what="a call hangs")
    stopping = threading.Thread(target=stop_workers, args=(workers,))
    stopping.start()
    eventually(lambda: dispatch._stopping, within=20, what="the workers stop")
    assert stopping.is_alive(), "it waits for the call"
    hanging.let_go.set()
    stopping.join()
    assert drained == [True], "none waited in vain"
    assert again(row).state == "delivered"
    dispatch.close()


def test_threads_that_ask_first_at_the_same_time_share_one_dispatch(monkeypatch, caller):
    making = threading.Barrier(2)

    def make():
        """Two that make one at the same time meet here."""
        with suppress(threading.BrokenBarrierError):
            making.wait(0.5)
        return Dispatch(caller, most=1)

    monkeypatch.setattr("notifications.webhooks.dispatch.make_dispatch", cache(make))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _number: shared_dispatch(), range(2))
    assert first is second


def run_and_close(dispatch, endpoint_id):
    try:
        dispatch.work_off(endpoint_id)
    finally:
        connections.close_all()


def test_a_database_that_is_away_for_a_moment_makes_no_webhook_come_twice(merchant, receiver, dispatch, monkeypatch):
    """The answer waits for the database; it is not thrown away and asked for again."""
    monkeypatch.setattr(attempts, "OUTAGE_PAUSES", (0.05,) * 100)
    endpoint = endpoint_of(merchant, receiver.url)
    row = delivery_to(endpoint, recipient=receiver.url)
    dispatch.work_off(endpoint.pk)
    eventually(delivered(row), within=20, what="the first is delivered")
    ours = connection.connection.info.backend_pid
    receiver.answer = lambda _call: (cut_all_but(ours), 204)[1]
    row = delivery_to(endpoint, recipient=receiver.url)
    dispatch.work_off(endpoint.pk)
    eventually(delivered(row), within=20, what="the second is delivered")
    assert len(receiver.calls) == 2
    assert row.attempts.count() == 1


def cut_all_but(pid):
    """Every other session of the database ends, as when PostgreSQL restarts."""
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> ALL(%s) AND backend_type = 'client backend'"
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(cut, [[pid, connection.connection.info.backend_pid]])
            assert cursor.fetchall(), "nobody was connected"
    finally:
        connection.close()


def test_documents_are_json_that_says_what_the_api_says(accept, merchant, receiver, dispatch, client):
    endpoint = endpoint_of(merchant, receiver.url)
    payment = accept(order_id="order-1")
    subscribers.run_once("notifications")
    dispatch.work_off(endpoint.pk)
    eventually(lambda: receiver.calls, within=20, what="it is told")
    data = json.loads(receiver.calls[0].body)["data"]
    shown = client.get(f"/api/v1/payments/{payment.pk}/events").json()["results"][0]["data"]
    assert data == {**shown, "version": 1}
