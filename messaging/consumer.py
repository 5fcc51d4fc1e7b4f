"""Reads queues batch after batch, for what is no Dramatiq actor: messages from outside, and dead letters.

A message is acknowledged when its handler has returned, and so has committed. While PostgreSQL is away the same
messages are tried again and again: nothing is lost, nothing overtakes them. A crash delivers them again, which
handlers bear.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final

import pika
import structlog
from django.db import Error, connection
from pika.adapters.blocking_connection import BlockingChannel

from messaging import heartbeats, topology
from messaging.broker import UNREACHABLE, connection_parameters
from messaging.failpoints import failpoint

log = structlog.get_logger(__name__)

#: Messages that RabbitMQ hands over ahead of time: enough to share a statement among, few enough to share with others.
#: Should each be as large as RabbitMQ 4 lets through (16 MB) they are 800 MB: whoever may publish here may charge, too.
PREFETCH: Final = 50
#: How long (s) one look for messages lasts when there are none.
POLL: Final = 0.5
#: Waits (s) while RabbitMQ is away, and between two tries of one message.
TROUBLE_INTERVAL: Final = 0.5


class TryAgain(Exception):
    """The message cannot be handled at the moment, through no fault of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message as it came. `message_id` and `correlation_id` are its sender's own and may be empty."""

    queue: str
    body: bytes
    message_id: str = ""
    correlation_id: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    tag: int = 0


@dataclass(slots=True)
class Consumer:
    """Hands each message of some queues to `handle`, until it is told to stop.

    All that has come meanwhile is first handed to `together`, if there is one, which returns the tags of those that it
    has settled and may leave any; they go to `handle`, before anything that came later.
    `name` is that of its heartbeat; `declare` are the work queues that must exist, `read` the queues to read.
    `entrance` is an exchange that leads to all of these: who may write to it need not be let near any other queue.
    """

    url: str
    name: str
    declare: Sequence[str]
    read: Sequence[str]
    handle: Callable[[Delivery], None]
    entrance: str = ""
    together: Callable[[Sequence[Delivery]], Collection[int]] | None = None
    trouble: str = ""
    last_tried: int = 0

    def run(self, stopping: Event) -> None:
        """Read until `stopping` is set, connecting again after every trouble. A defect of the handler's ends it."""
        pulse = heartbeats.Pulse(self.name)
        try:
            while not stopping.is_set():
                try:
                    self.read_on(stopping, pulse)
                except UNREACHABLE as error:
                    self.note(f"RabbitMQ: {topology.explain(error)}")
                    pulse.beat(note=self.trouble)
                    stopping.wait(TROUBLE_INTERVAL)
            pulse.stop()
        finally:
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
                if len(channel.consumer_tags) < len(self.read):
                    log.warning("consumer_cancelled", consumer=self.name)
                    return  # a queue or the channel is gone: declare all again
                if not inbox:
                    continue
                if self.try_together(inbox, channel):
                    continue
                if self.try_once(inbox[0]):
                    failpoint(f"{self.name}.handled")
                    channel.basic_ack(inbox.popleft().tag)
                else:
                    rabbitmq.process_data_events(time_limit=TROUBLE_INTERVAL)

    def subscribe(self, channel: BlockingChannel) -> deque[Delivery]:
        """Declare and subscribe; what is delivered lands in the returned inbox."""
        inbox: deque[Delivery] = deque()
        self.last_tried = 0  # tags begin anew with each channel

        def receive(queue: str) -> Callable[..., None]:
            def on_message(_channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
                inbox.append(delivery_of(queue, method.delivery_tag, properties, body))

            return on_message

        for name, arguments in topology.declarations(self.declare).items():
            channel.queue_declare(name, durable=True, arguments=arguments)
        if self.entrance:
            channel.exchange_declare(self.entrance, exchange_type=topology.ENTRANCE_TYPE, durable=True)
        channel.basic_qos(prefetch_count=PREFETCH)
        for queue in self.read:
            if self.entrance:
                channel.queue_bind(queue, self.entrance)
            channel.basic_consume(queue, receive(queue))
        return inbox

    def try_together(self, inbox: deque[Delivery], channel: BlockingChannel) -> bool:
        """Acknowledge what can be settled together, if nothing is left that could not; whether anything was."""
        if self.together is None or len(inbox) < 2 or inbox[0].tag <= self.last_tried:
            return False
        self.last_tried = inbox[-1].tag
        try:
            settled = self.together(inbox)
        except Error:
            return False  # the next try, of one message, says what is the matter
        for _ in settled:
            failpoint(f"{self.name}.handled")
        acknowledge(inbox, settled, channel)
        return bool(settled)

    def try_once(self, delivery: Delivery) -> bool:
        """Handle one message; False when it must be tried again.

        A handler makes a dead letter of what is no RETRY (`database_errors`). Whatever database error comes out of it
        means that nothing can be stored at the moment, not even that dead letter: the message is kept.
        """
        try:
            self.handle(delivery)
        except Error as error:
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


def acknowledge(inbox: deque[Delivery], settled: Collection[int], channel: BlockingChannel) -> None:
    """Take what is settled out of the inbox: those at its head, mostly all, by one acknowledgement."""
    head = 0
    while inbox and inbox[0].tag in settled:
        head = inbox.popleft().tag
    if head:
        channel.basic_ack(head, multiple=True)
    for delivery in [each for each in inbox if each.tag in settled]:
        channel.basic_ack(delivery.tag)
        inbox.remove(delivery)


def delivery_of(queue: str, tag: int, properties: pika.BasicProperties, body: bytes) -> Delivery:
    """A message as pika hands it over."""
    return Delivery(
        queue=queue,
        body=body,
        message_id=readable(properties.message_id),
        correlation_id=readable(properties.correlation_id),
        headers=properties.headers or {},
        tag=tag,
    )


def readable(property_: Any) -> str:
    """A property as text: it may be missing, and where it is not UTF-8 it comes as bytes."""
    return property_.decode("utf-8", "replace") if isinstance(property_, bytes) else property_ or ""
