"""Deliveries by webhook: claim, call, settle; hundreds at a time, without a thread for each.

The actor claims and hands the call to an event loop; whoever settles a call takes what waits next for its endpoint.
So an endpoint's deliveries go out in their order and by its own pace, and one that hangs holds no thread. RabbitMQ's
message is acknowledged once the claim is in the database: if the process dies, its leases end and the rescue goes on.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cache
from typing import Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connections
from django.utils import timezone
from dramatiq import Broker, Middleware, Worker

from messaging.database_errors import close_unfit_session, is_retryable
from messaging.failpoints import failpoint
from notifications import attempts, endpoints
from notifications.attempts import Claim
from notifications.messages import data_of
from notifications.models import Channel, WebhookEndpoint
from notifications.outcomes import Failed, Result, defect
from notifications.routes import topic_of
from notifications.vault import Locked
from notifications.webhooks.caller import Caller, shared_caller
from notifications.webhooks.documents import document_of
from notifications.webhooks.signing import headers_of

log = structlog.get_logger(__name__)

#: Seconds that one call may take, from name resolution to the last byte of the answer.
DEADLINE: Final = 15.0
#: Threads that record what came of calls; each holds a database connection.
SETTLERS: Final = 4
#: Seconds in which an answer that has come is recorded, as a rule.
MOMENT: Final = 2.0
#: Said to merchants too, so it names no setting of ours; the log and `manage.py doctor` do.
UNSIGNED: Final = Failed(detail="the endpoint's secret cannot be read on our side, so it cannot be signed", ours=True)


class Dispatch:
    """The calls that are under way in this process."""

    def __init__(self, caller: Caller, *, most: int) -> None:
        self._caller = caller
        self._most = most
        self._slots = threading.BoundedSemaphore(most)
        #: Delivery and attempt -> the merchant whose they are.
        self._under_way: dict[tuple[UUID, int], UUID] = {}
        self._settlers = ThreadPoolExecutor(SETTLERS, thread_name_prefix="webhook-settler")
        self._stopping = False

    def work_off(self, endpoint_id: UUID) -> None:
        """Begin the calls that are due and that the endpoint has room for. Waits while too many are under way.

        No more than it has room for at once: each call is followed by the next when it ends, and the thread that began
        them is another endpoint's turn.
        """
        for number in range(settings.WEBHOOKS_PER_ENDPOINT):
            self._slots.acquire()
            if not self._begin_next(endpoint_id, surely=number == 0):
                return

    def stop(self) -> None:
        """Begin no more."""
        self._stopping = True

    def drain(self, timeout: float) -> bool:
        """Begin no more, and wait for the calls under way; False if some are left after so many seconds."""
        self.stop()
        ends_at = time.monotonic() + timeout
        return all(self._slots.acquire(timeout=max(0.0, ends_at - time.monotonic())) for _ in range(self._most))

    def close(self) -> None:
        """End the threads, with their database connections."""
        together = threading.Barrier(SETTLERS)

        def close(_number: int) -> None:
            together.wait()  # so that each thread does it once
            connections.close_all()

        list(self._settlers.map(close, range(SETTLERS)))
        self._settlers.shutdown()

    def _begin_next(self, endpoint_id: UUID, *, surely: bool = False) -> bool:
        """With a slot in hand: begin one call, or give the slot back. `surely`: somebody has said that one waits."""
        begun = False
        try:
            claim = self._claim(endpoint_id, surely=surely)
            if claim is not None:
                self._begin(claim)
                begun = True
        finally:
            if not begun:
                self._slots.release()
        return begun

    def _claim(self, endpoint_id: UUID, *, surely: bool) -> Claim | None:
        """The next call. A look without a lock spares most claims that would find nothing."""
        now = attempts.reckoned_now()
        if self._stopping or not (surely or attempts.due_for(endpoint_id, now=now).exists()):
            return None
        return attempts.claim_for_endpoint(endpoint_id, share=self._share, now=now)

    def _share(self, endpoint: WebhookEndpoint) -> int:
        """How many calls an endpoint may have: one once half of the slots are taken, so that slow ones cannot share
        them all among themselves; and none once its merchant alone has taken three quarters, by however many origins.
        """
        of_merchant = list(self._under_way.values()).count(endpoint.merchant_id)
        if of_merchant * 4 >= self._most * 3:
            return 0
        return 1 if len(self._under_way) * 2 >= self._most else settings.WEBHOOKS_PER_ENDPOINT

    def _begin(self, claim: Claim) -> None:
        failpoint("delivery.claimed")
        self._under_way[claim.delivery.pk, claim.number] = claim.delivery.merchant_id
        started = time.monotonic()

        def answered(call: Future[Result]) -> None:
            latency = timedelta(seconds=time.monotonic() - started)
            self._settlers.submit(self._settle, claim, call.result(), latency)

        self._call(claim).add_done_callback(answered)

    def _call(self, claim: Claim) -> Future[Result]:
        """The call under way; or what a defect of ours, such as a secret that cannot be read, comes to."""
        try:
            url, headers, body = prepare(claim, now=timezone.now())
        except Exception as error:
            if is_retryable(error):
                raise
            log.exception("webhook_not_sent", delivery=str(claim.delivery.pk))
            failed: Future[Result] = Future()
            failed.set_result(UNSIGNED if isinstance(error, Locked) else defect(error))
            return failed
        return self._caller.submit(url, headers=headers, body=body, deadline=DEADLINE)

    def _settle(self, claim: Claim, result: Result, latency: timedelta) -> None:
        """Record the answer, and begin what waits next with the same slot."""
        settled = False
        self._under_way.pop((claim.delivery.pk, claim.number), None)
        try:
            failpoint("delivery.sent")
            attempts.settle_patiently(claim, result, latency=latency)
            settled = True
        except Exception:  # the lease ends, and the rescue has it sent again
            log.exception("webhook_not_settled", delivery=str(claim.delivery.pk))
        if not settled:
            self._slots.release()
            return
        endpoint_id = claim.delivery.endpoint_id
        assert endpoint_id
        try:
            self._begin_next(endpoint_id)
        except Exception as error:
            log.exception("webhook_not_begun", endpoint=str(endpoint_id))
            close_unfit_session(error)


def prepare(claim: Claim, *, now: datetime) -> tuple[str, dict[str, str], bytes]:
    """Where a delivery goes, and what is sent: the same body at every attempt, signed anew."""
    delivery = claim.delivery
    assert delivery.endpoint
    body = document_of(type=delivery.event_type, occurred_at=delivery.occurred_at, data=data_of(delivery))
    secrets = endpoints.secrets_of(delivery.endpoint, now=now)
    headers = headers_of(event_id=str(delivery.event_id), body=body, secrets=secrets, now=now)
    return delivery.recipient, headers, body


#: `cache` alone would make two where two threads are the first to ask, and a stopping worker would end one of them.
ONE_AT_A_TIME: Final = threading.Lock()


@cache
def make_dispatch() -> Dispatch:
    """To be asked by one thread at a time; see `shared_dispatch`."""
    return Dispatch(shared_caller(), most=settings.WEBHOOKS_IN_FLIGHT)


def shared_dispatch() -> Dispatch:
    """This process's calls."""
    with ONE_AT_A_TIME:
        return make_dispatch()


class Drain(Middleware):
    """Lets a stopping worker finish its calls: what is cut off would be sent again.

    Of the workers of a process only one serves webhooks; the others end without them.
    """

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Begin no more, or a long queue of calls would go on as long as the worker's threads do."""
        if is_calling(worker):
            shared_dispatch().stop()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Wait as long as a call and its record may take."""
        if is_calling(worker):
            shared_dispatch().drain(DEADLINE + MOMENT)


def is_calling(worker: Worker) -> bool:
    """Whether it is the worker that serves webhooks, and has."""
    queue, _ = settings.MESSAGE_ROUTES[topic_of(Channel.WEBHOOK)]
    return queue in worker.consumers and bool(make_dispatch.cache_info().currsize)
