"""What people decide about dead letters: to replay or to discard one, several, or all that match a filter.

A decision is a row that takes its letters in hand at once, so that what was looked at is what is resolved, and a
letter that dies again meanwhile is not replayed for ever. It is worked off in chunks, each one transaction: an
interruption loses nothing, and two workers, two tabs or two clicks resolve a letter once.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol, cast

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, F, Max, Min, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.module_loading import import_string

from messaging import dead_letters, outbox
from messaging.failpoints import failpoint
from messaging.models import DeadLetter, OutboxMessage, Resolution

log = structlog.get_logger(__name__)

#: Letters per transaction: their locks, and those of their payments, are held for about half a second.
CHUNK: Final = 100
#: A running resolution that nobody has worked on for this long (s) is taken up again.
REVIVE_AFTER: Final = 60
#: Subjects that are judged in one query.
JUDGED_AT_ONCE: Final = 1000
#: Letters that no running resolution has in hand.
FREE: Final = Q(resolution=None) | ~Q(resolution__state=Resolution.State.RUNNING)
#: The advisory lock under which decisions take their letters, one decision after the other. Any number of our own.
DECIDING: Final = 0x5E77_1ED0


class Verdict(StrEnum):
    """What a replay would do with a letter."""

    GOES = "goes"
    SETTLED = "settled"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, why, and the money (minor units) that is at stake when it goes."""

    verdict: Verdict
    note: str = ""
    amount: int = 0
    currency: str = ""


class Owner(Protocol):
    """Who knows what letters are about; the setting `DEAD_LETTER_OWNERS` names one for each kind of subject."""

    def judge(self, ids: Sequence[str]) -> Mapping[str, Judgement]:
        """What a replay would do, for each id. Nothing is locked or changed."""

    def send_back(self, id_: str, *, now: datetime) -> Judgement:
        """Make ready what the message is about, in the caller's transaction; what was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which open letters: these ids, or all that match. Empty fields do not narrow it down.

    `up_to`: none that was recorded after this one, so that what was looked at is what is resolved.
    """

    ids: tuple[int, ...] | None = None
    queue: str = ""
    actor: str = ""
    cause: str = ""
    subject: str = ""
    since: datetime | None = None
    before: datetime | None = None
    up_to: int | None = None

    def letters(self) -> QuerySet[DeadLetter]:
        """The chosen letters that are still open."""
        wanted = Q(state=DeadLetter.State.OPEN)
        if self.ids is not None:
            wanted &= Q(pk__in=self.ids)
        for name in ("queue", "actor", "cause", "subject"):
            if value := getattr(self, name):
                wanted &= Q(**{name: value})
        if self.since:
            wanted &= Q(last_failed_at__gte=self.since)
        if self.before:
            wanted &= Q(last_failed_at__lt=self.before)
        if self.up_to is not None:
            wanted &= Q(pk__lte=self.up_to)
        return DeadLetter.objects.filter(wanted)

    def free(self) -> QuerySet[DeadLetter]:
        """Those of them that no running resolution has in hand."""
        return self.letters().filter(FREE)

    def document(self) -> dict[str, Any]:
        """As a resolution keeps it."""
        chosen = {name: value for name, value in asdict(self).items() if value not in {None, ""}}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in chosen.items()}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Selection":
        """Out of what a resolution keeps."""
        times = {name: parse_datetime(document[name]) for name in ("since", "before") if name in document}
        ids = {"ids": tuple(document["ids"])} if "ids" in document else {}
        return cls(**{**document, **ids, **times})


# --- looking at it first


@dataclass(slots=True)
class Tally:
    """How many letters of one cause would go where."""

    cause: str
    actor: str
    queue: str
    goes: int = 0
    settled: int = 0
    blocked: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.goes + self.settled + self.blocked


