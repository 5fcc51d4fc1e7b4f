"""`make bench PROFILE=1`: where web, worker and relay spend their time, by py-spy, as text in bench/results/."""

import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from bench.load import send
from bench.options import Options
from bench.ours.accept import Accept
from bench.ours.backlog import copy_backlog
from bench.ours.house import House
from bench.stage import ROOT, Stage, a_prefix, a_stage, run_to_end
from deploy.local.machine import CannotStart
from deploy.local.supervisor import Process

RESULTS: Final = ROOT / "bench/results"
#: Samples a second; more would slow down what is watched.
RATE: Final = 200
#: Functions that are shown.
TOP: Final = 25
DATABASE: Final = "drain"


def profile(options: Options) -> None:
    """Watch web under accepts over 64 connections, then a worker and the relay before a backlog."""
    require_spy()
    with a_stage() as stage:
        house = House(stage, options)
        accept = Accept(stage, options, house)
        accept.start()
        profile_web(accept)
        accept.stop()
        profile_drain(house)


def profile_web(accept: Accept) -> None:
    """While wrk sends, for as long as one measurement lasts; the first requests are not watched."""
    assert accept.web is not None
    seconds = accept.options.seconds
    load = replace(accept.load(accept.house.token(accept.web)), seconds=seconds + 4, prefix=a_prefix())
    sending = threading.Thread(target=send, args=[load])
    sending.start()
    threading.Event().wait(2)
    watch("web", accept.web.process, accept.stage, seconds=seconds)
    sending.join()


def profile_drain(house: House) -> None:
    """One of the workers, and the relay, one after the other: both would watch each other's watchers."""
    for name in ("worker", "relay"):
        copy_backlog(house, DATABASE)
        workers = house.begin_workers(DATABASE)
        relays = house.begin("relay", DATABASE)
        threading.Event().wait(2)
        watched = workers[0] if name == "worker" else relays[0]
        watch(name, watched, house.stage, seconds=house.options.seconds)
        house.stage.stop(*workers, *relays)


def watch(name: str, process: Process, stage: Stage, *, seconds: float) -> None:
    """Sample a process and its children, and write down what was found."""
    raw = stage.folder / f"{name}.stacks"
    # Only who holds the interpreter's lock: threads that wait for a server use no CPU.
    how = ["--format", "raw", "--subprocesses", "--gil", "--rate", str(RATE), "--duration", str(round(seconds))]
    run_to_end(["py-spy", "record", *how, "--output", str(raw), "--pid", str(process.pid)], env={})
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"profile-{name}.txt"
    file.write_text(summary(name, raw.read_text(encoding="utf-8").splitlines()), encoding="utf-8")
    print(f"bench: {file.relative_to(ROOT)}", file=sys.stderr, flush=True)


def summary(name: str, stacks: list[str]) -> str:
    """The functions that were on top most often, and those that were below anything most often."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for frames, count in parse(stacks):
        samples += count
        own[frames[-1]] += count
        total.update(dict.fromkeys(frames, count))
    lines = [f"{name}: {samples} samples of threads that held the interpreter's lock, {RATE} a second", ""]
    ours = Counter({frame: count for frame, count in total.items() if is_ours(frame)})
    for title, counter in (("by own time", own), ("by total time", total), ("our own code, by total time", ours)):
        lines += [title, *(f"{count / samples:7.1%}  {frame}" for frame, count in counter.most_common(TOP)), ""]
    return "\n".join(lines)


def parse(stacks: list[str]) -> Iterator[tuple[list[str], int]]:
    """Frames from the outermost in, and how often; line numbers are left out, so that a function is one."""
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = [named(frame) for frame in stack.split(";") if not frame.startswith("process ")]
        if frames:
            yield frames, int(count)


def named(frame: str) -> str:
    """`function (file)`, without the line and without the folders of all."""
    function, _, place = frame.partition(" (")
    file = place.rstrip(")").rpartition(":")[0] or place.rstrip(")")
    return f"{function} ({file.replace(f'{ROOT}/', '')})"


def is_ours(frame: str) -> bool:
    """Whether a function is of a room of ours."""
    room = frame.partition(" (")[2].partition("/")[0]
    return bool(room) and (ROOT / room / "__init__.py").exists()


def require_spy() -> None:
    """Raises CannotStart, with the mend."""
    if not shutil.which("py-spy"):
        raise CannotStart("py-spy is missing: run `make install`.")
    if os.geteuid() != 0:
        print("bench: py-spy may need root to look into other processes (ptrace).", file=sys.stderr)
