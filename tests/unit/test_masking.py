"""What is shown of an address recognises it for its owner and gives it to nobody else."""

import pytest

from notifications.masking import mask, mask_email, mask_phone, mask_url


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("max.mustermann@example.com", "m…@e….com"),
        ("m@e.co.uk", "m…@e….uk"),
        ("root@localhost", "r…@…"),
        ("no address", "…@…"),
        ("", "…@…"),
        ('"a@b"@example.org', '"…@e….org'),
    ],
)
def test_no_mail_address_is_shown(address, shown):
    assert mask_email(address) == mask("email", address) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [("+4915123456789", "+49…789"), ("+12025550123", "+1…123"), ("+358401234567", "+358…567"), ("nonsense", "…")],
)
def test_no_phone_number_is_shown(number, shown):
    assert mask_phone(number) == mask("sms", number) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/hook", "https://example.com/hook"),
        ("https://example.com/hook?token=a%3Db&c=", "https://example.com/hook?token=…&c=…"),
        ("https://example.com/?secret", "https://example.com/?…"),
        ("https://example.com/?a=b=c;d=e", "https://example.com/?a=…"),
    ],
)
def test_no_secret_in_a_query_is_shown(url, shown):
    assert mask_url(url) == mask("webhook", url) == shown
