"""`Prefer: wait` as gunicorn serves it: forked processes, several threads, and a stop in the middle."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.system import System, eventually


@pytest.fixture
def system(tmp_path, virtual_hosts) -> Iterator[System]:
    made = System(tmp_path, host=next(virtual_hosts))
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()


def post(system, key, prefer, **body):
    headers = {"Authorization": f"Bearer {system.api_key}", "Idempotency-Key": key, "Prefer": prefer}
    return system.http.post(
        f"{system.url}/api/v1/payments", json={"amount": "10.00", "order_id": key, **body}, headers=headers
    )


def test_one_call_takes_a_payment_to_its_end_and_a_stop_keeps_nobody_waiting(system):
    system.start("relay")
    system.start("worker")
    answers = [post(system, f"key-{number}", "wait=20") for number in range(4)]
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "succeeded")] * 4
    declined = post(system, "declined", "respond-async, wait=20", payment_method="pm_declined")
    assert (declined.status_code, declined.json()["status"]) == (200, "failed")
    system.verify([answer.json()["id"] for answer in answers])
    system.kill("worker")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(post, system, "held", "wait=25")
        eventually(
            lambda: system.query("SELECT FROM payments_idempotencykey WHERE key = 'held'"), within=10, what="accepted"
        )
        assert system.status("/livez") == 200
        assert not waiting.done()
        web = system.processes["web"].child
        web.send_signal(signal.SIGTERM)
        answer = waiting.result(timeout=15)
        web.wait(timeout=15)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
