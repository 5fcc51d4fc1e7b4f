"""All that is logged, as production and development would write it: our own lines, and those of libraries."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from config.logs import logging_config, renderers


class LogLines(logging.Handler):
    """Tells `show` of each line, with its logger's name, in each style; once it is attached."""

    def __init__(self, show: Callable[[str, str], object], *, styles: Sequence[str] = ("json", "console")) -> None:
        super().__init__()
        self.show = show
        self.formatters = [formatter_of(style) for style in styles]
        self.renderers = [renderers(style) for style in styles]

    def attach(self) -> None:
        """Listen; may be called again, as a test may configure the logging anew."""
        for logger in (logging.getLogger(), logging.getLogger("django.server")):
            if self not in logger.handlers:
                logger.addHandler(self)
        if self not in (processors := structlog.get_config()["processors"]):
            processors.insert(len(processors) - len(self.renderers[0]), self)

    def detach(self) -> None:
        """Listen no more."""
        for logger in (logging.getLogger(), logging.getLogger("django.server")):
            logger.removeHandler(self)
        structlog.get_config()["processors"].remove(self)

    def emit(self, record: logging.LogRecord) -> None:
        """A library's line. A copy is formatted: the formatter of one style takes the record apart for itself."""
        for formatter in self.formatters:
            self.show(record.name, formatter.format(logging.makeLogRecord(vars(record))))

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        """One of ours, as a processor of structlog's."""
        for steps in self.renderers:
            line = dict(event)
            for step in steps:
                line = step(logger, method, line)
            self.show(logger.name, str(line))
        return event


def formatter_of(style: str) -> logging.Formatter:
    """The formatter of `LOG_FORMAT`, for libraries."""
    described = dict(logging_config(level="INFO", style=style)["formatters"]["structured"])
    formatter: logging.Formatter = described.pop("()")(**described)
    return formatter
