"""How payers are reached, by the merchant's own `user_id` for them."""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from merchants import audit
from merchants.audit import SYSTEM, Who
from merchants.models import Merchant, Mode
from notifications.masking import mask
from notifications.models import Channel, Contact


def contacts_of(merchant: Merchant, mode: Mode) -> QuerySet[Contact]:
    """The contacts that a caller may see."""
    return Contact.objects.filter(merchant=merchant, mode=mode)


@transaction.atomic(durable=True)
def put(
    *, merchant: Merchant, mode: Mode, user_id: str, fields: dict[str, str], who: Who = SYSTEM
) -> tuple[Contact, bool]:
    """Know this of the payer and nothing else; and whether nothing was known before."""
    known = contacts_of(merchant, mode).filter(user_id=user_id).select_for_update(no_key=True).first()
    before = shown(known) if known else None
    contact, is_new = Contact.objects.update_or_create(merchant=merchant, mode=mode, user_id=user_id, defaults=fields)
    was, is_ = audit.difference(before, shown(contact))
    record(contact, "changed" if known else "created", who, before=was, after=is_)
    return contact, is_new


@transaction.atomic(durable=True)
def forget(*, merchant: Merchant, mode: Mode, user_id: str, who: Who = SYSTEM) -> bool:
    """Know nothing more of the payer; False if nothing was known."""
    known = contacts_of(merchant, mode).filter(user_id=user_id).select_for_update().first()
    if known is None:
        return False
    record(known, "deleted", who, before=shown(known))
    known.delete()
    return True


def shown(contact: Contact) -> dict[str, str]:
    """What an entry of the audit holds of a payer: the id in it may be a mail address, and is left out."""
    return {
        "email": mask(Channel.EMAIL, contact.email) if contact.email else "",
        "phone": mask(Channel.SMS, contact.phone) if contact.phone else "",
        "language": contact.language,
    }


def record(contact: Contact, done: str, who: Who, **states: Any) -> None:
    """The entry about a contact."""
    audit.record(who, f"contact.{done}", subject=f"contact:{contact.pk}", merchant=contact.merchant, **states)
