"""Brightness and contrast of photographs: measured, altered and evened out."""

from collections.abc import Callable

import torch
from torch import Tensor

LEVELS = 255.0
HISTOGRAM_LEVELS = 256

ALTERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "contrast 1/2": lambda x: 0.5 + 0.5 * (x - 0.5),
    "contrast 1/4": lambda x: 0.5 + 0.25 * (x - 0.5),
    "darker": lambda x: 0.6 * x,
    "brighter": lambda x: 0.4 + 0.6 * x,
    "gamma 2": lambda x: x**2,
    "gamma 1/2": lambda x: x**0.5,
}
"""What is done to the contrast and brightness of photographs; nothing is clipped. The first four are a gain and an
offset, which instance norm takes out by its equation; a gamma is neither."""
LOWEST_CONTRAST = "contrast 1/4"


def luminance(pictures: Tensor) -> Tensor:
    """[B,3,H,W] → [B,1,H,W] (ITU-R BT.601)."""
    weights = torch.tensor((0.299, 0.587, 0.114), device=pictures.device)[:, None, None]
    return (pictures * weights).sum(dim=1, keepdim=True)


def contrast(pictures: Tensor) -> float:
    """The standard deviation of the brightness of [B,3,H,W], in levels of 0..255, mean over the pictures."""
    return float(LEVELS * luminance(pictures).std(dim=(1, 2, 3)).mean())


def equalised(pictures: Tensor) -> Tensor:
    """[B,3,H,W] with all brightnesses equally often in each picture: a pixel gets the rank of its own among all."""
    light = luminance(pictures)
    levels = (light * (HISTOGRAM_LEVELS - 1)).round().long().clamp(0, HISTOGRAM_LEVELS - 1).flatten(1)  # B,HW
    counts = torch.zeros(len(levels), HISTOGRAM_LEVELS, device=levels.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels, dtype=counts.dtype))
    ranks = counts.cumsum(dim=1) / levels.shape[1]
    return (pictures + ranks.gather(1, levels).view_as(light) - light).clamp(0, 1)
