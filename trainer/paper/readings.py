"""One trained generator in several readings: with other statistics in its normalisation layers than usual.

A network with batch norm can be used with the *running* averages of its training, as everybody does today, or with the
statistics of the pictures that it is given: of a whole *batch*, or of a *single* picture, which is exactly what
instance norm does. A network with instance norm can be used as it is, with its statistics *frozen* to what they are on
average over photographs, or with normalisation *removed*, so that its layers but scale and shift.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from generator.instance_norm import NORM_EPSILON
from generator.network import Generator, Norm, StyledNorm

Reading = Literal["instance", "running", "batch", "single"]

READINGS: dict[Norm, tuple[Reading, ...]] = {"instance": ("instance",), "batch": ("running", "batch", "single")}
FIRST_READING: dict[Norm, Reading] = {"instance": "instance", "batch": "running"}
"""How a network with this norm is used by everybody."""


@torch.no_grad()
def stylized(generator: Generator, style: Tensor, contents: Tensor, reading: Reading) -> Tensor:
    """The contents [B,3,H,W] in one style [S], clamped; with ``batch``, all of them are the batch."""
    network = read_with_own_statistics(generator) if reading in ("batch", "single") else generator.eval()
    pieces = [contents] if reading == "batch" else torch.split(contents, 1)
    made = [network(piece, style.expand(len(piece), -1)) for piece in pieces]
    return torch.cat(made).nan_to_num().clamp(0, 1)


def read_with_own_statistics(generator: Generator) -> Generator:
    """A copy whose batch norms use the statistics of what they are given, and remember nothing of it."""
    network = copy.deepcopy(generator).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = 0.0
    return network


def frozen(generator: Generator, style: Tensor, contents: Tensor) -> Generator:
    """The network of an instance norm, with the average of its statistics over these contents [B,3,H,W] for all.

    Means and variances of each picture are averaged, as the running statistics of ``nn.InstanceNorm2d`` are.
    """
    with _observed(generator) as found:
        stylized(generator, style, contents, "instance")
    statistics = {name: [torch.stack(parts).mean(dim=0) for parts in zip(*seen, strict=True)]
                  for name, seen in found.items()}  # fmt: skip
    return _with_statistics(generator, lambda name, _norm: (statistics[name][0], statistics[name][1]))


def removed(generator: Generator) -> Generator:
    """The network of an instance norm, without normalisation: y = γx + β."""

    def nothing(_name: str, norm: StyledNorm) -> tuple[Tensor, Tensor]:
        channels = norm.style_size // 2
        return torch.zeros(channels), torch.full((channels,), 1 - NORM_EPSILON)

    return _with_statistics(generator, nothing)


def _norms(generator: Generator) -> Iterator[tuple[str, StyledNorm]]:
    for name, module in generator.trunk.named_modules():
        if isinstance(module, StyledNorm):
            yield name, module


@contextmanager
def _observed(generator: Generator) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Collects mean and variance [C] of what comes into each normalisation, for each picture."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name, _ in _norms(generator)}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            variances, means = torch.var_mean(inputs[0][0].flatten(1), dim=1, correction=0)
            found[name].append((means, variances))

        return see

    hooks = [norm.register_forward_pre_hook(watch(name)) for name, norm in _norms(generator)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _with_statistics(generator: Generator, statistics: Callable[[str, StyledNorm], tuple[Tensor, Tensor]]) -> Generator:
    """The same convolutions between batch norms that have these running means and variances."""
    network = Generator(replace(generator.config, norm="batch"))
    network.trunk.load_state_dict(generator.trunk.state_dict(), strict=False)
    for name, norm in _norms(network):
        assert norm.batch_norm is not None
        assert norm.batch_norm.running_mean is not None
        assert norm.batch_norm.running_var is not None
        mean, variance = statistics(name, norm)
        norm.batch_norm.running_mean.copy_(mean)
        norm.batch_norm.running_var.copy_(variance)
    device = next(generator.parameters()).device
    return network.to(device).eval()
