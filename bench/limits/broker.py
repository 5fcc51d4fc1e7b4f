"""RabbitMQ's limit: messages published to a quorum queue, confirmed in batches of 200, by pika."""

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

import pika
from pika.channel import Channel

from bench.figures import Figure
from bench.options import Options
from bench.processes import own_children_seconds
from bench.stage import ROOT, Stage, run_to_end

BATCH: Final = 200
QUEUE: Final = "bench_publish"
#: As long as a message of ours to the workers.
BODY: Final = b"x" * 300


@dataclass(slots=True)
class BrokerLimit:
    """A process of its own that does nothing else."""

    stage: Stage
    options: Options
    name: str = "publish"

    def start(self) -> None:
        """Nothing is needed."""

    def measure(self) -> list[Figure]:
        """Confirmed messages a second."""
        seconds = min(self.options.seconds, 5.0)
        before, broker = own_children_seconds(), self.stage.server_cpu()["rabbitmq"]
        argv = [sys.executable, "-m", "bench.limits.broker", self.stage.rabbitmq.url, str(seconds)]
        said = json.loads(run_to_end(argv, env={"PYTHONPATH": str(ROOT)}, within=seconds + 60))
        cores = {
            "cpu_load": (own_children_seconds() - before) / said["seconds"],
            "cpu_rabbitmq": (self.stage.server_cpu()["rabbitmq"] - broker) / said["seconds"],
        }
        return [Figure(key="publish", value=said["confirmed"] / said["seconds"], unit="msg/s", details=cores)]

    def stop(self) -> None:
        """Nothing runs."""


@dataclass(slots=True)
class Publishing:
    """Sends a batch, and the next one when all of it is confirmed."""

    seconds: float
    sent: int = 0
    waiting: set[int] = field(default_factory=set)
    began: float = 0.0
    properties: pika.BasicProperties = field(default_factory=lambda: pika.BasicProperties(delivery_mode=2))

    def on_connection(self, connection: Any) -> None:
        """Open a channel."""
        connection.channel(on_open_callback=self.on_channel)

    def on_channel(self, channel: Channel) -> None:
        """Declare the queue, ask for confirms."""
        channel.confirm_delivery(lambda frame: self.on_confirm(channel, frame))
        arguments = {"x-queue-type": "quorum"}
        channel.queue_declare(QUEUE, durable=True, arguments=arguments, callback=lambda _: self.begin(channel))

    def begin(self, channel: Channel) -> None:
        """The first batch."""
        self.began = time.monotonic()
        self.send(channel)

    def send(self, channel: Channel) -> None:
        """A batch."""
        for _ in range(BATCH):
            channel.basic_publish("", QUEUE, BODY, self.properties, mandatory=True)
        self.waiting = set(range(self.sent + 1, self.sent + BATCH + 1))
        self.sent += BATCH

    def on_confirm(self, channel: Channel, frame: Any) -> None:
        """Count; at the end of a batch go on or end."""
        tag = frame.method.delivery_tag
        self.waiting -= {known for known in self.waiting if known <= tag} if frame.method.multiple else {tag}
        if self.waiting:
            return
        if time.monotonic() - self.began < self.seconds:
            self.send(channel)
        else:
            self.seconds = time.monotonic() - self.began
            channel.queue_delete(QUEUE, callback=lambda _: channel.connection.close())


def main(url: str, seconds: str) -> None:
    """`python -m bench.limits.broker URL SECONDS`."""
    publishing = Publishing(float(seconds))
    connection = pika.SelectConnection(
        pika.URLParameters(url),
        on_open_callback=publishing.on_connection,
        on_close_callback=lambda closed, _: closed.ioloop.stop(),
    )
    connection.ioloop.start()
    print(json.dumps({"confirmed": publishing.sent, "seconds": publishing.seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
