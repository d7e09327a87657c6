"""The generator as ONNX graphs for OpenVINO, which computes convolutions directly; in float32 or the whole in int8.

Nearest upsampling before a 3×3 convolution is a 2×2 convolution to four times the channels, the four phases of the
result: 16 multiplications where there were 36. The 9×9 convolution to three channels makes 4×4 pixels at once, so that
48 channels fill the vector registers that three would leave empty.

In int8, weights have a scale for each output channel, and what goes into a convolution has one for each picture, found
while it runs. Nothing is calibrated, and no scale has to be undone: instance norm takes away whatever its input was
multiplied by, so a map is divided by its largest value, and the 256 levels of its bytes lie between fixed ends. After a
norm the division is part of the scale and the shift of the style. Only the output layer, which has no norm, multiplies
its result again. Norms and the sums of the residual blocks stay in floating point.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from generator.network import Generator
from worker.graph import CONTENT, Graph, array, norm_inputs, norm_names
from worker.steps import Step, normed, steps

BLOCK_SIDE = 4
"""How many pixels of the result the output layer makes at once, in height and in width; sides are multiples of it."""
LEAST_REACH = 1e-6
"""A map that is zero everywhere is divided by this."""
LARGEST_LEVEL = 126
"""Of a weight, before it is rounded, up or down."""
SIGNED, UNSIGNED = np.dtype(np.int8), np.dtype(np.uint8)


def direct(generator: Generator, *, quantised: bool = False) -> bytes:
    """``content`` [B,3,H,W] of 0..1 and ``style`` [B,S] → ``stylized`` [B,3,H,W]; H and W are multiples of 4.

    ``quantised``: convolutions in int8.
    """
    builder = _Builder(Graph(), quantised)
    return builder.graph.whole_model(generator, builder.built(generator))


def direct_sweep(generator: Generator, first: int, last: int, *, leading: bool) -> bytes:
    """As ``worker.graph.sweep``, of maps whose channels come last: ``content`` [B,H,W,C] → [B,H',W',C'].

    That is the layout in which OpenVINO computes half-precision convolutions, and in which tiles keep their maps. It
    sees so only where nothing stands between a convolution and the change of layout that ONNX makes us write: what
    comes before the first one is done with channels last.
    """
    builder = _Builder(Graph(), quantised=False)
    graph, chain, x = builder.graph, steps(generator), CONTENT
    if leading:
        before = (graph.add("Transpose", name, perm=[0, 2, 3, 1]) for name in norm_names(first - 1))
        x = graph.scaled(x, *before)
        x = graph.add("Relu", x) if chain[first - 1].activation else x
    x = graph.padded(x, *_padding(chain[first]), channels_last=True)
    x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    applied = normed(chain, first, last, leading=leading)
    for index in range(first, last + 1):
        step = chain[index]
        x = builder.convolved(x, step, is_padded=index == first)
        if not step.is_output:  # which has its bias already
            assert step.convolution.bias is not None
            x = graph.add("Add", x, graph.constant(array(step.convolution.bias).reshape(1, -1, 1, 1)))
        if index in applied:
            x = graph.scaled(x, *(graph.laid_out(name, step.convolution.out_channels) for name in norm_names(index)))
            x = graph.add("Relu", x) if step.activation else x
    shape: list[int | str] = ["batch", "height", "width", chain[first].convolution.in_channels]
    inputs = {CONTENT: shape} | norm_inputs(generator, first, last, leading=leading)
    return graph.model(inputs, graph.add("Transpose", x, perm=[0, 2, 3, 1]))


def _padding(step: Step) -> tuple[int, str]:
    """What a convolution needs around its input: so many pixels, of that kind."""
    return (1, "edge") if step.upsample else (step.padding, "reflect")


@dataclass
class _Builder:
    graph: Graph
    quantised: bool
    reach: str = ""
    """What the input of the next convolution has been divided by; nothing for the photograph, which is in 0..1."""
    is_reduced: bool = True
    """Whether that has been done already."""
    is_signed: bool = False

    def built(self, generator: Generator) -> str:
        graph, style = self.graph, self.graph.style_parts(generator)
        chain = steps(generator)
        x = block = CONTENT
        for step, following in pairwise(chain):
            if step.opens_block:
                block = x
            channels = step.convolution.out_channels
            x = graph.normalised(self.convolved(x, step), channels)
            gamma, beta = self._reduced(x, next(style), next(style), step, following)
            x = graph.scaled(x, graph.laid_out(gamma, channels), graph.laid_out(beta, channels))
            if step.activation:
                x = graph.add("Relu", x)
            if step.closes_block:
                x = graph.add("Add", block, x)
        return graph.scaled(self.convolved(x, chain[-1]), next(style), next(style))

    def _reduced(self, x: str, gamma: str, beta: str, step: Step, following: Step) -> tuple[str, str]:
        """Scale and shift for a convolution in int8: divided by the largest value that they lead to.

        What a residual block begins with is left as it is, for its sum.
        """
        self.is_signed = not step.activation
        self.is_reduced = step.activation and not following.opens_block
        if not self.quantised or not self.is_reduced:
            return gamma, beta
        graph = self.graph
        ends = [graph.add(end, x, axes=[2, 3], keepdims=1) for end in ("ReduceMax", "ReduceMin")]
        furthest = graph.add("Max", *(graph.add("Mul", gamma, end) for end in ends))
        self.reach = self._largest(graph.add("Add", furthest, beta))
        return graph.add("Div", gamma, self.reach), graph.add("Div", beta, self.reach)

    def convolved(self, x: str, step: Step, *, is_padded: bool = False) -> str:
        graph, convolution = self.graph, step.convolution
        weight = convolution.weight.detach()
        x = self._bytes(x) if self.quantised else x
        x = x if is_padded else graph.padded(x, *_padding(step))
        if step.upsample:
            kernels = self._weights(_phases(weight), phases=4)
            phases = graph.add("Conv", x, kernels, kernel_shape=[2, 2])
            return graph.cropped(graph.interleaved(phases, 2), 1)
        stride = step.stride
        if step.is_output:
            weight, stride = _blocks(weight), BLOCK_SIDE
        kernels = self._weights(weight)
        x = graph.add("Conv", x, kernels, kernel_shape=list(weight.shape[2:]), strides=[stride, stride])
        if not step.is_output:
            return x
        x = graph.interleaved(x, BLOCK_SIDE)
        assert convolution.bias is not None
        bias = graph.constant(array(convolution.bias).reshape(1, -1, 1, 1))
        return graph.add("Add", graph.add("Mul", x, self.reach) if self.quantised else x, bias)

    def _weights(self, weight: Tensor, phases: int = 1) -> str:
        """Of a convolution [O,I,k,l] whose output channels come in so many groups, the phases of the same channels.

        In int8 they share a scale, and their kernels have the same sum: what is flat stays flat.
        """
        if not self.quantised:
            return self.graph.constant(array(weight))
        largest = weight.view(phases, -1, *weight.shape[1:]).abs().amax(dim=(0, 2, 3, 4))
        scales = (largest.clamp_min(torch.finfo(torch.float32).tiny) / LARGEST_LEVEL).repeat(phases)
        levels = _rounded_to_sums((weight / scales[:, None, None, None]).flatten(2)).view_as(weight)
        zeros = np.zeros(len(levels), SIGNED)
        constants = (self.graph.constant(values) for values in (array(levels).astype(SIGNED), array(scales), zeros))
        return self.graph.add("DequantizeLinear", *constants, axis=0)

    def _bytes(self, x: str) -> str:
        """Rounded to the levels of a byte: of 0..1, or of -1..1 where there is a sign."""
        graph = self.graph
        if not self.is_reduced:
            self.reach = self._largest(graph.add("Abs", x) if self.is_signed else x)
            x = graph.add("Div", x, self.reach)
        kind = SIGNED if self.is_signed else UNSIGNED
        scale = graph.constant(np.array(1 / np.iinfo(kind).max, np.float32))
        zero = graph.constant(np.zeros((), kind))
        return graph.add("DequantizeLinear", graph.add("QuantizeLinear", x, scale, zero), scale, zero)

    def _largest(self, x: str) -> str:
        """Of each picture [B,1,1,1]."""
        largest = self.graph.add("ReduceMax", x, axes=[1, 2, 3], keepdims=1)
        return self.graph.add("Max", largest, self.graph.constant(np.array(LEAST_REACH, np.float32)))


def _phases(weight: Tensor) -> Tensor:
    """[O,I,3,3] over a map doubled by its nearest values → [4·O,I,2,2] over the map itself, its border repeated once.

    At row p of that, the first two phases are row 2p-1 of the result, and the others row 2p; columns alike.
    """

    def along(axis: int, weight: Tensor) -> list[Tensor]:
        before, middle, after = weight.unbind(axis)
        return [torch.stack([before + middle, after], axis), torch.stack([before, middle + after], axis)]

    return torch.cat([phase for rows in along(2, weight) for phase in along(3, rows)])


def _rounded_to_sums(kernels: Tensor) -> Tensor:
    """Integers whose sum over each kernel [...,k] is that of the kernel, rounded (largest remainders)."""
    lower = kernels.floor()
    missing = (kernels.sum(-1).round() - lower.sum(-1)).unsqueeze(-1)
    rank = (kernels - lower).argsort(-1, descending=True).argsort(-1)
    return lower + (rank < missing)


def _blocks(weight: Tensor) -> Tensor:
    """[O,I,k,k] → the kernels [16·O,I,k+3,k+3] for 4×4 pixels at once, in steps of four."""
    outputs, inputs, side, _ = weight.shape
    moved = weight.new_zeros((BLOCK_SIDE, BLOCK_SIDE, outputs, inputs, side + BLOCK_SIDE - 1, side + BLOCK_SIDE - 1))
    for row in range(BLOCK_SIDE):
        for column in range(BLOCK_SIDE):
            moved[row, column, :, :, row : row + side, column : column + side] = weight
    return moved.flatten(0, 2)
