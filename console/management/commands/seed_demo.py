"""`manage.py seed_demo`: an up-to-date database with a demo merchant, its people, a key and some payments."""

from argparse import ArgumentParser
from typing import Any, Final

import structlog
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from environs import Env

from merchants import api_keys
from merchants.models import Membership, Merchant, Mode, Role, User
from payments.operations import PaymentRequest, accept_payment

log = structlog.get_logger(__name__)

#: Order, amount in minor units, payment method: something of everything to look at.
PAYMENTS: Final = (
    ("demo-1", 1_000, "pm_ok"),
    ("demo-2", 4_999, "pm_ok"),
    ("demo-3", 12_050, "pm_declined"),
    ("demo-4", 700, "pm_flaky_2"),
    ("demo-5", 25_000, "pm_down"),
)


class Command(BaseCommand):
    """Prepares a database for trying things out. Doing it again changes nothing."""

    help = "Migrate, and create a demo merchant, users, an API key and some payments."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Passwords and keys come from the environment, where process lists do not show them."""
        parser.add_argument("--without-payments", action="store_true", help="only the merchant, its people and the key")
        parser.epilog = "Reads DEMO_ADMIN_USER, DEMO_ADMIN_PASSWORD and DEMO_API_KEY."

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        if settings.ENV.production:
            raise CommandError("This creates users with known passwords; it runs with ENVIRONMENT=development only.")
        env = Env()
        call_command("migrate", verbosity=0)
        merchant, created = Merchant.objects.get_or_create(
            slug="demo", defaults={"name": "Demo Shop", "currency": "EUR"}
        )
        people(merchant, user=env.str("DEMO_ADMIN_USER"), password=env.str("DEMO_ADMIN_PASSWORD"))
        api_keys.register_key(env.str("DEMO_API_KEY"), merchant=merchant, mode=Mode.TEST, name="make run")
        if created and not options["without_payments"]:
            payments(merchant)
        self.stdout.write(self.style.SUCCESS("The demo merchant is ready."))


def people(merchant: Merchant, *, user: str, password: str) -> None:
    """The administrator, and one member for each role, all with the same password."""
    for name, role in [
        (user, Role.ADMIN),
        *((role.value, role) for role in (Role.VIEWER, Role.SUPPORT, Role.OPERATOR)),
    ]:
        person, created = User.objects.get_or_create(
            username=name, defaults={"is_staff": role == Role.ADMIN, "is_superuser": role == Role.ADMIN}
        )
        if created or not person.check_password(password):
            person.set_password(password)
            person.save()
        Membership.objects.get_or_create(user=person, merchant=merchant, defaults={"role": role})


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
