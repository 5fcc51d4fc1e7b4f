"""Where limits are counted: in PostgreSQL, and in a Redis of a test file's own."""

import pytest
from django.core.cache import caches

from tests import cpu_budget
from tests.counting import by_redis, private_redis


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with private_redis(tmp_path_factory.mktemp("redis")) as (server, _process):
        yield server


@pytest.fixture(params=["postgres", "redis"])
def counter(request, settings):
    """Each of the two."""
    if request.param == "redis":
        by_redis(settings, request.getfixturevalue("redis").url)
        caches["counters"].clear()
    return request.param


def pytest_terminal_summary(terminalreporter):
    """The largest costs that `make fuzz` has measured."""
    if lines := list(cpu_budget.report()):
        terminalreporter.section("processor time: the most expensive request of each operation")
        terminalreporter.write_line("\n".join(lines))
