"""The training of a bank: which weights move, by how much, and what happens when they move the wrong way.

A *bank* run trains a trunk and a style vector for each of its styles (Dumoulin et al. 2017); row 0 learns to reproduce
the content. A *full* run is a bank of one style. A *quick* run leaves the trunk as it is and fits one style vector.
"""

import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import structlog
import torch
from torch import Tensor, nn

from contract.errors import SettingsError, TrainingDivergedError
from generator.checkpoint import CONTENT_ROW, Checkpoint, of_generator
from generator.network import Generator, GeneratorConfig
from trainer.optimizers import Group, Muon, OptimizerName
from trainer.perceptual import LossConfig, Losses, PerceptualLoss

log = structlog.get_logger()

FIGURES = ("total", "content", "style", "identity")
"""What an iteration reports, as means over its batch; NaN where no picture of it has such a loss."""

WATCH_WINDOW = 20
WATCH_PICTURES = 80
"""So many iterations, and of so many pictures at least, have their mean loss held against that of the first ones: the
styles of a bank have losses that differ five times over, so a mean of few pictures says which styles they were in."""
DIVERGED = 1.5
"""A loss that is this many times its start is not on its way down."""
SNAPSHOT_ITERATIONS = 50
"""Between one state that the run may go back to and the next, at least."""
BACK_OFF = 0.5
MAX_BACK_OFFS = 3
OUTPUT_RATE = 0.1
"""The learning rate of the last convolution, as a share of the others'. It sums thousands of features that are never
negative, so a step of one size in all of its weights swings the colour of the whole picture."""
FIRST_CONTRAST = 0.1
"""Of PyTorch's first weights, how much the last convolution of a new network begins with. At their full size it makes
noise, whose objective is sixty times that of a flat picture (2,500 and 40 on Starry Night): the gradients of those
first iterations are what Adam remembers for the next thousand, in which it hardly moves (docs/decisions/0007)."""
LEAST_STYLES, MOST_STYLES = 3, 7
"""For each turn of the content's row, how many styles have theirs."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run learns, besides its pictures and where it starts."""

    generator: GeneratorConfig
    loss: LossConfig
    iterations: int = 3000
    batch: int = 4
    size: int = 256
    style_size: int = 512
    learning_rate: float = 1e-3
    style_learning_rate: float = 1e-2
    """That of the style vectors: few numbers, each of which steers a whole channel, can and must move faster."""
    optimizer: OptimizerName = "adam"
    """That of the trunk; style vectors are moved by Adam in any case."""
    warm_up: int = 20
    """Iterations in which the learning rates rise, until the optimiser knows how large gradients are."""
    frozen_trunk: bool = False
    content_row: bool = True
    """Whether the row that reproduces the content is trained; a generator of one style alone, as the papers have them,
    does without."""
    pool: int = 0
    """How many batches are used, over and over; 0: every batch is new. What is known of them is computed once."""
    seed: int = 0


