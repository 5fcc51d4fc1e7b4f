"""Reads queues one message after another, for what is no Dramatiq actor: messages from outside, and dead letters.

A message is acknowledged when its handler has returned, and so has committed. While PostgreSQL is away the same
message is tried again and again: nothing is lost, nothing overtakes it. A crash delivers it again, which handlers bear.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final

import pika
import pika.exceptions
import structlog
from django.db import InterfaceError, OperationalError, connection
from pika.adapters.blocking_connection import BlockingChannel

from messaging import heartbeats, topology
from messaging.broker import connection_parameters
from messaging.failpoints import failpoint

log = structlog.get_logger(__name__)

#: Messages that RabbitMQ hands over ahead of time: enough to hide the way to it, few enough to share with others.
PREFETCH: Final = 100
#: How long (s) one look for messages lasts when there are none.
POLL: Final = 0.5
#: Waits (s) while RabbitMQ is away, and between two tries of one message.
TROUBLE_INTERVAL: Final = 0.5


class TryAgain(Exception):
    """The message cannot be handled at the moment, through no fault of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message as it came. `message_id` is its sender's own and may be empty."""

    queue: str
    body: bytes
    message_id: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    tag: int = 0


@dataclass(slots=True)
class Consumer:
    """Hands each message of some queues to `handle`, until it is told to stop.

    `name` is that of its heartbeat; `declare` are the work queues that must exist, `read` the queues to read.
    """

    url: str
    name: str
    declare: Sequence[str]
    read: Sequence[str]
    handle: Callable[[Delivery], None]
    trouble: str = ""

    def run(self, stopping: Event) -> None:
        """Read until `stopping` is set, connecting again after every trouble."""
        pulse = heartbeats.Pulse(self.name)
        while not stopping.is_set():
            try:
                self.read_on(stopping, pulse)
            except (pika.exceptions.AMQPError, OSError) as error:
                self.note(f"RabbitMQ: {topology.explain(error)}")
                pulse.beat(note=self.trouble)
                stopping.wait(TROUBLE_INTERVAL)
        pulse.stop()
        connection.close()

    def read_on(self, stopping: Event, pulse: heartbeats.Pulse) -> None:
        """Read over one connection. What is not acknowledged when it ends is delivered again."""
        with pika.BlockingConnection(connection_parameters(self.url, name=f"payments {self.name}")) as rabbitmq:
            channel = rabbitmq.channel()
            inbox = self.subscribe(channel)
            self.note("")
            while not stopping.is_set():
                pulse.beat(note=self.trouble)
                rabbitmq.process_data_events(time_limit=0 if inbox else POLL)
                if not channel.consumer_tags:
                    return  # the queue is gone: declare it again
                if not inbox:
                    continue
                if self.try_once(inbox[0]):
                    failpoint(f"{self.name}.handled")
                    channel.basic_ack(inbox.popleft().tag)
                else:
                    rabbitmq.process_data_events(time_limit=TROUBLE_INTERVAL)

    def subscribe(self, channel: BlockingChannel) -> deque[Delivery]:
        """Declare and subscribe; what is delivered lands in the returned inbox."""
        inbox: deque[Delivery] = deque()

        def receive(queue: str) -> Callable[..., None]:
            def on_message(_channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
                inbox.append(
                    Delivery(
                        queue=queue,
                        body=body,
                        message_id=properties.message_id or "",
                        headers=properties.headers or {},
                        tag=method.delivery_tag,
                    )
                )

            return on_message

        for name, arguments in topology.declarations(self.declare).items():
            channel.queue_declare(name, durable=True, arguments=arguments)
        channel.basic_qos(prefetch_count=PREFETCH)
        for queue in self.read:
            channel.basic_consume(queue, receive(queue))
        return inbox

    def try_once(self, delivery: Delivery) -> bool:
        """Handle one message; False when it must be tried again."""
        try:
            self.handle(delivery)
        except (OperationalError, InterfaceError) as error:
            connection.close()
            said = str(error).splitlines()
            self.note(f"PostgreSQL: {said[0] if said else type(error).__name__}")
            return False
        except TryAgain as reason:
            self.note(str(reason))
            return False
        self.note("")
        return True

    def note(self, trouble: str) -> None:
        """Tell trouble once, when it begins, and again when it is over."""
        if trouble != self.trouble:
            log.warning("consumer_troubled", consumer=self.name, trouble=trouble) if trouble else log.info(
                "consumer_recovered", consumer=self.name
            )
            self.trouble = trouble
