"""The gateway's HTTP interface.

`POST /v1/charges` with `Idempotency-Key`, `GET /v1/charges?idempotency_key=`, `GET /journal[?payment_id=]`,
`GET /livez`.
"""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlsplit

from sandbox.behaviours import BEHAVIOURS, Behaviour
from sandbox.journal import Entry, Journal, KeyReused

#: What a charge is made of, and of which type.
CHARGE_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "payment_id": (str,),
    "merchant": (str,),
    "order_id": (str, type(None)),
    "amount": (int,),
    "currency": (str,),
}
#: How long (s) an unanswered connection is held open: longer than any sane client waits.
SILENCE: Final = 90.0
MAX_BODY: Final = 64 * 1024


class Refusal(Exception):
    """A request that is answered with an error, and that did nothing."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Gateway(ThreadingHTTPServer):
    """The server, with what its handlers share."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], journal: Journal) -> None:
        super().__init__(address, Handler)
        self.journal = journal
        self.stopping = threading.Event()
        self._seen: Counter[str] = Counter()
        self._seen_lock = threading.Lock()

    def times_seen(self, key: str) -> int:
        """How often a charge under this key has been asked for, this time included."""
        with self._seen_lock:
            self._seen[key] += 1
            return self._seen[key]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Gateway
    protocol_version = "HTTP/1.1"
    timeout = SILENCE
    # Status line, headers and body leave in one packet each; Nagle's algorithm would hold the second back.
    disable_nagle_algorithm = True
    wbufsize = -1
    routes: ClassVar = {"/journal": "get_journal", "/livez": "get_livez", "/v1/charges": "get_charge"}

    def do_GET(self) -> None:
        """Look-ups."""
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        route = self.routes.get(url.path)
        if route is None:
            self.answer_error(404, "no_such_address", "There is nothing at this address.")
            return
        getattr(self, route)(query)

    def do_POST(self) -> None:
        """Charges."""
        try:
            body = self.read_body()
            if urlsplit(self.path).path != "/v1/charges":
                raise Refusal(404, "no_such_address", "There is nothing at this address.")
            self.post_charge(body)
        except Refusal as refusal:
            self.answer_error(refusal.status, refusal.code, refusal.message)

    def get_livez(self, _query: dict[str, str]) -> None:
        """A sign of life."""
        self.answer(200, {"status": "healthy"})

    def get_journal(self, query: dict[str, str]) -> None:
        """All effects, or one payment's."""
        self.answer(200, self.server.journal.effects(query.get("payment_id")))

    def get_charge(self, query: dict[str, str]) -> None:
        """What became of the charge under a key."""
        entry = self.server.journal.find(query.get("idempotency_key", ""))
        if entry is None:
            self.answer_error(404, "charge_not_found", "No charge was made under this key.")
        else:
            self.answer_decision(entry)

    def post_charge(self, body: bytes) -> None:
        """Decide, write it down, and then answer as the payment method wants it."""
        key = self.headers.get("Idempotency-Key")
        if not key:
            raise Refusal(400, "idempotency_key_missing", "Send an Idempotency-Key.")
        charge, behaviour = read_charge(body)
        if behaviour.unavailable_times:
            seen = self.server.times_seen(key)
            if behaviour.unavailable_times < 0 or seen <= behaviour.unavailable_times:
                raise Refusal(503, "unavailable", "The gateway is down for the moment; nothing was charged.")
        try:
            entry = self.server.journal.decide(key=key, charge=charge, decline_code=behaviour.decline_code)
        except KeyReused:
            raise Refusal(422, "idempotency_key_reused", "The key was used for another charge.") from None
        if behaviour.never_answers:
            self.close_connection = True
            self.server.stopping.wait(SILENCE)
            return
        self.answer_decision(entry)

    def read_body(self) -> bytes:
        """The request's body."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True
            raise Refusal(400, "body_invalid", "Send a body with its length, of a few kilobytes at most.")
        return self.rfile.read(int(length))

    def answer_decision(self, entry: Entry) -> None:
        """An approval or a decline."""
        if entry.decline_code:
            error = {"code": "declined", "decline_code": entry.decline_code, "charge": entry.reference}
            self.answer(402, {"error": {**error, "message": "The charge was declined."}})
            return
        charge = {"id": entry.reference, "status": "approved", "payment_id": entry.payment_id}
        self.answer(200, {**charge, "amount": entry.amount, "currency": entry.currency})

    def answer_error(self, status: int, code: str, message: str) -> None:
        """An error in the gateway's own format."""
        self.answer(status, {"error": {"code": code, "message": message}})

    def answer(self, status: int, document: Any) -> None:
        """Send JSON. A client that has gone away is no fault of ours."""
        body = json.dumps(document).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """No access log: the journal is the record."""


def read_charge(body: bytes) -> tuple[dict[str, Any], Behaviour]:
    """The charge that is asked for, and how its payment method behaves."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "body_invalid", "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise Refusal(400, "body_invalid", "The body is not a JSON object.")
    for name, types in CHARGE_FIELDS.items():
        value = document.get(name)
        if not isinstance(value, types) or isinstance(value, bool):
            raise Refusal(400, "field_invalid", f"{name} is missing or of the wrong type.")
    if document["amount"] <= 0:
        raise Refusal(400, "field_invalid", "amount is not above zero.")
    method = document.get("payment_method")
    behaviour = BEHAVIOURS.get(method) if isinstance(method, str) else None
    if behaviour is None:
        known = ", ".join(BEHAVIOURS)
        raise Refusal(400, "payment_method_unknown", f"The sandbox knows these payment methods: {known}.")
    return {name: document[name] for name in CHARGE_FIELDS}, behaviour
