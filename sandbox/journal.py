"""What the gateway did, on disk before anybody is told.

One JSON object a line: every decision (approved or declined) with its idempotency key. The journal that
`GET /journal` shows is the approved ones: the effects, money moved, by charges and by refunds.
"""

import json
import os
import threading
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

CHARGE: Final = "charge"
REFUND: Final = "refund"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One decision about a charge or a refund; `amount` is in minor units.

    `charge` is the reference of the charge that a refund returns. `created_at` is missing from journals of earlier
    versions.
    """

    seq: int
    operation: str
    idempotency_key: str
    payment_id: str
    merchant: str
    order_id: str | None
    amount: int
    currency: str
    outcome: str
    reference: str
    decline_code: str | None
    created_at: str | None = None
    charge: str | None = None

    def effect(self) -> dict[str, Any]:
        """The entry as the journal shows it."""
        shown = ("seq", "operation", "idempotency_key", "payment_id", "merchant", "order_id", "amount", "currency")
        return {name: getattr(self, name) for name in shown}


class KeyReused(Exception):
    """The key was used for another charge or refund."""


class ChargeNotFound(Exception):
    """There is no approved charge with this reference."""


class RefundTooLarge(Exception):
    """The refunds of the charge would be more than the charge."""


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


class Journal:
    """All decisions, in memory and in an append-only file. Thread-safe."""

    def __init__(self, path: Path, *, now: Callable[[], datetime] = utc_now) -> None:
        self._lock = threading.Lock()
        self._now = now
        self.entries: list[Entry] = []
        self._charges: list[Entry] = []
        #: When each of them was made, as text that sorts by time; it never decreases.
        self._charge_times: list[str] = []
        self._charge_of: dict[str, Entry] = {}
        self._refunded: dict[str, int] = {}
        self._by_key: dict[tuple[str, str], Entry] = {}
        if path.exists():
            self._read(path)
        self._file = path.open("ab")

    def _read(self, path: Path) -> None:
        """Take up what an earlier process wrote; a last line cut off by a crash was told to nobody."""
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        for line in filter(None, whole.split(b"\n")):
            self._remember(Entry(**json.loads(line)))
        if torn:
            os.truncate(path, path.stat().st_size - len(torn))

    def _remember(self, entry: Entry) -> None:
        self.entries.append(entry)
        # A gateway that forgot the key charged again under it; look-ups still find the first charge.
        self._by_key.setdefault((entry.operation, entry.idempotency_key), entry)
        if entry.operation == CHARGE:
            self._charges.append(entry)
            self._charge_times.append(max(["", entry.created_at or "", *self._charge_times[-1:]]))
            self._charge_of[entry.reference] = entry
        elif entry.charge is not None:
            self._refunded[entry.charge] = self._refunded.get(entry.charge, 0) + entry.amount

    def decide(
        self, *, key: str, charge: dict[str, Any], decline_code: str | None, forget_keys: bool = False
    ) -> tuple[Entry, bool]:
        """The decision under this key, and whether it is new: the earlier one if there is one, else one on disk.

        With `forget_keys` an earlier one counts for nothing. The payment id is a label of the caller's and not part
        of what is asked: a repeated request may carry another one, and gets the first decision.

        Raises:
            KeyReused: the earlier decision was about another charge.
            OSError: nothing was decided, because nothing can be written.
        """
        with self._lock:
            earlier = None if forget_keys else self._by_key.get((CHARGE, key))
            if earlier:
                if any(getattr(earlier, name) != value for name, value in charge.items() if name != "payment_id"):
                    raise KeyReused(key)
                return earlier, False
            seq = len(self.entries) + 1
            entry = Entry(
                seq=seq,
                operation=CHARGE,
                idempotency_key=key,
                outcome="declined" if decline_code else "approved",
                reference=f"ch_{seq:08d}",
                decline_code=decline_code,
                created_at=self._timestamp(),
                **charge,
            )
            self._record(entry)
            return entry, True

    def refund(self, *, key: str, charge: str, amount: int, currency: str, forget_keys: bool = False) -> Entry:
        """Return the refund under this key: the earlier one if there is one, else a new one on disk.

        With `forget_keys` an earlier one counts for nothing.

        Raises:
            KeyReused: the earlier refund returned another charge, amount or currency.
            ChargeNotFound: no approved charge has this reference and currency.
            RefundTooLarge: the charge's refunds would be more than the charge.
            OSError: nothing was refunded, because nothing can be written.
        """
        with self._lock:
            earlier = None if forget_keys else self._by_key.get((REFUND, key))
            if earlier:
                if (earlier.charge, earlier.amount, earlier.currency) != (charge, amount, currency):
                    raise KeyReused(key)
                return earlier
            charged = self._charge_of.get(charge)
            if charged is None or charged.outcome != "approved" or charged.currency != currency:
                raise ChargeNotFound(charge)
            if self._refunded.get(charge, 0) + amount > charged.amount:
                raise RefundTooLarge(charge)
            seq = len(self.entries) + 1
            entry = Entry(
                seq=seq,
                operation=REFUND,
                idempotency_key=key,
                payment_id=charged.payment_id,
                merchant=charged.merchant,
                order_id=charged.order_id,
                amount=amount,
                currency=currency,
                outcome="approved",
                reference=f"re_{seq:08d}",
                decline_code=None,
                created_at=self._timestamp(),
                charge=charge,
            )
            self._record(entry)
            return entry

    def _timestamp(self) -> str:
        return self._now().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def _record(self, entry: Entry) -> None:
        self._write(json.dumps(asdict(entry)).encode() + b"\n")
        self._remember(entry)

    def _write(self, line: bytes) -> None:
        """Put a whole line on disk, or nothing: half a line would spoil the next one."""
        if self._file.closed:
            raise OSError("the journal is closed")
        size = os.fstat(self._file.fileno()).st_size
        try:
            if os.write(self._file.fileno(), line) != len(line):
                raise OSError("the disk is full")
            os.fsync(self._file.fileno())
        except OSError:
            os.ftruncate(self._file.fileno(), size)
            raise

    def close(self) -> None:
        """Let go of the file; everything is on disk already."""
        with self._lock:
            self._file.close()

    def find(self, key: str, *, operation: str = CHARGE) -> Entry | None:
        """The decision under a key."""
        with self._lock:
            return self._by_key.get((operation, key))

    def charges(
        self, *, since: datetime | None, until: datetime | None, after: int, limit: int
    ) -> tuple[list[tuple[Entry, int]], bool]:
        """Return charges made from `since` to before `until`, in order, each with what was refunded of it.

        Those whose `seq` is up to `after` are left out. The second value says whether there are more than `limit`.
        A charge without a time, from an old journal, counts as made before any time.
        """
        with self._lock:
            first, end = (self._position(moment) for moment in (since, until or datetime.max.replace(tzinfo=UTC)))
            first = max(first, bisect_left(self._charges, after + 1, key=lambda entry: entry.seq))
            found = self._charges[first : max(first, min(end, first + limit))]
            refunded = [(entry, self._refunded.get(entry.reference, 0)) for entry in found]
        return refunded, first + len(found) < end

    def _position(self, moment: datetime | None) -> int:
        """Return where charges begin that were made at that time or later."""
        if moment is None:
            return 0
        text = moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return bisect_left(self._charge_times, text)

    def effects(self, payment_id: str | None = None) -> list[dict[str, Any]]:
        """What was charged and refunded, in order; of one payment or of all. `operation` tells the two apart."""
        with self._lock:
            entries = list(self.entries)
        return [
            entry.effect()
            for entry in entries
            if entry.outcome == "approved" and payment_id in (None, entry.payment_id)
        ]
