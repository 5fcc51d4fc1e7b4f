"""Filters of the console's list of dead letters, and the selection that they amount to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from console.reads import DELIVERY, PAYMENT
from messaging.models import DeadLetter, DeathCount
from messaging.selections import Selection

#: Value of the parameter `age` -> its words, and how long ago the last death may be.
AGES: Final[dict[str, tuple[str, timedelta]]] = {
    "hour": ("the last hour", timedelta(hours=1)),
    "day": ("the last day", timedelta(days=1)),
    "week": ("the last week", timedelta(days=7)),
}
ANY_STATE: Final = "all"


class StateFilter(admin.SimpleListFilter):
    """By state. Without a choice only what is still open: that is the work, the rest is the record.

    Who searches for one letter or payment sees all its letters, also the closed ones.
    """

    title = "state"
    parameter_name = "state"

    def __init__(self, request: HttpRequest, *arguments: Any) -> None:
        self.default = ANY_STATE if request.GET.get("q") else DeadLetter.State.OPEN.value
        super().__init__(request, *arguments)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The states, and all of them."""
        return [*((state.value, str(state.label)) for state in DeadLetter.State), (ANY_STATE, "All")]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Each state as a link; there is no empty choice."""
        for value, title in self.lookup_choices:
            query = changelist.get_query_string({"state": value})
            yield {"selected": (self.value() or self.default) == value, "query_string": query, "display": title}

    def queryset(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> QuerySet[DeadLetter]:
        """Those in the chosen state."""
        chosen = self.value() or self.default
        return queryset if chosen == ANY_STATE else queryset.filter(state=chosen.replace("\0", ""))


class KnownValues(admin.SimpleListFilter):
    """By a column whose values are read from the counts of deaths: that table is small, the letters' is not."""

    parameter_name: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The values that ever occurred."""
        column = self.parameter_name
        seen = DeathCount.objects.exclude(**{column: ""}).values_list(column, flat=True)
        return [(value, value) for value in seen.order_by(column).distinct()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> QuerySet[DeadLetter]:
        """Those with the chosen value."""
        value = self.value()
        return queryset.filter(**{self.parameter_name: value.replace("\0", "")}) if value else queryset


class QueueFilter(KnownValues):
    """By queue."""

    title = "queue"
    parameter_name = "queue"


class ActorFilter(KnownValues):
    """By actor."""

    title = "actor"
    parameter_name = "actor"


class CauseFilter(KnownValues):
    """By cause."""

    title = "cause"
    parameter_name = "cause"


class AgeFilter(admin.SimpleListFilter):
    """By the time of the last death."""

    title = "last failed in"
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Hour, day and week."""
        return [(name, words) for name, (words, _) in AGES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> QuerySet[DeadLetter]:
        """Those that failed since then."""
        since = since_of(self.value(), now=timezone.now())
        return queryset.filter(last_failed_at__gte=since) if since else queryset


def since_of(age: str | None, *, now: datetime) -> datetime | None:
    """The time that a choice of age means."""
    return now - AGES[age][1] if age in AGES else None


def find(term: str) -> Q:
    """What a search term may name, whole: a payment, a delivery, a message, a request."""
    found = Q(subject=term) | Q(request_id=term)
    if id_ := as_uuid(term.removeprefix(f"{PAYMENT}:").removeprefix(f"{DELIVERY}:")):
        found |= Q(subject__in=[f"{PAYMENT}:{id_}", f"{DELIVERY}:{id_}"]) | Q(message_id=id_)
    return found


def as_uuid(text: str) -> UUID | None:
    """The id in a text, if it is one."""
    try:
        return UUID(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class ListFilters:
    """The filters of the list, by their parameters."""

    #: What a selection can say as well; a list that is narrowed down otherwise can only be resolved letter by letter.
    UNDERSTOOD: ClassVar = frozenset({"queue", "actor", "cause", "age"})
    #: What changes the order, the page or the look of the filters, and not what matches.
    HARMLESS: ClassVar = frozenset({"o", "p", "e", "all", "_facets"})

    parameters: Mapping[str, str]

    def given(self) -> dict[str, str]:
        """Those that a selection understands."""
        return {name: value for name, value in self.parameters.items() if name in self.UNDERSTOOD and value}

    def is_understood(self) -> bool:
        """Whether what the list shows are exactly the open letters of a selection."""
        rest = {name for name, value in self.parameters.items() if value} - self.UNDERSTOOD - self.HARMLESS
        return not rest or (rest == {"state"} and self.parameters["state"] == DeadLetter.State.OPEN)

    def selection(self, *, now: datetime) -> Selection:
        """The open letters that match."""
        given = {name: value.replace("\0", "") for name, value in self.given().items()}
        return Selection(
            queue=given.get("queue", ""),
            actor=given.get("actor", ""),
            cause=given.get("cause", ""),
            since=since_of(given.get("age"), now=now),
        )
