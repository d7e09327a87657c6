"""A narrow bank as a wider one that makes the same pictures: where a wide training may begin.

Net2WiderNet (Chen, Goodfellow, Shlens 2016, arXiv 1511.05641, algorithm 1): new channels are copies of old ones, and
what reads them divides its weights among the copies. An instance norm gives a copy what it gives the original, and so
do the style vectors. The copies share the weights unequally, so that they learn different things.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from contract.errors import CheckpointError
from generator.checkpoint import Checkpoint
from generator.network import Generator, GeneratorConfig, ResidualTrunk, StyledNorm

LEAST_SHARE = 0.3
"""Of the weights that two copies share, each has between this and the rest."""


def widened(bank: Checkpoint, width: int, seed: int = 0) -> Checkpoint:
    """The same bank with ``width`` channels in the first layer. Raises CheckpointError for what cannot be widened."""
    config = bank.config
    if config.architecture != "residual" or config.norm != "instance" or not config.width <= width <= 2 * config.width:
        raise CheckpointError(
            f"A bank of {config} cannot be widened to {width} channels: it must be a residual generator with instance "
            "norm, and at most double."
        )
    draw = np.random.default_rng(seed)
    target = replace(config, width=width)
    trunk = {name: tensor.float() for name, tensor in bank.trunk.items()}
    channels: dict[str, Tensor] = {}  # of the layer's output: which old channel each new one copies
    copies_in = torch.arange(3)
    for name in _layers(target):
        weight = trunk[f"{name}.weight"]
        copies_out = torch.arange(3) if name == "output" else _copies(weight.shape[0], width, config.width, draw)
        if name.endswith("second.conv"):
            copies_out = channels["layers.2.conv"]  # it is added to the others
        reads = channels["layers.2.conv"] if name.endswith("first.conv") else copies_in
        trunk[f"{name}.weight"] = _divided(weight, reads, draw)[copies_out]
        trunk[f"{name}.bias"] = trunk[f"{name}.bias"][copies_out]
        channels[name] = copies_in = copies_out
    return Checkpoint(target, trunk, bank.names, _widened_styles(bank.styles, config, list(channels.values())))


def _layers(config: GeneratorConfig) -> list[str]:
    """The convolutions, in the order in which they run."""
    with torch.device("meta"):
        trunk = Generator(config).trunk
    assert isinstance(trunk, ResidualTrunk)
    convolutions = [name for name, module in trunk.named_modules() if isinstance(module, torch.nn.Conv2d)]
    norms = [name for name, module in trunk.named_modules() if isinstance(module, StyledNorm)]
    assert len(convolutions) == len(norms) + 1, "every convolution but the last has a norm"
    return convolutions


def _copies(channels: int, width: int, old_width: int, draw: np.random.Generator) -> Tensor:
    """Every old channel, then copies of some."""
    new = channels * width // old_width - channels
    return torch.from_numpy(np.concatenate([np.arange(channels), draw.permutation(channels)[:new]]))


def _divided(weight: Tensor, copies: Tensor, draw: np.random.Generator) -> Tensor:
    """[O,I,k,k] → [O,I',k,k]: what an old channel was read with is shared out among its copies.

    Each reader shares in its own way: were a copy's gradient but a multiple of the other's, Adam would move both alike.
    """
    outputs, old = weight.shape[:2]
    shares = torch.ones(outputs, len(copies))
    for new in range(old, len(copies)):
        share = torch.from_numpy(draw.uniform(LEAST_SHARE, 1 - LEAST_SHARE, outputs))
        shares[:, new], shares[:, copies[new]] = share, 1 - share
    return weight[:, copies] * shares[:, :, None, None]


def _widened_styles(styles: Tensor, config: GeneratorConfig, copies: list[Tensor]) -> Tensor:
    """γ and β of a copied channel are copied."""
    parts = torch.split(styles.float(), Generator(config).style_sizes, dim=1)
    wide = []
    for part, of_layer in zip(parts, copies, strict=True):
        gamma, beta = part.chunk(2, dim=1)
        wide += [gamma[:, of_layer], beta[:, of_layer]]
    return torch.cat(wide, dim=1)
