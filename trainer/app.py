"""The trainer process: takes training jobs from their own queue.

    python -m trainer.app

It knows no task yet, so it waits: styles are trained with ``python -m trainer.train``.
"""

from celery.signals import setup_logging

from contract.logs import configure_logs
from contract.queue import LONE_WORKER, TRAIN_QUEUE, celery_app
from trainer.settings import TrainerSettings


def main() -> None:
    configure_logs("trainer")
    setup_logging.connect(lambda **_: None, weak=False)  # ours is set up already
    app = celery_app(TrainerSettings())
    app.worker_main(["worker", "--pool=solo", f"--queues={TRAIN_QUEUE}", *LONE_WORKER])


if __name__ == "__main__":
    main()
