"""A process with a wrong environment does not start, and says everything that is wrong at once."""

import base64
import re
from dataclasses import fields
from pathlib import Path

import dj_database_url
import pytest
from django.core.exceptions import ImproperlyConfigured

from config.environment import DEVELOPMENT_SECRET, Environment, read_environment
from config.process_secrets import NEEDED_BY, PROCESSES

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = {
    "SECRET_KEY": "one-long-secret-for-sessions-and-signed-links-0123456789",
    "JWT_SIGNING_KEY": "another-long-secret-for-the-tokens-of-people-0123456789",
    "ALLOWED_HOSTS": "pay.example.com,pay.example.org",
    "DATABASE_URL": "postgres://user:secret@db.example.com/payments",
    "RABBITMQ_URL": "amqp://user:secret@mq.example.com/",
    "ENCRYPTION_KEYS": "a-third-long-secret-for-what-the-database-keeps-0123456789",
}


@pytest.fixture
def read(monkeypatch):
    """Read an environment that has these variables and none of the others."""

    def do(**variables):
        names = (field.name.upper() for field in fields(Environment))
        for name in ("ENVIRONMENT", "DEBUG", "SANDBOX_WEBHOOK_SECRET", *names):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(f"{name}_FILE", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return read_environment()

    return do


@pytest.fixture
def faults(read):
    """What is said about an environment, line by line: variable -> fault."""

    def do(**variables):
        with pytest.raises(ImproperlyConfigured) as refusal:
            read(**variables)
        return dict(line.strip().split(": ", 1) for line in str(refusal.value).splitlines() if line.startswith("  "))

    return do


def without(name):
    return {other: value for other, value in PRODUCTION.items() if other != name}


def test_a_sound_production_environment_is_read(read):
    environment = read(ENVIRONMENT="production", **PRODUCTION, BEHIND_TLS_PROXY="true", WORKER_THREADS="4")
    assert environment.production
    assert environment.allowed_hosts == ["pay.example.com", "pay.example.org"]
    assert environment.behind_tls_proxy is True
    assert environment.worker_threads == 4
    assert environment.charge_lease >= 2 * environment.charge_deadline


def test_development_needs_nothing_but_a_database(read):
    environment = read(ENVIRONMENT="development", DATABASE_URL="postgres://localhost/payments")
    assert not environment.production
    assert environment.secret_key == environment.jwt_signing_key == DEVELOPMENT_SECRET
    assert environment.allowed_hosts == ["127.0.0.1", "localhost", "[::1]"]
    assert environment.rabbitmq_url == ""


def test_what_is_not_called_development_is_production(faults):
    assert "SECRET_KEY" in faults(**without("SECRET_KEY"))
    assert faults(**PRODUCTION, ENVIRONMENT="staging").keys() == {"ENVIRONMENT"}


@pytest.mark.parametrize("name", PRODUCTION)
def test_production_has_no_default_for_what_must_be_chosen(faults, name):
    assert faults(**without(name)).keys() == {name}


def test_all_malformed_variables_are_named_at_once(faults):
    named = faults(
        ENVIRONMENT="production",
        LOG_FORMAT="xml",
        LOG_LEVEL="LOUD",
        CHARGE_DEADLINE="soon",
        WORKER_THREADS="0",
        WEB_THREADS="0",
    )
    assert named.keys() >= {
        "SECRET_KEY", "JWT_SIGNING_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "ENCRYPTION_KEYS",
        "LOG_FORMAT", "LOG_LEVEL", "CHARGE_DEADLINE", "WORKER_THREADS", "WEB_THREADS",
    }  # fmt: skip


@pytest.mark.parametrize("seconds", ["-1", "1e12", "inf"])
def test_dead_letters_are_kept_for_a_time_that_the_calendar_has(faults, seconds):
    assert faults(**PRODUCTION, DEAD_LETTERS_KEPT_FOR=seconds).keys() == {"DEAD_LETTERS_KEPT_FOR"}


@pytest.mark.parametrize("url", ["None", "localhost:5672", "http://mq.example.com/"])
def test_a_url_that_is_not_rabbitmqs_is_no_traceback(faults, url):
    assert faults(**{**PRODUCTION, "RABBITMQ_URL": url}).keys() == {"RABBITMQ_URL"}


def test_all_contradictions_are_named_at_once(faults):
    named = faults(
        **{**PRODUCTION, "SECRET_KEY": DEVELOPMENT_SECRET, "JWT_SIGNING_KEY": DEVELOPMENT_SECRET, "ALLOWED_HOSTS": "*"}
        | {"RABBITMQ_URL": "", "CHARGE_LEASE": "30", "CHARGE_DEADLINE": "20"}
    )
    assert named.keys() == {"SECRET_KEY", "JWT_SIGNING_KEY", "ALLOWED_HOSTS", "RABBITMQ_URL", "CHARGE_LEASE"}


def test_a_missing_variable_does_not_hide_the_other_faults(faults):
    named = faults(**{**without("SECRET_KEY"), "ALLOWED_HOSTS": "*", "RABBITMQ_URL": "", "CHARGE_LEASE": "1"})
    assert named.keys() == {"SECRET_KEY", "ALLOWED_HOSTS", "RABBITMQ_URL", "CHARGE_LEASE"}


@pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SIGNING_KEY", "ENCRYPTION_KEYS"])
def test_production_refuses_the_published_secret(faults, name):
    assert faults(**{**PRODUCTION, name: DEVELOPMENT_SECRET}).keys() == {name}


@pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SIGNING_KEY", "DATABASE_URL", "ENCRYPTION_KEYS"])
def test_production_refuses_a_variable_that_is_set_to_nothing(faults, name):
    """What `NAME=${NAME}` gives in a compose file when nobody has set it."""
    assert faults(**{**PRODUCTION, name: ""}).keys() == {name}


def test_production_refuses_a_signing_key_that_can_be_guessed(faults):
    """RFC 7518, section 3.2: a key for HS256 has at least 256 bits."""
    assert faults(**{**PRODUCTION, "JWT_SIGNING_KEY": "short"}).keys() == {"JWT_SIGNING_KEY"}


@pytest.mark.parametrize("value", ["1", "true", "True", "yes", "on"])
def test_production_names_a_debug_mode_that_somebody_asks_for(faults, read, value):
    assert faults(**PRODUCTION, DEBUG=value).keys() == {"DEBUG"}
    read(**LOCAL, DEBUG=value)


@pytest.mark.parametrize("value", ["", "0", "false", "no", "off"])
def test_a_debug_mode_that_is_off_is_no_fault(read, value):
    read(**PRODUCTION, DEBUG=value)


def test_production_refuses_a_whole_top_level_domain(faults, read):
    assert faults(**{**PRODUCTION, "ALLOWED_HOSTS": "pay.example.com,.com"}).keys() == {"ALLOWED_HOSTS"}
    read(**{**PRODUCTION, "ALLOWED_HOSTS": ".example.com"})


def test_production_refuses_one_secret_for_two_purposes(faults):
    named = faults(**{**PRODUCTION, "JWT_SIGNING_KEY": PRODUCTION["SECRET_KEY"]})
    assert named.keys() == {"JWT_SIGNING_KEY"}


@pytest.mark.parametrize("hosts", ["*", "pay.example.com,*"])
def test_production_refuses_to_answer_to_any_host(faults, hosts):
    assert faults(**{**PRODUCTION, "ALLOWED_HOSTS": hosts}).keys() == {"ALLOWED_HOSTS"}


def test_a_lease_that_a_slow_call_could_outlive_is_refused_everywhere(faults, read):
    local = {"ENVIRONMENT": "development", "DATABASE_URL": "postgres://localhost/payments", "CHARGE_DEADLINE": "10"}
    assert faults(**local, CHARGE_LEASE="19.9").keys() == {"CHARGE_LEASE"}
    assert read(**local, CHARGE_LEASE="20").charge_lease == 20


def test_a_refusal_shows_no_secret(read):
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(**{**PRODUCTION, "ALLOWED_HOSTS": "*", "JWT_SIGNING_KEY": PRODUCTION["SECRET_KEY"]})
    assert PRODUCTION["SECRET_KEY"] not in str(refusal.value)


SOUND = "whsec_" + base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize("secrets", [[SOUND], [SOUND, "whsec_" + base64.b64encode(bytes(24)).decode()]])
def test_the_secrets_of_webhooks_are_read(read, secrets):
    environment = read(ENVIRONMENT="production", **PRODUCTION, SANDBOX_WEBHOOK_SECRET=",".join(secrets))
    assert environment.sandbox_webhook_secrets == secrets


def test_without_a_secret_there_are_no_webhooks(read):
    assert read(ENVIRONMENT="production", **PRODUCTION, SANDBOX_WEBHOOK_SECRET="").sandbox_webhook_secrets == []


@pytest.mark.parametrize(
    "secret",
    ["changeme", f"{SOUND},", f",{SOUND}", "whsec_", "whsec_****", "whsec_c2hvcnQ=", SOUND.removeprefix("whsec_")],
)
def test_a_secret_of_webhooks_that_anybody_could_guess_is_refused(faults, secret):
    assert (
        "whsec_"
        in faults(ENVIRONMENT="production", **PRODUCTION, SANDBOX_WEBHOOK_SECRET=secret)["SANDBOX_WEBHOOK_SECRET"]
    )


NAMES = {"production": "ENVIRONMENT", "sandbox_webhook_secrets": "SANDBOX_WEBHOOK_SECRET"}
VARIABLES = [NAMES.get(field.name, field.name.upper()) for field in fields(Environment)]


@pytest.mark.parametrize("name", VARIABLES)
def test_no_variable_is_unknown_to_people_or_kept_from_containers(name):
    assert re.search(rf"^#?{name}=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert re.search(rf"^ +{name}(_FILE)?:", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)


# --- each process its own secrets


@pytest.mark.parametrize("process", [name for name in PROCESSES if name])
@pytest.mark.parametrize("secret", ["SECRET_KEY", "JWT_SIGNING_KEY", "ENCRYPTION_KEYS"])
def test_a_process_starts_without_the_secrets_that_it_does_not_need_and_with_no_other_missing(
    read, faults, process, secret
):
    given = {"ENVIRONMENT": "production", **without(secret), "PROCESS": process}
    if process in NEEDED_BY[secret]:
        assert faults(**given).keys() == {secret}
    else:
        found = getattr(read(**given), secret.lower())
        assert found == [] if secret == "ENCRYPTION_KEYS" else len(found) >= 32  # a name


def test_what_a_process_signs_without_the_key_is_believed_by_no_other(read):
    given = {"ENVIRONMENT": "production", **without("SECRET_KEY"), "PROCESS": "worker"}
    assert read(**given).secret_key != read(**given).secret_key


def test_a_password_of_its_own_completes_a_url(read, monkeypatch):
    for name, password in (("DATABASE", "a:b/c@d%"), ("RABBITMQ", "x"), ("REDIS", "y")):
        monkeypatch.setenv(f"{name}_PASSWORD", password)
    urls = {
        "DATABASE_URL": "postgres://payments_web@postgres:5432/payments",
        "RABBITMQ_URL": "amqp://relay@rabbitmq:5672/%2F",
        "REDIS_URL": "redis://limits@redis:6379/0",
    }
    values = read(**{**PRODUCTION, **urls})
    assert dj_database_url.parse(values.database_url)["PASSWORD"] == "a:b/c@d%"
    assert values.rabbitmq_url == "amqp://relay:x@rabbitmq:5672/%2F"
    assert values.redis_url == "redis://limits:y@redis:6379/0"
    assert read(**PRODUCTION).database_url == PRODUCTION["DATABASE_URL"], "one that the URL has stays"


def test_who_sends_no_sms_needs_no_token_for_them(read, faults):
    twilio = {"SMS_BACKEND": "twilio", "TWILIO_ACCOUNT_SID": f"AC{'0' * 32}", "TWILIO_FROM": "+15005550006"}
    given = {"ENVIRONMENT": "production", **PRODUCTION, **twilio}
    assert read(**given, PROCESS="relay").sms_backend == "twilio"
    assert faults(**given, PROCESS="notifier").keys() == {"TWILIO_AUTH_TOKEN"}


# --- Notifications

LOCAL = {"ENVIRONMENT": "development", "DATABASE_URL": "postgres://localhost/payments"}
TWILIO = {
    "SMS_BACKEND": "twilio",
    "TWILIO_ACCOUNT_SID": "AC" + "0f" * 16,
    "TWILIO_AUTH_TOKEN": "token",
    "TWILIO_FROM": "+15005550006",
}
SMTP = {"EMAIL_BACKEND": "smtp", "EMAIL_HOST": "mail.example.com", "EMAIL_FROM": "Shop <payments@example.com>"}


def test_in_production_nobody_is_told_before_it_is_configured(read):
    environment = read(**PRODUCTION)
    assert (environment.email_backend, environment.sms_backend) == ("off", "off")
    assert environment.webhook_private_targets is False


def test_in_development_nothing_leaves_the_machine(read):
    environment = read(**LOCAL)
    assert (environment.email_backend, environment.sms_backend) == ("file", "file")
    assert environment.anymail == {}


def test_an_old_encryption_key_is_kept_behind_the_new_one(read):
    keys = ["n" * 32, "o" * 32]
    assert read(**{**PRODUCTION, "ENCRYPTION_KEYS": ",".join(keys)}).encryption_keys == keys


@pytest.mark.parametrize("keys", ["short", f"{'n' * 32},", f"{'n' * 32},short"])
def test_production_refuses_an_encryption_key_that_can_be_guessed(faults, keys):
    assert faults(**{**PRODUCTION, "ENCRYPTION_KEYS": keys}).keys() == {"ENCRYPTION_KEYS"}


def test_production_refuses_webhooks_into_its_own_network(faults):
    assert faults(**PRODUCTION, WEBHOOK_PRIVATE_TARGETS="true").keys() == {"WEBHOOK_PRIVATE_TARGETS"}


@pytest.mark.parametrize("seconds", ["0", "604799", "1e12", "inf"])
def test_deliveries_are_kept_for_as_long_as_they_may_be_asked_for(faults, seconds):
    assert faults(**PRODUCTION, DELIVERIES_KEPT_FOR=seconds).keys() == {"DELIVERIES_KEPT_FOR"}


@pytest.mark.parametrize(
    "name", ["sendmail", "SMTP", "", "anymail.backends.nope.EmailBackend", "anymail.backends.mailgun", "os.system"]
)
def test_a_mail_backend_that_nobody_has_is_refused(faults, name):
    assert "anymail" in faults(**LOCAL, EMAIL_BACKEND=name)["EMAIL_BACKEND"]


@pytest.mark.parametrize("text", ["{", "[]", "7", '"text"', "null", "key=value"])
def test_settings_of_a_mail_provider_that_are_no_object_are_refused(faults, text):
    assert faults(**LOCAL, ANYMAIL=text).keys() == {"ANYMAIL"}


def test_settings_of_a_mail_provider_are_read(read):
    name = "anymail.backends.mailgun.EmailBackend"
    environment = read(
        **PRODUCTION, EMAIL_BACKEND=name, EMAIL_FROM="pay@example.com", ANYMAIL='{"MAILGUN_API_KEY": "k"}'
    )
    assert environment.anymail == {"MAILGUN_API_KEY": "k"}


@pytest.mark.parametrize("sender", ["", "nonsense", "Shop", "a@b@c"])
def test_mail_from_nobody_is_refused(faults, sender):
    assert faults(**LOCAL, EMAIL_FROM=sender).keys() == {"EMAIL_FROM"}


def test_production_refuses_mail_that_nobody_can_trace_back(faults, read):
    assert faults(**PRODUCTION, EMAIL_BACKEND="smtp").keys() == {"EMAIL_FROM"}
    assert read(**PRODUCTION, **SMTP).email_from == "Shop <payments@example.com>"


def test_a_password_of_a_mail_server_never_travels_in_clear(faults, read):
    assert faults(**PRODUCTION, **SMTP, EMAIL_HOST_PASSWORD="hunter2").keys() == {"EMAIL_SECURITY"}
    assert read(**PRODUCTION, **SMTP, EMAIL_HOST_PASSWORD="hunter2", EMAIL_SECURITY="starttls")
    assert read(**PRODUCTION, **{**SMTP, "EMAIL_HOST": "localhost"}, EMAIL_HOST_PASSWORD="hunter2")


def test_twilio_without_an_account_is_refused(faults, read):
    assert faults(**LOCAL, SMS_BACKEND="twilio").keys() == set(TWILIO) - {"SMS_BACKEND"}
    assert faults(**LOCAL, **{**TWILIO, "TWILIO_ACCOUNT_SID": "AC12"}).keys() == {"TWILIO_ACCOUNT_SID"}
    assert read(**LOCAL, **TWILIO).twilio_from == "+15005550006"


def test_twilios_credentials_never_travel_in_clear(faults, read):
    assert faults(**PRODUCTION, **TWILIO, TWILIO_URL="http://api.example.com").keys() == {"TWILIO_URL"}
    assert read(**LOCAL, **TWILIO, TWILIO_URL="http://127.0.0.1:9000").twilio_url == "http://127.0.0.1:9000"


def test_all_that_is_wrong_with_notifications_is_named_at_once(faults):
    named = faults(
        **{**LOCAL, "EMAIL_BACKEND": "sendmail", "EMAIL_PORT": "0", "EMAIL_SECURITY": "ssl", "ANYMAIL": "{"}
        | {"SMS_BACKEND": "pigeon", "NOTIFICATION_THREADS": "0", "DELIVERIES_KEPT_FOR": "soon", "ENCRYPTION_KEYS": ""}
    )
    assert named.keys() == {
        "EMAIL_BACKEND", "EMAIL_PORT", "EMAIL_SECURITY", "ANYMAIL",
        "SMS_BACKEND", "NOTIFICATION_THREADS", "DELIVERIES_KEPT_FOR", "ENCRYPTION_KEYS",
    }  # fmt: skip


def test_a_refusal_of_notifications_shows_no_secret(read):
    secrets = {"EMAIL_HOST_PASSWORD": "hunter2", "TWILIO_AUTH_TOKEN": "hunter2", "ANYMAIL": '{"KEY": "hunter2"'}
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(**PRODUCTION, **SMTP, **{**TWILIO, **secrets})
    assert "hunter2" not in str(refusal.value)


# --- Production


SECRETS = ["SECRET_KEY", "JWT_SIGNING_KEY", "ENCRYPTION_KEYS"]
FALLBACKS = ["SECRET_KEY_FALLBACKS", "JWT_SIGNING_KEY_FALLBACKS"]
OTHERS = [*FALLBACKS, "METRICS_TOKEN"]


@pytest.mark.parametrize("name", [*SECRETS, *OTHERS])
@pytest.mark.parametrize("bad", [DEVELOPMENT_SECRET, f"{DEVELOPMENT_SECRET}!", "short"])
def test_production_names_every_secret_that_others_know_or_can_guess(faults, name, bad):
    assert faults(**{**PRODUCTION, name: bad}).keys() == {name}


@pytest.mark.parametrize("name", [*FALLBACKS, "ENCRYPTION_KEYS"])
def test_one_bad_key_hides_behind_no_good_one(faults, name):
    assert faults(**{**PRODUCTION, name: f"{'g' * 40},short"}).keys() == {name}


@pytest.mark.parametrize("name", [*OTHERS, "ENCRYPTION_KEYS", "JWT_SIGNING_KEY"])
def test_no_secret_of_production_serves_a_second_purpose(faults, name):
    """An old key that is the new one was not rotated; a metrics token that signs sessions is in a scraper's file."""
    assert faults(**{**PRODUCTION, name: PRODUCTION["SECRET_KEY"]}).keys() == {name}


def test_a_signing_key_is_no_fallback_of_the_other(faults):
    named = faults(**PRODUCTION, SECRET_KEY_FALLBACKS=PRODUCTION["JWT_SIGNING_KEY"])
    assert "JWT_SIGNING_KEY" in named["SECRET_KEY_FALLBACKS"]


@pytest.mark.parametrize("hosts", ["*.example.com", ".", "pay.example.com,.,*"])
def test_production_refuses_hosts_that_are_anybodys(faults, hosts):
    assert faults(**{**PRODUCTION, "ALLOWED_HOSTS": hosts}).keys() == {"ALLOWED_HOSTS"}


def test_production_refuses_forms_from_anywhere(faults):
    assert faults(**PRODUCTION, CSRF_TRUSTED_ORIGINS="https://*.example.com").keys() == {"CSRF_TRUSTED_ORIGINS"}


def test_production_with_fallbacks_and_a_token_is_read(read):
    old = {"SECRET_KEY_FALLBACKS": "o" * 40, "JWT_SIGNING_KEY_FALLBACKS": f"{'p' * 40},{'q' * 40}"}
    environment = read(**PRODUCTION, **old, METRICS_TOKEN="m" * 40)
    assert environment.jwt_signing_key_fallbacks == ["p" * 40, "q" * 40]


# --- Secrets from files


@pytest.fixture
def file(tmp_path):
    """Write a text into a file; its path."""

    def write(text, name="secret"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


#: Name -> a value that production takes.
FROM_FILES = {
    **PRODUCTION,
    "SECRET_KEY_FALLBACKS": "o" * 40,
    "JWT_SIGNING_KEY_FALLBACKS": "p" * 40,
    "REDIS_URL": "redis://:hunter2@cache.example.com:6379/0",
    "SANDBOX_WEBHOOK_SECRET": SOUND,
    "EMAIL_HOST_PASSWORD": "hunter2",
    "EMAIL_SECURITY": "starttls",
    "ANYMAIL": '{"MAILGUN_API_KEY": "k"}',
    "TWILIO_AUTH_TOKEN": "hunter2",
    "METRICS_TOKEN": "m" * 40,
}


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_secret_is_read_from_the_file_that_it_is_in(read, file, name):
    """Just as from the environment, but for the line break at its end."""
    direct = read(**{**PRODUCTION, name: FROM_FILES[name]})
    assert read(**without(name), **{f"{name}_FILE": file(f"{FROM_FILES[name]}\n")}) == direct


@pytest.mark.parametrize("name", ["SECRET_KEY", "DATABASE_URL", "REDIS_URL", "ANYMAIL", "WORKER_THREADS"])
def test_a_file_that_cannot_be_read_is_named_with_all_other_faults(faults, file, tmp_path, name):
    (tmp_path / "noise").write_bytes(b"\xff\xfe\x00")
    for path in (str(tmp_path / "missing"), str(tmp_path), str(tmp_path / "noise"), "a\udcffb"):
        named = faults(**without(name), **{f"{name}_FILE": path, "LOG_LEVEL": "LOUD"})
        assert named.keys() == {name, "LOG_LEVEL"}
        assert f"{name}_FILE" in named[name]
    named = faults(
        **without(name), **{f"{name}_FILE": file(" \n"), "TWILIO_AUTH_TOKEN_FILE": str(tmp_path / "missing")}
    )
    assert named.keys() == {name, "TWILIO_AUTH_TOKEN"}
    assert "empty" in named[name]


def test_a_secret_in_both_places_is_none_that_anybody_chose(faults, file):
    named = faults(**PRODUCTION, SECRET_KEY_FILE=file("x" * 50))
    assert named.keys() == {"SECRET_KEY"}
    assert "SECRET_KEY_FILE" in named["SECRET_KEY"]


def test_a_variable_that_is_set_to_nothing_leaves_the_place_to_its_file(read, file):
    """What `NAME=${NAME}` gives in a compose file when nobody has set it."""
    assert read(**{**PRODUCTION, "SECRET_KEY": "", "SECRET_KEY_FILE": file("x" * 50)}).secret_key == "x" * 50


def test_a_weak_secret_is_as_weak_in_a_file(faults, file):
    assert faults(**without("SECRET_KEY"), SECRET_KEY_FILE=file(DEVELOPMENT_SECRET)).keys() == {"SECRET_KEY"}


def test_a_secret_that_was_taken_for_a_file_name_is_not_told(read):
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(**without("SECRET_KEY"), SECRET_KEY_FILE=PRODUCTION["SECRET_KEY"])
    assert PRODUCTION["SECRET_KEY"] not in str(refusal.value)


@pytest.mark.parametrize("name", [name for name in FROM_FILES if name not in {"ALLOWED_HOSTS", "EMAIL_SECURITY"}])
def test_people_are_told_which_secrets_may_come_from_files(name):
    assert f"{name}_FILE" in (ROOT / ".env.example").read_text()
