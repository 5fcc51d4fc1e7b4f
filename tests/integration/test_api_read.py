"""`GET`: nobody sees what is not theirs, no page loses or repeats a payment, and the probes tell the truth."""

import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
import time_machine
from django.db import transaction
from django.test import Client
from django.utils import timezone

from merchants import api_keys
from merchants.models import Mode
from messaging.models import Heartbeat, OutboxMessage
from payments import transitions
from payments.models import Payment
from payments.serializers import LastErrorSerializer, LinksSerializer, PaymentSerializer
from payments.states import Status
from tests.outbox import work

URL = "/api/v1/payments"

pytestmark = pytest.mark.django_db
#: See tests/doors.py; its payments are only made to be read.
BOTH_DOORS = False


def client_for(merchant, mode=Mode.TEST):
    key = f"sk_{mode}_{merchant.slug}"
    api_keys.register_key(key, merchant=merchant, mode=mode, name="tests")
    return Client(headers={"authorization": f"Bearer {key}"}, raise_request_exception=False)


def problem(response, status, code):
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == code
    return response.json()


def listed(client, **query):
    """The ids on the first page."""
    response = client.get(URL, query)
    assert response.status_code == 200, response.content
    return [payment["id"] for payment in response.json()["results"]]


def fail(payment):
    with transaction.atomic():
        transitions.move(payment, Status.PROCESSING, now=timezone.now())
        transitions.move(
            payment,
            Status.FAILED,
            now=timezone.now(),
            holds_order=False,
            error_code="declined",
            decline_code="card_declined",
            error_detail="No.",
        )


# --- one payment


def test_a_payment_is_shown_as_it_stands_now(client, accept):
    payment = accept(order_id="o-1", amount=1050)
    fail(payment)
    shown = client.get(f"{URL}/{payment.pk}").json()
    assert (shown["id"], shown["status"], shown["amount"]) == (str(payment.pk), "failed", "10.50")
    assert shown["last_error"] == {
        "code": "declined",
        "decline_code": "card_declined",
        "advice": "Ask the payer to use another payment method or to call their bank.",
        "detail": "No.",
    }
    assert datetime.fromisoformat(shown["finished_at"]) >= datetime.fromisoformat(shown["created_at"])


def test_no_field_is_shown_that_is_not_documented_nor_the_other_way_round(client, accept):
    payment = accept()
    fail(payment)
    shown = client.get(f"{URL}/{payment.pk}").json()
    assert shown.keys() == PaymentSerializer().fields.keys()
    assert shown["last_error"].keys() == LastErrorSerializer().fields.keys()
    assert shown["links"].keys() == LinksSerializer().fields.keys()
    assert client.get(URL).json()["results"] == [shown]


@pytest.mark.parametrize("written", ["{id}", "{id}/"])
def test_a_payment_that_does_not_exist_is_a_404(client, written):
    missing = written.format(id=uuid4())
    refusal = problem(client.get(f"{URL}/{missing}"), 404, "not_found")
    assert refusal["instance"] == f"{URL}/{missing}"


@pytest.mark.parametrize("not_an_id", ["1", "not-an-id", "0190a6f0-7b1c-7d57-9e1b", "%00", "..%2f..%2fadmin"])
def test_what_is_no_id_is_a_404_and_never_a_500(client, not_an_id):
    problem(client.get(f"{URL}/{not_an_id}"), 404, "not_found")


def test_another_merchants_payment_does_not_exist(accept, other_merchant, client):
    payment = accept()
    stranger = client_for(other_merchant)
    refusal = problem(stranger.get(f"{URL}/{payment.pk}"), 404, "not_found")
    missing = problem(stranger.get(f"{URL}/{uuid4()}"), 404, "not_found")
    assert refusal["detail"] == missing["detail"]
    assert listed(stranger) == []
    assert client.get(f"{URL}/{payment.pk}").status_code == 200


def test_a_test_payment_does_not_exist_for_a_live_key(accept, merchant):
    payment = accept()
    live = client_for(merchant, Mode.LIVE)
    problem(live.get(f"{URL}/{payment.pk}"), 404, "not_found")
    assert listed(live) == []


# --- many


def test_the_list_is_newest_first(client, accept):
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    made = []
    for number in range(3):
        with time_machine.travel(moment + timedelta(seconds=number), tick=False):
            made.append(str(accept(key=f"key-{number}").pk))
    assert listed(client) == made[::-1]


