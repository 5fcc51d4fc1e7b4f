"""Many clients at once, over HTTP, against the whole system."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.system import System


@pytest.fixture(scope="module")
def system(tmp_path_factory, virtual_hosts) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("system"), host=next(virtual_hosts))
    try:
        made.set_up()
        made.start("relay")
        made.start("worker")
        yield made
    finally:
        made.tear_down()


def at_once(count, call):
    with ThreadPoolExecutor(64) as pool:
        return list(pool.map(call, range(count)))


def test_1000_twins_make_one_payment_and_get_1000_equal_answers(system):
    answers = at_once(1000, lambda _: system.post("one-key", order_id="twins"))
    assert Counter(answer.status_code for answer in answers) == {202: 1000}
    assert len({answer.content for answer in answers}) == 1
    assert Counter("Idempotent-Replayed" in answer.headers for answer in answers) == {True: 999, False: 1}
    payment = answers[0].json()["id"]
    system.await_final([payment])
    system.verify([payment])
    assert [charge["payment_id"] for charge in system.journal() if charge["order_id"] == "twins"] == [payment]
    assert system.query("SELECT replays FROM payments_idempotencykey WHERE key = 'one-key'") == [{"replays": 999}]


def test_100_requests_for_one_order_make_one_payment_and_99_conflicts_that_name_it(system):
    answers = at_once(100, lambda number: system.post(f"order-key-{number}", order_id="contested"))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: 99}
    payment = next(answer.json()["id"] for answer in answers if answer.status_code == 202)
    refusals = [answer.json() for answer in answers if answer.status_code == 409]
    assert {refusal["payment_id"] for refusal in refusals} == {payment}
    assert {refusal["code"] for refusal in refusals} <= {"order_payment_active", "order_already_paid"}
    system.await_final([payment])
    system.verify([payment])


def test_one_request_id_goes_from_http_to_the_gateway_call(system):
    headers = {"Authorization": f"Bearer {system.api_key}", "Idempotency-Key": "traced", "X-Request-ID": "trace-me-42"}
    answer = system.http.post(f"{system.url}/api/v1/payments", json={"amount": "1.00"}, headers=headers)
    assert answer.headers["X-Request-ID"] == "trace-me-42"
    system.await_final([answer.json()["id"]])
    for name, event in (("web", "request_finished"), ("worker", "gateway_answered")):
        lines = (system.logs / f"{name}.log").read_text().splitlines()
        assert any('"trace-me-42"' in line and event in line for line in lines), name
