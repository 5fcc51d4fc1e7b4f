"""Who guesses passwords is locked out: one name at one address, for a while. django-axes counts.

It makes no difference whether anybody has that name, and nobody can lock out somebody else from afar.
"""

from datetime import datetime
from typing import Any, Final, cast

from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.crypto import salted_hmac

from merchants import audit
from merchants.addresses import client_address, client_network
from merchants.models import AuditEntry, User

TOO_MANY: Final = 429


def stored_name(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """What stands for a user name in the table of failures. People type their passwords there by mistake."""
    given = request.POST if credentials is None else credentials
    return salted_hmac("merchants.lockout", str(given.get("username") or ""), algorithm="sha256").hexdigest()


def counted_address(request: HttpRequest) -> str | None:
    """Who is locked out: of IPv6 a whole network, by its first address, since whoever has one has them all."""
    return client_network(request).partition("/")[0] if client_address(request) else None


def in_logs(username: str, address: str | None, *_others: Any) -> str:
    """Who failed, in the log: the beginning of what was typed, or of what stands for it."""
    return f"{str(username)[:2]}… from {address}"


def seconds() -> int:
    """How long it lasts at most."""
    return int(settings.AXES_COOLOFF_TIME.total_seconds())


# --- at the API, which has no middleware to ask


def is_locked_out(request: HttpRequest) -> bool:
    """Whether the login that was just tried with this request was refused unread, or was one too many."""
    return bool(getattr(request, "axes_locked_out", False))


def count_failure(request: HttpRequest, username: str) -> None:
    """A right password with a wrong one-time password is a failure, too."""
    AxesProxyHandler.user_login_failed(sender=User, credentials={"username": username}, request=request)


def forgive(request: HttpRequest, user: User) -> None:
    """Who got in begins anew."""
    AxesProxyHandler.user_logged_in(sender=User, request=request, user=user)


# --- in the console


def answer(request: HttpRequest, original: HttpResponse | None = None, _credentials: Any = None) -> HttpResponse:
    """In place of the login's own answer; the API has given its own."""
    if original is not None and original.status_code == TOO_MANY:
        return original
    context = {**admin.site.each_context(request), "title": "Too many attempts", "minutes": seconds() // 60}
    response = render(request, "admin/locked_out.html", context, status=TOO_MANY)
    response["Retry-After"] = str(seconds())
    return response


# --- for the record


@transaction.atomic
def note_lock(request: HttpRequest, **_event: Any) -> None:
    """Write down that a name was locked at an address. Receives `user_locked_out`, which comes at each refusal."""
    if getattr(request, "axes_failures_since_start", None) is None:
        return  # it was locked before
    name = str((getattr(request, "axes_credentials", None) or {}).get("username") or "")
    known = User.objects.filter(username=name[:150]).first()
    who = audit.sender(request, "nobody", way_of(request))
    audit.record(who, "login.locked_out", subject=f"user:{known.pk}" if known else "user: nobody's name")


@transaction.atomic
def note_login(request: HttpRequest | None, user: Any, **_event: Any) -> None:
    """Write down who came to the console. Receives `user_logged_in`; one without a request came over no wire."""
    if request is None or not request.method:
        return
    name = cast("User", user).get_username()
    who = audit.sender(request, f"user:{name}", AuditEntry.Via.CONSOLE)
    audit.record(who, "login.succeeded", subject=f"user:{user.pk}")


def way_of(request: HttpRequest) -> AuditEntry.Via:
    """By which way somebody tried."""
    return AuditEntry.Via.API if request.path.startswith("/api/") else AuditEntry.Via.CONSOLE


def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of failures from before a time, when they no longer count; returns how many."""
    old = AccessAttempt.objects.filter(attempt_time__lte=before).order_by("attempt_time").values("pk")[:batch]
    return AccessAttempt.objects.filter(pk__in=old).delete()[0]
