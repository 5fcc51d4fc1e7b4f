"""Our own processes, by their heartbeats."""

from collections.abc import Iterator
from typing import Final

from django.conf import settings
from django.utils import timezone

from console.doctor.finding import Finding, failed, ok, warning
from messaging import heartbeats
from messaging.models import Heartbeat

#: Process -> the command that runs it. The web process has no heartbeat; its probes tell.
COMMANDS: Final = {
    "relay": "manage.py relay",
    "subscribers": "manage.py relay",
    "worker": "manage.py worker",
    "collector": "manage.py relay",
}
#: The same for those that not everybody runs, where it is not the process's name.
OTHERS: Final = {"notifier": "manage.py worker --queues notifications webhooks"}
#: Without RabbitMQ, the relay process is the workers as well, and there is nothing to collect.
EMBEDDED: Final = {"relay": "manage.py relay", "subscribers": "manage.py relay"}


def signs_of_life() -> Iterator[Finding]:
    """Those that must run, and any other that has ever shown itself."""
    commands = COMMANDS if settings.ENV.rabbitmq_url else EMBEDDED
    seen = Heartbeat.objects.exclude(process__in=commands).order_by("process").values_list("process", flat=True)
    others = {name: OTHERS.get(name, f"manage.py {name}") for name in seen.distinct() if name not in COMMANDS}
    for process, command in {**commands, **others}.items():
        yield look_at(process, command)


def look_at(process: str, command: str) -> Finding:
    """One process: silent, in trouble or well, and how many of it there are."""
    what = f"process {process}"
    beats = Heartbeat.objects.filter(process=process, beat_at__gt=timezone.now() - heartbeats.STALE_AFTER)
    notes = [beat.note for beat in beats.order_by("instance")]
    if not notes:
        says = f"has not shown itself in the last {heartbeats.STALE_AFTER.total_seconds():.0f} s"
        return failed(what, says, f"Start `{command}`; if it has died, its log says why.")
    if trouble := next(filter(None, notes), ""):
        says = f"runs {times(len(notes))}, and says: {trouble}"
        return warning(what, says, "Mend what it says; it then goes on by itself.")
    return ok(what, f"runs {times(len(notes))}")


def times(count: int) -> str:
    """How often."""
    return "once" if count == 1 else f"{count} times"
