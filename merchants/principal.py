"""Who is calling: the one object that views, permissions and logs look at."""

from dataclasses import dataclass
from typing import Final, Literal

from merchants.models import Merchant, Mode, Role, Scope, User

READ: Final = frozenset({Scope.PAYMENTS_READ.value})
WRITE: Final = READ | {Scope.PAYMENTS_WRITE.value}

#: What a person may do through the API, by role.
ROLE_SCOPES: Final[dict[str, frozenset[str]]] = {
    Role.VIEWER: READ,
    Role.SUPPORT: READ,
    Role.OPERATOR: WRITE,
    Role.ADMIN: WRITE,
}


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
