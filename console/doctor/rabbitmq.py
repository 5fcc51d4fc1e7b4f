"""RabbitMQ: whether it answers, and whether its queues and exchanges are as the code declares them."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

import pika
import pika.exceptions
from django.conf import settings
from pika.adapters.blocking_connection import BlockingChannel

from console.doctor.finding import Finding, failed, ok, warning
from messaging import topology
from messaging.broker import UNREACHABLE, connection_parameters

#: Before it, there is no dead-lettering at least once.
OLDEST: Final = (3, 10)
#: The oldest that its makers still mend.
SUPPORTED: Final = (4, 0)
#: "inequivalent arg 'x-queue-type' for queue 'payments' in vhost '/': received 'quorum' but current is 'classic'"
DIFFERENCE: Final = re.compile(r"inequivalent arg '(.+?)' for .*: received (.+) but current is ([^\"]+)")
#: "none", "'classic'", "the value '100' of type 'signedint'"
VALUE: Final = re.compile(r"(?:the value )?'(.*?)'(?: of type '(.*)')?")
#: Told first: where it differs, the rest does so for that reason.
TYPE: Final = "x-queue-type"
NOT_FOUND: Final = 404
MANUAL: Final = "docs/rabbitmq.md"


def topology_in_force() -> Iterator[Finding]:
    """The server, then each queue and each exchange. Only what is there already is declared, so nothing is made."""
    url = settings.ENV.rabbitmq_url
    if not url:
        yield ok("RabbitMQ", "none: in the embedded mode the relay process hosts the queues and the workers")
        return
    try:
        connection = pika.BlockingConnection(connection_parameters(url, name="payments doctor"))
    except UNREACHABLE as error:
        yield why_not(error)
        return
    with closing(connection):
        yield judge_version(version_of(connection))
        for queue, arguments in topology.declarations(topology.work_queues()).items():
            yield look_at_queue(connection, queue, arguments)
        for exchange, kind in topology.exchanges().items():
            yield look_at_exchange(connection, exchange, kind)


def why_not(error: Exception) -> Finding:
    """Why it does not let us in."""
    if isinstance(error, pika.exceptions.ProbableAuthenticationError):
        mend = "Correct user and password in RABBITMQ_URL, or `rabbitmqctl add_user`."
        return failed("RabbitMQ", "knows no such user, or another password", mend)
    if isinstance(error, pika.exceptions.ProbableAccessDeniedError):
        mend = "Correct RABBITMQ_URL (`%2F` is the virtual host `/`), or `rabbitmqctl set_permissions`."
        return failed("RabbitMQ", "has no such virtual host, or our user may not enter it", mend)
    mend = "Start it, or correct RABBITMQ_URL. Payments are accepted meanwhile, and wait."
    return failed("RabbitMQ", f"does not answer: {reason_of(error)}", mend)


def reason_of(error: Exception) -> str:
    """The innermost reason, in words: pika wraps it several times, and says none of it."""
    inner: Any = error
    while getattr(inner, "exceptions", None) or (inner.args and isinstance(inner.args[0], Exception)):
        inner = inner.exceptions[-1] if getattr(inner, "exceptions", None) else inner.args[0]
    inner = getattr(inner, "exception", inner)
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__)


def version_of(connection: pika.BlockingConnection) -> str:
    """What the server calls itself."""
    inner: Any = connection
    properties = inner._impl.server_properties  # noqa: SLF001  # pika shows it nowhere else
    return str(properties.get("version", "?"))


def judge_version(version: str) -> Finding:
    """Old servers lack what we rely on, or are no longer mended."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        says = f"{version} is too old: what it dead-letters can be lost"
        return failed("RabbitMQ", says, "Upgrade it to 4.x.")
    if numbers < SUPPORTED:
        says = f"{version}: all that we need is there, but its makers mend nothing before 4.0 any more"
        return warning("RabbitMQ", says, "Upgrade it to 4.x, by way of 3.13 with all feature flags enabled.")
    return ok("RabbitMQ", version)


# --- queues and exchanges


def look_at_queue(connection: pika.BlockingConnection, queue: str, arguments: dict[str, Any]) -> Finding:
    """One queue: missing, as declared, or otherwise."""
    what = f"queue {queue}"
    found, refusal = ask(connection, lambda channel: channel.queue_declare(queue, passive=True))
    if refusal is not None:
        return judge_refusal(what, refusal)
    refusal = declare_again(connection, queue, arguments)
    if refusal is not None and topology.is_changed_declaration(refusal.reply_text):
        says = f"declared otherwise: {'; '.join(differences(connection, queue, arguments, refusal))}"
        return failed(what, says, how_to_change(queue))
    if refusal is not None:
        return judge_refusal(what, refusal)
    messages, readers = found.method.message_count, found.method.consumer_count
    says = f"as declared; messages {messages}, readers {readers}"
    if messages and not readers:
        return warning(what, says, f"Nobody reads it: start {reader_of(queue)}.")
    return ok(what, says)


