"""What support does with a webhook endpoint: each page calls one operation, and the admin's log keeps who did it.

They stand beside Django's own pages of a form, which are one transaction from beginning to end: ours end with the
operation, so that a secret is only ever shown when it holds.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from merchants.audit import by
from merchants.confirmation import confirmed
from merchants.reasons import reason_in
from notifications import endpoints, redelivery
from notifications.admin.endpoint_forms import EndpointForm, RedeliverSinceForm
from notifications.errors import EndpointDeleted, EndpointDisabled, EndpointExists, TooManyEndpoints
from notifications.masking import mask
from notifications.models import Delivery, WebhookEndpoint

MAY_MANAGE: Final = "notifications.manage_webhookendpoint"
FOLDER: Final = "admin/notifications/webhookendpoint"
#: What is proposed where no outage tells since when.
A_DAY: Final = timedelta(days=1)

#: A page of one endpoint: the request, the endpoint, and the admin class that it belongs to.
Page = Callable[[HttpRequest, WebhookEndpoint, Any], HttpResponse]


def may_manage(request: HttpRequest) -> bool:
    """Who may create and change endpoints."""
    return request.user.has_perm(MAY_MANAGE)


def page_of(view: Page, model_admin: Any) -> Callable[..., HttpResponse]:
    """A page as the admin's addresses want it: only for those who may, and of an endpoint that is there."""

    def page(request: HttpRequest, endpoint_id: UUID) -> HttpResponse:
        if not may_manage(request):
            raise PermissionDenied
        endpoint = get_object_or_404(WebhookEndpoint, pk=endpoint_id, deleted_at=None)
        try:
            return view(request, endpoint, model_admin)
        except EndpointDeleted as refusal:  # by its merchant, a moment ago
            messages.warning(request, str(refusal.__doc__))
            return back_to(endpoint)

    return page


@never_cache
@confirmed
def create(request: HttpRequest, model_admin: Any) -> HttpResponse:
    """The form of a new endpoint; then its secret."""
    if not may_manage(request):
        raise PermissionDenied
    form = EndpointForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            endpoint, secret = endpoints.create(who=by(request), **form.cleaned_data)
        except (EndpointExists, TooManyEndpoints) as refusal:
            form.add_error(None, refusal.detail)
        else:
            return show_secret(request, endpoint, model_admin, secret=secret, title="Webhook endpoint created")
    context = {"title": "Add webhook endpoint", "form": form}
    return show(request, model_admin, "form.html", {**context, "button": "Create endpoint"})


@never_cache
def rotate(request: HttpRequest, endpoint: WebhookEndpoint, model_admin: Any) -> HttpResponse:
    """GET asks; POST makes a new secret and shows it."""
    if request.method != "POST" or (reason := reason_in(request)) is None:
        return show(request, model_admin, "rotate.html", {"title": "Rotate the secret?", "endpoint": endpoint})
    rotated, secret = endpoints.rotate(endpoint=endpoint, now=timezone.now(), who=by(request), reason=reason)
    return show_secret(request, rotated, model_admin, secret=secret, title="Secret rotated")


@never_cache
def disable(request: HttpRequest, endpoint: WebhookEndpoint, model_admin: Any) -> HttpResponse:
    """GET asks, and says what would be canceled; POST disables."""
    if request.method != "POST" or (reason := reason_in(request)) is None:
        waiting = Delivery.objects.filter(endpoint=endpoint, state=Delivery.State.PENDING).count()
        context = {"title": "Disable this endpoint?", "endpoint": endpoint, "waiting": waiting}
        return show(request, model_admin, "disable.html", context)
    endpoints.change(endpoint=endpoint, enabled=False, by="support", now=timezone.now(), who=by(request), reason=reason)
    messages.success(request, "Disabled: nothing more is sent to it.")
    return back_to(endpoint)


@require_POST
def enable(request: HttpRequest, endpoint: WebhookEndpoint, model_admin: Any) -> HttpResponse:
    """Call it again from now on."""
    if (reason := reason_in(request)) is None:
        return back_to(endpoint)
    missed_since = endpoint.failing_since or endpoint.disabled_at or timezone.now()
    endpoints.change(endpoint=endpoint, enabled=True, now=timezone.now(), who=by(request), reason=reason)
    words = f"Enabled. What it missed since {missed_since:%Y-%m-%d %H:%M} UTC can be redelivered: `Redeliver since…`."
    messages.success(request, words)
    return back_to(endpoint)


@require_POST
def test(request: HttpRequest, endpoint: WebhookEndpoint, model_admin: Any) -> HttpResponse:
    """Send it an event about nothing; then to where its story is told."""
    try:
        delivery = endpoints.send_test(
            endpoint=endpoint, request_id=request.META["HTTP_X_REQUEST_ID"], now=timezone.now(), who=by(request)
        )
    except EndpointDisabled as refusal:
        messages.warning(request, refusal.detail)
        return back_to(endpoint)
    messages.success(request, "A test event is on its way. Load this page again to see what came of it.")
    return redirect("admin:notifications_delivery_change", delivery.pk)


@never_cache
def redeliver(request: HttpRequest, endpoint: WebhookEndpoint, model_admin: Any) -> HttpResponse:
    """The form that asks since when; POST begins them anew and says how many."""
    proposed = endpoint.failing_since or timezone.now() - A_DAY
    form = RedeliverSinceForm(request.POST or None, initial={"since": proposed})
    if request.method == "POST" and form.is_valid():
        try:
            count = redelivery.redeliver_since(
                endpoint=endpoint, now=timezone.now(), who=by(request), **form.cleaned_data
            )
        except EndpointDisabled as refusal:
            messages.warning(request, refusal.detail)
            return back_to(endpoint)
        since = f"{form.cleaned_data['since']:%Y-%m-%d %H:%M} UTC"
        messages.success(request, f"Begun anew: {count} deliveries since {since}. They go out in their order.")
        return back_to(endpoint)
    context = {"title": "Redeliver since…", "endpoint": endpoint, "form": form, "button": "Redeliver"}
    return show(request, model_admin, "form.html", context)


#: The last part of an address -> its page.
PAGES: Final[Mapping[str, Page]] = {
    "rotate": rotate,
    "disable": disable,
    "enable": enable,
    "test": test,
    "redeliver": redeliver,
}


def show_secret(
    request: HttpRequest, endpoint: WebhookEndpoint, model_admin: Any, *, secret: str, title: str
) -> HttpResponse:
    """The only page that ever has it: the answer to the POST itself, which nobody may keep."""
    return show(request, model_admin, "secret.html", {"title": title, "endpoint": endpoint, "secret": secret})


def show(request: HttpRequest, model_admin: Any, template: str, context: dict[str, Any]) -> HttpResponse:
    """A page of the admin's about an endpoint."""
    whole = {**model_admin.admin_site.each_context(request), "opts": model_admin.opts, **context}
    if endpoint := context.get("endpoint"):
        whole["address"] = mask("webhook", endpoint.url)
    return TemplateResponse(request, f"{FOLDER}/{template}", whole)


def back_to(endpoint: WebhookEndpoint) -> HttpResponse:
    """To the endpoint's page."""
    return redirect("admin:notifications_webhookendpoint_change", endpoint.pk)
