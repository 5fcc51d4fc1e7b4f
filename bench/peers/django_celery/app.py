"""The Celery application, on RabbitMQ, with the settings that its documentation begins with."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.peers.django_celery.settings")

app = Celery("peer", broker=os.environ["RABBITMQ_URL"])
app.conf.task_default_queue = "peer_celery"
app.conf.task_ignore_result = True
app.autodiscover_tasks(["bench.peers.django_celery"])
