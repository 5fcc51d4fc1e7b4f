"""`python -m bench soak MINUTES=60`: a steady load, and minute by minute what it makes of memory, tables and times."""

import asyncio
import os
from collections.abc import Mapping
from typing import Final

from bench.client import payment, send_steadily
from bench.figures import Figure, Results
from bench.options import Options
from bench.ours.house import House
from bench.processes import megabytes, tree
from bench.stage import Stage, a_prefix, a_stage
from deploy.local.supervisor import Process

DATABASE: Final = "soak"
MINUTE: Final = 60.0
#: Tables that are shown: the largest.
TABLES: Final = 6
SIZES: Final = """
    SELECT jsonb_object_agg(relname, round(pg_total_relation_size(relid) / 1e6, 1)::float)
    FROM (SELECT * FROM pg_stat_user_tables ORDER BY pg_total_relation_size(relid) DESC LIMIT %s) AS largest
"""
#: Of the last minute.
ENDS: Final = """
    SELECT count(finished_at), coalesce(percentile_cont(0.99) WITHIN GROUP (
            ORDER BY extract(epoch FROM finished_at - created_at) * 1000), 0)::float,
        count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE finished_at IS NULL)
    FROM payments_payment WHERE created_at > now() - interval '1 minute'
"""


def soak(options: Options) -> Results:
    """For `MINUTES` (60), `RATE` payments a second (50). A figure a minute."""
    minutes, rate = int(os.environ.get("MINUTES") or 60), float(os.environ.get("RATE") or 50)
    results = Results(about={"minutes": minutes, "payments per second": rate})
    with a_stage() as stage:
        house = House(stage, options)
        house.create(DATABASE)
        web = house.web(DATABASE)
        watched = {"web": [web.process], "relay": house.begin("relay", DATABASE)}
        watched |= {"worker": house.begin_workers(DATABASE), "intake": house.begin("intake", DATABASE)}
        print(f"bench soak: {minutes} minutes, {rate:g} payments a second", flush=True)
        for minute in range(1, minutes + 1):
            times, sizes = one_minute(house, web.payments, rate), sizes_of(stage, watched)
            results.add([Figure(key="minute", value=times["answers p99"], unit="ms", details={**times, **sizes})])
            print(f"{minute:4d} min  {told(times, 'ms')}; {told(sizes, 'MB')}", flush=True)
    return results


def one_minute(house: House, url: str, rate: float) -> dict[str, float]:
    """A minute of load: 99th percentiles (ms) of its answers and of its payments' ends, and what failed or is open."""
    prefix, token = a_prefix(), house.api_key

    def make(number: int) -> bytes:
        return payment(url, name=f"{prefix}-{number}", token=token)

    report = asyncio.run(send_steadily(url, make, rate=rate, seconds=MINUTE))
    ended, p99, failed, open_ = house.stage.ask(DATABASE, ENDS)
    refused = report.refused + report.broken
    times = {"answers p99": report.at(0.99), "ends p99": p99}
    return {**times, "requests failed": refused, "payments ended": ended, "failed": failed, "open": open_}


def sizes_of(stage: Stage, watched: Mapping[str, list[Process]]) -> dict[str, float]:
    """Memory of each kind of process, the largest of a kind, and the largest tables."""
    memory = {name: max(resident(processes), default=0.0) for name, processes in watched.items()}
    tables: dict[str, float] = stage.ask(DATABASE, SIZES, TABLES)[0]
    return memory | {name: float(size) for name, size in tables.items()}  # JSON makes whole ones of some


def told(figures: Mapping[str, float], unit: str) -> str:
    """For people; counts have no unit."""
    return ", ".join(
        f"{name} {value}" if isinstance(value, int) else f"{name} {value:.0f} {unit}" for name, value in figures.items()
    )


def resident(processes: list[Process]) -> list[float]:
    """The memory of processes and their children."""
    return megabytes(pid for process in processes if process.pid for pid in tree(process.pid))
