"""HTTP of mail providers: django-anymail calls them by `requests`, whose adapter is replaced here.

`requests` bounds neither the whole call nor what a response consists of, and decompresses without a limit.
"""

from io import BytesIO
from typing import Any, Final

import httpx2
import requests
from anymail.backends.base_requests import AnymailRequestsBackend
from django.core.mail.backends.base import BaseEmailBackend
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from notifications import http_client

#: A provider's response has about a kilobyte, and names each recipient; a message has one.
MAX_RESPONSE_BYTES: Final = 256 * 1024
#: Seconds for the whole call where anymail's setting `requests_timeout` has no number.
DEFAULT_DEADLINE_SECONDS: Final = 30.0


class CappedAdapter(BaseAdapter):
    """Sends what `requests` has prepared. Proxies of the environment are not used, as by no other client here."""

    def send(self, request: requests.PreparedRequest, *_args: Any, **options: Any) -> requests.Response:
        """Return the response. Raises requests.ConnectionError."""
        timeout = options.get("timeout")
        deadline = float(timeout) if isinstance(timeout, int | float) else DEFAULT_DEADLINE_SECONDS
        prepared: Any = request
        outgoing = httpx2.Request(
            prepared.method,
            prepared.url,
            headers={**prepared.headers, "Accept-Encoding": "identity"},
            content=prepared.body,
        )
        try:
            found = http_client.send(outgoing, deadline=deadline, max_body_bytes=MAX_RESPONSE_BYTES)
        except http_client.NoResponse as error:
            raise requests.ConnectionError(str(error), request=request) from error
        response = requests.Response()
        response.status_code, response.reason = found.status_code, found.reason
        response.headers = CaseInsensitiveDict(found.headers)
        response.encoding = get_encoding_from_headers(response.headers)
        response.raw = BytesIO(found.body)
        response.url, response.request = request.url or "", request
        return response

    def close(self) -> None:
        """Do nothing: no connection is kept."""


def cap(connection: BaseEmailBackend) -> BaseEmailBackend:
    """Return the connection, with limits on what a provider may answer if it calls one over HTTP."""
    if isinstance(connection, AnymailRequestsBackend):
        provider: Any = connection  # comes without types
        provider.open()
        for scheme in ("https://", "http://"):
            provider.session.mount(scheme, CappedAdapter())
    return connection
