"""Staff for the tests of the console: people, their authenticator apps, and browsers that are logged in."""

import time

from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from merchants.models import User

PASSWORD = "a password of the tests"


def person(name="ada", **fields):
    """Somebody of the platform's staff."""
    return User.objects.create_user(name, password=PASSWORD, **{"is_staff": True, "is_superuser": True, **fields})


def app_of(user):
    """An authenticator app that is set up."""
    return TOTPDevice.objects.create(user=user, name="app", confirmed=True)


def code_of(device):
    """What the app shows now."""
    return f"{totp(device.bin_key, t0=0, step=30):06d}"


def wrong_code_of(device):
    """What it shows at no time near this one."""
    near = {totp(device.bin_key, step=30, drift=drift) for drift in range(-3, 4)}
    return f"{next(code for code in range(10) if code not in near):06d}"


def browser(user):
    """A browser in which the password was typed a moment ago."""
    client = Client()
    answer = client.post("/admin/login/", {"username": user.username, "password": PASSWORD, "next": "/admin/"})
    assert answer.status_code == 302, answer.content.decode()
    return client


def age(client, key, seconds):
    """Let a time in the session be so long ago."""
    session = client.session
    session[key] = time.time() - seconds
    session.save()
