"""Junk in the addresses and forms of the console is answered, and never by a 500."""

import pytest
from django.contrib import admin
from django.urls import reverse

from notifications import endpoints
from notifications.models import Contact
from tests.console import browser, person
from tests.dying import foreign

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("quick_passwords")]

JUNK = [
    "[", "'", "%", "abc", "-1", "9" * 40, "1e999", "null", "\u202e", "x" * 10_000, "0001-01-01", "99999-99-99", "",
]  # fmt: skip
NAMES = [
    "p", "o", "q", "e", "all", "_facets", "_popup", "_to_field", "_changelist_filters", "nonsense", "pk", "id",
    "id__in",
    "id__exact", "id__range", "created_at__gte", "merchant", "merchant__id__exact", "merchant__slug__regex",
    "password__startswith", "age", "health", "mode__exact", "status__exact", "state", "payment_id", "is_staff__exact",
    "handled_at__isempty", "groups__id__exact", "endpoint__id__exact", "resolution__id__exact", "action", "ids",
]  # fmt: skip


@pytest.fixture
def staff(merchant, accept):
    accept()
    foreign(b"{}")
    endpoints.create(merchant=merchant, mode="test", url="https://hooks.example.com/in")
    Contact.objects.create(merchant=merchant, mode="test", user_id="u-1", email="a@example.com")
    client = browser(person())
    client.raise_request_exception = False
    return client


def lists():
    return [f"admin:{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry]


def ask(staff, address, **parameters):
    sound = {name: value.encode("utf-8", "replace").decode() for name, value in parameters.items()}
    answer = staff.get(address, sound)
    assert answer.status_code < 500, (address, parameters)
    return answer


@pytest.mark.parametrize("page", lists())
def test_no_list_breaks_on_junk(staff, page):
    address = reverse(f"{page}_changelist")
    filters = {str(name[0] if isinstance(name, tuple) else name) for name in model_filters(page)}
    for name in [*NAMES, *sorted(filters)]:
        for value in JUNK if name in {"p", "o", "q"} | filters else JUNK[:2]:
            ask(staff, address, **{name: value})


def model_filters(page):
    """What the list filters by, as parameters in its address."""
    label, _, name = page.removeprefix("admin:").partition("_")
    model_admin = next(
        a for m, a in admin.site._registry.items() if (m._meta.app_label, m._meta.model_name) == (label, name)
    )
    for item in model_admin.list_filter:
        parameter = getattr(item, "parameter_name", None)
        yield parameter or (f"{item[0]}__isempty" if isinstance(item, tuple) else f"{item}__exact")


#: Kinds of columns -> lookups whose values Django checks only when the query is compiled or run.
LOOKUPS = {
    "DateField": ["year", "year__gt", "iso_year", "week", "range"],
    "DateTimeField": ["year", "iso_year__lte", "month", "hour", "date", "range"],
    "IntegerField": ["exact", "gt", "in", "range", "regex"],
    "BigAutoField": ["lt", "range", "regex"],
    "CharField": ["regex", "range", "in"],
}
UNREADABLE = ["9" * 5, "9" * 20, "-1", "[", "1,2"]


def lookups_of(model):
    """The first column of each kind, with the lookups of that kind."""
    kinds = {}
    for field in model._meta.concrete_fields:
        kinds.setdefault(field.get_internal_type(), field.name)
    for kind, name in kinds.items():
        yield from (f"{name}__{lookup}" for lookup in LOOKUPS.get(kind, []))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", admin.site._registry)
def test_a_filter_that_cannot_be_read_is_left_out(staff, model):
    """The rows are read by Django's admin outside the code that handles wrong filters."""
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    for name in lookups_of(model):
        for value in UNREADABLE:
            answer = ask(staff, address, **{name: value})
            assert answer.status_code in {200, 302, 400}, (name, value)
            if answer.status_code == 302:
                assert answer["Location"] == f"{address}?e=1", (name, value)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("page", "filters"),
    [
        ("payments_payment", "created_at__year=99999"),
        ("merchants_merchant", "created_at__iso_year=99999"),
        ("payments_payment", "status__regex=["),
        ("payments_payment", "created_at__range=2026"),
        ("merchants_apikey", "created_at__year__gt=99999"),
        ("analytics_dailymetric", "day__year=9999"),
    ],
)
def test_a_year_that_no_date_has_is_a_filter_that_cannot_be_read(staff, page, filters):
    address = reverse(f"admin:{page}_changelist")
    answer = staff.get(f"{address}?{filters}")
    assert (answer.status_code, answer["Location"]) == (302, f"{address}?e=1")
    assert staff.get(answer["Location"]).status_code == 200


