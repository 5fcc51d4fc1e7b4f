"""Deliveries in the admin: who was told what, what came of each attempt, and the button that tells once more."""

import json
from collections import Counter
from typing import Any, ClassVar, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from merchants.audit import by
from merchants.confirmation import confirmed
from merchants.reasons import ActionWithReason, reason_in
from merchants.refusals import Refused
from messaging.look_only import LookOnly
from messaging.markup import badge, block, link
from messaging.models import DeadLetter
from notifications import redelivery, story
from notifications.admin.delivery_filters import AgeFilter, EventTypeFilter, find
from notifications.errors import DeliveryUnderWay, EndpointDeleted, EndpointDisabled
from notifications.masking import mask
from notifications.models import Delivery, DeliveryAttempt

MAY_REDELIVER: Final = "notifications.redeliver_delivery"
#: Redelivered at a time, one by one, while a browser waits. An endpoint's page has a way for more.
MOST_AT_ONCE: Final = 500
#: Refusal -> what is said of so many of them.
REFUSALS: Final = {
    DeliveryUnderWay: "Under way already, and left alone: {}.",
    EndpointDisabled: "Not sent, because the webhook endpoint is disabled: {}. Enable it first.",
    EndpointDeleted: "Not sent, because the webhook endpoint is deleted: {}.",
}
#: Field of a delivery's page -> the column without which it says nothing.
ONLY_IF_THERE: Final = {
    "payment": "payment_id",
    "to_endpoint": "endpoint_id",
    "data_text": "data",
    "reference": "reference",
    "language": "language",
    "next_attempt": "next_attempt_at",
    "finished_at": "finished_at",
    "request_id": "request_id",
}


class AttemptInline(LookOnly, admin.TabularInline[DeliveryAttempt, Delivery]):
    """Each attempt, in order."""

    model = DeliveryAttempt
    ordering = ("number",)
    fields = ("number", "result", "status_code", "took", "detail", "answer", "finished_at")
    readonly_fields = ("result", "took", "answer")

    def has_view_permission(self, request: HttpRequest, obj: Delivery | None = None) -> bool:
        """Who may see the delivery."""
        return request.user.has_perm("notifications.view_delivery")

    @admin.display(description="outcome")
    def result(self, attempt: DeliveryAttempt) -> SafeString:
        """As a badge."""
        return badge(attempt.outcome, attempt.get_outcome_display())

    @admin.display(description="took")
    def took(self, attempt: DeliveryAttempt) -> str:
        """From the first byte out to the last one in."""
        return f"{attempt.latency_ms} ms"

    @admin.display(description="answer, its beginning")
    def answer(self, attempt: DeliveryAttempt) -> str:
        """What the receiver said."""
        return block(attempt.excerpt) if attempt.excerpt else "-"


