"""`/metrics` in Prometheus' text format: what this process counted, and what the database knows."""

import os
from collections.abc import Iterable, Iterator
from typing import Final

import prometheus_client
from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from console.bearer import may_look

#: Name, help, query. Each query reads a partial index or a small table.
GAUGES: Final = (
    ("payments_outbox_messages", "Messages waiting to be published.", "SELECT count(*) FROM messaging_outboxmessage"),
    (
        "payments_outbox_oldest_seconds",
        "Age of the oldest message that is due.",
        """
        SELECT coalesce(extract(epoch FROM now() - min(available_at)), 0)
        FROM messaging_outboxmessage WHERE available_at <= now()
        """,
    ),
    (
        "payments_notification_queue_usage",
        "Share of PostgreSQL's notification queue in use, 0 to 1.",
        "SELECT pg_notification_queue_usage()",
    ),
    (
        "payments_in_work",
        "Payments neither final nor parked.",
        "SELECT count(*) FROM payments_payment WHERE revive_at IS NOT NULL",
    ),
    (
        "payments_unknown",
        "Payments whose outcome is being looked up.",
        "SELECT count(*) FROM payments_payment WHERE status = 'unknown'",
    ),
    (
        "payments_held",
        "Payments that wait for a paused gateway or an open breaker.",
        "SELECT count(*) FROM payments_payment WHERE held_since IS NOT NULL",
    ),
    (
        "payments_gateway_held_up",
        "1 while a gateway is paused or its breaker is not closed; 0 after it once was.",
        """
        SELECT (paused_at IS NOT NULL OR open_until IS NOT NULL)::int, gateway FROM payments_gatewaycircuit
        """,
    ),
    (
        "payments_dead_letters_open",
        "Dead letters nobody has decided on.",
        "SELECT count(*) FROM messaging_deadletter WHERE state = 'open'",
    ),
    (
        "payments_unmatched_charges",
        "Charges at a gateway that no payment accounts for, by what is done about them.",
        # The index `unmatched_charge_pending` has these two states, and nothing else.
        """
        SELECT count(*), gateway, state FROM payments_unmatchedcharge
        WHERE state IN ('open', 'refunding') GROUP BY gateway, state
        """,
    ),
    (
        "payments_decline_blocks",
        "Payers and merchants from whom nothing is accepted after many declines.",
        "SELECT count(*) FROM payments_declineblock WHERE lifted_at IS NULL AND ends_at > now()",
    ),
    (
        "payments_deliveries_pending",
        "Deliveries under way or waiting for their next attempt, by channel.",
        # The index `delivery_revive` has what is pending, and nothing else.
        "SELECT count(*), channel FROM notifications_delivery WHERE revive_at IS NOT NULL GROUP BY channel",
    ),
    (
        "payments_deliveries_oldest_due_seconds",
        "How long the delivery that has waited longest is overdue.",
        """
        SELECT coalesce(extract(epoch FROM now() - min(next_attempt_at)), 0)
        FROM notifications_delivery WHERE revive_at IS NOT NULL AND next_attempt_at <= now()
        """,
    ),
    (
        "payments_webhook_endpoints",
        "Webhook endpoints that fail, and that are disabled.",
        """
        SELECT count(endpoint.id), health FROM (VALUES ('failing'), ('disabled')) AS known (health)
        LEFT JOIN notifications_webhookendpoint AS endpoint ON deleted_at IS NULL
            AND CASE health WHEN 'disabled' THEN NOT enabled ELSE enabled AND failing_since IS NOT NULL END
        GROUP BY health
        """,
    ),
    (
        "payments_heartbeat_age_seconds",
        "Age of the freshest heartbeat, by process.",
        "SELECT extract(epoch FROM now() - max(beat_at)), process FROM messaging_heartbeat GROUP BY process",
    ),
)

#: What only grows, as gauges above; these rows are never deleted.
COUNTERS: Final = (
    (
        "payments_dead_letters",
        "Dead letters there ever were, by queue, actor and cause.",
        "SELECT total, queue, actor, cause FROM messaging_deathcount",
    ),
)


class DatabaseMetrics(Collector):
    """Asks the database at every scrape."""

    def collect(self) -> Iterator[Metric]:
        """One family per query; one round trip each, none kept between scrapes."""
        yield from read(GAUGES, GaugeMetricFamily)
        yield from read(COUNTERS, CounterMetricFamily)


def read(
    queries: Iterable[tuple[str, str, str]], kind: type[GaugeMetricFamily | CounterMetricFamily]
) -> Iterator[Metric]:
    """The families of some queries: the first column is the value, the others are labels."""
    with connection.cursor() as cursor:
        for name, text, query in queries:
            cursor.execute(query)
            rows = cursor.fetchall()
            family = kind(name, text, labels=[column.name for column in cursor.description[1:]])
            for value, *labels in rows:
                family.add_metric(labels, float(value))
            yield family


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """All metrics, for who shows METRICS_TOKEN; the database's are left out while it is away."""
    if not may_look(request):
        return refused()
    registry = CollectorRegistry()
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)
        text = prometheus_client.generate_latest(registry)
    else:
        text = prometheus_client.generate_latest(prometheus_client.REGISTRY)
    gauges = CollectorRegistry()
    gauges.register(DatabaseMetrics())
    try:
        text += prometheus_client.generate_latest(gauges)
    except Error:
        text += b"# The database does not answer.\n"
    return HttpResponse(text, content_type=prometheus_client.CONTENT_TYPE_LATEST)


def refused() -> HttpResponse:
    """What a scraper without the token is told."""
    if not settings.METRICS_TOKEN:
        words = "Metrics are shown to nobody: set METRICS_TOKEN, and send it as `Authorization: Bearer …`.\n"
        return HttpResponse(words, status=403, content_type="text/plain; charset=utf-8")
    words = "Send METRICS_TOKEN as `Authorization: Bearer …`.\n"
    headers = {"WWW-Authenticate": 'Bearer realm="metrics"'}
    return HttpResponse(words, status=401, headers=headers, content_type="text/plain; charset=utf-8")
