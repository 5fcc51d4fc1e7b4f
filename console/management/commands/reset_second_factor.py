"""`manage.py reset_second_factor`: for somebody who has lost the authenticator app and all recovery codes."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from merchants import audit, second_factor
from merchants.models import User
from merchants.reasons import reason_of
from payments.management.who import runs_this


class Command(BaseCommand):
    """Forgets a person's devices. Open sessions of theirs end, and the next login sets up a new one."""

    help = "Forget the authenticator app and the recovery codes of a person, who sets up new ones at the next login."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Who, and why."""
        parser.add_argument("name", help="the person's user name")
        parser.add_argument("--reason", required=True, help="how you know that it is this person who asks")

    def handle(self, *args: Any, name: str, reason: str, **options: Any) -> None:
        """Reset it, with an entry in the audit."""
        person = User.objects.filter(username=name).first()
        if person is None:
            raise CommandError(f"There is nobody with the user name {name}.")
        if second_factor.reset(user=person, who=audit.by_shell(runs_this()), reason=reason_of(reason)):
            self.stdout.write(f"Reset. {name} sets up a new second factor at the next login.")
        else:
            self.stdout.write(f"{name} has no second factor: there was nothing to reset.")
