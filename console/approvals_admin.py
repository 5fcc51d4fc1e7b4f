"""What waits for a second person, in the admin: what would happen now, and the word that has it done."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import Error
from django.db.models import Case, Value, When
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from console.decisions import translated
from console.four_eyes import ACTION, REPLAYS, is_outgrown
from console.previews import in_words, rows_of
from merchants import approvals
from merchants.audit import by
from merchants.confirmation import confirmed
from merchants.models import Approval
from merchants.reasons import reason_in
from merchants.refusals import Refused
from messaging.look_only import LookOnly
from messaging.markup import badge, link
from messaging.models import Resolution

PAGE = "admin:merchants_approval_change"
#: Kind of result -> the page of one.
RESULT_PAGES = {
    "resolution": "admin:messaging_resolution_change",
    "unmatched_charge": "admin:payments_unmatchedcharge_change",
}


@admin.register(Approval)
class ApprovalAdmin(LookOnly, admin.ModelAdmin[Approval]):
    """What waits stands first."""

    list_display = ("name", "badge", "money", "requested_by", "reason", "requested", "decided_by")
    list_filter = ("state", "action")
    ordering = (Case(When(state=Approval.State.PENDING, then=Value(0)), default=Value(1)).asc(), "-requested_at")
    show_full_result_count = False
    list_per_page = 50
    fieldsets = (
        (None, {"fields": ("badge", "summary", "money", "letters", "reason", "requested_by", "requested")}),
        ("Decision", {"fields": ("expires_at", "decided_by", "decided_at", "decision_reason", "came_of_it")}),
        ("Ids", {"fields": ("id", "request_id")}),
    )

    # --- pages

    def get_urls(self) -> list[Any]:
        """With the three decisions."""
        own = [
            path(
                f"<uuid:approval_id>/{name}/",
                self.admin_site.admin_view(require_POST(confirmed(view))),
                name=f"merchants_approval_{name}",
            )
            for name, view in (("approve", approve), ("reject", reject), ("withdraw", withdraw))
        ]
        return [*own, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One, with what would happen now while it waits."""
        waiting = pending(object_id)
        context = {} if waiting is None else self.outlook(request, waiting)
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def outlook(self, request: HttpRequest, approval: Approval) -> dict[str, Any]:
        """What whoever decides must know."""
        own = approvals.is_same_person(approval.requested_by, request.user.get_username())
        may = request.user.has_perm(approvals.MAY_DECIDE)
        context: dict[str, Any] = {"own": own, "may_decide": may and not own, "waits": True}
        context["may_do"] = request.user.has_perm(approvals.action_of(approval).permission)
        context["is_over"] = is_over(approval)
        if approval.action == ACTION:
            found = REPLAYS.outlook(approval)
            context |= {
                "preview": found,
                "rows": rows_of(Resolution.Action.REPLAY, found),
                "notes": sorted(found.notes.items()),
                "chosen": in_words(REPLAYS.selection(approval)),
                "outgrown": is_outgrown(approval, found),
            }
        return context

    # --- columns and fields

    @admin.display(description="asked for", ordering="requested_at")
    def name(self, approval: Approval) -> str:
        """What."""
        return approval.action

    @admin.display(description="state", ordering="state")
    def badge(self, approval: Approval) -> SafeString:
        """The state; its colour only repeats the word."""
        if approval.state == Approval.State.PENDING and is_over(approval):
            return badge("expired", "Expired")
        return badge(approval.state, approval.get_state_display())

    @admin.display(description="money at stake")
    def money(self, approval: Approval) -> str:
        """As it was when it was asked for."""
        return ", ".join(f"{sum_} {currency}" for currency, sum_ in approval.sums.items()) or "none known"

    @admin.display(description="how many")
    def letters(self, approval: Approval) -> str:
        """As it was when it was asked for."""
        return str(approval.count)

    @admin.display(description="asked for at (UTC)", ordering="requested_at")
    def requested(self, approval: Approval) -> str:
        """To the minute."""
        return f"{approval.requested_at:%Y-%m-%d %H:%M}"

    @admin.display(description="what came of it")
    def came_of_it(self, approval: Approval) -> str:
        """A link to it."""
        kind, _, id_ = approval.result.partition(":")
        page = RESULT_PAGES.get(kind)
        return link(page, approval.result, id_) if page else "-"


def pending(approval_id: str) -> Approval | None:
    """The approval, if it waits for somebody."""
    try:
        return Approval.objects.filter(pk=approval_id, state=Approval.State.PENDING).first()
    except (ValidationError, ValueError):
        return None


def is_over(approval: Approval) -> bool:
    """Whether nobody can approve it any more, for people; the operation goes by the database's clock."""
    return approval.expires_at <= timezone.now()


def approve(request: HttpRequest, approval_id: UUID) -> HttpResponse:
    """Agree; it is done at once."""
    return decide(request, approval_id, approvals.approve, "Approved: it is being done.", may=request.user.has_perm)


def reject(request: HttpRequest, approval_id: UUID) -> HttpResponse:
    """Say no."""
    return decide(request, approval_id, approvals.reject, "Rejected: nothing was done.", may=request.user.has_perm)


def withdraw(request: HttpRequest, approval_id: UUID) -> HttpResponse:
    """Take back what one has asked for."""
    return decide(request, approval_id, approvals.withdraw, "Withdrawn: nothing was done.")


def decide(
    request: HttpRequest, approval_id: UUID, do: Callable[..., Approval], words: str, **options: Any
) -> HttpResponse:
    """Do it if a reason is given, and go back to the page, which tells what came of it."""
    if not request.user.has_perm("merchants.view_approval"):
        raise PermissionDenied
    if (reason := reason_in(request)) is not None:
        try:
            do(approval_id=approval_id, who=by(request), reason=reason, **options)
        except Approval.DoesNotExist:
            raise Http404 from None
        except Refused as refusal:
            messages.error(request, refusal.detail)
        except Error as error:
            messages.error(request, told(error))
        else:
            messages.success(request, words)
    return redirect(PAGE, approval_id)


def told(error: Error) -> str:
    """In words, if it is only a wait that took too long; an outage goes on as one."""
    refusal = translated(error)
    if not isinstance(refusal, Refused):
        raise error
    return "Nothing was done: another decision is being made this very moment. Try again."
