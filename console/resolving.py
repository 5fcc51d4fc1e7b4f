"""Taking dead letters in hand for a decision, with its entry in the audit, and beginning to work it off."""

from collections.abc import Mapping
from typing import Any

import structlog
from django.db import Error

from merchants import audit
from merchants.audit import Who
from messaging import resolutions
from messaging.models import Resolution
from messaging.selections import Selection
from payments.errors import NothingToResolve

log = structlog.get_logger(__name__)


def take(
    selection: Selection,
    action: Resolution.Action,
    *,
    reason: str,
    by: str,
    rate: int | None,
    who: Who,
    sums: Mapping[str, str],
    **told: Any,
) -> Resolution:
    """Take the letters in hand, in the caller's transaction; `sums` is the money that goes, for the entry.

    Raises:
        NothingToResolve: none of them is open and free; nothing was done.
    """
    resolution = resolutions.decide(selection, action, reason=reason, by=by, rate=rate, request_id=who.request_id)
    if not resolution.total:
        raise NothingToResolve
    resolution.refresh_from_db()  # its time is the database's
    after = {"letters": resolution.total, "sums": dict(sums), "rate": rate, "selection": resolution.selection, **told}
    subject = f"resolution:{resolution.pk}"
    audit.record(who, f"dead_letters.{action.value}", subject=subject, reason=reason, after=after)
    return resolution


def begin(resolution_id: int) -> None:
    """Resolve the first chunk, and see to it that the rest follows."""
    try:
        resolutions.work_off(resolution_id, in_background=True)
    except Error:  # it is decided: the rescue takes it up within a minute
        log.warning("resolution_begins_later", resolution=resolution_id, exc_info=True)
