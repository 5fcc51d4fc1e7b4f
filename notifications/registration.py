"""Whether an address may be called, asked when a merchant names it. The setting `WEBHOOK_URL_VALIDATOR` names this."""

from django.conf import settings
from rest_framework.exceptions import ValidationError

from notifications.webhooks.targets import TargetRefused, check_url


def validate_url(url: str) -> None:
    """Refuse what no call could ever reach, or should.

    Raises:
        ValidationError: with the mend.
    """
    try:
        check_url(url, private=settings.WEBHOOK_PRIVATE_TARGETS)
    except TargetRefused as refused:
        raise ValidationError(str(refused), code=refused.code) from None
