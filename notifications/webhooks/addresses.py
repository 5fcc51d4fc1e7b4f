"""Which addresses are on the public internet, and so may be called for a merchant."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

#: What leads elsewhere than to somebody's public server: the special-purpose registry of IANA (RFC 6890),
#: https://www.iana.org/assignments/iana-ipv4-special-registry, and what is not unicast.
SPECIAL_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by a carrier's customers
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # not in the registry: Azure's platform, as seen from inside it
        "169.254.0.0/16",  # link-local, and with it the metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
#: https://www.iana.org/assignments/iana-ipv6-special-registry. What carries an IPv4 address inside is refused
#: altogether: who unpacks it is not known.
SPECIAL_V6: Final = tuple(
    IPv6Network(text)
    for text in (
        "::/96",  # unspecified, loopback and IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64 of one network's own
        "100::/64",  # discarded
        "100:0:0:1::/64",  # dummy
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID, ...
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local
        "ff00::/8",  # multicast
    )
)
#: All that has been given out for use on the internet (RFC 4291, section 2.4).
GLOBAL_UNICAST: Final = IPv6Network("2000::/3")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address leads to a server on the public internet and nowhere else."""
    return is_unlisted(address) and is_ordinary(address)


def is_unlisted(address: IPv4Address | IPv6Address) -> bool:
    """Whether our own lists let it pass."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in SPECIAL_V4)
    return address in GLOBAL_UNICAST and not any(address in network for network in SPECIAL_V6)


def is_ordinary(address: IPv4Address | IPv6Address) -> bool:
    """Whether Python's lists let it pass. They change between its patch releases, so they only ever add to ours."""
    return address.is_global and not (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
    )
