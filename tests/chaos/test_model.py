"""Hypothesis plays worker, relay, rescue, broker, gateway and the clock, and looks for an order that breaks us."""

from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, Phase, note, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from merchants.models import Merchant, Mode
from messaging import relay, subscribers
from messaging.models import DeadLetter, OutboxMessage
from payments import rescue
from payments.errors import IdempotencyKeyReused, OrderConflict
from payments.gateways import registry
from payments.gateways.base import LookupAnswer
from payments.models import Payment
from payments.operations import PaymentRequest, accept_payment, process_payments
from payments.operations.claims import Claim
from payments.states import FINAL, HOLDING, LEGAL_MOVES, AttemptKind, Status
from tests.chaos.clock import pass_time
from tests.chaos.conftest import SEED
from tests.chaos.fake_gateway import open_new_book
from tests.chaos.victim import LAST_ROUND, LONG_WAIT, SHORT_WAIT, Recorder
from tests.claiming import claim_one, settle_one, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

#: Few, so that requests meet: replays, conflicts, and second payments of one order.
KEYS = st.sampled_from(["key-1", "key-2", "key-3"])
ORDERS = st.sampled_from(["order-1", "order-1", "order-2", ""])
CHARGES = st.sampled_from(
    ["approve", "decline", "reject", "refuse", "take_and_fall_silent", "fall_silent", "take_later"]
)
LOOK_UPS = st.sampled_from(["truth", "truth", "unreachable", "refuse"])
#: Seconds: less than a lease, more than one, past the first retries and look-ups, past the key window.
WAITS = st.sampled_from([3, 30, 61, 150, 900, 8_000, 90_000])


@dataclass
class Held:
    """A worker between its call and its second transaction."""

    claim: Claim
    answer: LookupAnswer


