"""The generator networks: one trunk of convolutions, and the style as a second input.

Both architectures of "Instance Normalization: The Missing Ingredient for Fast Stylization" (Ulyanov, Vedaldi,
Lempitsky 2016, arXiv 1607.08022) are here: the residual network of Johnson et al. 2016 and the multi-scale pyramid of
Ulyanov et al. 2016. What the paper changes is the normalisation, so that is a choice too: ``instance`` or ``batch``.

A style is a vector (conditional instance normalisation, Dumoulin et al. 2017, arXiv 1610.07629, equation 5): the scale
and the shift of every normalisation layer, concatenated. The convolutions are shared by all styles of a bank, and one
batch may mix styles, blends and strengths freely.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

from generator.instance_norm import NORM_EPSILON, instance_norm

Architecture = Literal["residual", "pyramid"]
Norm = Literal["instance", "batch"]
Padding = Literal["continued", "zeros", "circular"]

RESIDUAL_BLOCKS = 5
PYRAMID_RATIOS = (32, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class GeneratorConfig:
    """What must be known to build a generator again; it travels in the header of every checkpoint.

    ``width`` is the number of channels of the first layer: 32 is Johnson's residual network (1,676,035 weights in the
    convolutions) and 16 the "half width" one; Ulyanov's pyramid has 8. ``padding`` is what convolutions see beyond the
    border: the picture ``continued`` (mirrored in the residual network, its last pixels repeated in the pyramid),
    ``zeros``, or ``circular``, the opposite side.
    """

    architecture: Architecture = "residual"
    norm: Norm = "instance"
    width: int = 32
    padding: Padding = "continued"

    def __post_init__(self) -> None:
        if self.architecture not in ("residual", "pyramid"):
            raise ValueError(f"architecture is 'residual' or 'pyramid', not {self.architecture!r}")
        if self.norm not in ("instance", "batch"):
            raise ValueError(f"norm is 'instance' or 'batch', not {self.norm!r}")
        if type(self.width) is not int or not 1 <= self.width <= 256:
            raise ValueError(f"width is 1 to 256 channels, not {self.width!r}")
        if self.padding not in ("continued", "zeros", "circular"):
            raise ValueError(f"padding is 'continued', 'zeros' or 'circular', not {self.padding!r}")

    def described(self) -> dict[str, Any]:
        """As it is written in headers and states. What came later is left out where it is as it always was: trunks are
        known by the hash of their file, which must not change.
        """
        described = asdict(self)
        if self.padding == "continued":
            del described["padding"]
        return described

    @property
    def padding_mode(self) -> Literal["zeros", "reflect", "replicate", "circular"]:
        """As convolutions call it."""
        if self.padding != "continued":
            return self.padding
        return "reflect" if self.architecture == "residual" else "replicate"


StyleParts = Iterator[Tensor]
"""The style vector cut into layers, in the order in which the layers run; each takes its part with ``next``."""


class StyledNorm(nn.Module):
    """Normalises, then scales and shifts by the style: y = γ·(x - μ)/√(σ² + ε) + β (1607.08022, equations 2 and 3).

    With ``instance``, μ and σ² are those of each picture and channel, in training and in use alike: the layer keeps no
    running statistics, so ``train()`` and ``eval()`` give the same output. With ``batch`` they are those of the batch
    in training and running averages in use. γ and β come from the style vector, not from the layer.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.style_size = 2 * channels
        self.batch_norm = nn.BatchNorm2d(channels, eps=NORM_EPSILON, affine=False) if norm == "batch" else None

    def forward(self, x: Tensor, styles: StyleParts) -> Tensor:
        normalised = self.batch_norm(x) if self.batch_norm else instance_norm(x)
        return _scale_and_shift(normalised, next(styles))


def _scale_and_shift(x: Tensor, style: Tensor) -> Tensor:
    gamma, beta = style.to(x.dtype)[:, :, None, None].chunk(2, dim=1)  # B,C,1,1 each
    return torch.addcmul(beta, x, gamma)


