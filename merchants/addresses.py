"""From where a request came, as far as it can be believed."""

from ipaddress import ip_address, ip_network
from typing import Final

from django.conf import settings
from django.http import HttpRequest

#: The part of an IPv6 address that a customer of a provider is given; all of it counts as one (RFC 6177).
IPV6_PREFIX: Final = 64


def client_address(request: HttpRequest) -> str | None:
    """The IP address of the client; None where there is none, as on a Unix socket.

    Each of our `TRUSTED_PROXIES` proxies has added one entry to X-Forwarded-For; whatever stands before those was
    written by the client itself, and is not believed.
    """
    trusted = settings.TRUSTED_PROXIES
    entries = [entry.strip() for entry in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    found = entries[-trusted] if trusted and len(entries) >= trusted else request.META.get("REMOTE_ADDR", "")
    # Some proxies write the port as well: 192.0.2.1:4711, [2001:db8::1]:4711.
    if found.startswith("["):
        found = found[1:].partition("]")[0]
    elif found.count(":") == 1:
        found = found.partition(":")[0]
    try:
        address = ip_address(found)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def client_network(request: HttpRequest) -> str:
    """Who is counted where nobody has shown who they are: the address, or the network of one of IPv6."""
    address = client_address(request)
    if address is None or ":" not in address:
        return address or "unknown"
    return str(ip_network(f"{address.partition('%')[0]}/{IPV6_PREFIX}", strict=False))
