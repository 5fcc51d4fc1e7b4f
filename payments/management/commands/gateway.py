"""`manage.py gateway status|pause|resume`: whether a gateway may be called, and the switch."""

from argparse import ArgumentParser
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from merchants.audit import by_shell
from merchants.reasons import reason_of
from payments import breaker
from payments.management.who import runs_this
from payments.models import GatewayCircuit, Payment

#: As wide as the column.
LONGEST_PAUSE_REASON: Final = 200


class Command(BaseCommand):
    """Pausing stops all calls to a gateway; payments are accepted meanwhile, and wait."""

    help = "Show how the gateways do; pause or resume one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What to do, and with which gateway."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="status|pause|resume")
        actions.add_parser("status", help="how each gateway does, and how many payments wait for it")
        pause = actions.add_parser("pause", help="let no call through; calls under way finish")
        resume = actions.add_parser("resume", help="let calls through again; what waits is released within seconds")
        pause.add_argument("--reason", required=True, help="why; staff and the logs show it")
        resume.add_argument("--reason", default="", help="why; kept in the audit")
        for action in (pause, resume):
            action.add_argument("name", choices=sorted(settings.GATEWAYS))
            action.add_argument("--by", default=runs_this(), help="who wants it; default: %(default)s")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        """Do it, and show how the gateways do then."""
        if action == "pause":
            reason = reason_of(options["reason"], longest=LONGEST_PAUSE_REASON)
            breaker.pause(options["name"], reason=reason, who=by_shell(options["by"]))
        elif action == "resume":
            reason = reason_of(options["reason"], required=False)
            if not breaker.resume(options["name"], who=by_shell(options["by"]), reason=reason):
                self.stdout.write(f"{options['name']} was not paused.")
        for name in sorted(settings.GATEWAYS):
            self.stdout.write(describe(name))


def describe(name: str) -> str:
    """One line about a gateway."""
    circuit = GatewayCircuit.objects.filter(pk=name).first()
    waiting = Payment.objects.filter(gateway=name, held_since__isnull=False).count()
    line = f"{name}: {breaker.state_of(circuit, now=timezone.now())}"
    if circuit is not None and circuit.paused_at is not None:
        line += f" by {circuit.paused_by} since {circuit.paused_at:%Y-%m-%d %H:%M} UTC: {circuit.pause_reason}"
    elif circuit is not None and circuit.open_until is not None:
        line += f" (next probe at {circuit.open_until:%H:%M:%S} UTC or later)"
    return line + (f"; payments that wait for it: {waiting}" if waiting else "")
