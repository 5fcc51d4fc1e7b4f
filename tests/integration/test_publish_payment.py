"""`manage.py publish_payment`: what it says was published was, and whoever tries it out hears what is wrong."""

import io
import json
import os
import sys
import uuid
from types import SimpleNamespace

import pika
import pytest
from django.core.management import CommandError, call_command

from messaging import topology
from messaging.publisher import BrokerUnavailable, Published
from payments.management.commands import publish_payment

URL = os.environ["RABBITMQ_URL"]


@pytest.fixture
def channel():
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        yield connection.channel()


@pytest.fixture
def queue(channel, settings):
    """In the place of the real one, which others may use as well."""
    settings.INTAKE_QUEUE = name = f"test-{uuid.uuid4().hex}"
    yield name
    channel.queue_delete(name)
    channel.queue_delete(topology.dead_letter_queue(name))


@pytest.fixture
def publish(channel, queue):
    """Run the command; what it said, and what is in the queue."""

    def do(*arguments):
        out = io.StringIO()
        call_command("publish_payment", *arguments, stdout=out)
        taken = []
        while (answer := channel.basic_get(queue, auto_ack=True))[0] is not None:
            taken.append(answer)
        return out.getvalue(), taken

    return do


def test_one_message_asks_for_ten_and_has_a_key_of_its_own(publish, queue):
    said, [(_, properties, body)] = publish()
    message = json.loads(body)
    assert set(message) == {"amount", "idempotency_key"}
    assert message["amount"] == "10.00"
    assert properties.delivery_mode == 2
    assert said == f"1 published to the queue {queue}; `manage.py intake` takes them from there.\n"
    _, [(_, _, other)] = publish()
    assert json.loads(other)["idempotency_key"] != message["idempotency_key"]


def test_each_option_is_a_field(publish):
    options = {
        "amount": "1.50", "currency": "USD", "order_id": "o-1", "user_id": "u-1", "merchant": "shop", "mode": "test",
        "payment_method": "pm_slow", "idempotency_key": "k-1",
    }  # fmt: skip
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    _, [(_, _, body)] = publish(*arguments, "--metadata", "a=b", "--metadata", "c=d=e", "--metadata", "f=")
    assert json.loads(body) == {**options, "metadata": {"a": "b", "c": "d=e", "f": ""}}


def test_a_simulated_failure_is_asked_for_in_the_message(publish):
    _, [(_, _, body)] = publish("--simulate-transient-failure")
    assert json.loads(body)["simulate_transient_failure"] is True


def test_many_have_keys_and_orders_of_their_own(publish):
    said, taken = publish("--count", "1203", "--order-id", "o", "--idempotency-key", "k")
    messages = [json.loads(body) for _, _, body in taken]
    assert [message["idempotency_key"] for message in messages] == [f"k-{number}" for number in range(1, 1204)]
    assert [message["order_id"] for message in messages] == [f"o-{number}" for number in range(1, 1204)]
    assert said.startswith("1203 published")


LINES = [b'{"amount": 1}', b"\xff\xfe not json", b'  {"amount": 2}  ', b'{"amount": 3}\r']


def test_the_lines_of_a_file_go_out_byte_for_byte(publish, tmp_path):
    file = tmp_path / "lines"
    file.write_bytes(b"\n\n".join([*LINES, b"   "]))
    said, taken = publish("--file", str(file))
    assert [body for _, _, body in taken] == LINES
    assert said.startswith("4 published")


def test_lines_may_come_from_standard_input(publish, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"\n".join(LINES))))
    _, taken = publish("--file", "-")
    assert [body for _, _, body in taken] == LINES


def test_no_progress_bar_is_drawn_where_there_is_no_terminal(publish, capsys):
    publish("--count", "3")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--file", "x", "--amount", "1"], "leave --amount out"),
        (["--file", "x", "--count", "2", "--metadata", "a=b"], "leave --metadata, --count out"),
        (["--file", "x", "--simulate-transient-failure"], "leave --simulate-transient-failure out"),
        (["--file", "/nowhere/at-all"], "--file /nowhere/at-all cannot be read: No such file"),
        (["--count", "0"], "--count must be at least 1"),
        (["--metadata", "novalue"], "NAME=VALUE"),
        (["--simulate-transient-failure", "--payment-method", "pm_ok"], "leave one of them out"),
        (["--simulate-transient-failure", "--mode", "live"], "--mode test"),
    ],
)
def test_options_that_make_no_sense_publish_nothing_and_are_told(publish, channel, queue, arguments, told):
    with pytest.raises(CommandError, match=told):
        publish(*arguments)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        channel.connection.channel().queue_declare(queue, passive=True)


def test_without_rabbitmq_it_says_the_mend(settings):
    settings.ENV = SimpleNamespace(rabbitmq_url="")
    with pytest.raises(CommandError, match="RABBITMQ_URL is not set"):
        call_command("publish_payment")


def test_a_broker_that_is_away_is_told_with_the_count(settings, queue, capsys, monkeypatch):
    settings.ENV = SimpleNamespace(rabbitmq_url="amqp://guest:guest@127.0.0.1:1/%2F")
    monkeypatch.setattr(publish_payment, "PAUSE", 0.01)
    with pytest.raises(CommandError, match=r"0 published .* 700 not confirmed"):
        call_command("publish_payment", "--count", "700")
    assert "refused" in capsys.readouterr().err


class Scripted:
    """A publisher whose end of the wire is ours: what RabbitMQ does with each try of a batch."""

    def __init__(self, *tries):
        self.tries = iter(tries)
        self.sent = []

    def ensure_connected(self):
        pass

    def publish(self, batch):
        self.sent.append([message.body for message in batch])
        outcome = next(self.tries)
        if isinstance(outcome, Exception):
            raise outcome
        return Published(confirmed={message.message_id for message in batch if message.body in outcome})

    def pump(self, seconds):
        pass

    def close(self):
        pass


def test_what_was_not_confirmed_is_published_again_and_nothing_else():
    scripted = Scripted({b"1"}, BrokerUnavailable("cut"), {b"2", b"3"})
    assert publish_payment.publish(scripted, [b"1", b"2", b"3"], total=3) == (3, 0)
    assert scripted.sent == [[b"1", b"2", b"3"], [b"2", b"3"], [b"2", b"3"]]


def test_what_stays_unconfirmed_is_counted_and_the_rest_goes_on(monkeypatch):
    monkeypatch.setattr(publish_payment, "BATCH", 2)
    scripted = Scripted({b"1"}, set(), set(), {b"3", b"4"})
    assert publish_payment.publish(scripted, [b"1", b"2", b"3", b"4"], total=4) == (3, 1)
