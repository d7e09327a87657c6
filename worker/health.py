"""Whether the worker on this machine says that it is ready; the exit code tells. For containers: one worker each.

python -m worker.health
"""

import socket
import sys

from contract.errors import AtelierError
from contract.jobbook import JobBook, connect
from contract.settings import ContractSettings

REDIS_PATIENCE_SECONDS = 3


def is_ready(book: JobBook, host: str) -> bool:
    """A worker is called by its host and its process (``worker.app``)."""
    return any(worker.rpartition("-")[0] == host for worker in book.workers())


def main() -> None:
    settings = ContractSettings()
    book = JobBook(connect(settings.redis_url, patience_seconds=REDIS_PATIENCE_SECONDS), settings)
    try:
        ready = is_ready(book, socket.gethostname())
    except AtelierError as error:
        sys.exit(str(error))
    if not ready:
        sys.exit("no worker on this machine is ready")


if __name__ == "__main__":
    main()
