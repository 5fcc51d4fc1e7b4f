"""API keys in the admin: made, and shown once; looked at; revoked."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone

from merchants import api_keys, audit
from merchants.confirmation import ask, is_confirmed
from merchants.models import ApiKey, Merchant, Mode, Scope
from merchants.reasons import ReasonField, ReasonForm
from merchants.refusals import TooManyKeys


class ApiKeyForm(forms.Form):
    """A new key."""

    required_css_class = "required"

    merchant = forms.ModelChoiceField(
        Merchant.objects.filter(is_active=True),
        to_field_name="slug",
        widget=forms.TextInput,
        help_text="The merchant's slug, as in the list of merchants.",
        error_messages={"invalid_choice": "No active merchant has this slug."},
    )
    mode = forms.ChoiceField(choices=Mode.choices, help_text="With a live key real money moves.")
    name = forms.CharField(
        max_length=100, validators=[api_keys.validate_name], help_text="For people: which service has it."
    )
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices,
        initial=list(Scope.values),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "A key without any scope could do nothing: choose what it may do."},
    )
    expires_at = forms.DateTimeField(
        required=False,
        validators=[api_keys.validate_expiry],
        label="Expires (UTC)",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text="From when on it is refused; empty: never.",
        error_messages={"invalid": "Write it as 2026-01-31T14:00."},
    )
    reason = ReasonField()


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin[ApiKey]):
    """API keys. The key itself is on the page that makes it, and nowhere else."""

    list_display = ("prefix", "name", "merchant", "mode", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("mode", "merchant")
    list_select_related = ("merchant",)
    search_fields = ("prefix", "name", "=merchant__slug")
    ordering = ("-created_at",)
    fields = (
        *("id", "prefix", "name", "merchant", "mode", "scopes"),
        *("created_at", "expires_at", "revoked_at", "last_used_at"),
    )
    change_form_template = "admin/merchants/apikey/change_form.html"

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """No key is edited."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Who may see them, or revoke them."""
        return super().has_view_permission(request, obj) or may_revoke(request)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """A key is revoked, and stays as the record."""
        return False

    def get_urls(self) -> list[Any]:
        """With the page that revokes."""
        page = self.admin_site.admin_view(self.revoke)
        return [path("<uuid:key_id>/revoke/", page, name="merchants_apikey_revoke"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One key, and what may be done with it."""
        return super().change_view(
            request, object_id, form_url, {"may_revoke": may_revoke(request), **(extra_context or {})}
        )

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The form, and then the key; Django's own page would do it all in one transaction."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        if not is_confirmed(request):
            return ask(request)
        form = ApiKeyForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                return self.show_key(request, *create(request, form.cleaned_data))
            except TooManyKeys as refusal:
                form.add_error(None, refusal.detail)
        return self.show(request, "form.html", {"title": "Add API key", "form": form, "button": "Create key"})

    def revoke(self, request: HttpRequest, key_id: UUID) -> HttpResponse:
        """GET asks why; POST revokes."""
        if not may_revoke(request):
            raise PermissionDenied
        if not is_confirmed(request):
            return ask(request)
        key = get_object_or_404(ApiKey.objects.select_related("merchant"), pk=key_id)
        form = ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            reason = form.cleaned_data["reason"]
            api_keys.revoke(key=key, reason=reason, who=audit.by(request), now=timezone.now())
            messages.success(request, "Revoked: nobody gets in with it any more.")
            return redirect("admin:merchants_apikey_change", key.pk)
        context = {"title": "Revoke this key?", "key": key, "form": form, "button": "Revoke it"}
        return self.show(request, "form.html", context)

    def show_key(self, request: HttpRequest, record: ApiKey, key: str) -> HttpResponse:
        """The only page that ever has it: the answer to the POST itself, which nobody may keep."""
        return self.show(request, "key.html", {"title": "API key created", "key": record, "secret": key})

    def show(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        """A page of the admin's about a key."""
        whole = {**self.admin_site.each_context(request), "opts": self.opts, **context}
        return TemplateResponse(request, f"admin/merchants/apikey/{template}", whole)


def may_revoke(request: HttpRequest) -> bool:
    """Who may end a key."""
    return request.user.has_perm("merchants.change_apikey")


def create(request: HttpRequest, given: dict[str, Any]) -> tuple[ApiKey, str]:
    """The key that a form asks for. Raises TooManyKeys."""
    return api_keys.create(
        merchant=given["merchant"],
        mode=Mode(given["mode"]),
        name=given["name"],
        scopes=[Scope(scope) for scope in given["scopes"]],
        expires_at=given["expires_at"],
        reason=given["reason"],
        who=audit.by(request),
        now=timezone.now(),
    )
