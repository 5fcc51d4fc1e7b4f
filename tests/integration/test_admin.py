"""The console: everything that staff may open opens, shows what happened, and changes nothing."""

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from merchants.models import User
from messaging import dead_letters
from messaging.heartbeats import Pulse
from messaging.models import DeadLetter, Resolution
from messaging.selections import Selection
from payments.models import Payment
from payments.operations import process_payments
from tests.decisions import resolve
from tests.dying import foreign

pytestmark = pytest.mark.django_db(transaction=True)

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def staff():
    client = Client()
    client.force_login(User.objects.create_superuser("staff", password="not-typed-anywhere"))
    return client


@pytest.fixture
def story(accept, sandbox):
    """A payment that failed, with attempts, events and a dead letter; and one of everything else."""
    payment = accept(order_id=SCRIPT, description=SCRIPT, metadata={"note": SCRIPT}, payment_method="pm_down")
    for _ in range(4):
        process_payments(payment_ids=[payment.pk])
        Payment.objects.filter(pk=payment.pk, status="processing").update(next_attempt_at=payment.created_at)
    dead_letters.record(
        queue="payments",
        actor="process_payments",
        payload={"ids": [SCRIPT]},
        cause="ValueError",
        detail=SCRIPT,
        traceback=SCRIPT,
        attempts=1,
        first_failed_at=payment.created_at,
    )
    foreign(SCRIPT.encode(), cause=SCRIPT)
    resolve(Selection(actor="process_payments"), Resolution.Action.DISCARD, reason=SCRIPT, by=SCRIPT)
    Pulse("relay").beat()
    return Payment.objects.get(pk=payment.pk)


def pages():
    return [f"admin:{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry]


@pytest.mark.parametrize("page", pages())
def test_every_list_and_every_object_opens(staff, story, client, page):
    listed = staff.get(reverse(f"{page}_changelist"))
    assert listed.status_code == 200
    for row in listed.context["cl"].result_list:
        shown = staff.get(reverse(f"{page}_change", args=[row.pk]))
        assert shown.status_code == 200, page
        assert SCRIPT not in shown.content.decode()
    assert SCRIPT not in listed.content.decode()


def test_a_payments_page_tells_its_story(staff, story):
    page = staff.get(reverse("admin:payments_payment_change", args=[story.pk])).content.decode()
    for told in ("retries_exhausted", "Support can replay", "payment.processing", "unavailable", "key-1", "10.00 EUR"):
        assert told in page, told
    assert page.count(f"<p>{story.gateway_key}</p>") == 4  # one row for each attempt


@pytest.mark.parametrize("term", ["key-1", "request-key-1", SCRIPT])
def test_a_payment_is_found_by_any_whole_name_of_it(staff, story, accept, term):
    other = accept(key="another")
    found = staff.get(reverse("admin:payments_payment_changelist"), {"q": term}).context["cl"].result_list
    assert [payment.pk for payment in found] == [story.pk] != [other.pk]


def test_the_list_of_payments_asks_no_query_per_row(staff, accept, django_assert_max_num_queries):
    for number in range(20):
        accept(key=f"key-{number}")
    with django_assert_max_num_queries(10):
        staff.get(reverse("admin:payments_payment_changelist"))


@pytest.mark.parametrize("action", ["add", "change", "delete"])
@pytest.mark.parametrize("model", [Payment, DeadLetter, Resolution])
def test_nobody_edits_by_hand(staff, story, model, action):
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{action}"
    arguments = [] if action == "add" else [model.objects.first().pk]
    answer = staff.post(reverse(name, args=arguments), {"status": "succeeded", "post": "yes"})
    assert answer.status_code == 403
    story.refresh_from_db()
    assert story.status == "failed"


def test_strangers_are_sent_to_the_login(client, story):
    answer = Client().get(reverse("admin:payments_payment_change", args=[story.pk]))
    assert answer.status_code == 302
    assert "/admin/login/" in answer["Location"]


def test_the_token_lists_are_not_in_the_console():
    assert not any("token" in page or "dramatiq" in page for page in pages())
