"""Publishing batches to RabbitMQ with pipelined confirms: send all, then wait for all.

pika's blocking channel waits for each confirm before the next message, which is ten times slower. This is
its asynchronous connection, driven from the relay's own loop; no thread is involved.
"""

import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import dramatiq
import pika
import pika.exceptions
import structlog
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.spec import Basic

from messaging import in_process, topology
from messaging.broker import connection_parameters
from messaging.envelope import Envelope
from messaging.topology import explain

log = structlog.get_logger(__name__)

#: How long (s) one batch may wait for its confirms while its rows stay locked. RabbitMQ confirms in
#: milliseconds; the database ends sessions that idle in a transaction for 30 s.
PUBLISH_DEADLINE: Final = 10.0
#: The same for events, once they have a connection of their own: a queue that somebody bound to the exchange may never
#: confirm (a quorum queue without its majority), and what is to be charged waits for the end of this.
ANNOUNCE_DEADLINE: Final = 1.0
#: How long (s) connecting and declaring may take.
CONNECT_DEADLINE: Final = 10.0


class BrokerUnavailable(Exception):
    """RabbitMQ cannot be reached, or refuses our queues. Nothing was published; try again later."""


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a batch, by message id; an id in neither set is of unknown fate and must go out again."""

    confirmed: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


class Publisher(Protocol):
    """Where the relay's messages go."""

    def ensure_connected(self) -> None:
        """Be ready to publish, or raise BrokerUnavailable."""

    def publish(self, messages: Sequence[Envelope]) -> Published:
        """Publish a batch and tell what was confirmed."""

    def pump(self, seconds: float, *, or_read: int | None = None) -> None:
        """Wait, serving the connection meanwhile; no longer than until there is something to read from a socket."""

    def close(self) -> None:
        """Let go of the connection."""


def wait(seconds: float, or_read: int | None) -> None:
    """Wait so long, or until there is something to read."""
    poll = select.poll()
    if or_read is not None:
        poll.register(or_read, select.POLLIN)
    poll.poll(seconds * 1000)


class InProcessPublisher:
    """Hands messages to the workers in this very process."""

    def ensure_connected(self) -> None:
        """Nothing to connect."""

    def publish(self, messages: Sequence[Envelope]) -> Published:
        """Put the actors' messages into memory. To exchanges, nobody can listen."""
        broker = dramatiq.get_broker()
        published = Published()
        for message in messages:
            if not message.exchange and message.routing_key not in broker.get_declared_queues():
                published.refused.add(message.message_id)
                continue
            if not message.exchange:
                in_process.deliver(message)
            published.confirmed.add(message.message_id)
        return published

    def pump(self, seconds: float, *, or_read: int | None = None) -> None:
        """Wait."""
        wait(seconds, or_read)

    def close(self) -> None:
        """Nothing to close."""


class CorkableConnection(pika.SelectConnection):
    """pika's own, which can send many messages by one write: it makes three of each, and they take half of its time."""

    held: list[bytes] | None = None

    @contextmanager
    def corked(self) -> Iterator[None]:
        """What is sent inside of the block goes out at its end; where the block fails, not at all."""
        self.held = []
        try:
            yield
            held, self.held = b"".join(self.held), None
            if held:
                self._adapter_emit_data(held)
        finally:
            self.held = None

    def _adapter_emit_data(self, data: bytes) -> None:
        if self.held is None:
            super()._adapter_emit_data(data)  # type: ignore[misc]  # the stubs leave it out
        else:
            self.held.append(data)


