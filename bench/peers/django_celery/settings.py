"""The least that both need."""

import os
from urllib.parse import urlsplit

_server = urlsplit(os.environ["DATABASE_URL"])

SECRET_KEY = "bench"  # noqa: S105  # signs nothing  # nosec B105
USE_TZ = True
INSTALLED_APPS = ["bench.peers.django_celery"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _server.path[1:],
        "USER": _server.username,
        "PASSWORD": _server.password,
        "HOST": _server.hostname,
        "PORT": _server.port,
        # Celery closes connections before and after each task; with a pool that costs no new log-in.
        "OPTIONS": {"pool": {"min_size": 8, "max_size": 16}},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
