"""A past of any size, written by PostgreSQL itself: payments that have ended, with their attempt, events and key.

Triggers and constraints are on: what stands there could have come about.
"""

import os
from typing import Final

from bench.stage import Stage

#: How many payments one statement writes.
BATCH: Final = 200_000
DAYS: Final = 90
#: The ids are UUIDs of version 7 (RFC 9562, 5.7): they lie in their index as real ones do, in the order of their time.
STATEMENT: Final = """
WITH number AS (
    SELECT i, at, lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS time
    FROM generate_series({first}::bigint, {last}::bigint) AS i,
         LATERAL (SELECT now() - (1 - i::float / {total}) * interval '{days} days') AS moment (at)
), past AS MATERIALIZED (
    SELECT i, at, i % 14 = 0 AS declined,
           (left(time, 8) || '-' || substr(time, 9) || '-7' || substr(gen_random_uuid()::text, 16))::uuid AS id
    FROM number
), merchant AS (
    SELECT id FROM merchants_merchant WHERE slug = 'demo'
), payment AS (
    INSERT INTO payments_payment (
        id, merchant_id, mode, status, version, amount, currency, amount_captured, amount_refunded, order_id, user_id,
        description, metadata, payment_method, webhook_url, request_id, gateway, gateway_reference, key_number,
        holds_order, needs_review, fence, charge_attempts, retries, lookups, revivals, error_code, decline_code,
        error_detail, created_at, finished_at)
    SELECT past.id, merchant.id, 'test', CASE WHEN declined THEN 'failed' ELSE 'succeeded' END, 3, 1000 + i % 9000,
           'EUR', CASE WHEN declined THEN 0 ELSE 1000 + i % 9000 END, 0, 'past-' || i, 'customer-' || i % 5000, '',
           '{{}}', 'pm_ok', '', 'past-' || i, 'sandbox', 'ch_' || i, 1, NOT declined, false, 1, 1, 0, 0, 0,
           CASE WHEN declined THEN 'declined' ELSE '' END, CASE WHEN declined THEN 'card_declined' ELSE '' END, '',
           at, at + (190 + 900 * (hashint8(i) & 1023) / 1024.0 * (hashint8(-i) & 1023) / 1024.0) * interval '1 ms'
    FROM past, merchant
    RETURNING id, merchant_id, created_at, status, request_id
), attempt AS (
    INSERT INTO payments_attempt (
        payment_id, kind, gateway_key, fence, outcome, code, detail, gateway_reference, started_at, finished_at)
    SELECT id, 'charge', id || ':charge:1', 1, CASE status WHEN 'failed' THEN 'declined' ELSE 'approved' END,
           '', '', request_id, created_at + interval '50 milliseconds', created_at + interval '190 milliseconds'
    FROM payment
), key AS (
    INSERT INTO payments_idempotencykey (
        merchant_id, key, fingerprint, status_code, body, location, payment_id, created_at)
    SELECT merchant_id, request_id, sha256(request_id::bytea), 202, repeat('x', 500), '/api/v1/payments/' || id, id,
           created_at
    FROM payment
)
INSERT INTO payments_paymentevent (id, payment_id, merchant_id, mode, type, version, snapshot, request_id, created_at)
SELECT (left(id::text, 15) || substr(gen_random_uuid()::text, 16))::uuid, id, merchant_id, 'test',
       CASE version WHEN 1 THEN 'payment.created' WHEN 2 THEN 'payment.processing' ELSE 'payment.' || status END,
       version, jsonb_build_object('id', id, 'status', status, 'as_long_as_real_ones', repeat('x', 400)), request_id,
       created_at
FROM payment, generate_series(1, 3) AS version
"""


def write_past(stage: Stage, database: str, *, number: int, already: int = 0) -> None:
    """Write payments until there are so many, and have the tables analysed as autovacuum would by then.

    All of it stands on the disk in the end.
    """
    for first in range(already, number, BATCH):
        last = min(first + BATCH, number) - 1
        stage.run_sql(database, STATEMENT.format(days=DAYS, total=number, first=first, last=last))
    stage.run_sql(database, "VACUUM ANALYZE")
    come_to_rest(stage, database)


def come_to_rest(stage: Stage, database: str) -> None:
    """Have all of it on the disk: else what is measured next waits until gigabytes are written."""
    stage.run_sql(database, "CHECKPOINT")
    os.sync()
