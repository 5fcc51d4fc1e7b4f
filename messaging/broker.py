"""The way from RabbitMQ to the actors: Dramatiq's broker with what it lacks for money.

- Quorum queues, confirmed publishing, dead-lettering that loses nothing.
- No broker delays: a delayed message sits unacknowledged in a worker's memory and RabbitMQ closes the
  channel after 30 minutes. Delays are rows in the outbox.
- Acknowledgements that cannot hit another message, and a check of each message before Dramatiq sees it: see
  `StampingConsumer`.
"""

from itertools import count
from typing import Any, Final

import pika
import pika.exceptions
import structlog
from dramatiq import Message, MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer, _RabbitmqMessage
from dramatiq.errors import ConnectionClosed
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from messaging import foreign_headers, message_check, topology

log = structlog.get_logger(__name__)
# Whatever reads over pika imports this module: a header that pika cannot decode would end the connection, and the
# redelivered message the next one.
foreign_headers.install()

#: AMQP's reply code where a queue does not exist.
NOT_FOUND: Final = 404
#: What a broker that is away looks like; the last, one that takes connections and says nothing, is no AMQPError.
UNREACHABLE: Final = (pika.exceptions.AMQPError, OSError, AMQPConnectorException)


def connection_parameters(url: str, *, name: str) -> pika.URLParameters:
    """How we connect: heartbeats on, and no blocking for ever when the broker stops reading (seconds)."""
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 30
    parameters.blocked_connection_timeout = 20
    parameters.socket_timeout = 5
    parameters.client_properties = {"connection_name": name}
    return parameters


class QuorumBroker(RabbitmqBroker):
    """Dramatiq's RabbitMQ broker on quorum queues, without delay queues."""

    def __init__(self, *, url: str, middleware: list[Any] | None = None) -> None:
        super().__init__(confirm_delivery=True, url=url, middleware=middleware)
        self.parameters = connection_parameters(url, name="payments worker")  # type: ignore[assignment]  # narrowed by the parent

    @property
    def consumer_class(self) -> type["StampingConsumer"]:
        """The consumer whose acknowledgements are safe."""
        return StampingConsumer

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Make a queue known, and with `ensure` create it on the server where it is missing."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        if ensure:
            self._ensure_queue(queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Publish and wait for the confirm. Raises ValueError for a delay: those go through the outbox."""
        if delay is not None:
            raise ValueError("Stage delayed messages in the outbox with `available_at`.")
        return super().enqueue(message)

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return topology.queue_arguments(queue_name)

    def _declare_dq_queue(self, queue_name: str) -> None:
        """There are no delay queues."""

    def _declare_xq_queue(self, queue_name: str) -> Any:
        name, arguments = topology.dead_letter_queue(queue_name), topology.dead_letter_queue_arguments()
        return self.channel.queue_declare(queue=name, durable=True, arguments=arguments)


class StampingConsumer(_RabbitmqConsumer):
    """Hands out only valid messages, and acknowledges only messages that came through this very connection.

    A message that fails the check (`message_check`) is rejected to the dead-letter queue: Dramatiq never decodes it.

    Delivery tags restart at 1 with every connection. A job that finishes after its consumer reconnected
    would acknowledge whatever message carries that number *now*: one that was never executed. So each
    message is stamped, and acknowledgements of foreign stamps are dropped; RabbitMQ delivers those messages
    again, which the actors bear.
    """

    stamps = count(1)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stamp = next(self.stamps)

    def __next__(self) -> MessageProxy | None:
        """Return the next valid message; None where there is none at the moment, or an invalid one was rejected.

        Raises:
            ConnectionClosed: Dramatiq's consumer thread connects again.
        """
        try:
            method, _, body = next(self.iterator)
            if method is None:
                return None
            message = self._checked(body, tag=method.delivery_tag)
        except (AssertionError, pika.exceptions.AMQPConnectionError, pika.exceptions.AMQPChannelError) as error:
            if getattr(error, "reply_code", None) == NOT_FOUND:
                self.broker.queues_pending.add(self.queue_name)  # the queue was deleted: it is declared again
            raise ConnectionClosed(error) from None
        if message is None:
            return None
        proxy: MessageProxy = _RabbitmqMessage(method.redelivered, method.delivery_tag, message)
        proxy.consumer_stamp = self.stamp  # type: ignore[attr-defined]  # ours, on the proxy only
        self.known_tags.add(method.delivery_tag)
        return proxy

    def _checked(self, body: bytes, *, tag: int) -> Message[Any] | None:
        """The message in a body, or None once it has been rejected."""
        try:
            return message_check.read_message(body, queue=self.queue_name)
        except message_check.InvalidMessage as refusal:
            log.warning("message_rejected", queue=self.queue_name, check=refusal.code, reason=refusal.detail)
            self._nack(tag)
            return None

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge a message of this connection."""
        if self.is_ours(message):
            super().ack(message)

    def nack(self, message: MessageProxy) -> None:
        """Reject a message of this connection to its dead-letter queue."""
        if self.is_ours(message):
            super().nack(message)

    def is_ours(self, message: MessageProxy) -> bool:
        """Whether the message came through this connection."""
        if message.consumer_stamp == self.stamp:
            return True
        log.warning("stale_ack_dropped", message_id=message.message_id, queue=self.queue_name)
        return False
