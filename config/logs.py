"""How log lines look: one JSON object a line for machines, or coloured text for people."""

import io
import logging
import re
from typing import Any, Final, TextIO

import structlog

#: Tracebacks without the values of local variables, among which keys and personal data would be.
FRAMES: Final = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


#: The one path with a name of the merchant's own making in it, which may be anybody's mail address.
CONTACT: Final = re.compile(r"^(/api/v1/contacts/).+", re.DOTALL)


def without_payer(path: str) -> str:
    """A path of ours, as it may be logged."""
    return CONTACT.sub(r"\1…", path)


class WithoutPayers(logging.Filter):
    """Django tells of answers from 400 on with their path."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let it pass, without payers."""
        if isinstance(record.args, tuple):
            record.args = tuple(without_payer(arg) if isinstance(arg, str) else arg for arg in record.args)
        return True


class WithoutTwins(logging.Filter):
    """Dramatiq warns where several workers share a broker, as ours do on purpose: each has a queue to itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is another warning."""
        return not (isinstance(record.msg, str) and record.msg.startswith("You're adding a middleware of the same"))


#: Mail addresses, phone numbers and the queries of URLs: libraries quote in their errors what they were given.
PRIVATE: Final = re.compile(r"""[^\s@<>(]{1,64}@[^\s@<>"')]{1,255}|\+[1-9][0-9]{6,14}|(?<=\?)[^\s<>"')]+""")


#: Where PostgreSQL quotes whole rows, whatever is in them.
ROWS: Final = re.compile(r"\nDETAIL:[^\n]*")


def traceback_without_rows(exc_info: Any) -> list[dict[str, Any]]:
    """The exception as data, without addresses, and the DETAIL in which PostgreSQL quotes whole rows."""
    stacks = FRAMES(exc_info)
    for stack in stacks:
        stack["exc_value"] = PRIVATE.sub("…", stack["exc_value"].partition("\nDETAIL:")[0])
        stack["exc_notes"] = [PRIVATE.sub("…", note) for note in stack["exc_notes"]]
    return stacks


def plain_traceback_without_rows(stream: TextIO, exc_info: Any) -> None:
    """The same for people: as Python prints it, but for what is private."""
    written = io.StringIO()
    structlog.dev.plain_traceback(written, exc_info)
    stream.write(PRIVATE.sub("…", ROWS.sub("", written.getvalue())))


def logging_config(*, level: str, style: str) -> dict[str, Any]:
    """The `LOGGING` setting; `style` is `json` or `console`."""
    renderers: list[Any] = (
        [structlog.processors.ExceptionRenderer(traceback_without_rows), structlog.processors.JSONRenderer()]
        if style == "json"
        else [structlog.dev.ConsoleRenderer(exception_formatter=plain_traceback_without_rows)]
    )
    # Lines of libraries that use the standard `logging` get the same fields as our own.
    foreign = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
                "foreign_pre_chain": foreign,
            },
        },
        "filters": {"without_payers": {"()": WithoutPayers}, "without_twins": {"()": WithoutTwins}},
        "handlers": {
            "stream": {"class": "logging.StreamHandler", "formatter": "structured", "filters": ["without_twins"]}
        },
        "root": {"handlers": ["stream"], "level": level},
        "loggers": {
            # pika narrates every connection attempt; the relay and the worker say what matters themselves.
            "pika": {"level": "CRITICAL"},
            "httpx2": {"level": "WARNING"},
            "httpcore2": {"level": "WARNING"},
            "django.request": {"filters": ["without_payers"]},
            "django.server": {"handlers": ["stream"], "level": level, "propagate": False},
        },
    }