@admin.register(Delivery)
class DeliveryAdmin(LookOnly, admin.ModelAdmin[Delivery]):
    """The log of mail, SMS and webhooks. Addresses are masked."""

    list_display = (
        *("event_type", "state_badge", "to", "note", "created"),
        *("channel", "tries", "next_attempt", "merchant"),
    )
    list_filter = ("state", "channel", EventTypeFilter, "mode", AgeFilter)
    list_select_related = ("merchant",)
    search_fields = ("id",)  # shows the box; `get_search_results` searches
    search_help_text = "A whole id of a delivery, event, payment, webhook endpoint or request."
    ordering = ("-id",)
    show_full_result_count = False
    list_per_page = 50
    actions = ("redeliver_selected",)
    action_form = ActionWithReason
    inlines: ClassVar = [AttemptInline]
    fieldsets = (
        (None, {"fields": ("state_badge", "happened", "what_next", "dead_letters")}),
        (
            "What is told to whom",
            {
                "fields": (
                    *("event_type", "occurred_at", "payment", "merchant", "mode"),
                    *("channel", "to", "to_endpoint", "audience", "language", "data_text"),
                )
            },
        ),
        ("Progress", {"fields": ("tries", "next_attempt", "created_at", "finished_at", "reference")}),
        ("Ids", {"fields": ("id", "event_id", "request_id")}),
    )

    # --- pages

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        """With the names that a page shows, and without what is told: a list must not read it."""
        return super().get_queryset(request).select_related("merchant").defer("data")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By a whole id."""
        term = search_term.strip()
        return (find(queryset, term) if term else queryset), False

    def get_urls(self) -> list[Any]:
        """With the button of one delivery."""
        view = self.admin_site.admin_view(require_POST(confirmed(self.redeliver_one)))
        return [
            path("<uuid:delivery_id>/redeliver/", view, name="notifications_delivery_redeliver"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One delivery."""
        context = {"may_redeliver": self.has_redeliver_permission(request)}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def get_fieldsets(self, request: HttpRequest, obj: Delivery | None = None) -> Any:
        """Without what this delivery does not have."""
        missing = {name for name, column in ONLY_IF_THERE.items() if not getattr(obj, column, None)}
        groups = ((title, [name for name in group["fields"] if name not in missing]) for title, group in self.fieldsets)
        return [(title, {"fields": names}) for title, names in groups if names]

    # --- actions

    def has_redeliver_permission(self, request: HttpRequest) -> bool:
        """Who may tell once more."""
        return request.user.has_perm(MAY_REDELIVER)

    @admin.action(description="Redeliver selected deliveries", permissions=["redeliver"])
    @method_decorator(confirmed)
    def redeliver_selected(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """Each by itself: what one is refused does not hold up the others."""
        if (reason := reason_in(request)) is None:
            return
        chosen = list(queryset.order_by("id")[: MOST_AT_ONCE + 1])
        if len(chosen) > MOST_AT_ONCE:
            words = f"Nothing was done: select at most {MOST_AT_ONCE}, or use `Redeliver since…` of a webhook endpoint."
            messages.error(request, words)
            return
        self.redeliver(request, chosen, reason)

    def redeliver_one(self, request: HttpRequest, delivery_id: Any) -> HttpResponse:
        """The button on a delivery's page."""
        if not self.has_redeliver_permission(request):
            raise PermissionDenied
        delivery = get_object_or_404(Delivery, pk=delivery_id)
        if (reason := reason_in(request)) is not None:
            self.redeliver(request, [delivery], reason)
        return redirect("admin:notifications_delivery_change", delivery_id)

    def redeliver(self, request: HttpRequest, deliveries: list[Delivery], reason: str) -> None:
        """Do it, record it, and say what was refused."""
        begun, refused = 0, Counter[type[Refused]]()
        for delivery in deliveries:
            try:
                redelivery.redeliver(delivery=delivery, now=timezone.now(), who=by(request), reason=reason)
            except tuple(REFUSALS) as refusal:
                refused[type(refusal)] += 1
                continue
            begun += 1
            self.log_change(request, delivery, "Redelivered.")
        if begun:
            messages.success(request, f"Begun anew: {begun}. They go out within seconds.")
        for refusal_class, count in refused.items():
            messages.warning(request, REFUSALS[refusal_class].format(count))

    # --- columns and fields

    @admin.display(description="recipient")
    def to(self, delivery: Delivery) -> str:
        """Masked."""
        return mask(delivery.channel, delivery.recipient)

    @admin.display(description="state", ordering="state")
    def state_badge(self, delivery: Delivery) -> SafeString:
        """As a badge."""
        return badge(delivery.state, delivery.get_state_display())

    @admin.display(description="next attempt", ordering="next_attempt_at")
    def next_attempt(self, delivery: Delivery) -> str:
        """To the second, for the first ones are seconds apart."""
        return f"{delivery.next_attempt_at:%Y-%m-%d %H:%M:%S}" if delivery.next_attempt_at else "-"

    @admin.display(description="created", ordering="id")
    def created(self, delivery: Delivery) -> str:
        """To the minute."""
        return f"{delivery.created_at:%Y-%m-%d %H:%M}"

    @admin.display(description="what happened")
    def happened(self, delivery: Delivery) -> str:
        """In plain words."""
        return story.happened(delivery, now=timezone.now())

    @admin.display(description="what comes next")
    def what_next(self, delivery: Delivery) -> str:
        """In plain words."""
        return story.comes_next(delivery, now=timezone.now())

    @admin.display(description="payment")
    def payment(self, delivery: Delivery) -> str:
        """A link to it."""
        return link("admin:payments_payment_change", str(delivery.payment_id), delivery.payment_id)

    @admin.display(description="webhook endpoint")
    def to_endpoint(self, delivery: Delivery) -> str:
        """A link to it, and how it does."""
        endpoint = delivery.endpoint
        if endpoint is None:
            return "-"
        state, why = story.health_of(endpoint)
        address = link("admin:notifications_webhookendpoint_change", mask("webhook", endpoint.url), endpoint.pk)
        return format_html("{} {} {}", address, badge(state, story.HEALTH[state]), why)

    @admin.display(description="dead letters")
    def dead_letters(self, delivery: Delivery) -> str:
        """Its messages that died, the newest first."""
        letters = DeadLetter.objects.filter(subject=f"delivery:{delivery.pk}").order_by("-id")
        found = letters.values_list("pk", "cause", "state")[:20]
        links = ((reverse("admin:messaging_deadletter_change", args=[pk]), cause, state) for pk, cause, state in found)
        return format_html_join(", ", '<a href="{}">{}</a> ({})', links) or "none"

    @admin.display(description="what it says")
    def data_text(self, delivery: Delivery) -> str:
        """Of deliveries that are about no payment."""
        said = {**(delivery.data or {})}
        if "url" in said:
            said["url"] = mask("webhook", str(said["url"]))
        return block(json.dumps(said, indent=2, ensure_ascii=False))
