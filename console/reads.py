"""Dead letters and what was decided on them, as the API shows them."""

import base64
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from console.causes import next_for, words_for
from merchants.models import Approval
from messaging.judgements import Verdict
from messaging.models import DeadLetter, Resolution
from messaging.previews import Preview
from messaging.selections import Selection
from payments.money import to_major_units
from payments.reads import timestamp

#: The kind of subject that is a payment.
PAYMENT: Final = "payment"
#: The kind that is a delivery.
DELIVERY: Final = "delivery"


def path_of(resolution: Resolution) -> str:
    """Where the API has a resolution."""
    return f"/api/v1/dead-letter-resolutions/{resolution.pk}"


def path_of_approval(approval: Approval) -> str:
    """Where the API has an approval."""
    return f"/api/v1/approvals/{approval.pk}"


def represent_approval(approval: Approval) -> dict[str, Any]:
    """What waits for a second person, or what became of it."""
    kind, _, id_ = approval.result.partition(":")
    links = {"self": path_of_approval(approval)}
    if kind == "resolution":
        links["resolution"] = f"/api/v1/dead-letter-resolutions/{id_}"
    return {
        "id": str(approval.pk),
        "object": "approval",
        "state": approval.state,
        "action": approval.action,
        "summary": approval.summary,
        "count": approval.count,
        "sums": approval.sums,
        "reason": approval.reason,
        "requested_by": approval.requested_by,
        "requested_at": timestamp(approval.requested_at),
        "expires_at": timestamp(approval.expires_at),
        "decided_by": approval.decided_by or None,
        "decided_at": moment(approval.decided_at),
        "decision_reason": approval.decision_reason,
        "result": approval.result or None,
        "links": links,
    }


def payment_of(letter: DeadLetter) -> str | None:
    """The id of the payment that a letter is about."""
    kind, _, id_ = letter.subject.partition(":")
    return id_ if kind == PAYMENT and id_ else None


def represent_resolution(resolution: Resolution) -> dict[str, Any]:
    """A decision and how far it has come."""
    return {
        "id": resolution.pk,
        "object": "dead_letter_resolution",
        "action": resolution.action,
        "state": resolution.state,
        "total": resolution.total,
        "replayed": resolution.replayed,
        "discarded": resolution.discarded,
        "superseded": resolution.superseded,
        "blocked": resolution.blocked,
        "reason": resolution.reason,
        "rate": resolution.rate,
        "decided_by": resolution.decided_by,
        "selection": resolution.selection,
        "created_at": timestamp(resolution.created_at),
        "finished_at": moment(resolution.finished_at),
        "links": {"self": path_of(resolution)},
    }


def represent_letter(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter in a list: without what may be long."""
    return {
        "id": letter.pk,
        "object": "dead_letter",
        "state": letter.state,
        "queue": letter.queue,
        "actor": letter.actor or None,
        "cause": letter.cause,
        "detail": letter.detail,
        "happened": words_for(letter.cause).happened,
        "next": next_for(letter),
        "attempts": letter.attempts,
        "payment_id": payment_of(letter),
        "message_id": str(letter.message_id),
        "request_id": letter.request_id or None,
        "first_failed_at": timestamp(letter.first_failed_at),
        "last_failed_at": timestamp(letter.last_failed_at),
        "resolved_at": moment(letter.resolved_at),
        "note": letter.note,
        "previous": letter.previous_id,
        "replayed_as": str(letter.replayed_as) if letter.replayed_as else None,
        "resolution": letter.resolution_id,
        "links": {"self": f"/api/v1/dead-letters/{letter.pk}"},
    }


def represent_whole_letter(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter with all that was kept of it.

    The body of a message from outside twice: as text, where what is no UTF-8 is replaced, and exactly, in base64.
    """
    body = None if letter.body is None else bytes(letter.body)
    return {
        **represent_letter(letter),
        "payload": letter.payload,
        "body": None
        if body is None
        else {
            "text": body.decode("utf-8", "replace"),
            "base64": base64.b64encode(body).decode(),
            "size": letter.body_size,
            "is_cut": letter.body_size > len(body),
        },
        "traceback": letter.traceback,
    }


def represent_preview(preview: Preview, selection: Selection, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a replay would do. A filter is given back so that it holds no letter that dies after this look."""
    looked_at = {"ids": selection.ids} if "ids" in asked else {"filter": {**asked["filter"], "up_to": preview.last}}
    return {
        "object": "dead_letter_preview",
        "total": preview.total,
        **{verdict.value: preview.count(verdict) for verdict in Verdict},
        "in_hand": preview.in_hand,
        "sums": sums_of(preview),
        "causes": [{**asdict(tally), "actor": tally.actor or None, "total": tally.total} for tally in preview.tallies],
        "notes": [{"note": note, "count": count} for note, count in sorted(preview.notes.items())],
        "selection": looked_at,
    }


def sums_of(preview: Preview) -> dict[str, str]:
    """Currency -> sum in major units of the payments that would be tried again."""
    return {currency: to_major_units(minor, currency) for currency, minor in sorted(preview.sums.items())}


def stake_of(preview: Preview) -> dict[str, str]:
    """The same with those that are blocked: they go if they come free before their turn."""
    return {currency: to_major_units(minor, currency) for currency, minor in sorted(preview.at_stake.items())}


def moment(time: datetime | None) -> str | None:
    """A time that may not have come."""
    return None if time is None else timestamp(time)
