"""Filters of the audit that are typed: its values are too many for a list of links."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from merchants.models import AuditEntry


class TextFilter(admin.SimpleListFilter):
    """One line of text."""

    template = "admin/text_filter.html"
    input_type = "text"
    example = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """One, so that it is shown."""
        return [("", "")]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """What is typed now, and the other filters, which stay."""
        others = [(name, value) for name, value in changelist.params.items() if name not in {self.parameter_name, "p"}]
        yield {
            "value": self.value() or "",
            "others": others,
            "query_string": changelist.get_query_string(remove=[self.parameter_name or ""]),
        }

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        """Those that match, if anything is typed."""
        text = (self.value() or "").replace("\0", "").strip()
        return queryset.filter(self.condition(text)) if text else queryset

    def condition(self, text: str) -> Q:
        """What is asked for."""
        raise NotImplementedError  # each subclass says


class ActorFilter(TextFilter):
    """By who."""

    title = "actor"
    parameter_name = "actor"
    example = "user:ada"

    def condition(self, text: str) -> Q:
        """The whole name, with or without its kind."""
        return Q(actor__in=[text, f"user:{text}", f"shell:{text}", f"key:{text}"])


class ActionFilter(TextFilter):
    """By what was done."""

    title = "action"
    parameter_name = "action"
    example = "webhook_endpoint."

    def condition(self, text: str) -> Q:
        """Its beginning."""
        return Q(action__startswith=text)


class MerchantFilter(TextFilter):
    """By whose things it was done to."""

    title = "merchant"
    parameter_name = "merchant"
    example = "slug"

    def condition(self, text: str) -> Q:
        """The whole slug."""
        return Q(merchant__slug=text)


class SinceFilter(TextFilter):
    """From a day on."""

    title = "first day (UTC)"
    parameter_name = "since"
    input_type = "date"

    def condition(self, text: str) -> Q:
        """At its beginning or later; what is no day finds nothing."""
        return Q(at__gte=moment) if (moment := beginning(text)) else Q(pk=None)


class BeforeFilter(TextFilter):
    """Until a day."""

    title = "before the day (UTC)"
    parameter_name = "before"
    input_type = "date"

    def condition(self, text: str) -> Q:
        """Before its beginning; what is no day finds nothing."""
        return Q(at__lt=moment) if (moment := beginning(text)) else Q(pk=None)


def beginning(text: str) -> datetime | None:
    """The moment that a day or a time in ISO 8601 means."""
    try:
        found = parse_datetime(text) if "T" in text else parse_date(text)
    except ValueError:
        return None
    if found is None:
        return None
    moment = found if isinstance(found, datetime) else datetime(found.year, found.month, found.day, tzinfo=UTC)
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
