"""What a replay would do with dead letters. Those judge who know what a letter is about; the settings name them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol, cast
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from messaging import dead_letters, message_check
from messaging.database_errors import is_retryable
from messaging.models import DeadLetter

log = structlog.get_logger(__name__)


class Verdict(StrEnum):
    """What a replay would do with a letter."""

    GOES = "goes"
    SETTLED = "settled"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, why, and the money (minor units) that is at stake when it goes, now or, where it is blocked, later.

    `takes`: what it takes when it goes, and only one can have, such as an order; empty if nothing.
    """

    verdict: Verdict
    note: str = ""
    amount: int = 0
    currency: str = ""
    takes: str = ""


class Owner(Protocol):
    """Who knows what letters are about; the setting `DEAD_LETTER_OWNERS` names one for each kind of subject."""

    def judge(self, ids: Sequence[str]) -> Mapping[str, Judgement]:
        """What a replay would do, for each id. Nothing is locked or changed."""

    def send_back(self, id_: str, *, now: datetime) -> Judgement:
        """Make ready what the message is about, in the caller's transaction; what was done."""


OUTRUN: Final = Judgement(Verdict.BLOCKED, "of several that are for the same, only the first goes back")
CUT: Final = Judgement(Verdict.BLOCKED, "too large to have been kept whole; discard it and have it sent anew")


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
    if blocked := refusal_of(letter):
        return blocked
    kind, _, id_ = letter.subject.partition(":")
    return known.get(kind, {}).get(id_) or Judgement(Verdict.GOES)


def refusal_of(letter: DeadLetter) -> Judgement | None:
    """The judgement on a letter whose message its receiver would only refuse again; None on any other."""
    if letter.queue == settings.INTAKE_QUEUE:
        return CUT if is_cut(letter) else None
    if not letter.actor:
        return Judgement(Verdict.BLOCKED, f"workers refuse this message ({letter.cause}); discard the dead letter")
    try:
        message_check.check_payload(letter.payload, queue=letter.queue, actor=letter.actor)
    except message_check.InvalidMessage as refusal:
        return Judgement(Verdict.BLOCKED, f"workers would refuse this message: {refusal.detail}")
    return None


def is_cut(letter: DeadLetter) -> bool:
    """Whether only the beginning of the letter's body was kept."""
    return letter.body_size > dead_letters.MOST_KEPT


def owner_of(kind: str) -> Owner | None:
    """Who knows about subjects of a kind."""
    name = settings.DEAD_LETTER_OWNERS.get(kind)
    return cast("Owner", import_string(name)) if name else None


def send_back(letter: DeadLetter, *, now: datetime) -> Judgement:
    """Make ready what a letter is about, in the caller's transaction.

    A defect blocks this letter, and not the others that were chosen with it.
    """
    if blocked := refusal_of(letter):
        return blocked
    kind, _, id_ = letter.subject.partition(":")
    owner = owner_of(kind)
    if owner is None:
        return Judgement(Verdict.GOES)
    try:
        with transaction.atomic():
            return owner.send_back(id_, now=now)
    except Exception as defect:
        if is_retryable(defect):
            raise  # the whole chunk comes again
        log.exception("dead_letter_cannot_go_back", letter=letter.pk)
        return Judgement(Verdict.BLOCKED, f"it could not be made ready ({type(defect).__name__}); the log says more")


def valid(ids: Sequence[str]) -> list[UUID]:
    """Those that are ids at all: a subject may say anything."""
    found = []
    for id_ in ids:
        try:
            found.append(UUID(id_))
        except ValueError:
            continue
    return found
