"""Webhooks to merchants: signed, claimed and recorded one by one, to receivers that answer at once."""

from dataclasses import dataclass, field
from typing import Final

from bench.figures import Figure
from bench.options import Options
from bench.ours.backlog import AS_IF_NEW, fill
from bench.ours.house import House
from bench.stage import Stage, a_port, eventually
from deploy.local.supervisor import Process

DATABASE, TEMPLATE = "hooks", "hooks_backlog"
#: An endpoint is called five times at once, at most; several show what the process can do.
RECEIVERS: Final = 16
LIMIT: Final = 60.0
OPEN: Final = "SELECT count(*) FROM messaging_outboxmessage WHERE NOT (subscriber = '' AND exchange <> '')"
WAITING: Final = "SELECT count(*) FROM notifications_delivery WHERE state = 'pending'"
SENT: Final = """
    SELECT count(*), extract(epoch FROM max(finished_at) - min(finished_at))::float
    FROM notifications_deliveryattempt WHERE outcome = 'delivered'
"""


@dataclass(slots=True)
class Webhooks:
    """Payments with a `webhook_url` drained; each has three events to be told of."""

    stage: Stage
    options: Options
    house: House
    name: str = "webhooks"
    ports: list[int] = field(default_factory=list)
    receiver: Process | None = None

    def start(self) -> None:
        """The receivers, and a backlog that names them."""
        self.ports = [a_port() for _ in range(RECEIVERS)]
        self.receiver = self.stage.python("receiver", "-m", "bench.receiver", *map(str, self.ports), env={})
        self.house.create(TEMPLATE)
        urls = [f"http://127.0.0.1:{port}/" for port in self.ports]
        fill(self.house, TEMPLATE, number=self.options.hooks, webhook_url=urls)

    def measure(self) -> list[Figure]:
        """Deliveries a second, from the first answer to the last."""
        self.stage.create(DATABASE, like=TEMPLATE)
        self.stage.run_sql(DATABASE, *AS_IF_NEW)
        self.stage.purge()
        processes = [*self.house.begin_workers(DATABASE), *self.house.begin("relay", DATABASE)]
        done = eventually(self.is_done, within=LIMIT, every=0.2)
        count, seconds = self.stage.ask(DATABASE, SENT)
        self.stage.stop(*processes)
        fault = "" if done and count else f"{count} were delivered, and others not within {LIMIT:.0f} s"
        rate, details = count / (seconds or 1.0), {"deliveries": count}
        return [Figure(key="webhooks", value=rate, unit="deliveries/s", details=details, fault=fault)]

    def is_done(self) -> bool:
        """Whether all payments have ended and everything is told."""
        open_ = self.stage.ask(DATABASE, "SELECT count(*) FROM payments_payment WHERE revive_at IS NOT NULL")[0]
        return not open_ and not self.stage.ask(DATABASE, OPEN)[0] and not self.stage.ask(DATABASE, WAITING)[0]

    def stop(self) -> None:
        """The receivers."""
        if self.receiver is not None:
            self.stage.stop(self.receiver)
