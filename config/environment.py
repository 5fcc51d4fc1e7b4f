"""What the environment says: every variable, read once, all mistakes reported at once.

`.env.example` documents the same variables for people.
"""

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from importlib.util import find_spec
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email
from environs import EnvValidationError, validate

from config.process_secrets import PROCESSES, needs, secret_default, throwaway, with_password
from config.secret_files import EnvOrFiles

#: Development secrets, good enough for a laptop and refused in production.
DEVELOPMENT_SECRET: Final = "development-only-secret-never-use-it-where-money-is-real"  # noqa: S105  # published on purpose

#: A merchant's slug, or none.
SLUG: Final = re.compile(r"[-a-zA-Z0-9_]{0,50}\Z")

#: How mail goes out: not at all, by one of Django's own backends, or by one of django-anymail's.
EMAIL: Final = validate.Regexp(
    r"(off|console|file|smtp|anymail\.backends\.[a-z_]+\.EmailBackend)\Z",
    error="must be off, console, file, smtp or one of django-anymail's, such as anymail.backends.mailgun.EmailBackend.",
)
SMS: Final = ["off", "console", "file", "twilio"]
#: https://www.twilio.com/docs/glossary/what-is-a-sid
ACCOUNT_SID: Final = re.compile(r"AC[0-9a-fA-F]{32}\Z")

#: Where Redis is; what redis-py takes.
REDIS: Final = re.compile(r"(?:(?:rediss?|unix)://\S+)?\Z")
REDIS_FAULT: Final = "must begin with redis:// or rediss://; it looks like redis://:password@host:6379/0."
#: A rate as django-ratelimit writes it: a number for each second, minute, hour or day.
RATE: Final = validate.Regexp(re.compile(r"[1-9][0-9]{0,8}/[smhd]\Z"), error="must look like 100/m: s, m, h or d.")
#: A folder of the console's own, out of the API's way.
ADMIN_PATH: Final = re.compile(r"(?!(?:api|docs|problems|static|metrics|health|livez|readyz)\Z)[a-zA-Z0-9_-]{1,64}\Z")
ADMIN_PATH_FAULT: Final = "must be one word of letters, digits, - and _, and none of our other addresses."
#: Sums in major units, by currency or for all others: `EUR=10000,JPY=1500000,*=10000`.
SUMS: Final = re.compile(r"(?:(?:[A-Z]{3}|\*)=[0-9]{1,15}(?:\.[0-9]{1,4})?(?:,(?!\Z)|\Z))*\Z")
SUMS_FAULT: Final = "must look like EUR=10000,JPY=1500000,*=10000; empty: never."

#: What people write for yes.
TRUE: Final = frozenset({"1", "t", "true", "y", "yes", "on"})
#: A whole top-level domain, as Django writes it: `.com` lets every host of it in.
TOP_LEVEL: Final = re.compile(r"\.[^.]+\.?\Z")

#: What travels between these and us leaves no machine.
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

#: HS256 wants a key as long as its hash, 256 bits (RFC 7518, section 3.2).
SHORTEST_SECRET: Final = 32

#: Payments in one message at most: what fails of as many is recorded by one statement, in less than a second.
MAX_PAYMENTS_PER_MESSAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Environment:
    """The values of the environment variables of the same names, in upper case."""

    production: bool
    process: str
    secret_key: str
    jwt_signing_key: str
    secret_key_fallbacks: list[str]
    jwt_signing_key_fallbacks: list[str]
    allowed_hosts: list[str]
    csrf_trusted_origins: list[str]
    database_url: str
    rabbitmq_url: str
    redis_url: str
    intake_default_merchant: str
    sandbox_url: str
    log_format: str
    log_level: str
    behind_tls_proxy: bool
    charge_deadline: float
    charge_lease: float
    payment_max_age: float
    dead_letters_kept_for: float
    breaker_min_calls: int
    breaker_failure_rate: float
    breaker_window: float
    breaker_open_for: float
    sandbox_webhook_secrets: list[str]
    revive_after: float
    rescue_every: float
    worker_threads: int
    payments_per_message: int
    notification_threads: int
    web_threads: int
    encryption_keys: list[str]
    webhook_private_targets: bool
    deliveries_kept_for: float
    email_backend: str
    email_from: str
    email_folder: str
    email_host: str
    email_port: int
    email_host_user: str
    email_host_password: str
    email_security: str
    anymail: Any  # a JSON object; `email_faults` sees to it
    sms_backend: str
    sms_folder: str
    twilio_account_sid: str
    twilio_auth_token: str
    twilio_from: str
    twilio_url: str
    admin_path: str
    admin_second_factor: bool
    admin_idle: int
    admin_confirm_every: int
    metrics_token: str
    trusted_proxies: int
    limit_reads: str
    limit_writes: str
    limit_logins: str
    limit_strangers: str
    limit_gateway_events: str
    creation_burst: int
    creation_rate: float
    declines_per_payer: int
    declines_per_merchant: int
    four_eyes_above: str


