"""Print what happens to payments: `python subscribe.py amqp://user:password@host/%2F my-service.payments`."""

import json
import sys
from contextlib import suppress

import pika

url, queue = sys.argv[1:]
seen = set()  # in earnest: a unique column of your database, filled in the transaction of the effect


def receive(channel, method, properties, body):
    event = json.loads(body)
    if event["id"] not in seen:  # at least once: the same event may come again
        seen.add(event["id"])
        print(event["type"], event["subject"], event["data"]["amount"], event["data"]["currency"], flush=True)
    channel.basic_ack(method.delivery_tag)  # last of all: what is not acknowledged is delivered again


with pika.BlockingConnection(pika.URLParameters(url)) as connection, suppress(KeyboardInterrupt):
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_bind(queue, exchange="payments.events", routing_key="payment.#")
    channel.basic_qos(prefetch_count=20)
    channel.basic_consume(queue, receive)
    channel.start_consuming()
