"""Which limit a request to the API counts against, and who is counted."""

from typing import Any

from rest_framework.exceptions import APIException
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from merchants import limits
from merchants.addresses import client_network
from merchants.limits import TooManyRequests
from merchants.names import MAX_NAME_CHARACTERS, folded
from merchants.plain_request import plain
from merchants.principal import Principal


class LimitThrottle(BaseThrottle):
    """Counts each request: `reads` or `writes`, or what the view's `limits` names for the method; None: nothing here.

    A caller is counted by API key or person, together with merchant and mode; a stranger by address.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        """True, as a refusal is raised. Raises TooManyRequests."""
        name = limit_of(request, view)
        if name is not None:
            refuse_if_exceeded(limits.count(plain(request), name, who_of(request, name)))
        if name == "logins" and (login := name_in(request.data)):
            refuse_if_exceeded(limits.count(plain(request), "logins_by_name", login))
        return True

    def wait(self) -> None:
        """Not asked: the refusal knows."""


def limit_of(request: Request, view: Any) -> str | None:
    """The class of a request."""
    default = "reads" if request.method in SAFE_METHODS else "writes"
    limit: str | None = getattr(view, "limits", {}).get(request.method, default)
    return limit


def who_of(request: Request, name: str) -> str:
    """Who is counted: the caller, or a stranger's address."""
    caller: Any = request.user
    if isinstance(caller, Principal) and name in {"reads", "writes"}:
        return f"{caller.id}:{caller.merchant.pk}:{caller.mode.value}"
    return client_network(plain(request))


def name_in(body: Any) -> str:
    """The name that somebody tries to log in by; spellings that look alike count as one."""
    login = body.get("username") if hasattr(body, "get") else None
    return folded(login) if isinstance(login, str) and len(login) <= MAX_NAME_CHARACTERS else ""


def refuse_if_exceeded(usage: limits.Usage | None) -> None:
    """Raises TooManyRequests."""
    if usage is not None and usage.exceeded:
        raise TooManyRequests(usage)


def after_refusal(error: APIException, request: Request | None, view: Any) -> APIException:
    """Count who was refused before anybody counted; the refusal, or above the limit another one.

    That a credential is none counts against its address (`strangers`): nobody shall try them out by the thousand.
    """
    if request is None or isinstance(error, TooManyRequests):
        return error
    if error.status_code == 401:
        usage = limits.count_unless_away(plain(request), "strangers", client_network(plain(request)))
    elif error.status_code == 403 and not limits.counted(plain(request)) and (name := limit_of(request, view)):
        usage = limits.count_unless_away(plain(request), name, who_of(request, name))
    else:
        return error
    return TooManyRequests(usage) if usage is not None and usage.exceeded else error
