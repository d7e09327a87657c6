"""The residual generator as a row of convolutions: what an engine runs that does not run the module as it is."""

from dataclasses import dataclass

from torch import nn

from generator.network import ConvNorm, Generator, GeneratorConfig, ResidualBlock, ResidualTrunk


@dataclass(frozen=True)
class Step:
    """[nearest upsampling ×2] → reflection padding → convolution → norm → [ReLU] → [sum with the block's input].

    The output layer has no norm; its scale and shift come from the style all the same.
    """

    convolution: nn.Conv2d
    upsample: bool = False
    activation: bool = True
    opens_block: bool = False
    closes_block: bool = False
    is_output: bool = False

    @property
    def padding(self) -> int:
        return int(self.convolution.kernel_size[0]) // 2

    @property
    def stride(self) -> int:
        return int(self.convolution.stride[0])


def has_steps(config: GeneratorConfig) -> bool:
    """Whether generators of this kind are rows of steps: residual ones with instance norm that reflect are."""
    return (config.architecture, config.norm, config.padding) == ("residual", "instance", "continued")


def steps(generator: Generator) -> list[Step]:
    """The convolutions of a generator that ``has_steps``, in the order in which they run."""
    trunk = generator.trunk
    assert has_steps(generator.config)
    assert isinstance(trunk, ResidualTrunk)
    found: list[Step] = []
    for layer in trunk.layers:
        if isinstance(layer, ResidualBlock):
            found.append(Step(layer.first.conv, opens_block=True))
            found.append(Step(layer.second.conv, activation=False, closes_block=True))
        else:
            assert isinstance(layer, ConvNorm)
            found.append(Step(layer.conv, upsample=layer.upsample, activation=layer.activation))
    return [*found, Step(trunk.output, activation=False, is_output=True)]


def normed(chain: list[Step], first: int, last: int, *, leading: bool) -> list[int]:
    """The steps whose norm is applied in a sweep from ``first`` to ``last``.

    Those between the convolutions; with ``leading``, also the one before the first, whose raw output comes in; and of
    the network's output layer its scale and shift.
    """
    return list(range(first - leading, last + chain[last].is_output))
