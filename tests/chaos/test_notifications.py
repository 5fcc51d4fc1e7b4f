"""Whoever must be told is told, whatever crashes on the way; and what tells them can touch no payment."""

import email
import subprocess
import threading
from collections import Counter
from email import policy

import psycopg
import pytest
from aiosmtpd.controller import Controller
from standardwebhooks import Webhook

from deploy.local.machine import free_port
from messaging.failpoints import EXIT_STATUS
from tests.chaos.load import load
from tests.receiver import Receiver
from tests.system import eventually

#: Where a process dies on the way from the event to its receivers.
FAILPOINTS = ("subscribers.taken", "relay.published", "delivery.claimed", "delivery.sent")


class MailServer:
    """A real one, for the whole test."""

    def __init__(self):
        self.mails, self.lock = [], threading.Lock()
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self.controller.start()

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802  # the library's name
        with self.lock:
            self.mails.append(email.message_from_bytes(envelope.content, policy=policy.default)["Message-ID"])
        return "250 taken"


@pytest.fixture
def mail_server():
    made = MailServer()
    yield made
    made.controller.stop()


@pytest.fixture
def receiver():
    made = Receiver().start()
    yield made
    made.stop()


@pytest.fixture
def endpoint(system, receiver):
    """Registered by the API, before anything happens."""
    answer = system.api("POST", "/webhook-endpoints", json={"url": receiver.url})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    yield made
    assert system.api("DELETE", f"/webhook-endpoints/{made['id']}").status_code == 204


@pytest.fixture
def mail_env(system, mail_server):
    """What relay and worker need to know of the mail server."""
    return {"EMAIL_BACKEND": "smtp", "EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(mail_server.controller.port)}


def let_leases_end(system):
    """As if the two minutes had passed that a dead worker's leases last; a living one has its answer in 20 s."""
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE notifications_delivery SET revive_at = now(), lease_expires_at = now()"
            " WHERE lease_expires_at < now() + interval '100 seconds'"
        )


def told(system, endpoint):
    """Deliveries by state, of this test's endpoint and of mails since it was made: others' are no business of ours."""
    ours = "SELECT state FROM notifications_delivery WHERE coalesce(endpoint_id = %s, created_at >= %s)"
    return Counter(row["state"] for row in system.query(ours, endpoint["id"], endpoint["created_at"]))


def all_are_told(system, endpoint):
    let_leases_end(system)
    waiting = "SELECT FROM messaging_outboxmessage WHERE subscriber <> ''"
    return not system.query(waiting) and set(told(system, endpoint)) == {"delivered"}


def test_a_crash_anywhere_between_event_and_receiver_loses_nobody_a_word(
    system, endpoint, receiver, mail_server, mail_env, rounds, full, dice
):
    system.start("relay", **mail_env)
    system.start("worker", **mail_env)
    with load(system, "told", dice, receipt_email="payer@example.org") as clients:
        order = dice.sample(FAILPOINTS, len(FAILPOINTS))
        for number in range(rounds):
            name = order[number % len(order)]
            victim = "relay" if name in {"subscribers.taken", "relay.published"} else "worker"
            system.kill(victim)
            process = system.start(victim, **mail_env, FAILPOINTS=f"{name}:{dice.randint(1, 5)}")
            assert process.child.wait(60) == EXIT_STATUS, process.last_words()
            system.start(victim, **mail_env)
        if full:
            system.wipe_rabbitmq()
            system.start_rabbitmq()
    payments = system.await_final(clients.ids, within=120)
    eventually(
        lambda: all_are_told(system, endpoint), within=120, what=lambda: f"all are told, not {told(system, endpoint)}"
    )
    since = "SELECT id::text FROM payments_paymentevent WHERE created_at >= %s"
    events = {row["id"] for row in system.query(since, endpoint["created_at"])}
    assert set(receiver.ids()) == events, "an event that the receiver never heard of, or heard of and never was"
    for call in receiver.calls:
        Webhook(endpoint["secret"]).verify(call.body, call.headers)
    again = len(receiver.calls) - len(set(receiver.ids()))
    mails = Counter(mail_server.mails)
    assert len(mails) == payments["succeeded"], "a receipt that was never sent"
    twice = sum(mails.values()) - len(mails)
    print(f"\n{len(receiver.calls)} webhooks, {again} came again; {len(mails)} mails, {twice} twice; {rounds} deaths")
    # Only who dies between sending and writing it down sends again.
    assert twice <= 4 * rounds
    system.verify(clients.ids)
    system.verify_quiet()


def test_nobody_listening_holds_up_no_payment(system, endpoint, receiver, dice, mail_env):
    """Neither the mail server nor the receiver answers; every payment is charged all the same."""
    let_go = threading.Event()
    receiver.answer = lambda _call: let_go.wait(60) and 500
    dead = {**mail_env, "EMAIL_PORT": str(free_port())}
    system.start("relay", **dead)
    system.start("worker", **dead)
    with load(system, "unheard", dice, receipt_email="payer@example.org") as clients:
        eventually(lambda: len(receiver.calls) >= 5, within=60, what="the receiver hangs")
    assert sum(system.await_final(clients.ids, within=60).values()) == len(clients.ids)
    system.verify(clients.ids)
    assert told(system, endpoint)["pending"], "somebody is still to be told"
    let_go.set()


def test_a_worker_that_is_told_to_stop_ends_its_calls_and_none_is_made_twice(system, endpoint, receiver):
    let_go = threading.Event()
    receiver.answer = lambda _call: let_go.wait(30) and 204
    system.start("relay")
    worker = system.start("worker")
    ids = system.accept(3)
    system.await_final(ids)
    eventually(lambda: len(receiver.calls) >= 5, within=60, what="calls hang, as many as the endpoint may have")
    worker.child.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        worker.child.wait(3)
    let_go.set()
    assert worker.child.wait(15) == 0, worker.last_words()
    assert told(system, endpoint)["delivered"] == len(receiver.calls) == 5
    system.start("worker")
    eventually(lambda: len(receiver.calls) == 9, within=60, what="the others are called")
    assert max(Counter(receiver.ids()).values()) == 1
    system.verify(ids)
