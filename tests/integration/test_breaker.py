"""The breaker and the switch: a gateway out of order is left alone, and what waits for it burns nothing."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.models import F
from django.db.models.functions import Now
from django.db.utils import IntegrityError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from merchants.audit import by_shell
from merchants.models import User
from messaging.models import DeadLetter, OutboxMessage
from payments import breaker, release
from payments.breaker import State, state_of
from payments.gateways import registry
from payments.gateways.base import Approved, Declined, NotFound, OutcomeUnknown, Unavailable
from payments.models import GatewayCircuit, Payment
from payments.operations import process_payments
from payments.operations.process import teach_breaker
from tests.claiming import claim_one, settle_one
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)

HOUR_AGO = Now() - timedelta(hours=1)
#: Seconds for which calls count.
WINDOW = 3600.0
DOWN = Unavailable(detail="503")
SILENT = OutcomeUnknown(detail="no answer")


@pytest.fixture(autouse=True)
def four_calls_are_enough(settings):
    # Both times are longer than a busy machine takes for a test: they pass only where a test says so.
    limit(settings, WINDOW=WINDOW, MIN_CALLS=4, FAILURE_RATE=0.5, OPEN_FOR=60.0)
    yield
    registry.get.cache_clear()


def limit(settings, **limits):
    breaker_of_sandbox = {**settings.GATEWAYS["sandbox"]["BREAKER"], **limits}
    settings.GATEWAYS = {"sandbox": {**settings.GATEWAYS["sandbox"], "BREAKER": breaker_of_sandbox}}
    registry.get.cache_clear()


def answered(payment, answer):
    """One call for a payment, as a worker makes it."""
    claim = claim_one(payment.pk)
    assert claim is not None
    settle_one(claim, answer)
    teach_breaker(claim, answer)
    payment.refresh_from_db()
    return claim


def calls(accept, *answers):
    for number, answer in enumerate(answers):
        answered(accept(key=f"call-{number}-{work().count()}"), answer)


def state():
    return state_of(GatewayCircuit.objects.filter(pk="sandbox").first(), now=timezone.now())


def open_breaker(accept):
    while state() is not State.OPEN:
        calls(accept, DOWN)


def let_pass(circuit_seconds=0):
    """Let the time pass that the breaker stays open."""
    GatewayCircuit.objects.update(open_until=Now() - timedelta(seconds=1 + circuit_seconds))


# --- when it opens


def test_failures_below_the_minimum_volume_open_nothing(accept):
    calls(accept, DOWN, DOWN, DOWN)
    assert state() is State.IN_ORDER
    assert not GatewayCircuit.objects.exists()


@pytest.mark.parametrize("failure", [DOWN, SILENT])
def test_a_failure_rate_above_the_limit_opens_it(accept, failure):
    calls(accept, Approved(reference="a"), Approved(reference="b"), failure)
    assert state() is State.IN_ORDER
    calls(accept, failure)
    assert state() is State.OPEN


def test_declines_never_open_it(accept):
    calls(accept, *[Declined(decline_code="card_declined", detail="no")] * 8)
    assert state() is State.IN_ORDER


def test_declines_are_answers_that_keep_it_closed(accept):
    calls(accept, *[Declined(decline_code="card_declined", detail="no")] * 5, DOWN, DOWN, DOWN)
    assert state() is State.IN_ORDER


def test_failures_of_the_past_do_not_count(accept):
    calls(accept, DOWN, DOWN, DOWN)
    for payment in Payment.objects.all():
        payment.attempts.update(finished_at=F("finished_at") - timedelta(seconds=WINDOW + 1))
    calls(accept, DOWN)
    assert state() is State.IN_ORDER


def test_another_gateways_failures_do_not_count(accept):
    calls(accept, DOWN, DOWN, DOWN)
    Payment.objects.update(gateway="other")
    calls(accept, DOWN)
    assert state() is State.IN_ORDER


def test_calls_that_hang_do_not_hide_those_that_failed(accept, monkeypatch):
    monkeypatch.setattr(breaker, "MOST_CALLS", 6)
    failing = [claim_one(accept(key=f"failing-{number}").pk) for number in range(4)]
    for number in range(8):
        assert claim_one(accept(key=f"hanging-{number}").pk)
    for claim in failing:
        settle_one(claim, SILENT)
        teach_breaker(claim, SILENT)
    assert state() is State.OPEN


def test_slow_failures_are_not_hidden_by_quick_answers_to_calls_that_began_later(accept, monkeypatch):
    monkeypatch.setattr(breaker, "MOST_CALLS", 6)
    failing = [claim_one(accept(key=f"failing-{number}").pk) for number in range(4)]
    calls(accept, *[Approved(reference=f"r-{number}") for number in range(8)])
    for claim in failing:
        settle_one(claim, SILENT)
        teach_breaker(claim, SILENT)
    assert state() is State.OPEN


# --- while it is open


def test_a_new_payment_waits_in_processing_and_burns_no_retry(accept, sandbox):
    open_breaker(accept)
    payment = accept(key="waiting")
    OutboxMessage.objects.all().delete()
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert (payment.status, payment.retries, payment.charge_attempts) == ("processing", 0, 0)
    assert payment.next_attempt_at == GatewayCircuit.objects.get().open_until
    assert payment.error_code == "gateway_unavailable"
    assert payment.held_since is not None
    assert payment.revive_at > payment.next_attempt_at
    assert not payment.attempts.exists()
    assert not work().exists()
    assert sandbox.charges() == []


def test_a_due_retry_waits_and_keeps_its_retries(accept):
    payment = accept(key="retrying")
    answered(payment, DOWN)
    open_breaker(accept)
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=HOUR_AGO)
    assert claim_one(payment.pk) is None
    payment.refresh_from_db()
    assert (payment.status, payment.retries, payment.charge_attempts) == ("processing", 1, 1)
    assert payment.held_since is not None


def test_an_unknown_outcome_waits_and_stays_unknown(accept):
    payment = accept(key="unknown")
    answered(payment, SILENT)
    open_breaker(accept)
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=HOUR_AGO)
    assert claim_one(payment.pk) is None
    payment.refresh_from_db()
    assert (payment.status, payment.error_code, payment.lookups) == ("unknown", "outcome_unknown", 1)
    assert payment.held_since is not None


def test_a_lease_that_ran_out_is_looked_up_later_and_never_forgotten(accept):
    payment = accept(key="abandoned")
    claim_one(payment.pk)
    open_breaker(accept)
    Payment.objects.filter(pk=payment.pk).update(lease_expires_at=HOUR_AGO)
    assert claim_one(payment.pk) is None
    payment.refresh_from_db()
    assert (payment.status, payment.lease_expires_at) == ("unknown", None)
    assert payment.held_since is not None
    assert payment.attempts.get().outcome == "abandoned"


def test_nothing_that_waits_is_released_while_it_is_open(accept):
    open_breaker(accept)
    claim_one(accept(key="waiting").pk)
    OutboxMessage.objects.all().delete()
    assert release.run_once() == 0


# --- half open


def test_one_call_probes_and_the_others_wait(accept):
    open_breaker(accept)
    waiting = [accept(key=f"waiting-{number}") for number in range(8)]
    let_pass()
    assert state() is State.HALF_OPEN

    def claim(payment):
        try:
            return claim_one(payment.pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        claims = [claim for claim in pool.map(claim, waiting) if claim is not None]
    assert [claim.probe for claim in claims] == [True]
    assert Payment.objects.filter(held_since__isnull=False).count() == 7


def test_a_probe_that_is_answered_closes_it(accept):
    open_breaker(accept)
    let_pass()
    assert answered(accept(key="probe"), Declined(decline_code="card_declined", detail="no")).probe
    assert state() is State.IN_ORDER
    assert claim_one(accept(key="next").pk) is not None


def test_a_look_up_that_finds_nothing_closes_it_too(accept):
    payment = accept(key="unknown")
    answered(payment, SILENT)
    open_breaker(accept)
    let_pass()
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=HOUR_AGO)
    claim = claim_one(payment.pk)
    assert (claim.probe, claim.kind) == (True, "lookup")
    settle_one(claim, NotFound())
    teach_breaker(claim, NotFound())
    assert state() is State.IN_ORDER


def test_failures_before_it_closed_do_not_open_it_again(accept):
    open_breaker(accept)
    let_pass()
    answered(accept(key="probe"), Approved(reference="ch_1"))
    calls(accept, DOWN, DOWN, DOWN)
    assert state() is State.IN_ORDER


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_minute(accept, settings):
    limit(settings, OPEN_FOR=10.0)
    open_breaker(accept)
    waits = []
    for number in range(5):
        let_pass()
        answered(accept(key=f"probe-{number}"), DOWN)
        waits.append((GatewayCircuit.objects.get().open_until - timezone.now()).total_seconds())
    assert waits == pytest.approx([20, 40, 60, 60, 60], abs=9), (
        "twice as long each time; seconds pass on a busy machine"
    )


def test_a_failed_probe_burns_nothing_of_the_payment_that_went_ahead(accept):
    open_breaker(accept)
    let_pass()
    payment = accept(key="probe")
    answered(payment, DOWN)
    assert (payment.status, payment.retries) == ("processing", 0)
    assert payment.held_since is not None
    assert payment.lease_expires_at is None


def test_a_failed_look_up_as_probe_burns_nothing_of_its_schedule(accept):
    payment = accept(key="unknown")
    answered(payment, SILENT)
    open_breaker(accept)
    let_pass()
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=HOUR_AGO)
    assert answered(payment, SILENT).probe
    assert (payment.status, payment.lookups) == ("unknown", 1)
    assert payment.held_since is not None


def test_a_probe_without_an_answer_is_an_unknown_outcome_like_any_other(accept):
    open_breaker(accept)
    let_pass()
    payment = accept(key="probe")
    answered(payment, SILENT)
    assert payment.status == "unknown"


def test_a_probe_whose_worker_died_does_not_keep_it_open_for_ever(accept):
    open_breaker(accept)
    let_pass()
    assert claim_one(accept(key="dies").pk).probe
    assert claim_one(accept(key="waits").pk) is None
    GatewayCircuit.objects.update(probing_until=HOUR_AGO)
    assert claim_one(accept(key="next").pk).probe


def test_an_answer_to_a_call_from_before_closes_nothing(accept):
    early = claim_one(accept(key="early").pk)
    open_breaker(accept)
    let_pass()
    settle_one(early, Approved(reference="ch_1"))
    teach_breaker(early, Approved(reference="ch_1"))
    assert state() is State.HALF_OPEN


# --- the release


def held(accept, count):
    payments = [accept(key=f"held-{number}") for number in range(count)]
    for payment in payments:
        assert claim_one(payment.pk) is None
    OutboxMessage.objects.all().delete()
    return [str(payment.pk) for payment in payments]


def staged():
    return [message.payload["ids"][0] for message in work().order_by("id")]


def test_the_one_that_waited_longest_probes_when_the_time_has_come(accept):
    open_breaker(accept)
    ids = held(accept, 3)
    let_pass()
    assert release.run_once() == 1
    assert staged() == ids[:1]
    claim = claim_one(ids[0])
    assert (claim.probe, claim.kind) == (True, "charge")
    assert release.run_once() == 0  # one probe at a time


def test_what_waited_is_released_when_it_closes_oldest_first(accept, monkeypatch):
    open_breaker(accept)
    ids = held(accept, 5)
    let_pass()
    release.run_once()
    answered(Payment.objects.get(pk=ids[0]), Approved(reference="ch_1"))
    OutboxMessage.objects.all().delete()
    monkeypatch.setattr(release, "LIMIT", 3)
    assert [release.run_once() for _ in range(3)] == [3, 1, 0]
    assert staged() == ids[1:]
    claim = claim_one(ids[1])
    assert (claim.probe, claim.kind) == (False, "charge")


def test_several_relays_release_each_payment_once(accept):
    breaker.pause("sandbox", reason="r", who=by_shell("b"))
    ids = held(accept, 40)
    breaker.resume("sandbox", who=by_shell("b"))

    def work(_):
        try:
            return release.run_once()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(8))) == 40
    assert sorted(staged()) == sorted(ids)


def test_a_held_payment_is_rescued_even_if_nobody_ever_releases_it(accept):
    open_breaker(accept)
    held(accept, 1)
    payment = Payment.objects.get(held_since__isnull=False)
    assert timedelta(minutes=9) < payment.revive_at - timezone.now() < timedelta(minutes=21)


# --- the switch


def test_a_paused_gateway_is_not_called_and_payments_are_accepted(accept, sandbox):
    breaker.pause("sandbox", reason="maintenance", who=by_shell("alice"))
    payment = accept()
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert (payment.status, payment.error_code) == ("processing", "gateway_paused")
    assert payment.next_attempt_at is not None
    assert sandbox.charges() == []
    breaker.resume("sandbox", who=by_shell("alice"))
    assert release.run_once() == 1
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert (payment.status, payment.error_code) == ("succeeded", "")
    assert payment.held_since is None


def test_a_pause_outlasts_a_breaker_that_closes(accept):
    open_breaker(accept)
    breaker.pause("sandbox", reason="r", who=by_shell("b"))
    let_pass()
    assert claim_one(accept(key="new").pk) is None
    breaker.resume("sandbox", who=by_shell("b"))
    assert claim_one(accept(key="probe").pk).probe


def test_no_pause_is_without_a_reason():
    with pytest.raises(IntegrityError, match="circuit_pause_has_a_reason"):
        breaker.pause("sandbox", reason="", who=by_shell("b"))


def run(*arguments):
    out = StringIO()
    call_command("gateway", *arguments, stdout=out)
    return out.getvalue().strip()


def test_the_command_pauses_tells_and_resumes(accept):
    assert run("status") == "sandbox: in order"
    told = run("pause", "sandbox", "--reason", "maintenance\n tonight", "--by", "alice")
    assert told.startswith("sandbox: paused by alice since ")
    assert told.endswith(": maintenance tonight")
    claim_one(accept().pk)
    assert run("status").endswith("maintenance tonight; payments that wait for it: 1")
    assert run("resume", "sandbox", "--by", "alice") == "sandbox: in order; payments that wait for it: 1"
    assert run("resume", "sandbox").splitlines()[0] == "sandbox was not paused."


def test_the_command_tells_of_an_open_breaker(accept):
    open_breaker(accept)
    assert run("status").startswith("sandbox: out of order; the breaker is open (next probe at ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause", "sandbox", "--reason", " "),
        ("pause", "sandbox", "--reason", "..."),
        ("pause", "sandbox", "--reason", "x" * 201),
        ("resume", "sandbox", "--reason", "x" * 501),
    ],
)
def test_the_command_wants_a_reason(arguments):
    with pytest.raises(CommandError, match="--reason takes"):
        run(*arguments)
    assert not GatewayCircuit.objects.exists()


@pytest.fixture
def console():
    """Somebody who runs it, in a browser."""
    user = User.objects.create_user("olga", is_staff=True)
    user.groups.add(Group.objects.get(name="operator"))
    client = Client()
    client.force_login(user)
    return client


def test_the_console_shows_every_gateway_and_has_the_switch(console, accept):
    listed = console.get(reverse("admin:payments_gatewaycircuit_changelist")).content.decode()
    assert ">sandbox</a>" in listed
    pages = {name: reverse(f"admin:payments_gatewaycircuit_{name}", args=["sandbox"]) for name in ("pause", "resume")}
    page = reverse("admin:payments_gatewaycircuit_change", args=["sandbox"])
    assert pages["pause"] in console.get(page).content.decode()
    assert "Nothing has been done yet" in console.get(pages["pause"]).content.decode()
    assert GatewayCircuit.objects.get().paused_at is None
    console.post(pages["pause"], {"reason": "maintenance\ntonight"})
    paused = GatewayCircuit.objects.get()
    assert (paused.paused_by, paused.pause_reason) == ("olga", "maintenance tonight")
    assert claim_one(accept().pk) is None
    assert "1 payment now" in console.get(pages["resume"]).content.decode()
    console.post(pages["resume"], {"reason": "it is over"})
    assert GatewayCircuit.objects.get().paused_at is None
    assert "not paused any more" in console.post(pages["resume"], {"reason": "r"}, follow=True).content.decode()


@pytest.mark.parametrize("reason", ["", "...", "x" * 201])
def test_the_console_wants_a_reason(console, reason):
    GatewayCircuit.objects.create(gateway="sandbox")
    console.post(reverse("admin:payments_gatewaycircuit_pause", args=["sandbox"]), {"reason": reason})
    assert GatewayCircuit.objects.get().paused_at is None


def test_support_pauses_no_gateway(console):
    GatewayCircuit.objects.create(gateway="sandbox")
    User.objects.get().groups.set(Group.objects.filter(name="support"))
    for name in ("pause", "resume"):
        address = reverse(f"admin:payments_gatewaycircuit_{name}", args=["sandbox"])
        assert console.post(address, {"reason": "r"}).status_code == 403
        page = console.get(reverse("admin:payments_gatewaycircuit_change", args=["sandbox"])).content.decode()
        assert address not in page


def test_an_outage_kills_no_payment_that_waits_for_its_end(accept):
    """Probe after probe fails, for longer than all the retries of a payment would last."""
    open_breaker(accept)
    ids = held(accept, 2)
    for _ in range(8):
        let_pass()
        GatewayCircuit.objects.update(probing_until=None)
        release.run_once()
        probe = Payment.objects.get(pk__in=ids, held_since=None)
        answered(probe, DOWN)
    assert set(Payment.objects.filter(pk__in=ids).values_list("status", "retries")) == {("processing", 0)}
    assert not DeadLetter.objects.filter(subject__in=[f"payment:{id_}" for id_ in ids]).exists()
    assert set(Payment.objects.filter(pk__in=ids).values_list("charge_attempts", flat=True)) == {4}  # in turn


def test_what_was_refused_before_probes_after_what_was_never_sent(accept):
    """Else what the gateway refuses each time, for a reason of its own, would be the probe again and again."""
    refused = accept(key="refused")
    answered(refused, DOWN)
    open_breaker(accept)
    Payment.objects.filter(pk=refused.pk).update(next_attempt_at=HOUR_AGO)
    assert claim_one(refused.pk) is None
    (fresh,) = held(accept, 1)
    let_pass()
    release.run_once()
    assert staged() == [fresh]


def test_a_busy_gateway_does_not_hide_anothers_failures(accept):
    for number in range(4):
        payment = accept(key=f"other-{number}")
        answered(payment, DOWN)
        GatewayCircuit.objects.all().delete()
        Payment.objects.filter(pk=payment.pk).update(gateway="other")
    calls(accept, *[Approved(reference="a")] * 210)
    breaker.note_failure("other", registry.get("sandbox").breaker, probe=False)
    assert GatewayCircuit.objects.filter(pk="other").exists()


def test_no_charge_begins_after_the_pause_though_a_look_up_was_under_way(accept):
    payment = accept()
    answered(payment, SILENT)
    payment.attempts.update(started_at=HOUR_AGO, finished_at=HOUR_AGO)
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=HOUR_AGO)
    look_up = claim_one(payment.pk)
    breaker.pause("sandbox", reason="it charges twice", who=by_shell("b"))
    assert settle_one(look_up, NotFound()) is None
    assert claim_one(payment.pk) is None
    payment.refresh_from_db()
    assert (payment.status, payment.charge_attempts) == ("unknown", 1)
    assert payment.held_since is not None
