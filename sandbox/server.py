"""The gateway's HTTP interface.

`POST /v1/charges` with `Idempotency-Key`, `GET /v1/charges?idempotency_key=`,
`GET /v1/charges[?created_since=&created_until=&cursor=&limit=]`, `POST /v1/refunds` with `Idempotency-Key`,
`GET /v1/refunds?idempotency_key=`, `GET /journal[?payment_id=]`, `GET`, `PATCH` and `DELETE /settings`, `GET /livez`.
"""

import socket
import sys
import threading
from collections import Counter
from http.server import ThreadingHTTPServer
from typing import Any, ClassVar, Final

from sandbox.behaviours import BEHAVIOURS, Behaviour
from sandbox.charges import read_charge, read_list_query, read_object, read_refund
from sandbox.connection import Connection, will_reset
from sandbox.journal import REFUND, ChargeNotFound, Entry, Journal, KeyReused, RefundTooLarge
from sandbox.replies import Refusal, Reply, of_charges, of_decision, of_refund, of_trouble
from sandbox.settings import LiveSettings, SettingInvalid
from sandbox.webhooks import Webhooks

CHARGES: Final = "/v1/charges"
REFUNDS: Final = "/v1/refunds"


class Gateway(ThreadingHTTPServer):
    """The server, with what its handlers share."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        address: tuple[str, int],
        journal: Journal,
        *,
        settings: LiveSettings | None = None,
        webhooks: Webhooks | None = None,
    ) -> None:
        super().__init__(address, Handler)
        self.journal = journal
        self.settings = settings or LiveSettings()
        self.webhooks = webhooks
        self.stopping = threading.Event()
        self._seen: Counter[str] = Counter()
        self._seen_lock = threading.Lock()

    def times_seen(self, key: str) -> int:
        """How often a charge under this key has been asked for, this time included."""
        with self._seen_lock:
            self._seen[key] += 1
            return self._seen[key]

    def decide(self, key: str, charge: dict[str, Any], behaviour: Behaviour) -> Entry:
        """Take the decision, and have it told to the merchant's webhook if it is a new one."""
        settings = self.settings.current
        entry, is_new = self.journal.decide(
            key=key, charge=charge, decline_code=behaviour.decline_code, forget_keys=settings.forget_keys
        )
        if is_new and self.webhooks and not behaviour.after:
            self.webhooks.tell(entry, repeated=behaviour.repeats_webhook)
        return entry

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than the gateway lives."""
        if seconds:
            self.stopping.wait(seconds)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection. One that is to be reset must not be ended in an orderly way first."""
        if isinstance(request, socket.socket) and will_reset(request):
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, unless it is only that the client has gone away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(Connection):
    """One connection. Each route turns a query and a body into a reply, or raises Refusal."""

    server: Gateway
    routes: ClassVar = {
        ("GET", "/livez"): "get_livez",
        ("GET", "/journal"): "get_journal",
        ("GET", CHARGES): "get_charges",
        ("POST", CHARGES): "post_charge",
        ("GET", REFUNDS): "get_refund",
        ("POST", REFUNDS): "post_refund",
        ("GET", "/settings"): "get_settings",
        ("PATCH", "/settings"): "patch_settings",
        ("DELETE", "/settings"): "delete_settings",
    }

    def reply_to(self, path: str, query: dict[str, str], body: bytes) -> Reply:
        """Find the route, and what it replies; of charges and refunds, when the latency is over."""
        route = self.routes.get((self.command, path), "get_nothing")
        try:
            reply: Reply = getattr(self, route)(query, body)
        except Refusal as refusal:
            reply = refusal.reply
        if path in {CHARGES, REFUNDS}:
            self.pause(self.server.settings.current.latency)
        return reply

    def pause(self, seconds: float) -> None:
        self.server.pause(seconds)

    def get_nothing(self, _query: dict[str, str], _body: bytes) -> Reply:
        """Whatever has no route."""
        raise Refusal(404, "no_such_address", "There is nothing at this address.")

    def get_livez(self, _query: dict[str, str], _body: bytes) -> Reply:
        """A sign of life."""
        return Reply(document={"status": "healthy"})

    def get_journal(self, query: dict[str, str], _body: bytes) -> Reply:
        """All effects, or one payment's."""
        return Reply(document=self.server.journal.effects(query.get("payment_id")))

    def get_charges(self, query: dict[str, str], _body: bytes) -> Reply:
        """The charge under a key, or a page of the list of charges."""
        if "idempotency_key" in query or not query:
            return self.get_charge(query)
        asked = read_list_query(query)
        charges, has_more = self.server.journal.charges(
            since=asked.since, until=asked.until, after=asked.after, limit=asked.limit
        )
        return of_charges(charges, has_more=has_more)

    def get_charge(self, query: dict[str, str]) -> Reply:
        """What became of the charge under a key: always the truth, whatever the payment method."""
        entry = self.server.journal.find(query.get("idempotency_key", ""))
        if entry is None:
            raise Refusal(404, "charge_not_found", "No charge was made under this key.")
        return of_decision(entry)

    def post_charge(self, _query: dict[str, str], body: bytes) -> Reply:
        """Decide, write it down, and then answer as the payment method wants it."""
        key = self.read_key()
        charge, method = read_charge(body)
        behaviour = BEHAVIOURS[self.server.settings.drawn(method)]
        trouble = behaviour.trouble_before(self.server.times_seen(key))
        if trouble:
            return of_trouble(trouble)
        try:
            entry = self.server.decide(key, charge, behaviour)
        except KeyReused:
            raise Refusal(422, "idempotency_key_reused", "The key was used for another charge.") from None
        except OSError as error:
            raise Refusal(503, "journal_unwritable", f"Nothing was charged: {error}.") from None
        self.pause(behaviour.latency)
        return of_decision(entry, behaviour.after)

    def read_key(self) -> str:
        """Return the request's idempotency key."""
        key = self.headers.get("Idempotency-Key")
        if not key:
            raise Refusal(400, "idempotency_key_missing", "Send an Idempotency-Key.")
        return str(key)

    def get_refund(self, query: dict[str, str], _body: bytes) -> Reply:
        """What became of the refund under a key."""
        entry = self.server.journal.find(query.get("idempotency_key", ""), operation=REFUND)
        if entry is None:
            raise Refusal(404, "refund_not_found", "No refund was made under this key.")
        return of_refund(entry)

    def post_refund(self, _query: dict[str, str], body: bytes) -> Reply:
        """Refund, write it down, and then answer as the setting `refund_fault` wants it."""
        key = self.read_key()
        refund = read_refund(body)
        settings = self.server.settings.current
        behaviour = BEHAVIOURS[settings.refund_fault or "pm_ok"]
        trouble = behaviour.trouble_before(self.server.times_seen(f"{REFUND} {key}"))
        if trouble:
            return of_trouble(trouble)
        if behaviour.decline_code:
            raise Refusal(402, "refund_declined", f"The refund was declined: {behaviour.decline_code}.")
        try:
            entry = self.server.journal.refund(key=key, forget_keys=settings.forget_keys, **refund)
        except KeyReused:
            raise Refusal(422, "idempotency_key_reused", "The key was used for another refund.") from None
        except ChargeNotFound:
            raise Refusal(404, "charge_not_found", "No approved charge has this id and currency.") from None
        except RefundTooLarge:
            raise Refusal(400, "amount_too_large", "The refunds would be more than the charge.") from None
        except OSError as error:
            raise Refusal(503, "journal_unwritable", f"Nothing was refunded: {error}.") from None
        self.pause(behaviour.latency)
        return of_refund(entry, behaviour.after)

    def get_settings(self, _query: dict[str, str], _body: bytes) -> Reply:
        """The settings as they are."""
        return Reply(document=self.server.settings.shown())

    def patch_settings(self, _query: dict[str, str], body: bytes) -> Reply:
        """Change some settings: all that are named, or none."""
        try:
            self.server.settings.change(read_object(body))
        except SettingInvalid as error:
            raise Refusal(400, "setting_invalid", str(error)) from None
        return Reply(document=self.server.settings.shown())

    def delete_settings(self, _query: dict[str, str], _body: bytes) -> Reply:
        """The defaults again."""
        self.server.settings.reset()
        return Reply(document=self.server.settings.shown())
