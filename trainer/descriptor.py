"""The descriptor network: the part of VGG that measures pictures, calibrated so that its scale does not matter.

Weights are torchvision's (``vgg19-….pth``), or any safetensors file with the same names, whole or as far as the deepest
layer that is asked for. Each layer is divided by its mean activation over photographs, so that one set of loss weights
means the same for every file of weights.
"""

import pickle
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn
from torchvision.models import vgg16, vgg19

from contract.errors import CheckpointError
from generator.pixels import for_descriptor

Network = Literal["vgg16", "vgg19"]

BUILDERS = {"vgg16": vgg16, "vgg19": vgg19}
CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""How many convolutions each of the five blocks has (Simonyan and Zisserman 2014, table 1, D and E)."""

UNREADABLE = (
    OSError,
    LookupError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    AssertionError,
    struct.error,
    pickle.UnpicklingError,
    safetensors.SafetensorError,
)
"""What is raised for files that are no weights at all; PyTorch's of before 1.6, which torchvision's are, fail in many
ways."""


def layer_positions(network: Network) -> dict[str, int]:
    """Where each ``relu{block}_{convolution}`` is in torchvision's ``features``: vgg19's relu4_1 is at 20."""
    positions: dict[str, int] = {}
    position = 0
    for block, convolutions in enumerate(CONVOLUTIONS[network], start=1):
        for convolution in range(1, convolutions + 1):
            positions[f"relu{block}_{convolution}"] = position + 1
            position += 2
        position += 1  # the pooling
    return positions


class Descriptor(nn.Module):
    """VGG up to the last layer that a loss needs: picture [B,3,H,W] in 0..1 → features [B,C,H',W'] by layer name."""

    def __init__(self, weights: Path, layers: Collection[str], network: Network = "vgg19") -> None:
        super().__init__()
        self.network: Network = network
        self.positions = {name: layer_positions(network)[name] for name in layers}
        last = max(self.positions.values())
        with torch.device("meta"):  # drawing 140 million random weights takes seconds, and they are replaced at once
            features = BUILDERS[network](weights=None).features[: last + 1]
        self.features = features.to_empty(device="cpu")
        self._load(weights)
        self.requires_grad_(False).eval()

    def _load(self, weights: Path) -> None:
        try:
            state = {name.removeprefix("features."): tensor for name, tensor in _tensors(weights).items()}
            wanted = self.features.state_dict().keys()
            self.features.load_state_dict({name: state[name] for name in wanted})
        except UNREADABLE as error:
            deepest = max(self.positions, key=self.positions.__getitem__)
            raise CheckpointError(
                f"{weights.name} does not hold the {self.network.upper().replace('VGG', 'VGG-')} weights that "
                f"{deepest} needs (features.0.weight … as torchvision names them): {_said(error)}"
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

    def forward(self, picture: Tensor, layers: Collection[str] | None = None) -> dict[str, Tensor]:
        """The features of ``layers``, or of all that it was built for; no deeper layer than the last of them is run."""
        names = {position: name for name, position in self.positions.items() if layers is None or name in layers}
        features: dict[str, Tensor] = {}
        x = for_descriptor(picture)
        for position in range(max(names) + 1):
            x = self.features[position](x)
            if position in names:
                features[names[position]] = x
        return features


def _said(error: Exception) -> str:
    """What an error says, in a line of at most 300 characters; those of the file system name paths."""
    said = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
    return " ".join(said.split())[:300]


def _tensors(weights: Path) -> dict[str, Tensor]:
    if weights.suffix == ".pth":
        state: dict[str, Tensor] = torch.load(weights, map_location="cpu", weights_only=True)
        return state
    return safetensors.torch.load_file(weights)
