"""What staff decide about dead letters, on a page, by the API or a command. The decision and its letters are one
commit; then the first chunk is resolved at once, so that a few letters need no worker, and the rest in the background.

A replay of much money is only asked for: `Outcome` is then what waits for a second person.
"""

import json
from typing import Any

from django.db import Error, transaction

from console import four_eyes
from console.reads import path_of, path_of_approval, represent_approval, represent_resolution, stake_of
from console.resolving import begin, take
from merchants import audit
from merchants.audit import Who
from merchants.models import Approval, Merchant
from messaging import previews, resolutions
from messaging.database_errors import LOCK_NOT_AVAILABLE, sqlstate_of
from messaging.models import Resolution
from messaging.selections import Selection
from payments import idempotency
from payments.errors import IdempotencyKeyInUse, NothingToResolve
from payments.idempotency import Answer

Outcome = Resolution | Approval


def decide(selection: Selection, action: Resolution.Action, *, reason: str, rate: int | None, who: Who) -> Outcome:
    """Replay or discard the selected letters, or ask for it; whoever calls sees to it that it begins.

    Raises:
        NothingToResolve: none of them is open and free; nothing was done.
        IdempotencyKeyInUse: another decision is just being made; nothing was done.
    """
    try:
        with transaction.atomic(durable=True):
            return take_or_ask(selection, action, reason=reason, rate=rate, who=who)
    except Error as error:
        raise translated(error) from error


def decide_and_begin(selection: Selection, action: Resolution.Action, **said: Any) -> Outcome:
    """As `decide`, and begin. Raises: as there."""
    outcome = decide(selection, action, **said)
    if isinstance(outcome, Resolution):
        begin(outcome.pk)
    return outcome


def decide_once(
    selection: Selection,
    action: Resolution.Action,
    *,
    merchant: Merchant,
    idempotency_key: str,
    reason: str,
    rate: int | None,
    who: Who,
) -> Answer:
    """As `decide_and_begin`, once for each idempotency key; whoever repeats it gets the first answer.

    Raises:
        IdempotencyKeyReused: the key belongs to another request.
        NothingToResolve, IdempotencyKeyInUse: as above.
    """
    values = {"selection": selection.document(), "reason": reason, "rate": rate}
    print_ = idempotency.fingerprint(f"dead_letters.{action.value}", values)
    outcome = None
    try:
        with transaction.atomic(durable=True):
            answer = idempotency.claim_or_replay(
                merchant=merchant, key=idempotency_key, print_=print_, answer=Answer(202, "", "")
            )
            if not answer.replayed:
                outcome = take_or_ask(selection, action, reason=reason, rate=rate, who=who)
                answer = idempotency.complete(merchant=merchant, key=idempotency_key, answer=answer_of(outcome))
    except Error as error:
        raise translated(error) from error
    if isinstance(outcome, Resolution):
        begin(outcome.pk)
    return answer


def take_or_ask(selection: Selection, action: Resolution.Action, *, reason: str, rate: int | None, who: Who) -> Outcome:
    """Take the letters in hand, or ask for a second person, in the caller's transaction."""
    # What is looked at must be what is taken: nobody else takes a letter, or a share of somebody's limit, in between.
    resolutions.take_turns()
    if action == Resolution.Action.DISCARD:
        return take(selection, action, reason=reason, by=who.name, rate=rate, who=who, sums={})
    found = previews.preview(selection)
    if not found.total:
        raise NothingToResolve
    sums = stake_of(found)
    if four_eyes.needs_another(sums, who):
        return four_eyes.ask(selection, found, reason=reason, rate=rate, who=who)
    return take(selection.upto(found.last), action, reason=reason, by=who.name, rate=rate, who=who, sums=sums)


def answer_of(outcome: Outcome) -> Answer:
    """The resolution as it was decided, before its first letter; or what waits for a second person."""
    if isinstance(outcome, Approval):
        document, path = represent_approval(outcome), path_of_approval(outcome)
    else:
        document, path = represent_resolution(outcome), path_of(outcome)
    return Answer(202, json.dumps(document, ensure_ascii=False, separators=(",", ":")), path)


def translated(error: Error) -> Exception:
    """Return a refusal in place of a lock timeout, which is no outage; any other error as it is."""
    return IdempotencyKeyInUse() if sqlstate_of(error) == LOCK_NOT_AVAILABLE else error


# --- keeping it going, and stopping it


@transaction.atomic(durable=True)
def stop(resolution_id: int, *, who: Who, reason: str = "") -> bool:
    """Stop a running resolution after its present chunk; False if it does not run."""
    stopped = resolutions.stop(resolution_id, by=who.actor)
    if stopped:
        record(resolution_id, Resolution.State.STOPPED, who, reason, before=Resolution.State.RUNNING)
    return stopped


@transaction.atomic(durable=True)
def resume(resolution_id: int, *, who: Who, reason: str = "", in_background: bool = True) -> bool:
    """Go on with a stopped resolution; False if it is not stopped."""
    resumed = resolutions.resume(resolution_id, by=who.actor, in_background=in_background)
    if resumed:
        record(resolution_id, Resolution.State.RUNNING, who, reason, before=Resolution.State.STOPPED)
    return resumed


def record(resolution_id: int, state: Resolution.State, who: Who, reason: str, *, before: Resolution.State) -> None:
    """The entry about a resolution."""
    done = "stopped" if state == Resolution.State.STOPPED else "resumed"
    subject, was, is_ = f"resolution:{resolution_id}", {"state": before}, {"state": state}
    audit.record(who, f"resolution.{done}", subject=subject, reason=reason, before=was, after=is_)
