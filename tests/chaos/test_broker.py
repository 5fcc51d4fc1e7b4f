"""RabbitMQ stops, forgets everything, or cuts all connections: payments are accepted meanwhile, and all finish."""

import sys

from deploy.local.supervisor import Process
from tests.system import eventually

KILLS_RABBITMQ = True


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


def test_a_broker_short_of_memory_is_told_and_loses_no_payment(system):
    """A blocked RabbitMQ takes connections and reads nothing; it looks alive to everybody who does not listen."""
    system.start("relay")
    system.start("worker")
    system.await_final(system.accept(2, prefix="before-block"))
    system.rabbitmq.control("set_vm_memory_high_watermark", "0.000001")
    ids = system.accept(20, prefix="blocked")

    def told():
        part = system.http.get(f"{system.url}/health").json()["parts"]["rabbitmq"]
        return part["status"] == "unhealthy" and "accepts no messages" in part["detail"]

    eventually(told, within=30, what="health says that RabbitMQ is blocked")
    assert set(system.statuses(ids)) == {"pending"}
    system.rabbitmq.control("set_vm_memory_high_watermark", "0.4")
    assert system.await_final(ids) == {"succeeded": 20}
    system.verify(ids)


#: A worker in which a thread ends as none should: by an exception outside of its messages.
ENDS_A_THREAD = """
import ctypes, sys, threading, time
from django.core.management import execute_from_command_line

def end_a_thread():
    while True:
        for thread in threading.enumerate():
            if type(thread).__name__ == "WorkerThread" and thread.running:
                ident, error = ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
                assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error) == 1
                return
        time.sleep(0.05)

threading.Thread(target=end_a_thread, daemon=True).start()
execute_from_command_line(["manage.py", "worker"])
"""


def test_a_worker_whose_threads_died_ends_instead_of_pretending(system):
    env = {**system.env, "DJANGO_SETTINGS_MODULE": "config.settings"}
    worker = Process("worker", [sys.executable, "-c", ENDS_A_THREAD], system.logs, env=env)
    worker.start()
    system.processes["worker"] = worker
    eventually(lambda: worker.pid is None, within=60, what="the worker ends")
    assert worker.child.returncode == 1
    assert "start the worker again" in worker.last_words()


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
    """The stale ack, with the rescue off: whatever is acknowledged without being executed is never seen again.

    When all connections are cut, the first worker to come back gets the head of the queue, and the second gets
    messages far behind it, under the numbers of its jobs in hand. As these finish they would acknowledge them.
    Killing both workers then shows which were lost.
    """
    slow = {"REVIVE_AFTER": "600", "CHARGE_DEADLINE": "4", "CHARGE_LEASE": "12"}
    prefetching = {**slow, "WORKER_THREADS": "4", "dramatiq_queue_prefetch": "64"}
    restart(system, "web", **slow)
    # So many that they last, four seconds each, while a busy machine cuts the connections.
    ids = system.accept(96, prefix="slow", methods=("pm_timeout_charged",))
    ids += system.accept(100, prefix="fast")
    system.start("relay", **slow, PAYMENTS_PER_MESSAGE="1")
    eventually(lambda: not system.query("SELECT FROM messaging_outboxmessage"), within=20, what="all are published")
    for instance, restart_delay in (("-a", "100"), ("-b", "1000")):
        system.start("worker", instance=instance, **prefetching, dramatiq_restart_delay=restart_delay)
    in_hand = "SELECT count(*) FROM payments_attempt WHERE kind = 'charge' AND finished_at IS NULL"
    done = "SELECT count(*) FROM payments_attempt WHERE kind = 'charge' AND finished_at IS NOT NULL"
    eventually(lambda: system.query(in_hand)[0]["count"] == 8, within=60, what="both workers are busy")
    system.rabbitmq.control("close_all_connections", "test")
    before = system.query(done)[0]["count"]
    eventually(lambda: system.query(done)[0]["count"] >= before + 8, within=60, what="the jobs in hand finish")
    eventually(lambda: system.query(in_hand)[0]["count"] >= 5, within=60, what="the next jobs are in hand")
    for instance in ("-a", "-b"):
        system.kill(f"worker{instance}")
    system.start("worker", REVIVE_AFTER="600")
    assert system.await_final(ids, within=90) == {"succeeded": 196}
    system.verify(ids)
    restart(system, "web")


def restart(system, name, **environment):
    system.processes.pop(name).stop()
    system.start(name, **environment)
    eventually(lambda: system.status("/readyz") == 200, within=30, what=f"{name} is back")
