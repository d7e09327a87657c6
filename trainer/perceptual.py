"""The perceptual loss: what a descriptor network sees of content and style (Gatys et al. 2016, Johnson et al. 2016).

The descriptor is VGG-19 as torchvision builds it, or a part of it from a file. It calibrates itself at start: each
layer is divided by its mean activation over photographs, so that one set of loss weights means the same whatever the
scale of the descriptor's weights.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn
from torchvision.models import vgg19

from contract.errors import CheckpointError
from generator.pixels import for_descriptor

# Positions in torchvision's vgg19().features, after the ReLU.
VGG19_LAYERS = {"relu1_1": 1, "relu1_2": 3, "relu2_1": 6, "relu2_2": 8, "relu3_1": 11, "relu3_2": 13, "relu4_1": 20}


@dataclass(frozen=True)
class LossConfig:
    """Which layers are compared and what each term weighs. Weights are for the calibrated descriptor."""

    content_layer: str = "relu4_1"
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    content_weight: float = 1.0
    style_weight: float = 20.0
    total_variation_weight: float = 0.0
    identity_weight: float = 50.0
    """How much the row that reproduces the content weighs: times the mean squared error of its pixels."""

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.style_layers, self.content_layer)))


class Descriptor(nn.Module):
    """VGG-19 up to the last layer that a loss needs: picture [B,3,H,W] in 0..1 → features [B,C,H',W'] by layer name."""

    def __init__(self, weights: Path, layers: Iterable[str]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        last = max(VGG19_LAYERS[name] for name in self.layers)
        with torch.device("meta"):  # drawing 140 million random weights takes seconds, and they are replaced at once
            features = vgg19(weights=None).features[: last + 1]
        self.features = features.to_empty(device="cpu")
        self._load(weights)
        self.requires_grad_(False).eval()

    def _load(self, weights: Path) -> None:
        try:
            tensors = safetensors.torch.load_file(weights)
            state = {name.removeprefix("features."): tensor for name, tensor in tensors.items()}
            wanted = self.features.state_dict().keys()
            self.features.load_state_dict({name: state[name] for name in wanted})
        except (OSError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
            raise CheckpointError(
                f"{weights.name} does not hold the VGG-19 weights that {self.layers[-1]} needs "
                f"(features.0.weight … as torchvision names them): {error}"
            ) from error

    @torch.no_grad()
    def calibrate(self, photographs: Tensor) -> None:
        """Divides every layer by its mean activation over these photographs [B,3,H,W], which brings that mean to 1.

        ReLU and max pooling are homogeneous, so the divisor of a layer goes into its own weights and the layer after
        takes it back: what the network distinguishes does not change, and it costs nothing in use.
        """
        x = for_descriptor(photographs)
        divisor = 1.0
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                assert layer.bias is not None
                layer.bias /= divisor  # x comes from a layer that has been divided, so the rest follows it
                mean = float(F.relu(layer(x)).mean().clamp(min=1e-12))
                layer.weight /= mean
                layer.bias /= mean
                divisor *= mean
            x = layer(x)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        names = {VGG19_LAYERS[name]: name for name in self.layers}
        features: dict[str, Tensor] = {}
        x = for_descriptor(picture)
        for position, layer in enumerate(self.features):
            x = layer(x)
            if position in names:
                features[names[position]] = x
        return features


def gram_matrix(features: Tensor) -> Tensor:
    """G = F·Fᵀ/(H·W) of each picture: [B,C,H,W] → [B,C,C], as float32.

    Gatys et al. divide by C·H·W or by nothing; here a constant of the layer cancels, as the loss is relative.
    """
    flat = features.flatten(2)  # B,C,HW
    return torch.bmm(flat, flat.transpose(1, 2)).float() / flat.shape[2]


def content_loss(stylized: Tensor, content: Tensor) -> Tensor:
    """Mean squared difference of features [B,C,H,W], one value per picture: [B] (Johnson et al. 2016, equation 2)."""
    return (stylized.float() - content.float()).square().mean(dim=(1, 2, 3))


def style_loss(stylized: Tensor, style: Tensor) -> Tensor:
    """‖G - G*‖²/‖G*‖² of Gram matrices [B,C,C], one value per picture: [B].

    Johnson et al. 2016, equation 4, take the squared norm itself; relative to the target's norm, every layer and every
    painting counts alike: 1 is what a picture without any feature would have.
    """
    return (stylized - style).square().sum(dim=(1, 2)) / style.square().sum(dim=(1, 2))


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
    def with_styles(self, style_pictures: list[Tensor]) -> "PerceptualLoss":
        """The loss for a bank whose rows 1.. are these pictures, each [3,H,W] of any size."""
        features = [self.descriptor(picture[None]) for picture in style_pictures]
        grams = {
            layer: torch.cat([torch.zeros_like(rows[0]), *rows])
            for layer in self.config.style_layers
            for rows in [[gram_matrix(f[layer]) for f in features]]
        }
        return PerceptualLoss(self.descriptor, self.config, grams)

    def __call__(self, stylized: Tensor, content: Tensor, rows: Tensor) -> Losses:
        """stylized and content [B,3,H,W], rows [B] of the bank."""
        is_style = (rows > 0).float()
        seen = self.descriptor(stylized)
        with torch.no_grad():
            wanted = self.descriptor(content)[self.config.content_layer]
        of_content = content_loss(seen[self.config.content_layer], wanted)
        safe_rows = rows.clamp(min=1)
        of_style = torch.stack(
            [style_loss(gram_matrix(seen[layer]), self.grams[layer][safe_rows]) for layer in self.config.style_layers]
        ).mean(dim=0)
        config = self.config
        styled = config.content_weight * of_content + config.style_weight * of_style
        styled = styled + config.total_variation_weight * total_variation_loss(stylized)
        identity = config.identity_weight * (stylized.float() - content.float()).square().mean(dim=(1, 2, 3))
        return Losses(of_content, of_style, is_style * styled + (1 - is_style) * identity)
