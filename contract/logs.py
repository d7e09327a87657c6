"""The shape of a log line: the same from every process, for whoever reads them together."""

import logging
import re
import sys

import structlog

USERINFO = re.compile(r"(?<=://)[^/\s\"'@]+@")


def configure_logs(process: str) -> None:
    """Lines for people on a terminal, JSON elsewhere.

    In every line stand ``process`` and what is bound where it is written: ``request``, ``client``, ``job``, ``trace``.
    User names and passwords of URLs are left out, whatever text they are in.
    """

    def name_process(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**line, "process": process}  # bound context would be that of one thread only

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        name_process,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr.isatty()
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(sort_keys=True)
    )
    last = [render] if terminal else [structlog.processors.format_exc_info, render]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last, _without_userinfo],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for talkative in ("httpx", "celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def _without_userinfo(_: object, __: str, line: structlog.typing.EventDict) -> str:
    """The last step, in which a line is text already: of a traceback, too."""
    return USERINFO.sub("***@", str(line))
