"""What a tree of processes has used, from Linux' /proc: CPU seconds, and memory."""

import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """What a process, its living descendants and those it has reaped have used since their start."""
    total = 0.0
    for member in tree(pid):
        with suppress(OSError, IndexError):
            # proc(5): utime, stime, cutime and cstime; the name before them may hold blanks.
            numbers = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()[11:15]
            total += sum(int(number) for number in numbers) / TICKS
    return total


def busy_seconds() -> float:
    """What all processes of the machine have used since its start."""
    # proc(5): user, nice, system, idle, iowait, irq, softirq; what is stolen from a virtual machine is nobody's here.
    numbers = [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    return (sum(numbers) - numbers[3] - numbers[4]) / TICKS


def own_children_seconds() -> float:
    """What the children that we have waited for have used, such as a load generator that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def own_seconds() -> float:
    """What this very process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def megabytes(pids: Iterable[int]) -> list[float]:
    """The resident memory of each process that still lives."""
    found = []
    for pid in pids:
        with suppress(OSError, StopIteration):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            found.append(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024)
    return found


def tree(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for child in children(pid):
        yield from tree(child)


def children(pid: int) -> list[int]:
    """The children of all its threads."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found
