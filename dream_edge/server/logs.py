"""The server's log as lines of JSON on standard error."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dream_edge.openai.errors import locate

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextmanager
def log_as_json() -> Iterator[None]:
    """The log of the server and of uvicorn on standard error, until the block ends."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    loggers = [logging.getLogger(name) for name in ("dream_edge.server", "dream_edge.openai", "uvicorn.error")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    for logger, level in zip(loggers, (logging.INFO, logging.INFO, logging.WARNING), strict=True):
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage().strip(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _RESERVED}
        if record.exc_info and record.exc_info[1]:  # its kind and place; what it says may quote a prompt
            line |= {"error": type(record.exc_info[1]).__name__, "where": locate(record.exc_info[1])}
        return json.dumps(line, ensure_ascii=False, default=str)