def read_environment() -> Environment:
    """Read and check all variables.

    Raises:
        ImproperlyConfigured: with one line for each variable that is missing or wrong.
    """
    env = EnvOrFiles()
    production = env.str("ENVIRONMENT", "production", validate=validate.OneOf(["production", "development"]))
    is_production = production != "development"
    process = env.str("PROCESS", "", validate=validate.OneOf(PROCESSES))
    # In production these have no default: a process that needs them does not start without them.
    development = None if is_production else DEVELOPMENT_SECRET
    key_default = secret_default(process, "SECRET_KEY", development=development, unneeded=throwaway())
    jwt_default = secret_default(process, "JWT_SIGNING_KEY", development=development, unneeded=throwaway())
    keys_default = secret_default(
        process, "ENCRYPTION_KEYS", development=None if is_production else [DEVELOPMENT_SECRET], unneeded=[]
    )
    host_default: Any = {} if is_production else {"default": ["127.0.0.1", "localhost", "[::1]"]}
    values = Environment(
        production=is_production,
        process=process,
        secret_key=env.str("SECRET_KEY", **key_default),
        jwt_signing_key=env.str("JWT_SIGNING_KEY", **jwt_default),
        secret_key_fallbacks=env.list("SECRET_KEY_FALLBACKS", []),
        jwt_signing_key_fallbacks=env.list("JWT_SIGNING_KEY_FALLBACKS", []),
        allowed_hosts=env.list("ALLOWED_HOSTS", **host_default),
        csrf_trusted_origins=env.list("CSRF_TRUSTED_ORIGINS", []),
        database_url=with_password(env.str("DATABASE_URL") or "", env.str("DATABASE_PASSWORD", "")),
        rabbitmq_url=with_password(env.str("RABBITMQ_URL", ""), env.str("RABBITMQ_PASSWORD", "")),
        redis_url=with_password(
            env.str("REDIS_URL", "", validate=validate.Regexp(REDIS, error=REDIS_FAULT)) or "",
            env.str("REDIS_PASSWORD", ""),
        ),
        intake_default_merchant=env.str("INTAKE_DEFAULT_MERCHANT", "", validate=validate.Regexp(SLUG)),
        sandbox_url=env.str("SANDBOX_URL", ""),
        log_format=env.str("LOG_FORMAT", "json", validate=validate.OneOf(["json", "console"])),
        log_level=env.str("LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"])),
        behind_tls_proxy=env.bool("BEHIND_TLS_PROXY", False),
        charge_deadline=env.float("CHARGE_DEADLINE", 20.0, validate=validate.Range(min=0.1, max=60)),
        charge_lease=env.float("CHARGE_LEASE", 60.0, validate=validate.Range(min=0.5, max=600)),
        payment_max_age=env.float("PAYMENT_MAX_AGE", 86_400.0, validate=validate.Range(min=1, max=2_592_000)),
        # At most a hundred years: what is longer lies before the calendar, and `manage.py prune` would fail.
        dead_letters_kept_for=env.float(
            "DEAD_LETTERS_KEPT_FOR", 90 * 86_400.0, validate=validate.Range(min=0, max=3_153_600_000)
        ),
        breaker_min_calls=env.int("BREAKER_MIN_CALLS", 20, validate=validate.Range(min=1, max=200)),
        breaker_failure_rate=env.float("BREAKER_FAILURE_RATE", 0.5, validate=validate.Range(min=0.01, max=1)),
        breaker_window=env.float("BREAKER_WINDOW", 30.0, validate=validate.Range(min=1, max=3600)),
        breaker_open_for=env.float("BREAKER_OPEN_FOR", 10.0, validate=validate.Range(min=0.1, max=3600)),
        sandbox_webhook_secrets=env.list("SANDBOX_WEBHOOK_SECRET", []),
        revive_after=env.float("REVIVE_AFTER", 60.0, validate=validate.Range(min=0.5, max=600)),
        rescue_every=env.float("RESCUE_EVERY", 2.0, validate=validate.Range(min=0.1, max=60)),
        worker_threads=env.int("WORKER_THREADS", 8, validate=validate.Range(min=1, max=128)),
        payments_per_message=env.int(
            "PAYMENTS_PER_MESSAGE", 64, validate=validate.Range(min=1, max=MAX_PAYMENTS_PER_MESSAGE)
        ),
        notification_threads=env.int("NOTIFICATION_THREADS", 4, validate=validate.Range(min=1, max=128)),
        web_threads=env.int("WEB_THREADS", 12, validate=validate.Range(min=1, max=128)),
        encryption_keys=env.list("ENCRYPTION_KEYS", **keys_default),
        webhook_private_targets=env.bool("WEBHOOK_PRIVATE_TARGETS", not is_production),
        deliveries_kept_for=env.float(
            "DELIVERIES_KEPT_FOR", 90 * 86_400.0, validate=validate.Range(min=604_800, max=3_153_600_000)
        ),
        email_backend=env.str("EMAIL_BACKEND", "off" if is_production else "file", validate=EMAIL),
        email_from=env.str("EMAIL_FROM", "payments@localhost"),
        email_folder=env.str("EMAIL_FOLDER", ".data/mail"),
        email_host=env.str("EMAIL_HOST", "localhost"),
        email_port=env.int("EMAIL_PORT", 25, validate=validate.Range(min=1, max=65535)),
        email_host_user=env.str("EMAIL_HOST_USER", ""),
        email_host_password=env.str("EMAIL_HOST_PASSWORD", ""),
        email_security=env.str("EMAIL_SECURITY", "none", validate=validate.OneOf(["none", "starttls", "tls"])),
        anymail=env.json("ANYMAIL", {}),
        sms_backend=env.str("SMS_BACKEND", "off" if is_production else "file", validate=validate.OneOf(SMS)),
        sms_folder=env.str("SMS_FOLDER", ".data/sms"),
        twilio_account_sid=env.str("TWILIO_ACCOUNT_SID", ""),
        twilio_auth_token=env.str("TWILIO_AUTH_TOKEN", ""),
        twilio_from=env.str("TWILIO_FROM", ""),
        twilio_url=env.str("TWILIO_URL", "https://api.twilio.com"),
        admin_path=env.str("ADMIN_PATH", "admin", validate=validate.Regexp(ADMIN_PATH, error=ADMIN_PATH_FAULT)),
        admin_second_factor=env.bool("ADMIN_SECOND_FACTOR", is_production),
        admin_idle=env.int("ADMIN_IDLE", 1800, validate=validate.Range(min=60, max=86_400)),
        admin_confirm_every=env.int("ADMIN_CONFIRM_EVERY", 600, validate=validate.Range(min=10, max=86_400)),
        metrics_token=env.str("METRICS_TOKEN", ""),
        trusted_proxies=env.int("TRUSTED_PROXIES", 0, validate=validate.Range(min=0, max=10)),
        limit_reads=env.str("LIMIT_READS", "6000/m", validate=RATE),
        limit_writes=env.str("LIMIT_WRITES", "600/m", validate=RATE),
        limit_logins=env.str("LIMIT_LOGINS", "20/m", validate=RATE),
        limit_strangers=env.str("LIMIT_STRANGERS", "60/m", validate=RATE),
        limit_gateway_events=env.str("LIMIT_GATEWAY_EVENTS", "6000/m", validate=RATE),
        creation_burst=env.int("CREATION_BURST", 2000, validate=validate.Range(min=1, max=1_000_000)),
        creation_rate=env.float("CREATION_RATE", 100.0, validate=validate.Range(min=0.001, max=100_000)),
        declines_per_payer=env.int("DECLINES_PER_PAYER", 10, validate=validate.Range(min=0, max=100_000)),
        declines_per_merchant=env.int("DECLINES_PER_MERCHANT", 1000, validate=validate.Range(min=0, max=1_000_000)),
        four_eyes_above=env.str("FOUR_EYES_ABOVE", "*=10000", validate=validate.Regexp(SUMS, error=SUMS_FAULT)),
    )
    faults = contradictions(values)  # what is missing altogether is said in its place, below
    if is_production and env.str("DEBUG", "").lower() in TRUE:
        faults["DEBUG"] = ["must not be set in production: there is no debug mode, and whoever wants one is mistaken."]
    try:
        env.seal()
    except EnvValidationError as error:
        malformed: Any = error.error_messages  # from an `Env`, always a mapping
        faults |= malformed
    faults |= env.file_faults  # behind such a fault, others about the same variable say nothing
    if faults:
        raise ImproperlyConfigured(explain(faults))
    return values


