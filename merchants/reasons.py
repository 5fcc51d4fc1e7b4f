"""Why: what staff do is a form that asks for it, and nothing is done without an answer."""

from typing import Any, Final

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ActionForm
from django.http import HttpRequest

from merchants.audit import LONGEST_REASON

MISSING: Final = "Nothing was done. Say why: whoever looks at this later will want to know."


class ReasonField(forms.CharField):
    """A few ordinary words, in one line."""

    def __init__(self, **options: Any) -> None:
        given = {"max_length": LONGEST_REASON, "help_text": "Kept with your name in the audit.", **options}
        super().__init__(**given)
        self.error_messages["required"] = "Say why: whoever looks at this later will want to know."

    def clean(self, value: Any) -> str:
        """The words; a full stop or a dash says nothing."""
        text = " ".join(str(super().clean(value)).split())
        if text and not any(sign.isalnum() for sign in text):
            raise forms.ValidationError(self.error_messages["required"], code="required")
        return text


class ReasonForm(forms.Form):
    """A button's form: nothing but why."""

    required_css_class = "required"

    reason = ReasonField(widget=forms.Textarea(attrs={"rows": 2, "cols": 60}))


class ActionWithReason(ActionForm):
    """The form of the actions above a list. Those that only lead to another page leave the reason empty."""

    reason = ReasonField(required=False, label="Reason:", widget=forms.TextInput(attrs={"size": 40}))


def reason_in(request: HttpRequest) -> str | None:
    """The reason that was sent; without a good one None, and its person is told so."""
    form = ReasonForm(request.POST)
    if form.is_valid():
        return str(form.cleaned_data["reason"])
    too_long = form.has_error("reason", "max_length")
    told = f"Nothing was done. A reason has at most {LONGEST_REASON} characters." if too_long else MISSING
    messages.error(request, told)
    return None
