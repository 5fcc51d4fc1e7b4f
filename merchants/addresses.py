"""From where a request came, as far as it can be believed."""

from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str | None:
    """The IP address of the client; None where there is none, as on a Unix socket.

    Each of our `TRUSTED_PROXIES` proxies has added one entry to X-Forwarded-For; whatever stands before those was
    written by the client itself, and is not believed.
    """
    trusted = settings.TRUSTED_PROXIES
    entries = [entry.strip() for entry in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    found = entries[-trusted] if trusted and len(entries) >= trusted else request.META.get("REMOTE_ADDR", "")
    try:
        address = ip_address(found)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
