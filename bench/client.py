"""A small HTTP/1.1 client on asyncio: so many requests, an open loop at a steady rate, or load where there is no wrk.

It speaks to our own servers on this machine only: no TLS, no redirects, answers with a Content-Length.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

#: Seconds that one answer may take.
PATIENCE: Final = 60.0


@dataclass(slots=True)
class Report:
    """What came of some requests; latencies in seconds."""

    latencies: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    refused: int = 0
    broken: int = 0

    def at(self, share: float) -> float:
        """A percentile, in milliseconds."""
        ordered = sorted(self.latencies) or [0.0]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


@dataclass(slots=True)
class Connection:
    """One kept-alive connection."""

    host: str
    port: int
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def request(self, data: bytes) -> tuple[int, bytes]:
        """Send a request, return status and body."""
        # A server ends what was idle for long: that can be read before it can be seen in writing.
        if self.writer is None or self.reader is None or self.writer.is_closing() or self.reader.at_eof():
            self.close()
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        self.writer.write(data)
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        body = await self.reader.readexactly(length)
        if b"connection: close" in lines:
            self.close()
        return int(head[9:12]), body

    def close(self) -> None:
        """Let go."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def send(connection: Connection, data: bytes, report: Report, *, keep: bool = False) -> None:
    """One request, and what came of it."""
    began = time.perf_counter()
    try:
        status, body = await asyncio.wait_for(connection.request(data), PATIENCE)
    except (OSError, EOFError, TimeoutError):
        report.broken += 1
        connection.close()
        return
    report.latencies.append(time.perf_counter() - began)
    report.refused += not 200 <= status < 300
    if keep:
        report.bodies.append(body)


def payment(url: str, *, name: str, token: str, **fields: Any) -> bytes:
    """A request for a payment whose key and order have this name."""
    return request("POST", url, token=token, body=body_of(name, **fields).encode(), key=name)


def body_of(name: str, **fields: Any) -> str:
    """What all load generators send; `wrk/accept.lua` puts its own names into one of the name NAME."""
    body = {
        "amount": "10.00",
        "currency": "EUR",
        "order_id": name,
        "user_id": f"customer-{name}",
        "description": "A measured payment",
        "metadata": {"basket": "b-17"},
        "payment_method": "pm_ok",
    }
    return json.dumps({**body, **fields})


def request(method: str, url: str, *, token: str, body: bytes = b"", key: str = "") -> bytes:
    """A request, as it goes over the wire."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", f"Authorization: Bearer {token}"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", f"Idempotency-Key: {key}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def connect_to(url: str) -> Connection:
    """A connection, not opened yet."""
    parts = urlsplit(url)
    return Connection(parts.hostname or "", parts.port or 80)


async def send_all(
    url: str, make: Callable[[int], bytes], *, number: int, connections: int, keep: bool = False
) -> Report:
    """So many requests, over so many connections."""
    report, numbers = Report(), iter(range(number))

    async def work() -> None:
        connection = connect_to(url)
        for index in numbers:
            await send(connection, make(index), report, keep=keep)
        connection.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return report


async def send_for(url: str, make: Callable[[int], bytes], *, seconds: float, connections: int) -> Report:
    """A closed loop: each connection sends its next request when it has the answer, for so many seconds."""
    report, numbers, ends = Report(), count(), time.monotonic() + seconds

    async def work() -> None:
        connection = connect_to(url)
        while time.monotonic() < ends:
            await send(connection, make(next(numbers)), report)
        connection.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return report


async def send_steadily(url: str, make: Callable[[int], bytes], *, rate: float, seconds: float) -> Report:
    """An open loop: requests leave at their times, whether or not those before them are answered."""
    report, idle, under_way = Report(), [connect_to(url)], set()
    began = time.monotonic()

    async def one(number: int) -> None:
        connection = idle.pop() if idle else connect_to(url)
        await send(connection, make(number), report)
        idle.append(connection)

    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        under_way.add(asyncio.ensure_future(one(number)))
    await asyncio.gather(*under_way)
    for connection in idle:
        connection.close()
    return report


def main(url: str, connections: str, seconds: str, given: str) -> None:
    """`python -m bench.client URL CONNECTIONS SECONDS JSON`: load as wrk would make it, and the same report."""
    asked = json.loads(given)
    rounds = asked.get("round", 0)

    def make(number: int) -> bytes:
        if paths := asked.get("paths"):
            return request("GET", urljoin(url, paths[number % len(paths)]), token=asked["token"])
        name = f"{asked['prefix']}-0-{number % rounds if rounds else number}"
        return payment(url, name=name, token=asked["token"])

    began = time.monotonic()
    report = asyncio.run(send_for(url, make, seconds=float(seconds), connections=int(connections)))
    times = {f"p{percent}": report.at(percent / 100) for percent in (50, 95, 99)}
    found = {"requests": len(report.latencies), "seconds": time.monotonic() - began, **times}
    print(json.dumps({**found, "status": report.refused, "transport": report.broken}))


if __name__ == "__main__":
    main(*sys.argv[1:])
