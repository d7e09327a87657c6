"""schemathesis against a whole running service: every operation, chains of them, and every check that it knows.

python -m tests.schema.run --max-examples 300
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import Stack, running_stack

SEED = 20161127


def schemathesis(stack: Stack, *options: str) -> "subprocess.CompletedProcess[str]":
    """Runs it, always from the same seed."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{stack.url}/openapi.json"]
    fixed = ["--checks", "all", "--seed", str(SEED), "--continue-on-failure"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.schema.hooks"}
    return subprocess.run(
        [*command, *fixed, *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for stack in running_stack(Path(folder)):
            run = schemathesis(stack, *sys.argv[1:])
            sys.stdout.write(run.stdout)
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()
