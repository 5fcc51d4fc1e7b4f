"""Nodes of RabbitMQ for tests, and virtual hosts on them: to a test one of these is as good as a node of its own."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.rabbitmq import RabbitMQ, find_server

#: rabbitmqctl takes a second, whatever it does: so many are made at once.
AT_ONCE: Final = 10
#: What `rabbitmqctl add_vhost` and `set_permissions` do.
MAKE: Final = """
    [begin
        ok = rabbit_vhost:add(Name, <<"tests">>),
        ok = rabbit_auth_backend_internal:set_permissions(<<"guest">>, Name, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)
    end || Name <- [NAMES]].
"""


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """One with nothing on it, of a node that others use as well."""

    node: RabbitMQ
    name: str

    @property
    def url(self) -> str:
        """How to connect."""
        return self.node.url.replace("%2F", self.name)

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl`; what belongs to a virtual host is this one's."""
        return self.node.control("--vhost", self.name, *arguments)


def node_in(folder: Path, logs: Path) -> RabbitMQ:
    """A node that will keep its data in a folder."""
    found = find_server()
    assert found, "these tests need a rabbitmq-server on the machine"
    return RabbitMQ(folder / "rabbitmq", logs, found)


@contextmanager
def running(node: RabbitMQ) -> Iterator[RabbitMQ]:
    """It takes connections, and is killed at the end: nobody misses what it would still write."""
    processes = node.processes()
    try:
        for process in processes:
            process.start()
        processes[-1].await_ready(node.is_ready)
        yield node
    finally:
        for process in reversed(processes):
            process.stop(timeout=0)


def hosts_of(node: RabbitMQ) -> Iterator[VirtualHost]:
    """One after the other, without end."""
    while True:
        names = [f"test-{uuid.uuid4().hex}" for _ in range(AT_ONCE)]
        node.control("eval", MAKE.replace("NAMES", ", ".join(f'<<"{name}">>' for name in names)))
        yield from (VirtualHost(node, name) for name in names)
