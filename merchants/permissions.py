"""What a caller may do: every view names the scope that each of its methods needs."""

from typing import Any

from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from merchants.principal import Principal


class HasScope(BasePermission):
    """Refuses callers without the scope that the view's `scopes` names for this method.

    A view that forgets a method refuses it to everybody. Of a method that it does not have, no scope would help.
    OPTIONS needs a credential and no scope: it names the methods of an address, as the documentation does.
    """

    message = "This credential lacks the scope for this request."
    code = "scope_missing"

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether the caller holds the needed scope. Raises MethodNotAllowed."""
        method = "GET" if request.method == "HEAD" else str(request.method)
        needed = getattr(view, "scopes", {}).get(method)
        caller: Any = request.user  # the stubs know only users; our authenticators return principals
        if isinstance(caller, Principal) and not hasattr(view, method.lower()):
            raise MethodNotAllowed(method)
        if needed is not None:
            self.message = f"This credential lacks the scope `{needed}`, which this request needs."
        return isinstance(caller, Principal) and (method == "OPTIONS" or needed in caller.scopes)
