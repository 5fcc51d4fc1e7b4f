"""What people decide about dead letters: to replay or to discard one, several, or all that match a filter.

A decision is a row that takes its letters in hand at once, so that what was looked at is what is resolved, and a
letter that dies again meanwhile is not replayed for ever. It is worked off in chunks, each one transaction: an
interruption loses nothing, and two workers, two tabs or two clicks resolve a letter once.
"""

import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from messaging import outbox
from messaging.failpoints import failpoint
from messaging.judgements import Verdict, send_back
from messaging.models import DeadLetter, OutboxMessage, Resolution
from messaging.selections import Selection

log = structlog.get_logger(__name__)

#: Letters per transaction: their locks, and those of their payments, are held for about half a second.
CHUNK: Final = 100
#: A running resolution that nobody has worked on for this long (s) is taken up again.
REVIVE_AFTER: Final = 60
#: The advisory lock under which decisions take their letters, one decision after the other. Any number of our own.
DECIDING: Final = 0x5E77_1ED0
#: What a chunk changes of its resolution. What was decided is never written again.
PROGRESS: Final = (
    *("state", "revive_at", "finished_at", "last_taken"),
    *("replayed", "discarded", "superseded", "blocked"),
)


def decide(
    selection: Selection,
    action: Resolution.Action,
    *,
    reason: str,
    by: str,
    rate: int | None = None,
    request_id: str = "",
) -> Resolution:
    """Decide on the selected letters, and take them in hand. `rate`: letters per second at most.

    What another running resolution has in hand is left to it. The rest is `work_off`, which the caller begins after
    the commit; should nobody do so, a worker takes it up. In the caller's transaction, which should be short: other
    decisions wait for its end.
    """
    take_turns()
    resolution = Resolution.objects.create(
        action=action,
        reason=reason,
        decided_by=by,
        selection=selection.document(),
        rate=rate,
        request_id=request_id,
        revive_at=Now() + timedelta(seconds=REVIVE_AFTER),
    )
    chosen = DeadLetter.objects.filter(pk__in=selection.free().values("pk"), state=DeadLetter.State.OPEN)
    resolution.total = chosen.update(resolution=resolution)
    resolution.save(update_fields=["total"])
    log.info("dead_letters_resolved", resolution=resolution.pk, action=action, by=by, total=resolution.total)
    return resolution


def take_turns() -> None:
    """Wait until no other decision is being made, and have the others wait for the end of this transaction.

    Without it two decisions at once would both see a letter as free, and both count it as theirs.
    """
    assert connection.in_atomic_block, "a decision and its letters are one commit"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [DECIDING])


@transaction.atomic(durable=True)
def work_off(resolution_id: int, *, in_background: bool = False) -> Resolution | None:
    """Resolve the next chunk of letters; with `in_background`, and see to it that the next one follows.

    None when there is nothing to do: it is done, stopped, or somebody is at it this very moment, or its message
    comes twice. All times are the database's, which the relay and the rescue go by.
    """
    running = Resolution.objects.filter(pk=resolution_id, state=Resolution.State.RUNNING).annotate(database_now=Now())
    resolution = running.select_for_update(no_key=True, skip_locked=True).first()
    if resolution is None or (in_background and is_too_early(resolution)):
        return None
    limit = min(CHUNK, resolution.rate or CHUNK)
    letters = list(waiting_of(resolution).select_for_update(no_key=True).order_by("pk")[:limit])
    now = resolution.database_now
    for letter in letters:
        outcome = resolve_one(letter, resolution, now=now)
        setattr(resolution, outcome, getattr(resolution, outcome) + 1)
        resolution.last_taken = letter.pk
    if not waiting_of(resolution).exists():
        resolution.state, resolution.revive_at, resolution.finished_at = Resolution.State.DONE, None, now
    else:
        pause = timedelta(seconds=limit / resolution.rate if resolution.rate else 0)
        resolution.revive_at = now + pause + timedelta(seconds=REVIVE_AFTER)
        if in_background:
            outbox.stage("resolution.due", {"ids": [resolution.pk]}, available_at=now + pause)
    resolution.save(update_fields=PROGRESS)
    failpoint("resolution.chunk")
    return resolution


def is_too_early(resolution: Resolution) -> bool:
    """Whether a locked resolution's next chunk is not due yet: then the message for that is on its way.

    Each copy of a message would otherwise start a chain of its own, and the rate would be a multiple.
    """
    assert resolution.revive_at is not None, "a running resolution is rescued"
    due_at = resolution.revive_at - timedelta(seconds=REVIVE_AFTER)
    return resolution.rate is not None and due_at > resolution.database_now  # type: ignore[attr-defined]  # annotated


