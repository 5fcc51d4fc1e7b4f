"""The console's home: what today is like, each number with the list behind it, and the last thirty days."""

from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from analytics.models import MetricsRun
from console.cards import cards
from console.daily_charts import all_charts
from console.period import period
from merchants.models import Mode

#: Numbers older than this are called old: cron computes them every five minutes.
FRESH_FOR: Final = timedelta(minutes=15)


def dashboard(request: HttpRequest, *, now: datetime | None = None) -> dict[str, Any]:
    """The context of the home page."""
    now = now or timezone.now()
    mode = mode_of(request)
    shown = period(mode, today=now.date()) if request.user.has_perm("analytics.view_dailymetric") else None
    latest = MetricsRun.objects.order_by("-id").values_list("finished_at", flat=True).first() if shown else None
    return {
        "cards": cards(request, shown),
        "charts": all_charts(shown) if shown else [],
        "mode": mode,
        "modes": list(Mode),
        "computed_at": latest,
        "is_old": shown is not None and (latest is None or now - latest > FRESH_FOR),
        "may_see": shown is not None,
    }


def mode_of(request: HttpRequest) -> Mode:
    """Which money is looked at: as asked for, else the real one where there is any."""
    asked = request.GET.get("mode", "")
    if asked in Mode.values:
        return Mode(asked)
    return Mode.LIVE if any(gateway["MODE"] == "live" for gateway in settings.GATEWAYS.values()) else Mode.TEST
