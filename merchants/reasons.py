"""Why: the forms and commands of staff ask for it, and nothing is done without an answer."""

from typing import Any, Final

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ActionForm
from django.core.management.base import CommandError
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


def reason_of(text: str, *, longest: int = LONGEST_REASON, required: bool = True) -> str:
    """What a command was given as `--reason`, by the rules of the forms.

    Raises:
        CommandError: it says nothing, or too much.
    """
    try:
        return ReasonField(max_length=longest, required=required).clean(text)
    except forms.ValidationError:
        told = f"--reason takes 1 to {longest} characters: say why, for those who ask later. Nothing was done."
        raise CommandError(told) from None


def reason_in(request: HttpRequest) -> str | None:
    """The reason that was sent; without a good one None, and its person is told so."""
    form = ReasonForm(request.POST)
    if form.is_valid():
        return str(form.cleaned_data["reason"])
    too_long = form.has_error("reason", "max_length")
    told = f"Nothing was done. A reason has at most {LONGEST_REASON} characters." if too_long else MISSING
    messages.error(request, told)
    return None