def test_no_page_loses_or_repeats_a_payment_while_new_ones_arrive(client, accept):
    before = {str(accept(key=f"key-{number}").pk) for number in range(7)}
    seen, arrived, page = [], [], client.get(URL, {"page_size": 3}).json()
    while True:
        assert len(page["results"]) <= 3
        seen += [payment["id"] for payment in page["results"]]
        if page["next"] is None:
            break
        arrived.append(str(accept(key=f"late-{len(arrived)}").pk))
        next_page = urlsplit(page["next"])
        page = client.get(f"{next_page.path}?{next_page.query}").json()
    assert len(seen) == len(set(seen))
    assert set(seen) - set(arrived) == before
    assert len(arrived) == 2


def test_the_way_back_shows_the_same_page_again(client, accept):
    for number in range(4):
        accept(key=f"key-{number}")
    first = client.get(URL, {"page_size": 2}).json()
    second = client.get(first["next"]).json()
    assert first["previous"] is None
    assert client.get(second["previous"]).json()["results"] == first["results"]


@pytest.mark.parametrize("size", ["0", "-1", "201", "1000000", "ten", "1e2"])
def test_a_page_size_beyond_its_limits_is_refused_and_not_ignored(client, size):
    answer = client.get(URL, {"page_size": size})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == "page_size"
    assert "1 to 200" in answer.json()["detail"]


def test_the_next_page_keeps_the_filters(client, accept):
    wanted = {str(accept(key=f"wanted-{number}", user_id="u-1").pk) for number in range(3)}
    for number in range(3):
        accept(key=f"other-{number}", user_id="u-2")
    first = client.get(URL, {"user_id": "u-1", "page_size": 2}).json()
    second = client.get(first["next"]).json()
    assert {payment["id"] for payment in first["results"] + second["results"]} == wanted


@pytest.mark.parametrize("payments", [1, 20])
def test_a_longer_page_costs_no_more_queries(client, accept, django_assert_num_queries, payments):
    for number in range(payments):
        fail(accept(key=f"key-{number}", order_id=f"o-{number}"))
    client.get(URL)  # the key's first use is noted once a minute
    with django_assert_num_queries(3):  # the key with its merchant, the limit's counter, and the page
        assert len(listed(client)) == payments


def test_filters_narrow_down_and_combine(client, accept):
    one = accept(key="1", order_id="o-1", user_id="u-1", currency="EUR")
    two = accept(key="2", order_id="o-2", user_id="u-1", currency="USD")
    fail(two)
    one, two = str(one.pk), str(two.pk)
    assert listed(client, order_id="o-1") == [one]
    assert sorted(listed(client, user_id="u-1")) == sorted([one, two])
    assert listed(client, currency="USD") == [two]
    assert listed(client, status="failed") == [two]
    assert listed(client, user_id="u-1", status="pending") == [one]
    assert listed(client, order_id="o-1", status="failed") == []


def test_a_range_of_time_has_its_beginning_and_not_its_end(client, accept):
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    with time_machine.travel(noon, tick=False):
        payment = str(accept().pk)
    assert listed(client, created_from="2026-11-21T12:00:00Z") == [payment]
    assert listed(client, created_before="2026-11-21T12:00:00Z") == []
    assert listed(client, created_from="2026-11-21T13:00:00+01:00", created_before="2026-11-21T12:00:01Z") == [payment]
    assert listed(client, created_from="2026-11-21T12:00:00.001Z") == []


def test_a_range_of_amounts_has_both_its_ends(client, accept):
    cents = {
        amount: str(accept(key=f"key-{amount}", amount=amount, currency="EUR").pk) for amount in (999, 1000, 1050, 1051)
    }
    accept(key="other", amount=1000, currency="USD")
    between = listed(client, currency="EUR", amount_from="10", amount_to="10.50")
    assert sorted(between) == sorted([cents[1000], cents[1050]])
    assert sorted(listed(client, currency="EUR", amount_from="10.50")) == sorted([cents[1050], cents[1051]])
    assert listed(client, currency="EUR", amount_to="9.990") == [cents[999]]
    assert listed(client, currency="EUR", amount_from="10.51", amount_to="10.50") == []


@pytest.mark.parametrize(("currency", "amount"), [("JPY", "1000"), ("KWD", "1.000"), ("EUR", "10.00")])
def test_no_amount_is_sought_in_the_decimals_of_another_currency(client, accept, currency, amount):
    payment = accept(amount=1000, currency=currency)
    assert listed(client, currency=currency, amount_from=amount, amount_to=amount) == [str(payment.pk)]