def contradictions(values: Environment) -> dict[str, list[str]]:
    """Values that are well formed one by one and wrong together, or not good enough. Missing ones are None."""
    faults: dict[str, list[str]] = {}
    if values.charge_lease and values.charge_deadline and values.charge_lease < 2 * values.charge_deadline:
        faults["CHARGE_LEASE"] = ["must be at least twice CHARGE_DEADLINE, or a slow call outlives its lease."]
    if not all(is_webhook_secret(secret) for secret in values.sandbox_webhook_secrets or []):
        faults["SANDBOX_WEBHOOK_SECRET"] = ["must be `whsec_` and the base64 of 24 to 64 random bytes, or two of them."]
    if values.database_url == "":
        faults["DATABASE_URL"] = ["is empty; it looks like postgres://user:password@host/database."]
    if values.rabbitmq_url and not values.rabbitmq_url.startswith(("amqp://", "amqps://")):
        faults["RABBITMQ_URL"] = ["must begin with amqp:// or amqps://; it looks like amqp://user:password@host/%2F."]
    if values.encryption_keys == [] and needs(values.process, "ENCRYPTION_KEYS"):
        faults["ENCRYPTION_KEYS"] = ["is empty; `openssl rand -hex 32` makes a key."]
    faults |= email_faults(values) | twilio_faults(values)
    return faults | secret_faults(values) | production_faults(values) if values.production else faults


