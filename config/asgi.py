"""The ASGI application that the web process serves: the fast door, and behind it the house in its threads."""

from config.wsgi import application as house

# isort: split
# That one comes first: it sets Django up, which all others need.
from django.conf import settings

from config.fast_door import FastDoor
from config.front import Front
from config.large_bodies import LargeBodies
from config.threads import InThreads

threads = InThreads(house, threads=settings.ENV.web_threads)
application = Front(FastDoor(), threads, LargeBodies(threads.run))
