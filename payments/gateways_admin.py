"""Gateways in the console: whether each may be called, how much waits for it, and the switch."""

from functools import partial
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.forms import Textarea
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString

from merchants.audit import by
from merchants.confirmation import confirmed
from merchants.reasons import ReasonField, ReasonForm
from messaging.look_only import LookOnly
from messaging.markup import badge
from payments import breaker
from payments.breaker import State
from payments.models import GatewayCircuit, Payment

MAY_PAUSE = "payments.pause_gateway"
#: State -> the badge; its colour only repeats the words.
BADGES = {State.IN_ORDER: "ok", State.PAUSED: "disabled", State.OPEN: "failed", State.HALF_OPEN: "failing"}


class PauseForm(ReasonForm):
    """Why: no longer than what the list has room for."""

    reason = ReasonField(
        max_length=200,
        widget=Textarea(attrs={"rows": 2, "cols": 60}),
        help_text="Whoever finds it paused reads this. Kept with your name in the audit.",
    )


@admin.register(GatewayCircuit)
class GatewayCircuitAdmin(LookOnly, admin.ModelAdmin[GatewayCircuit]):
    """All gateways: those that are configured, and those that once were and had trouble."""

    list_display = ("gateway", "state", "waiting", "pause_reason", "paused_by", "paused_at", "open_until", "closed_at")
    fields = (
        *("gateway", "state", "waiting", "paused_by", "paused_at", "pause_reason"),
        *("open_until", "openings", "probing_until", "closed_at"),
    )
    readonly_fields = ("state", "waiting")

    @admin.display(description="state")
    def state(self, circuit: GatewayCircuit) -> SafeString:
        """In words."""
        state = breaker.state_of(circuit, now=timezone.now())
        return badge(BADGES[state], state)

    @admin.display(description="payments that wait for it")
    def waiting(self, circuit: GatewayCircuit) -> int:
        """Of those few that are held, an index has all."""
        return Payment.objects.filter(gateway=circuit.pk, held_since__isnull=False).count()

    def get_urls(self) -> list[URLPattern]:
        """With the switch."""
        own = [
            path(
                f"<str:gateway>/{name}/",
                self.admin_site.admin_view(confirmed(partial(page, self))),
                name=f"payments_gatewaycircuit_{name}",
            )
            for name, page in (("pause", pause), ("resume", resume))
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """With a row for each gateway; one that says that nothing is wrong changes nothing."""
        known = [GatewayCircuit(gateway=name) for name in settings.GATEWAYS]
        GatewayCircuit.objects.bulk_create(known, ignore_conflicts=True)
        return super().changelist_view(request, {"title": "Gateways", **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One; with the button for those who may."""
        context = {"may_pause": request.user.has_perm(MAY_PAUSE)}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})


def pause(model_admin: GatewayCircuitAdmin, request: HttpRequest, gateway: str) -> HttpResponse:
    """GET asks why; POST lets no call through from then on."""
    circuit = to_switch(request, gateway)
    form = PauseForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        breaker.pause(circuit.pk, reason=form.cleaned_data["reason"], who=by(request))
        messages.success(request, "Paused: no call goes out any more. Payments are accepted, and wait.")
        return back_to(circuit)
    return ask(model_admin, request, circuit, form, pauses=True)


def resume(model_admin: GatewayCircuitAdmin, request: HttpRequest, gateway: str) -> HttpResponse:
    """GET asks why; POST lets calls through again."""
    circuit = to_switch(request, gateway)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if breaker.resume(circuit.pk, who=by(request), reason=form.cleaned_data["reason"]):
            messages.success(request, "Resumed: what waited goes out within seconds.")
        else:
            messages.warning(request, "It was not paused any more; nothing was done.")
        return back_to(circuit)
    return ask(model_admin, request, circuit, form, pauses=False)


def to_switch(request: HttpRequest, gateway: str) -> GatewayCircuit:
    """The gateway, for those who may."""
    if not request.user.has_perm(MAY_PAUSE):
        raise PermissionDenied
    return get_object_or_404(GatewayCircuit, pk=gateway)


def ask(
    model_admin: GatewayCircuitAdmin, request: HttpRequest, circuit: GatewayCircuit, form: ReasonForm, *, pauses: bool
) -> HttpResponse:
    """The page that asks why."""
    title = f"{'Pause' if pauses else 'Resume'} {circuit.pk}?"
    context = {"title": title, "circuit": circuit, "form": form, "pauses": pauses, "opts": model_admin.opts}
    context["waiting"] = model_admin.waiting(circuit)
    whole = {**model_admin.admin_site.each_context(request), **context}
    return TemplateResponse(request, "admin/payments/gatewaycircuit/switch.html", whole)


def back_to(circuit: GatewayCircuit) -> HttpResponse:
    """To the gateway's page."""
    return redirect("admin:payments_gatewaycircuit_change", circuit.pk)
