"""What a run prints: one table of all figures, and the list of the goals."""

from collections.abc import Iterator
from typing import Final

from bench.figures import Results, Summary
from bench.goals import GOALS, value_of, verdict
from bench.ours.growth import SIZES, SMALLEST, beside

#: Key -> what it says in the table, and the figure that it is compared with.
ROWS: Final = {
    "tx": ("limit: PostgreSQL, one transaction (16 clients)", ""),
    "one": ("limit: PostgreSQL, one statement (16 clients)", "tx"),
    "publish": ("limit: RabbitMQ, pipelined publish", ""),
    "sqlalchemy_accept_64": ("peer: accept, FastAPI + SQLAlchemy, 64 connections", "tx"),
    "asyncpg_accept_64": ("peer: accept, FastAPI + asyncpg, 64 connections", "tx"),
    "accept_1": ("accept, 1 connection", "tx"),
    "accept_16": ("accept, 16 connections", "tx"),
    "accept_64": ("accept, 64 connections", "tx"),
    "accept_key_64": ("accept by API key, 64 connections", "tx"),
    "replay_64": ("replays, 64 connections", "accept_64"),
    "get_64": ("GET one payment, 64 connections", "accept_64"),
    "list_64": ("GET the list, 64 connections", "accept_64"),
    "relay": ("relay", "publish"),
    "celery_drain": ("peer: drain, Django + Celery threads", ""),
    "drain": ("drain", "celery_drain"),
    "sqlalchemy_latency_10": ("peer: accepted to final at 10/s, 2 s poll", ""),
    "latency_1": ("accepted to final at 1/s", "sqlalchemy_latency_10"),
    "latency_10": ("accepted to final at 10/s", "sqlalchemy_latency_10"),
    "latency_50": ("accepted to final at 50/s", "sqlalchemy_latency_10"),
    "intake": ("intake", "tx"),
    "webhooks": ("webhooks out", ""),
    "metrics": ("daily metrics: rebuild / one scan", ""),
    "in_flight": ("gateway calls in flight, one worker, 2 s each", ""),
    "memory_web": ("memory: web worker", ""),
    "memory_relay": ("memory: relay, nobody consumes", ""),
    "memory_relay_drain": ("memory: relay", ""),
    "memory_worker": ("memory: worker", ""),
    "memory_worker_in_flight": ("memory: worker before a slow gateway", ""),
    "memory_intake": ("memory: intake", ""),
    **{
        f"growth_{what}_{size}": (f"{what} at {size:,} payments", f"growth_{what}_{beside(size)}")
        for what in ("accept", "drain")
        for size in SIZES
    },
    **{
        f"growth_{what}_{beside(size)}": (f"{what} at {SMALLEST:,} payments, beside {size:,}", "")
        for what in ("accept", "drain")
        for size in SIZES
    },
    **{f"growth_metrics_{size}": (f"daily metrics of {size:,} payments: rebuild / one scan", "") for size in SIZES},
}
HEADS: Final = ("", "median", "min", "max", "", "ratio", "p50/p95/p99 ms", "cores: load/server/db/broker")


def render(results: Results) -> str:
    """The table, the goals and the foot, as text."""
    found = results.summaries()
    keys = [*(key for key in ROWS if key in found), *(key for key in found if key not in ROWS)]
    rows = [HEADS, *(row(found[key], results) for key in keys)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(HEADS))]
    lines = [aligned(line, widths) for line in rows]
    return "\n".join([*lines, "", *faults(found), *goals(results), "", *foot(results)])


def aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    """Text to the left, numbers to the right."""
    return "  ".join(
        cell.ljust(width) if column in {0, 4} else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()


def row(summary: Summary, results: Results) -> tuple[str, ...]:
    """One figure."""
    label, to = ROWS.get(summary.key, (summary.key, ""))
    ratio = results.ratio(summary.key, to) if to else None
    numbers = (summary.median, summary.least, summary.most)
    mark = "!" if summary.faults else ""
    return (
        label,
        *(f"{mark}{number(value)}" for value in numbers),
        summary.unit,
        "" if ratio is None else f"{number(ratio)} x {to}",
        times(summary.details),
        cores(summary.details),
    )


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def times(details: dict[str, float]) -> str:
    """Percentiles."""
    return "/".join(number(details[name]) for name in ("p50", "p95", "p99")) if "p99" in details else ""


def cores(details: dict[str, float]) -> str:
    """How many cores each of them kept busy."""
    used = {name.removeprefix("cpu_"): share for name, share in details.items() if name.startswith("cpu_")}
    server = used.get("server", used.get("workers", 0.0) + used.get("relay", 0.0))
    shares = (used.get("load", 0.0), server, used.get("postgres", 0.0), used.get("rabbitmq", 0.0))
    return "/".join(f"{share:.2f}" for share in shares) if any(shares) else ""


def faults(found: dict[str, Summary]) -> Iterator[str]:
    """What counts for nothing, loudly."""
    for summary in found.values():
        for fault in dict.fromkeys(summary.faults):
            yield f"! INVALID: {summary.key}: {fault}"


def goals(results: Results) -> Iterator[str]:
    """Each goal, and whether it is reached."""
    for goal in GOALS:
        value = value_of(goal, results)
        shown = "-" if value is None else number(value)
        sign = "at most" if goal.less_is_more else "at least"
        marks = f"{sign} {number(goal.goal)}, moonshot {number(goal.moonshot)}"
        yield f"{goal.name:<7}{goal.text:<58}{shown:>9}  ({marks})  {verdict(goal, value)}"


def foot(results: Results) -> Iterator[str]:
    """What was measured with which settings."""
    for name, value in results.about.items():
        yield f"{name}: {value}"
