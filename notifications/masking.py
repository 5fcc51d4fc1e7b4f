"""Addresses as they are shown: enough to recognise one's own, too little to write to somebody else's."""

from typing import Final
from urllib.parse import urlsplit, urlunsplit

from notifications.models import Channel

HIDDEN: Final = "…"


def mask_email(address: str) -> str:
    """`max@example.com` as `m…@e….com`."""
    name, _, domain = address.rpartition("@")
    host, dot, end = domain.rpartition(".")
    return f"{name[:1]}{HIDDEN}@{host[:1]}{HIDDEN}{dot}{end if dot else ''}"


def mask_phone(number: str) -> str:
    """`+4915123456789` as `+49…789`."""
    import phonenumbers  # noqa: PLC0415  # 2 MB, and most processes show nobody a number

    try:
        code = f"+{phonenumbers.parse(number, None).country_code}"
    except phonenumbers.NumberParseException:
        return HIDDEN
    return f"{code}{HIDDEN}{number[-3:]}"


def mask_url(url: str) -> str:
    """`https://example.com/hook?token=1` as `https://example.com/hook?token=…`: receivers put secrets there."""
    parts = urlsplit(url)
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    # What has no name is a value.
    query = "&".join(f"{name}={HIDDEN}" if equals else HIDDEN for name, equals, _ in pairs)
    return urlunsplit(parts._replace(query=query))


def mask(channel: str, recipient: str) -> str:
    """The recipient of a channel."""
    masks = {Channel.EMAIL.value: mask_email, Channel.SMS.value: mask_phone, Channel.WEBHOOK.value: mask_url}
    return masks[channel](recipient)
