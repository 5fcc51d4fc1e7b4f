"""The states of a payment and of an attempt, and which moves are legal. The database holds the same table."""

from collections.abc import Mapping
from typing import Final

from django.db import models


class Status(models.TextChoices):
    """Where a payment stands."""

    PENDING = "pending"
    PROCESSING = "processing"
    UNKNOWN = "unknown"
    AUTHORIZED = "authorized"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class AttemptKind(models.TextChoices):
    """What one call asked the gateway."""

    CHARGE = "charge"
    LOOKUP = "lookup"


class Outcome(models.TextChoices):
    """What one call to the gateway proved."""

    APPROVED = "approved"
    DECLINED = "declined"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"
    NOT_FOUND = "not_found"
    ABANDONED = "abandoned"


#: From each state, where a payment may go. `failed -> pending` is an operator's replay; the rest is proof
#: by the gateway, or a cancellation while nothing can have been charged.
LEGAL_MOVES: Final[Mapping[Status, frozenset[Status]]] = {
    Status.PENDING: frozenset({Status.PROCESSING, Status.CANCELED}),
    Status.PROCESSING: frozenset({Status.AUTHORIZED, Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN, Status.CANCELED}),
    Status.UNKNOWN: frozenset({Status.AUTHORIZED, Status.SUCCEEDED, Status.FAILED}),
    Status.AUTHORIZED: frozenset({Status.SUCCEEDED, Status.CANCELED}),
    Status.FAILED: frozenset({Status.PENDING}),
    Status.SUCCEEDED: frozenset(),
    Status.CANCELED: frozenset(),
}

#: Nothing more happens by itself.
FINAL: Final = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})
#: A charge is under way or has been made, so the order can take no second payment.
HOLDING: Final = frozenset({Status.PENDING, Status.PROCESSING, Status.UNKNOWN, Status.AUTHORIZED, Status.SUCCEEDED})
#: Somebody is, or will be, working on it.
IN_WORK: Final = frozenset({Status.PENDING, Status.PROCESSING})
