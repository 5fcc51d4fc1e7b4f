"""Blocks after many declines in the console: to look at, and to lift with a reason."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone

from merchants import audit
from merchants.confirmation import confirmed
from merchants.reasons import ReasonField, ReasonForm
from messaging.look_only import LookOnly
from messaging.markup import badge
from payments import velocity
from payments.admin_search import NormalizedSearch
from payments.models import DeclineBlock


class LiftForm(ReasonForm):
    """Why a block ends before its time."""

    reason = ReasonField(
        widget=forms.TextInput(attrs={"class": "console-wide"}),
        help_text="How you know that nobody tests stolen cards, such as: the shop's own test run, confirmed by phone.",
    )


class InForceFilter(admin.SimpleListFilter):
    """Those that matter now."""

    title = "in force"
    parameter_name = "in_force"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Now or not any more."""
        return [("yes", "In force"), ("no", "Over or lifted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[DeclineBlock]) -> QuerySet[DeclineBlock]:
        """The chosen ones."""
        in_force = queryset.filter(lifted_at=None, ends_at__gt=timezone.now())
        if self.value() == "yes":
            return in_force
        return queryset.exclude(pk__in=in_force.values("pk")) if self.value() == "no" else queryset


@admin.register(DeclineBlock)
class DeclineBlockAdmin(NormalizedSearch, LookOnly, admin.ModelAdmin[DeclineBlock]):
    """Payers and merchants from whom nothing is accepted for a while."""

    list_display = ("whom", "merchant", "mode", "state", "declines", "began_at", "ends_at", "lifted_by")
    list_filter = (InForceFilter, "mode")
    list_select_related = ("merchant",)
    search_fields = ("=user_id", "=merchant__slug")
    search_help_text = "A whole payer (`user_id`), or a merchant's short name."
    ordering = ("-ends_at",)
    fields = (
        *("whom", "merchant", "mode", "state", "declines", "began_at", "ends_at"),
        *("lifted_at", "lifted_by", "lift_reason"),
    )
    readonly_fields = ("whom", "state")
    change_form_template = "admin/payments/declineblock/change_form.html"

    @admin.display(description="payer", ordering="user_id")
    def whom(self, block: DeclineBlock) -> str:
        """The payer, or everybody."""
        return block.user_id or "all payers"

    @admin.display(description="state")
    def state(self, block: DeclineBlock) -> Any:
        """As a badge; its colour only repeats the word."""
        if block.lifted_at is not None:
            return badge("canceled", "lifted")
        return badge("failed", "in force") if block.ends_at > timezone.now() else badge("succeeded", "over")

    def get_urls(self) -> list[URLPattern]:
        """The page that lifts one."""
        lift_page = self.admin_site.admin_view(confirmed(partial(lift, self)))
        return [path("<int:block_id>/lift/", lift_page, name="payments_declineblock_lift"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One block; with the button for those who may lift it."""
        context = {**(extra_context or {}), "may_lift": may_lift(request), "now": timezone.now()}
        return super().change_view(request, object_id, form_url, context)


def may_lift(request: HttpRequest) -> bool:
    """Who may end a block before its time."""
    return request.user.has_perm("payments.lift_declineblock")


def lift(model_admin: DeclineBlockAdmin, request: HttpRequest, block_id: int) -> HttpResponse:
    """The form that asks for the reason; POST lifts."""
    if not may_lift(request):
        raise PermissionDenied
    block = get_object_or_404(DeclineBlock.objects.select_related("merchant"), pk=block_id)
    form = LiftForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        lifted = velocity.lift(
            block_id=block.pk, reason=form.cleaned_data["reason"], who=audit.by(request), now=timezone.now()
        )
        if lifted:
            messages.success(request, "Lifted: payments are accepted again. Declines from before count no more.")
        else:
            messages.warning(request, "It was over already; nothing was done.")
        return redirect("admin:payments_declineblock_change", block.pk)
    context = {"title": "Lift this block?", "blocked": block, "form": form, "opts": model_admin.opts}
    whole = {**model_admin.admin_site.each_context(request), **context}
    return TemplateResponse(request, "admin/payments/declineblock/lift.html", whole)
