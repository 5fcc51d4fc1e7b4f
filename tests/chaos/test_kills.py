"""kill -9, at the worst moments and at any moment: nothing is lost and nothing charged twice."""

import threading

from messaging.failpoints import EXIT_STATUS
from tests.chaos.load import load
from tests.system import eventually


def await_death(process):
    """Wait until the process died at its failpoint, and not otherwise."""
    eventually(lambda: process.pid is None, within=60, what=f"{process.name} dies at its failpoint")
    assert process.child.returncode == EXIT_STATUS, process.last_words()


def killed_at(system, name, failpoint, rounds, dice):
    """Run the system under load while one process dies again and again at a failpoint, then let it finish."""
    other = {"worker": "relay", "relay": "worker"}[name]
    system.start(other)
    with load(system, failpoint, dice) as clients:
        for _ in range(rounds):
            await_death(system.start(name, FAILPOINTS=f"{failpoint}:{dice.randint(1, 12)}"))
        system.start(name)
    system.await_final(clients.ids, within=90)
    system.verify(clients.ids)
    assert set(system.statuses(clients.ids)) == {"succeeded", "failed"}


def test_a_worker_killed_between_charge_and_commit(system, rounds, dice):
    killed_at(system, "worker", "charge.answered", rounds, dice)
    abandoned = system.query("SELECT count(*) FROM payments_attempt WHERE outcome = 'abandoned'")
    assert abandoned[0]["count"] >= rounds, "the kills did not hit what they aimed at"


def test_a_worker_killed_between_claim_and_charge(system, rounds, dice):
    killed_at(system, "worker", "charge.claimed", rounds, dice)


def test_a_worker_killed_inside_the_second_transaction(system, rounds, dice):
    killed_at(system, "worker", "charge.settling", rounds, dice)


def test_a_worker_killed_before_its_acknowledgement(system, rounds, dice):
    killed_at(system, "worker", "charge.settled", rounds, dice)


def test_a_relay_killed_between_publish_and_delete(system, rounds, dice):
    killed_at(system, "relay", "relay.published", rounds, dice)


def test_worker_and_relay_killed_at_any_moment(system, rounds, dice):
    system.start("relay")
    system.start("worker")
    moment = threading.Event()
    with load(system, "any", dice) as clients:
        for _ in range(2 * rounds):
            victim = dice.choice(["relay", "worker"])
            moment.wait(dice.uniform(0.5, 2.5))
            system.kill(victim)
            system.start(victim)
    system.await_final(clients.ids, within=90)
    system.verify(clients.ids)