@dataclass(slots=True)
class Preview:
    """What a replay of a selection would do now. `sums` are minor units by currency, each payment counted once.

    `in_hand`: letters that are left out, because a running resolution has them. `last` is the newest letter's id.
    """

    tallies: list[Tally] = field(default_factory=list)
    sums: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    in_hand: int = 0
    last: int = 0

    def count(self, verdict: Verdict) -> int:
        """Letters with this verdict."""
        return sum(getattr(tally, verdict.value) for tally in self.tallies)

    @property
    def total(self) -> int:
        """All letters."""
        return sum(tally.total for tally in self.tallies)


def preview(selection: Selection) -> Preview:
    """What a replay would do, without doing anything."""
    made = Preview(in_hand=in_hand(selection))
    tallies: dict[tuple[str, str, str], Tally] = {}
    counted: set[str] = set()
    for letters in in_chunks(selection.free()):
        made.last = letters[-1].pk
        judgements = judge(letters)
        for letter in letters:
            key = (letter.cause, letter.actor, letter.queue)
            tally = tallies.setdefault(key, Tally(*key))
            judgement = judgements[letter.pk]
            setattr(tally, judgement.verdict, getattr(tally, judgement.verdict) + 1)
            if judgement.note:
                made.notes[judgement.note] = made.notes.get(judgement.note, 0) + 1
            if judgement.verdict == Verdict.GOES and judgement.currency and letter.subject not in counted:
                counted.add(letter.subject)
                made.sums[judgement.currency] = made.sums.get(judgement.currency, 0) + judgement.amount
    made.tallies = sorted(tallies.values(), key=lambda tally: (-tally.total, tally.cause))
    return made


def in_hand(selection: Selection) -> int:
    """How many of the selected letters a running resolution has."""
    return selection.letters().filter(resolution__state=Resolution.State.RUNNING).count()


