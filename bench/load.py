"""Load on an HTTP server: wrk where the machine has it, else `bench.client`; with everybody's share of the CPU."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bench.client import body_of
from bench.figures import Figure
from bench.options import is_on
from bench.processes import cpu_seconds, own_children_seconds
from bench.stage import ROOT, Stage, run_to_end
from deploy.local.supervisor import Process

SCRIPTS: Final = ROOT / "bench/wrk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent. `paths`: GETs in turn; else POSTs of payments whose keys begin with `prefix`, each its own or
    `round` of them again and again.
    """

    url: str
    token: str
    connections: int
    seconds: float
    prefix: str = ""
    round: int = 0
    paths: tuple[str, ...] = ()


def generator() -> str:
    """What makes the load on this machine; `NO_WRK=1` asks for our own."""
    return "wrk" if shutil.which("wrk") and not is_on("NO_WRK") else "bench.client"


def measure(key: str, load: Load, *, stage: Stage, server: Process) -> Figure:
    """The requests a second that were answered well, their percentiles, and who used how many cores meanwhile."""
    assert server.pid is not None, f"{server.name} has died:\n{server.last_words()}"
    before = {**stage.server_cpu(), "server": cpu_seconds(server.pid), "load": own_children_seconds()}
    report = send(load)
    after = {**stage.server_cpu(), "server": cpu_seconds(server.pid), "load": own_children_seconds()}
    shares = {f"cpu_{name}": (after[name] - before[name]) / report["seconds"] for name in before}
    times = {name: float(report[name]) for name in ("p50", "p95", "p99")}
    return Figure(
        key=key,
        value=report["requests"] / report["seconds"],
        unit="req/s",
        details={**times, **shares, "requests": report["requests"]},
        fault=fault_in(report),
    )


def fault_in(report: Mapping[str, Any]) -> str:
    """Why a report counts for nothing, if it does."""
    if bad := int(report["status"] + report["transport"]):
        return f"{bad} of {report['requests']} requests failed"
    return "" if report["requests"] else "no request was answered in time"


def send(load: Load) -> dict[str, Any]:
    """Send it, and read the report that both generators end with."""
    argv = wrk(load) if generator() == "wrk" else client(load)
    lines = run_to_end(argv, env={"PYTHONPATH": str(ROOT)}, within=load.seconds + 60).strip().splitlines()
    report: dict[str, Any] = json.loads(lines[-1])
    return report


def wrk(load: Load) -> list[str]:
    """Wrk's command line; one thread, which is enough for far more than any subject answers."""
    script, arguments = "accept.lua", [load.prefix, load.token, body_of("NAME"), str(load.round)]
    if load.paths:
        script, arguments = "read.lua", [load.token, *load.paths]
    how = [f"-c{load.connections}", "-t1", f"-d{max(1, round(load.seconds))}s", "--timeout", "30s"]
    return ["wrk", *how, "-s", str(SCRIPTS / script), load.url, "--", *arguments]


def client(load: Load) -> list[str]:
    """The command line of our own client."""
    asked = {"token": load.token, "prefix": load.prefix, "round": load.round, "paths": load.paths}
    how = [str(load.connections), str(load.seconds), json.dumps(asked)]
    return [sys.executable, "-m", "bench.client", load.url, *how]
