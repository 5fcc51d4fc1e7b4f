"""Payments that other services ask for by message."""

import json
from dataclasses import dataclass
from typing import Final

import pika

from bench.figures import Figure
from bench.options import PROCESSES, Options
from bench.ours.house import House, memory
from bench.stage import Stage, a_prefix, eventually

DATABASE: Final = "intake"
QUEUE: Final = "payment_initiation"
LIMIT: Final = 60.0
#: How often the backlog of the other measurements: the messages are made in no time.
SHARE: Final = 0.5
ACCEPTED: Final = """
    SELECT count(*), extract(epoch FROM max(created_at) - min(created_at))::float FROM payments_payment
    WHERE order_id LIKE %s
"""


@dataclass(slots=True)
class Intake:
    """As many intake processes as there are cores, and a queue full of messages before they start."""

    stage: Stage
    options: Options
    house: House
    name: str = "intake"

    def start(self) -> None:
        """The queue, as the process itself declares it."""
        self.house.create(DATABASE)
        first = self.house.begin("intake", DATABASE)
        self.house.await_beats(DATABASE, "intake")
        eventually(self.has_queue, within=30)
        self.stage.stop(*first)

    def measure(self) -> list[Figure]:
        """Messages a second, from the first payment accepted to the last."""
        self.stage.purge()
        self.house.create(DATABASE)
        number, prefix = int(self.options.backlog * SHARE), a_prefix()
        self.publish(prefix, number)
        processes = self.house.begin("intake", DATABASE, number=PROCESSES)
        like = f"{prefix}-%"
        done = eventually(lambda: self.accepted(like)[0] >= number, within=LIMIT, every=0.1)
        count, seconds = self.accepted(like)
        size = memory("intake", processes)
        self.stage.stop(*processes)
        fault = "" if done else f"{number - count} of {number} were not accepted after {LIMIT:.0f} s"
        rate = count / (seconds or 1.0)
        details = {"messages": number, "processes": PROCESSES}
        return [Figure(key="intake", value=rate, unit="msg/s", details=details, fault=fault), size]

    def accepted(self, like: str) -> tuple[int, float]:
        """How many payments there are of ours, and in how many seconds they were accepted."""
        count, seconds = self.stage.ask(DATABASE, ACCEPTED, like)
        return int(count), float(seconds or 0)

    def has_queue(self) -> bool:
        """Whether the intake has declared it."""
        connection = pika.BlockingConnection(pika.URLParameters(self.stage.rabbitmq.url))
        try:
            connection.channel().queue_declare(QUEUE, passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return False
        finally:
            connection.close()
        return True

    def publish(self, prefix: str, number: int) -> None:
        """Fill the queue."""
        connection = pika.BlockingConnection(pika.URLParameters(self.stage.rabbitmq.url))
        channel = connection.channel()
        for index in range(number):
            name = f"{prefix}-{index}"
            message = {"idempotency_key": name, "order_id": name, "amount": "10.00", "currency": "EUR"}
            body = json.dumps({**message, "user_id": "customer-7", "merchant": "demo"}).encode()
            channel.basic_publish("", QUEUE, body, pika.BasicProperties(delivery_mode=2))
        connection.close()

    def stop(self) -> None:
        """Nothing runs between measurements."""
