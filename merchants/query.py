"""Query parameters: each that is given is known, given once and not empty. No filter is silently none."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, cast

from django import forms
from django.core.exceptions import ValidationError as FormError
from django.http import QueryDict
from django_filters import IsoDateTimeFilter
from django_filters.fields import IsoDateTimeField
from django_filters.rest_framework.filterset import FilterSet
from rest_framework.exceptions import ErrorDetail, ValidationError

Faults = dict[str, list[ErrorDetail]]

#: Parameters of paging, which every list takes.
PAGING: Final = frozenset({"cursor", "page_size"})
#: Unknown parameters that an error names; an address can hold hundreds.
MAX_UNKNOWN_REPORTED: Final = 20
BEYOND_CALENDAR: Final = "This moment is beyond the calendar: it lies before the year 1 or after the year 9999 in UTC."
NOT_A_MOMENT: Final = "Send a moment in ISO 8601, such as 2026-01-31T12:00:00Z; a `+` in an address is written `%2B`."


def find_parameter_faults(query: QueryDict, known: Collection[str]) -> Faults:
    """Return what is wrong with the parameters of a query, whatever their values mean.

    A misspelt filter, an empty one, and one that another of the same name overrides would each show more than was
    asked for.
    """
    unknown = sorted(query.keys() - set(known))[:MAX_UNKNOWN_REPORTED]
    message = "There is no such parameter. Known are: " + ", ".join(known) + "."
    faults: Faults = {name[:100]: [ErrorDetail(message, code="unknown_parameter")] for name in unknown}
    for name in query.keys() & set(known):
        values = query.getlist(name)
        if len(values) > 1:
            faults[name] = [ErrorDetail("Give this parameter once; it was given several times.", code="repeated")]
        elif not values[0].strip():
            faults[name] = [ErrorDetail("This parameter is empty: give it a value, or leave it out.", code="empty")]
    return faults


def read_parameters(query: QueryDict, known: Collection[str]) -> dict[str, Any]:
    """Return the parameters of a query as a dictionary.

    Raises:
        ValidationError: one is unknown, empty or given more than once.
    """
    if faults := find_parameter_faults(query, known):
        raise ValidationError(faults)
    return query.dict()


class UtcField(IsoDateTimeField):
    """A moment in ISO 8601 as UTC."""

    default_error_messages: ClassVar = {"invalid": NOT_A_MOMENT}

    def clean(self, value: Any) -> datetime | None:
        """Return the moment.

        Raises:
            FormError: in UTC it lies before the year 1 or after the year 9999.
        """
        try:
            moment: datetime | None = super().clean(value)
            return moment.astimezone(UTC) if moment else None
        except OverflowError:
            raise FormError(BEYOND_CALENDAR, code="invalid") from None


class UtcFilter(IsoDateTimeFilter):
    """A moment in ISO 8601, as UTC."""

    field_class = UtcField


class StrictFilter(FilterSet):
    """Narrow down a list. This one knows the parameters of paging alone."""

    def is_valid(self) -> bool:
        """Return True.

        Raises:
            ValidationError: names each parameter that is unknown, empty, given more than once, or not understood.
        """
        faults = find_parameter_faults(self.data, [*self.filters, *sorted(PAGING)])
        if not super().is_valid():  # type: ignore[no-untyped-call]  # django-filter has no annotations
            for name, errors in self.form.errors.as_data().items():
                faults.setdefault(name, [describe_fault(self.form.fields[name], error) for error in errors])
        if faults:
            raise ValidationError(faults)
        return True


def describe_fault(field: forms.Field, error: FormError) -> ErrorDetail:
    """Return what is wrong with a parameter, in the API's words instead of Django's."""
    code = error.code or "invalid"
    if isinstance(field, forms.ChoiceField):
        names = [str(name) for name, _ in cast("Iterable[tuple[str, str]]", field.choices) if name]
        return ErrorDetail("Choose one of: " + ", ".join(names) + ".", code=code)
    if isinstance(field, forms.UUIDField):
        return ErrorDetail("Send an id, such as 0192f1c4-7a3e-7c1b-9d43-3f0b1c2d4e5f.", code=code)
    if code == "null_characters_not_allowed":
        return ErrorDetail("A text has no null characters.", code=code)
    return ErrorDetail(str(error.messages[0]), code=code)
