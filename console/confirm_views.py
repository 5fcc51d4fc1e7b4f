"""The page on which staff show once more who they are, before what moves money or changes whom we trust."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth import authenticate
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from console.doorway import next_of, show
from console.second_factor_forms import code_field, refusal
from merchants import second_factor
from merchants.confirmation import confirm
from merchants.models import User


class ConfirmForm(forms.Form):
    """The password, and a code where there is a second factor."""

    required_css_class = "required"

    password = forms.CharField(
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
        error_messages={"required": "Type your password."},
    )
    code = code_field()

    def __init__(self, *arguments: Any, request: HttpRequest, user: User, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.request, self.user = request, user
        if second_factor.device_of(user) is None:
            del self.fields["code"]

    @method_decorator(sensitive_variables())
    def clean(self) -> dict[str, Any]:
        """The password by the same way as at the login, where wrong ones are counted; then the code is used up."""
        given: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors:
            return given
        shown = authenticate(self.request, username=self.user.get_username(), password=given["password"])
        if shown is None or shown.pk != self.user.pk:
            self.add_error("password", "This is not your password. Too many wrong ones lock you out for a while.")
        elif "code" in self.fields and second_factor.verify(user=self.user, code=given["code"]) is None:
            self.add_error("code", refusal(self.user))
        return given


@never_cache
@sensitive_post_parameters("password", "code")
def confirm_page(request: HttpRequest) -> HttpResponse:
    """GET asks; POST with the right answers goes on to where the action begins."""
    user: Any = request.user  # staff, as the site has seen to
    form = ConfirmForm(request.POST or None, request=request, user=user)
    if request.method == "POST" and form.is_valid():
        confirm(request)
        return redirect(next_of(request))
    let_in = not settings.ADMIN_SECOND_FACTOR or "code" in form.fields
    return show(request, "confirm.html", let_in=let_in, title="Is it you?", form=form, next=next_of(request))
