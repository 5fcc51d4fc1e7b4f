"""The console's home: what staff may see, in few queries, and nothing of it anybody else's markup."""

import re
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from merchants.models import Mode, User
from payments.states import Status
from tests.metrics import finish, pay

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def staff():
    def make(*permissions, superuser=False):
        user = User.objects.create_user("ada", is_staff=True, is_superuser=superuser)
        for name in permissions:
            app, _, codename = name.partition(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def busy(merchant, other_merchant):
    with transaction.atomic():
        for back in range(0, 20, 2):
            at = NOON - timedelta(days=back)
            finish(pay(merchant, at, amount=123_456), Status.SUCCEEDED, after=0.2)
            finish(pay(merchant, at), Status.FAILED, error_code="declined", decline_code="<b>bold</b>")
            finish(pay(other_merchant, at, currency="JPY"), Status.SUCCEEDED)
    call_command("compute_daily_metrics", rebuild=True)


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON + timedelta(minutes=1)):
        yield


def home(client, query=""):
    response = client.get(f"{reverse('admin:index')}{query}")
    assert response.status_code == 200
    return response.content.decode()


def test_every_card_leads_to_a_page_that_exists(staff, busy):
    client = staff(superuser=True)
    links = re.findall(r'class="dash-card[^"]*" href="([^"]+)"', home(client))
    assert len(links) == 8
    for link in links:
        assert client.get(link.replace("&amp;", "&")).status_code == 200, link


def test_the_cards_tell_of_today(staff, busy):
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", home(staff(superuser=True))))
    assert "Volume today 1,234.56 EUR 3 payments" in page
    assert "Success rate today 66.7% 1 failed" in page
    assert "Open dead letters 0" in page
    assert "Oldest in the outbox" in page


def test_each_chart_has_its_table(staff, busy):
    page = home(staff(superuser=True))
    assert (
        page.count("<figure") == page.count('role="img"') == page.count("<summary>The same as a table</summary>") == 4
    )
    assert page.count("<tr>") >= 4 * 31
    assert '<td class="number">1234.56</td>' in page


def test_words_of_a_gateway_are_never_markup(staff, busy):
    page = home(staff(superuser=True))
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page


def test_nothing_on_the_page_needs_a_weaker_policy(staff, busy):
    page = home(staff(superuser=True))
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", page)
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)


def test_test_money_and_real_money_are_never_shown_together(staff, merchant):
    with transaction.atomic():
        finish(pay(merchant, NOON, amount=100, mode=Mode.TEST), Status.SUCCEEDED)
        finish(pay(merchant, NOON, amount=9_900, mode=Mode.LIVE), Status.SUCCEEDED)
    call_command("compute_daily_metrics", rebuild=True)
    client = staff(superuser=True)
    assert "1.00 EUR" in home(client)
    assert "99.00 EUR" not in home(client)
    assert "99.00 EUR" in home(client, "?mode=live")
    assert "1.00 EUR" in home(client, "?mode=nonsense")


def test_staff_see_the_numbers_of_what_they_may_see_alone_and_no_others_are_asked_for(staff, busy):
    client = staff("messaging.view_deadletter")
    with CaptureQueriesContext(connection) as asked:
        page = home(client)
    assert "analytics_" not in " ".join(query["sql"] for query in asked)
    assert "Open dead letters" in page
    assert "Volume today" not in page
    assert "<figure" not in page


def test_old_numbers_are_called_old(staff, merchant):
    client = staff(superuser=True)
    assert "Nothing is computed yet" in home(client)
    with transaction.atomic():
        pay(merchant, NOON)
    call_command("compute_daily_metrics")
    assert "which is old" not in home(client)
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        client.force_login(User.objects.get())
        assert "which is old" in home(client)


def test_the_page_costs_the_same_however_much_was_paid(staff, busy, django_assert_max_num_queries):
    client = staff(superuser=True)
    home(client)
    with django_assert_max_num_queries(16):
        home(client)


def test_a_house_without_a_payment_has_a_home(staff):
    page = home(staff(superuser=True))
    assert page.count("<figure") == 4
