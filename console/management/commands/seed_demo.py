"""`manage.py seed_demo`: an up-to-date database with a demo merchant, its people, a key and some payments."""

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any, Final

import structlog
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone
from environs import Env, EnvError
from tqdm import tqdm

from analytics import daily
from console import demo_history
from merchants import api_keys
from merchants.models import Membership, Merchant, Mode, Role, User
from payments.operations import PaymentRequest, accept_payment
from payments.reads import payments_of

log = structlog.get_logger(__name__)

#: How long (s) to wait for a run of the metrics to end.
PATIENCE: Final = 300
#: Order, amount in minor units, payment method: something of everything to look at.
PAYMENTS: Final = (
    ("demo-1", 1_000, "pm_ok"),
    ("demo-2", 4_999, "pm_ok"),
    ("demo-3", 12_050, "pm_declined"),
    ("demo-4", 700, "pm_flaky_2"),
    ("demo-5", 25_000, "pm_down"),
)
KEPT: Final = (
    "The demo merchant has a past already, of {count} payments, and keeps it. For another one, begin with an empty "
    "database: `DATA_DIR=.data/another DEMO_PAYMENTS={wanted} make run`, with DATABASE_URL and RABBITMQ_URL unset."
)


class Command(BaseCommand):
    """Prepares a database for trying things out. Doing it again changes nothing."""

    help = "Migrate, and create a demo merchant, users, an API key and some payments."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Passwords and keys come from the environment, where process lists do not show them."""
        parser.add_argument("--without-payments", action="store_true", help="only the merchant, its people and the key")
        parser.add_argument("--days", type=whole(1, 3650), default=30, help="length of the past; default: %(default)s")
        parser.add_argument(
            "--payments", type=whole(0, 10_000_000), default=0, help="payments of the past, once; default: %(default)s"
        )
        parser.epilog = "Reads DEMO_ADMIN_USER, DEMO_ADMIN_PASSWORD and DEMO_API_KEY."

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        if settings.ENV.production:
            raise CommandError("This creates users with known passwords; it runs with ENVIRONMENT=development only.")
        user, password, key = from_environment()
        call_command("migrate", verbosity=0)
        merchant, created = Merchant.objects.get_or_create(
            slug="demo", defaults={"name": "Demo Shop", "currency": "EUR"}
        )
        people(merchant, user=user, password=password)
        api_keys.register_key(key, merchant=merchant, mode=Mode.TEST, name="make run")
        if created and not options["without_payments"]:
            payments(merchant)
        if options["payments"]:
            self.past(merchant, days=options["days"], count=options["payments"])
        self.stdout.write(self.style.SUCCESS("The demo merchant is ready."))

    def past(self, merchant: Merchant, *, days: int, count: int) -> None:
        """A past, once: a merchant that has one keeps it, and its user is told."""
        kept = payments_of(merchant, Mode.TEST).filter(order_id__startswith=demo_history.ORDERS).count()
        if kept:
            self.stdout.write(self.style.WARNING(KEPT.format(count=kept, wanted=count)))
        else:
            write_past(merchant, days=days, count=count)


def from_environment() -> tuple[str, str, str]:
    """The administrator's name and password, and the key. Raises CommandError where one is missing."""
    env = Env()
    try:
        return env.str("DEMO_ADMIN_USER"), env.str("DEMO_ADMIN_PASSWORD"), env.str("DEMO_API_KEY")
    except EnvError as error:
        raise CommandError(f"{error}. `make run` sets these three by itself; .env.example describes them.") from None


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number within bounds, for an option."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ArgumentTypeError(f"it must be a whole number from {least} to {most}")
        return int(text)

    return read


def write_past(merchant: Merchant, *, days: int, count: int) -> None:
    """A past, and what it adds up to."""
    bar = tqdm(total=count, unit=" payments", disable=not sys.stderr.isatty())
    # All of it or nothing, should we be killed; and while no run is under way that would not see it.
    with bar, daily.alone(patience=PATIENCE), transaction.atomic(durable=True):
        for written in demo_history.write(merchant, days=days, payments=count, now=timezone.now()):
            bar.update(written)
        daily.forget_runs()
    call_command("compute_daily_metrics")


def people(merchant: Merchant, *, user: str, password: str) -> None:
    """The administrator, and one member for each role, all with the same password: hashing it is slow on purpose."""
    found = [member(merchant, user, Role.ADMIN)]
    found += [member(merchant, role.value, role) for role in (Role.VIEWER, Role.SUPPORT, Role.OPERATOR)]
    if not all(person.password for person in found) or not found[0].check_password(password):
        User.objects.filter(pk__in=[person.pk for person in found]).update(password=make_password(password))


def member(merchant: Merchant, name: str, role: Role) -> User:
    """One of them, perhaps without a password yet."""
    is_staff = role == Role.ADMIN
    person, _ = User.objects.get_or_create(username=name, defaults={"is_staff": is_staff, "is_superuser": is_staff})
    Membership.objects.get_or_create(user=person, merchant=merchant, defaults={"role": role})
    return person


def payments(merchant: Merchant) -> None:
    """A few payments, accepted as any client's would be."""
    for order_id, amount, method in PAYMENTS:
        accept_payment(
            merchant=merchant,
            mode=Mode.TEST,
            idempotency_key=order_id,
            request=PaymentRequest(amount=amount, currency="EUR", order_id=order_id, payment_method=method),
            request_id=f"seed-{order_id}",
            now=timezone.now(),
        )
