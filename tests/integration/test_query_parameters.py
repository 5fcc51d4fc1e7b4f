"""Every parameter of every list: an empty, repeated, unknown or senseless one is refused by its name."""

from base64 import b64encode
from datetime import UTC, datetime
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver
from django_filters import ChoiceFilter, IsoDateTimeFilter, UUIDFilter

from analytics.serializers import DailyQuerySerializer, RangeSerializer
from merchants.models import ApiKey, Approval, Membership, Mode, Role, User
from merchants.query import PAGING
from notifications.models import WebhookEndpoint
from tests.logins import access_of

API = "/api/v1/"
#: Not lists by cursor, but answers that parameters narrow down.
ANALYTICS = {"analytics-daily": DailyQuerySerializer, "analytics-summary": RangeSerializer}

pytestmark = pytest.mark.django_db


def patterns(resolver=None):
    for entry in (resolver or get_resolver()).url_patterns:
        if isinstance(entry, URLPattern):
            yield entry
        elif str(entry.pattern) != "console/":
            yield from patterns(entry)


LISTS = {
    entry.name: (str(entry.pattern), entry.callback.view_class)
    for entry in patterns()
    if getattr(getattr(entry.callback, "view_class", None), "pagination_class", None)
    and "delivery_id" not in str(entry.pattern)  # one delivery, by a class that shares the list's rows
}


def filters_of(name):
    return LISTS[name][1].filterset_class.base_filters


def parameters():
    for name in LISTS:
        yield from ((name, parameter) for parameter in (*filters_of(name), *sorted(PAGING)))
    for name, serializer in ANALYTICS.items():
        yield from ((name, parameter) for parameter in serializer().fields)


@pytest.fixture
def operator(merchant):
    """A client that may read everything."""
    user = User.objects.create_superuser("root", is_staff=True)
    membership = Membership.objects.create(user=user, merchant=merchant, role=Role.ADMIN)
    token = access_of(membership, second_factor=True)
    return Client(headers={"authorization": f"Bearer {token}"}, raise_request_exception=False)


@pytest.fixture
def address(merchant, accept):
    """List -> its address."""

    def find(name):
        pattern = LISTS[name][0] if name in LISTS else name.replace("-", "/")
        if "payment_id" in pattern:
            return f"{API}payments/{accept().pk}/events"
        if "endpoint_id" in pattern:
            endpoint = WebhookEndpoint.objects.create(
                merchant=merchant, mode=Mode.TEST, url="https://shop.example/hooks", secret=b"0" * 32
            )
            return f"{API}webhook-endpoints/{endpoint.pk}/deliveries"
        return API + pattern.removeprefix("^").removesuffix("/?$")

    return find


def faults(response):
    assert response.status_code == 400, (response.status_code, response.content)
    return {fault["parameter"]: fault["code"] for fault in response.json()["errors"]}


def test_the_lists_are_those_of_the_api():
    assert set(LISTS) == {
        "payments", "payment-events", "events", "dead-letters", "approvals", "webhook-endpoints",
        "webhook-endpoint-deliveries", "webhook-deliveries", "notifications", "contacts", "api-keys",
    }  # fmt: skip


@pytest.mark.parametrize("name", [*LISTS, *ANALYTICS])
def test_a_list_without_parameters_answers_and_refuses_an_unknown_one(operator, address, name):
    url = address(name)
    assert operator.get(url).status_code == 200
    assert faults(operator.get(url, {"nonsense": "1"})) == {"nonsense": "unknown_parameter"}


@pytest.mark.parametrize(("name", "parameter"), list(parameters()))
def test_an_empty_or_repeated_parameter_is_refused_by_its_name(operator, address, name, parameter):
    url = address(name)
    for empty in ("", " ", "\t"):
        assert faults(operator.get(url, {parameter: empty})) == {parameter: "empty"}
    query = urlencode([(parameter, "1"), (parameter, "2")])
    assert faults(operator.get(f"{url}?{query}")) == {parameter: "repeated"}


