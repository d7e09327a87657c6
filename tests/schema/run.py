"""schemathesis against a whole running service: every operation, chains of them, and every check that it knows.

python -m tests.schema.run --max-examples 300    # and further options of `schemathesis run`
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from contract.styles import StyleSource
from service.settings import MOST_PICTURES
from tests.conftest import Stack, running_stack
from tests.service.conftest import publish_bank

SEED = 20161127
NOT_OURS = "use_after_free"
"""It holds every DELETE for a deletion. That of a job is its end, and the record stays and says so.
That a style is gone once deleted is tested in tests/service/test_routes_styles.py."""


def service(folder: Path) -> Iterator[Stack]:
    """With the styles of the examples, on a network with a content row. Its queues are never full, its waits short."""
    long = dict.fromkeys(("ATELIER_QUEUE_LIMIT", "ATELIER_TRAIN_QUEUE_LIMIT"), "1000000")
    short = dict.fromkeys(("ATELIER_WAIT_SECONDS", "ATELIER_MAX_WAIT_SECONDS"), "1")
    for stack in running_stack(folder, **long, **short, ATELIER_MAX_BATCH=str(MOST_PICTURES)):
        publish_bank(stack.styles, "starry_night", "great_wave", source=StyleSource.BUILTIN)  # nobody deletes those
        yield stack


def schemathesis(stack: Stack, *options: str, out: IO[str] | None = None) -> int:
    """Its exit status; what it says goes there, or to standard output. Always from the same seed."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{stack.url}/openapi.json"]
    checks = ["--checks", "all", "--exclude-checks", NOT_OURS]
    fixed = [*checks, "--seed", str(SEED), "--continue-on-failure", "--request-timeout", "10"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.schema.hooks"}
    run = subprocess.run(
        [*command, *fixed, *options], env=environment, stdout=out, stderr=subprocess.STDOUT, check=False
    )
    return run.returncode


def main() -> None:
    status = 1
    with tempfile.TemporaryDirectory() as folder:
        for stack in service(Path(folder)):
            status = schemathesis(stack, *sys.argv[1:])
    sys.exit(status)


if __name__ == "__main__":
    main()
