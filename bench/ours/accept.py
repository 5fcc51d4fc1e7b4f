"""Payments accepted by the API, and read from it."""

from dataclasses import dataclass, field, replace
from typing import Final

from bench.figures import Figure
from bench.load import Load, measure
from bench.options import Options
from bench.ours.house import House, Web, memory
from bench.stage import Stage, a_prefix

DATABASE: Final = "ours"
CONNECTIONS: Final = (1, 16, 64)
#: How many keys are sent again and again, and how many payments are read.
KNOWN: Final = 64
NEWEST: Final = "SELECT array_agg(id) FROM (SELECT id FROM payments_payment ORDER BY id DESC LIMIT %s) AS newest"


@dataclass(slots=True)
class Accept:
    """One web server with all guarantees on: authentication, limits, validation, idempotency, order, event, outbox."""

    stage: Stage
    options: Options
    house: House
    name: str = "accept"
    web: Web | None = field(default=None, init=False)

    def start(self) -> None:
        """A database of its own, and the web process."""
        self.house.create(DATABASE)
        self.web = self.house.web(DATABASE)

    def measure(self) -> list[Figure]:
        """New payments over 1, 16 and 64 connections, by JWT and by API key; replays, one payment, a list."""
        assert self.web is not None
        token = self.house.token(self.web)
        before = memory("web_before", [self.web.process], workers_only=True)
        figures = [self.accept(f"accept_{number}", token, connections=number) for number in CONNECTIONS]
        figures.append(self.accept("accept_key_64", self.house.api_key, connections=64))
        figures.append(self.post("replay_64", replace(self.load(token), prefix="again", round=KNOWN)))
        figures += self.read(token)
        return [*figures, before, memory("web", [self.web.process], workers_only=True)]

    def load(self, token: str, connections: int = 64) -> Load:
        """What all loads share."""
        assert self.web is not None
        return Load(url=self.web.payments, token=token, connections=connections, seconds=self.options.seconds)

    def accept(self, key: str, token: str, *, connections: int) -> Figure:
        """New payments; the figure counts if each answer has its row."""
        before = self.rows()
        load = replace(self.load(token, connections), prefix=a_prefix())
        figure = self.post(key, load)
        kept, answered = self.rows() - before, figure.details["requests"]
        if kept < answered and not figure.fault:
            return Figure(key=key, value=figure.value, unit=figure.unit, fault=f"{answered} answers, {kept} payments")
        return figure

    def post(self, key: str, load: Load) -> Figure:
        """Measure one load on our server."""
        assert self.web is not None
        return measure(key, load, stage=self.stage, server=self.web.process)

    def read(self, token: str) -> list[Figure]:
        """One payment, and the first page of all."""
        ids = self.stage.ask(DATABASE, NEWEST, KNOWN)[0]
        one = tuple(f"/api/v1/payments/{payment_id}" for payment_id in ids)
        loads = {"get_64": one, "list_64": ("/api/v1/payments",)}
        return [self.post(key, replace(self.load(token), paths=paths)) for key, paths in loads.items()]

    def rows(self) -> int:
        """How many payments there are."""
        return int(self.stage.ask(DATABASE, "SELECT count(*) FROM payments_payment")[0])

    def stop(self) -> None:
        """The web process."""
        if self.web is not None:
            self.stage.stop(self.web.process)
