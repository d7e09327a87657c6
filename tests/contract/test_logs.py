"""Lines of the log, as a process writes them."""

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import logging
import structlog
from contract.logs import configure_logs

configure_logs("gateway")
log = structlog.get_logger()
with structlog.contextvars.bound_contextvars(request="r-1", job="j-1"):
    log.info("connected", url="rediss://user:p%40ss@redis.example:6379/0", mail="a@b.example")
    logging.getLogger("a.library").error("cannot reach redis://:secret@10.0.0.1 and s3://key:secret@bucket/x")
try:
    raise ValueError("https://name:secret@example.org/path")
except ValueError:
    log.exception("failed")
"""


def lines() -> list[dict[str, Any]]:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stderr.splitlines()]


def test_a_line_names_its_process_its_request_and_its_job_and_no_password() -> None:
    ours, foreign, failure = lines()
    assert (ours["process"], ours["request"], ours["job"], ours["level"]) == ("gateway", "r-1", "j-1", "info")
    assert (ours["url"], ours["mail"]) == ("rediss://***@redis.example:6379/0", "a@b.example")
    assert foreign["event"] == "cannot reach redis://***@10.0.0.1 and s3://***@bucket/x"
    assert (foreign["process"], foreign["request"]) == ("gateway", "r-1")
    assert "https://***@example.org/path" in failure["exception"]
    assert "secret" not in str([ours, foreign, failure])
