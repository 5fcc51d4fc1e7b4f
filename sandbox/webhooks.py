"""Telling the merchant: each decision is sent to one address, signed by Standard Webhooks 1.0.

One thread sends, so that no answer to a charge ever waits for it. What waits to be sent is lost when the process
ends; a real gateway would keep it.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from sandbox.journal import Entry
from sandbox.post import NotTaken, Target, post
from sandbox.settings import LiveSettings
from sandbox.waiting import Delivery, Waiting

#: Seconds from a failed sending to the next; after the last one the webhook is given up.
RETRY_DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
#: Seconds for one sending in all, from name resolution to the answer's head.
TIMEOUT: Final = 5.0
#: Webhooks that may wait; a receiver that is down for long must not fill the memory.
MAX_WAITING: Final = 10_000
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 -- by which secrets are known
SECRET_BYTES: Final = range(24, 65)


class SecretInvalid(ValueError):
    """The secret is missing or malformed; the message says the mend."""


def read_secret(text: str) -> bytes:
    """The key in a Standard Webhooks secret. Raises SecretInvalid."""
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        secret = b""
    if not text.startswith(SECRET_PREFIX) or len(secret) not in SECRET_BYTES:
        raise SecretInvalid(f"it must be {SECRET_PREFIX} and the base64 of 24 to 64 random bytes")
    return secret


def sign(secret: bytes, *, event_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature` of one sending."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What is told: the body is the same at every sending."""

    id: str
    body: bytes

    @classmethod
    def of(cls, entry: Entry, now: datetime) -> Self:
        """A decision's event. Its id comes from the journal, so that it is one id in all the gateway's lives."""
        kind = "charge.succeeded" if entry.outcome == "approved" else "charge.failed"
        return cls.build(entry, now, event_id=f"evt_{entry.seq:08d}", kind=kind, status=entry.outcome)

    @classmethod
    def pending(cls, entry: Entry, now: datetime) -> Self:
        """What was true of the charge just before its decision."""
        return cls.build(entry, now, event_id=f"evt_{entry.seq:08d}_pending", kind="charge.pending", status="pending")

    @classmethod
    def build(cls, entry: Entry, now: datetime, *, event_id: str, kind: str, status: str) -> Self:
        """An event about the charge of an entry."""
        terms = ("idempotency_key", "payment_id", "merchant", "order_id", "amount", "currency")
        data: dict[str, Any] = {"charge": entry.reference, **{name: getattr(entry, name) for name in terms}}
        data |= {"status": status, "decline_code": entry.decline_code}
        created_at = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        document = {"id": event_id, "type": kind, "created_at": created_at, "data": data}
        return cls(id=event_id, body=json.dumps(document).encode())


class Webhooks:
    """Sends what it is told, in a thread of its own. Thread-safe."""

    def __init__(
        self,
        target: Target,
        secret: bytes,
        settings: LiveSettings,
        *,
        retry_delays: tuple[float, ...] = RETRY_DELAYS,
        timeout: float = TIMEOUT,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._target, self._secret, self._settings = target, secret, settings
        self._retry_delays, self._timeout = retry_delays, timeout
        self._waiting = Waiting(max_waiting, pick=settings.pick)
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._stopped = False
        self._thread = threading.Thread(target=self.run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more; what still waits is lost."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def tell(self, entry: Entry, *, repeated: bool = False) -> None:
        """Have a decision sent; `repeated`: twice, with an outdated event in between."""
        now = datetime.now(UTC)
        event = Event.of(entry, now)
        events = [event, Event.pending(entry, now), event] if repeated else [event]
        settings = self._settings.current
        due = time.monotonic() + settings.webhook_delay
        for each in events:
            for _ in range(settings.webhook_copies):
                self._put(Delivery(due=due, number=next(self._numbers), event_id=each.id, body=each.body))

    def run(self) -> None:
        """Send what is due until told to stop."""
        with asyncio.Runner() as runner:
            while delivery := self._take():
                runner.run(self.send(delivery))

    async def send(self, delivery: Delivery) -> None:
        """Send once, and see to what is to be done if it was not taken."""
        timestamp = int(time.time())
        signature = sign(self._secret, event_id=delivery.event_id, timestamp=timestamp, body=delivery.body)
        headers = {
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature,
        }
        try:
            await post(self._target, headers=headers, body=delivery.body, timeout=self._timeout)
        except NotTaken as reason:
            self._try_again(delivery, reason)

    def _try_again(self, delivery: Delivery, reason: NotTaken) -> None:
        if delivery.failures == len(self._retry_delays):
            say(f"The webhook {delivery.event_id} was given up after {delivery.failures + 1} times: {reason}.")
            return
        delivery.due = time.monotonic() + self._retry_delays[delivery.failures]
        delivery.failures += 1
        self._put(delivery)

    def _put(self, delivery: Delivery) -> None:
        with self._changed:
            dropped = self._waiting.add(delivery)
            self._changed.notify()
        if dropped:
            say(f"The webhook {dropped.event_id} was dropped: too many are waiting.")

    def _take(self) -> Delivery | None:
        """Wait for the next one that is due; None when there is no more to be sent."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                if delivery := self._waiting.take(now, shuffle=self._settings.current.webhook_shuffle):
                    return delivery
                next_due = self._waiting.next_due()
                self._changed.wait(None if next_due is None else max(0.0, next_due - now))
            return None


def say(line: str) -> None:
    """One line to whoever runs the gateway."""
    print(f"sandbox: {line}", file=sys.stderr, flush=True)
