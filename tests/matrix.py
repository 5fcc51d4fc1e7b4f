"""Who may do what: the table that every address is held against, and what tests need to walk it.

A new address needs a line in ACCESS, and a new scope one in HOLDERS; a kind of object that is somebody's own needs a
maker in `tests/integration/test_authorization.py`. The tests say which is missing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

#: What an open address is open by, in place of a scope.
OPEN = "open"

#: Address, method, the scope that it needs, and whose object it acts on: `-` for none, or for a collection, which
#: shows a caller nothing of other merchants; a kind of object that others get a 404 for; `all`: of all merchants.
ACCESS = """
payments                        GET     payments:read        -
payments                        POST    payments:write       -
payments-batch                  POST    payments:write       -
payment                         GET     payments:read        payment
payment-events                  GET     payments:read        payment
events                          GET     payments:read        -
webhook-endpoints               GET     webhooks:read        -
webhook-endpoints               POST    webhooks:write       -
webhook-endpoint                GET     webhooks:read        endpoint
webhook-endpoint                PATCH   webhooks:write       endpoint
webhook-endpoint                DELETE  webhooks:write       endpoint
webhook-endpoint-rotate-secret  POST    webhooks:write       endpoint
webhook-endpoint-test           POST    webhooks:write       endpoint
webhook-endpoint-deliveries     GET     webhooks:read        endpoint
webhook-endpoint-redeliver      POST    webhooks:write       endpoint
webhook-deliveries              GET     webhooks:read        -
webhook-delivery                GET     webhooks:read        webhook
webhook-delivery-redeliver      POST    webhooks:write       webhook
notifications                   GET     notifications:read   -
notification                    GET     notifications:read   message
notification-redeliver          POST    notifications:write  message
contacts                        GET     notifications:read   -
contact                         GET     notifications:read   contact
contact                         PUT     notifications:write  -
contact                         DELETE  notifications:write  contact
notification-preferences        GET     notifications:read   -
notification-preferences        PUT     notifications:write  -
analytics-daily                 GET     analytics:read       -
analytics-summary               GET     analytics:read       -
dead-letters                    GET     dead_letters:read    all
dead-letter                     GET     dead_letters:read    all
dead-letters-preview            POST    dead_letters:read    all
dead-letters-replay             POST    dead_letters:write   all
dead-letters-discard            POST    dead_letters:write   all
dead-letter-resolution          GET     dead_letters:read    all
dead-letter-resolution-stop     POST    dead_letters:write   all
dead-letter-resolution-resume   POST    dead_letters:write   all
approvals                       GET     approvals:read       all
approval                        GET     approvals:read       all
approval-approve                POST    approvals:write      all
approval-reject                 POST    approvals:write      all
approval-withdraw               POST    approvals:read       all
api-keys                        GET     api_keys:read        -
api-keys                        POST    api_keys:write       -
api-key                         GET     api_keys:read        key
api-key-revoke                  POST    api_keys:write       key
gateway                         POST    open                 -
token                           POST    open                 -
token-refresh                   POST    open                 -
token-logout                    POST    open                 -
schema                          GET     open                 -
"""

#: Scope -> who has it: API keys that were given it (`key`), roles, and permissions of platform staff.
HOLDERS = """
payments:read        key viewer support operator admin
payments:write       key operator admin
webhooks:read        key viewer support operator admin
webhooks:write       key operator admin
notifications:read   key viewer support operator admin
notifications:write  key support operator admin
analytics:read       key viewer support operator admin
api_keys:read        admin
api_keys:write       admin
dead_letters:read    messaging.view_deadletter
dead_letters:write   messaging.resolve_deadletter
approvals:read       merchants.view_approval
approvals:write      merchants.decide_approval
"""

#: The addresses beside the API and the console, which answer everybody, and why nothing of anybody's is there.
PLAIN = {
    "/": "leads to the console's login",
    "docs": "the documentation of the API",
    "problem": "explains an error",
    "livez": "a probe",
    "readyz": "a probe",
    "health": "a probe; of the whole",
    "metrics": "counts; behind a token in production",
}

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Row:
    """One line of ACCESS."""

    name: str
    method: str
    scope: str
    acts_on: str

    @property
    def id(self) -> str:
        return f"{self.method} {self.name}"


@dataclass(frozen=True)
class Address:
    """One pattern of the URL table, without its trailing slash and what is optional."""

    path: str  # with {name} where an argument goes
    name: str
    entry: URLPattern

    def at(self, **arguments: Any) -> str:
        """The path of one object."""
        return "/" + re.sub(r"\{(\w+)\}", lambda found: str(arguments[found[1]]), self.path)

    @property
    def arguments(self) -> list[str]:
        return re.findall(r"\{(\w+)\}", self.path)

    @property
    def methods(self) -> set[str]:
        """What its view answers."""
        view = getattr(self.entry.callback, "cls", None)
        return {method for method in METHODS if hasattr(view, method.lower())}


def rows() -> dict[tuple[str, str], Row]:
    """(address, method) -> its line."""
    found = [Row(*line.split()) for line in ACCESS.strip().splitlines()]
    assert len({(row.name, row.method) for row in found}) == len(found), "two lines for one address and method"
    return {(row.name, row.method): row for row in found}


def holders() -> dict[str, set[str]]:
    """Scope -> who has it."""
    return {line.split()[0]: set(line.split()[1:]) for line in HOLDERS.strip().splitlines()}


def open_doors() -> set[tuple[str, str]]:
    """(address, method) of all that need no credential."""
    return {where for where, row in rows().items() if row.scope == OPEN}


def scopes_of(*holds: str) -> set[str]:
    """What somebody may do who is these."""
    return {scope for scope, who in holders().items() if who & set(holds)}


def walk(resolver: URLResolver, prefix: str = "") -> Iterator[Address]:
    """Every pattern below a resolver."""
    for entry in resolver.url_patterns:
        path = prefix + readable(str(entry.pattern))
        if isinstance(entry, URLResolver):
            yield from walk(entry, path)
        else:
            yield Address(path.removesuffix("/") if path.startswith("api/") else path, entry.name or "", entry)


def readable(pattern: str) -> str:
    """A pattern as a path with names in braces."""
    pattern = re.sub(r"\(\?P<(\w+)>(?:[^()\\]|\\.)*\)", r"{\1}", pattern)
    pattern = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", pattern)
    return pattern.removeprefix("^").removesuffix("$").removesuffix("/?")


def addresses() -> list[Address]:
    """The whole URL table."""
    return list(walk(get_resolver()))


def api() -> list[Address]:
    """What is below /api."""
    return [address for address in addresses() if address.path.startswith("api/")]


def console() -> list[Address]:
    """What is below the console's path."""
    return [address for address in addresses() if address.path.startswith(f"{settings.ADMIN_PATH}/")]


def outside() -> list[Address]:
    """All others."""
    known = {address.path for address in (*api(), *console())}
    return [address for address in addresses() if address.path not in known]


def plain(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem without what differs from request to request."""
    return {name: value for name, value in problem.items() if name not in {"instance", "request_id"}}