@pytest.mark.parametrize(
    ("query", "parameter", "code", "word"),
    [
        ({"amount_from": "10"}, "currency", "required", "name a currency"),
        ({"amount_to": "10"}, "currency", "required", "`amount_to`"),
        ({"amount_from": "10", "currency": "EUT"}, "currency", "unknown", "ISO 4217"),
        ({"amount_from": "10", "currency": "eur"}, "currency", "unknown", "capital letters"),
        ({"amount_from": "10.001", "currency": "EUR"}, "amount_from", "decimals", "EUR has 2 decimals"),
        ({"amount_to": "0.5", "currency": "JPY"}, "amount_to", "decimals", "JPY has 0 decimals"),
        ({"amount_from": "0", "currency": "EUR"}, "amount_from", "range", "above 0"),
        ({"amount_to": "10000000000", "currency": "EUR"}, "amount_to", "range", "9999999999.99 EUR"),
        ({"amount_to": "9" * 4000, "currency": "EUR"}, "amount_to", "invalid", "such as 10.00"),
        ({"amount_from": "10,00", "currency": "EUR"}, "amount_from", "invalid", "such as 10.00"),
        ({"amount_from": "-1", "currency": "EUR"}, "amount_from", "invalid", "such as 10.00"),
        ({"amount_from": "1e3", "currency": "EUR"}, "amount_from", "invalid", "such as 10.00"),
        ({"amount_from": "NaN", "currency": "EUR"}, "amount_from", "invalid", "such as 10.00"),
        ({"amount_from": "\u0661", "currency": "EUR"}, "amount_from", "invalid", "such as 10.00"),
    ],
)
def test_an_amount_that_cannot_be_sought_is_told_why(client, accept, query, parameter, code, word):
    accept()
    refusal = problem(client.get(URL, query), 400, "invalid_request")
    (fault,) = refusal["errors"]
    assert (fault["parameter"], fault["code"]) == (parameter, code)
    assert word in fault["detail"]


def test_a_misspelt_filter_never_shows_everything(client, accept):
    accept()
    refusal = problem(client.get(URL, {"oder_id": "o-1", "limit": "5"}), 400, "invalid_request")
    assert {fault["parameter"] for fault in refusal["errors"]} == {"oder_id", "limit"}
    assert "order_id" in refusal["detail"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("status", "paid"), ("status", "PENDING"), ("order_id", "\x00"), ("user_id", "\x00"), ("currency", "\x00"),
        ("created_from", "yesterday"), ("created_before", "2026-13-01"), ("created_from", "\x00"),
        ("created_from", "99999-01-01T00:00:00Z"),
    ],
)  # fmt: skip
def test_a_value_that_a_filter_cannot_have_is_refused_by_name(client, accept, parameter, value):
    accept()
    refusal = problem(client.get(URL, {parameter: value}), 400, "invalid_request")
    assert [fault["parameter"] for fault in refusal["errors"]] == [parameter]
    assert refusal["errors"][0]["detail"]


def cursor(text):
    return b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "value",
    [
        "garbage", "ü", cursor("p=garbage"), cursor("p=\x00"), cursor("p=1"), cursor("r=1&p=x"), cursor("p=2026-11-21"),
        cursor("o=x"), cursor("o=-1"),
    ],
)  # fmt: skip
def test_a_cursor_that_is_not_ours_is_told_to_begin_again(client, accept, value):
    accept()
    refusal = problem(client.get(URL, {"cursor": value}), 400, "invalid_request")
    assert "begin again" in refusal["detail"]


def test_a_cursor_of_another_merchant_shows_nothing_of_theirs(client, accept, other_merchant):
    for number in range(3):
        accept(key=f"key-{number}")
    theirs = client.get(URL, {"page_size": 1}).json()["next"]
    assert client_for(other_merchant).get(theirs).json()["results"] == []


# --- the request's id


def test_a_sound_request_id_is_echoed_and_stored(client):
    response = client.post(
        URL,
        {"amount": 1},
        content_type="application/json",
        headers={"Idempotency-Key": "key-1", "X-Request-ID": "order-7:try_1.a"},
    )
    assert response["X-Request-ID"] == "order-7:try_1.a"
    assert Payment.objects.get().request_id == work().get().request_id == "order-7:try_1.a"
    assert Payment.objects.get().events.get().request_id == "order-7:try_1.a"


@pytest.mark.parametrize("unsound", ["", "a b", "a\nforged: line", "r" * 129, "<script>"])
@pytest.mark.parametrize("path", [URL, f"{URL}/{UUID(int=7)}", "/api/v1/nowhere", "/nowhere", "/livez"])
def test_an_unsound_request_id_is_replaced_everywhere(client, path, unsound):
    response = client.get(path, headers={"X-Request-ID": unsound})
    assert re.fullmatch(r"[0-9a-f]{32}", response["X-Request-ID"])
    if response["Content-Type"] == "application/problem+json":
        assert response.json()["request_id"] == response["X-Request-ID"]


