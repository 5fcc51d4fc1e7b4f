"""The page before a replay or discard: which letters, what would become of them, and the form that decides.

What is shown is signed and comes back with the form: so exactly that is decided, however many letters die meanwhile.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone

from console.decisions import decide_and_begin
from console.four_eyes import needs_another
from console.list_filters import ListFilters
from console.reads import stake_of, sums_of
from console.serializers import HIGHEST_RATE
from merchants.audit import by
from merchants.models import Approval
from merchants.reasons import ReasonField
from messaging import previews
from messaging.judgements import Verdict
from messaging.models import DeadLetter, Resolution
from messaging.previews import Preview
from messaging.selections import Selection
from payments.errors import IdempotencyKeyInUse, NothingToResolve

MAY_RESOLVE: Final = "messaging.resolve_deadletter"
#: More letters than this are decided on only by who types their number: that many are looked through by nobody.
TYPED_ABOVE: Final = 100
#: How long (s) a preview can be decided on; after an hour the payments behind it are others.
VALID_FOR: Final = 3600
#: An id among those in the address; eighteen digits fit the column.
ID: Final = re.compile(r"\b[0-9]{1,18}\b", re.ASCII)
SALT: Final = "console.previews"
LIST: Final = "admin:messaging_deadletter_changelist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What was shown: the action, the selection, and how many letters it had then."""

    action: Resolution.Action
    selection: Selection
    shown: int = 0

    @classmethod
    def asked(cls, parameters: QueryDict) -> "Proposal":
        """Out of the address of the page. An action that does not exist is the harmless one: nothing is done yet."""
        discard = parameters.get("action") == Resolution.Action.DISCARD
        action = Resolution.Action.DISCARD if discard else Resolution.Action.REPLAY
        given = {name: str(value) for name, value in parameters.items()}
        if "ids" in given:
            return cls(action=action, selection=Selection(ids=tuple(map(int, ID.findall(given["ids"])))))
        return cls(action=action, selection=ListFilters(given).selection(now=timezone.now()))

    @classmethod
    def signed(cls, text: str) -> "Proposal":
        """Out of the form.

        Raises:
            BadSignature: it was not made here, or too long ago.
        """
        document = signing.loads(text, salt=SALT, max_age=VALID_FOR)
        action, selection = Resolution.Action(document["action"]), Selection.of(document["selection"])
        return cls(action=action, selection=selection, shown=document["shown"])

    def sign(self) -> str:
        """For the form."""
        document = {"action": self.action.value, "selection": self.selection.document(), "shown": self.shown}
        return signing.dumps(document, salt=SALT, compress=True)