def work_off_all(resolution_id: int) -> Iterator[Resolution]:
    """Resolve chunk after chunk, no faster than the resolution's rate; yields it after each."""
    while (resolution := work_off(resolution_id)) is not None:
        yield resolution
        if resolution.state != Resolution.State.RUNNING:
            return
        if resolution.rate:
            time.sleep(min(CHUNK, resolution.rate) / resolution.rate)


def waiting_of(resolution: Resolution) -> QuerySet[DeadLetter]:
    """The letters that a resolution has still to take in hand."""
    # Without the bodies: a hundred of them may have a hundred megabytes, and most are never sent.
    return resolution.letters.filter(state=DeadLetter.State.OPEN, pk__gt=resolution.last_taken).defer("body")


def resolve_one(letter: DeadLetter, resolution: Resolution, *, now: datetime) -> str:
    """Resolve one locked letter; returns which of the resolution's counts it belongs to."""
    if resolution.action == Resolution.Action.DISCARD:
        close(letter, DeadLetter.State.DISCARDED, now=now)
        return "discarded"
    judgement = send_back(letter, now=now)
    letter.note = judgement.note[:500]
    if judgement.verdict == Verdict.BLOCKED:
        letter.save(update_fields=["note"])
        return "blocked"
    if judgement.verdict == Verdict.SETTLED:
        close(letter, DeadLetter.State.SUPERSEDED, now=now)
        return "superseded"
    letter.replayed_as = stage_again(letter, now=now)
    close(letter, DeadLetter.State.REPLAYED, now=now)
    return "replayed"


def stage_again(letter: DeadLetter, *, now: datetime) -> uuid.UUID:
    """Put the letter's message into the outbox again, as it was, under a new id."""
    message_id = uuid.uuid4()
    OutboxMessage.objects.create(
        message_id=message_id,
        queue=letter.queue,
        actor=letter.actor,
        payload=letter.payload,
        body=letter.body if not letter.actor else None,
        waits=outbox.may_wait(letter.queue),
        request_id=letter.request_id,
        options={"replay_of": letter.pk},
        available_at=now,
    )
    return message_id


def close(letter: DeadLetter, state: DeadLetter.State, *, now: datetime) -> None:
    """The letter's end."""
    letter.state, letter.resolved_at = state, now
    letter.save(update_fields=["state", "resolved_at", "replayed_as", "note"])


# --- keeping it going, and stopping it


@transaction.atomic
def stop(resolution_id: int, *, by: str) -> bool:
    """Stop a running resolution after its present chunk; what it has not taken stays open. False if it does not run.

    In the caller's transaction if there is one.
    """
    running = Resolution.objects.filter(pk=resolution_id, state=Resolution.State.RUNNING)
    stopped = bool(running.update(state=Resolution.State.STOPPED, revive_at=None))
    log.info("resolution_stopped", resolution=resolution_id, by=by, stopped=stopped)
    return stopped


@transaction.atomic
def resume(resolution_id: int, *, by: str, in_background: bool = True) -> bool:
    """Go on with a stopped resolution; False if it is not stopped. In the caller's transaction if there is one."""
    stopped = Resolution.objects.filter(pk=resolution_id, state=Resolution.State.STOPPED)
    revive_at = Now() + timedelta(seconds=REVIVE_AFTER)
    resumed = bool(stopped.update(state=Resolution.State.RUNNING, revive_at=revive_at))
    if resumed and in_background:
        outbox.stage("resolution.due", {"ids": [resolution_id]})
    log.info("resolution_resumed", resolution=resolution_id, by=by, resumed=resumed)
    return resumed


@transaction.atomic(durable=True)
def rescue() -> int:
    """Stage the running resolutions that nobody works on; returns how many. Runs in the relay process."""
    overdue = Resolution.objects.filter(revive_at__lte=Now()).select_for_update(no_key=True, skip_locked=True)
    found = list(overdue.values_list("pk", "request_id"))
    Resolution.objects.filter(pk__in=[pk for pk, _ in found]).update(revive_at=Now() + timedelta(seconds=REVIVE_AFTER))
    outbox.stage_many("resolution.due", (({"ids": [pk]}, request_id) for pk, request_id in found))
    return len(found)
