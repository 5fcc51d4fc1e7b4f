"""The query parameters of the analytics, checked; and the answers, described for the documentation."""

from datetime import date, timedelta
from typing import Any, Final

from rest_framework import serializers

from analytics.reads import Question
from analytics.stretches import FIRST_DAY, find_today, today_somewhere
from merchants.principal import Principal
from merchants.strict import ChoiceField, KnownFieldsOnly
from payments.fields import CurrencyField

#: A year, and room to compare it with the days around it; more belongs into an export.
MOST_DAYS: Final = 400
#: What is shown where nobody says from when.
DAYS_AT_FIRST: Final = 30
#: What rows can be grouped by, besides their day.
GROUPS: Final = ("currency", "gateway", "currency,gateway", "none")


def invalid(name: str, message: str) -> serializers.ValidationError:
    """What is wrong with a parameter."""
    return serializers.ValidationError({name: serializers.ErrorDetail(message, code="invalid")})


class RangeSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Which days, of which currency and gateway. `context["caller"]` is the principal, in whose zone today is taken."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Their names are words of Python's, so they cannot stand as attributes."""
        return {
            "from": serializers.DateField(
                required=False, help_text=f"The first day. Default: {DAYS_AT_FIRST} days with the last."
            ),
            "to": serializers.DateField(
                required=False, help_text="The last day. Default: today, in the merchant's time zone."
            ),
            "currency": CurrencyField(required=False, help_text="This currency alone."),
            "gateway": serializers.CharField(required=False, max_length=30, help_text="This gateway alone."),
        }

    def validate_to(self, last: date) -> date:
        """No day before all days."""
        if last < FIRST_DAY:
            raise serializers.ValidationError(f"There is nothing before {FIRST_DAY}.")
        return last

    def validate_from(self, first: date) -> date:
        """No day before all days."""
        return self.validate_to(first)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The range, complete and in order."""
        today = find_today(self.context["caller"].merchant.time_zone)
        last = attrs.setdefault("to", max(today, attrs.get("from", today)))
        first = attrs.setdefault("from", max(FIRST_DAY, last - timedelta(days=DAYS_AT_FIRST - 1)))
        if first > last:
            raise invalid("from", f"{first} lies after {last}: name the earlier day first.")
        if first > today_somewhere():
            raise invalid("from", f"{first} lies in the future: nothing was paid on it yet.")
        if (last - first).days >= MOST_DAYS:
            raise invalid("from", f"That is more than {MOST_DAYS} days; ask for them in parts.")
        return attrs

    def to_question(self, caller: Principal, **grouped: bool) -> Question:
        """What to ask for, after `is_valid`."""
        asked = self.validated_data
        return Question(
            merchant=caller.merchant,
            mode=caller.mode,
            first=asked["from"],
            last=asked["to"],
            currency=asked.get("currency", ""),
            gateway=asked.get("gateway", ""),
            **grouped,
        )


class DailyQuerySerializer(RangeSerializer):
    """As well: how finely."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """With the groups."""
        help_text = "`none`: one row a day; sums of money are then told for one `currency` alone."
        grouped = ChoiceField(choices=GROUPS, default="currency", help_text=help_text)
        return {**super().get_fields(), "group_by": grouped}

    def to_daily_question(self, caller: Principal) -> Question:
        """What to ask for, after `is_valid`."""
        groups = self.validated_data["group_by"].split(",")
        return self.to_question(caller, by_currency="currency" in groups, by_gateway="gateway" in groups)


class CountsSerializer(serializers.Serializer[Any]):
    """How many payments became what."""

    accepted = serializers.IntegerField(help_text="Payments that were accepted on these days.")
    succeeded = serializers.IntegerField(help_text="Of these: money was captured.")
    failed = serializers.IntegerField()
    canceled = serializers.IntegerField()
    open = serializers.IntegerField(help_text="Not at their end yet.")
    refunds = serializers.IntegerField(help_text="Payments of which something was given back.")
    success_rate = serializers.FloatField(allow_null=True, help_text="Of those that succeeded or failed; 0 to 1.")
    failure_rate = serializers.FloatField(allow_null=True, help_text="The rest of it.")
    attempts_per_payment = serializers.FloatField(allow_null=True, help_text="Charges sent to the gateway.")


class SecondsSerializer(serializers.Serializer[Any]):
    """From accepted to final, in seconds."""

    mean = serializers.FloatField(allow_null=True)
    p50 = serializers.FloatField(allow_null=True)
    p95 = serializers.FloatField(allow_null=True)
    p99 = serializers.FloatField(allow_null=True)


class DailyMetricSerializer(CountsSerializer):
    """The numbers of one day and group. `analytics.reads.represent_row` makes it."""

    day = serializers.DateField(help_text="In the merchant's time zone.")
    currency = serializers.CharField(allow_null=True, help_text="null: all of them.")
    gateway = serializers.CharField(allow_null=True, help_text="null: all of them.")
    volume = serializers.CharField(allow_null=True, help_text="Captured, in major units; null: of several currencies.")
    refunded = serializers.CharField(allow_null=True)
    seconds = SecondsSerializer()
    failure_reasons = serializers.DictField(child=serializers.IntegerField(), help_text="Error or decline code: count.")


class DaysSerializer(serializers.Serializer[Any]):
    """What range an answer is about, and how fresh it is."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Their names are words of Python's."""
        return {
            "from": serializers.DateField(),
            "to": serializers.DateField(),
            "time_zone": serializers.CharField(help_text="In which these days begin and end."),
            "computed_at": serializers.DateTimeField(
                allow_null=True, help_text="When one of the rows last changed; null: there are none."
            ),
            **super().get_fields(),
        }


class DailyMetricsSerializer(DaysSerializer):
    """The answer of `GET /analytics/daily`."""

    data = DailyMetricSerializer(many=True)  # type: ignore[assignment]  # the member has this name


class PeriodSecondsSerializer(serializers.Serializer[Any]):
    """From accepted to final, in seconds, over several days."""

    mean = serializers.FloatField(allow_null=True)
    highest_daily_p95 = serializers.FloatField(allow_null=True, help_text="Percentiles of days do not add up.")


class PeriodSerializer(CountsSerializer):
    """The numbers of several days."""

    volume = serializers.DictField(child=serializers.CharField(), help_text="Currency: captured, in major units.")
    refunded = serializers.DictField(child=serializers.CharField())
    seconds = PeriodSecondsSerializer()
    failure_reasons = serializers.DictField(child=serializers.IntegerField())


class SummarySerializer(DaysSerializer):
    """The answer of `GET /analytics/summary`."""

    current = PeriodSerializer()
    previous = PeriodSerializer(help_text="The same of as many days right before.")