class DecisionForm(forms.Form):
    """Why, how fast, and for many letters: how many, typed by hand."""

    required_css_class = "required"

    reason = ReasonField(
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60}),
        help_text="Kept with your name in the list of resolutions.",
    )
    rate = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=HIGHEST_RATE,
        label="Letters per second at most",
        help_text="Leave it empty for as fast as it goes; a small number spares a gateway that has just come back.",
    )
    typed = forms.CharField(required=False, widget=forms.TextInput(attrs={"inputmode": "numeric"}))

    def __init__(self, *arguments: Any, shown: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.shown = shown
        if shown <= TYPED_ABOVE:
            del self.fields["typed"]
        else:
            self.fields["typed"].label = f"These are many. Type their number, {shown}, to confirm"

    def clean_typed(self) -> str:
        """The number, as shown."""
        typed: str = self.cleaned_data["typed"]
        if typed.strip() != str(self.shown):
            raise forms.ValidationError(f"Type {self.shown}, the number of letters, to confirm.")
        return typed


def preview_page(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """GET shows what would happen; POST decides. Only for those who may."""
    if not request.user.has_perm(MAY_RESOLVE):
        raise PermissionDenied
    if request.method != "POST":
        return show(request, site, Proposal.asked(request.GET))
    try:
        proposal = Proposal.signed(request.POST.get("proposal", ""))
    except signing.BadSignature:
        messages.error(request, "That preview is too old to decide on. Nothing was done; please look again.")
        return redirect(LIST)
    form = DecisionForm(request.POST, shown=proposal.shown)
    if proposal.selection.free().count() > proposal.shown or not form.is_valid():
        return show(request, site, proposal, form)
    return carry_out(request, site, proposal, form)


def carry_out(request: HttpRequest, site: AdminSite, proposal: Proposal, form: DecisionForm) -> HttpResponse:
    """Decide, and go to where its progress shows."""
    try:
        outcome = decide_and_begin(
            proposal.selection,
            proposal.action,
            reason=form.cleaned_data["reason"],
            rate=form.cleaned_data["rate"],
            who=by(request),
        )
    except NothingToResolve:
        messages.warning(
            request,
            "Nothing more was done: none of these letters is open any more, or a resolution has them in hand, "
            "perhaps by a first click of your own.",
        )
        return redirect(LIST)
    except IdempotencyKeyInUse:
        messages.warning(request, "Nothing was done: another decision is being made this very moment. Try again.")
        return show(request, site, proposal, form)
    if isinstance(outcome, Approval):
        messages.info(request, "Asked for: nothing is sent before another person approves it.")
        return redirect("admin:merchants_approval_change", outcome.pk)
    return redirect("admin:messaging_resolution_change", outcome.pk)


def show(request: HttpRequest, site: AdminSite, proposal: Proposal, form: DecisionForm | None = None) -> HttpResponse:
    """The page. After a change of the number of letters the form starts anew: what was typed was for another one."""
    found = previews.preview(proposal.selection)
    if form is not None and found.total != proposal.shown:
        messages.warning(
            request,
            f"Nothing was done yet: these were {letters(proposal.shown)} when you looked, now they are {found.total}.",
        )
        form = DecisionForm(initial={name: form.data.get(name) for name in ("reason", "rate")}, shown=found.total)
    proposal = replace(proposal, selection=proposal.selection.upto(found.last), shown=found.total)
    replays = proposal.action == Resolution.Action.REPLAY
    context = {
        **site.each_context(request),
        "title": f"{proposal.action.label} {letters(found.total)}?",
        "opts": DeadLetter._meta,  # noqa: SLF001  # its public name in Django's documentation
        "form": form or DecisionForm(shown=found.total),
        "proposal": proposal,
        "preview": found,
        "rows": rows_of(proposal.action, found),
        "notes": sorted(found.notes.items()),
        "chosen": in_words(proposal.selection),
        "needs_another": replays and needs_another(stake_of(found), by(request)),
    }
    return TemplateResponse(request, "admin/messaging/deadletter/preview.html", context)


def rows_of(action: Resolution.Action, found: Preview) -> list[tuple[str, int, str]]:
    """What would become of the letters: words, number, and the money at stake."""
    goes, settled, blocked = (found.count(verdict) for verdict in (Verdict.GOES, Verdict.SETTLED, Verdict.BLOCKED))
    sums = ", ".join(f"{amount} {currency}" for currency, amount in sums_of(found).items()) or "none known"
    if action == Resolution.Action.DISCARD:
        return [
            ("are closed, though a replay could still help", goes, sums),
            ("are closed, and are settled already", settled, ""),
            ("are closed, and a replay would be blocked", blocked, ""),
        ]
    return [
        ("are sent out again", goes, sums),
        ("are settled already: closed, nothing is sent", settled, ""),
        ("are blocked: stay open", blocked, ""),
    ]


def in_words(selection: Selection) -> str:
    """Which letters, for people."""
    if selection.ids is not None:
        return "Chosen one by one."
    parts = [
        f"{name} {value}" for name in ("queue", "actor", "cause", "subject") if (value := getattr(selection, name))
    ]
    if selection.since:
        parts.append(f"last failed since {selection.since:%Y-%m-%d %H:%M:%S} UTC")
    if selection.before:
        parts.append(f"last failed before {selection.before:%Y-%m-%d %H:%M:%S} UTC")
    return f"All open letters with {', '.join(parts)}." if parts else "All open letters."


def letters(count: int) -> str:
    """So many letters."""
    return f"{count} dead letter{'' if count == 1 else 's'}"
