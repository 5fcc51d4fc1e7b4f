"""Payments in the admin: to look at, never to edit."""

from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from merchants.audit import by
from merchants.confirmation import confirmed
from merchants.exports import Exported
from merchants.reasons import ActionWithReason, reason_in
from messaging.look_only import LookOnly
from messaging.markup import badge
from messaging.models import DeadLetter
from payments.admin_search import NormalizedSearch
from payments.decline_blocks_admin import DeclineBlockAdmin
from payments.declines import ERRORS, support_for
from payments.gateways_admin import GatewayCircuitAdmin
from payments.models import Attempt, GatewayEvent, Payment, PaymentEvent
from payments.money import to_major_units
from payments.operations import retry_now
from payments.unmatched_charges_admin import UnmatchedChargeAdmin

__all__ = ["DeclineBlockAdmin", "GatewayCircuitAdmin", "GatewayEventAdmin", "PaymentAdmin", "UnmatchedChargeAdmin"]


def shorten(payment_id: UUID | None) -> str:
    """Enough of an id to tell payments apart on a page; the end is the random part."""
    return f"…{str(payment_id)[-12:]}" if payment_id else "-"


class AttemptInline(LookOnly, admin.TabularInline[Attempt, Payment]):
    """Each call to the gateway, in order."""

    model = Attempt
    ordering = ("id",)
    fields = ("kind", "outcome", "code", "detail", "gateway_reference", "started_at", "took", "gateway_key")
    readonly_fields = ("took",)

    @admin.display(description="took")
    def took(self, attempt: Attempt) -> str:
        """From the claim to the recorded answer."""
        if attempt.finished_at is None:
            return "in flight"
        return f"{(attempt.finished_at - attempt.started_at).total_seconds() * 1000:.0f} ms"


class EventInline(LookOnly, admin.TabularInline[PaymentEvent, Payment]):
    """Each change of state, in order."""

    model = PaymentEvent
    ordering = ("version",)
    fields = ("version", "type", "created_at", "id")
    readonly_fields = ("id",)


class GatewayEventInline(LookOnly, admin.TabularInline[GatewayEvent, Payment]):
    """What the gateway has told of it by itself."""

    model = GatewayEvent
    ordering = ("id",)
    fields = ("event_id", "type", "result", "received_at", "handled_at")


