"""RabbitMQ stops, forgets everything, or cuts all connections: payments are accepted meanwhile, and all finish."""

import subprocess

from tests.system import eventually


def test_a_stopped_broker_fails_no_request_and_loses_no_payment(system):
    system.start("relay")
    system.start("worker")
    system.kill("rabbitmq")
    ids = system.accept(30, prefix="stopped")
    assert set(system.statuses(ids)) == {"pending"}
    eventually(
        lambda: system.http.get(f"{system.url}/health").json()["parts"]["rabbitmq"]["status"] == "unhealthy",
        within=15,
        what="health says that RabbitMQ is away",
    )
    system.start_rabbitmq()
    assert system.await_final(ids) == {"succeeded": 30}
    system.verify(ids)


def test_a_wiped_broker_loses_no_payment(system):
    """All messages are in RabbitMQ and nowhere else when its data is deleted."""
    system.start("relay")
    ids = system.accept(30, prefix="wiped")
    eventually(lambda: not system.query("SELECT FROM messaging_outboxmessage"), within=20, what="all are published")
    system.wipe_rabbitmq()
    system.start_rabbitmq()
    system.start("worker")
    assert system.await_final(ids) == {"succeeded": 30}
    system.verify(ids)


def test_a_deleted_queue_is_declared_again(system):
    system.start("relay")
    system.start("worker")
    first = system.accept(3, prefix="before")
    system.await_final(first)
    system.rabbitmq.control("delete_queue", "payments")
    ids = system.accept(10, prefix="deleted")
    assert system.await_final(ids) == {"succeeded": 10}
    system.verify(first + ids)


def test_cut_connections_acknowledge_no_message_that_was_never_executed(system):
    """The stale ack: with the rescue off, a message lost to another's acknowledgement is never seen again."""
    no_rescue = {"REVIVE_AFTER": "600"}
    system.start("relay", **no_rescue)
    web = system.processes.pop("web")
    web.stop()
    system.start("web", **no_rescue)
    eventually(lambda: system.status("/readyz") == 200, within=30)
    try:
        ids = system.accept(100, prefix="stale", methods=("pm_timeout_charged",))
        system.start("worker", **no_rescue)
        busy = "SELECT count(*) FROM payments_payment WHERE status <> 'pending' AND order_id LIKE 'stale%%'"
        for finished in (8, 24, 40):
            eventually(lambda least=finished: system.query(busy)[0]["count"] >= least, within=60)
            try:
                system.rabbitmq.control("close_all_connections", "test")
            except subprocess.CalledProcessError as error:
                raise AssertionError(error.stderr) from error
        assert system.await_final(ids, within=120) == {"succeeded": 100}
        system.verify(ids)
    finally:
        system.processes.pop("web").stop()
        system.start("web")
        eventually(lambda: system.status("/readyz") == 200, within=30)
