"""A run: a training that takes its batches, saves its state, and can be stopped and gone on with anywhere."""

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import obstore
import structlog
import torch
from obstore.store import ObjectStore
from torch import Tensor

from contract.errors import StoreUnavailableError
from contract.storage import store_errors
from trainer.content import Ahead
from trainer.perceptual import PerceptualLoss
from trainer.training import FIGURES, Training

log = structlog.get_logger()

STATE = "state.pt"
BANK = "bank.safetensors"
LOSSES = "losses.jsonl"

Report = Callable[[dict[str, float]], None]


class Batches(Protocol):
    """What a run trains on: photographs, altered ones, noise. A batch depends on its number alone."""

    def batch(self, number: int, count: int, size: int) -> Tensor:
        """[count,3,size,size] in 0..1."""


@dataclass
class Run:
    """A training with the place where it keeps its state: a folder of the command line, or the store of a service."""

    training: Training
    photographs: Batches
    loss: PerceptualLoss
    storage: ObjectStore
    prefix: str = ""
    checkpoint_seconds: float = 60
    threads: int = 1
    """How many batches are made ahead."""
    exports: bool = True
    """Whether the bank and the losses are written beside the state, for people."""
    saved: Callable[[float], object] = lambda _: None
    """Is told of each time that the state has been saved, and how many seconds that took."""
    _pooled: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def resume(self) -> bool:
        """Goes to where the run was when it saved itself last; whether it ever has."""
        try:
            with store_errors():
                state = bytes(obstore.get(self.storage, self.prefix + STATE).bytes())
        except FileNotFoundError:
            return False
        self.training.restore(state)
        return True

    def train(self, report: Report, stopped: Callable[[], bool]) -> bool:
        """Trains to the end, or until it is ``stopped``; whether it is at its end. Its state is saved either way."""
        saved = time.monotonic()
        ahead = Ahead(self._make_batch, self.threads)
        try:
            while not (self.training.is_over or stopped()):
                content, target = self._batch(ahead)
                report(self.training.step(content, self.loss, target))
                if time.monotonic() - saved > self.checkpoint_seconds:
                    self._save_on_the_way()
                    saved = time.monotonic()
        finally:
            ahead.close()
        self.save()
        return self.training.is_over

    def _save_on_the_way(self) -> None:
        """A store that is full or out of reach is tried again later: as yet, nothing is lost."""
        try:
            self.save()
        except StoreUnavailableError as error:
            log.warning("state not saved", iteration=self.training.iteration, reason=str(error))

    def save(self) -> None:
        """The state is written last: what stands beside it may be newer, and is written again."""
        began = time.monotonic()
        if self.exports:
            self._write(LOSSES, self._losses().encode())
            self._write(BANK, self.training.checkpoint().half().to_bytes())
        self._write(STATE, self.training.state())
        self.saved(time.monotonic() - began)

    def _write(self, name: str, data: bytes) -> None:
        with store_errors():
            obstore.put(self.storage, self.prefix + name, data)

    def _make_batch(self, number: int) -> Tensor:
        config = self.training.config
        return self.photographs.batch(number, config.batch, config.size)

    def _batch(self, ahead: Ahead) -> tuple[Tensor, Tensor | None]:
        """The next batch, and its content target where batches come more than once."""
        number, config = self.training.batch_number(), self.training.config
        if not config.pool:
            last = config.iterations
            return ahead.get(number, iter(range(number + 1, last))), None
        if number not in self._pooled:
            content = ahead.get(number, iter(range(number + 1, min(config.pool, config.iterations))))
            content = content.to(self.training.device, memory_format=torch.channels_last)  # as the training has it
            self._pooled[number] = (content, self.loss.content_target(content))
        return self._pooled[number]

    def _losses(self) -> str:
        """A line of JSON for each iteration."""
        lines = []
        for iteration, figures in enumerate(self.training.history, start=1):
            known = {name: value for name, value in zip(FIGURES, figures, strict=True) if not math.isnan(value)}
            lines.append(json.dumps({"iteration": iteration, **known}) + "\n")
        return "".join(lines)


def forget(storage: ObjectStore, prefix: str) -> None:
    """Deletes what a run has saved there."""
    with store_errors():
        for page in obstore.list(storage, prefix=prefix):
            for found in page:
                with suppress(FileNotFoundError):
                    obstore.delete(storage, found["path"])