@pytest.mark.parametrize("page", lists())
def test_no_page_of_an_object_breaks_on_junk(staff, page):
    for junk in ("0", "abc", "9" * 40, "_5B", "..", "%25", "%ff", "x" * 2000, "00000000-0000-0000-0000-000000000000"):
        for view in ("change", "delete", "history"):
            address = reverse(f"{page}_changelist") + f"{junk}/{view}/"
            assert staff.get(address).status_code < 500, address


@pytest.mark.parametrize(
    "address",
    [
        "/admin/messaging/deadletter/preview/",
        "/admin/autocomplete/",
        "/admin/jsi18n/",
        "/admin/confirm/",
        "/admin/second-factor/",
        "/admin/second-factor/reset/99999999999999999999/",
        "/admin/r/abc/def/",
        "/admin/r/99999999999999999999/1/",
        "/admin/r/1/99999999999999999999/",
    ],
)
def test_no_other_page_breaks_on_junk(staff, address):
    for name in ("ids", "action", "next", "term", "app_label", "model_name", "field_name", "queue", "age"):
        for junk in JUNK[:7]:
            ask(staff, address, **{name: junk})


@pytest.mark.parametrize(
    "address",
    [
        "/admin/",
        "/admin/payments/payment/",
        "/admin/login/",
        "/admin/confirm/",
        "/docs",
        "/nothing",
        "/problems/x",
        "/health",
    ],
)
def test_a_nul_is_refused_with_a_clear_page_wherever_it_is(staff, address):
    for answer in (
        staff.get(address, {"q": "\0"}),
        staff.get(f"{address}%00"),
        staff.get(address, {"\0": "x"}),
        staff.get(f"{address}?a=1%00b"),
    ):
        assert answer.status_code == 400
        assert "NUL character" in answer.content.decode()


@pytest.mark.parametrize("address", ["/admin/", "/admin/login/", "/", "/health", "/api/v1/payments"])
def test_a_cookie_that_no_table_can_hold_breaks_nothing(client, address):
    """Cookies may be written in octal numbers."""
    client.raise_request_exception = False
    answer = client.get(address, headers={"cookie": r'sessionid="\000abcdefghijkl"'})
    assert answer.status_code < 500


@pytest.mark.parametrize("form", [{"action": "\0"}, {"_selected_action": ["1", "\0"]}, {"\0": "1"}, {"next": "\0"}])
def test_a_nul_in_a_form_of_the_console_is_refused(staff, form):
    for address in ("/admin/payments/payment/", "/admin/merchants/user/add/", "/admin/confirm/", "/admin/login/"):
        assert staff.post(address, form).status_code == 400


def test_djangos_redirect_to_other_pages_leads_nowhere(staff):
    assert staff.get("/admin/r/1/1/").status_code == 404


def test_the_api_says_itself_which_parameter_holds_a_nul(client):
    answer = client.get("/api/v1/payments", {"order_id": "\0"})
    assert answer.json()["errors"][0]["parameter"] == "order_id"


@pytest.mark.parametrize("page", lists())
def test_no_action_breaks_on_junk(staff, page):
    for form in (
        {"action": "nonsense"},
        {"action": "delete_selected", "_selected_action": ["abc", "9" * 40]},
        {"action": "take_up_now", "_selected_action": ["["], "select_across": "x", "index": "y"},
    ):
        assert staff.post(reverse(f"{page}_changelist"), form).status_code < 500, form
