"""What training needs: random descriptor weights, a few photographs and a painting."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from PIL import Image
from torch import Tensor
from torchvision.models import vgg19

from trainer.descriptor import Descriptor
from trainer.perceptual import LossConfig, PerceptualLoss
from trainer.settings import TrainerSettings

SHALLOW = LossConfig(content_layer="relu2_1", style_layers=("relu1_1", "relu2_1"))
"""A loss that costs little."""


@pytest.fixture(scope="session")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of VGG-19 up to relu4_1 with biases that matter, under torchvision's names."""
    with torch.device("meta"):
        shapes = vgg19(weights=None).features[:21].state_dict()
    draw = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}
    for name, like in shapes.items():
        scale = (2 / like[0].numel()) ** 0.5 if like.dim() == 4 else 0.2
        weights[f"features.{name}"] = scale * torch.randn(like.shape, generator=draw)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    safetensors.torch.save_file(weights, path)
    return path


@pytest.fixture(scope="session")
def shallow_loss(vgg: Path) -> PerceptualLoss:
    """For a bank of two styles, calibrated."""
    descriptor = Descriptor(vgg, SHALLOW.layers)
    descriptor.calibrate(pictures(8, seed=5))
    return PerceptualLoss(descriptor, SHALLOW).with_styles([[picture] for picture in pictures(2, seed=6, size=40)])


def pictures(count: int, seed: int = 0, size: int = 32) -> Tensor:
    """Soft patches of colour with noise on them: [count,3,size,size] in 0..1."""
    draw = torch.Generator().manual_seed(seed)
    soft = F.interpolate(torch.rand(count, 3, 4, 4, generator=draw), size=(size, size), mode="bilinear")
    return 0.8 * soft + 0.2 * torch.rand(count, 3, size, size, generator=draw)


def patches(seed: int, width: int = 48, height: int = 48) -> Image.Image:
    """A picture of a few soft patches of colour."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five, of several sizes."""
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(5):
        patches(number, width=40 + 8 * number).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def paintings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Stripes and checks, which the photographs do not have."""
    folder = tmp_path_factory.mktemp("paintings")
    y, x = np.mgrid[:32, :40]
    for name, pattern in (("stripes", x // 4 % 2), ("checks", (x // 6 + y // 6) % 2)):
        Image.fromarray((pattern[:, :, None] * (255, 120, 30)).astype(np.uint8)).save(folder / f"{name}.png")
    return [folder / "stripes.png", folder / "checks.png"]


@pytest.fixture
def trainer_settings(tmp_path: Path, redis_url: str, vgg: Path, photographs: Path) -> TrainerSettings:
    return able(tmp_path, redis_url, vgg, photographs)


def able(folder: Path, redis_url: str, vgg: Path, photographs: Path) -> TrainerSettings:
    """The settings of a trainer that has all that it needs, in a folder, and short patience."""
    return TrainerSettings(
        data=folder / "data",
        redis_url=redis_url,
        builtin_styles=folder / "no-builtin-styles",
        heartbeat_seconds=0.2,
        lost_after_seconds=1.0,
        device="cpu",
        content=photographs,
        vgg=vgg,
        fetch="never",
        training_size=32,
        preview_seconds=0.1,
        checkpoint_seconds=1000,
    )