def test_the_trace_of_the_caller_is_taken_up(client):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    response = client.get(URL, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert response["X-Request-ID"] == trace


# --- addresses that do not exist


@pytest.mark.parametrize("path", ["/api/v1/nowhere", "/api/v2/payments", "/api/v1/paymentsx", f"{URL}//"])
def test_an_address_that_does_not_exist_is_a_problem_and_no_page(client, path):
    problem(client.get(path), 404, "not_found")


def test_an_address_outside_the_api_is_a_page_for_people(client):
    response = client.get("/nowhere")
    assert (response.status_code, response["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_a_forged_host_is_refused_as_a_problem(client):
    problem(client.get(URL, headers={"host": "evil.example"}), 400, "invalid_request")


# --- probes and metrics, which need no credential


@pytest.fixture
def probe():
    return Client(raise_request_exception=False)


@pytest.mark.parametrize("path", ["/livez", "/livez/", "/readyz", "/readyz/"])
def test_a_process_that_can_accept_payments_says_so(probe, path):
    response = probe.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "healthy"})
    assert "no-store" in response["Cache-Control"]
    assert probe.head(path).status_code == 200
    assert probe.post(path).status_code == 405


def beat(process, note="", age=0):
    Heartbeat.objects.create(
        process=process, instance="here:1", note=note, beat_at=timezone.now() - timedelta(seconds=age)
    )


PARTS = ("database", "notification_queue", "relay", "subscribers", "rabbitmq", "worker", "collector")


def test_a_system_with_all_its_processes_is_healthy(probe):
    for process in ("relay", "subscribers", "worker", "collector"):
        beat(process)
    response = probe.get("/health")
    healthy = {"status": "healthy"}
    assert response.status_code == 200
    assert response.json() == {
        "status": "healthy",
        "parts": dict.fromkeys(PARTS, healthy),
    }


def test_a_silent_process_is_never_called_healthy_and_does_not_stop_payments(probe):
    beat("relay")
    beat("worker", age=60)
    response = probe.get("/health")
    assert response.status_code == 200
    assert response.json()["status"] == "degraded"
    assert response.json()["parts"]["worker"]["status"] == "unhealthy"
    assert "manage.py worker" in response.json()["parts"]["worker"]["detail"]


def test_a_silent_collector_is_told_with_its_mend(probe):
    """It has no command of its own to start."""
    for process in ("relay", "worker"):
        beat(process)
    body = probe.get("/health").json()
    assert body["status"] == "degraded"
    assert body["parts"]["collector"]["status"] == "unhealthy"
    assert "manage.py relay" in body["parts"]["collector"]["detail"]


def test_trouble_with_rabbitmq_is_told_as_such(probe):
    beat("relay", note="RabbitMQ: refused")
    beat("worker")
    body = probe.get("/health").json()
    assert body["status"] == "degraded"
    assert body["parts"]["rabbitmq"] == {"status": "unhealthy", "detail": "RabbitMQ: refused"}


def gauges(text):
    samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def test_the_metrics_know_what_the_database_knows(probe, accept):
    for number in range(3):
        accept(key=f"key-{number}")
    OutboxMessage.objects.update(available_at=timezone.now() - timedelta(hours=1))
    beat("relay", age=30)
    response = probe.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain")
    values = gauges(response.content.decode())
    # Each payment's message, the announcement of its event to others, and the event for our own rooms.
    assert values["payments_outbox_messages"] == 9
    assert values["payments_outbox_oldest_seconds"] == pytest.approx(3600, abs=60)
    assert values["payments_in_work"] == 3
    assert values["payments_unknown"] == 0
    assert values["payments_dead_letters_open"] == 0
    assert values['payments_heartbeat_age_seconds{process="relay"}'] == pytest.approx(30, abs=15)


def test_an_empty_outbox_has_no_oldest_message(probe):
    values = gauges(probe.get("/metrics").content.decode())
    assert values["payments_outbox_messages"] == values["payments_outbox_oldest_seconds"] == 0


@pytest.mark.parametrize(
    "moment", [{"created_from": "9999-12-31T23:59:59-23:59"}, {"created_before": "0001-01-01T00:00:00+23:59"}]
)
def test_a_moment_beyond_the_calendar_is_refused(client, moment):
    answer = client.get(URL, moment)
    assert answer.status_code == 400
    assert "beyond the calendar" in answer.json()["detail"]
