"""Where a new row of a bank begins: at the one that comes nearest to what is asked of it."""

from pathlib import Path

import torch
from torch import Tensor

from generator.checkpoint import Checkpoint
from trainer.content import Photographs
from trainer.descriptor import Descriptor
from trainer.evaluation import scores, stylized_with
from trainer.perceptual import LossConfig, PerceptualLoss

CALIBRATION_PHOTOGRAPHS = 16
CALIBRATION_SIZE = 256
TRIAL_PHOTOGRAPHS = 2
OUTSIDE = 2**32 - 1
"""The number of a batch that no run trains on."""


def calibrated(
    weights: Path, config: LossConfig, photographs: Photographs, device: torch.device, size: int = CALIBRATION_SIZE
) -> Descriptor:
    """A descriptor for this loss, calibrated on crops of some of these photographs."""
    descriptor = Descriptor(weights, config.layers, config.network).to(device).to(memory_format=torch.channels_last)
    descriptor.calibrate(photographs.batch(OUTSIDE, CALIBRATION_PHOTOGRAPHS, size).to(device))
    return descriptor


def trial(photographs: Photographs, size: int) -> Tensor:
    """The crops [B,3,H,W] on which rows are compared."""
    return photographs.batch(OUTSIDE, TRIAL_PHOTOGRAPHS, size)


def best_row(bank: Checkpoint, loss: PerceptualLoss, contents: Tensor, row: int) -> Tensor:
    """The style vector [S] of the bank that comes nearest to what is asked of a row of ``loss``."""
    generator = bank.generator().to(contents.device)
    totals = [
        scores(loss, stylized_with(generator, style.to(contents.device), contents), contents, row).total
        for style in bank.styles
    ]
    return bank.styles[totals.index(min(totals))]
