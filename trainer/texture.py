"""Texture synthesis: noise in, texture out (Ulyanov et al. 2016, arXiv 1603.03417, section 3.4 and the code of v1).

The pyramid learns to make pictures with the Gram matrices of a style picture, and with no content to keep. Padding is
circular, so its textures can be laid side by side.

The original fills each scale with noise of its own, U[0,1), inside the network. Here a network is a function of its
input, so the noise of all scales is added up in one picture: what the coarse scales see after pooling is their own
noise and little of the finer ones, and the finest scale sees all of it.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor

from contract.storage import open_storage
from generator.checkpoint import CONTENT_ROW
from generator.network import PYRAMID_RATIOS, GeneratorConfig, Norm
from trainer.descriptor import Descriptor
from trainer.evaluation import stylized_with
from trainer.perceptual import PRESETS, PerceptualLoss
from trainer.runs import Run
from trainer.sheets import jpeg, sheet
from trainer.training import TrainConfig, Training

LOSS = replace(PRESETS["atelier"], content_layer="relu1_1", content_weight=0.0)
"""Gram matrices alone. They are compared relative to their size, so the descriptor need not be calibrated. The content
layer has no weight; of those that are looked at anyway, it is the first."""
PYRAMID_WIDTH = 8
LEARNING_RATE = 5e-3
"""Higher than that of banks: these generators are small, and of one style."""
SAMPLES = 4
SAMPLES_NUMBER = 2**32 - 1
"""The number of a batch that no run trains on."""
PREVIEW = "samples.jpg"


class Noise:
    """What a texture is made from, in place of photographs: batches by number, of a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def batch(self, number: int, count: int, size: int) -> Tensor:
        """[count,3,size,size]: U[-1/2,1/2) of every scale of the pyramid, enlarged and added up, around 1/2."""
        draw = np.random.default_rng((self.seed, number))
        picture = torch.full((count, 3, size, size), 0.5)
        for ratio in PYRAMID_RATIOS:
            side = -(-size // ratio)
            coarse = torch.from_numpy(draw.random((count, 3, side, side), np.float32)) - 0.5
            picture += F.interpolate(coarse, scale_factor=ratio, mode="nearest")[:, :, :size, :size]
        return picture


def texture_config(norm: Norm, iterations: int, batch: int, size: int, style_size: int, seed: int) -> TrainConfig:
    """Of the network in the paper, trained with our loss and our schedule."""
    return TrainConfig(
        GeneratorConfig("pyramid", norm, PYRAMID_WIDTH, "circular"),
        LOSS,
        iterations=iterations,
        batch=batch,
        size=size,
        style_size=style_size,
        learning_rate=LEARNING_RATE,
        seed=seed,
        content_row=False,
    )


def prepare_texture(
    config: TrainConfig,
    *,
    name: str,
    picture: Tensor,
    vgg: Path,
    folder: Path,
    checkpoint_seconds: float,
    device: torch.device,
) -> Run:
    """A run that learns the texture of a picture [3,H,W], gone to where it stopped, if it ever ran."""
    descriptor = Descriptor(vgg, LOSS.layers).to(device).to(memory_format=torch.channels_last)
    loss = PerceptualLoss(descriptor, LOSS).with_styles([[picture.to(device)]])
    inputs = hashlib.sha256(picture.cpu().numpy().tobytes() + vgg.read_bytes()).hexdigest()
    training = Training(config, (CONTENT_ROW, name), device, inputs=inputs)
    run = Run(
        training,
        Noise(config.seed),
        loss,
        open_storage(str(folder)),
        checkpoint_seconds=checkpoint_seconds,
        saved=lambda _: (folder / PREVIEW).write_bytes(jpeg(_preview(training))),
    )
    run.resume()
    return run


def samples(training: Training, count: int = SAMPLES) -> Tensor:
    """Textures [count,3,size,size] from noise that the run does not train on."""
    noise = Noise(training.config.seed).batch(SAMPLES_NUMBER, count, training.config.size).to(training.device)
    return stylized_with(training.generator, training.styles[-1], noise)


def _preview(training: Training) -> Tensor:
    first, *others = samples(training)[:, None]
    return sheet(first, others)