def in_chunks(letters: QuerySet[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """The letters, so many at a time, with what is judged and counted of them."""
    last, judged = 0, letters.only("cause", "actor", "queue", "subject", "body_size").order_by("pk")
    while chunk := list(judged.filter(pk__gt=last)[:JUDGED_AT_ONCE]):
        yield chunk
        last = chunk[-1].pk


def judge(letters: Sequence[DeadLetter]) -> dict[int, Judgement]:
    """The judgement on each letter, by its id; one query per kind of subject."""
    ids: dict[str, set[str]] = {}
    for letter in letters:
        kind, _, id_ = letter.subject.partition(":")
        ids.setdefault(kind, set()).add(id_)
    known = {kind: owner.judge(sorted(of_kind)) for kind, of_kind in ids.items() if (owner := owner_of(kind))}
    return {letter.pk: judge_one(letter, known) for letter in letters}


def judge_one(letter: DeadLetter, known: Mapping[str, Mapping[str, Judgement]]) -> Judgement:
    """One letter's judgement, by what the owners know."""
    if is_cut(letter):
        return Judgement(Verdict.BLOCKED, "too large to have been kept whole; discard it and have it sent anew")
    kind, _, id_ = letter.subject.partition(":")
    return known.get(kind, {}).get(id_) or Judgement(Verdict.GOES)


def is_cut(letter: DeadLetter) -> bool:
    """Whether only the beginning of the letter's body was kept."""
    return letter.body_size > dead_letters.MOST_KEPT


def owner_of(kind: str) -> Owner | None:
    """Who knows about subjects of a kind."""
    name = settings.DEAD_LETTER_OWNERS.get(kind)
    return cast("Owner", import_string(name)) if name else None


# --- deciding


@transaction.atomic(durable=True)
def resolve(
    selection: Selection,
    action: Resolution.Action,
    *,
    reason: str,
    by: str,
    rate: int | None = None,
    request_id: str = "",
    in_background: bool = True,
) -> Resolution:
    """Decide on the selected letters, and take them in hand. `rate`: letters per second at most.

    What another running resolution has in hand is left to it. A worker does the rest, or with `in_background`
    unset whoever calls `work_off`; should that one die, a worker takes over.
    """
    return decide(
        selection, action, reason=reason, by=by, rate=rate, request_id=request_id, in_background=in_background
    )


def decide(
    selection: Selection,
    action: Resolution.Action,
    *,
    reason: str,
    by: str,
    rate: int | None = None,
    request_id: str = "",
    in_background: bool = True,
) -> Resolution:
    """As `resolve`, in the caller's transaction, which should be short: other decisions wait for its end."""
    assert connection.in_atomic_block, "a decision and its letters are one commit"
    # Without the lock two decisions at once would both see a letter as free, and both count it as theirs.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [DECIDING])
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
    if in_background:
        outbox.stage("resolution.due", {"ids": [resolution.pk]}, request_id=request_id)
    log.info("dead_letters_resolved", resolution=resolution.pk, action=action, by=by, total=resolution.total)
    return resolution


@transaction.atomic(durable=True)
def work_off(resolution_id: int, *, in_background: bool = False) -> Resolution | None:
    """Resolve the next chunk of letters; with `in_background`, and see to it that the next one follows.

    None when there is nothing to do: it is done, stopped, or somebody is at it this very moment.
    """
    running = Resolution.objects.filter(pk=resolution_id, state=Resolution.State.RUNNING)
    resolution = running.select_for_update(no_key=True, skip_locked=True).first()
    if resolution is None:
        return None
    limit = min(CHUNK, resolution.rate or CHUNK)
    letters = list(waiting_of(resolution).select_for_update(no_key=True).order_by("pk")[:limit])
    now = timezone.now()
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
    resolution.save()
    failpoint("resolution.chunk")
    return resolution


def waiting_of(resolution: Resolution) -> QuerySet[DeadLetter]:
    """The letters that a resolution has still to take in hand."""
    return resolution.letters.filter(state=DeadLetter.State.OPEN, pk__gt=resolution.last_taken)


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


def send_back(letter: DeadLetter, *, now: datetime) -> Judgement:
    """Make ready what a letter is about."""
    if is_cut(letter):
        return judge_one(letter, {})
    kind, _, id_ = letter.subject.partition(":")
    owner = owner_of(kind)
    return owner.send_back(id_, now=now) if owner else Judgement(Verdict.GOES)


def stage_again(letter: DeadLetter, *, now: datetime) -> uuid.UUID:
    """Put the letter's message into the outbox again, as it was, under a new id."""
    message_id = uuid.uuid4()
    OutboxMessage.objects.create(
        message_id=message_id,
        queue=letter.queue,
        actor=letter.actor,
        payload=letter.payload,
        body=letter.body if not letter.actor else None,
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


def stop(resolution_id: int, *, by: str) -> bool:
    """Stop a running resolution after its present chunk; what it has not taken stays open. False if it does not run."""
    running = Resolution.objects.filter(pk=resolution_id, state=Resolution.State.RUNNING)
    stopped = bool(running.update(state=Resolution.State.STOPPED, revive_at=None))
    log.info("resolution_stopped", resolution=resolution_id, by=by, stopped=stopped)
    return stopped


@transaction.atomic(durable=True)
def resume(resolution_id: int, *, by: str, in_background: bool = True) -> bool:
    """Go on with a stopped resolution; False if it is not stopped."""
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


def causes() -> QuerySet[DeadLetter, Any]:
    """The open letters, counted by cause, the most frequent first; with the first and last death of each."""
    open_ = DeadLetter.objects.filter(state=DeadLetter.State.OPEN)
    grouped = open_.values("cause", "actor", "queue").annotate(
        count=Count("pk"), oldest=Min("first_failed_at"), newest=Max("last_failed_at")
    )
    return grouped.order_by(F("count").desc(), "cause")


def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of letters that were resolved before a time; returns how many. Open ones are kept for ever."""
    old = DeadLetter.objects.filter(resolved_at__lt=before).order_by("resolved_at").values("pk")[:batch]
    deleted, _ = DeadLetter.objects.filter(pk__in=list(old.values_list("pk", flat=True))).delete()
    return deleted
