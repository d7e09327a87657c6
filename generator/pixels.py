"""Pictures and tensors: the only place that knows range, layout, mean and standard deviation."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Pixels = npt.NDArray[np.uint8]
"""H,W,3 RGB, 0..255."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_tensor(pixels: Pixels) -> Tensor:
    """uint8 [H,W,3] → float32 [3,H,W], 0 is black and 1 is white."""
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255.0)


def to_pixels(stylized: Tensor) -> Pixels:
    """Float [3,H,W] of any device → uint8 [H,W,3]: clamped to 0..1, rounded to the nearest of the 256 values."""
    levels = stylized.detach().float().clamp(0.0, 1.0).mul(255.0).round_().to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()


def for_descriptor(picture: Tensor) -> Tensor:
    """[B,3,H,W] in 0..1 → what torchvision's descriptor networks were trained on (ImageNet mean and deviation)."""
    mean = torch.tensor(IMAGENET_MEAN, dtype=picture.dtype, device=picture.device)[:, None, None]
    std = torch.tensor(IMAGENET_STD, dtype=picture.dtype, device=picture.device)[:, None, None]
    return (picture - mean) / std