class Training:
    """The state of one run: generator, style vectors, optimiser, schedule and history.

    Everything that follows depends on ``state()`` and on the batches alone, so a run that is resumed ends where one
    that was never stopped ends.
    """

    def __init__(
        self,
        config: TrainConfig,
        names: Sequence[str],
        device: torch.device,
        start: Checkpoint | None = None,
        precision: torch.dtype = torch.float32,
        inputs: str = "",
    ) -> None:
        """``start`` gives the trunk, and a first row for each name; without it, all of them are new. ``inputs`` is a
        hash of the pictures and weights that the run works with: a state of other inputs is not gone on from.
        """
        torch.manual_seed(config.seed)
        self.config = config
        self.names = tuple(names)
        self.device = device
        self.precision = precision
        self._inputs = inputs
        generator = start.generator() if start else _new(config.generator)
        self.generator = generator.to(device).to(memory_format=torch.channels_last)
        self.generator.requires_grad_(not config.frozen_trunk)
        rows = start.styles if start else self.generator.neutral_style().repeat(len(names), 1)
        # One parameter each: a row that is not in the batch has no gradient, and the optimiser leaves it alone.
        self.rows = [nn.Parameter(row.float().clone().to(device), requires_grad=self._is_trained(i))
                     for i, row in enumerate(rows)]  # fmt: skip
        self.optimizer = self._new_optimizer()
        self._trained = [p for p in (*self.generator.parameters(), *self.rows) if p.requires_grad]
        self.iteration = 0
        self.history: list[tuple[float, ...]] = []
        self.seconds = 0.0
        self._learning_rate_scale = 1.0
        self._back_offs = 0
        self._healthy: bytes = self._snapshot()
        """What the run goes back to: nothing was wrong with it when the next one was taken."""
        self._candidate: bytes = self._healthy
        """The latest snapshot. What it holds may be on its way to diverge, before the mean of a window shows it."""

    def _is_trained(self, row: int) -> bool:
        is_content = self.names[row] == CONTENT_ROW
        return not (is_content and (self.config.frozen_trunk or not self.config.content_row))

    def _new_optimizer(self) -> torch.optim.Adam | Muon:
        config = self.config
        rows = {"params": [row for row in self.rows if row.requires_grad], "peak": config.style_learning_rate}
        if config.frozen_trunk:
            return torch.optim.Adam([rows])
        output = list(self.generator.trunk.output.parameters())
        others = [p for p in self.generator.parameters() if all(p is not one for one in output)]
        groups: list[Group] = [{"params": output, "peak": OUTPUT_RATE * config.learning_rate}, rows]
        if config.optimizer == "adam":
            return torch.optim.Adam([{"params": others, "peak": config.learning_rate}, *groups])
        convolutions, biases = ([p for p in others if (p.ndim == 4) is wanted] for wanted in (True, False))
        return Muon(
            {"params": convolutions, "peak": config.learning_rate},
            [{"params": biases, "peak": config.learning_rate}, *groups],
        )

    @property
    def styles(self) -> Tensor:
        """All rows of the bank [N,S]."""
        return torch.stack([row.detach() for row in self.rows])

    @property
    def is_over(self) -> bool:
        return self.iteration >= self.config.iterations

    def batch_number(self) -> int:
        """Which batch of photographs comes next."""
        return self.iteration % self.config.pool if self.config.pool else self.iteration

    def batch_rows(self) -> Tensor:
        """The rows of this batch: every row in turn, in a new order each round. [batch]"""
        turns = self._round()
        first = self.iteration * self.config.batch
        rounds = range(first // len(turns), (first + self.config.batch) // len(turns) + 1)
        order = np.concatenate(
            [np.random.default_rng((self.config.seed, 1, number)).permutation(turns) for number in rounds]
        )
        start = first % len(turns)
        return torch.from_numpy(order[start : start + self.config.batch])

    def _round(self) -> list[int]:
        """Each row that is trained: styles equally often, the content's row for an eighth to a quarter of the time.

        With pictures of its own to make and no strokes to hide behind, it needs more turns than one style of many.
        """
        styles = [row for row, name in enumerate(self.names) if name != CONTENT_ROW]
        content = [row for row, name in enumerate(self.names) if name == CONTENT_ROW and self._is_trained(row)]
        if not content:
            return styles
        return content * math.ceil(len(styles) / MOST_STYLES) + styles * math.ceil(LEAST_STYLES / len(styles))

    def step(self, content: Tensor, loss: PerceptualLoss, target: Tensor | None = None) -> dict[str, float]:
        """One iteration over a batch [B,3,H,W]; the means of its losses.

        When the losses are no numbers or grow, the run goes back to where it was healthy, and on with half the learning
        rate. Raises TrainingDivergedError when that has not helped three times.
        """
        began = time.monotonic()
        rows = self.batch_rows().to(self.device)
        self._set_learning_rates()
        total, figures = self._losses(content, rows, loss, target)
        for parameter in self._trained:
            parameter.grad = None
        total.backward()  # type: ignore[no-untyped-call]
        has_numbers = math.isfinite(figures["total"]) and self._gradients_are_finite()
        if has_numbers:
            self.optimizer.step()
            self._count(figures, time.monotonic() - began)
        if not has_numbers or self._is_diverging():
            self._go_back(figures["total"])
        elif self.iteration % max(SNAPSHOT_ITERATIONS, self._window) == 0:
            self._healthy, self._candidate = self._candidate, self._snapshot()
        return figures

    def _losses(
        self, content: Tensor, rows: Tensor, loss: PerceptualLoss, target: Tensor | None
    ) -> tuple[Tensor, dict[str, float]]:
        self.generator.train(not self.config.frozen_trunk)  # running averages of a frozen trunk stay as they are, too
        content = content.to(self.device, memory_format=torch.channels_last)
        styles = torch.stack([self.rows[row] for row in rows.tolist()])
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            losses = loss(self.generator(content, styles), content, rows, target)
        total = losses.total.mean()
        return total, _means_over_rows(losses, rows)

    def _set_learning_rates(self) -> None:
        """A linear rise, then half a cosine down to a hundredth of the configured rates."""
        config = self.config
        progress = min(1.0, self.iteration / max(1, config.iterations))
        scale = min(1.0, (self.iteration + 1) / max(1, config.warm_up))
        scale *= self._learning_rate_scale * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * scale

    def _gradients_are_finite(self) -> bool:
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        return bool(torch.isfinite(nn.utils.get_total_norm(gradients)))

    def _count(self, figures: dict[str, float], seconds: float) -> None:
        self.iteration += 1
        self.seconds += seconds
        self.history.append(tuple(figures.get(name, math.nan) for name in FIGURES))

    @property
    def _window(self) -> int:
        return max(WATCH_WINDOW, math.ceil(WATCH_PICTURES / self.config.batch))

    def _is_diverging(self) -> bool:
        """Whether the losses have grown above their start; identity and style losses are of the same order."""
        if len(self.history) < 2 * self._window:
            return False
        windows = self.history[: self._window], self.history[-self._window :]
        first, last = (float(np.mean([figures[0] for figures in window])) for window in windows)
        return last > DIVERGED * first

    def _go_back(self, total: float) -> None:
        """To the last state that was healthy, with a lower learning rate."""
        at, back_offs = self.iteration, self._back_offs + 1
        if back_offs > MAX_BACK_OFFS:
            raise TrainingDivergedError(
                f"The loss stood at {total:.3g} after iteration {at} and would not fall, with a learning rate that was "
                f"halved {MAX_BACK_OFFS} times: try another picture, a smaller style_weight or more iterations."
            )
        scale = self._learning_rate_scale * BACK_OFF
        self.restore(self._healthy)
        self._learning_rate_scale, self._back_offs = scale, back_offs
        self._healthy = self._candidate = self._snapshot()
        log.warning("training goes back", iteration=at, to=self.iteration, total=total, learning_rate_scale=scale)

    def state(self) -> bytes:
        """All that a run needs to go on, as ``torch.save`` writes it; read with ``weights_only``.

        With it go the states to which the run would go back: who goes on is to go back no less far than who never
        stopped, for what is saved may be on its way to diverge.
        """
        return self._snapshot(healthy=_packed(self._healthy), candidate=_packed(self._candidate))

    def _snapshot(self, **others: Tensor) -> bytes:
        out = io.BytesIO()
        torch.save(
            {
                "identity": self.identity(),
                "generator": {} if self.config.frozen_trunk else self.generator.state_dict(),
                "rows": self.styles,
                "optimizer": self.optimizer.state_dict(),
                "iteration": self.iteration,
                "history": torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(FIGURES)),
                "seconds": self.seconds,
                "learning_rate_scale": self._learning_rate_scale,
                "back_offs": self._back_offs,
                **others,
            },
            out,
        )
        return out.getvalue()

    def restore(self, data: bytes) -> None:
        """Goes to that state, and on in its precision: which one is faster was measured, and may come out otherwise.

        Raises SettingsError when the state is that of a run with another configuration.
        """
        state = torch.load(io.BytesIO(data), map_location=self.device, weights_only=True)
        theirs, ours = json.loads(state["identity"]), json.loads(self.identity())
        if theirs | {"precision": ours["precision"]} != ours:
            raise SettingsError("The folder holds a run with other arguments: use them again, or another folder.")
        self.precision = getattr(torch, theirs["precision"].removeprefix("torch."))
        if not self.config.frozen_trunk:
            self.generator.load_state_dict(state["generator"])
        with torch.no_grad():
            for row, value in zip(self.rows, state["rows"], strict=True):
                row.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration = state["iteration"]
        self.history = [tuple(figures) for figures in state["history"].tolist()]
        self.seconds = state["seconds"]
        self._learning_rate_scale = state["learning_rate_scale"]
        self._back_offs = state["back_offs"]
        self._healthy = _unpacked(state.get("healthy"), data)  # states of older versions have none
        self._candidate = _unpacked(state.get("candidate"), self._healthy)

    def identity(self) -> str:
        """What two states must have in common."""
        about = {"names": self.names, "precision": str(self.precision), "inputs": self._inputs}
        config = {**asdict(self.config), "generator": self.config.generator.described()}
        later = {"content_row": True, "optimizer": "adam"}  # they came later, and older states go on
        for name in [name for name, usual in later.items() if config[name] == usual]:
            del config[name]
        return json.dumps({**config, **about})

    def checkpoint(self) -> Checkpoint:
        """What has been learnt: a row of the content that is not trained is left out."""
        first = 1 if self.names[0] == CONTENT_ROW and not self.config.content_row else 0
        return of_generator(self.generator, self.names[first:], self.styles[first:])


def _new(config: GeneratorConfig) -> Generator:
    generator = Generator(config)
    with torch.no_grad():
        generator.trunk.output.weight *= FIRST_CONTRAST
    return generator


def _packed(snapshot: bytes) -> Tensor:
    return torch.frombuffer(bytearray(snapshot), dtype=torch.uint8)


def _unpacked(snapshot: Tensor | None, otherwise: bytes) -> bytes:
    return otherwise if snapshot is None else snapshot.numpy(force=True).tobytes()


def _means_over_rows(losses: Losses, rows: Tensor) -> dict[str, float]:
    """Content and style loss of the styled pictures, and the identity loss of the others."""
    styled = rows > 0
    figures = {"total": losses.total.mean().item()}
    if bool(styled.any()):
        figures |= {"content": losses.content[styled].mean().item(), "style": losses.style[styled].mean().item()}
    if not bool(styled.all()):
        figures["identity"] = losses.total[~styled].mean().item()
    return figures
