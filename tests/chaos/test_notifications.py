"""Whoever must be told is told, whatever crashes on the way; and what tells them can touch no payment."""

import subprocess
import threading
from collections import Counter

import pytest

from deploy.local.machine import free_port
from messaging.failpoints import EXIT_STATUS
from tests.chaos.listeners import Listeners
from tests.chaos.load import load
from tests.system import eventually

KILLS_RABBITMQ = True

#: Where a process dies on the way from the event to its receivers -> which one.
DEATHS = {
    "subscribers.taken": "relay",
    "relay.published": "relay",
    "delivery.claimed": "worker",
    "delivery.sent": "worker",
}


@pytest.fixture
def listeners(system):
    made = Listeners(system)
    yield made
    made.stop()


def test_a_crash_anywhere_between_event_and_receiver_loses_nobody_a_word(system, listeners, rounds, full, dice):
    for name in ("relay", "worker"):
        system.start(name, **listeners.env)
    order = dice.sample(sorted(DEATHS), len(DEATHS))
    with load(system, "told", dice, receipt_email="payer@example.org") as clients:
        for number in range(rounds):
            failpoint = order[number % len(order)]
            victim = DEATHS[failpoint]
            system.kill(victim)
            process = system.start(victim, **listeners.env, FAILPOINTS=f"{failpoint}:{dice.randint(1, 5)}")
            assert process.child.wait(60) == EXIT_STATUS, process.last_words()
            system.start(victim, **listeners.env)
        if full:
            system.wipe_rabbitmq()
            system.start_rabbitmq()
    system.await_final(clients.ids, within=120)
    listeners.await_all(within=120)
    print(listeners.verify())
    system.verify(clients.ids)


def test_nobody_listening_holds_up_no_payment(system, listeners, dice):
    """Neither the mail server nor the receiver answers; every payment is charged all the same."""
    let_go = threading.Event()
    listeners.receiver.answer = lambda _call: let_go.wait(60) and 500
    deaf = {**listeners.env, "EMAIL_PORT": str(free_port())}
    for name in ("relay", "worker"):
        system.start(name, **deaf)
    with load(system, "unheard", dice, receipt_email="payer@example.org") as clients:
        eventually(lambda: len(listeners.receiver.calls) >= 5, within=60, what="the receiver hangs")
    system.await_final(clients.ids, within=60)
    assert listeners.deliveries()["pending"], "somebody is still to be told"
    let_go.set()
    system.verify(clients.ids)


def test_a_worker_that_is_told_to_stop_ends_its_calls_and_none_is_made_twice(system, listeners):
    let_go = threading.Event()
    receiver = listeners.receiver
    receiver.answer = lambda _call: let_go.wait(30) and 204
    system.start("relay")
    worker = system.start("worker")
    ids = system.accept(3, prefix="stopping")
    system.await_final(ids)
    eventually(lambda: len(receiver.calls) >= 5, within=60, what="calls hang, as many as the endpoint may have")
    worker.child.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        worker.child.wait(3)
    let_go.set()
    assert worker.child.wait(15) == 0, worker.last_words()
    assert listeners.deliveries()["delivered"] == len(receiver.calls) == 5
    system.start("worker")
    listeners.await_all(within=60)
    assert max(Counter(receiver.ids()).values()) == 1
    system.verify(ids)
