"""`manage.py doctor`: is everything there that payments need, and if not, what is to be done?"""

import sys
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand

from console.doctor.examination import examine
from console.doctor.finding import Finding, State


class Command(BaseCommand):
    """Looks and changes nothing. Exit status 1 when anything has FAILED."""

    help = "Check settings, PostgreSQL, RabbitMQ, processes, static files and gateways; say how to mend what is wrong."
    # It says itself what the checks say, and must start when they could not.
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Print each finding as it comes, and the sum of them."""
        counts: Counter[State] = Counter()
        for finding in examine():
            counts[finding.state] += 1
            self.show(finding)
        faults = {"failed": counts[State.FAILED], "to be seen to": counts[State.WARNING]}
        told = [f"{count} {what}" for what, count in faults.items() if count]
        self.stdout.write("\n" + (", ".join(told) + "." if told else "All is well."))
        if counts[State.FAILED]:
            sys.exit(1)

    def show(self, finding: Finding) -> None:
        """One line, and below it the mend."""
        paint = {State.OK: self.style.SUCCESS, State.WARNING: self.style.WARNING, State.FAILED: self.style.ERROR}
        self.stdout.write(f"{paint[finding.state](f'{finding.state:<8}')} {finding.what}: {finding.says}")
        if finding.mend:
            self.stdout.write(f"{'':8} -> {finding.mend}")
        self.stdout.flush()
