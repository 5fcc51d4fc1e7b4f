"""`manage.py publish_payment`: asks for payments by message, one or many, to try out what `intake` makes of them."""

import json
import sys
import uuid
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from messaging.envelope import Envelope
from messaging.publisher import BrokerUnavailable, Publisher, RabbitPublisher

#: Messages on their way at a time: enough to hide the way to RabbitMQ, few enough for its deadline of 10 s.
BATCH: Final = 500
#: How often a batch goes out until all of it is confirmed. Some of it may arrive twice, which intake bears.
TRIES: Final = 3
#: Wait (s) before the next try while RabbitMQ is away.
PAUSE: Final = 1.0
#: Options that become fields of the message under the same name.
FIELDS: Final = ("amount", "currency", "order_id", "user_id", "merchant", "mode", "payment_method")
DEFAULT_AMOUNT: Final = "10.00"


class Command(BaseCommand):
    """A client as other services are, with confirms; exit status 1 when not everything was confirmed."""

    help = "Publish PaymentInitiated messages to the queue that `manage.py intake` reads."
    # It works beside a database that is away.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The message's fields, or a file of messages."""
        for name in FIELDS:
            default = f" (default: {DEFAULT_AMOUNT})" if name == "amount" else ""
            parser.add_argument(f"--{name.replace('_', '-')}", help=f"the message's `{name}`{default}")
        parser.add_argument("--idempotency-key", help="the message's `idempotency_key` (default: a new one)")
        parser.add_argument(
            "--metadata", action="append", metavar="NAME=VALUE", help="a pair of the metadata; may be repeated"
        )
        parser.add_argument(
            "--simulate-transient-failure", action="store_true", help="the gateway fails twice, then takes it"
        )
        parser.add_argument(
            "--count", type=int, help="so many messages; idempotency key and order id then end with -1, -2 and so on"
        )
        parser.add_argument(
            "--file", metavar="FILE", help="publish each line of this file as it is, byte for byte (- for stdin)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Publish, and say how many."""
        url = settings.ENV.rabbitmq_url
        if not url:
            raise CommandError("RABBITMQ_URL is not set: set it to the RabbitMQ that `manage.py intake` reads from.")
        refuse_contradictions(options)
        with closing(RabbitPublisher(url, [settings.INTAKE_QUEUE])) as publisher:
            if options["file"]:
                with open_file(options["file"]) as file:
                    published, lost = publish(publisher, lines_of(file), total=None)
            else:
                published, lost = publish(publisher, made_of(options), total=options["count"] or 1)
        said = f"{published} published to the queue {settings.INTAKE_QUEUE}"
        if lost:
            raise CommandError(f"{said}, {lost} not confirmed: they may have arrived or not; publish them again.")
        self.stdout.write(f"{said}; `manage.py intake` takes them from there.")


def refuse_contradictions(options: dict[str, Any]) -> None:
    """Options that make no sense together, or by themselves."""
    fields = [name for name in (*FIELDS, "idempotency_key", "metadata", "count") if options[name] is not None]
    fields += ["simulate_transient_failure"] if options["simulate_transient_failure"] else []
    if options["file"] and fields:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in fields)
        raise CommandError(f"--file sends its lines as they are; leave {names} out.")
    if options["count"] is not None and options["count"] < 1:
        raise CommandError("--count must be at least 1.")
    if options["simulate_transient_failure"] and options["payment_method"]:
        raise CommandError("--simulate-transient-failure takes the place of --payment-method; leave one of them out.")
    if options["simulate_transient_failure"] and options["mode"] == "live":
        raise CommandError("--simulate-transient-failure is for --mode test; nothing is simulated in live mode.")


def made_of(options: dict[str, Any]) -> Iterator[bytes]:
    """The messages that the options describe."""
    message: dict[str, Any] = {"amount": DEFAULT_AMOUNT}
    message |= {name: options[name] for name in FIELDS if options[name] is not None}
    message["idempotency_key"] = options["idempotency_key"] or f"publish-{uuid.uuid4().hex[:12]}"
    if options["metadata"]:
        message["metadata"] = dict(pair_of(text) for text in options["metadata"])
    if options["simulate_transient_failure"]:
        message["simulate_transient_failure"] = True
    count = options["count"] or 1
    for number in range(1, count + 1):
        own = {name: f"{message[name]}-{number}" for name in ("idempotency_key", "order_id") if name in message}
        yield json.dumps({**message, **own} if count > 1 else message, ensure_ascii=False).encode(
            errors="surrogateescape"
        )


def pair_of(text: str) -> tuple[str, str]:
    """A pair of the metadata."""
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--metadata {text!r} is no pair; write it as NAME=VALUE.")
    return name, value


def open_file(name: str) -> BinaryIO:
    """The file, or standard input."""
    try:
        return sys.stdin.buffer if name == "-" else Path(name).open("rb")
    except OSError as error:
        raise CommandError(f"--file {name} cannot be read: {error.strerror}.") from None


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines without their ends; blank ones are no messages."""
    return (line.removesuffix(b"\n") for line in file if line.strip())


def publish(publisher: Publisher, bodies: Iterable[bytes], *, total: int | None) -> tuple[int, int]:
    """Publish all, batch by batch; how many were confirmed, and how many were not."""
    made = (Envelope(message_id=str(uuid.uuid4()), routing_key=settings.INTAKE_QUEUE, body=body) for body in bodies)
    published = lost = 0
    # Without a terminal there is no bar to look at (`disable=None`).
    with tqdm(total=total, unit=" messages", disable=None) as bar:
        while batch := list(islice(made, BATCH)):
            left = publish_batch(publisher, batch)
            published, lost = published + len(batch) - len(left), lost + len(left)
            bar.update(len(batch) - len(left))
            if len(left) == len(batch):  # it does not get better: the rest is lost as well
                lost += sum(1 for _ in made)
    return published, lost


def publish_batch(publisher: Publisher, batch: list[Envelope]) -> list[Envelope]:
    """Publish one batch; what was not confirmed, after several tries."""
    trouble = None
    for _ in range(TRIES):
        try:
            publisher.ensure_connected()
            confirmed = publisher.publish(batch).confirmed
        except BrokerUnavailable as error:
            trouble = error
            publisher.pump(PAUSE)
            continue
        batch, trouble = [message for message in batch if message.message_id not in confirmed], None
        if not batch:
            break
    if trouble is not None:
        sys.stderr.write(f"RabbitMQ: {trouble}\n")
    return batch
