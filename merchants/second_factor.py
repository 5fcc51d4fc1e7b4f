"""The second factor of people: an authenticator app's codes (RFC 6238), and recovery codes for when it is lost.

django-otp keeps the devices, counts wrong codes and makes whoever gives them wait longer each time.
"""

import base64
import hashlib
import re
import secrets
from math import ceil
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from merchants import audit
from merchants.audit import Who
from merchants.models import User

#: Recovery codes that a person gets at a time.
CODES: Final = 10
#: What an authenticator app shows; everything else is looked for among the recovery codes.
APP_CODE: Final = re.compile(r"[0-9]{6}")
#: What people type between the parts of a code.
BETWEEN: Final = re.compile(r"[\s-]+")


def device_of(user: User) -> TOTPDevice | None:
    """The person's authenticator app, once it has shown that it works."""
    found: TOTPDevice | None = TOTPDevice.objects.filter(user=user, confirmed=True).first()
    return found


def verify(*, user: User, code: str) -> Device | None:
    """What took the code, which it never takes again; None: it is wrong, was used, or comes too soon after wrong ones.

    Must be in no transaction that is rolled back when a code is wrong: the count of wrong ones would be lost.
    """
    typed = BETWEEN.sub("", code).lower()
    with transaction.atomic():
        if APP_CODE.fullmatch(typed):
            return _taken_by(TOTPDevice.objects.filter(user=user, confirmed=True), typed)
        return _taken_by(StaticDevice.objects.filter(user=user, confirmed=True), digest(typed))


def _taken_by(devices: Any, token: str) -> Device | None:
    """The first device, locked: of two that bring the same code at the same time one comes too late."""
    device: Any = devices.select_for_update().order_by("pk").first()
    return device if device is not None and device.verify_token(token) else None


def seconds_to_wait(user: User) -> int:
    """How long no code of the person is looked at, because of wrong ones."""
    devices = [*TOTPDevice.objects.filter(user=user), *StaticDevice.objects.filter(user=user)]
    ends = [why["locked_until"] for _, why in (device.verify_is_allowed() for device in devices) if why]
    return max((ceil((end - timezone.now()).total_seconds()) for end in ends), default=0)


def begin(*, user: User, pending: int | None) -> TOTPDevice:
    """A device to set up. `pending` is the one that this same session has begun, and only then it goes on with it:
    whoever has seen the secret in another session must not come to know the one that will hold.
    """
    drafts = TOTPDevice.objects.filter(user=user, confirmed=False)
    found: TOTPDevice | None = drafts.filter(pk=pending).first()
    if found is not None:
        return found
    with transaction.atomic():
        drafts.delete()
        made: TOTPDevice = TOTPDevice.objects.create(user=user, name="app", confirmed=False)
    return made


@transaction.atomic
def set_up(*, user: User, device: TOTPDevice, code: str, who: Who) -> list[str] | None:
    """Take the device instead of all before it, if the code is its own; returns new recovery codes."""
    User.objects.select_for_update().get(pk=user.pk)
    draft = TOTPDevice.objects.select_for_update().filter(pk=device.pk, user=user, confirmed=False).first()
    if draft is None or not draft.verify_token(BETWEEN.sub("", code)):
        return None
    replaced, _ = TOTPDevice.objects.filter(user=user, confirmed=True).delete()
    draft.confirmed = True
    draft.save(update_fields=["confirmed"])
    audit.record(who, "second_factor.set_up", subject=f"user:{user.pk}", after={"replaced": bool(replaced)})
    return _make_codes(user)


@transaction.atomic
def renew_codes(*, user: User, who: Who) -> list[str]:
    """New recovery codes; the old ones end."""
    audit.record(who, "second_factor.recovery_codes", subject=f"user:{user.pk}")
    return _make_codes(user)


@transaction.atomic
def reset(*, user: User, who: Who, reason: str) -> bool:
    """Forget the person's devices and codes, who sets up new ones at the next login; whether there were any."""
    devices, _ = TOTPDevice.objects.filter(user=user).delete()
    codes, _ = StaticDevice.objects.filter(user=user).delete()
    if devices or codes:
        audit.record(who, "second_factor.reset", subject=f"user:{user.pk}", reason=reason)
    return bool(devices or codes)


def _make_codes(user: User) -> list[str]:
    """Of 80 random bits each; only what cannot be turned back into them is kept."""
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name="recovery codes", confirmed=True)
    codes = [base64.b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(CODES)]
    StaticToken.objects.bulk_create([StaticToken(device=device, token=digest(code)) for code in codes])
    return ["-".join(re.findall("....", code)) for code in codes]


def digest(code: str) -> str:
    """As many digits of its SHA-256 as the column holds; a slower hash would guard no better what is this random."""
    return hashlib.sha256(code.encode()).hexdigest()[:16]
