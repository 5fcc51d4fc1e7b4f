"""Merchants, people and keys in the admin."""

from typing import ClassVar

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from merchants.models import ApiKey, Membership, Merchant, User

admin.site.register(User, UserAdmin)


class MembershipInline(admin.TabularInline[Membership, Merchant]):
    """Who works for the merchant."""

    model = Membership
    extra = 0
    autocomplete_fields: ClassVar = ["user"]


@admin.register(Merchant)
class MerchantAdmin(admin.ModelAdmin[Merchant]):
    """Merchants and their members."""

    list_display = ("name", "slug", "currency", "language", "contact_email", "is_active", "created_at")
    search_fields = ("name", "slug")
    readonly_fields = ("id", "created_at")
    inlines: ClassVar = [MembershipInline]


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin[ApiKey]):
    """API keys, to look at. The secret itself is nowhere to be seen."""

    list_display = ("prefix", "name", "merchant", "mode", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("mode", "merchant")
    list_select_related = ("merchant",)
    search_fields = ("prefix", "name")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """No key is made here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Look only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Look only."""
        return False
