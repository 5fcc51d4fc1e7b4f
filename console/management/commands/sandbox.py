"""`manage.py sandbox`: for developers. `listen` receives webhooks and shows them; `trigger` makes an event happen."""

import json
import threading
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse
from rest_framework.exceptions import ValidationError
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from console.listener import Listener, Received, Server
from console.listener_endpoint import registered
from console.triggers import ALIASES, METHODS, method_for, trigger
from merchants.models import Merchant, Mode
from merchants.refusals import Refused
from messaging.process import stop_on_signals
from payments.events import EVENT_TYPES

#: Options of `trigger` that become fields of the request.
FIELDS: Final = ("amount", "webhook_url", "receipt_email", "receipt_phone")


class Command(BaseCommand):
    """Talks to nobody but this machine, and only where ENVIRONMENT=development."""

    help = "Receive webhooks on this machine, or make an event happen."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Two commands in one."""
        commands = parser.add_subparsers(dest="what", required=True, metavar="listen | trigger")
        listen = commands.add_parser(
            "listen", help="print each webhook as it comes, and whether its signature verifies"
        )
        listen.add_argument("--port", type=int, default=0, help="of this machine; default: any that is free")
        listen.add_argument("--merchant", default="demo", help="slug; default: %(default)s")
        listen.add_argument("--mode", choices=Mode.values, default=Mode.TEST.value, help="default: %(default)s")
        listen.add_argument("--events", nargs="*", default=[], metavar="TYPE", help="only these; default: all")
        listen.add_argument("--fail", type=int, default=0, metavar="N", help="answer the first N with an error")
        listen.add_argument("--status", type=int, default=500, help="that error; default: %(default)s")
        listen.add_argument("--secret", default="", metavar="whsec_…", help="only verify with this; register nothing")
        # Django's own option is one of `sandbox`, and people write it at the end; there, no default undoes it.
        listen.add_argument("-v", "--verbosity", type=int, default=SUPPRESS, help="2 prints the JSON as well")
        make = commands.add_parser("trigger", help="make a test payment whose story has this event")
        make.add_argument("type", help=f"one of {', '.join([*METHODS, *ALIASES])}")
        make.add_argument("--merchant", default="demo", help="slug; default: %(default)s")
        make.add_argument("--amount", default="10.00", help="in the merchant's currency; default: %(default)s")
        make.add_argument("--webhook-url", help="called with every event of this payment")
        make.add_argument("--receipt-email", help="where the payer is told by mail")
        make.add_argument("--receipt-phone", help="where the payer is told by SMS, such as +4915123456789")

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        """Do the one or the other."""
        if settings.ENV.production:
            raise CommandError("This is for trying things out; it runs with ENVIRONMENT=development only.")
        if what == "listen":
            self.listen(**options)
        else:
            self.trigger(**options)

    # --- listen

    def listen(self, *, port: int, secret: str, fail: int, status: int, verbosity: int, **options: Any) -> None:
        """Until Ctrl-C or SIGTERM."""
        refuse_nonsense(secret=secret, status=status, event_types=options["events"])
        stopping = stop_on_signals()
        with serving(port) as server, self.secret_for(server.url, secret, **options) as used:
            server.listener = Listener(used, lambda call: self.show(call, verbosity), fail=fail, failure=status)
            self.say(f"Listening at {server.url}; Ctrl-C stops.")
            stopping.wait()
        self.say("Stopped.")

    @contextmanager
    def secret_for(
        self, url: str, secret: str, *, merchant: str, mode: str, events: list[str], **_: Any
    ) -> Iterator[str]:
        """The secret to verify with: the given one, or that of an endpoint made for as long as we listen."""
        if secret:
            yield secret
            return
        if not settings.WEBHOOK_PRIVATE_TARGETS:
            raise CommandError("WEBHOOK_PRIVATE_TARGETS is off, so nothing is sent to this machine: set it to true.")
        owner = merchant_of(merchant)
        try:
            with registered(merchant=owner, mode=Mode(mode), url=url, event_types=events) as made:
                self.say(f"Registered for {owner} in {mode} mode: {', '.join(events) or 'all events'}.")
                yield made
        except Refused as refusal:
            raise CommandError(refusal.detail) from None

    def show(self, call: Received, verbosity: int) -> None:
        """One call."""
        self.say(call.line())
        if verbosity > 1:
            self.say(json.dumps(call.document, indent=2))  # in ASCII: nothing in it may move the cursor

    def say(self, line: str) -> None:
        """At once, also into a pipe."""
        self.stdout.write(line)
        self.stdout.flush()

    # --- trigger

    def trigger(self, *, type: str, merchant: str, **options: Any) -> None:  # noqa: A002  # the option's name
        """Make the payment, and say where to look."""
        method = method_for(type)
        if method is None:
            raise CommandError(f"{type} cannot be triggered. These can: {', '.join([*METHODS, *ALIASES])}.")
        fields = {name: options[name] for name in FIELDS if options[name] is not None}
        try:
            payment_id = trigger(merchant=merchant_of(merchant), payment_method=method, fields=fields)
        except ValidationError as error:
            raise CommandError(f"The API would refuse this: {in_words(error)}") from None
        except Refused as refusal:
            raise CommandError(refusal.detail) from None
        self.say(f"payment {payment_id}, paid with {method}")
        page = reverse("admin:payments_payment_change", args=[payment_id])
        self.say(f"  its story: {page}, and /api/v1/payments/{payment_id}/events")
        self.say("  its webhooks: where `manage.py sandbox listen` runs")


@contextmanager
def serving(port: int) -> Iterator[Server]:
    """A server that answers, in a thread of its own."""
    try:
        server = Server(port)
    except (OSError, OverflowError) as error:
        raise CommandError(f"--port {port}: {getattr(error, 'strerror', None) or error}.") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refuse_nonsense(*, secret: str, status: int, event_types: list[str]) -> None:
    """Options that cannot be meant."""
    try:
        if secret:
            Webhook(secret)
    except (ValueError, EmptyWebhookSecretError):
        raise CommandError("--secret is `whsec_` and base64.") from None
    if not 300 <= status <= 599:
        raise CommandError("--status is an HTTP status from 300 to 599: it stands for a failure.")
    if unknown := sorted(set(event_types) - set(EVENT_TYPES)):
        raise CommandError(f"No such event: {', '.join(unknown)}. There are: {', '.join(EVENT_TYPES)}.")


def merchant_of(slug: str) -> Merchant:
    """The merchant with this slug."""
    found = Merchant.objects.filter(slug=slug).first()
    if found is None:
        raise CommandError(f"There is no merchant `{slug}`. `manage.py seed_demo` makes one called demo.")
    return found


def in_words(error: ValidationError) -> str:
    """The faults, each with its field."""
    detail: Any = error.detail
    return " ".join(f"{name}: {' '.join(map(str, faults))}" for name, faults in detail.items())
