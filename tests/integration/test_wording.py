"""Errors say the API's own words: no phrase of the framework's, what to send, and every fault at once."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from rest_framework import exceptions, fields, serializers

from merchants import api_keys, wording
from merchants.models import Membership, Mode, Role, Scope, User
from merchants.signing import AccessToken
from merchants.strict import ChoiceField, KnownFieldsOnly
from payments import problems
from tests.logins import access_of

URL = "/api/v1/payments"
#: See tests/doors.py; what is wrong with a request never comes from the fast one.
BOTH_DOORS = False
#: What the framework says, whichever of its fields it is.
PHRASES = re.compile(
    r"Ensure (this|that)|Not a valid|[Mm]ust be a valid|Enter a valid|may not be|is required\.|is not a valid|"
    r"Expected a|has wrong format|A valid|Invalid (data|input)|were not provided|not allowed\.|Null characters|"
    r"Surrogate|Given token|credentials|Unsupported media|Could not satisfy|do not have permission|Value must be|"
    r"too large\."
)


class EveryField(serializers.Serializer):
    boolean = fields.BooleanField()
    text = fields.CharField(max_length=3, min_length=2)
    email = fields.EmailField()
    regex = fields.RegexField("^a$")
    slug = fields.SlugField()
    url = fields.URLField()
    uuid = fields.UUIDField()
    integer = fields.IntegerField(min_value=1, max_value=2)
    number = fields.FloatField(min_value=1, max_value=2)
    decimal = fields.DecimalField(max_digits=3, decimal_places=1, min_value=Decimal(1), max_value=Decimal(2))
    moment = fields.DateTimeField()
    date = fields.DateField()
    time = fields.TimeField()
    duration = fields.DurationField(max_value=timedelta(1), min_value=timedelta(0))
    choice = ChoiceField(choices=["a", "b"])
    choices = fields.MultipleChoiceField(choices=["a", "b"], allow_empty=False)
    items = fields.ListField(child=fields.CharField(), min_length=1, max_length=2, allow_empty=False)
    pairs = fields.DictField(child=fields.CharField(), allow_empty=False)
    anything = fields.JSONField(binary=True)


class Nested(serializers.Serializer):
    one = EveryField()
    many = EveryField(many=True, allow_empty=False, min_length=1, max_length=2)


VALUES = [
    None, "", " ", "x", "xxxx", "\x00a", "\ud800a", 0, 9, 1.55, True, [], ["c"], [1, {}], ["a"] * 3,
    10**400, "9" * 2000,
    {}, {"a": []}, object(), "2026-01-31", timezone.now(), timezone.now().date(), "0001-01-01T00:00:00+14:00", "1e999",
    "P99999999999D", "99999999999 00:00:00", Decimal("1.55"), Decimal(1234), Decimal(9), Decimal(0),
]  # fmt: skip


def texts(detail):
    return [problems.describe(path, fault, in_query=False)["detail"] for path, fault in problems.walk(detail)]


def messages_of(make, value):
    serializer = make(value)
    serializer.is_valid()
    return texts(serializer.errors)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_no_fault_of_any_field_is_told_in_the_frameworks_words(value):
    found = []
    for name in EveryField().fields:
        found += messages_of(lambda data: EveryField(data=data), {name: value})
    for data in (value, {"one": value, "many": value}, {"one": {}, "many": [value, {}, {}]}):
        found += messages_of(lambda given: Nested(data=given), data)
    assert found
    assert not [text for text in found if PHRASES.search(text)]


def kinds_of(base):
    for kind in base.__subclasses__():
        yield kind
        yield from kinds_of(kind)


def test_every_text_of_every_field_class_that_the_api_can_use_is_replaced():
    """Files and addresses of machines are not among them."""
    unused = (fields.FileField, fields.FilePathField, fields.ModelField, fields.IPAddressField)
    bases = [kind for kind in kinds_of(fields.Field) if kind.__module__ in {fields.__name__, serializers.__name__}]
    for kind in [fields.Field, *bases]:
        if not issubclass(kind, unused):
            for text in vars(kind).get("default_error_messages", {}).values():
                assert not PHRASES.search(str(text)), (kind, text)


def test_every_exception_of_the_framework_has_the_apis_words():
    for kind in [exceptions.APIException, *kinds_of(exceptions.APIException)]:
        if kind.__module__ == exceptions.__name__:
            assert kind in wording.EXCEPTION_DETAILS
            assert kind.default_detail == wording.EXCEPTION_DETAILS[kind]


def test_the_choices_of_every_request_are_listed():
    def choice_fields(field):
        for inner in [*getattr(field, "fields", {}).values(), getattr(field, "child", None)]:
            if inner is not None:
                yield from choice_fields(inner)
        if isinstance(field, fields.ChoiceField):
            yield field

    requests = [kind for kind in kinds_of(KnownFieldsOnly) if not kind.__module__.startswith("tests")]
    assert len(requests) > 5
    for kind in requests:
        for field in choice_fields(kind()):
            text = field.error_messages["invalid_choice"]
            assert all(str(choice) in text for choice in list(field.choices)[:1]), (kind, text)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "body",
    ["[]", "{", '""', "1", "null", '{"amount": {}}', '{"metadata": []}',
     '{"amount": 1, "webhook_url": "x"}', '{"amount": 1, "receipt_email": "x"}',
     '{"amount": 1, "order_id": "\\u0000"}'],
)  # fmt: skip
def test_no_body_is_refused_in_the_frameworks_words(post, client, body):
    headers = {"Idempotency-Key": "k"}
    answer = client.post(URL, body, content_type="application/json", headers=headers)
    assert answer.status_code == 400
    assert not PHRASES.search(answer.content.decode())


@pytest.mark.django_db
def test_an_expired_token_is_refused_by_one_sentence_and_a_code_of_its_own(merchant):
    user = User.objects.create_user("ada")
    membership = Membership.objects.create(user=user, merchant=merchant, role=Role.ADMIN)
    token = AccessToken(access_of(membership))
    token.set_exp(from_time=timezone.now() - timedelta(hours=1))
    for credential, code in ((str(token), "token_expired"), ("a.b.c", "unauthenticated"), ("a b", "unauthenticated")):
        answer = Client().get(URL, headers={"authorization": f"Bearer {credential}"})
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert answer["WWW-Authenticate"].startswith("Bearer")
        assert answer.json()["detail"].count(".") == 1
        assert not PHRASES.search(answer.json()["detail"])


@pytest.mark.django_db
def test_a_refusal_names_the_scope_that_is_missing(merchant):
    api_keys.register_key("sk_test_few", merchant=merchant, mode=Mode.TEST, name="few", scopes=[Scope.PAYMENTS_READ])
    few = Client(headers={"authorization": "Bearer sk_test_few"})
    for url, scope in (("/api/v1/contacts", "notifications:read"), ("/api/v1/analytics/daily", "analytics:read")):
        answer = few.get(url)
        assert answer.status_code == 403
        assert f"`{scope}`" in answer.json()["detail"]


@pytest.mark.django_db
def test_an_unknown_field_hides_no_other_fault(post):
    body = {"amuont": 1, "amount": "10.001", "currency": "EUR", "nonsense": 1}
    faults = {fault["pointer"]: fault["code"] for fault in post(body).json()["errors"]}
    assert faults == {"/amuont": "unknown_field", "/nonsense": "unknown_field", "/amount": "decimals"}
    body = {"amuont": 1, "currency": "eur", "capture": "manual"}
    faults = {fault["pointer"]: fault["code"] for fault in post(body).json()["errors"]}
    expected = {"/amuont": "unknown_field", "/amount": "required", "/currency": "unknown", "/capture": "invalid_choice"}
    assert faults == expected


@pytest.mark.django_db
def test_an_item_of_a_batch_without_a_key_is_told_which_field_to_send(client):
    items = [{"amount": 1}, {"amount": 1, "idempotency_key": "a b"}]
    answer = client.post(f"{URL}/batch", {"payments": items}, content_type="application/json").json()
    missing, malformed = (result["problem"] for result in answer["results"])
    assert missing["code"] == "idempotency_key_missing"
    assert "`idempotency_key`" in missing["detail"]
    assert "header" not in missing["detail"]
    for problem in (missing, malformed):
        assert [fault["pointer"] for fault in problem["errors"]] == ["/idempotency_key"]


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["a/b", "a+b", "YWI=", "{a}", '"{a/b}="'])
def test_a_key_of_printable_characters_is_accepted_and_replayed(post, key):
    first, again = post({"amount": "1.00"}, key), post({"amount": "1.00"}, key.strip('"'))
    assert first.status_code == 202
    assert again.content == first.content
    assert again["Idempotent-Replayed"] == "true"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("accept", "status"),
    [("application/problem+json", 200), ("text/html, application/problem+json;q=0.9", 200), ("text/html", 406)],
)
def test_a_client_that_accepts_problems_gets_json(client, accept, status):
    answer = client.get(URL, headers={"accept": accept})
    assert answer.status_code == status
    expected = "application/json" if status == 200 else "application/problem+json"
    assert answer["Content-Type"] == expected


def test_an_unknown_host_is_told_so():
    answer = Client().get(URL, headers={"host": "elsewhere.example"})
    assert answer.status_code == 400
    assert "Host" in answer.json()["detail"]
    assert "errors" not in answer.json()["detail"]


def test_what_the_server_itself_refuses_is_in_the_catalogue():
    config = {}
    exec(compile((settings.BASE_DIR / "deploy/gunicorn.conf.py").read_text(), "gunicorn.conf.py", "exec"), config)
    for status in config["REFUSALS"]:
        problem = config["problem_of"](status)
        code, kind = problems.GENERAL[status]
        assert (problem["code"], problem["title"]) == (code, kind.title)
        assert problem.keys() == problems.problem(None, status=status, detail="").keys()
