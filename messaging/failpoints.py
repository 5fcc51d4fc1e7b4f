"""Named places where a crash test may kill the process. Costs one dictionary look-up; does nothing in production.

`FAILPOINTS=relay.published:3,charge.answered:1` kills the process without any clean-up, as the power
going off would, the third time the relay passes `relay.published` or the first time a worker passes
`charge.answered`, whichever comes first.
"""

import os
from collections import Counter
from typing import Final

#: The exit status of a process killed here, so that a test can tell it from an accident.
EXIT_STATUS: Final = 86


def read_failpoints(specification: str) -> dict[str, int]:
    """Name -> at which passing to die."""
    pairs = (item.partition(":") for item in specification.split(",") if item)
    return {name.strip(): int(number or 1) for name, _, number in pairs}


armed = read_failpoints(os.environ.get("FAILPOINTS", ""))
passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Die here if the environment says so."""
    if not armed or name not in armed:
        return
    passed[name] += 1
    if passed[name] >= armed[name]:
        os._exit(EXIT_STATUS)
