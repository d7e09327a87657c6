"""How weights move: by Adam, as in the papers that we come from, or by Muon (docs/decisions/0008)."""

from typing import Any, Literal, get_args

import torch
from torch import nn

OptimizerName = Literal["adam", "muon"]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)

Group = dict[str, Any]
"""What ``torch.optim`` calls a parameter group: ``params``, and here ``peak``, the highest learning rate."""


class Muon:
    """Muon (Jordan et al. 2024) for convolutions, Adam for everything else.

    A convolution's weight [O,I,k,k] is the matrix [O,I·k·k] that maps patches to channels. Muon takes the orthogonal
    matrix that is nearest to its momentum as the step, so that directions with small gradients move as far as those
    with large ones. Steps are as large as Adam's would be at the same learning rate (``match_rms_adamw``, Liu et al.
    2025). ``torch.optim.Muon`` takes matrices alone, so each weight has a copy in that shape, which is moved for it.
    """

    def __init__(self, convolutions: Group, others: list[Group]) -> None:
        self._weights: list[nn.Parameter] = list(convolutions["params"])
        self._matrices = [weight.detach().flatten(1).clone() for weight in self._weights]
        self._muon = torch.optim.Muon(
            [{**convolutions, "params": self._matrices}], weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        )
        self._adam = torch.optim.Adam(others)

    @property
    def param_groups(self) -> list[Group]:
        """Those of both, whose learning rates a schedule sets; the first has matrices in place of its weights."""
        return [*self._muon.param_groups, *self._adam.param_groups]

    @torch.no_grad()
    def step(self) -> None:
        """Weights are read anew each time: whoever restores a network need not know of the copies."""
        for weight, matrix in zip(self._weights, self._matrices, strict=True):
            matrix.copy_(weight.flatten(1))
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        self._muon.step()  # type: ignore[no-untyped-call]
        for weight, matrix in zip(self._weights, self._matrices, strict=True):
            weight.copy_(matrix.view_as(weight))
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