class PaddedConv2d(nn.Conv2d):
    """A convolution of odd size that sees ``config.padding`` beyond the border."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, *, config: GeneratorConfig
    ) -> None:
        super().__init__(
            channels_in, channels_out, kernel, stride, padding=kernel // 2, padding_mode=config.padding_mode
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.padding_mode == "zeros":
            return super().forward(x)
        margin = self.kernel_size[0] // 2
        # Autocast would have it done in float32 on a CPU, there and back, for moving numbers about.
        with torch.autocast(x.device.type, enabled=False):
            x = F.pad(x, (margin,) * 4, mode=self.padding_mode)
        return F.conv2d(x, self.weight, self.bias, self.stride)


class ConvNorm(nn.Module):
    """[nearest upsampling ×2] → padding → convolution → norm → [ReLU]."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        config: GeneratorConfig,
        stride: int = 1,
        upsample: bool = False,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = PaddedConv2d(channels_in, channels_out, kernel, stride, config=config)
        self.norm = StyledNorm(channels_out, config.norm)
        self.upsample = upsample
        self.activation = activation

    def forward(self, x: Tensor, styles: StyleParts) -> Tensor:
        if self.upsample:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.norm(self.conv(x), styles)
        return F.relu(x) if self.activation else x


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), without an activation after the sum (Johnson et al. 2016)."""

    def __init__(self, channels: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, 3, config=config)
        self.second = ConvNorm(channels, channels, 3, config=config, activation=False)

    def forward(self, x: Tensor, styles: StyleParts) -> Tensor:
        return cast(Tensor, x + self.second(self.first(x, styles), styles))


class ResidualTrunk(nn.Module):
    """Johnson's network with reflection padding and a resize-convolution decoder (docs/decisions/0002)."""

    side_multiple = 4

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        width = config.width

        def layer(
            channels_in: int, channels_out: int, kernel: int, stride: int = 1, upsample: bool = False
        ) -> ConvNorm:
            return ConvNorm(channels_in, channels_out, kernel, stride=stride, upsample=upsample, config=config)

        self.layers = nn.ModuleList(
            [
                layer(3, width, 9),
                layer(width, 2 * width, 3, stride=2),
                layer(2 * width, 4 * width, 3, stride=2),
                *(ResidualBlock(4 * width, config) for _ in range(RESIDUAL_BLOCKS)),
                layer(4 * width, 2 * width, 3, upsample=True),
                layer(2 * width, width, 3, upsample=True),
            ]
        )
        self.output = PaddedConv2d(width, 3, 9, config=config)

    def forward(self, x: Tensor, styles: StyleParts) -> Tensor:
        for layer in self.layers:
            x = layer(x, styles)
        return cast(Tensor, self.output(x))


class PyramidJoin(nn.Module):
    """One scale of the pyramid: the picture at this scale, joined with what the coarser scales made."""

    def __init__(self, coarse_channels: int, config: GeneratorConfig) -> None:
        super().__init__()
        width = config.width
        joined = coarse_channels + width

        def layer(channels_in: int, channels_out: int, kernel: int) -> ConvNorm:
            return ConvNorm(channels_in, channels_out, kernel, config=config)

        self.branch = nn.ModuleList([layer(3, width, 3), layer(width, width, 3), layer(width, width, 1)])
        self.coarse_norm = StyledNorm(coarse_channels, config.norm) if coarse_channels else None
        self.branch_norm = StyledNorm(width, config.norm) if coarse_channels else None
        self.joint = nn.ModuleList(
            [layer(joined, joined, 3), layer(joined, joined, 3), layer(joined, joined, 1)] if coarse_channels else []
        )

    def forward(self, picture: Tensor, coarse: Tensor | None, styles: StyleParts) -> Tensor:
        x = picture
        for layer in self.branch:
            x = layer(x, styles)
        if coarse is None or self.coarse_norm is None or self.branch_norm is None:
            return x
        coarse = F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        x = torch.cat([self.coarse_norm(coarse, styles), self.branch_norm(x, styles)], dim=1)
        for layer in self.joint:
            x = layer(x, styles)
        return x


class PyramidTrunk(nn.Module):
    """Ulyanov's texture network: six scales, joined from coarse to fine, as the paper's own code builds it.

    Replicating padding, ReLU and no noise input are those of texture_nets after the paper (docs/decisions/0002).
    """

    side_multiple = PYRAMID_RATIOS[0]

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PyramidJoin(scale * config.width, config) for scale in range(len(PYRAMID_RATIOS)))
        self.output = nn.Conv2d(len(PYRAMID_RATIOS) * config.width, 3, 1)

    def forward(self, x: Tensor, styles: StyleParts) -> Tensor:
        joined: Tensor | None = None
        for ratio, join in zip(PYRAMID_RATIOS, self.layers, strict=True):
            joined = join(F.avg_pool2d(x, ratio), joined, styles)
        return cast(Tensor, self.output(joined))


class Generator(nn.Module):
    """``generator(content[B,3,H,W], style[B,S]) -> stylized[B,3,H,W]``, for every H and W from 16 pixels up.

    Content and stylized are RGB; 0 is black and 1 is white (``generator.pixels``). The last layer is linear, so values
    may leave that range: clamp them where pictures are made, not in training. A style vector holds γ then β of each
    layer in the order in which the layers run, and the scale and shift of the three output channels last: S is
    ``style_size``, 3,206 for the residual network of width 32.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = ResidualTrunk(config) if config.architecture == "residual" else PyramidTrunk(config)
        # modules() yields them as they are defined, and every module here defines its layers as it runs them.
        norms = [module for module in self.trunk.modules() if isinstance(module, StyledNorm)]
        self.style_sizes = [*(norm.style_size for norm in norms), 2 * 3]
        self.style_size = sum(self.style_sizes)

    def neutral_style(self) -> Tensor:
        """The vector that scales by one and shifts by nothing: where a new style starts when there is no bank. [S]"""
        return torch.cat(
            [part for size in self.style_sizes for part in (torch.ones(size // 2), torch.zeros(size // 2))]
        )

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        height, width = content.shape[-2:]
        styles = iter(torch.split(style, self.style_sizes, dim=1))
        padded = to_multiple(content, self.trunk.side_multiple)
        stylized = _scale_and_shift(self.trunk(padded, styles), next(styles))
        return stylized[:, :, :height, :width]


def to_multiple(content: Tensor, multiple: int) -> Tensor:
    """[B,3,H,W] with its last row and column repeated until H and W are multiples."""
    height, width = content.shape[-2:]
    missing = (-width % multiple, -height % multiple)
    return F.pad(content, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else content
