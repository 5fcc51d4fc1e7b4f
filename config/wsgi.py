"""Django as a WSGI application: the house, which the web process serves behind its door (`config.asgi`)."""

import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()
# All addresses with all that is behind them: found before the processes fork, which then share it, and what cannot be
# found ends the start and not each request.
get_resolver().url_patterns  # noqa: B018  # it looks when it is asked
