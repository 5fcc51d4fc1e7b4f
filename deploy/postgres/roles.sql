-- Least privilege: each process logs in to PostgreSQL as a role that may do what that process does, and no more.
--
--   PGPASSWORD=… psql --host=… --username=payments --dbname=payments --file=deploy/postgres/roles.sql
--
-- Run it as the owner of the tables (or a superuser), after every `manage.py migrate`: it takes all privileges of these
-- roles away and gives them again, in one transaction, so that running processes notice nothing. A table that it does
-- not know is closed to all of them until it has a line here. docs/database-roles.md tells how to use it.
--
-- Passwords come from the environment of psql (PAYMENTS_WEB_PASSWORD and so on), never from a command line, where
-- everybody on the machine could read them. Where one is not set, the role keeps the password that it has, or has none.

\set ON_ERROR_STOP on
\if :{?prefix}
\else
  \set prefix payments
\endif
\set QUIET on
SET client_min_messages = warning;
SET search_path = pg_catalog, public, pg_temp;

BEGIN;

CREATE TEMPORARY TABLE role (name text, full_name text) ON COMMIT DROP;
INSERT INTO role SELECT name, :'prefix' || '_' || name
FROM pg_catalog.unnest(ARRAY['web', 'worker', 'notifier', 'relay', 'intake', 'cron', 'readonly']) AS name;

