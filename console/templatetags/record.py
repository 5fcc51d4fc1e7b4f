"""What pages say of the audit and of what waits for a second person."""

from typing import Any

from django import template
from django.db.models.functions import Now

from merchants.models import Approval

register = template.Library()


@register.inclusion_tag("admin/audit_link.html", takes_context=True)
def audit_link(context: Any, kind: str, id_: Any) -> dict[str, Any]:
    """The way to all that was done to one thing, for those who may see it."""
    request = context["request"]
    return {"subject": f"{kind}:{id_}", "may": request.user.has_perm("merchants.view_auditentry")}


@register.simple_tag
def pending_approvals() -> int:
    """How many somebody can still decide on; a partial index counts them."""
    return Approval.objects.filter(state=Approval.State.PENDING, expires_at__gt=Now()).count()
