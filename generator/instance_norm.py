"""Instance normalisation by itself: (x - μ)/√(σ² + ε) of each picture and channel (1607.08022, equation 3)."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor
from torch.autograd.function import once_differentiable

NORM_EPSILON = 1e-5


def instance_norm(x: Tensor) -> Tensor:
    """[B,C,H,W] → the same, also for maps of a single pixel, where ``F.instance_norm`` refuses to run."""
    if x.shape[-1] * x.shape[-2] == 1:
        return torch.zeros_like(x)
    if x.device.type == "cpu" and x.requires_grad and torch.is_grad_enabled():
        normalised: Tensor = _InTraining.apply(x)
        return normalised
    return F.instance_norm(x, eps=NORM_EPSILON)


class _InTraining(torch.autograd.Function):
    """The same for trainings on a CPU, where ``F.instance_norm`` takes maps out of the channels-last layout that the
    convolutions around it are fast in: two to five times the time of this one, and then they are laid out anew.

    A group norm of groups of one channel keeps the layout, but its own gradient is slower still. It sums up squares, so
    the mean is taken out before: of flat maps no digit would be left. Its sums are in single precision all the same,
    which is enough for crops; pictures are not stylized with it.
    """

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        centred = x - x.mean((2, 3), keepdim=True)
        y, _, scale = torch.native_group_norm(
            centred, None, None, batch, channels, height * width, channels, NORM_EPSILON
        )  # scale is 1/√(σ² + ε)
        context.save_for_backward(y, scale.view(batch, channels, 1, 1).to(x.dtype))
        return y

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """∂x = (∂y - mean(∂y) - y·mean(∂y·y))/√(σ² + ε), means over the pixels of a channel."""
        y, scale = context.saved_tensors
        mean = gradient.mean((2, 3), keepdim=True)
        along = (gradient * y).mean((2, 3), keepdim=True)
        return torch.addcmul(gradient - mean, y, along, value=-1).mul_(scale)