-- Who may do what, one table after the other. S: SELECT, I: INSERT, U: UPDATE, D: DELETE. The third part names the
-- columns that the letters are about. Without names they are about whole rows, which UPDATE never is. Locking a row
-- (FOR UPDATE) takes UPDATE of any one column: a role that only locks has it on a column that does no harm. The relay has
-- the columns of SCHEDULED_COLUMNS, which it moves when the database's clock was set back.
-- No role truncates, references or changes a table, or creates triggers on it.
CREATE TEMPORARY TABLE access (tab text, who text, cols text) ON COMMIT DROP;
INSERT INTO access VALUES
  -- Payments. No role changes what the client asked for. The worker, which calls the gateway, records what was captured
  -- and what the gateway answered; web records a charge that staff adopt.
  ('payments_payment',                   'web=SI worker=S relay=S intake=SI notifier=S cron=S readonly=S', ''),
  ('payments_payment',                   'worker=U', 'status version finished_at holds_order needs_review fence'
    ' lease_expires_at held_since next_attempt_at revive_at revivals retries lookups charge_attempts look_up_first'
    ' charge_before key_number amount_captured gateway_reference error_code decline_code error_detail'),
  ('payments_payment',                   'web=U', 'status version finished_at holds_order needs_review lease_expires_at'
    ' held_since next_attempt_at revive_at revivals retries lookups look_up_first charge_before amount_captured'
    ' gateway_reference error_code decline_code error_detail'),
  ('payments_payment',                   'relay=U', 'version needs_review lease_expires_at held_since next_attempt_at'
    ' revive_at revivals error_code error_detail'),
  ('payments_attempt',                   'web=S worker=SI relay=S cron=S readonly=S', ''),
  ('payments_attempt',                   'worker=U', 'outcome code detail gateway_reference finished_at'),
  ('payments_paymentevent',              'web=SI worker=SI relay=SI intake=SI notifier=S cron=S readonly=S', ''),
  ('payments_idempotencykey',            'web=SI intake=SI cron=SD readonly=S', ''),
  ('payments_idempotencykey',            'web=U', 'replays status_code body location'),
  ('payments_idempotencykey',            'intake=U cron=U', 'replays'),
  ('payments_gatewaycircuit',            'web=SI worker=SI relay=S intake=S cron=SI readonly=S', ''),
  ('payments_gatewaycircuit',            'worker=U', 'openings closed_at'),
  ('payments_gatewaycircuit',            'worker=U relay=U', 'open_until probing_until'),
  ('payments_gatewaycircuit',            'web=U cron=U', 'paused_at pause_reason paused_by'),
  ('payments_gatewayevent',              'web=SI worker=S relay=S readonly=S', ''),
  ('payments_gatewayevent',              'worker=U', 'payment_id result handled_at revive_at'),
  ('payments_gatewayevent',              'relay=U', 'revive_at'),
  ('payments_declineblock',              'web=S worker=SI intake=S readonly=S', ''),
  ('payments_declineblock',              'worker=U', 'declines began_at ends_at lifted_at lifted_by lift_reason'),
  ('payments_declineblock',              'web=U', 'lifted_at lifted_by lift_reason'),
  ('payments_unmatchedcharge',           'web=S worker=SI relay=S cron=SI readonly=S', ''),
  ('payments_unmatchedcharge',           'web=U worker=U relay=U', 'state resolved_by resolution_reason resolved_at'
    ' stuck_check_at next_attempt_at'),
  ('payments_unmatchedcharge',           'web=U worker=U', 'error_detail refund_attempts refund_sent_at'),
  ('payments_unmatchedcharge',           'web=U relay=U', 'payment_id'),
  ('payments_unmatchedcharge',           'worker=U', 'refund_number refund_reference'),
  -- Messages. What was staged is postponed or published, and never changed.
  ('messaging_outboxmessage',            'web=SI worker=SI notifier=SI relay=SID intake=SI cron=SID readonly=S', ''),
  ('messaging_outboxmessage',            'relay=U', 'returns available_at subscriber'),
  ('messaging_deadletter',               'web=S worker=SI notifier=SI relay=SI intake=SI cron=SD readonly=S', ''),
  ('messaging_deadletter',               'worker=U notifier=U relay=U intake=U',
    'attempts cause detail traceback last_failed_at'),
  ('messaging_deadletter',               'web=U', 'resolution_id'),
  ('messaging_deadletter',               'web=U worker=U', 'replayed_as'),
  ('messaging_deadletter',               'web=U worker=U relay=U', 'state resolved_at note'),
  ('messaging_deadletter',               'cron=U', 'previous_id'),
  ('messaging_deathcount',               'web=S worker=SI notifier=SI relay=SI intake=SI readonly=S', ''),
  ('messaging_deathcount',               'worker=U notifier=U relay=U intake=U', 'total'),
  ('messaging_resolution',               'web=SI worker=S notifier=S relay=S cron=S readonly=S', ''),
  ('messaging_resolution',               'web=U', 'total'),
  ('messaging_resolution',               'web=U worker=U', 'state finished_at last_taken replayed discarded superseded'
    ' blocked'),
  ('messaging_resolution',               'web=U worker=U relay=U', 'revive_at'),
  ('messaging_heartbeat',                'web=S worker=SID notifier=SID relay=SID intake=SID cron=S readonly=S', ''),
  ('messaging_heartbeat',                'worker=U notifier=U relay=U intake=U', 'note beat_at'),
  ('messaging_clockmark',                'relay=SI readonly=S', ''),
  ('messaging_clockmark',                'relay=U', 'latest_at'),
  ('django_dramatiq_task',               '', ''),
  -- Notifications.
  ('notifications_webhookendpoint',      'web=SI worker=S notifier=S relay=SI cron=S readonly=S', ''),
  ('notifications_webhookendpoint',      'web=U', 'url event_types description deleted_at previous_secret_until'),
  ('notifications_webhookendpoint',      'web=U cron=U', 'secret previous_secret'),
  ('notifications_webhookendpoint',      'web=U notifier=U', 'enabled disabled_at disabled_reason failing_since'
    ' warned_at'),
  ('notifications_webhookendpoint',      'worker=U notifier=U', 'last_success_at'),
  ('notifications_contact',              'web=SID notifier=S relay=S', ''),
  ('notifications_contact',              'web=U', 'merchant_id mode user_id email phone language updated_at'),
  ('notifications_preference',           'web=SI notifier=S relay=S readonly=S', ''),
  ('notifications_preference',           'web=U', 'merchant_id channel audience event_types addresses'),
  ('notifications_delivery',             'web=SI worker=S notifier=SI relay=SI cron=SD readonly=S', ''),
  ('notifications_delivery',             'web=U', 'recipient'),
  ('notifications_delivery',             'notifier=U', 'fence reference'),
  ('notifications_delivery',             'web=U notifier=U relay=U', 'lease_expires_at'),
  ('notifications_delivery',             'web=U worker=U notifier=U', 'state tries finished_at'),
  ('notifications_delivery',             'web=U worker=U notifier=U relay=U', 'next_attempt_at'),
  ('notifications_delivery',             'web=U worker=U notifier=U cron=U', 'note'),
  ('notifications_delivery',             'web=U worker=U notifier=U relay=U', 'revive_at'),
  ('notifications_deliveryattempt',      'web=S notifier=SI relay=SI cron=SD readonly=S', ''),
  -- Accounts. The console creates staff and gives them groups. Superusers, what a group may do, and permissions beside
  -- the groups are the owner's. A key is created and revoked; what it opens never changes.
  ('merchants_merchant',                 'web=SI worker=S notifier=S relay=S intake=S cron=S readonly=S', ''),
  ('merchants_merchant',                 'web=U', 'slug name currency language time_zone contact_email creation_burst'
    ' creation_rate amount_ceilings declines_per_payer is_active'),
  ('merchants_membership',               'web=SID notifier=S relay=S readonly=S', ''),
  ('merchants_membership',               'web=U', 'user_id merchant_id role'),
  ('merchants_apikey',                   'web=SI readonly=S', ''),
  ('merchants_apikey',                   'web=U', 'revoked_at last_used_at'),
  ('merchants_loginsession',             'web=SI cron=SD', ''),
  ('merchants_loginsession',             'web=U', 'current refreshed_at expires_at password_stamp ended_at end'),
  ('merchants_auditentry',               'web=SI notifier=SI cron=SI readonly=S', ''),
  ('merchants_approval',                 'web=SI cron=SI readonly=S', ''),
  ('merchants_approval',                 'web=U', 'state decided_by decided_at decision_reason result'),
  ('merchants_counter',                  'web=SID cron=SD', ''),
  ('merchants_counter',                  'web=U cron=U', 'count'),
  ('merchants_counter',                  'web=U', 'expires_at'),
  ('merchants_bucket',                   'web=SID cron=SD', ''),
  ('merchants_bucket',                   'web=U cron=U', 'full_at'),
  ('merchants_user',                     'web=SI notifier=S relay=S cron=S', ''),
  ('merchants_user',                     'web=U', 'password first_name last_name email is_active is_staff last_login'),
  ('merchants_user',                     'readonly=S', 'id username is_active is_staff is_superuser last_login'
    ' date_joined'),
  ('merchants_user_groups',              'web=SID cron=S readonly=S', ''),
  ('merchants_user_user_permissions',    'web=S cron=S readonly=S', ''),
  -- Analytics.
  ('analytics_dailymetric',              'web=S cron=SID readonly=S', ''),
  ('analytics_dailymetric',              'cron=U', 'accepted succeeded failed canceled volume refunded refunds attempts'
    ' seconds_mean seconds_p50 seconds_p95 seconds_p99 reasons computed_at'),
  ('analytics_metricsrun',               'web=S cron=SID readonly=S', ''),
  -- Django's own.
  ('auth_group',                         'web=S readonly=S', ''),
  ('auth_group_permissions',             'web=S readonly=S', ''),
  ('auth_permission',                    'web=S readonly=S', ''),
  ('django_content_type',                'web=S readonly=S', ''),
  ('django_admin_log',                   'web=SI readonly=S', ''),
  ('django_migrations',                  'web=S cron=S readonly=S', ''),
  ('django_session',                     'web=SID cron=SD', ''),
  ('django_session',                     'web=U', 'session_data expire_date'),
  -- The web process enrols second factors, so it can replace them. A device saves itself whole.
  ('otp_totp_totpdevice',                'web=SID', ''),
  ('otp_totp_totpdevice',                'web=U', 'user_id name confirmed throttling_failure_timestamp'
    ' throttling_failure_count created_at last_used_at key step t0 digits tolerance drift last_t'),
  ('otp_static_staticdevice',            'web=SID', ''),
  ('otp_static_staticdevice',            'web=U', 'user_id name confirmed throttling_failure_timestamp'
    ' throttling_failure_count created_at last_used_at'),
  ('otp_static_statictoken',             'web=SID', ''),
  ('axes_accessattempt',                 'web=SID cron=SD', ''),
  ('axes_accessattempt',                 'web=U', 'user_agent ip_address username http_accept path_info attempt_time'
    ' get_data post_data failures_since_start'),
  ('axes_accessattemptexpiration',       'web=SID cron=SD', ''),
  ('axes_accessattemptexpiration',       'web=U', 'expires_at'),
  ('axes_accessfailurelog',              '', ''),
  ('axes_accesslog',                     '', '');

