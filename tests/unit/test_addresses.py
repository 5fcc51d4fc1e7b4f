"""From where a request came: what the proxies of ours say, and nothing that the client made up."""

import pytest
from django.test import RequestFactory

from merchants.addresses import client_address


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        (0, "192.0.2.66", "198.51.100.1"),  # nobody of ours wrote it
        (1, "192.0.2.1", "192.0.2.1"),
        (1, "192.0.2.66, 192.0.2.1", "192.0.2.1"),  # what stands before was written by the client
        (2, "192.0.2.66, 192.0.2.1, 10.0.0.1", "192.0.2.1"),
        (2, "192.0.2.1", "198.51.100.1"),  # fewer than we have proxies: it came around them
        (1, "192.0.2.1:4711", "192.0.2.1"),
        (1, "[2001:db8::1]:4711", "2001:db8::1"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "::ffff:192.0.2.1", "192.0.2.1"),
        (1, "unknown", None),
        (1, "", None),
        (1, "[", None),
        (1, ":", None),
    ],
)
def test_no_address_is_believed_that_none_of_our_proxies_wrote(settings, trusted, forwarded, address):
    settings.TRUSTED_PROXIES = trusted
    request = RequestFactory().get("/", HTTP_X_FORWARDED_FOR=forwarded, REMOTE_ADDR="198.51.100.1")
    assert client_address(request) == address
