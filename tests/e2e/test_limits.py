"""Limits over HTTP, against a web server of several processes: exact, and no outage without their counter."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.counting import private_redis
from tests.system import System, eventually

#: An hour, so that no window ends while the requests run.
LOW = {"LIMIT_READS": "100/h", "CREATION_BURST": "100", "CREATION_RATE": "0.001", "WEB_PROCESSES": "2"}


@pytest.fixture(scope="module")
def running_system(tmp_path_factory, virtual_hosts) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("system"), host=next(virtual_hosts))
    made.env |= LOW
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()


@pytest.fixture
def redis(tmp_path):
    with private_redis(tmp_path) as (server, process):
        yield server, process


@pytest.fixture(params=["postgres", "redis"])
def system(running_system, request) -> System:
    """It counts in the one or the other, and has counted nothing so far."""
    running_system.query("DELETE FROM merchants_counter RETURNING key")
    running_system.query("DELETE FROM merchants_bucket RETURNING key")
    url = request.getfixturevalue("redis")[0].url if request.param == "redis" else ""
    restart_web(running_system, REDIS_URL=url)
    return running_system


def restart_web(system, **env):
    system.processes.pop("web").stop()
    system.start("web", **env)
    eventually(lambda: system.status("/readyz") == 200, within=60, what="the web process is ready")


def read(system):
    headers = {"Authorization": f"Bearer {system.api_key}"}
    return system.http.get(f"{system.url}/api/v1/payments", headers=headers)


def at_once(count, call):
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(call, range(count)))


def test_of_1000_requests_at_once_exactly_100_pass(system):
    answers = at_once(1000, lambda _: read(system))
    assert Counter(answer.status_code for answer in answers) == {200: 100, 429: 900}
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)


def test_of_300_payments_at_once_exactly_100_are_accepted_and_repetitions_all_answered(system):
    counted = len(system.query("SELECT id FROM payments_payment"))
    answers = at_once(300, lambda number: system.post(f"{counted}-{number}"))
    assert Counter(answer.status_code for answer in answers) == {202: 100, 429: 200}
    assert len(system.query("SELECT id FROM payments_payment")) == counted + 100
    accepted = [number for number, answer in enumerate(answers) if answer.status_code == 202]
    again = at_once(len(accepted), lambda index: system.post(f"{counted}-{accepted[index]}"))
    assert Counter(answer.status_code for answer in again) == {202: 100}
    assert {answer.headers.get("Idempotent-Replayed") for answer in again} == {"true"}


def test_redis_killed_in_the_middle_fails_no_request(running_system, redis):
    server, process = redis
    restart_web(running_system, REDIS_URL=server.url)

    def call(number):
        if number == 100:
            process.child.kill()
        return read(running_system) if number % 2 else running_system.post(f"killed-{number}")

    answers = at_once(400, call)
    assert {answer.status_code for answer in answers} <= {200, 202, 429}
    passed = [answer for number, answer in enumerate(answers) if number % 2 and number > 200]
    assert Counter(answer.status_code for answer in passed)[200] > 50, "reads go on without the counter"
    parts = running_system.http.get(f"{running_system.url}/health").json()["parts"]
    assert parts["limits"]["status"] == "degraded"

    process.child.wait()
    process.start()
    process.await_ready(server.is_ready)
    eventually(lambda: "RateLimit" in read(running_system).headers, within=30, what="Redis counts again")
