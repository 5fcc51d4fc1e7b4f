"""What the gateway did, on disk before anybody is told.

One JSON object a line: every decision (approved or declined) with its idempotency key. The journal that
`GET /journal` shows is the approved ones: the effects, money moved.
"""

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One decision; `amount` is in minor units, `request` is what was asked under the key."""

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

    def effect(self) -> dict[str, Any]:
        """The entry as the journal shows it."""
        shown = ("seq", "operation", "idempotency_key", "payment_id", "merchant", "order_id", "amount", "currency")
        return {name: getattr(self, name) for name in shown}


class KeyReused(Exception):
    """The key was used for another charge."""


class Journal:
    """All decisions, in memory and in an append-only file. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self.entries: list[Entry] = []
        self._by_key: dict[str, Entry] = {}
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
        self._by_key.setdefault(entry.idempotency_key, entry)

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
            earlier = None if forget_keys else self._by_key.get(key)
            if earlier:
                if any(getattr(earlier, name) != value for name, value in charge.items() if name != "payment_id"):
                    raise KeyReused(key)
                return earlier, False
            seq = len(self.entries) + 1
            entry = Entry(
                seq=seq,
                operation="charge",
                idempotency_key=key,
                outcome="declined" if decline_code else "approved",
                reference=f"ch_{seq:08d}",
                decline_code=decline_code,
                **charge,
            )
            self._write(json.dumps(asdict(entry)).encode() + b"\n")
            self._remember(entry)
            return entry, True

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

    def find(self, key: str) -> Entry | None:
        """The decision under a key."""
        with self._lock:
            return self._by_key.get(key)

    def effects(self, payment_id: str | None = None) -> list[dict[str, Any]]:
        """What was charged, in order; of one payment or of all."""
        with self._lock:
            entries = list(self.entries)
        return [
            entry.effect()
            for entry in entries
            if entry.outcome == "approved" and payment_id in (None, entry.payment_id)
        ]
