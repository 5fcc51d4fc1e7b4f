"""What all tests share. PostgreSQL and RabbitMQ are real; the gateway is the sandbox, served from a thread."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.test import Client, TransactionTestCase
from django.test.client import ClientHandler
from django.utils import timezone

from merchants import api_keys
from merchants.fuse import redis_fuse
from merchants.local_buckets import local_buckets
from merchants.models import Membership, Merchant, Mode, User
from messaging.process import load_actors
from payments.gateways import registry
from payments.models import Payment
from payments.operations import PaymentRequest, accept_payment
from payments.velocity import blocks_in_force
from sandbox.journal import Journal
from sandbox.server import Gateway
from tests import doors, tidying
from tests.canaries import _no_secret_in_any_log_line, watch  # noqa: F401  # fixtures of all tests
from tests.hosts import VirtualHost, hosts_of, node_in, running
from tests.logins import PASSWORD

if not os.environ.get("DATABASE_URL") or not os.environ.get("RABBITMQ_URL"):
    pytest.exit("The tests need PostgreSQL and RabbitMQ: run `make test`, or set DATABASE_URL and RABBITMQ_URL.", 2)

load_actors()  # as a worker does: some tests are in the place of one

API_KEY = "sk_test_the-key-of-the-tests"
LONG = [Path(__file__).parent / folder for folder in ("chaos", "e2e")]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, and the others as chance has put them: no worker ends long before the other one."""
    items.sort(key=lambda item: not any(map(item.path.is_relative_to, LONG)))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: object) -> None:  # pytest-django's, and more
    """The database of the tests, of which it is remembered how it was."""
    with django_db_blocker.unblock():
        tidying.remember()
    TransactionTestCase._fixture_teardown = tidying.tidy_up


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is said of the API holds with the fast door and without."""
    if getattr(metafunc.module, "BOTH_DOORS", False):
        metafunc.parametrize("door", ["fast", "house"], indirect=True)


@pytest.fixture(autouse=True)
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """By which way the requests of a test's clients come in."""
    way: str = getattr(request, "param", "fast")
    if way == "fast":
        monkeypatch.setattr(ClientHandler, "__call__", doors.by_the_fast_door)
    doors.answered.clear()
    yield way
    says = hasattr(request.module, "BOTH_DOORS")
    assert says or not doors.answered, "the fast door has answered: say whether this is of BOTH_DOORS (tests/doors.py)"


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    """What the process itself remembers of limits; what the tables do goes with each test."""
    redis_fuse.reset()
    local_buckets.clear()
    blocks_in_force.forget()


@pytest.fixture(scope="session")
def virtual_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[VirtualHost]]:
    """Virtual hosts of one node, for all tests of this process that leave RabbitMQ itself alone."""
    folder = tmp_path_factory.mktemp("node")
    with running(node_in(folder, folder / "logs")) as node:
        yield hosts_of(node)


@pytest.fixture
def quick_passwords(settings: object) -> None:
    """For tests that log in: the hash of production takes a good part of a second, and that is not what they test."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def merchant(db: None) -> Merchant:
    return Merchant.objects.create(slug="shop", name="Shop", currency="EUR")


@pytest.fixture
def other_merchant(db: None) -> Merchant:
    return Merchant.objects.create(slug="other", name="Other", currency="USD")


@pytest.fixture
def client(merchant: Merchant) -> Client:
    """An HTTP client with the merchant's test key, in the server's own process."""
    api_keys.register_key(API_KEY, merchant=merchant, mode=Mode.TEST, name="tests")
    return Client(headers={"authorization": f"Bearer {API_KEY}"}, raise_request_exception=False)


@pytest.fixture
def anybody() -> Client:
    """A client without a credential."""
    return Client(raise_request_exception=False)


@pytest.fixture
def person(db: None, settings: object) -> Callable[..., User]:
    """A person with a password, and a role at each of some merchants."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one is slow on purpose

    def make(roles: dict[Merchant, str], name: str = "ada", **fields: object) -> User:
        user = User.objects.create_user(name, password=PASSWORD, **fields)
        for merchant, role in roles.items():
            Membership.objects.create(user=user, merchant=merchant, role=role)
        return user

    return make


@pytest.fixture
def post(client: Client) -> Callable[..., object]:
    """POST /payments with a body and an idempotency key."""

    def send(body: object, key: str | None = "key-1", **headers: str) -> object:
        if key is not None:
            headers["Idempotency-Key"] = key
        return client.post("/api/v1/payments", body, content_type="application/json", headers=headers)

    return send


@pytest.fixture
def accept(merchant: Merchant) -> Callable[..., Payment]:
    """Accept a payment through the operation itself."""

    def do(key: str = "key-1", **fields: object) -> Payment:
        request = PaymentRequest(**{"amount": 1000, "currency": "EUR", **fields})
        answer = accept_payment(
            merchant=merchant,
            mode=Mode.TEST,
            idempotency_key=key,
            request=request,
            request_id=f"request-{key}",
            now=timezone.now(),
        )
        return Payment.objects.get(pk=answer.location.rsplit("/", 1)[1])

    return do


@dataclass
class SandboxHandle:
    """The sandbox of one test."""

    server: Gateway
    url: str

    def charges(self, payment: Payment | None = None) -> list[dict[str, object]]:
        """The charges of the journal, without refunds."""
        return [effect for effect in self.effects(payment) if effect["operation"] == "charge"]

    def effects(self, payment: Payment | None = None) -> list[dict[str, object]]:
        """The charges and refunds of the journal."""
        return self.server.journal.effects(str(payment.pk) if payment else None)

    def stop(self) -> None:
        """Refuse connections from now on."""
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def sandbox(tmp_path: Path, settings: object) -> Iterator[SandboxHandle]:
    """A gateway with a journal of its own; the deadline of calls is far above what a busy machine takes for one."""
    server = Gateway(("127.0.0.1", 0), Journal(tmp_path / "journal.jsonl"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    handle = SandboxHandle(server, f"http://127.0.0.1:{server.server_address[1]}")
    configured = settings.GATEWAYS["sandbox"]
    options = {**configured["OPTIONS"], "url": handle.url}
    entry = {**configured, "OPTIONS": options, "DEADLINE": 30.0, "LEASE": 120.0}
    settings.GATEWAYS = {"sandbox": entry}
    registry.get.cache_clear()
    yield handle
    server.stopping.set()
    handle.stop()
    thread.join()
    server.journal.close()
    registry.get.cache_clear()
