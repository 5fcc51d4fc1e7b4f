"""Dead letters taken in hand by somebody, in a transaction as the console makes one."""

from typing import Any

from django.db import transaction

from messaging import resolutions
from messaging.models import Resolution
from messaging.selections import Selection


@transaction.atomic(durable=True)
def resolve(selection: Selection, action: Resolution.Action, **said: Any) -> Resolution:
    """The decision; nobody has begun to carry it out."""
    return resolutions.decide(selection, action, **said)
