"""Clients that want to be paid, whatever happens meanwhile: they repeat a request until it has its answer."""

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.system import System

#: Requests that come at the same time.
AT_ONCE = 8
#: How long (s) a client tries: longer than a failover with a new standby takes on a busy machine.
PATIENCE_SECONDS = 180
#: Of so many requests, one is sent twice at once, and one comes again later.
TWIN_EVERY = 5


@dataclass
class Load:
    """Payments that arrive all the while; `ids` is complete once it has stopped."""

    system: System
    prefix: str
    methods: Sequence[str]
    dice: random.Random
    pause: float = 0.4
    fields: dict[str, str] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    repeats: int = 0
    #: The name of each request -> the id of the payment that its last answer named.
    answered: dict[str, str] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        number = 0
        with ThreadPoolExecutor(2 * AT_ONCE) as pool:
            while not stop.is_set():
                round_ = [self.request(number + index) for index in range(AT_ONCE)]
                self.ids.extend(dict.fromkeys(pool.map(self.send, round_)))
                number += AT_ONCE
                stop.wait(self.pause)

    def send(self, request: dict[str, str]) -> str:
        """Send a request until it has an answer; return the payment's id."""
        answer = self.system.insist(**request, within=PATIENCE_SECONDS)
        assert answer.status_code == 202, answer.text
        self.answered[request["key"]] = answer.json()["id"]
        return self.answered[request["key"]]

    def repeat_all(self) -> int:
        """Send all requests again, as after a failover that may have lost them; return how many were lost."""
        before = set(self.ids)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            self.ids[:] = dict.fromkeys(pool.map(self.send, map(self.named, list(self.answered))))
        return len(before - set(self.ids))

    def request(self, number: int) -> dict[str, str]:
        """The n-th request; now and then it is one that was there before."""
        if number % TWIN_EVERY == TWIN_EVERY - 1:
            self.repeats += 1
            number -= self.dice.choice([1, 1, 2, number // 2]) if number > AT_ONCE else 1
            number -= number % TWIN_EVERY == TWIN_EVERY - 1
        return self.named(f"{self.prefix}-{number}")

    def named(self, name: str) -> dict[str, str]:
        """The request of a name."""
        method = random.Random(name).choice(list(self.methods))
        return {"key": name, "order_id": name, "payment_method": method, **self.fields}


@contextmanager
def load(
    system: System,
    prefix: str,
    dice: random.Random,
    methods: Sequence[str] = ("pm_ok", "pm_ok", "pm_declined"),
    pause: float = 0.4,
    **fields: str,
) -> Iterator[Load]:
    """Payments arrive inside the block, each with these fields."""
    clients, stop = Load(system, prefix, methods, dice, pause, fields), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(clients.run, stop)
        try:
            yield clients
        finally:
            stop.set()
        running.result()
    clients.ids[:] = dict.fromkeys(clients.ids)