@pytest.mark.parametrize(
    ("name", "parameter", "filter_"), [(name, key, kind) for name in LISTS for key, kind in filters_of(name).items()]
)
def test_a_value_that_means_nothing_is_refused_by_its_name_in_words_of_the_api(
    operator, address, name, parameter, filter_
):
    url = address(name)
    if isinstance(filter_, ChoiceFilter):
        values, expected = ["nonsense"], str(filter_.extra["choices"][0][0])
    elif isinstance(filter_, UUIDFilter):
        values, expected = ["nonsense"], "an id"
    elif isinstance(filter_, IsoDateTimeFilter):
        values, expected = ["nonsense", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"], "moment"
    else:
        values, expected = ["\x00"], ""
    for value in values:
        answer = operator.get(url, {parameter: value})
        (fault,) = answer.json()["errors"]
        assert answer.status_code == 400
        assert fault["parameter"] == parameter or parameter.startswith("amount_")
        assert expected in fault["detail"]
        assert "valid" not in fault["detail"], "a phrase of the framework's"


@pytest.mark.parametrize("currency", ["eur", "EUR ", "XXX", "€"])
def test_a_currency_that_no_payment_can_have_is_refused(operator, currency):
    assert faults(operator.get(f"{API}payments", {"currency": currency})) == {"currency": "unknown"}


def test_every_fault_of_a_query_is_reported(operator):
    query = "status=&order_id=a&order_id=b&created_from=x&nonsense=1"
    found = faults(operator.get(f"{API}payments?{query}"))
    assert found == {
        "status": "empty",
        "order_id": "repeated",
        "created_from": "invalid",
        "nonsense": "unknown_parameter",
    }


def encoded(text):
    return b64encode(text.encode()).decode()


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    "cursor",
    ["garbage", "ü", "=", encoded("r=1"), encoded("o=1"), encoded("o=50&p=end"), encoded("p=\x00"),
     encoded("p=garbage"), encoded("p=end,end"), encoded("p=0001-01-01T00:00:00+14:00,1"), encoded("p=1,1,1")],
)  # fmt: skip
def test_a_cursor_that_the_list_never_handed_out_is_refused_by_its_name(operator, address, name, cursor):
    assert faults(operator.get(address(name), {"cursor": cursor})) == {"cursor": "invalid"}


def walk(client, url, link):
    """The pages from an address on, as lists of ids, and the last page's answer."""
    pages = []
    while url:
        answer = client.get(url)
        assert answer.status_code == 200, answer.content
        pages.append([row["id"] for row in answer.json()["results"]])
        last, url = answer.json(), answer.json()[link]
    return pages, last


@pytest.mark.parametrize("rows", ["keys", "approvals"])
def test_rows_that_share_a_moment_are_each_on_one_page_in_both_directions(operator, merchant, rows):
    moment = datetime(2026, 11, 21, 12, tzinfo=UTC)
    if rows == "keys":
        url = f"{API}api-keys"
        made = [
            ApiKey(
                merchant=merchant, mode=Mode.TEST, name=f"k{n}", scopes=[], digest=bytes([n]) * 32, created_at=moment
            )
            for n in range(7)
        ]
        ApiKey.objects.bulk_create(made)
        ApiKey.objects.update(created_at=moment)
    else:
        url = f"{API}approvals"
        made = [
            Approval(action="x", summary="x", reason="x", requested_by="x", payload={}, expires_at=moment)
            for _ in range(7)
        ]
        Approval.objects.bulk_create(made)
        Approval.objects.update(requested_at=moment)
    expected = sorted((str(row.pk) for row in made), reverse=True)
    forwards, last = walk(operator, f"{url}?page_size=2", "next")
    assert [id_ for page in forwards for id_ in page] == expected
    assert [len(page) for page in forwards] == [2, 2, 2, 1]
    backwards, _ = walk(operator, last["previous"], "previous")
    assert backwards == forwards[-2::-1]


def test_the_links_of_an_empty_page_lead_back_to_the_list(operator, accept):
    payments = [str(accept(f"key-{n}", order_id=f"order-{n}").pk) for n in range(3)]
    below, above = encoded(f"p={uuid4().int * 0:032x}"), encoded("r=1&p=" + "f" * 32)
    for cursor, link in ((below, "previous"), (above, "next")):
        answer = operator.get(f"{API}payments", {"cursor": cursor, "page_size": "2"}).json()
        assert answer["results"] == []
        pages, _ = walk(operator, answer[link], link)
        expected = payments[::-1] if link == "next" else [payments[1], payments[0], payments[2]]
        assert [id_ for page in pages for id_ in page] == expected
