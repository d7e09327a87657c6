"""The perceptual loss: what a descriptor network sees of content and style (Gatys et al. 2016, Johnson et al. 2016).

Weights are for the calibrated descriptor, whose layers have a mean activation of 1 over photographs.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.descriptor import Descriptor, Network

GramNorm = Literal["relative", "chw", "hw"]


@dataclass(frozen=True)
class LossConfig:
    """Which layers are compared, how, and what each term weighs."""

    network: Network = "vgg19"
    content_layer: str = "relu3_1"
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    gram: GramNorm = "relative"
    """``relative``: ‖G - G*‖²/‖G*‖² with G = FFᵀ/HW, so that every layer and every painting counts alike; ``chw`` and
    ``hw``: the mean squared difference of FFᵀ divided by C·H·W or H·W, as the systems before us have it."""
    content_weight: float = 1.0
    style_weight: float = 60.0
    """Times the mean over the style layers."""
    total_variation_weight: float = 0.0
    identity_weight: float = 200.0
    """How much the row that reproduces the content weighs: times the mean squared error of its pixels."""

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.style_layers, self.content_layer)))


PRESETS = {
    "atelier": LossConfig(),
    "texture_nets": LossConfig(
        content_layer="relu4_2",
        style_layers=("relu1_2", "relu2_2", "relu3_2", "relu4_2"),
        gram="chw",
        style_weight=4e5,
    ),
    "johnson": LossConfig(
        network="vgg16",
        content_layer="relu3_3",
        style_layers=("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
        gram="chw",
        style_weight=2e5,
        total_variation_weight=0.6,
    ),
    "pytorch_examples": LossConfig(
        network="vgg16",
        content_layer="relu2_2",
        style_layers=("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
        gram="chw",
        style_weight=4e5,
    ),
}
"""The losses of the systems that we come from, and ours.

Networks, layers and Gram matrices are theirs. Their weights belong to descriptors of another scale, where a content
loss grows with the square of the activations and a Gram loss with the fourth power. They are converted with a mean
activation of 100 for Caffe's weights on pixels of 0..255 (texture_nets' README: 1 and 10 a layer; fast-neural-style:
1, 5 a layer and 1e-6 for the total variation, summed over 256² pixels) and of 1 for torchvision's (pytorch/examples:
1e5 and 1e10 a layer), divided by the content's, and the style's multiplied by the number of layers, as we take their
mean. That is right to the order of magnitude.
"""


def gram_matrix(features: Tensor) -> Tensor:
    """G = F·Fᵀ/(H·W) of each picture: [B,C,H,W] → [B,C,C], in float32 whatever the precision around it."""
    gram: Tensor = _Gram.apply(features)
    return gram


class _Gram(torch.autograd.Function):
    """Features stay in the channels-last layout. As G is symmetric, one product instead of two gives their gradient,
    in the precision that they have themselves.
    """

    @staticmethod
    def forward(context: Any, features: Tensor) -> Tensor:
        pixels = features.permute(0, 2, 3, 1).flatten(1, 2)  # B,HW,C
        context.save_for_backward(pixels)
        context.size = features.shape[2:]
        with torch.autocast(features.device.type, enabled=False):
            exact = pixels.float()
            return torch.bmm(exact.mT, exact) / pixels.shape[1]

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """∂F = (∂G + ∂Gᵀ)·F/(H·W)"""
        (pixels,) = context.saved_tensors
        both = ((gradient + gradient.mT) / pixels.shape[1]).to(pixels.dtype)
        return torch.bmm(pixels, both).reshape(len(pixels), *context.size, -1).permute(0, 3, 1, 2)


def content_loss(stylized: Tensor, content: Tensor) -> Tensor:
    """Mean squared difference of features [B,C,H,W], one value per picture: [B] (Johnson et al. 2016, equation 2)."""
    return (stylized.float() - content.float()).square().mean(dim=(1, 2, 3))


def style_loss(stylized: Tensor, style: Tensor, norm: GramNorm = "relative") -> Tensor:
    """The distance of Gram matrices [B,C,C], one value per picture: [B] (Johnson et al. 2016, equation 4).

    Relative to the squared norm of the target, 1 is what a picture without any feature would have.
    """
    squares = (stylized - style).square()
    if norm == "relative":
        return squares.sum(dim=(1, 2)) / style.square().sum(dim=(1, 2))
    channels = style.shape[1] if norm == "chw" else 1
    return squares.mean(dim=(1, 2)) / channels**2


def total_variation_loss(picture: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels of [B,3,H,W], one value per picture: [B]."""
    horizontal = picture.float().diff(dim=3).square().mean(dim=(1, 2, 3))
    return horizontal + picture.float().diff(dim=2).square().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class Losses:
    """One value per picture [B]; ``total`` is what training minimises the mean of."""

    content: Tensor
    style: Tensor
    total: Tensor


@dataclass(frozen=True)
class PerceptualLoss:
    """The distance of stylized pictures to their content and to the style pictures of their rows.

    ``grams`` holds, for each style layer, one target per row of the bank [N,C,C]. Row 0 is not a style: it is asked to
    reproduce the content, so that ``strength`` has somewhere to start from.
    """

    descriptor: Descriptor
    config: LossConfig
    grams: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def with_styles(self, styles: list[list[Tensor]]) -> "PerceptualLoss":
        """The loss for a bank whose rows 1.. are these styles: pictures [3,H,W] of any size, one or more of each.

        The target of several pictures is the mean of their Gram matrices.
        """
        rows = [self._mean_grams(pictures) for pictures in styles]
        grams = {
            layer: torch.cat([torch.zeros_like(rows[0][layer]), *(row[layer] for row in rows)])
            for layer in self.config.style_layers
        }
        return PerceptualLoss(self.descriptor, self.config, grams)

    def _mean_grams(self, pictures: list[Tensor]) -> dict[str, Tensor]:
        grams = [self._grams_of(picture) for picture in pictures]
        return {layer: torch.stack([found[layer] for found in grams]).mean(dim=0) for layer in self.config.style_layers}

    def _grams_of(self, picture: Tensor) -> dict[str, Tensor]:
        """Of one picture [3,H,W]: its features, a gigabyte or two for a large one, do not outlive this."""
        features = self.descriptor(picture[None], self.config.style_layers)
        return {layer: gram_matrix(found) for layer, found in features.items()}

    @torch.no_grad()
    def content_target(self, content: Tensor) -> Tensor:
        """What the stylized pictures of this content [B,3,H,W] are compared with: features [B,C,H',W']."""
        layer = self.config.content_layer
        target: Tensor = self.descriptor(content, (layer,))[layer]
        return target

    def __call__(self, stylized: Tensor, content: Tensor, rows: Tensor, target: Tensor | None = None) -> Losses:
        """stylized and content [B,3,H,W], rows [B] of the bank; ``target`` is ``content_target`` where it is known."""
        config = self.config
        is_style = (rows > 0).float()
        seen = self.descriptor(stylized)
        wanted = self.content_target(content) if target is None else target
        of_content = content_loss(seen[config.content_layer], wanted)
        safe_rows = rows.clamp(min=1)
        of_style = torch.stack(
            [style_loss(gram_matrix(seen[name]), self.grams[name][safe_rows], config.gram) for name in self.grams]
        ).mean(dim=0)
        styled = config.content_weight * of_content + config.style_weight * of_style
        styled = styled + config.total_variation_weight * total_variation_loss(stylized)
        identity = config.identity_weight * (stylized.float() - content.float()).square().mean(dim=(1, 2, 3))
        return Losses(of_content, of_style, is_style * styled + (1 - is_style) * identity)
