"""The query parameters of the lists: `GET /payments` and `GET /events`."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from django.db.models import Model, QuerySet
from django_filters import CharFilter, ChoiceFilter, UUIDFilter
from rest_framework.exceptions import ValidationError

from merchants.query import StrictFilter, UtcFilter
from merchants.strict import IdentifierField
from payments.events import EVENT_TYPES
from payments.fields import DECIMAL
from payments.models import Payment, PaymentEvent
from payments.money import EXPONENTS, MAX_MINOR_UNITS, OutOfRange, TooManyDecimals, to_major_units, to_minor_units
from payments.states import Status


class IdentifierFilter(CharFilter):
    """An identifier of the merchant's system, by the rules of the field that stores it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, strip=False, **options)

    def filter(self, qs: QuerySet[Model], value: str) -> QuerySet[Model]:
        """Compare in NFC, as the identifier is stored.

        Raises:
            ValidationError: no identifier can be like this.
        """
        try:
            identifier = IdentifierField(max_length=255).run_validation(value) if value else value
        except ValidationError as error:
            raise ValidationError({self.field_name: error.detail}) from None
        filtered: QuerySet[Model] = super().filter(qs, identifier)
        return filtered


class PaymentFilter(StrictFilter):
    """Narrow down a merchant's payments."""

    status = ChoiceFilter(choices=Status.choices)
    order_id = IdentifierFilter()
    user_id = IdentifierFilter()
    currency = CharFilter(method="filter_currency", strip=False)
    amount_from = CharFilter(
        method="filter_amount", help_text="Major units, such as 10.00; this amount included. Needs `currency`."
    )
    amount_to = CharFilter(
        method="filter_amount", help_text="Major units, such as 10.00; this amount included. Needs `currency`."
    )
    created_from = UtcFilter(field_name="created_at", lookup_expr="gte")
    created_before = UtcFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Payment
        fields: ClassVar[list[str]] = []

    #: Parameter -> the comparison that it asks for.
    BOUNDS: ClassVar[Mapping[str, str]] = {"amount_from": "amount__gte", "amount_to": "amount__lte"}

    def filter_currency(self, queryset: QuerySet[Payment], name: str, value: str) -> QuerySet[Payment]:
        """Apply the currency.

        Raises:
            ValidationError: no payment can have it.
        """
        return queryset.filter(currency=require_currency(value))

    def filter_amount(self, queryset: QuerySet[Payment], name: str, value: str) -> QuerySet[Payment]:
        """Apply one end of a range of amounts, in the light of the currency.

        Raises:
            ValidationError: it is no amount of the currency, or no currency of ours is named.
        """
        currency = self.form.cleaned_data["currency"]
        if not currency:
            raise ValidationError({"currency": f"`{name}` means nothing without it: name a currency."}, code="required")
        require_currency(currency)
        if not DECIMAL.fullmatch(value):
            raise ValidationError({name: "An amount is a decimal number such as 10.00."}, code="invalid")
        try:
            return queryset.filter(**{self.BOUNDS[name]: to_minor_units(Decimal(value), currency)})
        except TooManyDecimals:
            message = f"{currency} has {EXPONENTS[currency]} decimals; this amount has more."
            raise ValidationError({name: message}, code="decimals") from None
        except OutOfRange:
            message = f"An amount is above 0 and at most {to_major_units(MAX_MINOR_UNITS, currency)} {currency}."
            raise ValidationError({name: message}, code="range") from None


def require_currency(currency: str) -> str:
    """Return the currency.

    Raises:
        ValidationError: it is not one that payments can have.
    """
    if currency not in EXPONENTS:
        message = f"{currency[:10]} is not a currency that we take; use an ISO 4217 code in capital letters."
        raise ValidationError({"currency": message}, code="unknown")
    return currency


class EventFilter(StrictFilter):
    """Narrow down what happened to a merchant's payments."""

    type = ChoiceFilter(choices=[(name, name) for name in EVENT_TYPES])
    payment_id = UUIDFilter()
    created_from = UtcFilter(field_name="created_at", lookup_expr="gte")
    created_before = UtcFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = PaymentEvent
        fields: ClassVar[list[str]] = []
