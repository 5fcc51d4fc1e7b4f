"""What pages say of the audit."""

from typing import Any

from django import template

register = template.Library()


@register.inclusion_tag("admin/audit_link.html", takes_context=True)
def audit_link(context: Any, kind: str, id_: Any) -> dict[str, Any]:
    """The way to all that was done to one thing, for those who may see it."""
    request = context["request"]
    return {"subject": f"{kind}:{id_}", "may": request.user.has_perm("merchants.view_auditentry")}
