"""`manage.py reencrypt_secrets`: the second step of changing the key that webhook secrets are encrypted with."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from merchants.audit import by_shell
from notifications import reencryption
from notifications.vault import Locked
from payments.management.who import runs_this


class Command(BaseCommand):
    """One endpoint at a time, safe beside traffic; it may be interrupted, and doing it again harms nothing."""

    help = "Encrypt all webhook secrets anew with the first of ENCRYPTION_KEYS. The other keys may go afterwards."

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, and say how many."""
        done, stuck = 0, []
        for endpoint_id in reencryption.endpoint_ids():
            try:
                reencryption.reencrypt(endpoint_id)
            except Locked:
                stuck.append(str(endpoint_id))
            else:
                done += 1
        reencryption.record(by_shell(runs_this()), done=done, stuck=len(stuck))
        self.stdout.write(f"Encrypted anew: the secrets of {done} webhook endpoints.")
        if stuck:
            shown = ", ".join(stuck[:3]) + (f" and {len(stuck) - 3} more" if len(stuck) > 3 else "")
            raise CommandError(f"No key opens the secrets of {shown}. Put the missing key back into ENCRYPTION_KEYS.")
