"""The audit in the admin: who did what, when, why and from where, before and after."""

import json
from typing import Any, ClassVar, Final, cast

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from console.audit_filters import ActionFilter, ActorFilter, BeforeFilter, MerchantFilter, SinceFilter
from merchants.exports import Exported
from merchants.models import AuditEntry
from messaging.look_only import LookOnly
from messaging.markup import link

#: Kind of subject -> the page of one.
SUBJECT_PAGES: Final = {
    "payment": "admin:payments_payment_change",
    "gateway": "admin:payments_gatewaycircuit_change",
    "decline_block": "admin:payments_declineblock_change",
    "unmatched_charge": "admin:payments_unmatchedcharge_change",
    "resolution": "admin:messaging_resolution_change",
    "delivery": "admin:notifications_delivery_change",
    "webhook_endpoint": "admin:notifications_webhookendpoint_change",
    "contact": "admin:notifications_contact_change",
    "preference": "admin:notifications_preference_change",
    "merchant": "admin:merchants_merchant_change",
    "user": "admin:merchants_user_change",
    "api_key": "admin:merchants_apikey_change",
    "approval": "admin:merchants_approval_change",
}
#: Entries that are counted and paged through; whoever looks for older ones narrows the list down.
MOST_PAGED: Final = 10_000


class Bounded(Paginator[AuditEntry]):
    """Pages of the newest entries: to count them all would read them all."""

    @cached_property
    def count(self) -> int:
        """How many, as far as they are counted."""
        entries = cast("QuerySet[AuditEntry]", self.object_list)
        return entries[:MOST_PAGED].count()


@admin.register(AuditEntry)
class AuditEntryAdmin(LookOnly, Exported):
    """All entries. Nobody changes one, not even the database's owner by mistake: a trigger forbids it."""

    list_display = ("when", "actor", "action", "concerns", "merchant", "reason", "via")
    list_filter = (ActorFilter, ActionFilter, MerchantFilter, SinceFilter, BeforeFilter, "via")
    list_select_related = ("merchant",)
    search_fields = ("subject",)  # shows the box; `get_search_results` searches
    search_help_text = "A whole subject or its id, an actor, or a request id."
    ordering = ("-id",)
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each would count all entries
    list_per_page = 50
    paginator = Bounded
    fieldsets = (
        (None, {"fields": ("when", "actor", "via", "address", "action", "concerns", "merchant", "reason")}),
        ("What changed", {"fields": ("change",)}),
        ("Ids", {"fields": ("id", "request_id")}),
    )
    export = "audit"
    export_columns: ClassVar = {
        "at": lambda entry: entry.at,
        "actor": lambda entry: entry.actor,
        "via": lambda entry: entry.via,
        "address": lambda entry: entry.address,
        "action": lambda entry: entry.action,
        "subject": lambda entry: entry.subject,
        "merchant": lambda entry: entry.merchant and entry.merchant.slug,
        "reason": lambda entry: entry.reason,
        "before": lambda entry: entry.before,
        "after": lambda entry: entry.after,
        "request_id": lambda entry: entry.request_id,
        "id": lambda entry: entry.pk,
    }

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        """With the names of the merchants."""
        return super().get_queryset(request).select_related("merchant")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By a whole name or id; each has an index."""
        term = search_term.replace("\0", "").strip()
        return (queryset.filter(named(term)) if term else queryset), False

    # --- columns and fields

    @admin.display(description="when (UTC)", ordering="id")
    def when(self, entry: AuditEntry) -> str:
        """To the second."""
        return f"{entry.at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="concerns", ordering="subject")
    def concerns(self, entry: AuditEntry) -> str:
        """The subject, with a link to its page."""
        kind, _, id_ = entry.subject.partition(":")
        if kind not in SUBJECT_PAGES or not id_:
            return entry.subject or "-"
        try:
            return link(SUBJECT_PAGES[kind], f"{kind} {shortened(id_)}", id_)
        except NoReverseMatch:
            return entry.subject

    @admin.display(description="before and after")
    def change(self, entry: AuditEntry) -> SafeString:
        """Name by name."""
        before, after = entry.before or {}, entry.after or {}
        rows = [(name, said(before, name), said(after, name)) for name in {**before, **after}]
        if not rows:
            return format_html("{}", "Nothing to tell.")
        body = format_html_join("", '<tr><th scope="row">{}</th><td>{}</td><td>{}</td></tr>', rows)
        return format_html(
            '<div class="console-scroll" role="region" aria-label="Before and after" tabindex="0">'
            '<table class="console-table console-difference"><thead><tr><th scope="col">What</th>'
            '<th scope="col">Before</th><th scope="col">After</th></tr></thead><tbody>{}</tbody></table></div>',
            body,
        )


def named(term: str) -> Q:
    """What a search term may name, whole."""
    subjects = [term, *(f"{kind}:{term}" for kind in SUBJECT_PAGES)]
    return Q(subject__in=subjects) | Q(actor__in=[term, f"user:{term}", f"shell:{term}"]) | Q(request_id=term)


def said(state: dict[str, Any], name: str) -> str:
    """One value, for people."""
    if name not in state:
        return "-"
    value = state[name]
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def shortened(id_: str) -> str:
    """The end of a long id is the random part."""
    return f"…{id_[-12:]}" if len(id_) == 36 else id_
