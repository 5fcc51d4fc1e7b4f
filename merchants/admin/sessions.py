"""Logins at the API in the admin, to look at."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from merchants.models import LoginSession


class OpenFilter(admin.SimpleListFilter):
    """By whether it goes on."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """In words."""
        return [("open", "Open"), ("over", "Over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LoginSession]) -> QuerySet[LoginSession]:
        """Those that do, or do not."""
        going_on: dict[str, Any] = {"ended_at": None, "expires_at__gt": timezone.now()}
        if self.value() == "open":
            return queryset.filter(**going_on)
        return queryset.exclude(**going_on) if self.value() == "over" else queryset


@admin.register(LoginSession)
class LoginSessionAdmin(admin.ModelAdmin[LoginSession]):
    """Who is logged in at the API, from where and since when. What its tokens could be made from is not shown."""

    list_display = ("user", "merchant", "mode", "second_factor", "address", "created_at", "refreshed_at", "end")
    list_filter = (OpenFilter, "mode", "second_factor", "end")
    list_select_related = ("user", "merchant")
    search_fields = ("=id", "=user__username", "=merchant__slug")
    search_help_text = "A whole id, user name or merchant's slug."
    ordering = ("-created_at",)
    show_full_result_count = False
    fields = (
        *("id", "user", "merchant", "mode", "second_factor", "address"),
        *("created_at", "refreshed_at", "expires_at", "ended_at", "end"),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """No."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: LoginSession | None = None) -> bool:
        """No: all of a person's are ended on the person's page."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LoginSession | None = None) -> bool:
        """No."""
        return False
