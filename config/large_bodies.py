"""Which requests may send a body larger than usual, and how many at the same time.

Only `POST /payments/batch` takes such bodies, from callers that may create payments. The credential is checked as soon
as more than a usual body has arrived, and before the rest is read: a connection that only announces a large body, or
shows no credential, takes no place from others.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

from django.core.handlers.wsgi import WSGIRequest
from django.db import close_old_connections
from rest_framework.exceptions import APIException

from merchants.models import Scope
from merchants.principal import Principal
from merchants.refusals import Refused
from payments.batch_views import PaymentBatchView

#: Large bodies that one process reads and answers at the same time; more wait. Each takes up to a megabyte while it is
#: read, and some ten times as much while it is parsed.
MAX_LARGE_BODIES: Final = 16
#: The same for one merchant, so that others find a place beside one that sends slowly.
MAX_LARGE_BODIES_PER_MERCHANT: Final = 8
#: How long (s) the rest of a large body may take: a megabyte at 17 kB/s.
LARGE_BODY_TIMEOUT_SECONDS: Final = 60.0

PATHS: Final = frozenset({"/api/v1/payments/batch", "/api/v1/payments/batch/"})
CREDENTIALS: Final = ("HTTP_AUTHORIZATION", "HTTP_X_API_KEY")

Environ = dict[str, Any]
RunInThread = Callable[[Callable[[], Hashable | None]], Awaitable[Hashable | None]]


class LargeBodies:
    """The places for large bodies in one process. `run` calls a function in a thread that may use the database."""

    def __init__(self, run: RunInThread) -> None:
        self._run = run
        self._all = asyncio.Semaphore(MAX_LARGE_BODIES)
        self._of_merchant: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    async def find_sender(self, environ: Environ) -> Hashable | None:
        """Return the merchant that may send this large body, by the headers; None to refuse it."""
        if environ["REQUEST_METHOD"] != "POST" or environ["PATH_INFO"] not in PATHS:
            return None
        if not any(environ.get(name) for name in CREDENTIALS):
            return None
        return await self._run(partial(authenticate, dict(environ)))

    @asynccontextmanager
    async def place(self, merchant: Hashable) -> AsyncIterator[None]:
        """Wait for a place, and hold it."""
        own = self._of_merchant.setdefault(merchant, asyncio.Semaphore(MAX_LARGE_BODIES_PER_MERCHANT))
        async with own, self._all:
            yield


def authenticate(environ: Environ) -> Hashable | None:
    """Return the merchant whose credential the headers hold, if it may create payments.

    A refusal says nothing: the request is then answered in the usual way, which says why and counts it.
    """
    try:
        caller: Any = PaymentBatchView().initialize_request(WSGIRequest(environ)).user
    except (APIException, Refused):
        return None
    except Exception:
        close_old_connections()
        raise
    if isinstance(caller, Principal) and Scope.PAYMENTS_WRITE.value in caller.scopes:
        return caller.merchant.pk
    return None
