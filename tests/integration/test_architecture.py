"""What the rooms promise each other, checked on the source and on the running configuration."""

import ast
import re
from pathlib import Path

import dramatiq
import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, get_resolver, resolve
from django.utils.module_loading import import_string
from dramatiq.middleware import Middleware

from messaging.broker import QuorumBroker
from messaging.escapes import Escapes
from messaging.models import OutboxMessage
from notifications.webhooks.dispatch import Drain

ROOT = Path(settings.BASE_DIR)
ROOMS = ("analytics", "config", "console", "merchants", "messaging", "notifications", "payments")
#: The only writer of status, the declaration of the column, and what invents a past for the demo.
MAY_WRITE_STATUS = {"payments/transitions.py", "payments/models.py", "console/demo_history.py"}
#: Query methods that write columns by keyword or by name.
WRITERS = {
    "update", "aupdate", "create", "acreate", "bulk_create", "bulk_update", "get_or_create", "update_or_create", "save",
    "stay", "stay_all", "update_all", "update_alike", "flag_for_review",
}  # fmt: skip
RAW_STATUS = re.compile(
    r"(update\s+payments_payment\b.*\bset\b|insert\s+into\s+payments_payment\b).*\bstatus\b", re.IGNORECASE | re.DOTALL
)


def sources(*rooms):
    """Path below the root -> syntax tree, of all our modules."""
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def called(node):
    """The last part of a called name: `update` of `Payment.objects.filter(...).update(...)`."""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def names_status(call):
    """Whether a call has a keyword `status`, or the word among what it is given."""
    if any(keyword.arg == "status" for keyword in call.keywords):
        return True
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(getattr(part, "value", None) == "status" for argument in given for part in ast.walk(argument))


def status_writes(tree):
    """Line -> what on it writes a status."""
    found = {}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr="status", ctx=ast.Store()):
                found[node.lineno] = "an assignment"
            case ast.Call() if writes_status(node):
                found[node.lineno] = f"{called(node)}()"
            case ast.Constant(value=str(text)) if RAW_STATUS.search(text):
                found[node.lineno] = "SQL"
    return found


def writes_status(call):
    """Whether a call makes or changes a payment with a status of its own choice."""
    match called(call):
        case "setattr":
            return getattr(call.args[1], "value", "status") == "status"
        case "Payment":
            return any(keyword.arg == "status" for keyword in call.keywords)
        case name:
            return name in WRITERS and names_status(call)


def test_nobody_but_transitions_writes_the_status_of_a_payment():
    found = {
        f"{path}:{line}": what
        for path, tree in sources("payments", "console")  # the rooms that may import its model
        if path not in MAY_WRITE_STATUS
        for line, what in status_writes(tree).items()
    }
    assert found == {}


@pytest.mark.parametrize(
    "code",
    [
        "payment.status = 'failed'",
        "self.payment.status = Status.FAILED",
        "payment.status, payment.version = to, 2",
        "payment.status: str = to",
        "setattr(payment, 'status', to)",
        "setattr(payment, name, to)",
        "Payment.objects.filter(pk=1).update(status='failed')",
        "Payment.objects.filter(pk=1).update(**{'status': 'failed'})",
        "Payment.objects.create(merchant=m, status='failed')",
        "Payment.objects.get_or_create(pk=1, defaults={'status': 'failed'})",
        "Payment.objects.bulk_update(payments, ['status'])",
        "payment.save(update_fields=['status'])",
        "Payment(merchant=m, status='failed')",
        "transitions.update_all([Change(payment, {'status': to})])",
        "cursor.execute('UPDATE payments_payment SET status = %s')",
        "cursor.execute('''update payments_payment p\\nset fence = 1, status = 'failed' ''')",
    ],
)
def test_the_search_for_writers_overlooks_none(code):
    assert status_writes(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "status = payment.status",
        "Payment.objects.filter(status='failed')",
        "return answer(request, status=404)",
        "Payment.objects.filter(status='failed').update(needs_review=True)",
        "payment.status_code = 1",
        "cursor.execute('SELECT status FROM payments_payment')",
        "cursor.execute('UPDATE payments_payment SET revive_at = now()')",
    ],
)
def test_the_search_for_writers_leaves_readers_alone(code):
    assert not status_writes(ast.parse(code))


def test_the_one_writer_is_found_where_it_is():
    writes = {path: status_writes(tree) for path, tree in sources("payments") if path in MAY_WRITE_STATUS}
    assert writes["payments/transitions.py"]


