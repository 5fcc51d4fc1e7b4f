"""Which URLs may be called: asked when one is registered, and again before each call.

A URL is read once, strictly, and what was read is what is called: no second parser can see another host in it.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from django.utils.translation import gettext_noop as _

from notifications.models import MAX_URL
from notifications.webhooks.addresses import is_public

#: The characters of RFC 3986; of these `[` and `]` stand around IPv6 addresses and in queries.
CHARACTERS: Final = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+\Z")
PARTS: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?]+)(?P<path>/[^?]*)?(?P<query>\?.*)?\Z"
)
AUTHORITY: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>[1-9][0-9]{0,4}))?\Z")
#: One label of a host name (RFC 1123, section 2.1).
LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
MAX_NAME: Final = 253
#: A last label that makes some readers take the whole for an IPv4 address: 2130706433, 0x7f.1, 127.0x1.
NUMERIC: Final = re.compile(r"([0-9]+|0x[0-9a-f]*)\Z")
#: Names that mean something on the own machine or network only (RFC 6761, 6762, 8375, and ICANN's `internal`).
LOCAL_NAMES: Final = ("localhost", "localdomain", "local", "internal", "home.arpa")
DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class TargetRefused(ValueError):
    """The URL is not one to call. `code` is for programs, `sentence` says the mend."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


#: The same words whatever the address is: they must not tell a stranger what our network looks like.
NOT_PUBLIC: Final = ("url_not_public", _("Its host is not on the public internet: use a public host name."))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL in its parts. `host` is in lower case and, if an IPv6 address, without brackets."""

    scheme: str
    host: str
    port: int
    path: str
    literal: bool

    @property
    def authority(self) -> str:
        """The host, and the port where it is not the usual one: the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port, as one writes them."""
        return f"{self.scheme}://{self.authority}"


def check_url(url: str, *, private: bool) -> None:
    """Refuse a URL that is not one to call. `private`: whether it may lead into our own network, and without TLS.

    What a host name stands for is not asked here: it may change at any time, and is checked at each call.

    Raises:
        TargetRefused: with the mend.
    """
    read_target(url, private=private)


def origin_of(url: str) -> str:
    """The URL's `https://host[:port]`, in lower case and without the usual port. Raises TargetRefused."""
    return read_target(url, private=True).origin


def read_target(url: str, *, private: bool) -> Target:
    """The URL in its parts, all of them checked. Raises TargetRefused."""
    parts = split(url)
    scheme = parts["scheme"].lower()
    if scheme != "https" and not (private and scheme == "http"):
        raise TargetRefused("url_scheme", "It must begin with https://.")
    host, port = split_authority(parts["authority"])
    if port not in {None, 443} and not private:
        raise TargetRefused("url_port", "Only port 443 is called: leave the port out.")
    if port is not None and port > 65535:
        raise TargetRefused("url_port", "There is no such port.")
    literal = read_literal(host)
    if not private:
        refuse_private(host, literal)
    return Target(
        scheme=scheme,
        host=host if literal is None else str(literal),
        port=port or DEFAULT_PORTS[scheme],
        path=(parts["path"] or "/") + (parts["query"] or ""),
        literal=literal is not None,
    )


def split(url: str) -> re.Match[str]:
    """Scheme, authority, path and query, of allowed characters only."""
    if len(url) > MAX_URL:
        raise TargetRefused("url_too_long", f"It has more than {MAX_URL} characters: use a shorter one.")
    if not CHARACTERS.match(url):
        sentence = "It has characters that no URL has: write them as %-escapes, and those of the host in punycode."
        raise TargetRefused("url_malformed", sentence)
    if "#" in url:
        raise TargetRefused("url_fragment", "A fragment (#) is never sent: leave it out.")
    parts = PARTS.match(url)
    if parts is None:
        raise TargetRefused("url_malformed", "It must be a whole URL, such as https://example.com/webhooks.")
    return parts


def split_authority(authority: str) -> tuple[str, int | None]:
    """The host in lower case, and the port if there is one."""
    if "@" in authority:
        sentence = "It must not have a user name or password: webhooks are signed instead."
        raise TargetRefused("url_credentials", sentence)
    parts = AUTHORITY.match(authority)
    if parts is None:
        raise TargetRefused("url_host", "Its host or port is malformed: write it as in https://example.com/webhooks.")
    return parts["host"].lower(), int(parts["port"]) if parts["port"] else None


def read_literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that the host is, or None if it is a name. What readers read differently is refused."""
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1])
        if NUMERIC.match(host.rpartition(".")[2]):
            return IPv4Address(host)
    except AddressValueError:
        raise TargetRefused(
            "url_host", "Its address is malformed: write it as in 192.0.2.1 or [2001:db8::1]."
        ) from None
    refuse_malformed_name(host)
    return None


def refuse_malformed_name(name: str) -> None:
    """Refuse what cannot be a host name; a dot at its end would confuse certificates."""
    if len(name) > MAX_NAME or not all(LABEL.match(label) for label in name.split(".")):
        raise TargetRefused("url_host", "Its host name is malformed: write it as in https://example.com/webhooks.")


def refuse_private(host: str, literal: IPv4Address | IPv6Address | None) -> None:
    """Refuse addresses and names that cannot lead to the public internet."""
    if literal is not None:
        private = not is_public(literal)
    else:
        private = "." not in host or host.endswith(tuple("." + name for name in LOCAL_NAMES))
    if private:
        raise TargetRefused(*NOT_PUBLIC)
