"""Payments die by the hundred while RabbitMQ is killed and wiped; then the gateway is back, and people replay them."""

import threading
from concurrent.futures import ThreadPoolExecutor

from messaging.failpoints import EXIT_STATUS
from tests.system import eventually

KILLS_RABBITMQ = True

#: Here payments shall die, not be held. The breaker waits for two hundred failures within one second, and sixteen
#: threads that wait a tenth of a second for each answer hear of less.
NO_BREAKER = {"BREAKER_WINDOW": "1", "PAYMENTS_PER_MESSAGE": "1", "WORKER_THREADS": "8"}
LATENCY = 0.1
LETTERS = "SELECT subject, state FROM messaging_deadletter"


def test_a_thousand_deaths_are_a_thousand_rows_and_replaying_them_charges_each_once(system, full, dice):
    count = 1000 if full else 60
    system.gateway(latency=LATENCY)
    system.start("relay", **NO_BREAKER)
    for instance in ("-a", "-b"):
        system.start("worker", instance=instance, **NO_BREAKER)
    ids = die_under_a_failing_broker(system, count, dice)
    letters = system.query(LETTERS)
    assert sorted(letter["subject"] for letter in letters) == sorted(f"payment:{id_}" for id_ in ids)
    assert {letter["state"] for letter in letters} == {"open"}
    assert system.journal() == []

    system.gateway(mended=["pm_down"])
    preview = system.manage("replay_dead_letters", "--dry-run")
    assert f"To replay: {count}, worth {count * 10}.00 EUR." in preview
    crash_in_the_middle(system, full)
    assert system.await_final(ids, within=240) == {"succeeded": count}
    system.verify(ids)
    assert len(system.journal()) == count

    assert "No open dead letter matches" in system.manage("replay_dead_letters", "--reason", "again")
    assert len(system.journal()) == count


def die_under_a_failing_broker(system, count, dice):
    """Payments that die, while RabbitMQ is killed, started again and wiped; their ids."""
    moment = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(system.accept, count, prefix="down", methods=("pm_down",))
        for break_it in (lambda: system.kill("rabbitmq"), system.wipe_rabbitmq):
            moment.wait(dice.uniform(1, 3))
            break_it()
            moment.wait(dice.uniform(0, 1))
            system.start_rabbitmq()
        ids = accepting.result()
    assert system.await_final(ids, within=300) == {"failed": count}
    return ids


def crash_in_the_middle(system, full):
    """Replay all: the first time it is killed before a chunk is committed, the second time two go on at once."""
    command = ("replay_dead_letters", "--reason", "the gateway is back")
    crashed = system.try_to_manage(*command, FAILPOINTS=f"resolution.chunk:{3 if full else 1}")
    assert crashed.returncode == EXIT_STATUS
    (resolution,) = system.query("SELECT id, state FROM messaging_resolution")
    assert resolution["state"] == "running"
    with ThreadPoolExecutor(2) as pool:
        for again in pool.map(
            lambda _: system.try_to_manage("replay_dead_letters", "--resume", str(resolution["id"])), "ab"
        ):
            assert again.returncode == 0 or "nothing left" in again.stderr or "nothing was done" in again.stderr

    def done():
        (found,) = system.query("SELECT state, total, replayed FROM messaging_resolution")
        return found["state"] == "done" and found["total"] == found["replayed"]

    eventually(done, within=240, what=lambda: f"all are replayed: {system.query('SELECT * FROM messaging_resolution')}")