@pytest.mark.parametrize(
    ("call", "callers"),
    [
        ("charge", {"process.py"}),
        ("look_up", {"process.py", "reconcile.py"}),
        ("list_charges", {"reconcile.py"}),
        ("refund_charge", {"refund_unmatched_charge.py"}),
        ("look_up_refund", {"refund_unmatched_charge.py"}),
    ],
)
def test_nobody_but_their_operations_call_a_gateway(call, callers):
    found = {
        path
        for path, tree in sources(*ROOMS)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == call and isinstance(node.ctx, ast.Load)
    }
    assert found == {f"payments/operations/{caller}" for caller in callers}


def test_no_transaction_spans_a_whole_request():
    assert not any(database.get("ATOMIC_REQUESTS") for database in settings.DATABASES.values())


def test_no_debug_mode_fills_a_workers_memory():
    assert settings.DEBUG is False


def test_no_page_of_django_dramatiq_shows_arguments_unescaped():
    its_models = set(apps.get_app_config("django_dramatiq").get_models())
    assert its_models
    assert not its_models & set(admin.site._registry)


# --- the broker


def test_the_broker_has_the_middleware_of_the_settings_and_our_own_and_nothing_else():
    broker = dramatiq.get_broker()
    assert isinstance(broker, QuorumBroker)
    configured = [import_string(name) for name in settings.DRAMATIQ_BROKER["MIDDLEWARE"]]
    assert [type(middleware) for middleware in broker.middleware] == [*configured, Escapes, Drain]
    assert all(isinstance(middleware, Middleware) for middleware in broker.middleware)


@pytest.mark.parametrize("name", ["Retries", "TimeLimit", "AgeLimit", "ShutdownNotifications", "AdminMiddleware"])
def test_no_middleware_is_there_that_could_lose_a_message_or_interrupt_a_charge(name):
    assert name not in {type(middleware).__name__ for middleware in dramatiq.get_broker().middleware}


def test_every_route_leads_to_an_actor_on_its_queue():
    broker = dramatiq.get_broker()
    assert settings.MESSAGE_ROUTES
    for queue, actor in settings.MESSAGE_ROUTES.values():
        assert broker.get_actor(actor).queue_name == queue
        assert len(queue) <= OutboxMessage._meta.get_field("queue").max_length


def test_every_periodic_job_can_be_imported():
    for name in settings.RELAY_PERIODIC_JOBS:
        assert callable(import_string(name))


# --- addresses


SAMPLE_ID = "0190a6f0-7b1c-7d57-9e1b-3c8f3a1f5d2e"


def sample(group):
    """What the group of a pattern matches: a number, where it takes only that, or the id of a payment."""
    return "1" if ">[0-9]{" in group[0] and "a-f" not in group[0] else SAMPLE_ID


def addresses(resolver, prefix=""):
    """Each pattern below a resolver, as a path that it matches."""
    for entry in resolver.url_patterns:
        pattern = prefix + re.sub(r"\(\?P<\w+>[^)]*\)|<[^>]*>", sample, str(entry.pattern).removeprefix("^"))
        if isinstance(entry, URLResolver):
            yield from addresses(entry, pattern)
        elif isinstance(entry, URLPattern):
            yield "/" + pattern.removesuffix("$").removesuffix("?").removesuffix("/"), entry


API = [(path, entry) for path, entry in addresses(get_resolver()) if path.startswith("/api/")]


def test_the_search_for_addresses_finds_them():
    assert {"/api/v1/payments", f"/api/v1/payments/{SAMPLE_ID}", "/api/v1/token", "/api/v1/schema"} <= {
        path for path, _ in API
    }


@pytest.mark.parametrize(("path", "entry"), API, ids=[path for path, _ in API])
def test_no_address_of_the_api_depends_on_a_trailing_slash(path, entry):
    bare, slashed = resolve(path), resolve(f"{path}/")
    assert bare.func is slashed.func is entry.callback
    assert bare.kwargs == slashed.kwargs


def test_no_redirect_ever_loses_a_body():
    assert settings.APPEND_SLASH is False


def test_no_view_of_the_api_forgets_to_ask_who_calls():
    """What may be had without a credential is named here, and nothing else."""
    open_to_all = {path for path, entry in API if not getattr(entry.callback.cls, "scopes", None)}
    webhooks = f"/api/v1/gateways/{SAMPLE_ID}/webhooks"  # the signature is the credential
    tokens = {"/api/v1/token", "/api/v1/token/refresh", "/api/v1/token/logout"}
    assert open_to_all == {*tokens, "/api/v1/schema", webhooks}
