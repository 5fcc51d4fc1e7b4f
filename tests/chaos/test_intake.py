"""Messages while intake is killed, and RabbitMQ too: every valid one is one payment, every bad one one dead letter.

The payments stay pending here, as no worker runs: `test_messages.py` charges some.
"""

import json
from collections import Counter

from messaging.failpoints import EXIT_STATUS
from tests.system import eventually

KILLS_RABBITMQ = True

QUEUE = "payment_initiation"
#: Kinds of bad messages -> the cause of their dead letter. `{n}` makes each one of its kind unlike the others.
POISON = {
    "not_json": b"\xff{n}",
    "too_large": b'{"idempotency_key": "large-{n}", "amount": "' + b"9" * 2**17 + b'"}',
    "invalid": b'{"idempotency_key": "invalid-{n}", "amount": "1.001", "currency": "EUR"}',
    "merchant_unknown": b'{"idempotency_key": "unknown-{n}", "amount": 1, "merchant": "nobody"}',
    "idempotency_key_missing": b'{"order_id": "keyless-{n}", "amount": 1}',
    "no_live_gateway": b'{"idempotency_key": "live-{n}", "amount": 1, "mode": "live", "payment_method": "p"}',
}


def mixture(count, dice, prefix):
    """So many lines: valid, 1 % poison, 5 % duplicates; and the keys and causes that must come of them."""
    keys, causes, lines = [], Counter(), []
    for number in range(count):
        draw = dice.random()
        if draw < 0.01 or number < len(POISON):
            cause = dice.choice(list(POISON)) if number >= len(POISON) else list(POISON)[number]
            causes[cause] += 1
            lines.append(POISON[cause].replace(b"{n}", f"{prefix}-{number}".encode()))
        elif draw < 0.06 and keys:
            lines.append(message(dice.choice(keys)))
        else:
            keys.append(f"{prefix}-{number}")
            lines.append(message(keys[-1]))
    return keys, causes, lines


def message(key):
    return json.dumps({"idempotency_key": key, "amount": "10.00", "order_id": key}).encode()


def test_no_message_is_lost_or_doubled_whatever_is_killed(system, rounds, full, dice, tmp_path):
    kills = max(rounds, 3)
    keys, causes, lines = mixture(10_000 if full else 600, dice, "mixed")
    slice_ = len(lines) // kills
    names = ["intake-a", "intake-b"]
    for name in names:
        restart(system, name)
    for round_ in range(kills):
        file = tmp_path / "lines"
        file.write_bytes(b"\n".join(lines[round_ * slice_ :][: slice_ if round_ < kills - 1 else None]))
        passing = dice.randint(1, slice_ // 3)
        if round_ % 2:
            # The worst moment: committed, and not acknowledged.
            # Alone: the other instance might have taken all before this one reads.
            name, other = dice.sample(names, 2)
            system.processes.pop(other).stop(timeout=20)
            victim = restart(system, name, FAILPOINTS=f"intake.handled:{passing}")
            publish(system, file)
            eventually(lambda victim=victim: victim.pid is None, within=60, what="intake dies at its failpoint")
            assert victim.child.returncode == EXIT_STATUS, victim.last_words()
            restart(system, name)
            restart(system, other)
        else:
            some = paid(system) + passing
            publish(system, file)
            eventually(lambda some=some: paid(system) >= some, within=60, what="some of it is accepted")
            victim = dice.choice(names)
            system.kill(victim)
            restart(system, victim)
        if round_ == kills // 2:
            system.kill("rabbitmq")
            system.start_rabbitmq()
    eventually(lambda: paid(system) == len(keys), within=300 if full else 90, what=lambda: f"{paid(system)} payments")
    eventually(lambda: system.depth(QUEUE) == 0, within=60, what="the queue is empty")
    for name in names:
        system.processes.pop(name).stop(timeout=20)
    assert system.depth(QUEUE) == 0, "a message was handled and not acknowledged"
    verify(system, keys, causes)


def publish(system, file):
    said = system.manage("publish_payment", "--file", str(file))
    assert said.startswith(f"{len(file.read_bytes().splitlines())} published"), said


def restart(system, name, **env):
    """Start an instance of intake, in the place of one that may still run."""
    if name in system.processes:
        system.processes.pop(name).stop(timeout=20)
    return system.start("intake", instance=name.removeprefix("intake"), **env)


def paid(system):
    """How many payments there are."""
    return system.query("SELECT count(*) FROM payments_payment WHERE order_id LIKE 'mixed-%%'")[0]["count"]


def verify(system, keys, causes):
    """By the tables: one payment and one event for each key, one letter for each bad message, nothing else."""
    orders = "SELECT order_id, count(*) FROM payments_payment WHERE order_id LIKE 'mixed-%%' GROUP BY 1"
    assert {row["order_id"]: row["count"] for row in system.query(orders)} == dict.fromkeys(keys, 1)
    found = system.query("SELECT cause, detail FROM messaging_deadletter WHERE queue = %s AND state = 'open'", QUEUE)
    assert Counter(row["cause"] for row in found) == causes
    assert all(row["detail"] for row in found)
    events = (
        "SELECT count(*) FROM payments_paymentevent AS event"
        " JOIN payments_payment AS payment ON payment.id = event.payment_id WHERE payment.order_id LIKE 'mixed-%%'"
    )
    assert system.query(events)[0]["count"] == len(keys)
