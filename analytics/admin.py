"""Daily metrics in the admin: by day, merchant, currency and gateway."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from analytics.export import COLUMNS
from analytics.models import DailyMetric, MetricsRun
from analytics.reads import ratio
from merchants.exports import Exported
from messaging.look_only import LookOnly
from payments.money import to_major_units


class Grouped(admin.SimpleListFilter):
    """Whether rows of all currencies, gateways or merchants are shown, or those of each."""

    title = "rows"
    parameter_name = "rows"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """How finely."""
        return [
            ("all", "all merchants, by currency"),
            ("merchants", "by merchant and currency"),
            ("every", "every row"),
        ]

    def choices(self, changelist: Any) -> Any:
        """Without Django's "All", which is the last of ours."""
        for value, title in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: value})
            yield {"selected": (self.value() or "merchants") == value, "query_string": query, "display": title}

    def queryset(self, request: HttpRequest, queryset: QuerySet[DailyMetric]) -> QuerySet[DailyMetric]:
        """By merchant and currency, if nothing else is asked for."""
        match self.value():
            case "every":
                return queryset
            case "all":
                return queryset.filter(merchant=None, gateway="").exclude(currency="")
        return queryset.filter(merchant__isnull=False, gateway="").exclude(currency="")


@admin.register(DailyMetric)
class DailyMetricAdmin(LookOnly, Exported):
    """What the payments of each day came to."""

    export = "metrics"
    export_columns = COLUMNS

    list_display = (
        *("day", "whose", "mode", "currency", "gateway", "accepted", "succeeded", "failed", "rate", "money"),
        *("seconds_p50", "seconds_p95", "tries"),
    )
    list_filter = (Grouped, "mode", ("merchant", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("merchant",)
    search_fields = ("=currency", "=gateway", "=merchant__slug")
    search_help_text = "A currency, a gateway, or a merchant's slug."
    ordering = ("-day", "merchant", "currency", "gateway")
    date_hierarchy = "day"
    show_full_result_count = False
    list_per_page = 100

    @admin.display(description="merchant", ordering="merchant")
    def whose(self, row: DailyMetric) -> str:
        """The merchant, or all of them."""
        return str(row.merchant) if row.merchant else "all"

    @admin.display(description="success rate")
    def rate(self, row: DailyMetric) -> str:
        """Of those that succeeded or failed."""
        share = ratio(row.succeeded, row.succeeded + row.failed)
        return "-" if share is None else f"{share:.1%}"

    @admin.display(description="volume", ordering="volume")
    def money(self, row: DailyMetric) -> str:
        """In major units."""
        return "-" if row.volume is None else f"{to_major_units(row.volume, row.currency)} {row.currency}"

    @admin.display(description="attempts per payment")
    def tries(self, row: DailyMetric) -> str:
        """Charges sent to the gateway."""
        return f"{ratio(row.attempts, row.accepted) or 0:.2f}"


@admin.register(MetricsRun)
class MetricsRunAdmin(LookOnly, admin.ModelAdmin[MetricsRun]):
    """When they were computed."""

    list_display = ("id", "first_day", "last_day", "rows", "rebuild", "seen_up_to", "started_at", "finished_at")
    list_filter: ClassVar = ["rebuild"]
    ordering = ("-id",)
    show_full_result_count = False