class ErrorFilter(admin.SimpleListFilter):
    """By what went wrong; the codes are known, so the table is not asked for them."""

    title = "error"
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The codes that our own operations write."""
        return [(code, code.replace("_", " ")) for code in ERRORS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Payment]) -> QuerySet[Payment]:
        """Those with the chosen code."""
        return queryset.filter(error_code=self.value()) if self.value() else queryset


@admin.register(Payment)
class PaymentAdmin(NormalizedSearch, LookOnly, Exported):
    """The list of payments and the story of one."""

    list_display = ("short_id", "state", "money", "order_id", "user_id", "error_code", "mode", "merchant", "created_at")
    # Only columns with a short list of known values: a filter that asks the table for its values reads all of it.
    list_filter = ("status", "mode", "needs_review", ErrorFilter)
    list_select_related = ("merchant",)
    search_fields = ("=id", "=order_id", "=user_id", "=gateway_reference", "=idempotency_keys__key", "=request_id")
    search_help_text = "A whole id, order, user, gateway reference, idempotency key or request id."
    ordering = ("-id",)
    show_full_result_count = False
    list_per_page = 50
    inlines: ClassVar = [AttemptInline, GatewayEventInline, EventInline]
    actions = ("take_up_now",)
    action_form = ActionWithReason
    export = "payments"
    export_columns: ClassVar = {
        "id": lambda payment: payment.pk,
        "created_at": lambda payment: payment.created_at,
        "merchant": lambda payment: payment.merchant.slug,
        "mode": lambda payment: payment.mode,
        "status": lambda payment: payment.status,
        "amount": lambda payment: Decimal(to_major_units(payment.amount, payment.currency)),
        "captured": lambda payment: Decimal(to_major_units(payment.amount_captured, payment.currency)),
        "currency": lambda payment: payment.currency,
        "order_id": lambda payment: payment.order_id,
        "user_id": lambda payment: payment.user_id,
        "description": lambda payment: payment.description,
        "gateway": lambda payment: payment.gateway,
        "gateway_reference": lambda payment: payment.gateway_reference,
        "error_code": lambda payment: payment.error_code,
        "decline_code": lambda payment: payment.decline_code,
        "needs_review": lambda payment: "yes" if payment.needs_review else "no",
        "finished_at": lambda payment: payment.finished_at,
        "request_id": lambda payment: payment.request_id,
    }
    fieldsets = (
        (None, {"fields": ("id", "state", "what_now", "dead_letters", "money", "captured", "merchant", "mode")}),
        (
            "Asked for",
            {
                "fields": (
                    "order_id",
                    "user_id",
                    "description",
                    "metadata",
                    "payment_method",
                    "webhook_url",
                    "request_id",
                    "keys",
                    "requests",
                    "created_at",
                )
            },
        ),
        (
            "At the gateway",
            {
                "fields": (
                    "gateway",
                    "gateway_reference",
                    "charge_attempts",
                    "retries",
                    "lookups",
                    "next_attempt_at",
                    "held_since",
                    "charge_before",
                    "finished_at",
                )
            },
        ),
        (
            "Guards",
            {
                "classes": ("collapse",),
                "fields": (
                    "holds_order",
                    "needs_review",
                    "fence",
                    "lease_expires_at",
                    "revive_at",
                    "revivals",
                    "version",
                ),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Payment]:
        """All payments: the admin is for platform staff."""
        return super().get_queryset(request).select_related("merchant")

    @admin.display(description="payment", ordering="id")
    def short_id(self, payment: Payment) -> str:
        """The payment, by the end of its id."""
        return shorten(payment.pk)

    @admin.display(description="status", ordering="status")
    def state(self, payment: Payment) -> SafeString:
        """The status as a badge; its colour only repeats the word."""
        return badge(payment.status, payment.get_status_display())

    @admin.display(description="amount", ordering="amount")
    def money(self, payment: Payment) -> str:
        """In major units."""
        return f"{to_major_units(payment.amount, payment.currency)} {payment.currency}"

    @admin.display(description="captured")
    def captured(self, payment: Payment) -> str:
        """In major units."""
        return f"{to_major_units(payment.amount_captured, payment.currency)} {payment.currency}"

    @admin.display(description="idempotency key")
    def keys(self, payment: Payment) -> str:
        """The key the payment was created under, while it is kept."""
        return ", ".join(payment.idempotency_keys.values_list("key", flat=True)) or "-"

    @admin.display(description="requests")
    def requests(self, payment: Payment) -> str:
        """How many came, and what they came to."""
        replays = payment.idempotency_keys.aggregate(total=Sum("replays"))["total"]
        if replays is None:
            return "not kept any more"
        return "1 request" if not replays else f"{replays + 1} requests, 1 payment; duplicates absorbed: {replays}"

    @admin.display(description="what happened")
    def what_now(self, payment: Payment) -> str:
        """In plain words, for the one who must answer the phone."""
        if not payment.error_code:
            return "Nothing went wrong."
        reason = " / ".join(filter(None, [payment.error_code, payment.decline_code, payment.error_detail]))
        return f"{reason}. {support_for(payment.error_code, payment.decline_code)}"

    @admin.display(description="dead letters")
    def dead_letters(self, payment: Payment) -> str:
        """Its messages that died, the newest first."""
        letters = (
            DeadLetter.objects.filter(subject=f"payment:{payment.pk}").order_by("-id").values("pk", "cause", "state")
        )
        links = (
            (reverse("admin:messaging_deadletter_change", args=[letter["pk"]]), letter["cause"], letter["state"])
            for letter in letters[:20]
        )
        return format_html_join(", ", '<a href="{}">{}</a> ({})', links) or "none"

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Who may bring a retry forward."""
        return request.user.has_perm("payments.retry_payment")

    @admin.action(description="Take up now: retry or look up before the scheduled time", permissions=["retry"])
    @method_decorator(confirmed)
    def take_up_now(self, request: HttpRequest, queryset: QuerySet[Payment]) -> None:
        """Bring forward what waits; what does not wait is left alone and counted."""
        if (reason := reason_in(request)) is None:
            return
        who = by(request)
        brought = [retry_now(payment_id=payment.pk, who=who, reason=reason) for payment in queryset]
        count = sum(brought)
        self.message_user(request, f"Taken up now: {count}. Did not wait for anything: {len(brought) - count}.")


@admin.register(GatewayEvent)
class GatewayEventAdmin(LookOnly, admin.ModelAdmin[GatewayEvent]):
    """What gateways have told us by themselves."""

    list_display = ("event_id", "gateway", "type", "result", "short_id", "received_at")
    list_filter = ("gateway", ("handled_at", admin.EmptyFieldListFilter))
    search_fields = ("=event_id", "=payment__id")
    search_help_text = "A whole event id of the gateway, or a whole id of a payment."
    ordering = ("-id",)
    show_full_result_count = False

    @admin.display(description="payment", ordering="payment_id")
    def short_id(self, event: GatewayEvent) -> str:
        """As in the list of payments."""
        return shorten(event.payment_id)
