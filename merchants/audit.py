"""The record of who did what: written in the transaction of what it tells of, and never changed afterwards."""

from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.http import HttpRequest

from merchants.addresses import client_address
from merchants.models import AuditEntry, Merchant
from merchants.plain_request import plain
from merchants.principal import Principal

#: As wide as the column; a reason that is longer was checked where it was given.
LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Who:
    """Who does something, by which way, and from where. `actor` is `user:ada`, `key:sk_test_abc` or `shell:root`."""

    actor: str
    via: AuditEntry.Via
    address: str | None = None
    request_id: str = ""

    @property
    def name(self) -> str:
        """The bare name, for people: that of a person, or the key as a whole."""
        return self.actor.removeprefix("user:").removeprefix("shell:")


#: What the system does by itself.
SYSTEM = Who("system", AuditEntry.Via.SYSTEM)


def by(request: Any) -> Who:
    """Whoever sends this request: staff in the console by Django's own, or a caller of the API by the one that Django
    REST framework puts around it.
    """
    caller = request.user
    via = AuditEntry.Via.CONSOLE if isinstance(request, HttpRequest) else AuditEntry.Via.API
    if isinstance(caller, Principal):
        actor = f"user:{caller.user.get_username()}" if caller.user else caller.id
    else:
        actor = f"user:{caller.get_username()}" if getattr(caller, "is_authenticated", False) else "nobody"
    return sender(request, actor, via)


def sender(request: Any, actor: str, via: AuditEntry.Via) -> Who:
    """The same where the request does not tell who that is."""
    return Who(actor, via, client_address(plain(request)), request.META.get("HTTP_X_REQUEST_ID", ""))


def by_shell(name: str) -> Who:
    """Whoever runs a command; `name` is the operating system's user."""
    return Who(f"shell:{name}", AuditEntry.Via.COMMAND)


def record(
    who: Who,
    action: str,
    *,
    subject: str = "",
    merchant: Merchant | None = None,
    reason: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Write one entry. `before` and `after` hold what changed, and never a secret or personal data of payers."""
    assert connection.in_atomic_block, "an entry is written in the transaction of what it tells of"
    AuditEntry.objects.create(
        actor=who.actor[:160],
        via=who.via,
        address=who.address,
        request_id=who.request_id,
        action=action,
        subject=subject[:150],
        merchant=merchant,
        reason=reason[:LONGEST_REASON],
        before=before,
        after=after,
    )


def difference(
    before: dict[str, Any] | None, after: dict[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Of two states of a thing what is not alike; a thing that comes or goes is told whole."""
    if before is None or after is None:
        return before, after
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return tuple({name: state[name] for name in changed if name in state} for state in (before, after))  # type: ignore[return-value]  # two of them
