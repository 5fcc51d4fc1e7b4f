"""The ASGI application that the web process serves: the fast door, and behind it the house in its threads."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
house = get_wsgi_application()  # first of all: what follows needs the settings

from django.conf import settings  # noqa: E402

from config.fast_door import FastDoor  # noqa: E402
from config.front import Front  # noqa: E402
from config.threads import InThreads  # noqa: E402

application = Front(FastDoor(), InThreads(house, threads=settings.ENV.web_threads))
