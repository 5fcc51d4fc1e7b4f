"""The console's home."""

from typing import Any

from django import template

from console.dashboard import dashboard

register = template.Library()


@register.inclusion_tag("console/dashboard.html", takes_context=True)
def show_dashboard(context: dict[str, Any]) -> dict[str, Any]:
    """Cards and charts, for the one who asks."""
    return dashboard(context["request"])
