"""All checks, in the order in which one would mend what they find."""

from collections.abc import Callable, Iterator
from typing import Final

from django.db import Error

from console.doctor import environment, gateways, limits, notifications, postgres, processes, rabbitmq, replication
from console.doctor.finding import Finding, State, failed, first_line, warning

#: What is looked at -> who looks.
CHECKS: Final[dict[str, Callable[[], Iterator[Finding]]]] = {
    "settings": environment.settings_in_force,
    "static files": environment.static_files,
    "PostgreSQL": postgres.server,
    "durability": postgres.durability,
    "replication": replication.standbys,
    "migrations": postgres.migrations,
    "triggers": postgres.triggers,
    "clock": postgres.clock,
    "notification queue": postgres.notifications,
    "RabbitMQ": rabbitmq.topology_in_force,
    "limits": limits.counter,
    "processes": processes.signs_of_life,
    "gateways": gateways.configured,
    "breakers": gateways.held_up,
    "unmatched charges": gateways.unmatched_charges,
    "mail": notifications.mail,
    "SMS": notifications.sms,
    "secrets": notifications.secrets,
    "webhook endpoints": notifications.endpoints,
}
#: Not asked when PostgreSQL cannot be used: one line about it is enough.
ASK_POSTGRES: Final = frozenset(
    {
        *("durability", "replication", "migrations", "triggers", "clock", "notification queue"),
        *("processes", "breakers", "unmatched charges", "secrets", "webhook endpoints"),
    }
)


def examine() -> Iterator[Finding]:
    """Every finding as it comes. A check that cannot look says so; the others have their turn."""
    unseen: list[str] = []
    usable = True
    for what, check in CHECKS.items():
        if what in ASK_POSTGRES and not usable:
            unseen.append(what)
            continue
        for finding in guarded(what, check):
            usable = usable and not (what == "PostgreSQL" and finding.state is State.FAILED)
            yield finding
    if unseen:
        yield warning("not looked at", ", ".join(unseen), "Mend PostgreSQL first, then ask again.")


def guarded(what: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check finds, and that it cannot look where that is so."""
    try:
        yield from check()
    except Error as error:
        yield failed(what, f"cannot be told; PostgreSQL says: {first_line(error)}", "Mend what is said of it above.")
    except Exception as error:  # noqa: BLE001  # whatever it is, it belongs into the report
        says = f"could not be looked at: {type(error).__name__}: {first_line(error)}"
        yield failed(what, says, "This is a fault of the doctor: please report it.")