def email_faults(values: Environment) -> dict[str, list[str]]:
    """What keeps every mail from going out, or a password from staying secret."""
    faults: dict[str, list[str]] = {}
    if not isinstance(values.anymail, dict):
        faults["ANYMAIL"] = ['must be a JSON object, such as {"MAILGUN_API_KEY": "…"}.']
    backend = values.email_backend or "off"
    if "." in backend and find_spec(backend.rpartition(".")[0]) is None:
        faults["EMAIL_BACKEND"] = ["is none of django-anymail's; https://anymail.dev lists them."]
    if backend != "off" and not is_sender(parseaddr(values.email_from or "")[1], production=values.production):
        faults["EMAIL_FROM"] = ["must be an address that your mail server sends from, such as payments@example.com."]
    if backend == "smtp" and sends_password_in_clear(values):
        faults["EMAIL_SECURITY"] = ["must be starttls or tls: the password would travel in clear."]
    return faults


def is_sender(address: str, *, production: bool) -> bool:
    """Whether mail could be sent from it. `localhost` will do on a developer's machine."""
    try:
        validate_email(address)
    except ValidationError:
        return False
    return not (production and address.endswith("@localhost"))


def sends_password_in_clear(values: Environment) -> bool:
    """Whether anybody between here and the mail server could read the password."""
    return bool(values.email_host_password) and values.email_security == "none" and values.email_host not in LOOPBACK


