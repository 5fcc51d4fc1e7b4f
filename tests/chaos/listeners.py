"""Who is told, in crash tests: a webhook endpoint and a mail server, both real, and what each of them has heard."""

import email
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from typing import Any

import psycopg
from aiosmtpd.controller import Controller
from standardwebhooks import Webhook

from deploy.local.machine import free_port
from tests.receiver import Receiver
from tests.system import System, eventually


class MailServer:
    """Keeps the id of each mail that it takes."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self.lock = threading.Lock()
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self.controller.start()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  # the library's name
        with self.lock:
            self.mails.append(email.message_from_bytes(envelope.content, policy=policy.default)["Message-ID"])
        return "250 taken"


@dataclass
class Listeners:
    """A system's endpoint, registered by the API, and its mail server."""

    system: System
    receiver: Receiver = field(default_factory=lambda: Receiver().start())
    mail_server: MailServer = field(default_factory=MailServer)
    #: Ids of events and receipts that were sent and then lost by a failover.
    lost: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        answer = self.system.api("POST", "/webhook-endpoints", json={"url": self.receiver.url})
        assert answer.status_code == 201, answer.text
        self.endpoint = answer.json()
        self.env = {
            "EMAIL_BACKEND": "smtp",
            "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": str(self.mail_server.controller.port),
        }

    def stop(self) -> None:
        self.system.api("DELETE", f"/webhook-endpoints/{self.endpoint['id']}")
        self.receiver.stop()
        self.mail_server.controller.stop()

    def await_all(self, *, within: float) -> None:
        """Wait until nobody is left to be told, with the times passing that a dead worker's lease and a retry last."""
        eventually(self.all_are_told, within=within, what=lambda: f"all are told, not {self.deliveries()}")

    def all_are_told(self) -> bool:
        let_time_pass(self.system)
        waiting = self.system.query("SELECT FROM messaging_outboxmessage WHERE subscriber <> ''")
        return not waiting and set(self.deliveries()) <= {"delivered"}

    def deliveries(self) -> Counter[str]:
        """How many are in which state."""
        since = "SELECT state FROM notifications_delivery WHERE created_at >= %s"
        return Counter(row["state"] for row in self.system.query(since, self.endpoint["created_at"]))

    def verify(self, *, lost_events_allowed: bool = False) -> str:
        """Each event was heard, signed, and nothing that never was; each receipt was sent. Says what came again.

        `lost_events_allowed`: a failover may have lost events and receipts after they were sent.
        """
        since = self.endpoint["created_at"]
        events = self.ids("SELECT id::text FROM payments_paymentevent WHERE created_at >= %s", since)
        heard = Counter(self.receiver.ids())
        receipts = "SELECT event_id::text AS id FROM notifications_delivery WHERE channel = 'email'"
        mails = Counter(self.mail_server.mails)
        sent = {id_.strip("<").partition(".")[0] for id_ in mails}
        if lost_events_allowed:
            self.lost |= (set(heard) - events) | (sent - self.ids(receipts))
        assert set(heard) - self.lost == events, "an event that was not sent, or was sent and never was"
        signed = Webhook(self.endpoint["secret"])
        for call in self.receiver.calls:  # some came longer ago than a receiver would accept them
            moment = datetime.fromtimestamp(int(call.headers["webhook-timestamp"]), UTC)
            signature = signed.sign(call.headers["webhook-id"], moment, call.body.decode())
            assert call.headers["webhook-signature"] == signature, "a webhook that is not signed with the secret"
        ours = self.ids(f"{receipts} AND created_at >= %s", self.endpoint["created_at"])
        assert ours <= sent, "a receipt that was never sent"
        assert sent - self.lost <= self.ids(receipts), (
            "a receipt of nothing"
        )  # others may have waited for a mail server
        again = (counts.total() - len(counts) for counts in (heard, mails))
        return "told: {} webhooks, {} of them came again; {} mails, {} of them came again".format(
            *(len(heard), next(again), len(mails), next(again))
        )

    def ids(self, sql: str, *parameters: Any) -> set[str]:
        return {row["id"] for row in self.system.query(sql, *parameters)}


def let_time_pass(system: System) -> None:
    """Leases of the dead end, which a living worker has no longer than 20 s; and what failed is due again."""
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE notifications_delivery SET revive_at = now(), lease_expires_at = NULL, next_attempt_at = now()"
            " WHERE state = 'pending' AND (lease_expires_at < now() + interval '100 seconds'"
            " OR (lease_expires_at IS NULL AND next_attempt_at > now() + interval '2 seconds'))"
        )
