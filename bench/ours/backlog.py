"""Payments that were accepted and not processed yet, made once through the API and copied for each measurement."""

import asyncio
from typing import Any, Final

from bench.client import Report, payment, send_all
from bench.ours.house import House
from bench.stage import a_prefix
from deploy.local.machine import CannotStart

BACKLOG: Final = "backlog"
#: All three are as if just accepted: the rescue would else come between.
AS_IF_NEW: Final = (
    "UPDATE payments_payment SET revive_at = now() + interval '10 minutes', charge_before = now() + interval '1 day'",
    "VACUUM ANALYZE",
)


def copy_backlog(house: House, database: str) -> None:
    """A fresh copy of the backlog, which is made when it is first asked for."""
    if not house.stage.ask("postgres", "SELECT count(*) FROM pg_database WHERE datname = %s", BACKLOG)[0]:
        house.create(BACKLOG)
        fill(house, BACKLOG, number=house.options.backlog)
    house.stage.create(database, like=BACKLOG)
    house.stage.run_sql(database, *AS_IF_NEW)
    house.stage.purge()


def fill(house: House, database: str, *, number: int, **fields: Any) -> None:
    """Have so many payments accepted, by a web process that lives only for this."""
    web = house.web(database)
    prefix = a_prefix()
    token = house.api_key

    def make(index: int) -> bytes:
        return payment(web.payments, name=f"{prefix}-{index}", token=token, **varied(fields, index))

    report = asyncio.run(send_all(web.url, make, number=number, connections=32))
    house.stage.stop(web.process)
    require_whole(report)


def varied(fields: dict[str, Any], index: int) -> dict[str, Any]:
    """Fields whose value is a list take one of its items in turn."""
    return {name: value[index % len(value)] if isinstance(value, list) else value for name, value in fields.items()}


def require_whole(report: Report) -> None:
    """Raises CannotStart when a request of a backlog failed: what follows would measure something else."""
    if report.refused or report.broken:
        raise CannotStart(f"The backlog cannot be made: {report.refused} refused, {report.broken} broken.")
