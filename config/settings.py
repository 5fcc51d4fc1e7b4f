"""Django's settings, and the names by which the rooms of the house find each other.

Values come from `config.environment`; this module only arranges them.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import dj_database_url
import django_stubs_ext
import structlog

from config.environment import MAX_PAYMENTS_PER_MESSAGE, read_environment
from config.logs import logging_config, structlog_config

django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
ENV = read_environment()

# --- Django ---------------------------------------------------------------------------

DEBUG = False  # never: a worker with DEBUG keeps every query in memory
SECRET_KEY = ENV.secret_key
SECRET_KEY_FALLBACKS = ENV.secret_key_fallbacks
ALLOWED_HOSTS = ENV.allowed_hosts
CSRF_TRUSTED_ORIGINS = ENV.csrf_trusted_origins
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
APPEND_SLASH = False  # both spellings are routes of their own; a redirect would lose a POST body
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "merchants.User"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

INSTALLED_APPS = [
    "console.apps.ConsoleConfig",
    "payments.apps.PaymentsConfig",
    "notifications.apps.NotificationsConfig",
    "analytics.apps.AnalyticsConfig",
    "merchants.apps.MerchantsConfig",
    "messaging.apps.MessagingConfig",
    "django_dramatiq",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "console.apps.ConsoleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_filters",
    "django_prometheus",
    "django_structlog",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    "pgtrigger",
    "rest_framework",
    "axes",
]

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "console.probes.ProbeHostMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "console.page_middleware.CSPMiddleware",
    "console.security.HeadersMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",  # before the logging: nobody reads of style sheets
    "messaging.correlation.RequestIdMiddleware",
    "config.request_log.PathLoggingMiddleware",
    "merchants.limit_headers.LimitHeaders",
    "console.security.RefuseNulMiddleware",
    "console.request_semantics.RefuseIgnoredHeadersMiddleware",
    "console.page_middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "console.page_middleware.AuthenticationMiddleware",
    "console.page_middleware.OTPMiddleware",
    "console.page_middleware.LoginLimit",
    "console.page_middleware.MessageMiddleware",
    "console.page_middleware.GuardMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
#: Five failures lock one name at one address for a quarter of an hour: nobody can lock out somebody else from afar.
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # what is refused unread is not counted
AXES_CLIENT_IP_CALLABLE = "merchants.lockout.counted_address"
AXES_USERNAME_CALLABLE = "merchants.lockout.stored_name"
AXES_CLIENT_STR_CALLABLE = "merchants.lockout.in_logs"
AXES_LOCKOUT_CALLABLE = "merchants.lockout.answer"
AXES_DISABLE_ACCESS_LOG = True  # the audit has it
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
#: Its table of failures keeps what was posted, without these. A code that came with a wrong password still works.
AXES_SENSITIVE_PARAMETERS = [
    *("username", "ip_address", "csrfmiddlewaretoken"),
    *("code", "otp", "otp_token", "otp_challenge"),
]

# --- PostgreSQL -----------------------------------------------------------------------

# Connections live as long as their thread: a new one costs more than all the queries of a request.
DATABASES = {"default": dj_database_url.parse(ENV.database_url, conn_max_age=None, conn_health_checks=True)}
GIVEN_OPTIONS: dict[str, Any] = dict(DATABASES["default"].get("OPTIONS", {}))
DATABASES["default"]["OPTIONS"] = {
    **GIVEN_OPTIONS,
    # Parameters travel beside their statement, and what was asked five times is prepared: neither side writes and reads
    # it as SQL again. A pooler between must know prepared statements (PgBouncer does since 1.21).
    "server_side_binding": True,
    "prepare_threshold": 5,
    "options": " ".join(
        (
            # Rows are looked up on solid-state disks, or in memory: a plan that is kept must not have been made for
            # disks whose heads move, or it reads the whole of a table that was small when it was made.
            "-c random_page_cost=1.1",
            # A twin waits this long (ms) for the first request under its idempotency key, then gets a 409;
            # far below the web server's own time limit, far above the milliseconds an accept takes.
            "-c lock_timeout=2000",
            # A session that idles in a transaction longer than 30 s is a hung relay: its publish deadline is 10 s.
            "-c idle_in_transaction_session_timeout=30000",
            GIVEN_OPTIONS.get("options", ""),
        )
    ),
    "application_name": "payments",
    "connect_timeout": 5,
    # A network that swallows packets must not hold a worker: give up on unacknowledged bytes after 20 s.
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 20,
}

# --- Messages -------------------------------------------------------------------------

# Without RabbitMQ the relay process hosts Dramatiq's in-process broker and the workers. What a crash of that
# process loses, the rescue brings back, because the truth is in PostgreSQL.
DRAMATIQ_BROKER = {
    "BROKER": "messaging.broker.QuorumBroker" if ENV.rabbitmq_url else "dramatiq.brokers.stub.StubBroker",
    "OPTIONS": {"url": ENV.rabbitmq_url} if ENV.rabbitmq_url else {},
    "MIDDLEWARE": [
        "django_dramatiq.middleware.DbConnectionsMiddleware",
        "messaging.correlation.ActorRequestId",
    ],
}

#: What may be staged in the outbox -> the queue and actor that receive it.
MESSAGE_ROUTES = {
    "payment.due": ("payments", "process_payments"),
    "payment.look_up_due": ("payments", "look_up_payments"),
    "gateway_event.received": ("payments", "handle_gateway_events"),
    "unmatched_charge.refund_due": ("payments", "refund_unmatched_charges"),
    "resolution.due": ("payments", "continue_resolutions"),
    "event.written": ("notifications", "fan_out_events"),
    "delivery.message": ("notifications", "send_messages"),
    "delivery.webhook": ("webhooks", "call_webhooks"),
}
#: Whose messages are joined on their way, because many ids cost them little more than one -> how many ids at most.
LIST_ACTORS = {"process_payments": ENV.payments_per_message}
#: Actor -> the type of the ids in its messages. Messages with other ids never reach it (`messaging.message_check`).
ACTOR_ID_TYPES = {
    "process_payments": "uuid",
    "handle_gateway_events": "integer",
    "look_up_payments": "uuid",
    "refund_unmatched_charges": "integer",
    "continue_resolutions": "integer",
    "fan_out_events": "uuid",
    "send_messages": "uuid",
    "call_webhooks": "uuid",
}
#: Ids in one message at most, the same in every process: a relay and a worker may differ in PAYMENTS_PER_MESSAGE.
MAX_IDS_PER_MESSAGE = MAX_PAYMENTS_PER_MESSAGE
#: What may wait: messages to these queues go over the connection of the events, and no payment waits for them.
PATIENT_QUEUES = ["notifications", "webhooks"]
#: Which room of ours takes events straight from the outbox -> the topic of what it fails at, and what takes them.
EVENT_SUBSCRIBERS = {"notifications": ("event.written", "notifications.fan_out.take")}
#: What dead letters may be about -> who judges whether they may go back, and makes it ready.
DEAD_LETTER_OWNERS = {"payment": "payments.replay.OWNER", "delivery": "notifications.replay.OWNER"}
#: How long (seconds) a dead letter is kept once it is resolved; until then it is kept for ever.
DEAD_LETTERS_KEPT_FOR = ENV.dead_letters_kept_for
#: Where other services may publish payments to make, for `manage.py intake`.
INTAKE_QUEUE = "payment_initiation"
#: The slug of the merchant whose payments they are when they name none; empty: then they must.
INTAKE_DEFAULT_MERCHANT = ENV.intake_default_merchant
#: Where other services may listen to what happens: a topic exchange, the routing key is the event's type.
EVENTS_EXCHANGE = "payments.events"
#: What the relay process does besides relaying: dotted name -> seconds between two runs.
RELAY_PERIODIC_JOBS = {
    "payments.rescue.run_once": ENV.rescue_every,
    "payments.release.run_once": ENV.rescue_every,
    "payments.replay.supersede_settled": 60.0,
    "payments.unmatched_charge_jobs.close_matched": 20.0,
    "payments.unmatched_charge_jobs.queue_overdue_refunds": ENV.rescue_every,
    "messaging.resolutions.rescue": 10.0,
    "messaging.heartbeats.prune": 600.0,
    "messaging.clock_steps.run_once": 1.0,
}
#: Table -> its columns with a time at which something is due, by the database's clock. They are moved when that clock
#: is set back (`messaging.clock_steps`). The first column is set in every row that has any of them.
SCHEDULED_COLUMNS = {
    "messaging_outboxmessage": ["available_at"],
    "messaging_resolution": ["revive_at"],
    "payments_payment": ["revive_at", "next_attempt_at", "lease_expires_at"],
    "payments_gatewayevent": ["revive_at"],
    "payments_gatewaycircuit": ["open_until", "probing_until"],
    "payments_unmatchedcharge": ["stuck_check_at", "next_attempt_at"],
    "notifications_delivery": ["revive_at", "next_attempt_at", "lease_expires_at"],
}
#: What runs beside the relay, in a thread of its own, for the rooms that subscribe to events.
SUBSCRIBERS_PERIODIC_JOBS = {
    "notifications.rescue.run": ENV.rescue_every,
    "notifications.replay.supersede_settled": 60.0,
}
#: Threads of one worker process, by queue: none can use up another's. Each holds one database connection. Those of
#: `webhooks` only hand over to an event loop, where hundreds of calls wait at the same time.
WORKER_THREADS = {"payments": ENV.worker_threads, "notifications": ENV.notification_threads, "webhooks": 2}

# --- Payments -------------------------------------------------------------------------

#: Gateway name -> its adapter and the numbers it is run by (seconds).
#:
#: DEADLINE bounds one call from connect to the last byte of the answer. LEASE is how long a worker may
#: hold a payment: at least twice the deadline (checked at start), or a slow call would outlive it.
#: RETRY_DELAYS are the waits after an answer that proves nothing was taken; each is stretched by up to 100 %.
#: MAX_AGE: no charge is begun for a payment this long after it was accepted; it fails with a dead letter.
#: BREAKER: see `payments.breaker.Limits`.
GATEWAYS: dict[str, dict[str, Any]] = {
    "sandbox": {
        "BACKEND": "payments.gateways.sandbox.SandboxGateway",
        "OPTIONS": {"url": ENV.sandbox_url, "webhook_secrets": ENV.sandbox_webhook_secrets},
        "MODE": "test",
        "DEADLINE": ENV.charge_deadline,
        "LEASE": ENV.charge_lease,
        "RETRY_DELAYS": [1.0, 2.0, 4.0],
        "MAX_AGE": ENV.payment_max_age,
        "BREAKER": {
            "WINDOW": ENV.breaker_window,
            "MIN_CALLS": ENV.breaker_min_calls,
            "FAILURE_RATE": ENV.breaker_failure_rate,
            "OPEN_FOR": ENV.breaker_open_for,
        },
    },
}
#: A payment that nobody has taken up is staged again after this long (seconds), doubled up to 10 minutes.
REVIVE_AFTER = ENV.revive_after

# --- Notifications --------------------------------------------------------------------

LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "locale"]

#: With the first key webhook secrets are encrypted, with all of them decrypted: put a new one in front to rotate.
ENCRYPTION_KEYS = ENV.encryption_keys
#: Whether webhooks may go to private addresses, by plain http and to any port: on a developer's machine only.
WEBHOOK_PRIVATE_TARGETS = ENV.webhook_private_targets
#: What refuses a URL for webhooks when it is named, for the rooms that know nothing of calls.
WEBHOOK_URL_VALIDATOR = "notifications.registration.validate_url"
#: How many webhook calls of one worker process may be under way; and of all, to one endpoint. One that fails is
#: called once at a time, but nobody knows yet that those which hang for the first time do: a hundred of them take 500,
#: and must leave room for all others. Each holds a socket, and many systems give a process 1,024.
WEBHOOKS_IN_FLIGHT = 600
WEBHOOKS_PER_ENDPOINT = 5
#: How long (seconds) finished deliveries are kept.
DELIVERIES_KEPT_FOR = ENV.deliveries_kept_for

#: How mail goes out, by the name in the environment. https://docs.djangoproject.com/en/5.2/topics/email/
EMAIL_BACKENDS = {
    "off": "django.core.mail.backends.dummy.EmailBackend",
    "console": "django.core.mail.backends.console.EmailBackend",
    "file": "django.core.mail.backends.filebased.EmailBackend",
    "smtp": "django.core.mail.backends.smtp.EmailBackend",
}
#: Whether anybody is told by mail.
EMAIL_ON = ENV.email_backend != "off"
EMAIL_BACKEND = EMAIL_BACKENDS.get(ENV.email_backend, ENV.email_backend)
EMAIL_FILE_PATH = ENV.email_folder
EMAIL_HOST = ENV.email_host
EMAIL_PORT = ENV.email_port
EMAIL_HOST_USER = ENV.email_host_user
EMAIL_HOST_PASSWORD = ENV.email_host_password
EMAIL_USE_TLS = ENV.email_security == "starttls"
EMAIL_USE_SSL = ENV.email_security == "tls"
EMAIL_TIMEOUT = 10  # seconds for each step of the conversation
DEFAULT_FROM_EMAIL = ENV.email_from
ANYMAIL = ENV.anymail

#: How SMS go out, by the name in the environment -> the backend and its options; none: nobody is told by SMS.
SMS_BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "console": ("notifications.sms.console.ConsoleSms", {}),
    "file": ("notifications.sms.file.FileSms", {"folder": ENV.sms_folder}),
    "twilio": (
        "notifications.sms.twilio.TwilioSms",
        {
            "account_sid": ENV.twilio_account_sid,
            "auth_token": ENV.twilio_auth_token,
            "sender": ENV.twilio_from,
            "url": ENV.twilio_url,
        },
    ),
}
SMS_BACKEND = SMS_BACKENDS.get(ENV.sms_backend)

# --- Limits ---------------------------------------------------------------------------

# One shared counter for all processes: Redis where there is one, else a table of PostgreSQL.
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "counters": (
        {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": ENV.redis_url,
            # A request waits this long (seconds) for Redis, and then does without it.
            "OPTIONS": {"socket_connect_timeout": 0.25, "socket_timeout": 0.25},
        }
        if ENV.redis_url
        else {"BACKEND": "merchants.counters.PostgresCounters"}
    ),
}
RATELIMIT_USE_CACHE = "counters"
RATELIMIT_FAIL_OPEN = True  # where Redis has thrown a counter out between two of its commands
SILENCED_SYSTEM_CHECKS = ["django_ratelimit.W001"]  # it does not know our own backend, which is atomic
#: How many proxies of our own stand before us, each of which adds to X-Forwarded-For whom it got the request from.
TRUSTED_PROXIES = ENV.trusted_proxies
#: Class of requests -> how many of them one caller (or, of strangers, one address) may send.
LIMITS = {
    "reads": ENV.limit_reads,
    "writes": ENV.limit_writes,
    "logins": ENV.limit_logins,
    "strangers": ENV.limit_strangers,
    "gateway_events": ENV.limit_gateway_events,
}
#: How many payments one merchant may ask for at once, and each second in the long run, where it has no figures of
#: its own.
CREATION_BURST = ENV.creation_burst
CREATION_RATE = ENV.creation_rate
#: After so many declines within an hour a payer, or a merchant, is blocked for an hour; 0: never.
DECLINES_PER_PAYER = ENV.declines_per_payer
DECLINES_PER_MERCHANT = ENV.declines_per_merchant
#: Replays of more than this need a second person: sums in major units by currency, `*` for all others.
FOUR_EYES_ABOVE = dict(part.split("=") for part in ENV.four_eyes_above.split(",") if part)

#: What a second person can be asked to agree to -> who carries it out.
APPROVAL_ACTIONS = {
    "dead_letters.replay": "console.four_eyes.REPLAYS",
    "unmatched_charge.refund": "payments.operations.refund_approval.REFUNDS",
}

# --- API ------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "merchants.authentication.ApiKeyAuthentication",
        "merchants.authentication.MerchantJWTAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["merchants.permissions.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["merchants.throttling.LimitThrottle"],
    "DEFAULT_PARSER_CLASSES": ["payments.parsers.ExactJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "merchants.negotiation.ProblemNegotiation",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_METADATA_CLASS": "merchants.options.AllowedMethods",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "payments.problems.ProblemHandler",
    "EXCEPTION_FORMATTER_CLASS": "payments.problems.ProblemFormatter",
}
#: Tokens are signed with the first and taken of all: put a new one in front to rotate.
JWT_SIGNING_KEYS = [ENV.jwt_signing_key, *ENV.jwt_signing_key_fallbacks]
#: However often it is refreshed, a person's login at the API ends after this.
LOGIN_SESSION_LIFETIME = timedelta(days=30)
SIMPLE_JWT = {
    # merchants.signing signs; were something signed by simplejwt's own way, then not by its default, SECRET_KEY.
    "SIGNING_KEY": ENV.jwt_signing_key,
    "ISSUER": "payments",
    "AUDIENCE": "payments-api",
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=5),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=1),
    "AUTH_TOKEN_CLASSES": ("merchants.signing.AccessToken",),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Payments",
    "DESCRIPTION": "Creates payments and follows them. Every order is charged at most once.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.openapi.without_trailing_slashes",
        "config.openapi.with_400",
        "config.openapi.with_limits",
    ],
    "ENUM_NAME_OVERRIDES": {
        "PaymentStatus": "payments.states.Status",
        "EventType": "payments.events.EVENT_TYPES",
        "DeadLetterState": "messaging.models.DeadLetter.State",
        "ResolutionState": "messaging.models.Resolution.State",
        "ResolutionAction": "messaging.models.Resolution.Action",
        "DeliveryState": "notifications.models.Delivery.State",
        "PayerEventType": "notifications.notices.FOR_PAYERS",
        "MerchantEventType": "notifications.notices.FOR_MERCHANTS",
        "ToldType": "notifications.filters.TYPES",
        "Language": "django.conf.settings.LANGUAGES",
        "EndpointKind": "notifications.models.WebhookEndpoint.Kind",
    },
}
#: The largest request body that is read (bytes); everything above is a 413. Our largest valid body is about 30 kB.
MAX_BODY_BYTES = 64 * 1024
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES  # forms of the console have a few kilobytes
#: The same for `POST /payments/batch`: 500 payments of 2 kB. A thread holds some ten times as much while it reads them.
MAX_BATCH_BYTES = 1024 * 1024
#: How many threads of one process may wait for their payment to end (`Prefer: wait`); the others go on serving.
WAITING_SLOTS = max(1, ENV.web_threads // 2)

# --- Serving and seeing ---------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles" if ENV.production else None
WHITENOISE_USE_FINDERS = not ENV.production  # `collectstatic` is a step of the image, not of `make run`
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if ENV.production
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
#: The console's own path; one that nobody guesses keeps the noise of the internet out of its logs.
ADMIN_PATH = ENV.admin_path
LOGIN_REDIRECT_URL = "admin:index"  # where one goes who wants to be led elsewhere
#: Whether staff must show a one-time password to use the console, or what only staff may do at the API.
ADMIN_SECOND_FACTOR = ENV.admin_second_factor
#: For how long (seconds) staff who showed their password need not show it again for what moves money.
ADMIN_CONFIRM_EVERY = ENV.admin_confirm_every
SESSION_COOKIE_AGE = ENV.admin_idle
SESSION_SAVE_EVERY_REQUEST = True  # so that its age counts from the last request
#: What a scraper of /metrics must show as a bearer token. Without one, production shows metrics to nobody.
METRICS_TOKEN = ENV.metrics_token
#: What authenticator apps show beside a code.
OTP_TOTP_ISSUER = "Payments"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
#: For pages; answers that are none get a stricter one (`console.security`), and Swagger's a wider one (`config.urls`).
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "object-src": ["'none'"],
    }
}
WHITENOISE_ALLOW_ALL_ORIGINS = False
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"  # a link in a mail to a page of the console must work
if ENV.production:
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^(livez|readyz|health|metrics)/?$"]  # probes speak plain http to the pod
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    # Browsers take cookies of these names over TLS only, and from no neighbouring host: none can be planted.
    SESSION_COOKIE_NAME = "__Host-sessionid"
    CSRF_COOKIE_NAME = "__Host-csrftoken"
if ENV.behind_tls_proxy:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LOGGING = logging_config(level=ENV.log_level, style=ENV.log_format)
structlog.configure(**structlog_config(level=ENV.log_level, style=ENV.log_format))
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = 10  # one line a request is enough
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True  # `RequestIdMiddleware` has made it sound
