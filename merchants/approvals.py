"""What waits for a second person: asked for by one, agreed to by another, and done in the transaction of the word.

The setting `APPROVAL_ACTIONS` names who carries out what was asked for. A person is the same by whatever way they
come, and however their name is spelled.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, Protocol, cast
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now
from django.utils.module_loading import import_string

from merchants import audit
from merchants.audit import Who
from merchants.models import Approval
from merchants.names import folded
from merchants.refusals import ApprovalDecided, ApprovalExpired, ApprovalForbidden, ApprovalNotYours, ApprovalOwn

log = structlog.get_logger(__name__)

#: How long somebody can agree: after a day the world behind the sums is another one.
VALID_FOR: Final = timedelta(hours=24)
MAY_DECIDE: Final = "merchants.decide_approval"
#: Whether its time is over, by the database's clock.
EXPIRED: Final = ExpressionWrapper(Q(expires_at__lte=Now()), output_field=BooleanField())
#: Whether the person has a permission, as `user.has_perm`.
May = Callable[[str], bool]


class Action(Protocol):
    """Who carries out one kind of thing that needs two people."""

    #: What whoever agrees must be allowed besides `MAY_DECIDE`: to do it alone, were it smaller.
    permission: str

    def carry_out(self, approval: Approval, *, who: Who) -> str:
        """Do exactly what was asked for, in the caller's transaction; what came of it, as `resolution:7`.

        Raises:
            Refused: it is not any more what was asked for; then nothing is done, and the approval stays pending.
        """

    def follow_up(self, approval: Approval) -> None:
        """What comes after the commit. It may be lost in a crash, and must then come by another way."""


def action_of(approval: Approval) -> Action:
    """Who carries it out."""
    return cast("Action", import_string(settings.APPROVAL_ACTIONS[approval.action]))


def ask(
    *,
    action: str,
    payload: Mapping[str, Any],
    summary: str,
    count: int,
    sums: Mapping[str, str],
    reason: str,
    who: Who,
) -> Approval:
    """Ask for something, in the caller's transaction. Who asks for the same again is shown what waits already.

    That holds for twins only where the caller has them take turns.
    """
    assert connection.in_atomic_block, "asking and what led to it are one commit"
    waiting = Approval.objects.filter(state=Approval.State.PENDING, expires_at__gt=Now())
    asked = {"action": action, "payload": dict(payload), "count": count, "sums": dict(sums)}
    twin = waiting.filter(**asked, requested_by=who.name).first()
    if twin is not None:
        return twin
    approval = Approval.objects.create(
        **asked,
        summary=summary[:500],
        reason=reason,
        requested_by=who.name[:150],
        expires_at=Now() + VALID_FOR,
        request_id=who.request_id,
    )
    approval.refresh_from_db()  # its times are the database's
    after = {"action": action, "count": count, "sums": dict(sums), "expires_at": approval.expires_at}
    record(approval, "requested", who, reason, after=after)
    return approval


def approve(*, approval_id: UUID, who: Who, may: May, reason: str) -> Approval:
    """Agree, and have it done.

    Raises:
        Approval.DoesNotExist: there is none. ApprovalForbidden, ApprovalOwn, ApprovalDecided, ApprovalExpired: see
        there; nothing was done. And whatever the action refuses.
    """
    with transaction.atomic(durable=True):
        approval = lock(approval_id)
        refuse_unless_another(approval, who=who, may=may)
        if approval.is_expired:  # type: ignore[attr-defined]  # annotated
            raise ApprovalExpired
        approval.result = action_of(approval).carry_out(approval, who=who)
        decide(approval, Approval.State.APPROVED, who=who, reason=reason)
    action_of(approval).follow_up(approval)
    return approval


@transaction.atomic(durable=True)
def reject(*, approval_id: UUID, who: Who, may: May, reason: str) -> Approval:
    """Say no. Raises: as `approve`, but one that has expired can still be tidied up."""
    approval = lock(approval_id)
    refuse_unless_another(approval, who=who, may=may)
    decide(approval, Approval.State.REJECTED, who=who, reason=reason)
    return approval


@transaction.atomic(durable=True)
def withdraw(*, approval_id: UUID, who: Who, reason: str) -> Approval:
    """Take back what one has asked for.

    Raises:
        Approval.DoesNotExist: there is none. ApprovalNotYours, ApprovalDecided: see there.
    """
    approval = lock(approval_id)
    if not is_same_person(approval.requested_by, who.name):
        raise ApprovalNotYours
    decide(approval, Approval.State.WITHDRAWN, who=who, reason=reason)
    return approval


def lock(approval_id: UUID) -> Approval:
    """The approval, locked: of two decisions at once the second finds the first. Raises ApprovalDecided."""
    locked = Approval.objects.select_for_update(no_key=True).annotate(is_expired=EXPIRED).get(pk=approval_id)
    if locked.state != Approval.State.PENDING:
        raise ApprovalDecided
    return locked


def refuse_unless_another(approval: Approval, *, who: Who, may: May) -> None:
    """The four eyes."""
    if is_same_person(approval.requested_by, who.name):
        raise ApprovalOwn
    if not (may(MAY_DECIDE) and may(action_of(approval).permission)):
        raise ApprovalForbidden


def is_same_person(one: str, other: str) -> bool:
    """Whether two names are one person's: a second account of another spelling makes no second person."""
    return folded(one) == folded(other)


def decide(approval: Approval, state: Approval.State, *, who: Who, reason: str) -> None:
    """The end of a locked approval, with its entry."""
    approval.state, approval.decided_by, approval.decision_reason = state, who.name[:150], reason
    approval.decided_at = Now()
    approval.save(update_fields=["state", "decided_by", "decision_reason", "decided_at", "result"])
    approval.refresh_from_db(fields=["decided_at"])
    before, after = {"state": Approval.State.PENDING}, {"state": state, "result": approval.result}
    record(approval, state, who, reason, before=before, after=after)
    log.info("approval_decided", approval=str(approval.pk), state=state, by=who.actor)


def record(approval: Approval, done: str, who: Who, reason: str, **states: Any) -> None:
    """The entry about an approval."""
    audit.record(who, f"approval.{done}", subject=f"approval:{approval.pk}", reason=reason, **states)
