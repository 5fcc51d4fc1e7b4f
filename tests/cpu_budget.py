"""What requests cost in processor time: the worst that each operation may be sent, and the budgets that hold.

Times are compared with what a fixed piece of work takes on this machine, now: budgets are in milliseconds of the
machine on which `REFERENCE_SECONDS` was measured.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

#: What `work` took on the machine that the budgets are meant for: one core of a server.
REFERENCE_SECONDS = 0.004
#: Seconds of processor time for one request: of a caller with a credential, and of one without.
AUTHENTICATED_SECONDS = 0.050
ANONYMOUS_SECONDS = 0.005
#: The same for each kilobyte of a batch, of which the largest has 1,024, for 500 payments of two kilobytes.
BATCH_SECONDS_PER_KILOBYTE = 0.0025
#: As the web server lets through: the limits of the body, of the request line and of a header.
MAX_BODY, MAX_LINE, MAX_HEADER = 64 * 1024, 3_800, 8_000
#: How often a request that seems too expensive is measured again: others use the machine as well.
REPEATS = 5

#: Operation and caller -> the most that a request cost, as of the reference machine, and what it was.
COSTS: dict[tuple[str, str], tuple[float, str]] = {}

#: Texts that are expensive to look at: for searches, patterns, normalization and parsers.
TEXTS = {
    "digits": "1 ",
    "one run of digits": "1",
    "combining characters": "\u0300\u0316",
    "labels": "a.",
    "hyphens": "a-",
    "at signs": "a@",
    "slashes": "a/",
    "commas": "a,",
    "spaces": " ",
    "quotes": '"',
    "astral": "\U0001f600",
    "percent signs": "%25",
    "open brackets": "[",
}


def work() -> object:
    """Something of everything that a request is: objects, text, patterns."""
    document = {f"name-{number}": ["text of a few words", number, {"a": None}] for number in range(700)}
    found: object = None
    for _ in range(3):
        text = json.dumps(document)
        found = json.loads(text)
        found = re.findall(r"[a-z]+-[0-9]+", text)
        found = sorted(str(len(name) * 3 + place) for place, name in enumerate(found))
    return found


def processor_time(call: Callable[[], object]) -> float:
    """Seconds of this thread's processor time."""
    before = time.thread_time()
    call()
    return time.thread_time() - before


def machine_factor() -> float:
    """How many times longer this machine takes than the reference."""
    return min(processor_time(work) for _ in range(10)) / REFERENCE_SECONDS


def note(operation: str, caller: str, seconds: float, what: str) -> None:
    """Keep the largest."""
    if seconds > COSTS.get((operation, caller), (0.0, ""))[0]:
        COSTS[operation, caller] = (seconds, what)


def report() -> Iterator[str]:
    """The largest cost of each operation, the most expensive first."""
    for (operation, caller), (seconds, what) in sorted(COSTS.items(), key=lambda item: -item[1][0]):
        yield f"{seconds * 1000:8.1f} ms  {caller:9}  {operation}: {what}"


def filled(text: str, size: int) -> str:
    """A text repeated up to so many bytes of JSON."""
    return text * max(1, size // len(json.dumps(text, ensure_ascii=False).encode()[1:-1]))


def hostile_bodies(names: list[str], size: int = MAX_BODY) -> Iterator[tuple[str, bytes]]:
    """Bodies of the largest size that is read, for an operation whose body has fields of these names."""
    room = size - 200
    wholes: dict[str, Any] = {
        "unknown fields": {f"f{number}": 0 for number in range(room // 12)},
        "a list": [0] * (room // 4),
        "nested lists": None,
    }
    for what, whole in wholes.items():
        yield what, b"[" * room if whole is None else json.dumps(whole).encode()
    for name in names:
        for what, value in hostile_values(room):
            yield f"{name}: {what}", b'{"' + name.encode() + b'": ' + value + b"}"


def hostile_values(room: int) -> Iterator[tuple[str, bytes]]:
    """Values of about so many bytes."""
    for what, text in TEXTS.items():
        yield what, json.dumps(filled(text, room), ensure_ascii=False).encode()
    yield "escaped characters", b'"' + b"\\ud83d\\ude00" * (room // 12) + b'"'
    yield "a long number", b"1." + b"0" * (room - 10) + b"1"
    yield "a large number", b"1e999999999"
    yield "a list of numbers", b"[" + b"1.5," * (room // 4 - 1) + b"1]"
    yield "a list of objects", b"[" + b"{}," * (room // 3 - 1) + b"{}]"
    yield "a list of texts", b"[" + b'"1",' * (room // 4 - 1) + b'"1"]'
    pairs = islice((f'"{number:x}":1'.encode() for number in range(room)), room // 9)
    yield "an object of numbers", b"{" + b",".join(pairs) + b"}"
    yield "nested objects", b'{"a":' * 900 + b"1" + b"}" * 900


def hostile_headers() -> Iterator[tuple[str, dict[str, str]]]:
    """Headers as long as the web server lets through."""
    for name in ("Accept", "Accept-Language", "Authorization", "Cookie", "Idempotency-Key", "Prefer", "X-API-Key"):
        for what in ("digits", "labels", "commas", "quotes"):
            prefix = "Bearer " if name == "Authorization" else ""
            yield f"header {name}: {what}", {name: prefix + filled(TEXTS[what], MAX_HEADER)}
    yield (
        "header Authorization: a token",
        {"Authorization": "Bearer " + "eyJ" * 900 + "." + "e30" * 900 + "." + "x" * 900},
    )
    yield "header X-Forwarded-For", {"X-Forwarded-For": filled("1.1.1.1, ", MAX_HEADER)}
