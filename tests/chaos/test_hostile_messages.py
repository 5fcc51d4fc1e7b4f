"""Messages that no relay publishes, on the queues of real workers: no process ends, and no payment waits for them."""

import time

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.chaos.conftest import SEED
from tests.hostile_messages import (
    ACTORS,
    FAR_ETA_MS,
    LATE_TIME,
    body_of,
    envelope,
    hostile_bodies,
    nested_header,
    publish,
    write_raw_headers,
)
from tests.system import eventually

#: Seconds within which payments that were accepted behind hostile messages are final. On a busy machine it may take
#: longer: so many times what the same number takes before there are any hostile messages.
FINAL_WITHIN_SECONDS = 10
BUSY_FACTOR = 5
INTAKE_QUEUE = "payment_initiation"


@pytest.fixture
def running(system):
    """The system with all its processes; none of them has ended when the test is over."""
    for name in ("relay", "worker", "intake"):
        system.start(name)
    queues = [*ACTORS, INTAKE_QUEUE]
    eventually(lambda: served(system) >= set(queues), within=60, what="all queues are read")
    newest = system.query("SELECT coalesce(max(id), 0) AS id FROM messaging_deadletter")
    system.dead_letters_before = newest[0]["id"]  # those of the tests before this one
    began = time.monotonic()
    system.await_final(system.accept(10, prefix=f"before-{began}"))
    system.final_within = max(FINAL_WITHIN_SECONDS, BUSY_FACTOR * (time.monotonic() - began))
    yield system
    ended = [name for name in ("relay", "worker", "intake") if system.processes[name].pid is None]
    assert ended == [], [system.processes[name].last_words() for name in ended]


def served(system):
    """The queues that some process reads."""
    listed = system.rabbitmq.control("list_queues", "name", "consumers").splitlines()
    return {line.split()[0] for line in listed if line.split()[-1] not in {"0", "consumers"}}


def dead_letters(system, *columns):
    return [tuple(row.values()) for row in system.query(f"SELECT {', '.join(columns)} FROM messaging_deadletter")]


def pay_ten(system, prefix):
    """Ten payments are final in time."""
    ids = system.accept(10, prefix=prefix)
    assert system.await_final(ids, within=system.final_within) == {"succeeded": 10}
    return ids


def await_dead_letters(system, count, cause):
    found = "SELECT * FROM messaging_deadletter WHERE cause = %s AND id > %s ORDER BY id"
    about = (cause, system.dead_letters_before)
    eventually(lambda: len(system.query(found, *about)) == count, within=20, what=f"{count} dead letters: {cause}")
    return system.query(found, *about)


def test_a_message_that_names_another_queue_ends_no_worker_and_delays_no_payment(running):
    publish(running.rabbitmq.url, "payments", body_of(envelope(queue_name="nobodys")))
    ids = pay_ten(running, "behind-another-queue")
    (row,) = await_dead_letters(running, 1, "wrong_queue")
    assert "`queue_name` is `nobodys`, but the message was in queue `payments`" in row["detail"]
    assert (row["queue"], row["actor"], row["attempts"]) == ("payments", "", 1)
    running.verify(ids)


def test_messages_with_a_far_eta_delay_no_payment(running):
    """Dramatiq would keep them unacknowledged; as many as are handed out ahead of time, and nothing else comes."""
    bodies = [body_of(envelope(options={"eta": FAR_ETA_MS, "request_id": ""})) for _ in range(40)]
    publish(running.rabbitmq.url, "payments", *bodies)
    ids = pay_ten(running, "behind-an-eta")
    rows = await_dead_letters(running, 40, "option_not_allowed")
    assert {row["detail"] for row in rows} == {"The option `eta` is not allowed."}
    running.verify(ids)


def test_a_dead_message_with_very_many_ids_does_not_stop_the_collector(running):
    """It becomes one dead letter with all its bytes; what died after it has its own in time."""
    ids = [f"0190a6f0-0000-7000-8000-{number:012x}" for number in range(20_000)]
    first = body_of(envelope(kwargs={"ids": ids}))
    second = body_of(envelope(message_id="not-a-uuid"))
    publish(running.rabbitmq.url, "payments.XQ", first, second)
    began = time.monotonic()
    await_dead_letters(running, 1, "message_id_invalid")
    assert time.monotonic() - began < running.final_within
    (row,) = await_dead_letters(running, 1, "message_too_large")
    assert bytes(row["body"]) == first
    made = running.query("SELECT count(*) FROM messaging_deadletter WHERE id > %s", running.dead_letters_before)
    assert made[0]["count"] < 100


def test_headers_that_python_cannot_hold_end_no_worker_and_delay_no_payment(running, monkeypatch):
    write_raw_headers(monkeypatch)
    for queue in (*ACTORS, INTAKE_QUEUE, "payments.XQ"):
        for value in (LATE_TIME, nested_header(5000)):
            publish(running.rabbitmq.url, queue, body_of(envelope(message_id="header")), headers={"h": value})
    running.verify(pay_ten(running, "behind-headers"))


def test_no_message_ends_a_process_or_delays_a_payment(running, full):
    """Any message, on each queue that a process reads."""
    bodies = st.tuples(*(st.lists(hostile_bodies(queue), min_size=3, max_size=12) for queue in ACTORS))
    numbers = iter(range(10**6))
    ids = []

    @seed(SEED)
    @settings(
        max_examples=60 if full else 6,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(bodies)
    def try_them(of_queues):
        for queue, hostile in zip(ACTORS, of_queues, strict=True):
            publish(running.rabbitmq.url, queue, *hostile)
            publish(running.rabbitmq.url, INTAKE_QUEUE, *hostile)
            publish(running.rabbitmq.url, f"{queue}.XQ", *hostile[:2])
        ids.extend(pay_ten(running, f"any-{next(numbers)}"))

    try_them()
    for queue in (*ACTORS, INTAKE_QUEUE):
        for name in (queue, f"{queue}.XQ"):
            eventually(lambda name=name: running.depth(name) == 0, within=30, what=f"{name} is empty")
    running.verify(ids)