-- Roles, where they are missing.
SELECT format('CREATE ROLE %I', full_name) FROM role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = full_name) \gexec

-- No privilege below means anything for a role that has another way to it.
DO $$
DECLARE
  found text;
BEGIN
  SELECT string_agg(rolname, ', ') INTO found FROM pg_roles JOIN role ON rolname = full_name
  WHERE rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
    OR EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid)
    OR EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid)
    OR EXISTS (SELECT FROM pg_proc WHERE proowner = pg_roles.oid)
    OR EXISTS (SELECT FROM pg_namespace WHERE nspowner = pg_roles.oid);
  IF found IS NOT NULL THEN
    RAISE EXCEPTION 'These roles have attributes, memberships or objects of their own: %.', found
      USING HINT = 'Take them away (ALTER ROLE, REVOKE, REASSIGN OWNED), or use another prefix.';
  END IF;
END $$;

-- PUBLIC loses what PostgreSQL gives it by default.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I REVOKE EXECUTE ON ROUTINES FROM PUBLIC', rolname)
FROM pg_class JOIN pg_roles ON pg_roles.oid = relowner WHERE pg_class.oid = 'public.payments_payment'::regclass \gexec
-- Large objects belong to no table, so nothing would notice that they fill the disk. Only a superuser can say so.
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure) FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea')
  AND pg_has_role(current_user, proowner, 'USAGE') \gexec