def how_to_change(queue: str) -> str:
    """The way to another declaration. What is published while the queue from outside is away, is lost."""
    if queue == settings.INTAKE_QUEUE:
        return f"Keep its publishers out before you delete it, or payments are lost: {MANUAL} has the steps."
    return f"Let it run empty, `rabbitmqctl delete_queue {queue}`, start the relay ({MANUAL})."


def declare_again(
    connection: pika.BlockingConnection, queue: str, arguments: dict[str, Any]
) -> pika.exceptions.ChannelClosedByBroker | None:
    """Declare a queue that is there; RabbitMQ's refusal if it is not like this."""
    return ask(connection, lambda channel: channel.queue_declare(queue, durable=True, arguments=arguments))[1]


def differences(
    connection: pika.BlockingConnection, queue: str, arguments: dict[str, Any], refusal: Exception | None
) -> list[str]:
    """All that differs. RabbitMQ names one thing at a time: it is then asked for as it is, to hear of the next."""
    told: dict[str, str] = {}
    asked = dict(arguments)
    while refusal is not None and (match := DIFFERENCE.search(str(refusal))) and match[1] not in told:
        name, ours, theirs = match[1], value_of(match[2]), value_of(match[3])
        told[name] = f"{name} is {in_words(theirs, name)}, and should be {in_words(ours, name)}"
        if not name.startswith("x-"):
            break
        asked = {key: value for key, value in {**asked, name: theirs}.items() if value is not None}
        refusal = declare_again(connection, queue, asked)
    return sorted(told.values(), key=lambda line: not line.startswith(TYPE)) or [str(refusal)]


def value_of(text: str) -> str | int | None:
    """A value out of RabbitMQ's words."""
    match = VALUE.match(text.strip())
    if match is None:
        return None
    is_number = match[2] not in {None, "longstr"} and match[1].lstrip("-").isdigit()
    return int(match[1]) if is_number else match[1]


def in_words(value: str | int | None, name: str = "") -> str:
    """A value as people say it. A queue without a type is a classic one."""
    if value is None:
        return "classic" if name == TYPE else "not set"
    return str(value) or "empty"


def look_at_exchange(connection: pika.BlockingConnection, exchange: str, kind: str) -> Finding:
    """An exchange, in the same way. The entrance may be missing where no other service sends us anything."""
    what = f"exchange {exchange}"
    _, refusal = ask(connection, lambda channel: channel.exchange_declare(exchange, passive=True))
    if refusal is not None and refusal.reply_code == NOT_FOUND and exchange == settings.INTAKE_QUEUE:
        return ok(what, "not there; `manage.py intake` declares it, and only other services need it")
    if refusal is None:
        _, refusal = ask(connection, lambda channel: channel.exchange_declare(exchange, kind, durable=True))
    if refusal is None:
        return ok(what, "as declared")
    if match := DIFFERENCE.search(refusal.reply_text):
        name, ours, theirs = match[1], value_of(match[2]), value_of(match[3])
        says = f"declared otherwise: {name} is {in_words(theirs)}, and should be {in_words(ours)}"
        return failed(what, says, f"See how a declaration is changed in {MANUAL}; its bindings go with it.")
    return judge_refusal(what, refusal)


def ask(
    connection: pika.BlockingConnection, declare: Callable[[BlockingChannel], Any]
) -> tuple[Any, pika.exceptions.ChannelClosedByBroker | None]:
    """Ask on a channel of its own, which a refusal closes: the answer, or the refusal."""
    channel = connection.channel()
    try:
        answer = declare(channel)
    except pika.exceptions.ChannelClosedByBroker as refusal:
        return None, refusal
    channel.close()
    return answer, None


def judge_refusal(what: str, refusal: pika.exceptions.ChannelClosedByBroker) -> Finding:
    """What RabbitMQ's refusal means, in plain words."""
    if refusal.reply_code == NOT_FOUND:
        return warning(what, "missing", "Start `manage.py relay`, which declares it, or load the definitions file.")
    return failed(what, f"cannot be looked at: {refusal.reply_text}", f"See the permissions in {MANUAL}.")


def reader_of(queue: str) -> str:
    """Who reads a queue of ours."""
    if queue == settings.INTAKE_QUEUE:
        return "`manage.py intake`"
    return "`manage.py worker`" if queue in topology.work_queues() else "`manage.py relay`, which collects"
