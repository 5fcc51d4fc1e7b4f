"""Dead letters in the admin: by cause, one with its story, and the way to a decision."""

import json
from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from console.causes import next_for, words_for
from console.list_filters import ActorFilter, AgeFilter, CauseFilter, ListFilters, QueueFilter, StateFilter, find
from console.previews import MAY_RESOLVE, preview_page
from console.reads import DELIVERY, PAYMENT
from merchants.confirmation import confirmed
from messaging import judgements, selections
from messaging.judgements import Verdict
from messaging.look_only import LookOnly
from messaging.markup import badge, block, link
from messaging.models import DeadLetter, Resolution

PREVIEW: Final = "admin:messaging_deadletter_preview"
#: Bytes of a foreign body that a page shows: enough to see what it is; the API has all that was kept.
MOST_SHOWN: Final = 8 * 1024
#: Field of a letter's page -> the column without which it says nothing.
ONLY_IF_THERE: Final = {
    "body_text": "body",
    "payload_text": "payload",
    "traceback_text": "traceback",
    "detail": "detail",
    "decided": "resolution_id",
    "note": "note",
    "previous_letter": "previous_id",
    "next_letter": "replayed_as",
    "replayed_as": "replayed_as",
    "resolved_at": "resolved_at",
    "request_id": "request_id",
}
#: Kind of subject -> the page of one.
SUBJECT_PAGES: Final = {
    PAYMENT: "admin:payments_payment_change",
    DELIVERY: "admin:notifications_delivery_change",
}
#: Letters that an address can name; with more of them it would be too long for a proxy.
MOST_NAMED: Final = 200


