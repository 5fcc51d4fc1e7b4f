"""A message as it travels: its bytes, and where to."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What is handed to a publisher. Without an exchange it goes to the queue that `routing_key` names."""

    message_id: str
    routing_key: str
    body: bytes
    exchange: str = ""
    waits: bool = False
    content_type: str = "application/json"
    headers: dict[str, Any] = field(default_factory=dict)

    @property
    def mandatory(self) -> bool:
        """Whether RabbitMQ must hand it back when no queue takes it.

        A queue of ours must take it. To an exchange nobody may listen, and that is nobody's fault.
        """
        return not self.exchange
