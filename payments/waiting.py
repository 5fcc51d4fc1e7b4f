"""Waiting for payments to end, for callers that want one synchronous call (`Prefer: wait`).

However many threads of a process wait, one other asks the database for all of them, and only while somebody waits.
Asking beats PostgreSQL's NOTIFY here: a notifying transaction holds a lock on the whole database while it commits.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection

from payments.models import Payment
from payments.states import FINAL

log = structlog.get_logger(__name__)

#: How long (s) between two questions: half of it is added to a wait. Each is one look-up by primary keys.
INTERVAL: Final = 0.05
#: The same while the database does not answer.
TROUBLE_INTERVAL: Final = 0.5
#: How long (s) the asking thread keeps itself and its connection for the next who waits.
LINGER: Final = 10.0


class NoRoom(Exception):
    """As many threads wait as may, or the process is about to stop."""


@dataclass(eq=False, slots=True)
class Guest:
    """One thread that waits."""

    payment_id: UUID
    called: threading.Event = field(default_factory=threading.Event)
    ended: Payment | None = None


class WaitingRoom:
    """The threads of this process that wait, and the one that asks for them.

    `ask` returns those of the payments that have ended.
    """

    def __init__(self, ask: Callable[[Iterable[UUID]], Iterable[Payment]]) -> None:
        self.ask = ask
        self.linger = LINGER
        self.guests: list[Guest] = []
        self.changed = threading.Condition()
        self.asker: threading.Thread | None = None
        self.closed = False

    def wait(self, payment_id: UUID, *, seconds: float) -> Payment | None:
        """Wait until the payment ends, without a database connection; None if it does not end in time.

        Trouble with the database is none of the caller's: it looks like a payment that does not end.

        Raises:
            NoRoom: at once.
        """
        guest = self.enter(payment_id)
        try:
            connection.close()
            guest.called.wait(seconds)
        finally:
            self.leave(guest)
        return guest.ended

    def enter(self, payment_id: UUID) -> Guest:
        """Take a place, and see to it that somebody asks."""
        guest = Guest(payment_id)
        with self.changed:
            if self.closed or len(self.guests) >= settings.WAITING_SLOTS:
                raise NoRoom
            if self.asker is None or not self.asker.is_alive():  # after a fork none is
                self.start_asking()
            self.guests.append(guest)
            self.changed.notify_all()
        return guest

    def leave(self, guest: Guest) -> None:
        """Give the place back."""
        with self.changed:
            self.guests.remove(guest)

    def close(self) -> None:
        """Send everybody off: the process is about to stop, sooner than the longest wait."""
        with self.changed:
            self.closed = True
            for guest in self.guests:
                guest.called.set()

    def start_asking(self) -> None:
        """Start the thread that asks."""
        asker = threading.Thread(target=self.keep_asking, name="waiting-room", daemon=True)
        try:
            asker.start()
        except RuntimeError as error:  # the system has no thread left
            raise NoRoom from error
        self.asker = asker

    def keep_asking(self) -> None:
        """Ask as long as somebody waits, and end when nobody has for a while."""
        try:
            while self.is_needed():
                time.sleep(INTERVAL if self.ask_once() else TROUBLE_INTERVAL)
        finally:
            connection.close()

    def is_needed(self) -> bool:
        """Whether somebody waits, or comes to while we linger."""
        with self.changed:
            if self.changed.wait_for(lambda: self.guests, self.linger):
                return True
            self.asker = None  # whoever comes now starts another
            return False

    def ask_once(self) -> bool:
        """Ask for all who wait, and call those whose payment has ended; False if there was no answer."""
        try:
            ended = {payment.pk: payment for payment in self.ask({guest.payment_id for guest in self.guests_now()})}
        except Exception:
            # Whatever it is, those who wait are told nothing and go when their time is over.
            log.warning("waiting_room_troubled", exc_info=True)
            connection.close()
            return False
        for guest in self.guests_now():
            if payment := ended.get(guest.payment_id):
                guest.ended = payment
                guest.called.set()
        return True

    def guests_now(self) -> list[Guest]:
        """Those who wait at this moment."""
        with self.changed:
            return list(self.guests)


def find_ended(payment_ids: Iterable[UUID]) -> Iterable[Payment]:
    """Those of the payments that are in a final state."""
    return Payment.objects.filter(pk__in=payment_ids, status__in=FINAL)


#: The one room of this process.
room: Final = WaitingRoom(find_ended)