@admin.register(DeadLetter)
class DeadLetterAdmin(LookOnly, admin.ModelAdmin[DeadLetter]):
    """What will not be tried again by itself."""

    list_display = ("cause", "concerns", "badge", "last_failed", "attempts", "place")
    list_filter = (StateFilter, QueueFilter, ActorFilter, CauseFilter, AgeFilter)
    search_fields = ("subject",)  # shows the box; `get_search_results` searches
    search_help_text = "A whole id of a payment, delivery, message or request. Closed letters are searched as well."
    ordering = ("-id",)
    show_full_result_count = False
    list_per_page = 50
    actions = ("replay_selected", "discard_selected")
    fieldsets = (
        (None, {"fields": ("badge", "happened", "what_next", "would_go", "concerns", "attempts", "failed")}),
        ("The message", {"fields": ("place", "cause", "detail", "body_text", "payload_text", "traceback_text")}),
        ("What came of it", {"fields": ("decided", "note", "previous_letter", "next_letter", "resolved_at")}),
        ("Ids", {"fields": ("id", "message_id", "request_id", "replayed_as", "created_at")}),
    )

    # --- pages

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        """Without what may be long: a list of letters must not read their bodies."""
        return super().get_queryset(request).defer("body", "traceback", "payload")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By a whole id."""
        return (queryset.filter(find(search_term.strip())) if search_term.strip() else queryset), False

    def get_urls(self) -> list[Any]:
        """With the preview."""
        view = self.admin_site.admin_view(confirmed(lambda request: preview_page(request, self.admin_site)))
        return [path("preview/", view, name="messaging_deadletter_preview"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, below what is open by cause."""
        filters = ListFilters(request.GET.dict())
        context = {
            "causes": [{**row, "query": query_of(row)} for row in selections.causes()],
            "all_that_match": urlencode(filters.given()) if filters.is_understood() else None,
            "may_resolve": self.has_resolve_permission(request),
            "title": "Dead letters",
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One letter."""
        context = {"may_resolve": self.has_resolve_permission(request)}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def get_fieldsets(self, request: HttpRequest, obj: DeadLetter | None = None) -> Any:
        """Without what this letter does not have."""
        missing = {name for name, column in ONLY_IF_THERE.items() if not getattr(obj, column, None)}
        groups = ((title, [name for name in group["fields"] if name not in missing]) for title, group in self.fieldsets)
        return [(title, {"fields": names}) for title, names in groups if names]

    # --- actions

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        """Who may replay and discard."""
        return request.user.has_perm(MAY_RESOLVE)

    @admin.action(description="Replay selected letters…", permissions=["resolve"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> HttpResponse | None:
        """Show what a replay would do."""
        return self.to_preview(request, queryset, Resolution.Action.REPLAY)

    @admin.action(description="Discard selected letters…", permissions=["resolve"])
    def discard_selected(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> HttpResponse | None:
        """Show what a discard would do."""
        return self.to_preview(request, queryset, Resolution.Action.DISCARD)

    def to_preview(
        self, request: HttpRequest, queryset: QuerySet[DeadLetter], action: Resolution.Action
    ) -> HttpResponse | None:
        """On to the page that decides; nothing is done here."""
        filters = ListFilters(request.GET.dict())
        if request.POST.get("select_across") == "1" and filters.is_understood():
            return redirect(f"{reverse(PREVIEW)}?{urlencode({'action': action.value, **filters.given()})}")
        ids = list(queryset.order_by("pk").values_list("pk", flat=True)[: MOST_NAMED + 1])
        if len(ids) > MOST_NAMED:
            self.message_user(
                request, f"Select at most {MOST_NAMED} letters, or narrow the list down with its filters."
            )
            return None
        query = urlencode({"action": action.value, "ids": ",".join(map(str, ids))})
        return redirect(f"{reverse(PREVIEW)}?{query}")

    # --- columns and fields

    @admin.display(description="state", ordering="state")
    def badge(self, letter: DeadLetter) -> SafeString:
        """The state; its colour only repeats the word."""
        return badge(letter.state, letter.get_state_display())

    @admin.display(description="concerns", ordering="subject")
    def concerns(self, letter: DeadLetter) -> str:
        """The payment or delivery, with a link to it."""
        kind, _, id_ = letter.subject.partition(":")
        if kind not in SUBJECT_PAGES or not id_:
            return letter.subject or "-"
        return link(SUBJECT_PAGES[kind], f"{kind} …{id_[-12:]}", id_)

    @admin.display(description="last failed", ordering="last_failed_at")
    def last_failed(self, letter: DeadLetter) -> str:
        """To the minute."""
        return f"{letter.last_failed_at:%Y-%m-%d %H:%M}"

    @admin.display(description="for")
    def place(self, letter: DeadLetter) -> str:
        """The actor it was for, and the queue it died in."""
        return f"{letter.actor} in {letter.queue}" if letter.actor else f"queue {letter.queue}"

    @admin.display(description="what happened")
    def happened(self, letter: DeadLetter) -> str:
        """In plain words."""
        return words_for(letter.cause).happened

    @admin.display(description="what to do")
    def what_next(self, letter: DeadLetter) -> str:
        """In plain words."""
        return next_for(letter)

    @admin.display(description="a replay now")
    def would_go(self, letter: DeadLetter) -> str:
        """What would come of it."""
        if letter.state != DeadLetter.State.OPEN:
            return "-"
        judgement = judgements.judge([letter])[letter.pk]
        words = {
            Verdict.GOES: "would send it out again",
            Verdict.SETTLED: "would send nothing, and close it as settled",
            Verdict.BLOCKED: "would be blocked",
        }[judgement.verdict]
        return f"{words}: {judgement.note}" if judgement.note else words

    @admin.display(description="failed")
    def failed(self, letter: DeadLetter) -> str:
        """The first and the last time."""
        first, last = (f"{time:%Y-%m-%d %H:%M:%S} UTC" for time in (letter.first_failed_at, letter.last_failed_at))
        return last if first == last else f"first {first}, last {last}"

    @admin.display(description="arguments")
    def payload_text(self, letter: DeadLetter) -> str:
        """What the actor was called with."""
        return block(json.dumps(letter.payload, indent=2, ensure_ascii=False)) if letter.payload else "-"

    @admin.display(description="body")
    def body_text(self, letter: DeadLetter) -> str:
        """What came from outside, as text, with its size."""
        if letter.body is None:
            return "-"
        kept = bytes(letter.body)
        size = f"{letter.body_size} bytes came"
        if letter.body_size > len(kept):
            size += f", the first {len(kept)} were kept: too many to be replayed"
        if len(kept) > MOST_SHOWN:
            size += f"; the first {MOST_SHOWN} are shown, the API has the rest"
        return format_html("<p>{}.</p>{}", size, block(kept[:MOST_SHOWN].decode("utf-8", "replace")))

    @admin.display(description="traceback")
    def traceback_text(self, letter: DeadLetter) -> str:
        """Where our code failed."""
        return block(letter.traceback) if letter.traceback else "-"

    @admin.display(description="decision")
    def decided(self, letter: DeadLetter) -> str:
        """The last resolution that had it in hand: who, when, why."""
        made = letter.resolution
        if made is None:
            return "-"
        link_ = link("admin:messaging_resolution_change", f"{made.get_action_display()} {made.pk}", made.pk)
        said = f"by {made.decided_by}, {made.created_at:%Y-%m-%d %H:%M} UTC: {made.reason}"
        return format_html("{} {}", link_, said)

    @admin.display(description="came from the replay of")
    def previous_letter(self, letter: DeadLetter) -> str:
        """The letter before this one."""
        return link_to(letter.previous)

    @admin.display(description="its replay died as")
    def next_letter(self, letter: DeadLetter) -> str:
        """The letter after this one."""
        return link_to(DeadLetter.objects.filter(previous=letter).order_by("id").first())


def link_to(letter: DeadLetter | None) -> str:
    """A link to a letter, if there is one."""
    if letter is None:
        return "-"
    return link("admin:messaging_deadletter_change", f"letter {letter.pk} ({letter.get_state_display()})", letter.pk)


def query_of(row: dict[str, Any]) -> str:
    """The filters that show a row of the causes."""
    return urlencode({name: row[name] for name in ("cause", "actor", "queue") if row[name]})