class OnePaymentSystem(RuleBasedStateMachine):
    """The model is small: what was answered, what was seen last, and what the gateway's book says."""

    def __init__(self) -> None:
        super().__init__()
        empty_the_tables()
        self.book = open_new_book()
        self.merchant, _ = Merchant.objects.get_or_create(slug="shop", name="Shop", currency="EUR")
        self.answers: dict[str, tuple[PaymentRequest, str]] = {}
        self.ids: list[UUID] = []
        self.seen: dict[UUID, str] = {}
        self.queue: list[UUID] = []
        self.held: list[Held] = []

    # --- the merchant

    @initialize(key=KEYS, order=ORDERS)
    def first_request(self, key, order):
        self.request(key, order, 1000)

    @rule(key=KEYS, order=ORDERS, amount=st.sampled_from([1000, 2000]))
    def request(self, key, order, amount):
        """A new request, a replay, a key used twice, or a second payment of an order: the model knows which."""
        wish = PaymentRequest(amount=amount, currency="EUR", order_id=order)
        holders = Payment.objects.filter(order_id=order, status__in=HOLDING).exclude(order_id="")
        if key in self.answers:
            first_wish, body = self.answers[key]
            if wish != first_wish:
                with pytest.raises(IdempotencyKeyReused):
                    self.accept(key, wish)
                return
            again = self.accept(key, wish)
            assert again.replayed
            assert again.body == body, "a replayed answer differs"
        elif holders.exists():
            with pytest.raises(OrderConflict):
                self.accept(key, wish)
        else:
            answer = self.accept(key, wish)
            assert not answer.replayed
            self.answers[key] = (wish, answer.body)
            self.ids.append(UUID(answer.location.rsplit("/", 1)[1]))

    def accept(self, key, wish):
        return accept_payment(
            merchant=self.merchant,
            mode=Mode.TEST,
            idempotency_key=key,
            request=wish,
            request_id="r",
            now=timezone.now(),
        )

    # --- workers

    def pick(self, data, items):
        return items[data.draw(st.integers(0, len(items) - 1))]

    def pick_payment(self, data):
        """One that is not final, while there is one: little can happen to the others."""
        return self.pick(data, [id_ for id_ in self.ids if self.seen.get(id_) not in FINAL] or self.ids)

    @rule(data=st.data(), charge=CHARGES, look_up=LOOK_UPS)
    def process(self, data, charge, look_up):
        """A worker takes a payment up, whoever told it to."""
        self.plan(charge, look_up)
        process_payments(payment_ids=[self.pick_payment(data)])

    @rule(data=st.data())
    def claim_and_die(self, data):
        claim_one(self.pick_payment(data))

    @rule(data=st.data(), charge=CHARGES, look_up=LOOK_UPS)
    def claim_call_and_stall(self, data, charge, look_up):
        """A worker that has its answer and is slow to store it, or never does."""
        self.plan(charge, look_up)
        if claim := claim_one(self.pick_payment(data)):
            self.held.append(self.call(claim))

    @rule(data=st.data(), charge=CHARGES, look_up=LOOK_UPS)
    def claim_call_and_stall_until_the_lease_is_over(self, data, charge, look_up):
        self.claim_call_and_stall(data, charge, look_up)
        self.time_passes(61)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), charge=CHARGES)
    def a_slow_worker_settles(self, data, charge):
        """In time, or after another one has taken over; and if it is to call again, it does and is slow again."""
        held = self.pick(data, self.held)
        self.held.remove(held)
        self.plan(charge, "truth")
        if following := settle_one(held.claim, held.answer):
            self.held.append(self.call(following))

    def call(self, claim):
        adapter = claim.gateway.adapter
        ask = adapter.charge if claim.kind == AttemptKind.CHARGE else adapter.look_up
        return Held(claim, wait_for(ask(claim.request, deadline=1.0)))

    def plan(self, charge, look_up):
        self.book.charge_plan, self.book.look_up_plan = charge, look_up

    # --- relay, rescue and broker

    @rule()
    def relay(self):
        recorder = Recorder()
        relay.run_once(recorder)
        self.queue += [UUID(payment_id) for payment_id in recorder.ids]

    @rule()
    def rescue(self):
        rescue.run_once()

    @precondition(lambda self: self.queue)
    @rule(data=st.data(), charge=CHARGES, look_up=LOOK_UPS, times=st.sampled_from([1, 2]))
    def a_message_is_delivered(self, data, charge, look_up, times):
        payment_id = self.pick(data, self.queue)
        self.queue.remove(payment_id)
        self.plan(charge, look_up)
        for _ in range(times):
            process_payments(payment_ids=[payment_id])

    @precondition(lambda self: self.queue)
    @rule()
    def the_broker_forgets_everything(self):
        self.queue.clear()

    # --- time, and what travels

    @rule(seconds=WAITS)
    def time_passes(self, seconds):
        """Whatever still travels arrives before its attempt has been over for the grace period."""
        for request in list(self.book.travelling):
            payment = Payment.objects.get(pk=request.payment_id)
            if not payment.attempts.filter(gateway_key=request.key, finished_at=None, kind="charge").exists():
                self.book.arrive(request)
        pass_time(None, seconds)

    @precondition(lambda self: self.book.travelling)
    @rule(data=st.data())
    def a_request_arrives(self, data):
        self.book.arrive(self.pick(data, self.book.travelling))

    # --- what must always hold

    @invariant()
    def everything_holds(self):
        self.no_payment_and_no_order_is_charged_twice()
        self.state_and_book_agree()
        self.only_legal_moves_are_made_and_final_states_stay()
        self.an_order_has_one_holder_and_no_payment_is_lost()

    def no_payment_and_no_order_is_charged_twice(self):
        assert {order: count for order, count in self.book.charges_per_order().items() if count > 1} == {}
        assert all(self.book.charges_of(payment_id) <= 1 for payment_id in self.ids)

    def state_and_book_agree(self):
        for payment in Payment.objects.all():
            taken = self.book.charges_of(payment.pk)
            allowed = {Status.PROCESSING, Status.UNKNOWN, Status.SUCCEEDED} if taken else set(Status) - {"succeeded"}
            assert payment.status in allowed, f"{payment.status}, and charged {taken} times"

    def only_legal_moves_are_made_and_final_states_stay(self):
        for payment in Payment.objects.prefetch_related("events"):
            before = self.seen.get(payment.pk, "pending")
            assert before == payment.status or before not in FINAL, f"{before} -> {payment.status}"
            self.seen[payment.pk] = payment.status
            events = sorted(payment.events.all(), key=lambda event: event.version)
            assert [event.version for event in events] == list(range(1, payment.version + 1)), "a gap in the events"
            states = [event.snapshot["status"] for event in events]
            assert states[-1] == payment.status
            for source, to in pairwise(states):
                assert to == source or to in LEGAL_MOVES[Status(source)], f"{source} -> {to}"

    def an_order_has_one_holder_and_no_payment_is_lost(self):
        payments = list(Payment.objects.all())
        assert {payment.pk for payment in payments} == set(self.ids)
        holders = [payment.order_id for payment in payments if payment.holds_order and payment.order_id]
        assert len(holders) == len(set(holders))

    # --- and at the end

    def teardown(self):
        """The gateway is healthy from now on, and everything runs until it is quiet."""
        self.plan("approve", "truth")
        for number in range(LAST_ROUND):
            for request in list(self.book.travelling):
                self.book.arrive(request)
            pass_time(None, SHORT_WAIT if number < 8 else LONG_WAIT)
            rescue.run_once()
            subscribers.run_once("notifications")
            recorder = Recorder()
            relay.run_once(recorder)
            for payment_id in {*recorder.ids, *map(str, self.queue)}:
                process_payments(payment_ids=[UUID(payment_id)])
            if not OutboxMessage.objects.exists() and not Payment.objects.filter(revive_at__isnull=False).exists():
                break
        self.everything_holds()
        for payment in Payment.objects.all():
            note(f"{payment.pk} {payment.status} review={payment.needs_review}")
            assert payment.status in FINAL or (payment.status == "unknown" and payment.needs_review), payment.status
            assert (payment.status == "succeeded") == self.book.charges_of(payment.pk) or payment.needs_review
            assert payment.lease_expires_at is None
        assert not OutboxMessage.objects.exists()
        failed = Payment.objects.filter(status="failed", error_code="retries_exhausted").count()
        assert DeadLetter.objects.count() == failed


