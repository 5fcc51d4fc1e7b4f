"""How PostgreSQL carries out what is asked most often: by an index, however many rows there are and of however few."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from merchants.models import Mode
from notifications import retention
from payments import breaker, idempotency
from payments.gateways.base import Approved
from payments.models import Payment
from payments.operations import PaymentRequest, claims, insert
from payments.operations.claims import claim_payments
from payments.operations.settle import Answered, settle
from payments.operations.wishes import Wish, prepare
from payments.reads import payments_of, shown
from payments.transitions import Change, stay_all
from tests.deliveries import delivery_to, endpoint_of

pytestmark = pytest.mark.django_db

#: PostgreSQL would rather read all of these than look a hundred up, which is how many it expects of any JSON document.
MANY = """
    ALTER TABLE payments_payment DISABLE TRIGGER USER;
    CREATE TEMPORARY TABLE pattern ON COMMIT DROP AS SELECT * FROM payments_payment;
    INSERT INTO payments_payment SELECT (jsonb_populate_record(pattern, jsonb_build_object(
        'id', gen_random_uuid(), 'order_id', 'order-' || number))).*
    FROM pattern, generate_series(1, 500) AS number;
    ALTER TABLE payments_payment ENABLE TRIGGER USER;
    ANALYZE payments_payment
"""


@pytest.fixture
def many(merchant, accept):
    """The merchant of payments of which PostgreSQL knows how many they are."""
    accept(order_id="order-0")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(MANY)
    return merchant


def plan(statement, parameters):
    """How it would be carried out."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement}", parameters)
        return "\n".join(line for (line,) in cursor.fetchall())


def test_an_accept_reads_no_payments_but_its_own(many):
    wish = Wish(
        merchant=many,
        mode=Mode.TEST,
        idempotency_key="key-1",
        request=PaymentRequest(amount=100, currency="EUR", order_id="order-new"),
        request_id="request-1",
        now=timezone.now(),
    )
    parameters = {**insert.parameters([prepare(wish)]), "patience": None}
    assert "Seq Scan on payments_payment" not in plan(insert.STATEMENT, parameters)


def test_a_list_never_goes_through_what_is_newer_of_other_merchants(many):
    """All payments are of this merchant, and so the newest of all would be its own; but not for ever."""
    sql, parameters = shown(payments_of(many, Mode.TEST)).order_by("-id")[:51].query.sql_with_params()
    assert "payment_newest" in plan(sql, parameters)


@pytest.mark.parametrize("table", ["payments_payment", "payments_paymentevent"])
def test_no_list_by_merchant_depends_on_how_many_are_of_which(table):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attstattarget FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'merchant_id'", [table]
        )
        assert cursor.fetchone() == (0,)


#: Indexes that another one of the same table begins with. Not those of Django and its applications.
REDUNDANT = """
    SELECT one.indexrelid::regclass::text
    FROM pg_index AS one
    JOIN pg_index AS other ON other.indrelid = one.indrelid AND other.indexrelid <> one.indexrelid
    WHERE one.indrelid::regclass::text ~ '^(analytics|merchants|messaging|notifications|payments)_'
        AND NOT one.indrelid::regclass::text ~ '^merchants_user_' AND NOT one.indisunique
        AND one.indpred IS NULL AND other.indpred IS NULL AND one.indexprs IS NULL AND other.indexprs IS NULL
        AND starts_with(format('%s ', other.indkey), format('%s ', one.indkey))
        AND starts_with(format('%s ', other.indclass), format('%s ', one.indclass))
"""


def test_no_index_is_written_that_another_one_begins_with():
    with connection.cursor() as cursor:
        cursor.execute(REDUNDANT)
        assert cursor.fetchall() == []


KEYS = """
    INSERT INTO payments_idempotencykey (merchant_id, key, fingerprint, status_code, body, location, created_at)
    SELECT id, number, '', 202, '', '', now() - number * interval '1 minute'
    FROM merchants_merchant, generate_series(1, 5000) AS number;
    ANALYZE payments_idempotencykey, notifications_delivery
"""


@pytest.mark.parametrize(
    ("prune", "index"), [(idempotency.prune, "idempotency_key_stored"), (retention.prune, "delivery_made")]
)
def test_pruning_goes_by_age_wherever_in_the_table_old_rows_lie(merchant, prune, index):
    """Where most are old, PostgreSQL expects to meet them soon, and would rather begin with the first page."""
    ended = {"state": "delivered", "next_attempt_at": None, "revive_at": None, "finished_at": timezone.now()}
    endpoint = endpoint_of(merchant)
    for _ in range(500):
        delivery_to(endpoint, **ended)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(KEYS)
    with CaptureQueriesContext(connection) as asked:
        assert prune(before=timezone.now() + timedelta(days=1), batch=10) == 10
    chosen = next(query["sql"] for query in asked if "created_at" in query["sql"])
    assert index in plan(chosen.replace("%", "%%"), [])


def test_a_change_reads_no_payments_but_its_own(many):
    payment = Payment.objects.all()[0]
    with CaptureQueriesContext(connection) as asked:
        stay_all([Change(payment, {"revivals": 1})])
    (update,) = [query["sql"] for query in asked if query["sql"].startswith("\n    UPDATE")]
    assert "Seq Scan on payments_payment" not in plan(update.replace("%", "%%"), [])


def test_a_failure_counts_by_the_answers_that_came_last_and_reads_no_others():
    parameters = {"gateway": "sandbox", "most_calls": 1000, "window": 30, "min_calls": 20}
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # which it would rather do where there are none
        cursor.execute("SET LOCAL enable_sort = off")
    told = plan(breaker.OPEN, {**parameters, "open_for": 10, "failure_rate": 0.5})
    assert "Index Scan Backward using attempt_answered" in told


def test_what_is_asked_again_and_again_is_prepared(merchant):
    with connection.cursor() as cursor:
        for _ in range(6):
            cursor.execute("SELECT slug FROM merchants_merchant WHERE id = %s", [merchant.pk])
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT slug FROM%'")
        assert cursor.fetchone() == (1,)


def test_a_claim_and_a_settlement_read_no_payments_but_their_own_by_plans_that_are_kept(many):
    payments = Payment.objects.order_by("id").values_list("pk", flat=True)[:12]
    for payment_id in payments:
        (claim,) = claim_payments([payment_id])
        assert settle([Answered(claim, Approved(reference="r"))]) == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements WHERE generic_plans > 0")
        kept = [statement for (statement,) in cursor.fetchall()]
        for part in ("FOR NO KEY UPDATE", "INSERT INTO payments_attempt", "UPDATE payments_attempt", "WITH happened"):
            assert any(part in statement for statement in kept), part
    assert "Seq Scan on payments_payment" not in plan(claims.LOCK, [[many.pk]])
