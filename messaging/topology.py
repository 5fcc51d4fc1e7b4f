"""What must exist on RabbitMQ, in one place. Whoever publishes or consumes declares it; `doctor` compares.

- Work queues are quorum queues. Whatever they give up goes to a dead-letter queue of their own, at least once, and
  from there the collector makes it a row.
- One topic exchange tells other systems what happened; they bind queues of their own to it.
- One fanout exchange, the entrance, leads to the queue of the messages from outside. RabbitMQ grants writing by
  exchange: who may write to this one reaches no other queue, as it would by the default exchange.
"""

from collections.abc import Iterable
from typing import Any, Final

from django.conf import settings
from dramatiq.common import xq_name

#: How often one message may be handed out before RabbitMQ declares it poisonous. Every graceful stop of a
#: worker counts for each message it had prefetched, so this must outlast a day of deployments; a message
#: that kills its worker each time still ends within minutes.
DELIVERY_LIMIT: Final = 100
#: The same for a dead letter: for ever. RabbitMQ's own limit is 20 from 4.0 on, and behind a dead-letter queue there is
#: none: twenty collectors that ended with a letter in hand, in a long outage of PostgreSQL say, and it would be gone.
#: Not -1: that is for ever from 4.0 on, and never before.
DEAD_LETTER_DELIVERY_LIMIT: Final = 1_000_000
EXCHANGE_TYPE: Final = "topic"
ENTRANCE_TYPE: Final = "fanout"
#: Where it all lives in `definitions`: the virtual host that every RabbitMQ has.
VIRTUAL_HOST: Final = "/"


def work_queues() -> list[str]:
    """The queues that processes of ours read: those of the actors, and that of the messages from outside."""
    return sorted({queue for queue, _ in settings.MESSAGE_ROUTES.values()} | {settings.INTAKE_QUEUE})


def dead_letter_queue(queue: str) -> str:
    """Where a work queue's dead letters go, until the collector has taken them."""
    return str(xq_name(queue))


def queue_arguments(queue: str) -> dict[str, Any]:
    """The arguments of a work queue. RabbitMQ refuses (406) to declare a queue again with others.

    At-least-once dead-lettering needs `reject-publish`; with any other overflow it silently falls back to
    at-most-once. https://www.rabbitmq.com/docs/quorum-queues#dead-lettering
    """
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_letter_queue(queue),
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-delivery-limit": DELIVERY_LIMIT,
    }


def dead_letter_queue_arguments() -> dict[str, Any]:
    """The arguments of a dead-letter queue: nothing in it expires, nothing pushes anything out or wears it out."""
    return {"x-queue-type": "quorum", "x-delivery-limit": DEAD_LETTER_DELIVERY_LIMIT}


def declarations(queues: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Every queue to declare, with its arguments: each work queue after its dead-letter queue."""
    found: dict[str, dict[str, Any]] = {}
    for queue in sorted(queues):
        found[dead_letter_queue(queue)] = dead_letter_queue_arguments()
        found[queue] = queue_arguments(queue)
    return found


def exchanges() -> dict[str, str]:
    """Every exchange, with its type: where events go out, and where messages from outside come in."""
    return {settings.EVENTS_EXCHANGE: EXCHANGE_TYPE, settings.INTAKE_QUEUE: ENTRANCE_TYPE}


def definitions() -> dict[str, Any]:
    """All of it as RabbitMQ's own tools load it, for who sets up a node before we connect. No users, no secrets.

    https://www.rabbitmq.com/docs/definitions
    """
    lasting = {"vhost": VIRTUAL_HOST, "durable": True, "auto_delete": False}
    declared = declarations(work_queues())
    kept = {"internal": False, "arguments": {}, **lasting}
    entrance = {"source": settings.INTAKE_QUEUE, "destination": settings.INTAKE_QUEUE, "destination_type": "queue"}
    return {
        "vhosts": [{"name": VIRTUAL_HOST}],
        "queues": [{"name": name, **lasting, "arguments": arguments} for name, arguments in declared.items()],
        "exchanges": [{"name": name, "type": kind, **kept} for name, kind in exchanges().items()],
        "bindings": [{**entrance, "vhost": VIRTUAL_HOST, "routing_key": "", "arguments": {}}],
    }


def is_changed_declaration(reason: object) -> bool:
    """Whether RabbitMQ refuses to declare something because it exists with other properties."""
    return "inequivalent arg" in str(reason)


def explain(reason: object) -> str:
    """RabbitMQ's own words, and for changed declarations the mend; first who knows more, as heartbeats cut the end."""
    text = str(reason) or repr(reason)
    if is_changed_declaration(text):
        mend = "It exists with other arguments: let it run empty, delete it, and it is declared anew."
        text = f"see `manage.py doctor`: {text} -- {mend}"
    return text[:500]
