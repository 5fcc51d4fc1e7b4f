"""The pages of the second factor: type a code, set a device up or replace it, new recovery codes, a reset."""

import time
from typing import Any, Final

import django_otp
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.debug import sensitive_post_parameters
from django_otp.models import Device

from console.doorway import for_staff, go_on, next_of, show
from console.guard import HAD_DEVICE, lacks_code
from console.second_factor_forms import CodeForm, ResetForm, SetUpForm, picture_of, refusal, secret_of
from merchants import audit, second_factor
from merchants.confirmation import ask, confirmed, is_confirmed
from merchants.models import User

#: The keys in the session: the device that it is setting up, and when it showed a code of the one to be replaced.
PENDING: Final = "second_factor_pending"
REPLACING: Final = "second_factor_replacing"


@sensitive_post_parameters("code")
@for_staff
def code_page(request: HttpRequest) -> HttpResponse:
    """Asks staff with a device for a code, before anything else."""
    user: Any = request.user
    if not lacks_code(request, has_device=second_factor.device_of(user) is not None):
        return go_on(request)
    form = CodeForm(request.POST or None, user=user)
    if request.method == "POST" and form.is_valid():
        let_in(request, form.cleaned_data["code"])
        return go_on(request)
    return show(request, "code.html", let_in=False, title="Your code", form=form, next=next_of(request))


@sensitive_post_parameters("code")
@for_staff
def set_up_page(request: HttpRequest) -> HttpResponse:
    """Sets up a device: the first one, or one instead of the one that holds, of which a code is asked first."""
    user: Any = request.user
    has_device = second_factor.device_of(user) is not None
    if lacks_code(request, has_device=has_device):
        return redirect(f"{reverse('admin:second_factor_code')}?{urlencode({'next': request.get_full_path()})}")
    if not is_confirmed(request):
        return ask(request)
    if has_device and not may_replace(request):
        return ask_for_old_code(request, user)
    device = second_factor.begin(user=user, pending=request.session.get(PENDING))
    request.session[PENDING] = device.pk
    form = SetUpForm(request.POST if "set_up" in request.POST else None)
    if form.is_bound and form.is_valid():
        code = form.cleaned_data["code"]
        codes = second_factor.set_up(user=user, device=device, code=code, who=audit.by(request))
        if codes is not None:
            return set_up_done(request, device, codes)
        form.add_error("code", refusal(user))
    secret = {"picture": picture_of(device), "secret": secret_of(device)}
    return show(
        request,
        "set_up.html",
        let_in=has_device or not settings.ADMIN_SECOND_FACTOR,
        title="Set up a second factor",
        form=form,
        next=next_of(request),
        **secret,
    )


def may_replace(request: HttpRequest) -> bool:
    """Whether a code of the device that holds was shown lately, for this very purpose."""
    at = request.session.get(REPLACING)
    return isinstance(at, float) and 0 <= time.time() - at < settings.ADMIN_CONFIRM_EVERY


def ask_for_old_code(request: HttpRequest, user: User) -> HttpResponse:
    """Before a device is replaced; the answer to the right code begins with the new one."""
    form = CodeForm(request.POST or None, user=user)
    if request.method == "POST" and form.is_valid():
        request.session[REPLACING] = time.time()
        return redirect("admin:second_factor")
    return show(request, "replace.html", let_in=True, title="Replace your authenticator app", form=form)


def set_up_done(request: HttpRequest, device: Device, codes: list[str]) -> HttpResponse:
    """Let its owner in, and show the recovery codes: the answer to the POST is the only page that has them."""
    device.confirmed = True
    let_in(request, device)
    for name in (PENDING, REPLACING):
        request.session.pop(name, None)
    return show_codes(request, codes)


def let_in(request: HttpRequest, device: Device) -> None:
    """From now on the session is one with a second factor, under a new key: the old one may be known to others."""
    request.session.cycle_key()
    django_otp.login(request, device)  # type: ignore[no-untyped-call]  # django-otp has no types
    request.session[HAD_DEVICE] = True


@confirmed
@sensitive_post_parameters("code")
def recovery_codes_page(request: HttpRequest) -> HttpResponse:
    """Makes new recovery codes, for a code of the app."""
    user: Any = request.user
    if second_factor.device_of(user) is None:
        return redirect("admin:second_factor")
    form = CodeForm(request.POST or None, user=user)
    if request.method == "POST" and form.is_valid():
        return show_codes(request, second_factor.renew_codes(user=user, who=audit.by(request)))
    return show(request, "renew_codes.html", let_in=True, title="New recovery codes", form=form)


def show_codes(request: HttpRequest, codes: list[str]) -> HttpResponse:
    """Once."""
    return show(request, "codes.html", let_in=True, title="Your recovery codes", codes=codes, next=next_of(request))


@confirmed
def reset_page(request: HttpRequest, user_id: int) -> HttpResponse:
    """For superusers: forget the devices of somebody who has lost them all."""
    if not request.user.is_superuser:
        raise PermissionDenied
    person = get_object_or_404(User, pk=user_id)
    form = ResetForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        done = second_factor.reset(user=person, who=audit.by(request), reason=form.cleaned_data["reason"])
        words = "Reset: a new one is set up at the next login." if done else "There was nothing to reset."
        messages.success(request, words)
        return redirect("admin:merchants_user_change", person.pk)
    return show(request, "reset.html", let_in=True, title="Reset the second factor?", form=form, person=person)