class RabbitPublisher:
    """One connection and one channel in confirm mode, opened again after every trouble.

    `queues` and `exchange` are declared at each connection; `deadline` (s) bounds the wait for confirms.
    """

    def __init__(
        self, url: str, queues: Iterable[str], *, exchange: str = "", deadline: float = PUBLISH_DEADLINE
    ) -> None:
        self.parameters = connection_parameters(url, name="payments relay")
        # We hear of a block and wait by ourselves; a new connection would only be blocked, too.
        self.parameters.blocked_connection_timeout = None
        self.queues = topology.declarations(queues)
        self.exchange = exchange
        self.deadline = deadline
        self._connection: CorkableConnection | None = None
        self._channel: Channel | None = None
        self._ready = False
        self._failure = ""
        self._blocked = ""
        self._unexplained = ""
        self._returned = False
        self._declarations = 0
        self._next_tag = 1
        self._unconfirmed: dict[int, str] = {}
        self._outcome = Published()

    # --- connecting

    def ensure_connected(self) -> None:
        """Connect and declare the queues, unless that stands.

        Raises:
            BrokerUnavailable: with RabbitMQ's reason.
        """
        if self._unexplained:
            reason, self._unexplained = self._unexplained, ""
            raise BrokerUnavailable(reason)
        if self._blocked:
            raise BrokerUnavailable(f"it accepts no messages ({self._blocked})")
        if self._ready:
            return
        self.close()
        self._failure = ""
        self._connection = CorkableConnection(
            self.parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_lost,
            on_close_callback=self._on_lost,
            custom_ioloop=IOLoop(),
        )
        self._spin(CONNECT_DEADLINE, until=lambda: self._ready)
        if not self._ready:
            reason = self._failure or "no answer in time"
            self.close()
            raise BrokerUnavailable(reason)

    def _on_open(self, connection: pika.SelectConnection) -> None:
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        connection.channel(on_open_callback=self._on_channel)

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        """RabbitMQ is short of memory or disk, and takes no messages until that is over."""
        self._blocked = str(frame.method.reason) or "blocked"
        self._wake()

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self._blocked = ""

    def _on_channel(self, channel: Channel) -> None:
        self._channel = channel
        self._next_tag = 1
        channel.add_on_close_callback(self._on_lost)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm)
        self._declarations = len(self.queues) + bool(self.exchange)
        for queue, arguments in self.queues.items():
            channel.queue_declare(queue, durable=True, arguments=arguments, callback=self._on_declared)
        if self.exchange:
            kind = topology.EXCHANGE_TYPE
            channel.exchange_declare(self.exchange, exchange_type=kind, durable=True, callback=self._on_declared)

    def _on_declared(self, _frame: Any) -> None:
        self._declarations -= 1
        if self._declarations == 0:
            self._ready = True
            self._wake()

    def _on_lost(self, _source: Any, reason: Any) -> None:
        self._ready = False
        self._blocked = ""  # by what is gone
        self._failure = self._failure or explain(reason)
        self._wake()

    # --- publishing

    def publish(self, messages: Sequence[Envelope]) -> Published:
        """Send all messages, then wait for their confirms, at most `deadline`.

        An event, or another message that may wait, which is not confirmed in time over a sound connection counts as
        refused: some queue does not take it, perhaps for ever, and it must not stand in the way of the next ones.

        Raises:
            BrokerUnavailable: the connection broke while sending; none of the batch counts as published.
        """
        assert self._connection is not None, "ensure_connected() comes first"
        assert self._channel is not None
        self._outcome = Published()
        self._unconfirmed = {}
        self._returned = False
        try:
            with self._connection.corked():
                for message in messages:
                    self._send(self._channel, message)
        except pika.exceptions.AMQPError as error:
            self.close()
            raise BrokerUnavailable(explain(error)) from error
        self._spin(self.deadline, until=lambda: not self._unconfirmed or bool(self._blocked))
        if self._unconfirmed:
            reason = self._blocked or self._failure or "no confirm in time"
            log.warning("publish_unconfirmed", count=len(self._unconfirmed), reason=reason)
            self._unexplained = "" if self._blocked else f"messages were not confirmed ({reason})"
            if not self._blocked and not self._failure:
                late = set(self._unconfirmed.values())
                patient = {message.message_id for message in messages if message.exchange or message.waits}
                self._outcome.refused.update(patient & late)
        if self._returned or (self._unconfirmed and not self._blocked):
            # Start afresh: a lost queue is declared again, late confirms of this batch cannot mix with the next.
            # What a full queue rejects needs nothing of that.
            self.close()
        return self._outcome

    def _send(self, channel: Channel, message: Envelope) -> None:
        """`mandatory` makes RabbitMQ hand back what no queue takes; such messages are refused, not lost."""
        self._unconfirmed[self._next_tag] = message.message_id
        self._next_tag += 1
        channel.basic_publish(
            exchange=message.exchange,
            routing_key=message.routing_key,
            body=message.body,
            properties=pika.BasicProperties(
                delivery_mode=2,
                content_type=message.content_type,
                message_id=message.message_id,
                headers=message.headers or None,
            ),
            mandatory=message.mandatory,
        )

    def _on_return(self, _channel: Any, method: Any, properties: pika.BasicProperties, _body: bytes) -> None:
        """A message that no queue takes comes back, and only then is confirmed."""
        log.warning("publish_returned", routing_key=method.routing_key, reason=method.reply_text)
        self._returned = True
        self._outcome.refused.add(str(properties.message_id))

    def _on_confirm(self, frame: Any) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        tags = [known for known in self._unconfirmed if known <= tag] if multiple else [tag]
        accepted = isinstance(frame.method, Basic.Ack)
        for known in tags:
            message_id = self._unconfirmed.pop(known, None)
            if message_id is None:
                continue
            if accepted and message_id not in self._outcome.refused:
                self._outcome.confirmed.add(message_id)
            else:
                self._outcome.refused.add(message_id)
        self._wake()

    # --- the loop underneath

    def pump(self, seconds: float, *, or_read: int | None = None) -> None:
        """Serve heartbeats and notices of the connection for so long."""
        if self._connection is None:
            wait(seconds, or_read)
            return
        ioloop = self._connection.ioloop
        if or_read is not None:
            ioloop.add_handler(or_read, lambda *_: ioloop.stop(), ioloop.READ)
        try:
            self._spin(seconds, until=lambda: False)
        finally:
            if or_read is not None:
                ioloop.remove_handler(or_read)

    def close(self) -> None:
        """Close the connection and its loop; the next `ensure_connected` starts afresh."""
        connection, self._connection, self._channel, self._ready = self._connection, None, None, False
        self._blocked = ""
        if connection is None:
            return
        if connection.is_open:
            self._failure = "closed by us"
            connection.close()
            self._run_loop(connection, 1.0, until=lambda: connection.is_closed)
        connection.ioloop.close()

    def _spin(self, seconds: float, *, until: Callable[[], bool]) -> None:
        assert self._connection is not None
        self._run_loop(self._connection, seconds, until=lambda: until() or bool(self._failure))

    def _run_loop(self, connection: pika.SelectConnection, seconds: float, *, until: Callable[[], bool]) -> None:
        """Run the connection's loop until the condition holds or the time is over; callbacks wake it."""
        self._until = until
        self._loop = connection.ioloop
        if not until():
            timer = self._loop.call_later(seconds, self._loop.stop)
            self._loop.start()
            self._loop.remove_timeout(timer)

    def _wake(self) -> None:
        if self._until():
            self._loop.stop()
