"""Who is calling: the one object that views, permissions and logs look at."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from rest_framework.request import Request

from merchants.models import Merchant, Mode, Role, Scope, User

READ: Final = frozenset(
    scope.value for scope in (Scope.PAYMENTS_READ, Scope.WEBHOOKS_READ, Scope.NOTIFICATIONS_READ, Scope.ANALYTICS_READ)
)
SUPPORT: Final = READ | {Scope.NOTIFICATIONS_WRITE.value}
WRITE: Final = SUPPORT | {Scope.PAYMENTS_WRITE.value, Scope.WEBHOOKS_WRITE.value}

#: All that an API key can be given.
KEY_SCOPES: Final = frozenset(Scope.values)

#: What only people may do, and keys never: a key that could make keys would outlive its own end.
API_KEYS_READ: Final = "api_keys:read"
API_KEYS_WRITE: Final = "api_keys:write"

#: What a person may do through the API, by role.
ROLE_SCOPES: Final[dict[str, frozenset[str]]] = {
    Role.VIEWER: READ,
    Role.SUPPORT: SUPPORT,
    Role.OPERATOR: WRITE,
    Role.ADMIN: WRITE | {API_KEYS_READ, API_KEYS_WRITE},
}

DEAD_LETTERS_READ: Final = "dead_letters:read"
DEAD_LETTERS_WRITE: Final = "dead_letters:write"
APPROVALS_READ: Final = "approvals:read"
APPROVALS_WRITE: Final = "approvals:write"
#: What platform staff may do besides, by the permissions they have in the console. No API key ever has these scopes:
#: a key is a merchant's, and dead letters are of all merchants.
STAFF_SCOPES: Final = {
    "messaging.view_deadletter": DEAD_LETTERS_READ,
    "messaging.resolve_deadletter": DEAD_LETTERS_WRITE,
    "merchants.view_approval": APPROVALS_READ,
    "merchants.decide_approval": APPROVALS_WRITE,
}


def staff_scopes(user: User) -> frozenset[str]:
    """The scopes that a person has as platform staff."""
    if not user.is_staff:
        return frozenset()
    return frozenset(scope for permission, scope in STAFF_SCOPES.items() if user.has_perm(permission))


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller, bound to one merchant and one mode.

    `id` names the API key (`key:<prefix>`) or the person (`user:<id>`) in logs.
    """

    id: str
    merchant: Merchant
    mode: Mode
    scopes: frozenset[str]
    user: User | None = None

    @property
    def pk(self) -> str:
        """The name under which request logs know the caller."""
        return self.id

    @property
    def is_authenticated(self) -> Literal[True]:
        """True: a `Principal` exists only once its credential was accepted."""
        return True


def caller_of(request: Request) -> Principal:
    """Who calls; the permission classes have seen to it that somebody does."""
    caller: Any = request.user  # the stubs know only users; our authenticators return principals
    assert isinstance(caller, Principal)
    return caller
