"""How payers are reached, by the merchant's own `user_id` for them."""

from django.db.models import QuerySet

from merchants.models import Merchant, Mode
from notifications.models import Contact


def contacts_of(merchant: Merchant, mode: Mode) -> QuerySet[Contact]:
    """The contacts that a caller may see."""
    return Contact.objects.filter(merchant=merchant, mode=mode)


def put(*, merchant: Merchant, mode: Mode, user_id: str, fields: dict[str, str]) -> tuple[Contact, bool]:
    """Know this of the payer and nothing else; and whether nothing was known before."""
    return Contact.objects.update_or_create(merchant=merchant, mode=mode, user_id=user_id, defaults=fields)


def forget(*, merchant: Merchant, mode: Mode, user_id: str) -> bool:
    """Know nothing more of the payer; False if nothing was known."""
    deleted, _ = contacts_of(merchant, mode).filter(user_id=user_id).delete()
    return deleted > 0
