"""Unmatched charges in the console: the list, one charge, and the pages that adopt, refund or dismiss it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString

from merchants.audit import Who, by
from merchants.confirmation import confirmed
from merchants.models import Approval
from merchants.reasons import ReasonForm
from merchants.refusals import Refused
from messaging.look_only import LookOnly
from messaging.markup import badge, link
from payments.admin_search import NormalizedSearch
from payments.models import UnmatchedCharge
from payments.money import EXPONENTS, to_major_units
from payments.operations import adopt_charge, dismiss_charge, request_refund
from payments.unmatched_charge import State

PAGE: Final = "admin:payments_unmatchedcharge_change"
#: State -> the badge's class; its colour only repeats the word.
BADGES: Final = {
    State.OPEN: "open",
    State.REFUNDING: "processing",
    State.ADOPTED: "succeeded",
    State.REFUNDED: "succeeded",
    State.MATCHED: "succeeded",
    State.DISMISSED: "canceled",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that staff can decide, and what its page says. `decide` returns what the page reports then."""

    verb: str
    title: str
    consequence: str
    button: str
    decide: Callable[[int, Who, str], str]
    is_dangerous: bool = False

    @property
    def permission(self) -> str:
        """Return the permission that it takes."""
        return f"payments.{self.verb}_unmatchedcharge"

    @property
    def url_name(self) -> str:
        """Return the name of its page."""
        return f"admin:payments_unmatchedcharge_{self.verb}"


def adopt(charge_id: int, who: Who, reason: str) -> str:
    """Adopt the charge."""
    payment = adopt_charge(charge_id=charge_id, who=who, reason=reason)
    return f"Adopted: payment {payment.pk} accounts for the charge."


def refund(charge_id: int, who: Who, reason: str) -> str:
    """Request the refund, or a second approver for it."""
    requested = request_refund(charge_id=charge_id, who=who, reason=reason)
    if isinstance(requested, Approval):
        return "Nothing was refunded yet: the amount needs a second approver, who finds the request under Approvals."
    return "The refund was requested; a worker makes it within seconds."


def dismiss(charge_id: int, who: Who, reason: str) -> str:
    """Dismiss the charge."""
    dismiss_charge(charge_id=charge_id, who=who, reason=reason)
    return "Dismissed: no money was moved."


DECISIONS: Final = {
    "adopt": Decision(
        "adopt",
        "Adopt this charge?",
        "A payment is created in the state succeeded, with the charge as its proof, and its events are emitted. If the "
        "client's own payment failed without the charge, that payment takes it instead.",
        "Adopt",
        adopt,
    ),
    "refund": Decision(
        "refund",
        "Refund this charge?",
        "The whole amount is returned to the payer. A refund cannot be taken back.",
        "Refund",
        refund,
        is_dangerous=True,
    ),
    "dismiss": Decision(
        "dismiss",
        "Dismiss this charge?",
        "The review is closed and no money is moved. Use it for charges that were settled outside of this system.",
        "Dismiss",
        dismiss,
    ),
}


@admin.register(UnmatchedCharge)
class UnmatchedChargeAdmin(NormalizedSearch, LookOnly, admin.ModelAdmin[UnmatchedCharge]):
    """Charges that no payment accounts for, those to decide on first."""

    list_display = ("reference", "badge", "money", "reason", "merchant_slug", "order_id", "source", "created_at")
    list_filter = ("state", "reason", "source")
    search_fields = ("=reference", "=gateway_payment_id", "=order_id", "=gateway_key")
    search_help_text = "A whole charge id of the gateway, payment id, order or gateway key."
    ordering = (Case(When(state=State.OPEN, then=Value(0)), default=Value(1)).asc(), "-id")
    show_full_result_count = False
    list_per_page = 50
    fieldsets = (
        (None, {"fields": ("badge", "reason", "money", "reference", "gateway", "source", "created_at")}),
        (
            "As the gateway states",
            {"fields": ("gateway_payment_id", "gateway_key", "merchant_slug", "order_id", "charged_at")},
        ),
        ("Decision", {"fields": ("resolved_by", "resolution_reason", "resolved_at", "accounted_for_by")}),
        ("Refund", {"fields": ("refund_reference", "refund_attempts", "next_attempt_at", "error_detail")}),
    )

    def get_urls(self) -> list[URLPattern]:
        """With a page for each decision."""
        own = [
            path(
                f"<int:charge_id>/{verb}/",
                self.admin_site.admin_view(confirmed(partial(decide, self, decision))),
                name=f"payments_unmatchedcharge_{verb}",
            )
            for verb, decision in DECISIONS.items()
        ]
        return [*own, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One charge, with the buttons of what this user may decide."""
        may = [decision for decision in DECISIONS.values() if request.user.has_perm(decision.permission)]
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "decisions": may})

    @admin.display(description="state", ordering="state")
    def badge(self, charge: UnmatchedCharge) -> SafeString:
        """The state as a badge."""
        return badge(BADGES[State(charge.state)], charge.get_state_display())

    @admin.display(description="amount", ordering="amount")
    def money(self, charge: UnmatchedCharge) -> str:
        """In major units, or in minor units of an unknown currency."""
        return money_of(charge)

    @admin.display(description="payment")
    def accounted_for_by(self, charge: UnmatchedCharge) -> str:
        """The payment that accounts for the charge now."""
        if charge.payment_id is None:
            return "-"
        return link("admin:payments_payment_change", str(charge.payment_id), charge.payment_id)


def money_of(charge: UnmatchedCharge) -> str:
    """Return the amount with its currency."""
    if charge.currency not in EXPONENTS:
        return f"{charge.amount} minor units of {charge.currency}"
    return f"{to_major_units(charge.amount, charge.currency)} {charge.currency}"


def decide(model_admin: UnmatchedChargeAdmin, decision: Decision, request: HttpRequest, charge_id: int) -> HttpResponse:
    """GET shows what would happen and asks for the reason; POST does it."""
    if not request.user.has_perm(decision.permission):
        raise PermissionDenied
    charge = get_object_or_404(UnmatchedCharge, pk=charge_id)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            messages.success(request, decision.decide(charge.pk, by(request), form.cleaned_data["reason"]))
        except Refused as refusal:
            messages.error(request, refusal.detail)
        return redirect(PAGE, charge.pk)
    context = {"title": decision.title, "decision": decision, "charge": charge, "form": form, "opts": model_admin.opts}
    whole = {**model_admin.admin_site.each_context(request), **context, "money": money_of(charge)}
    return TemplateResponse(request, "admin/payments/unmatchedcharge/decide.html", whole)
