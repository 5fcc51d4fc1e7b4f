"""Merchants in the admin: their limits and their members."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from merchants.audited_admin import AuditedAdmin
from merchants.models import Membership, Merchant


class MerchantForm(forms.ModelForm[Merchant]):
    """A merchant, perhaps without ceilings."""

    def clean_amount_ceilings(self) -> Any:
        """An empty field means none; the model's validator reads all others."""
        return self.cleaned_data["amount_ceilings"] or {}


class MembersFormSet(forms.BaseInlineFormSet[Membership, Merchant, forms.ModelForm[Membership]]):
    """A merchant's members. Nobody gives a role to themselves, but superusers."""

    request: HttpRequest

    def clean(self) -> None:
        """Refuse it. Raises ValidationError."""
        super().clean()
        me: Any = self.request.user
        changed = [form for form in self.forms if form.has_changed() and form.is_valid()]
        if not me.is_superuser and any(me in {form.cleaned_data.get("user"), before(form)} for form in changed):
            raise forms.ValidationError("Your own role at a merchant is given to you by somebody else.")


def before(form: forms.ModelForm[Membership]) -> Any:
    """Whose membership it was."""
    return form.instance.user if form.instance.pk else None


class MembershipInline(admin.TabularInline[Membership, Merchant]):
    """Who works for the merchant."""

    model = Membership
    formset = MembersFormSet
    extra = 0
    autocomplete_fields: ClassVar = ["user"]

    def get_formset(self, request: HttpRequest, obj: Merchant | None = None, **options: Any) -> Any:
        """One that knows who asks."""
        formset = super().get_formset(request, obj, **options)
        return type(formset.__name__, (formset,), {"request": request})


@admin.register(Merchant)
class MerchantAdmin(AuditedAdmin, admin.ModelAdmin[Merchant]):
    """Merchants, their limits and their members. Who takes no more payments is deactivated, and never deleted."""

    form = MerchantForm
    list_display = ("name", "slug", "currency", "language", "contact_email", "is_active", "created_at")
    list_filter = ("is_active",)
    search_fields = ("name", "slug")
    readonly_fields = ("id", "created_at")
    inlines: ClassVar = [MembershipInline]
    fieldsets = (
        (None, {"fields": ("name", "slug", "currency", "language", "time_zone", "contact_email", "is_active")}),
        ("Limits", {"fields": ("creation_burst", "creation_rate", "amount_ceilings", "declines_per_payer")}),
        ("Ids", {"fields": ("id", "created_at")}),
    )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No: its payments are the record."""
        return False
