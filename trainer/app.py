"""The trainer process: takes training jobs from their own queue.

    python -m trainer.app

It knows no task yet, so it waits: styles are trained with ``python -m trainer.train``.
"""

import os
import sys

import structlog
from celery.signals import setup_logging

from contract.errors import SettingsError
from contract.jobbook import connect
from contract.logs import configure_logs
from contract.presence import Presence, process_name
from contract.queue import LONE_WORKER, TRAIN_QUEUE, celery_app, on_progress
from contract.settings import load
from trainer.settings import TrainerSettings

log = structlog.get_logger()

REDIS_PATIENCE_SECONDS = 3


def main() -> None:
    configure_logs("trainer")
    try:
        settings = load(TrainerSettings)
    except SettingsError as error:
        log.critical("trainer cannot start", reason=str(error))
        sys.exit(1)
    setup_logging.connect(lambda **_: None, weak=False)  # ours is set up already
    presence = Presence(connect(settings.redis_url, patience_seconds=REDIS_PATIENCE_SECONDS), "trainer")
    name = process_name(os.getpid())
    app = celery_app(settings)
    on_progress(app, settings.heartbeat_seconds, lambda: presence.announce(name, settings.lost_after_seconds))
    app.worker_main(["--quiet", "worker", "--pool=solo", f"--queues={TRAIN_QUEUE}", *LONE_WORKER])


if __name__ == "__main__":
    main()
