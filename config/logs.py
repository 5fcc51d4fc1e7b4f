"""How log lines look: one JSON object a line for machines, or coloured text for people."""

import json
import logging
import re
import sys
import traceback
from contextlib import suppress
from typing import Any, Final, TextIO

import orjson
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


def in_one_line(value: Any) -> Any:
    """Text in which whatever would begin a line, or command the terminal, is written as an escape."""
    if isinstance(value, str) and not value.isprintable():
        return "".join(sign if sign.isprintable() else escaped(sign) for sign in value)
    if isinstance(value, dict):
        return {in_one_line(name): in_one_line(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [in_one_line(inner) for inner in value]
    return value


def escaped(sign: str) -> str:
    r"""A sign as `\n` or `\x1b`."""
    return sign.encode("unicode_escape").decode()


def without_forged_lines(_logger: Any, _method: str, event: Any) -> Any:
    """What strangers have written forges no line of the console's log. JSON escapes by itself."""
    kept = {name: value for name, value in event.items() if name in {"exc_info", "stack"}}
    told = in_one_line({name: value for name, value in event.items() if name not in kept})
    return {**told, **kept}


def indented_traceback(out: TextIO, exc_info: Any) -> None:
    """A traceback for people, without what is private; its every line stands further in, so that what the exception
    quotes is not taken for lines of ours.
    """
    written = "".join(traceback.format_exception(*exc_info))
    lines = PRIVATE.sub("…", ROWS.sub("", written)).split("\n")
    out.write("".join(f"\n    {in_one_line(line)}" for line in lines if line))


#: Whatever is no plain JSON is shown as by `print`: what a class hides from there, such as a secret, stays hidden.
JSON_OPTIONS: Final = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
#: What may be more than a sign on somebody's terminal.
NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")


def to_json(event: Any, **_options: Any) -> str:
    """One line of ASCII, whatever is in it: what commands a terminal is written as an escape."""
    try:
        line = orjson.dumps(event, default=repr, option=JSON_OPTIONS).decode()
    except Exception:  # noqa: BLE001  # half a surrogate pair, a ring, a `repr` that fails: none of it the caller's fault
        line = json.dumps({name: shown(value) for name, value in event.items()}, separators=(",", ":"))
    return line if line.isascii() else NOT_ASCII.sub(lambda sign: json.dumps(sign[0])[1:-1], line)


def shown(value: Any) -> str:
    """A value that may be anything."""
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001  # a `repr` may raise anything
        return f"a {type(value).__name__} that cannot be shown"


def renderers(style: str) -> list[Any]:
    """What makes text of an event; `style` is `json` or `console`."""
    if style == "json":
        exceptions = structlog.processors.ExceptionRenderer(traceback_without_rows)
        return [exceptions, structlog.processors.JSONRenderer(to_json)]
    return [without_forged_lines, structlog.dev.ConsoleRenderer(exception_formatter=indented_traceback)]


class Stream:
    """Where our own lines go: straight to the standard error stream, which takes a tenth of the time that they would
    take through `logging`. That a line cannot be written is not the fault of what it tells of.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name

    def write(self, line: str) -> None:
        """One line."""
        with suppress(Exception):
            sys.stderr.write(f"{line}\n")

    debug = info = warning = error = critical = exception = write


#: What each line has, ours and those of libraries.
FIELDS: Final = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
)


def structlog_config(*, level: str, style: str) -> dict[str, Any]:
    """What `structlog.configure` takes, for our own lines."""
    return {
        "processors": [*FIELDS, *renderers(style)],
        "wrapper_class": structlog.make_filtering_bound_logger(level),
        "logger_factory": Stream,
        "cache_logger_on_first_use": True,
    }


def logging_config(*, level: str, style: str) -> dict[str, Any]:
    """The `LOGGING` setting, for the lines of libraries that use the standard `logging`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers(style)],
                "foreign_pre_chain": [*FIELDS, structlog.stdlib.PositionalArgumentsFormatter()],
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
            # Of logins it tells in five lines what the audit has in one.
            "axes": {"level": "WARNING"},
            "httpx2": {"level": "WARNING"},
            "httpcore2": {"level": "WARNING"},
            "django.request": {"filters": ["without_payers"]},
            "django.server": {"handlers": ["stream"], "level": level, "propagate": False},
        },
    }
