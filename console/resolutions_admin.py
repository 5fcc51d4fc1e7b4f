"""Decisions about dead letters in the admin: their progress while they run, and the record ever after."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from console import decisions
from console.previews import MAY_RESOLVE, in_words
from merchants.audit import by
from merchants.confirmation import confirmed
from merchants.reasons import reason_in
from messaging.look_only import LookOnly
from messaging.markup import badge
from messaging.models import DeadLetter, Resolution
from messaging.selections import Selection


@admin.register(Resolution)
class ResolutionAdmin(LookOnly, admin.ModelAdmin[Resolution]):
    """The record: who replayed or discarded which letters, when, why, and what came of it."""

    list_display = ("name", "badge", "progress", "decided_by", "reason", "created_at")
    list_filter = ("action", "state")
    ordering = ("-id",)
    show_full_result_count = False
    list_per_page = 50
    fields = ("decided_by", "reason", "chosen", "rate", "created_at", "finished_at", "request_id")

    def has_view_permission(self, request: HttpRequest, obj: Resolution | None = None) -> bool:
        """Who may see the letters."""
        return request.user.has_perm("messaging.view_deadletter")

    def get_urls(self) -> list[Any]:
        """With stop and resume."""
        own = [
            path(f"<int:resolution_id>/{name}/", self.admin_site.admin_view(view), name=f"messaging_resolution_{name}")
            for name, view in (("stop", stop), ("resume", resume))
        ]
        return [*own, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One decision and how far it has come."""
        context = {"may_resolve": request.user.has_perm(MAY_RESOLVE), "blocked": reasons_of(object_id)}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description="decision", ordering="id")
    def name(self, resolution: Resolution) -> str:
        """What, and its number."""
        return f"{resolution.get_action_display()} {resolution.pk}"

    @admin.display(description="state", ordering="state")
    def badge(self, resolution: Resolution) -> SafeString:
        """The state; its colour only repeats the word."""
        return badge(resolution.state, resolution.get_state_display())

    @admin.display(description="letters")
    def progress(self, resolution: Resolution) -> str:
        """How many of how many."""
        return f"{resolution.taken} of {resolution.total}"

    @admin.display(description="which letters")
    def chosen(self, resolution: Resolution) -> str:
        """In words."""
        return in_words(Selection.of(resolution.selection))


def reasons_of(resolution_id: str) -> list[Any]:
    """Why letters of a resolution are blocked, and how many; those that another one has taken over are not counted."""
    if not resolution_id.isdecimal() or not (resolution := Resolution.objects.filter(pk=resolution_id).first()):
        return []
    stay = resolution.letters.filter(state=DeadLetter.State.OPEN, pk__lte=resolution.last_taken)
    return list(stay.values("note").annotate(count=Count("pk")).order_by("-count", "note"))


@require_POST
@confirmed
def stop(request: HttpRequest, resolution_id: int) -> HttpResponse:
    """Stop a running resolution."""
    return steer(request, resolution_id, decisions.stop)


@require_POST
@confirmed
def resume(request: HttpRequest, resolution_id: int) -> HttpResponse:
    """Go on with a stopped one."""
    return steer(request, resolution_id, decisions.resume)


def steer(request: HttpRequest, resolution_id: int, do: Any) -> HttpResponse:
    """Do it if the asker may and says why, and go back to the resolution."""
    if not request.user.has_perm(MAY_RESOLVE):
        raise PermissionDenied
    if (reason := reason_in(request)) is not None:
        do(resolution_id, who=by(request), reason=reason)
    return redirect("admin:messaging_resolution_change", resolution_id)
