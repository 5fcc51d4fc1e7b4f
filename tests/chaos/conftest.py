"""A system whose processes the tests kill. `CHAOS_ROUNDS` says how often each; `make test` does it briefly."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import System

#: Kills per test.
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "3"))
#: From so many on, nothing is left to a sample, and times are the product's own.
FULL = 10
SEED = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))


def pytest_report_header() -> str:
    return f"chaos: CHAOS_SEED={SEED} CHAOS_ROUNDS={ROUNDS}"


@pytest.fixture
def rounds() -> int:
    return ROUNDS


@pytest.fixture
def full(rounds: int) -> bool:
    return rounds >= FULL


@pytest.fixture
def dice() -> random.Random:
    return random.Random(SEED)


@pytest.fixture(scope="module")
def running_system(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[System]:
    """With a node of RabbitMQ of its own where the module's tests kill it (`KILLS_RABBITMQ`).

    PostgreSQL is reached over a proxy where they fail over to another server (`FAILS_OVER`).
    """
    folder: Path = tmp_path_factory.mktemp("system")
    kills = getattr(request.module, "KILLS_RABBITMQ", False)
    host = None if kills else next(request.getfixturevalue("virtual_hosts"))
    made = System(folder, own_postgres=True, proxied=getattr(request.module, "FAILS_OVER", False), host=host)
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()


@pytest.fixture
def system(running_system: System) -> Iterator[System]:
    """Each test starts without relay, worker and intake, and leaves none."""
    yield running_system
    for name in [name for name in running_system.processes if name.startswith(("relay", "worker", "intake"))]:
        running_system.processes.pop(name).stop(timeout=20)