def twilio_faults(values: Environment) -> dict[str, list[str]]:
    """What Twilio would refuse every SMS for."""
    if values.sms_backend != "twilio":
        return {}
    needed = ["twilio_account_sid", "twilio_from"]
    if needs(values.process, "TWILIO_AUTH_TOKEN"):
        needed.append("twilio_auth_token")
    faults = {name.upper(): ["is needed for Twilio."] for name in needed if not getattr(values, name)}
    if values.twilio_account_sid and not ACCOUNT_SID.match(values.twilio_account_sid):
        faults["TWILIO_ACCOUNT_SID"] = ["is `AC` and 32 hexadecimal digits; Twilio's console shows it."]
    if not (values.twilio_url or "").startswith("https://" if values.production else ("https://", "http://")):
        faults["TWILIO_URL"] = ["must begin with https://: the credentials travel there."]
    return faults


def is_webhook_secret(text: str) -> bool:
    """Whether the text is a secret of Standard Webhooks 1.0, https://www.standardwebhooks.com."""
    prefix, _, encoded = text.partition("_")
    try:
        return prefix == "whsec" and 24 <= len(b64decode(encoded, validate=True)) <= 64
    except ValueError:
        return False


def secret_faults(values: Environment) -> dict[str, list[str]]:
    """Secrets that could be guessed, or that serve two purposes."""
    faults: dict[str, list[str]] = {}
    secrets = list(secrets_of(values))
    for name, secret in secrets:
        if DEVELOPMENT_SECRET in secret:
            faults[name] = ["is the published development secret; make one of your own."]
        elif len(secret) < SHORTEST_SECRET:
            faults[name] = [f"has fewer than {SHORTEST_SECRET} characters; make one with `openssl rand -hex 32`."]
    for position, (name, secret) in enumerate(secrets):
        earlier = [other for other, same in secrets[:position] if secret and secret == same]
        if earlier and name not in faults:
            faults[name] = [f"must differ from {twin_of(name, earlier)}, so that either can be rotated alone."]
    return faults


def secrets_of(values: Environment) -> Iterator[tuple[str, str]]:
    """All that signs, encrypts or opens a door -> what it is; what is missing altogether is said elsewhere."""
    yield "SECRET_KEY", values.secret_key or ""
    yield "JWT_SIGNING_KEY", values.jwt_signing_key or ""
    yield from (("ENCRYPTION_KEYS", key) for key in values.encryption_keys or [])
    yield from (("SECRET_KEY_FALLBACKS", key) for key in values.secret_key_fallbacks or [])
    yield from (("JWT_SIGNING_KEY_FALLBACKS", key) for key in values.jwt_signing_key_fallbacks or [])
    if values.metrics_token:
        yield "METRICS_TOKEN", values.metrics_token


def twin_of(name: str, earlier: list[str]) -> str:
    """Where the same secret stands, in words."""
    return "the others in it" if earlier[0] == name else earlier[0]


def production_faults(values: Environment) -> dict[str, list[str]]:
    """What is good enough on a laptop and nowhere else."""
    faults: dict[str, list[str]] = {}
    if values.webhook_private_targets:
        faults["WEBHOOK_PRIVATE_TARGETS"] = ["is for a developer's machine: merchants could reach into your network."]
    if any("*" in host or not host.strip(". ") for host in values.allowed_hosts or []):
        faults["ALLOWED_HOSTS"] = ["must name the hosts; '*' lets a forged Host header through."]
    if wide := [host for host in values.allowed_hosts or [] if TOP_LEVEL.match(host)]:
        faults["ALLOWED_HOSTS"] = [f"must name the hosts; {wide[0]} lets in every host below it."]
    if any("*" in origin for origin in values.csrf_trusted_origins or []):
        faults["CSRF_TRUSTED_ORIGINS"] = ["must name the origins; with '*' others could send forms to the console."]
    if not values.rabbitmq_url:
        faults["RABBITMQ_URL"] = ["is needed in production; the in-process broker is for development."]
    return faults


def explain(faults: Mapping[str, Any]) -> str:
    """One line for each bad variable, and where to read about them."""
    lines = [f"  {name}: {' '.join(messages)}" for name, messages in sorted(faults.items())]
    hint = "See .env.example. For a try-out on your own machine, `make run` sets all of them."
    return "\n".join(["The environment is not complete:", *lines, hint])
