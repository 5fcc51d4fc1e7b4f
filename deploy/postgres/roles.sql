-- Least privilege: each process logs in to PostgreSQL as a role that may do what that process does, and no more.
--
--   PGPASSWORD=… psql --host=… --username=payments --dbname=payments --file=deploy/postgres/roles.sql
--
-- Run it as the owner of the tables (or a superuser), after every `manage.py migrate`: it takes all privileges of these
-- roles away and gives them anew, in one transaction, so that running processes notice nothing. A table that it does
-- not know is shut to all of them until it has a line here. docs/database-roles.md tells how to use it.
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

BEGIN;

CREATE TEMPORARY TABLE role (name text) ON COMMIT DROP;
INSERT INTO role VALUES ('web'), ('worker'), ('notifier'), ('relay'), ('intake'), ('cron'), ('readonly');

-- S: SELECT, I: INSERT, U: UPDATE (locking a row takes it, too), D: DELETE. Nobody truncates, and nobody changes tables.
CREATE TEMPORARY TABLE access (tab text, who text) ON COMMIT DROP;
INSERT INTO access VALUES
  -- payments
  ('payments_payment',                   'web=SIU worker=SU relay=SU intake=SIU notifier=S cron=S readonly=S'),
  ('payments_attempt',                   'web=S worker=SIU relay=S cron=S readonly=S'),
  ('payments_paymentevent',              'web=SI worker=SI relay=SI intake=SI notifier=S cron=S readonly=S'),
  ('payments_idempotencykey',            'web=SIU intake=SIU cron=SUD readonly=S'),
  ('payments_gatewaycircuit',            'web=SIU worker=SIU relay=SU intake=S cron=SIU readonly=S'),
  ('payments_gatewayevent',              'web=SI worker=SU relay=SU readonly=S'),
  ('payments_declineblock',              'web=SU worker=SIU intake=S readonly=S'),
  ('payments_unmatchedcharge',           'web=SU worker=SIU relay=SU cron=SI readonly=S'),
  -- how work travels
  ('messaging_outboxmessage',            'web=SI worker=SI notifier=SI relay=SIUD intake=SI cron=SID readonly=S'),
  ('messaging_deadletter',               'web=SU worker=SIU notifier=SIU relay=SIU intake=SIU cron=SUD readonly=S'),
  ('messaging_deathcount',               'web=S worker=SIU notifier=SIU relay=SIU intake=SIU readonly=S'),
  ('messaging_resolution',               'web=SIU worker=SU relay=SU cron=SIU readonly=S'),
  ('messaging_heartbeat',                'web=S worker=SIUD notifier=SIUD relay=SIUD intake=SIUD cron=S readonly=S'),
  ('messaging_clockmark',                'relay=SIU readonly=S'),
  ('django_dramatiq_task',               ''),
  -- who is told
  ('notifications_webhookendpoint',      'web=SIU worker=S notifier=SU relay=SIU cron=SU readonly=S'),
  ('notifications_contact',              'web=SIUD notifier=S relay=S'),
  ('notifications_preference',           'web=SIU notifier=S relay=S readonly=S'),
  ('notifications_delivery',             'web=SIU worker=SU notifier=SIU relay=SIU cron=SUD readonly=S'),
  ('notifications_deliveryattempt',      'web=S notifier=SI relay=SI cron=SD readonly=S'),
  -- who may do what, and who did
  ('merchants_merchant',                 'web=SIU worker=S notifier=S relay=S intake=S cron=S readonly=S'),
  ('merchants_membership',               'web=SIUD notifier=S relay=S readonly=S'),
  ('merchants_apikey',                   'web=SIU readonly=S'),
  ('merchants_loginsession',             'web=SIU cron=SD'),
  ('merchants_auditentry',               'web=SI notifier=SI cron=SI readonly=S'),
  ('merchants_approval',                 'web=SIU cron=SI readonly=S'),
  ('merchants_counter',                  'web=SIUD cron=SUD'),
  ('merchants_bucket',                   'web=SIUD cron=SUD'),
  ('merchants_user',                     'web=SIU notifier=S relay=S cron=S'),
  ('merchants_user_groups',              'web=SID cron=S readonly=S'),
  ('merchants_user_user_permissions',    'web=SID cron=S readonly=S'),
  -- analytics
  ('analytics_dailymetric',              'web=S cron=SIUD readonly=S'),
  ('analytics_metricsrun',               'web=S cron=SID readonly=S'),
  -- Django's own
  ('auth_group',                         'web=S readonly=S'),
  ('auth_group_permissions',             'web=S readonly=S'),
  ('auth_permission',                    'web=S readonly=S'),
  ('django_content_type',                'web=S readonly=S'),
  ('django_admin_log',                   'web=SI readonly=S'),
  ('django_migrations',                  'web=S cron=S readonly=S'),
  ('django_session',                     'web=SIUD cron=SD'),
  ('otp_totp_totpdevice',                'web=SIUD'),
  ('otp_static_staticdevice',            'web=SIUD'),
  ('otp_static_statictoken',             'web=SIUD'),
  ('axes_accessattempt',                 'web=SIUD cron=SD'),
  ('axes_accessattemptexpiration',       'web=SIUD cron=SD'),
  ('axes_accessfailurelog',              ''),
  ('axes_accesslog',                     '');

