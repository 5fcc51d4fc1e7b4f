"""SMS by Twilio: one POST. https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource"""

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx2

from notifications import http_client
from notifications.outcomes import Delivered, Failed, Result

#: Seconds for the whole call, from name resolution to the last byte of the answer.
DEADLINE: Final = 10.0
#: An answer has about a kilobyte; one that never ends is cut off here.
MAX_ANSWER_BYTES: Final = 64 * 1024
#: Seconds. Who asks for more is asked again after this long.
MAX_RETRY_AFTER: Final = 3600.0
#: Past nine digits it is no time any more.
DELTA_SECONDS: Final = re.compile(r"[0-9]{1,9}")
#: Codes of errors that pass, though they come with a status that says otherwise: too many requests (20429), and the
#: sender's queue is full (21611). https://www.twilio.com/docs/api/errors
PASSING_CODES: Final = frozenset({20429, 21611})
#: What the most common codes mean. Twilio's own messages quote the number, so they are not told. That a refusal is
#: final does not depend on its code: Twilio asks not to program by them.
MEANINGS: Final = {
    21211: "this is not a valid phone number",
    21408: "the account may not send to this country",
    21606: "the sender may not send to this number",
    21608: "a trial account sends to verified numbers only",
    21610: "the recipient has unsubscribed",
    21612: "the sender cannot reach this number",
    21614: "this number takes no SMS",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status code, JSON object (empty where it is none) and `Retry-After` of a whole answer."""

    status_code: int
    document: dict[str, Any]
    retry_after: str


@dataclass(frozen=True, slots=True)
class TwilioSms:
    """Sends by the account's own credentials. `sender`: a phone number or a name that Twilio knows as ours."""

    account_sid: str
    auth_token: str = field(repr=False)
    sender: str
    url: str = "https://api.twilio.com"
    deadline: float = DEADLINE

    def send(self, *, to: str, text: str) -> Result:
        try:
            response = http_client.send(
                self._request(to, text), deadline=self.deadline, max_body_bytes=MAX_ANSWER_BYTES
            )
        except (http_client.NoResponse, httpx2.InvalidURL) as error:
            reason = str(error) if isinstance(error, http_client.NoResponse) else "InvalidURL"
            return Failed(detail=f"Twilio gave no answer: {reason}.")
        retry_after = response.headers.get("retry-after", "").strip()
        return read(Answer(response.status_code, parse(response.body), retry_after))

    def _request(self, to: str, text: str) -> httpx2.Request:
        credentials = base64.b64encode(f"{self.account_sid}:{self.auth_token}".encode()).decode()
        return httpx2.Request(
            "POST",
            f"{self.url}/2010-04-01/Accounts/{quote(self.account_sid, safe='')}/Messages.json",
            headers={"Authorization": f"Basic {credentials}", "Accept-Encoding": "identity"},
            data={"From": self.sender, "To": to, "Body": text},
        )


def parse(body: bytes) -> dict[str, Any]:
    """The body as a JSON object, or an empty one."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def read(answer: Answer) -> Result:
    """Sort an answer. A 201 is a success whatever its body says: to send again would be to tell twice."""
    status, code = answer.status_code, code_of(answer)
    if status == 201:
        sid = answer.document.get("sid")
        return Delivered(reference=sid[:255] if isinstance(sid, str) else "", status_code=status)
    if status in {401, 403}:
        return Failed(detail=f"Twilio refuses our credentials ({told(status, code)}).", status_code=status)
    if is_final(status, code):
        meaning = MEANINGS.get(code, "it takes no such message")
        return Failed(detail=f"Twilio refuses: {meaning} ({told(status, code)}).", status_code=status, final=True)
    return Failed(
        detail=f"Twilio answered {told(status, code)}.", status_code=status, retry_after=read_retry_after(answer)
    )


def is_final(status: int, code: int) -> bool:
    """Whether the same SMS would be refused again."""
    return 400 <= status < 500 and status not in {408, 429} and code not in PASSING_CODES


def code_of(answer: Answer) -> int:
    """Twilio's code of the error, or 0."""
    code = answer.document.get("code")
    return code if type(code) is int and 0 < code < 1_000_000 else 0


def told(status: int, code: int) -> str:
    """The numbers by which Twilio's own documentation is searched."""
    return f"HTTP {status}, code {code}" if code else f"HTTP {status}"


def read_retry_after(answer: Answer) -> float | None:
    """The seconds that a 429 or 503 asks us to wait (RFC 9110, 10.2.3), or None; a date or nonsense is ignored."""
    if answer.status_code not in {429, 503} or not DELTA_SECONDS.fullmatch(answer.retry_after):
        return None
    return min(float(answer.retry_after), MAX_RETRY_AFTER)