-- What an earlier version of this file gave, and this one does not; privileges on columns go with those on tables.
SELECT format('REVOKE ALL ON DATABASE %I FROM %I', current_database(), full_name) FROM role \gexec
SELECT format('REVOKE ALL ON SCHEMA public FROM %I', full_name) FROM role \gexec
SELECT format('REVOKE ALL ON ALL TABLES IN SCHEMA public FROM %I', full_name) FROM role \gexec
SELECT format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM %I', full_name) FROM role \gexec
SELECT format('REVOKE ALL ON ALL ROUTINES IN SCHEMA public FROM %I', full_name) FROM role \gexec

SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), full_name) FROM role \gexec
SELECT format('GRANT USAGE ON SCHEMA public TO %I', full_name) FROM role \gexec
-- One GRANT for each role in each line, such as GRANT UPDATE (held_since, revivals) ON public.payments_payment TO …
SELECT format('GRANT %s ON public.%I TO %I', privileges, tab, full_name)
FROM access
CROSS JOIN LATERAL regexp_split_to_table(who, ' ') AS one
JOIN role ON name = split_part(one, '=', 1)
CROSS JOIN LATERAL (
  SELECT ' (' || string_agg(quote_ident(col), ', ') || ')' AS listed
  FROM regexp_split_to_table(cols, ' ') AS col WHERE cols <> ''
) AS of
CROSS JOIN LATERAL (
  SELECT string_agg(privilege || coalesce(listed, ''), ', ') AS privileges
  FROM (VALUES ('S', 'SELECT'), ('I', 'INSERT'), ('U', 'UPDATE'), ('D', 'DELETE')) AS letter (letter, privilege)
  WHERE strpos(split_part(one, '=', 2), letter) > 0
) AS given \gexec

-- The readonly role cannot write anyway; this tells its users so at once. It can take both back for its own sessions.
SELECT format('ALTER ROLE %I SET default_transaction_read_only = on', full_name)
FROM role WHERE name = 'readonly' \gexec
-- A query that somebody forgot holds up the clean-up of dead rows for all.
SELECT format('ALTER ROLE %I SET statement_timeout = ''5min''', full_name) FROM role WHERE name = 'readonly' \gexec

-- Passwords, of those whose variable is set.
CREATE TEMPORARY TABLE password (name text, secret text) ON COMMIT DROP;
\getenv secret PAYMENTS_WEB_PASSWORD
\if :{?secret}
  INSERT INTO password VALUES ('web', :'secret');
  \unset secret
\endif
\getenv secret PAYMENTS_WORKER_PASSWORD
\if :{?secret}
  INSERT INTO password VALUES ('worker', :'secret');
  \unset secret
\endif
\getenv secret PAYMENTS_NOTIFIER_PASSWORD
\if :{?secret}
  INSERT INTO password VALUES ('notifier', :'secret');
  \unset secret
\endif
\getenv secret PAYMENTS_RELAY_PASSWORD
\if :{?secret}
  INSERT INTO password VALUES ('relay', :'secret');
  \unset secret
\endif
\getenv secret PAYMENTS_INTAKE_PASSWORD
\if :{?secret}
  INSERT INTO password VALUES ('intake', :'secret');
  \unset secret
\endif
\getenv secret PAYMENTS_CRON_PASSWORD
\if :{?secret}
  INSERT INTO password VALUES ('cron', :'secret');
  \unset secret
\endif
\getenv secret PAYMENTS_READONLY_PASSWORD
\if :{?secret}
  INSERT INTO password VALUES ('readonly', :'secret');
  \unset secret
\endif
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', full_name, secret) FROM password JOIN role USING (name)
WHERE secret <> '' \gexec

COMMIT;