-- Roles, where they are missing.
SELECT format('CREATE ROLE %I', :'prefix' || '_' || name) FROM role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'prefix' || '_' || name) \gexec

-- What everybody has by default is nobody's from here on.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM PUBLIC;

-- What an earlier version of this file gave, and this one does not.
SELECT format('REVOKE ALL ON ALL TABLES IN SCHEMA public FROM %I', :'prefix' || '_' || name) FROM role \gexec
-- Privileges on columns outlive those on their table.
SELECT format('REVOKE ALL (%s) ON public.merchants_user FROM %I', string_agg(quote_ident(attname), ', '),
  :'prefix' || '_readonly')
FROM pg_attribute WHERE attrelid = 'public.merchants_user'::regclass AND attnum > 0 AND NOT attisdropped \gexec

SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), :'prefix' || '_' || name) FROM role \gexec
SELECT format('GRANT USAGE ON SCHEMA public TO %I', :'prefix' || '_' || name) FROM role \gexec
-- The triggers ask a function whether they apply.
SELECT format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO %I', :'prefix' || '_' || name) FROM role \gexec
SELECT format('GRANT %s ON public.%I TO %I', privileges, tab, :'prefix' || '_' || split_part(one, '=', 1))
FROM access, regexp_split_to_table(who, ' ') AS one, concat_ws(', ',
    CASE WHEN split_part(one, '=', 2) LIKE '%S%' THEN 'SELECT' END,
    CASE WHEN split_part(one, '=', 2) LIKE '%I%' THEN 'INSERT' END,
    CASE WHEN split_part(one, '=', 2) LIKE '%U%' THEN 'UPDATE' END,
    CASE WHEN split_part(one, '=', 2) LIKE '%D%' THEN 'DELETE' END
  ) AS privileges
WHERE who <> '' \gexec

-- Who looks on sees people's names, and neither the hashes of their passwords nor their mail addresses.
SELECT format('GRANT SELECT (id, username, is_active, is_staff, is_superuser, last_login, date_joined)'
  ' ON public.merchants_user TO %I', :'prefix' || '_readonly') \gexec
SELECT format('ALTER ROLE %I SET default_transaction_read_only = on', :'prefix' || '_readonly') \gexec
-- A query that somebody forgot holds up the clean-up of dead rows for all.
SELECT format('ALTER ROLE %I SET statement_timeout = ''5min''', :'prefix' || '_readonly') \gexec

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
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', :'prefix' || '_' || name, secret) FROM password WHERE secret <> ''
\gexec

COMMIT;