def empty_the_tables():
    """Rows of payments cannot be deleted, by a trigger; whole tables can."""
    tables = "payments_payment, payments_gatewaycircuit, messaging_outboxmessage, messaging_deadletter"
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables} CASCADE")


@pytest.fixture
def fake_gateway(settings):
    entry = {**settings.GATEWAYS["sandbox"], "OPTIONS": {}, "BACKEND": "tests.chaos.fake_gateway.FakeGateway"}
    settings.GATEWAYS = {"sandbox": {**entry, "DEADLINE": 20.0, "LEASE": 60.0}}
    registry.get.cache_clear()
    yield
    registry.get.cache_clear()


def test_no_order_of_events_loses_or_doubles_a_payment(fake_gateway, rounds, full):
    run_state_machine_as_test(
        seed(SEED)(OnePaymentSystem),
        settings=hypothesis_settings(
            max_examples=(20 if full else 5) * rounds,
            stateful_step_count=30,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_not_found_of_within_the_grace_period_is_not_believed_when_it_is_stored_after_it(fake_gateway):
    """A worker dies with its charge on the way; the look-up is too early, and its answer is stored late."""
    machine = OnePaymentSystem()
    machine.request("key-1", "order-1", 1000)
    machine.plan("take_later", "truth")
    machine.call(claim_one(machine.ids[0]))
    machine.time_passes(61)
    early = machine.call(claim_one(machine.ids[0]))
    machine.book.arrive(machine.book.travelling[0])
    machine.time_passes(150)
    machine.plan("approve", "truth")
    if following := settle_one(early.claim, early.answer):
        machine.call(following)
    machine.no_payment_and_no_order_is_charged_twice()
