"""The gateway fails in every way it can, and recognises no idempotency keys: each charge is sent once only."""

import threading

import pytest

from tests.chaos.load import load
from tests.system import eventually

#: All that a gateway can do to a charge, at once.
FAULTS = {
    "pm_flaky_2": 0.05,
    "pm_rate_limited": 0.05,
    "pm_timeout_charged": 0.04,
    "pm_timeout_not_charged": 0.04,
    "pm_reset": 0.05,
    "pm_reset_before": 0.05,
    "pm_reset_within": 0.05,
    "pm_error_500": 0.05,
    "pm_garbage": 0.05,
    "pm_duplicate_webhook": 0.1,
}


@pytest.fixture(autouse=True)
def a_sound_gateway_afterwards(system):
    yield
    system.gateway()


def test_a_gateway_with_every_fault_and_no_memory_charges_each_order_once(system, rounds, dice):
    """`forget_keys`: whatever is sent twice is charged twice. Workers die meanwhile, and webhooks come anyhow."""
    system.gateway(forget_keys=True, faults=FAULTS, seed=dice.randrange(1000), webhook_copies=2, webhook_shuffle=True)
    system.start("relay")
    system.start("worker")
    moment = threading.Event()
    with load(system, "faulty", dice) as clients:
        for _ in range(rounds):
            moment.wait(dice.uniform(0.5, 1.5))
            system.kill("worker")
            system.start("worker")
    system.gateway(forget_keys=True)
    system.await_final(clients.ids, within=180)
    system.verify(clients.ids)


def test_webhooks_that_come_late_and_out_of_order_change_no_final_state(system, dice):
    """All payments are final when their webhooks come."""
    system.gateway(webhook_delay=10, webhook_copies=3, webhook_shuffle=True)
    system.start("relay")
    system.start("worker")
    ids = system.accept(20, prefix="late", methods=("pm_ok", "pm_declined", "pm_duplicate_webhook"))
    system.await_final(ids)
    assert system.query("SELECT FROM payments_gatewayevent WHERE payment_id = ANY(%s::uuid[])", ids) == [], "not late"
    before = system.query("SELECT id, version FROM payments_payment ORDER BY id")
    told = "SELECT FROM payments_gatewayevent WHERE payment_id = ANY(%s::uuid[]) AND handled_at IS NOT NULL"
    eventually(lambda: len(system.query(told, ids)) == 20, within=60, what="all webhooks are handled")
    assert system.query("SELECT id, version FROM payments_payment ORDER BY id") == before
    assert system.query("SELECT FROM payments_payment WHERE needs_review") == []
    system.verify(ids)


def test_a_gateway_that_is_gone_for_a_while_fails_no_payment(system, dice):
    """Connections are refused for longer than all retries last; the breaker keeps the payments from burning them."""
    # A short window: what another test has had charged just before must not outweigh the outage.
    limits = {"BREAKER_MIN_CALLS": "5", "BREAKER_FAILURE_RATE": "0.5", "BREAKER_OPEN_FOR": "0.5", "BREAKER_WINDOW": "3"}
    system.start("relay", **limits)
    system.start("worker", **limits)
    system.await_final(system.accept(3, prefix="before-outage"))
    system.kill("sandbox")
    ids = system.accept(40, prefix="outage")
    held = "SELECT FROM payments_payment WHERE held_since IS NOT NULL"
    eventually(lambda: len(system.query(held)) >= 30, within=30, what="payments wait for the gateway")
    probes = "SELECT FROM payments_gatewaycircuit WHERE openings >= 3"
    eventually(lambda: system.query(probes), within=30, what="three probes have failed")
    assert "failed" not in system.statuses(ids)
    system.start("sandbox")
    assert system.await_final(ids, within=90) == {"succeeded": 40}
    system.verify(ids)
    # Webhooks may have settled the last of them, and then nothing was left to probe the gateway with.
    system.await_final(system.accept(1, prefix="after-outage"))
    eventually(lambda: "in order" in system.manage("gateway", "status"), within=15, what="the breaker is closed")


def test_a_paused_gateway_is_left_alone_until_it_is_resumed(system, dice):
    system.start("relay")
    system.start("worker")
    before = len(system.journal())
    system.manage("gateway", "pause", "sandbox", "--reason", "maintenance")
    ids = system.accept(20, prefix="paused")
    held = "SELECT FROM payments_payment WHERE held_since IS NOT NULL"
    eventually(lambda: len(system.query(held)) == 20, within=30, what="all wait")
    assert len(system.journal()) == before
    system.manage("gateway", "resume", "sandbox")
    assert system.await_final(ids) == {"succeeded": 20}
    system.verify(ids)


@pytest.mark.parametrize("forget_keys", [False, True])
def test_a_gateway_as_slow_as_its_deadline_charges_once_though_workers_die_and_leases_end(system, forget_keys):
    """Whoever is killed leaves charges that went through: the gateway takes them, and replies much later.

    Nothing is measured: no call ends before its worker is killed, and the leases of the killed end when the test says.
    """
    times = {"CHARGE_DEADLINE": "60", "CHARGE_LEASE": "600", "WORKER_THREADS": "16", "REVIVE_AFTER": "2"}
    system.gateway(latency=57, forget_keys=forget_keys, webhook_delay=3600)
    system.start("relay", **times)
    ids = system.accept(24, prefix=f"slow-{len(system.journal())}")
    for kills in range(2):  # at a charge, and at a look-up
        system.start("worker", **times)
        eventually(lambda: len(system.query(HELD)) >= 8, within=30, what="calls are under way")
        if kills == 0:
            eventually(lambda: len(charged(system, ids)) >= 8, within=30, what="charges are taken")
        system.kill("worker")
        system.query(END_LEASES, ids)
    system.gateway(forget_keys=forget_keys)
    system.start("worker", **times)
    assert system.await_final(ids, within=240) == {"succeeded": 24}
    abandoned = "SELECT FROM payments_attempt WHERE outcome = 'abandoned' AND payment_id = ANY(%s::uuid[])"
    assert len(system.query(abandoned, ids)) >= 8, "no lease ended"
    system.verify(ids)


HELD = "SELECT FROM payments_payment WHERE lease_expires_at > now()"
#: The time passes for which killed workers hold their payments.
END_LEASES = """
    UPDATE payments_payment SET lease_expires_at = now(), revive_at = now()
    WHERE id = ANY(%s::uuid[]) AND lease_expires_at IS NOT NULL RETURNING id
"""


def charged(system, ids):
    return [entry for entry in system.journal() if entry["payment_id"] in ids]
