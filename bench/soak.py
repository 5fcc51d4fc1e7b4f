"""`python -m bench soak MINUTES=60`: a steady load, and minute by minute what it makes of memory, tables and times."""

import asyncio
import os
from collections.abc import Mapping
from typing import Final

from bench.client import payment, send_steadily
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
    SELECT string_agg(format('%%s %%s MB', relname, round(pg_total_relation_size(relid) / 1e6, 1)), ', ')
    FROM (SELECT * FROM pg_stat_user_tables ORDER BY pg_total_relation_size(relid) DESC LIMIT %s) AS largest
"""
#: Of the last minute.
ENDS: Final = """
    SELECT count(*), coalesce(percentile_cont(0.99) WITHIN GROUP (
        ORDER BY extract(epoch FROM finished_at - created_at) * 1000), 0)::float
    FROM payments_payment WHERE created_at > now() - interval '1 minute' AND finished_at IS NOT NULL
"""


def soak(options: Options) -> None:
    """For `MINUTES` (60), `RATE` payments a second (50)."""
    minutes, rate = int(os.environ.get("MINUTES") or 60), float(os.environ.get("RATE") or 50)
    with a_stage() as stage:
        house = House(stage, options)
        house.create(DATABASE)
        web = house.web(DATABASE)
        watched = {"web": [web.process], "relay": house.begin("relay", DATABASE)}
        watched |= {"worker": house.begin_workers(DATABASE), "intake": house.begin("intake", DATABASE)}
        print(f"bench soak: {minutes} minutes, {rate:g} payments a second", flush=True)
        for minute in range(1, minutes + 1):
            print(f"{minute:4d} min  {one_minute(house, web.payments, rate)}; {told(stage, watched)}", flush=True)


def one_minute(house: House, url: str, rate: float) -> str:
    """A minute of load, and the 99th percentiles (ms) of its answers and of its payments' ends."""
    prefix, token = a_prefix(), house.api_key

    def make(number: int) -> bytes:
        return payment(url, name=f"{prefix}-{number}", token=token)

    report = asyncio.run(send_steadily(url, make, rate=rate, seconds=MINUTE))
    ended, p99 = house.stage.ask(DATABASE, ENDS)
    bad = f", {report.refused + report.broken} FAILED" if report.refused or report.broken else ""
    return f"answers p99 {report.at(0.99):.0f} ms{bad}, {ended} ended, p99 {p99:.0f} ms"


def told(stage: Stage, watched: Mapping[str, list[Process]]) -> str:
    """Memory of each kind of process, the largest of a kind, and the largest tables."""
    sizes = {name: max(resident(processes), default=0.0) for name, processes in watched.items()}
    memory = ", ".join(f"{name} {size:.0f} MB" for name, size in sizes.items())
    return f"{memory}; {stage.ask(DATABASE, SIZES, TABLES)[0]}"


def resident(processes: list[Process]) -> list[float]:
    """The memory of processes and their children."""
    return megabytes(pid for process in processes if process.pid for pid in tree(process.pid))
