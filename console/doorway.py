"""What the pages have in common that stand before the console: where one goes afterwards, and how bare they are."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache

View = Callable[..., HttpResponse]


def next_of(request: HttpRequest) -> str:
    """Where the asker wants to go afterwards, if that is here; else the console's first page."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    allowed = {request.get_host()}
    if url_has_allowed_host_and_scheme(wanted, allowed_hosts=allowed, require_https=request.is_secure()):
        return wanted
    return reverse("admin:index")


def for_staff(view: View) -> View:
    """A page for staff who have shown their password, and perhaps nothing more yet."""

    @never_cache
    @wraps(view)
    def page(request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        if request.user.is_active and request.user.is_staff:
            return view(request, *arguments, **options)
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))

    return page


def show(request: HttpRequest, template: str, *, let_in: bool, **context: Any) -> HttpResponse:
    """A page; who is not let in yet sees nothing of the console around it."""
    hidden = {"available_apps": [], "is_nav_sidebar_enabled": False, "has_permission": False}
    whole = {**admin.site.each_context(request), **({} if let_in else hidden), "let_in": let_in, **context}
    return TemplateResponse(request, f"admin/doorway/{template}", whole)
