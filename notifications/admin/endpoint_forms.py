"""What support fills in about webhook endpoints."""

from typing import Any, Final

from django import forms
from django.conf import settings

from merchants.models import Merchant, Mode
from merchants.reasons import ReasonField
from notifications.models import MAX_URL, WebhookEndpoint
from notifications.webhooks.targets import TargetRefused, check_url, origin_of
from payments.events import EVENT_TYPES

UNKNOWN_MERCHANT: Final = "No merchant has this slug."


class EndpointForm(forms.Form):
    """A new endpoint."""

    required_css_class = "required"

    merchant = forms.ModelChoiceField(
        Merchant.objects.all(),
        to_field_name="slug",
        widget=forms.TextInput,
        help_text="The merchant's slug, as in the list of merchants.",
        error_messages={"invalid_choice": UNKNOWN_MERCHANT},
    )
    mode = forms.ChoiceField(choices=Mode.choices, help_text="Events of this mode alone are sent to it.")
    kind = forms.ChoiceField(
        choices=[
            (WebhookEndpoint.Kind.REGISTERED.value, "Registered: told of all events that it wants"),
            (WebhookEndpoint.Kind.PAYMENT.value, "Payment: the origin of payments' own webhook_url, told of theirs"),
        ],
        help_text="Nearly always the first; the second is made by itself when a payment names a webhook_url.",
    )
    url = forms.CharField(
        max_length=MAX_URL,
        label="URL",
        widget=forms.TextInput(attrs={"inputmode": "url", "class": "console-wide"}),
        help_text="Where it is called. Of the second kind the origin alone: https://host.",
    )
    event_types = forms.MultipleChoiceField(
        choices=[(name, name) for name in EVENT_TYPES],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Which events it wants. None chosen: all.",
    )
    description = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"class": "console-wide"}),
        help_text="For people: what it is for.",
    )
    reason = ReasonField(widget=forms.TextInput(attrs={"class": "console-wide"}))

    def clean_url(self) -> str:
        """One that may be called."""
        url: str = self.cleaned_data["url"]
        try:
            check_url(url, private=settings.WEBHOOK_PRIVATE_TARGETS)
        except TargetRefused as refusal:
            raise forms.ValidationError(str(refusal)) from None
        return url

    def clean(self) -> dict[str, Any]:
        """An endpoint of payments is found by its origin, so it must be written as one."""
        given: dict[str, Any] = super().clean() or self.cleaned_data
        url = given.get("url")
        if url and given.get("kind") == WebhookEndpoint.Kind.PAYMENT and url != (origin := origin_of(url)):
            self.add_error("url", f"Of this kind it is the origin alone: {origin}")
        return given


class RedeliverSinceForm(forms.Form):
    """What is told once more."""

    required_css_class = "required"

    since = forms.DateTimeField(
        label="Since (UTC)",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text="Deliveries created at this time or later.",
        error_messages={"invalid": "Write it as 2026-01-31T14:00."},
    )
    everything = forms.BooleanField(
        required=False,
        label="Also what was delivered",
        help_text="Otherwise only what failed or was canceled. What is delivered twice has the same event id.",
    )
    reason = ReasonField(widget=forms.TextInput(attrs={"class": "console-wide"}))
