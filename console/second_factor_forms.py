"""The forms of the second factor, and the picture that an authenticator app reads."""

import base64
from typing import Any

from django import forms
from django.utils.safestring import SafeString, mark_safe
from django_otp.plugins.otp_totp.models import TOTPDevice
from qrcode.image.svg import SvgPathImage
from qrcode.main import QRCode

from merchants import second_factor
from merchants.models import User
from merchants.reasons import ReasonField, ReasonForm


def code_field(**attributes: Any) -> forms.CharField:
    """Where a code is typed."""
    # No `inputmode="numeric"`: a phone could not type a recovery code then.
    return forms.CharField(
        label="Code",
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "spellcheck": "false", **attributes}),
        help_text="Six digits from your authenticator app, or one of your recovery codes.",
        error_messages={"required": "Type a code."},
    )


def refusal(user: User) -> str:
    """Why a code was not taken, and what helps."""
    seconds = second_factor.seconds_to_wait(user)
    wait = f" Wait {seconds} second{'' if seconds == 1 else 's'} first, because of wrong ones." if seconds else ""
    return f"That code was not taken: it is wrong, or was used before. Type the next one.{wait}"


class CodeForm(forms.Form):
    """A code of the device that holds. Whoever has only stolen a session has none."""

    required_css_class = "required"

    code = code_field(autofocus=True)

    def __init__(self, *arguments: Any, user: User, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.user = user

    def clean_code(self) -> Any:
        """What took it."""
        device = second_factor.verify(user=self.user, code=self.cleaned_data["code"])
        if device is None:
            raise forms.ValidationError(refusal(self.user))
        return device


class SetUpForm(forms.Form):
    """The first code of a new device."""

    required_css_class = "required"

    code = forms.CharField(
        label="Code that the app shows",
        max_length=10,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
        error_messages={"required": "Type the six digits that the app shows."},
    )


class ResetForm(ReasonForm):
    """Why somebody's devices are forgotten."""

    reason = ReasonField(
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60}),
        help_text="How you know that it is this person who asks. Kept with your name in the audit.",
    )


def picture_of(device: TOTPDevice) -> SafeString:
    """A QR code as SVG for the page itself: the secret must be in no address and no cache."""
    code: Any = QRCode(image_factory=SvgPathImage)
    code.add_data(device.config_url)
    drawing: str = code.make_image().to_string(encoding="unicode")
    return mark_safe(drawing)  # noqa: S308  # squares, whatever is in the URL  # nosec B308 B703


def secret_of(device: TOTPDevice) -> str:
    """For who cannot scan, in groups of four."""
    text = base64.b32encode(device.bin_key).decode()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))
