"""Addresses as support may see them: enough to recognise one, too little to write to it."""

from urllib.parse import urlsplit

from notifications.models import Channel

#: Stands for what is left out.
GAP = "…"


def mask(channel: str, recipient: str) -> str:
    """A recipient of a channel, masked."""
    if channel == Channel.WEBHOOK:
        return mask_url(recipient)
    return mask_email(recipient) if channel == Channel.EMAIL else mask_phone(recipient)


def mask_email(address: str) -> str:
    """`m…@e….com`: the first letters, and the last label of the domain."""
    local, _, domain = address.rpartition("@")
    name, _, last = domain.rpartition(".")
    return f"{local[:1]}{GAP}@{name[:1]}{GAP}.{last}" if local and name else GAP


def mask_phone(number: str) -> str:
    """`+49…789`: where it is from, and its end."""
    return f"{number[:3]}{GAP}{number[-3:]}" if len(number) > 8 else GAP


def mask_url(url: str) -> str:
    """Without the values of its query, and without who signs in: receivers keep secrets there."""
    parts = urlsplit(url)
    names = [pair.partition("=")[0] for pair in parts.query.split("&") if pair]
    query = "?" + "&".join(f"{name}={GAP}" for name in names) if names else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"
