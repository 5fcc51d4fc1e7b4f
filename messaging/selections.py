"""Which dead letters: one, several, or all that match."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from django.db.models import Count, F, Max, Min, Q, QuerySet
from django.utils.dateparse import parse_datetime

from messaging.models import DeadLetter, Resolution

#: Letters that no running resolution has in hand.
FREE: Final = Q(resolution=None) | ~Q(resolution__state=Resolution.State.RUNNING)


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

    def upto(self, last: int) -> "Selection":
        """The same without what dies after a look, whose newest letter was this one. Named letters are named."""
        return self if self.ids is not None else replace(self, up_to=last)

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


def causes() -> QuerySet[DeadLetter, Any]:
    """The open letters, counted by cause, the most frequent first; with the first and last death of each."""
    open_ = DeadLetter.objects.filter(state=DeadLetter.State.OPEN)
    grouped = open_.values("cause", "actor", "queue").annotate(
        count=Count("pk"), oldest=Min("first_failed_at"), newest=Max("last_failed_at")
    )
    return grouped.order_by(F("count").desc(), "cause")
