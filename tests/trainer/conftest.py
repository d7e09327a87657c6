"""What training needs: random descriptor weights, a few photographs and a painting."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor
from torchvision.models import vgg19


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
