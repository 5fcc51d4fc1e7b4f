\set k random(1, 9000000000000000000)
BEGIN;
INSERT INTO payment (id, merchant, idempotency_key, order_id, user_id, amount, currency, status, description, metadata, payment_method, created_at) VALUES (md5(:k::bigint::text)::uuid, 'demo', 'k' || :k::bigint::text, 'o' || :k::bigint::text, 'customer-7', 1000, 'EUR', 'pending', 'A measured payment', '{"basket": "b-17"}', 'pm_ok', now());
INSERT INTO outbox (payment_id, payload) VALUES (md5(:k::bigint::text)::uuid, '{"type": "payment.created"}');
COMMIT;
