"""The goals, as ratios of figures of one run, and how far they are reached."""

from dataclasses import dataclass
from typing import Final

from bench.figures import Results
from bench.ours.growth import SIZES, beside


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of two figures (or one figure by itself), the goal for it, and the moonshot beyond."""

    name: str
    text: str
    over: str
    under: str
    goal: float
    moonshot: float
    less_is_more: bool = False


def grown(what: str) -> tuple[str, str]:
    """The figures of the largest size, and of the small one beside it."""
    return f"growth_{what}_{SIZES[-1]}", f"growth_{what}_{beside(SIZES[-1])}"


GOALS: Final = (
    Goal("G1", "accept, 64 connections, / pgbench tx of the same rows", "accept_64", "tx", 0.15, 0.50),
    Goal("G2", "accept / FastAPI + SQLAlchemy outbox service", "accept_64", "sqlalchemy_accept_64", 3, 8),
    Goal("G3", "accept / FastAPI + raw asyncpg", "accept_64", "asyncpg_accept_64", 0.4, 1.2),
    Goal("G4", "relay rows / pipelined publish limit", "relay", "publish", 0.6, 0.9),
    Goal(
        "G5",
        "accepted to final at 10/s: p50 / the peer's",
        "latency_10",
        "sqlalchemy_latency_10",
        1 / 50,
        1 / 200,
        True,
    ),
    Goal("G6", "drained payments / Django + Celery threads", "drain", "celery_drain", 2, 12),
    Goal("G7", "accept at 10^7 rows / at 10^4 beside it", *grown("accept"), 0.8, 0.95),
    Goal("G7", "drain at 10^7 rows / at 10^4 beside it", *grown("drain"), 0.8, 0.95),
    Goal("G8", "daily metrics: full rebuild / one scan", "metrics", "", 6, 3, True),
    Goal("G8", "the same over 10^7 payments", "growth_metrics_10000000", "", 6, 3, True),
    Goal("G9", "intake messages / pgbench tx", "intake", "tx", 0.3, 1.0),
    Goal("G10", "gateway calls in flight per worker at 2 s latency", "in_flight", "", 64, 500),
    Goal("memory", "web worker, MB", "memory_web", "", 120, 120, True),
    Goal("memory", "relay, MB", "memory_relay_drain", "", 80, 80, True),
    Goal("memory", "worker, MB", "memory_worker", "", 150, 150, True),
)


def value_of(goal: Goal, results: Results) -> float | None:
    """What was measured, if it was and counts."""
    if goal.under:
        return results.ratio(goal.over, goal.under)
    found = results.summaries().get(goal.over)
    return None if found is None or found.faults else found.median


def verdict(goal: Goal, value: float | None) -> str:
    """In words; nothing depends on it."""
    if value is None:
        return "not measured"
    if reaches(value, goal.moonshot, goal):
        return "reached, moonshot too"
    return "reached" if reaches(value, goal.goal, goal) else "not reached"


def reaches(value: float, mark: float, goal: Goal) -> bool:
    """Whether a value is at the mark or beyond."""
    return value <= mark if goal.less_is_more else value >= mark
